"""Cursors: where a page ended, signed and bound to the list it belongs to, so that none can be forged or mixed up."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import orjson

from rpcserver.errors import InvalidCursor

_MAC_BYTES = 12


class Cursors:
    """Makes and reads cursors with the server's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, position: Any, *scope: Any) -> str | None:
        """Return the cursor for a position (None at the end) in the list that `scope` describes."""
        if position is None:
            return None
        body = orjson.dumps(position)
        return base64.urlsafe_b64encode(self._mac(body, scope) + body).decode().rstrip("=")

    def decode(self, cursor: str | None, *scope: Any) -> tuple[Any, ...] | None:
        """Return the position. Raises InvalidCursor for one that was forged or belongs to another list."""
        if cursor is None:
            return None
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        except ValueError as error:
            raise InvalidCursor from error
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body, scope)):
            raise InvalidCursor
        position = orjson.loads(body)
        return tuple(position) if isinstance(position, list) else (position,)

    def page(self, found: list[Any], limit: int, view: Callable[[Any], Any], *scope: Any) -> dict[str, Any]:
        """Return `{items, next_cursor}` of rows with an `id`, one more than `limit` of them asked for."""
        shown = found[:limit]
        next_cursor = self.encode([shown[-1].id], *scope) if len(found) > limit else None
        return {"items": [view(row) for row in shown], "next_cursor": next_cursor}

    def _mac(self, body: bytes, scope: tuple[Any, ...]) -> bytes:
        return hmac.digest(self._key, orjson.dumps(scope) + b"\x00" + body, hashlib.sha256)[:_MAC_BYTES]
