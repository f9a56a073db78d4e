"""What a remote calls, and how: its address, what is sent, what of the answer is taken. Source: sessions.md 4.2.

Secrets stand here by name alone, as `secret:NAME`; the operator keeps their values.
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from core.errors import BadRemote

MAX_URL_CHARACTERS = 2000
_PATH = re.compile(r"[\w-]+(?:\.[\w-]+)*")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_SENT = ("value", "token", "caller", "constant", "secret")
_FORBIDDEN_HEADERS = ("host", "content-length", "transfer-encoding", "connection", "cookie", "upgrade", "expect", "te")


@dataclass(frozen=True, slots=True)
class Definition:
    """How a remote is called.

    Args:
        url: where; `http` and `https` alone.
        send: `none`, or how what is sent is written: `json`, `form` or `query`.
        to_remote: what is sent: name -> `value`, `token.PATH`, `caller.id`, `caller.name`, `constant:TEXT` or
            `secret:NAME`; empty: the value alone, as `value`.
        headers: header -> the same.
        take: the path of the answer that counts, such as `items.0.name`; empty: all of it.
        cache_s: how long an answer is used again, kept apart by `cache_by` of caller, token and nothing.
        is_cache_shared: let one caller's answer serve another: then `caller` may be left out of `cache_by`.
        calls, per_s: how many calls in how many seconds; concurrent: how many at once.
        question: of a manual remote: what the person is asked; answered_by: who that is.
        timeout_s: of a manual remote: how long it waits for him.
    """

    url: str = ""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    send: Literal["none", "json", "form", "query"] = "json"
    to_remote: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    answer: Literal["json", "text"] = "json"
    take: str = ""
    cache_s: float = 0
    cache_by: list[Literal["caller", "token"]] = field(default_factory=lambda: ["caller", "token"])
    is_cache_shared: bool = False
    is_cache_used_on_failure: bool = False
    calls: int = 60
    per_s: float = 60
    concurrent: int = 1
    question: str = ""
    answered_by: Literal["remote_owner", "token_owner"] = "remote_owner"
    timeout_s: float = 600

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (read where a definition comes in: no unknown names)

    def given(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def checked(kind: str, definition: Definition) -> Definition:
    """Return the definition if it makes sense. Raises BadRemote."""
    if kind == "manual":
        if not definition.question:
            raise BadRemote("a manual remote needs a question")
        if not 1 <= definition.timeout_s <= 7 * 24 * 3600:
            raise BadRemote("timeout_s must be from 1 to 604800")
        return definition
    _check_url(definition.url)
    for name, sent in {**definition.to_remote, **definition.headers}.items():
        if not _NAME.fullmatch(name) or sent.split(":")[0].split(".")[0] not in _SENT:
            raise BadRemote(f"{name!r}: {sent!r} is none of {', '.join(_SENT)}")
    for name in definition.headers:
        if name.lower() in _FORBIDDEN_HEADERS or name.lower().startswith("proxy-"):
            raise BadRemote(f"the header {name!r} is the server's to set")
    if definition.take and not _PATH.fullmatch(definition.take):
        raise BadRemote(f"{definition.take!r} is not a path of names and numbers joined by dots")
    if not definition.is_cache_shared and "caller" not in definition.cache_by:
        raise BadRemote("without is_cache_shared, one caller's answers never serve another: cache_by needs caller")
    if definition.calls < 1 or definition.per_s <= 0 or not 1 <= definition.concurrent <= 100:
        raise BadRemote("calls and per_s must be above 0, concurrent from 1 to 100")
    return definition


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadRemote(f"the url cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BadRemote("the url must be https://host/path")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadRemote("the url may hold no user name, password or fragment")
    if len(url) > MAX_URL_CHARACTERS or any(ord(sign) <= 32 or ord(sign) > 126 for sign in url):
        raise BadRemote("the url is too long, or holds what is not printable ASCII")
