"""What remotes answered, kept for as long as their definitions say, and apart for whom it is to be kept apart.

Source: sessions.md 4.2 (cache), 4.4 (the caller is part of the key unless the owner says shared).
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from core.behind import Behind
from core.remotes import Remote
from jobs.mapping import Letter


@dataclass(frozen=True, slots=True)
class Reply:
    """What a remote answered: the HTTP status, how long it took, whether it was remembered, and when it came.

    `as_of` is in UTC milliseconds.
    """

    value: Any
    code: int
    duration_ms: int
    is_cached: bool = False
    as_of: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    reply: Reply
    until: float
    remote_id: str
    token_id: str | None
    size: int


class Remembered:
    """Replies by key; the ones not looked at for the longest time make room.

    Args:
        entries, size: how many, and how many characters of answers together.
    """

    def __init__(self, entries: int, size: int, clock: Callable[[], float]) -> None:
        self._entries, self._size, self._clock = entries, size, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._used = 0

    def fresh(self, key: str) -> Reply | None:
        """Return a reply that is still good."""
        found = self._kept.get(key)
        return self.any(key) if found is not None and found.until > self._clock() else None

    def any(self, key: str) -> Reply | None:
        """Return a reply however old it is."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return replace(found.reply, duration_ms=0, is_cached=True)

    def keep(self, key: str, reply: Reply, remote: Remote, token_id: str) -> None:
        """Keep a reply for as long as the remote says; old ones may be asked for after that."""
        size = len(json.dumps(reply.value))
        if size > self._size:
            return
        self._drop(key)
        by_token = token_id if "token" in remote.definition.cache_by else None
        until = self._clock() + remote.definition.cache_s
        self._kept[key] = _Kept(reply, until, remote.id, by_token, size)
        self._used += size
        while len(self._kept) > self._entries or self._used > self._size:
            self._drop(next(iter(self._kept)))

    def forget(self, remote_id: str, token_id: str) -> None:
        """Forget what a remote answered about a token, whoever asked: it was written."""
        stale = [
            key for key, kept in self._kept.items() if kept.remote_id == remote_id and kept.token_id in (None, token_id)
        ]
        for key in stale:
            self._drop(key)

    def _drop(self, key: str) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._used -= gone.size


def key_of(remote: Remote, asked: Behind, to_send: Letter) -> str:
    """Return what an answer is kept under: the remote, what parts its answers, and all that is sent."""
    by = {"caller": asked.caller_id, "token": asked.token_id, "type": asked.type, "attribute": asked.attribute}
    parts = [by[name] if name in remote.definition.cache_by else "" for name in by]
    text = json.dumps([remote.id, *parts, to_send.url, to_send.method, to_send.query, to_send.headers])
    return hashlib.sha256(text.encode() + (to_send.body or b"")).hexdigest()
