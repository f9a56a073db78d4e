"""What goes to a remote and what of its answer counts, as its definition maps it. Source: sessions.md 4.2 (mapping)."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from core.behind import Behind
from core.definitions import Definition
from jobs.errors import RemoteUnavailable


@dataclass(frozen=True, slots=True)
class Letter:
    """A request about to be sent. Its secrets show nowhere."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    query: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def hide(self, text: str) -> str:
        """Return an answer without the secrets that were sent, should it repeat them."""
        for secret in self.secrets:
            text = text.replace(secret, "***").replace(json.dumps(secret)[1:-1], "***")
        return text


def letter(definition: Definition, asked: Behind, value: Any, secret: Callable[[str], str]) -> Letter:
    """Return what is sent. Raises RemoteUnavailable for a secret that is not there.

    Args:
        secret: `secret(name)` returns the text of one that this remote may use.
    """
    used: list[str] = []

    def meant(sent: str) -> Any:
        kind, _, rest = sent.partition(":")
        if kind == "constant":
            return rest
        if kind == "secret":
            used.append(secret(rest))
            return used[-1]
        return _of(asked, value, sent)

    mapped = {name: meant(sent) for name, sent in (definition.to_remote or {"value": "value"}).items()}
    headers = {name: _text(meant(sent)) for name, sent in definition.headers.items()}
    headers |= {"accept-encoding": "identity", "user-agent": "rpcserver", "accept": "application/json, text/*"}
    body, query = None, {}
    if definition.send == "json":
        body = json.dumps(mapped).encode()
        headers["content-type"] = "application/json"
    elif definition.send == "form":
        body = urlencode({name: _text(held) for name, held in mapped.items()}).encode()
        headers["content-type"] = "application/x-www-form-urlencoded"
    elif definition.send == "query":
        query = {name: _text(held) for name, held in mapped.items()}
    if any("\r" in text or "\n" in text or not text.isascii() for text in headers.values()):
        raise RemoteUnavailable("a header cannot hold what it was to hold")
    return Letter(definition.method, definition.url, headers, query, body, tuple(used))


def taken(definition: Definition, text: str) -> Any:
    """Return what of an answer counts. Raises RemoteUnavailable when it is not there."""
    if definition.answer == "text":
        return text
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise RemoteUnavailable("it did not answer with JSON") from error
    return follow(found, definition.take)


def follow(found: Any, path: str) -> Any:
    """Return what stands at a path of names and numbers. Raises RemoteUnavailable when nothing does."""
    for part in path.split(".") if path else ():
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise RemoteUnavailable(f"its answer has nothing at {path!r}")
    return found


def _of(asked: Behind, value: Any, sent: str) -> Any:
    head, _, path = sent.partition(".")
    if head == "value":
        return value
    if head == "caller":
        return {"id": asked.caller_id, "name": asked.caller_name}.get(path or "id")
    if not path:
        return asked.attributes
    return follow(asked.attributes, path)


def _text(held: Any) -> str:
    return held if isinstance(held, str) else json.dumps(held)
