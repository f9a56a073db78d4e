"""What goes to a remote and what of its answer counts, as its definition maps it: JSON, forms and text.

JSON from strangers is read by orjson: strictly. Source: sessions.md 4.2 (format, mapping).
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit

import orjson
from pydantic import BaseModel, ValidationError

from core.attribute_values import Behind
from core.remotes import Definition, Part, split
from jobs.errors import RemoteUnavailable

M = TypeVar("M", bound=BaseModel)

MOST = 100  # things that are mended, or told, of one value
_INTEGER = 2.0**63


def fitted(model: type[M], given: dict[str, Any]) -> M:
    """Return the model of what was given. Raises ValidationError, about what was given."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        mended = _mended(given, error)
        if mended is None:
            raise
        try:
            return model.model_validate(mended)
        except ValidationError:
            raise error from None


def _mended(given: dict[str, Any], error: ValidationError) -> dict[str, Any] | None:
    """Return a copy without the nulls and floats that did not fit, None when there were none of them."""
    if error.error_count() > MOST:
        return None
    mended = given
    for item in error.errors(include_url=False, include_context=False):
        value, loc = item["input"], item["loc"]
        if value is None and item["type"] != "missing":
            mended = _with(mended, loc, None)
        elif item["type"] == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < _INTEGER:
            mended = _with(mended, loc, int(value))
    return None if mended is given else mended


def _with(part: Any, loc: tuple[int | str, ...], value: int | None) -> Any:
    """Return a copy with another value at a place; None: left out there. What is no place in it changes nothing."""
    if not loc:
        return part
    name, rest = loc[0], loc[1:]
    if not isinstance(part, dict | list) or not (name in part if isinstance(part, dict) else isinstance(name, int)):
        # Not a place in the value but the name of one of a union's types.
        return _with(part, rest, value)
    held = part[name]  # type: ignore[index]
    if rest:
        changed = _with(held, rest, value)
    elif value is not None:
        changed = value
    elif held is not None or isinstance(part, list):
        return part
    else:
        return {key: one for key, one in part.items() if key != name}
    if changed is held:
        return part
    copy = part.copy()
    copy[name] = changed  # type: ignore[index]
    return copy


MAX_DEPTH = 64
MAX_FIELDS = 1000
HIDDEN = "***"
# What could leave a path once the other side reads it, encoded or not: these never stand in a segment.
CLIMBING = re.compile(r"%(?:2e|2f|5c|25)|[\\/\x00-\x1f\x7f]", re.IGNORECASE)


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
        """Return a text of the answer without the secrets that were sent, should it repeat them in any spelling."""
        for secret in self.secrets:
            for spelling in _spellings(secret):
                text = text.replace(spelling, HIDDEN)
        return text


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: the HTTP status, the headers by their names in small letters, and the text."""

    code: int
    headers: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)


def letter(definition: Definition, asked: Behind, value: Any, secret: Callable[[str], str]) -> Letter:
    """Return what is sent. Raises RemoteUnavailable for a secret that is not there, and what cannot be sent so.

    Args:
        secret: `secret(name)` returns the text of one that this remote may use.
    """
    used: list[str] = []

    def hidden(name: str) -> str:
        used.append(secret(name))
        return used[-1]

    def meant(source: str) -> Any:
        return _meant(split(source), asked, value, hidden)

    mapped = {name: meant(source) for name, source in (definition.to_remote or {"value": "value"}).items()}
    if definition.call_identity:
        mapped["call_identity"] = _identity(definition, asked)
    accepted = "text/*" if definition.answer == "text" else "application/json, text/*"
    headers = {"user-agent": "rpcserver", "accept": accepted}
    if definition.auth != "none":
        headers["authorization"] = _authorization(definition, meant, hidden, used)
    body, query = None, {}
    if definition.send == "query":
        query = {name: plain(held) for name, held in mapped.items()}
    elif definition.send != "none":
        headers["content-type"], body = written(definition.send, mapped)
    own = {name.lower(): plain(meant(source)) for name, source in definition.headers.items()}
    headers |= {**own, "accept-encoding": "identity"}
    if any("\r" in text or "\n" in text or "\0" in text or not text.isascii() for text in headers.values()):
        raise RemoteUnavailable("a header cannot hold what it was to hold")
    url = filled(definition.url, {name: meant(source) for name, source in definition.path.items()})
    return Letter(definition.method, url, headers, query, body, tuple(used))


def filled(url: str, segments: Mapping[str, Any]) -> str:
    """Return an address with its `{name}`s filled in. Raises RemoteUnavailable for what would not stay in its place."""
    for name, held in segments.items():
        text = "" if held is None or isinstance(held, dict | list) else plain(held)
        if not text or text in (".", "..") or CLIMBING.search(text):
            raise RemoteUnavailable(
                f"{name!r} cannot stand in a path: it must be text or a number, without / \\ or %2F"
            )
        parts = urlsplit(url)
        url = parts._replace(path=parts.path.replace(f"{{{name}}}", quote(text, safe="", errors="replace"))).geturl()
    return url


def taken(definition: Definition, to_send: Letter, response: Response) -> Any:
    """Return what of an answer counts. Raises RemoteUnavailable when it cannot be read, or `take` is not there."""
    needs_data = not definition.from_remote or any(
        split(source).kind == "data" for source in definition.from_remote.values()
    )
    found = bounded(read(definition.answer, to_send.hide(response.text)), to_send) if needs_data else None
    if not definition.from_remote:
        return follow(found, definition.take)
    return {name: _taken(split(source), found, to_send, response) for name, source in definition.from_remote.items()}


def plain(held: Any) -> str:
    """Return a value as the text that a form, a header or a path holds."""
    return held if isinstance(held, str) else json.dumps(held)


def written(form: str, mapped: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return content type and body of what is sent as `json`, `form` or `text`."""
    if form == "json":
        return "application/json", json.dumps(mapped).encode()
    if form == "form":
        body = urlencode({name: plain(held) for name, held in mapped.items()}).encode("utf-8", "replace")
        return "application/x-www-form-urlencoded", body
    return "text/plain; charset=utf-8", "".join(plain(held) for held in mapped.values()).encode("utf-8", "replace")


def read(form: str, text: str) -> Any:
    """Return what an answer says, as JSON values; nothing at all is null. Raises RemoteUnavailable."""
    if form == "text" or not text.strip():
        return text if form == "text" else None
    try:
        return orjson.loads(text) if form == "json" else _read_form(text)
    except (ValueError, RecursionError) as error:
        raise RemoteUnavailable(f"it did not answer with {form.upper()}") from error


def _read_form(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_FIELDS):
        before = found.get(name)
        found[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return found


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


def bounded(found: Any, to_send: Letter, depth: int = 0) -> Any:
    """Return an answer with the secrets that were sent blanked, whatever its format hid them in, if not too deep."""
    if depth > MAX_DEPTH:
        raise RemoteUnavailable(f"it answered with values more than {MAX_DEPTH} deep")
    if isinstance(found, str):
        return to_send.hide(found)
    if isinstance(found, list):
        return [bounded(one, to_send, depth + 1) for one in found]
    if isinstance(found, dict):
        return {to_send.hide(name): bounded(one, to_send, depth + 1) for name, one in found.items()}
    return found


def _meant(part: Part, asked: Behind, value: Any, secret: Callable[[str], str]) -> Any:
    if part.kind == "constant":
        return part.rest
    if part.kind == "secret":
        return secret(part.rest)
    if part.kind == "caller":
        return {"id": asked.caller_id, "name": asked.caller_name}.get(part.rest or "id")
    if part.kind == "owner":
        return {"id": asked.owner_id, "name": asked.owner_name}.get(part.rest or "id")
    if part.kind == "type":
        return asked.type
    return _at({"value": value, "earlier": asked.earlier}.get(part.kind, asked.attributes), part.rest)


def _at(held: Any, path: str) -> Any:
    try:
        return follow(held, path)
    except RemoteUnavailable as error:
        raise RemoteUnavailable(f"there is nothing at {path!r} to send") from error


def _identity(definition: Definition, asked: Behind) -> dict[str, Any]:
    everything = {
        "token": asked.token_id,
        "type": asked.type,
        "attribute": asked.attribute,
        "owner": {"id": asked.owner_id, "name": asked.owner_name},
        "caller": {"id": asked.caller_id, "name": asked.caller_name},
        "attributes": asked.seen,
        "earlier": asked.earlier,
    }
    return {name: everything[name] for name in definition.call_identity}


def _authorization(
    definition: Definition, meant: Callable[[str], Any], hidden: Callable[[str], str], used: list[str]
) -> str:
    secret = hidden(definition.auth_secret)
    if definition.auth == "bearer":
        return f"Bearer {secret}"
    user = plain(meant(definition.auth_user))
    if ":" in user:
        raise RemoteUnavailable("a user name for basic authentication may hold no colon")
    packed = base64.b64encode(f"{user}:{secret}".encode()).decode()
    used.append(packed)
    return f"Basic {packed}"


def _taken(part: Part, found: Any, to_send: Letter, response: Response) -> Any:
    if part.kind == "code":
        return response.code
    if part.kind == "header":
        held = response.headers.get(part.rest.lower())
        return None if held is None else to_send.hide(held)
    try:
        return follow(found, part.rest)
    except RemoteUnavailable:
        return None


def _spellings(secret: str) -> list[str]:
    packed = base64.b64encode(secret.encode()).decode()
    spelled = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret), packed}
    return sorted((one for one in spelled if one), key=len, reverse=True)
