"""Remotes: calls to the outside that answer for an attribute or a rule. Making the calls is a job's business.

A definition says what a remote calls, and how: its address, what is sent, what of the answer is taken. Secrets stand
in it by name alone, as `secret:NAME`; the operator keeps their values. Of the JSON Schema of a person's answer, those
words are known that are checked in a time that grows with the answer alone: the whole of it would let whoever makes a
remote have patterns that never end, and references that are fetched from elsewhere (protocol.md 5).
Source: sessions.md 4.1, 4.2, 4.4.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import jsonschema

from core import groups
from core.calls import Scene, core_call
from core.durations import Duration, Pause
from core.errors import BadRemote, NameTaken, RemoteNotFound
from core.names import checked_name
from core.scripts import refuse_if_used
from store import Tx, new_id

MAX_URL_CHARACTERS = 2000
MAX_NAMES = 100
MAX_RETRIES = 5
REPEATABLE = ("GET", "PUT", "DELETE")  # a second one changes nothing: RFC 9110, 9.2.2
_FORBIDDEN_HEADERS = ("host", "content-length", "transfer-encoding", "connection", "cookie", "upgrade", "expect", "te")
# How a source of what is sent is written, by its kind.
SENT = {
    "value": "value or value.PATH",
    "token": "token or token.PATH",
    "caller": "caller.id or caller.name",
    "owner": "owner.id or owner.name",
    "type": "type",
    "earlier": "earlier or earlier.PATH",
    "constant": "constant:TEXT",
    "secret": "secret:NAME",
}
TAKEN = ("data", "header", "code")
PATH = re.compile(r"[\w@:-]+(?:\.[\w@:-]+)*")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
MAX_SCHEMA_BYTES = 4096
MAX_ANSWER_BYTES = 16 * 1024
MAX_SCHEMA_DEPTH = 8
SCHEMA_WORDS = frozenset({
    *("type", "enum", "const", "title", "description", "default", "examples"),
    *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    *("items", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
})  # fmt: skip

Identity = Literal["token", "type", "attribute", "owner", "caller", "attributes", "earlier"]


@dataclass(frozen=True, slots=True)
class Part:
    """What stands for one thing sent or taken: its kind, and the path, name or text behind it."""

    kind: str
    rest: str


@dataclass(frozen=True, slots=True)
class Definition:
    """How a remote is called.

    A source of what is sent is one of: `value` (what was written), `token` (its attributes), `earlier` (what the
    attribute answered this caller last), each also with a path such as `token.size.big`; `caller.id`, `caller.name`,
    `owner.id`, `owner.name` (the token's), `type`; `constant:TEXT`; `secret:NAME`.

    Args:
        url: where; `http` and `https` alone. `{name}` in its path is filled in from `path`.
        send: `none`, or how what is sent is written: `json`, `form`, `query` or `text` (one thing alone).
        to_remote: what is sent: name -> source; empty: the value alone, as `value`.
        headers: header -> source. path: name -> source of one segment, which is encoded and cannot leave its place.
        auth: `basic` needs `auth_user`, a source, and `auth_secret`, the name of a secret; `bearer` the latter alone.
        call_identity: what else is sent, together as `call_identity`: the ids of `token` and `attribute`, `type`,
            `owner` and `caller` (id and name), `attributes` (those the caller may read) and the `earlier` answer.
        answer: how the answer is written: `json`, `text` or `form`.
        take: the path of the answer that counts, such as `items.0.name`; empty: all of it.
        from_remote: instead of `take`, an object: name -> `data.PATH`, `header:NAME` or `code`; what is not there is
            null.
        good_codes: statuses besides 2xx that are answers.
        cache_s: how long an answer is used again, kept apart by `cache_by` of caller, token, type and attribute.
        is_cache_shared: let one caller's answer serve another: then `caller` may be left out of `cache_by`.
        is_cache_used_on_failure, is_cache_used_in_cool_down: an old answer is better than none, when reading.
        calls, per_s: how many calls in how many seconds; concurrent: how many at once.
        cool_down_s: the least time between the beginnings of two calls.
        retries: how often a write that failed is tried again; null: twice for GET, PUT and DELETE, else never.
        question: of a manual remote: what the person is asked; answered_by: who that is.
        timeout_s: of a manual remote: how long it waits for them.
        schema: of a manual remote: the JSON Schema of the answer; choices: the answers there are; neither: any.
    """

    url: str = ""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    send: Literal["none", "json", "form", "query", "text"] = "json"
    to_remote: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    path: dict[str, str] = field(default_factory=dict)
    auth: Literal["none", "basic", "bearer"] = "none"
    auth_user: str = ""
    auth_secret: str = ""
    call_identity: list[Identity] = field(default_factory=list)
    answer: Literal["json", "text", "form"] = "json"
    take: str = ""
    from_remote: dict[str, str] = field(default_factory=dict)
    good_codes: list[int] = field(default_factory=list)
    cache_s: Pause = 0
    cache_by: list[Literal["caller", "token", "type", "attribute"]] = field(default_factory=lambda: ["caller", "token"])
    is_cache_shared: bool = False
    is_cache_used_on_failure: bool = False
    is_cache_used_in_cool_down: bool = False
    calls: int = 60
    per_s: Duration = 60
    concurrent: int = 1
    cool_down_s: Pause = 0
    retries: int | None = None
    question: str = ""
    answered_by: Literal["remote_owner", "token_owner"] = "remote_owner"
    timeout_s: Duration = 600
    schema: dict[str, Any] | None = None
    choices: list[Any] | None = None

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (read where a definition comes in: no unknown names)

    def given(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    @property
    def tries(self) -> int:
        """How often a write is tried at the most."""
        retries = self.retries if self.retries is not None else 2 if self.method in REPEATABLE else 0
        return 1 + retries


def checked(kind: str, definition: Definition) -> Definition:
    """Return the definition if it makes sense. Raises BadRemote."""
    if kind == "manual":
        _check_manual(definition)
        return definition
    _check_url(definition.url)
    _check_sent(definition)
    _check_auth(definition)
    _check_taken(definition)
    _check_limits(definition)
    return definition


def sent(text: str) -> Part:
    """Return what a source such as `token.PATH`, `constant:TEXT` or `secret:NAME` means. Raises BadRemote."""
    part = split(text)
    if part.kind not in SENT:
        raise BadRemote(f"{text[:80]!r} is none of {', '.join(SENT)}")
    if part.kind in ("value", "token", "earlier"):
        is_good = not part.rest or PATH.fullmatch(part.rest) is not None
    elif part.kind in ("caller", "owner"):
        is_good = part.rest in ("", "id", "name")
    elif part.kind == "secret":
        is_good = NAME.fullmatch(part.rest) is not None
    else:
        is_good = part.kind == "constant" or not part.rest
    if not is_good:
        raise BadRemote(f"{text[:80]!r} cannot be read: write {SENT[part.kind]}")
    return part


def taken(text: str) -> Part:
    """Return what `data.PATH`, `header:NAME` or `code` means. Raises BadRemote."""
    part = split(text)
    if part.kind not in TAKEN:
        raise BadRemote(f"{text[:80]!r} is none of {', '.join(TAKEN)}")
    if part.kind == "data" and part.rest and not PATH.fullmatch(part.rest):
        raise BadRemote(f"{part.rest[:80]!r} is not a path of names and numbers joined by dots")
    elif part.kind == "header" and not NAME.fullmatch(part.rest):
        raise BadRemote(f"{part.rest[:80]!r} is not the name of a header")
    elif part.kind == "code" and part.rest:
        raise BadRemote("`code` stands alone")
    return part


def split(text: str) -> Part:
    """Return kind and rest, unchecked: `constant`, `secret` and `header` are followed by a colon."""
    head, colon, rest = text.partition(":")
    if colon and head in ("constant", "secret", "header"):
        return Part(head, rest)
    head, _, rest = text.partition(".")
    return Part(head, rest)


def _check_manual(definition: Definition) -> None:
    if not definition.question:
        raise BadRemote("a manual remote needs a question")
    if not 1 <= definition.timeout_s <= 7 * 24 * 3600:
        raise BadRemote("timeout_s must be from 1 to 604800")
    if definition.schema is not None:
        _check_schema(definition.schema)
    if definition.choices is not None and not 1 <= len(definition.choices) <= MAX_NAMES:
        raise BadRemote(f"there must be from 1 to {MAX_NAMES} choices")


def _check_schema(schema: dict[str, Any]) -> None:
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise BadRemote(f"its schema is longer than {MAX_SCHEMA_BYTES} bytes")
    _check_words(schema, 1)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise BadRemote(f"its schema is none: {error.message[:200]}") from error


def _check_words(schema: Any, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict) or depth > MAX_SCHEMA_DEPTH:
        raise BadRemote(f"its schema must be made of objects, at most {MAX_SCHEMA_DEPTH} deep")
    for word in schema:
        if word not in SCHEMA_WORDS:
            raise BadRemote(f"its schema holds {word[:80]!r}; known are {', '.join(sorted(SCHEMA_WORDS))}")
    properties = schema.get("properties", {})
    inner = list(properties.values()) if isinstance(properties, dict) else []
    inner += [schema[word] for word in ("items", "additionalProperties") if word in schema]
    for one in inner:
        _check_words(one, depth + 1)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadRemote(f"the url cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BadRemote("the url must be https://host/path")
    if "{" in parts.netloc:
        raise BadRemote("a {name} may stand in the path of the url alone")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadRemote("the url may hold no user name, password or fragment")
    if len(url) > MAX_URL_CHARACTERS or any(ord(sign) <= 32 or ord(sign) > 126 for sign in url):
        raise BadRemote("the url is too long, or holds what is not printable ASCII")


def _check_sent(definition: Definition) -> None:
    for mapping in (definition.to_remote, definition.headers, definition.path):
        for name, source in mapping.items():
            if not NAME.fullmatch(name):
                raise BadRemote(f"{name[:80]!r} is not a name of letters, digits, _, . and -")
            sent(source)
    if max(len(definition.to_remote), len(definition.headers), len(definition.path)) > MAX_NAMES:
        raise BadRemote(f"at most {MAX_NAMES} names are sent each way")
    for name in definition.headers:
        if name.lower() in _FORBIDDEN_HEADERS or name.lower().startswith("proxy-"):
            raise BadRemote(f"the header {name!r} is the server's to set")
    for name in definition.path:
        if f"{{{name}}}" not in urlsplit(definition.url).path:
            raise BadRemote(f"the path of the url has no {{{name}}}")
    if definition.send == "text" and len(definition.to_remote) > 1:
        raise BadRemote("as text, one thing alone is sent")
    if definition.call_identity and definition.send in ("none", "text"):
        raise BadRemote(f"sent as {definition.send}, there is no place for a call_identity")


def _check_auth(definition: Definition) -> None:
    if definition.auth == "none":
        if definition.auth_user or definition.auth_secret:
            raise BadRemote("auth_user and auth_secret need auth: basic or bearer")
        return
    if any(name.lower() == "authorization" for name in definition.headers):
        raise BadRemote("auth and a header Authorization exclude each other")
    if not NAME.fullmatch(definition.auth_secret):
        raise BadRemote("auth needs auth_secret, the name of one of the operator's secrets")
    if definition.auth == "basic":
        sent(definition.auth_user)
    elif definition.auth_user:
        raise BadRemote("bearer has no auth_user")


def _check_taken(definition: Definition) -> None:
    if definition.take and definition.from_remote:
        raise BadRemote("take and from_remote exclude each other")
    if definition.take and not PATH.fullmatch(definition.take):
        raise BadRemote(f"{definition.take!r} is not a path of names and numbers joined by dots")
    if len(definition.from_remote) > MAX_NAMES:
        raise BadRemote(f"at most {MAX_NAMES} names are taken")
    for name, source in definition.from_remote.items():
        if not NAME.fullmatch(name):
            raise BadRemote(f"{name[:80]!r} is not a name of letters, digits, _, . and -")
        taken(source)
    if any(not 300 <= code <= 599 for code in definition.good_codes):
        raise BadRemote("good_codes are from 300 to 599: 2xx always is")


def _check_limits(definition: Definition) -> None:
    if not definition.is_cache_shared and "caller" not in definition.cache_by:
        raise BadRemote("without is_cache_shared, one caller's answers never serve another: cache_by needs caller")
    if definition.calls < 1 or not 1 <= definition.concurrent <= 100:
        raise BadRemote("calls must be above 0, concurrent from 1 to 100")
    if definition.cool_down_s > 24 * 3600:
        raise BadRemote("cool_down_s must be from 0 to 86400")
    if definition.retries is not None and not 0 <= definition.retries <= MAX_RETRIES:
        raise BadRemote(f"retries must be from 0 to {MAX_RETRIES}")


Kind = Literal["url", "manual"]
COLUMNS = "id, owner_id, name, kind, definition, is_on, is_shared, is_retired, group_id"


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote. A `manual` one has no address: a person answers, its owner or the owner of the token.

    `group_id` are those who may use it besides its owner, None: all or nobody, as `is_shared` says.
    """

    id: str
    owner_id: str
    name: str
    kind: str
    definition: Definition
    is_on: bool
    is_shared: bool
    is_retired: bool = False
    group_id: str | None = None


@core_call("core.remote.create")
def create(
    scene: Scene,
    name: str,
    definition: Definition,
    kind: Kind = "url",
    *,
    is_shared: bool = False,
    group_id: str | None = None,
) -> str:
    """Make a remote and return its id. Whether the server may call its address is the operator's to say.

    Args:
        definition: how it is called; its fields stand under The definition of a remote.
        is_shared: let others have it answer for their tokens.
        group_id: let the members of this group do so, and nobody else.

    Raises BadRemote for what makes no sense, NameTaken or GroupNotFound.
    """
    checked_name(name)
    if scene.tx.one("SELECT 1 FROM remotes WHERE owner_id = ? AND name = ?", scene.user_id, name):
        raise NameTaken(name)
    if group_id is not None:
        groups.require(scene, group_id)
    remote_id = new_id("rm_")
    scene.tx.run(
        f"INSERT INTO remotes ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?, 1, ?, 0, ?, ?)",  # noqa: S608
        *(remote_id, scene.user_id, name, kind, _text(kind, definition), int(is_shared)),
        *(group_id, scene.tx.clock.now_ms()),
    )
    return remote_id


@core_call("core.remote.edit")
def edit(
    scene: Scene,
    remote_id: str,
    *,
    definition: Definition | None = None,
    is_on: bool | None = None,
    is_shared: bool | None = None,
    is_retired: bool | None = None,
    group_id: str | None = None,
) -> Remote:
    """Change a remote of the caller's, or turn it off and on, and return it. What is not given stays.

    Args:
        is_retired: nothing new may use it; what uses it goes on.
        group_id: as in core.remote.create; empty text: none.

    Raises BadRemote.
    """
    remote = owned(scene, remote_id)
    if group_id:
        groups.require(scene, group_id)
    scene.tx.run(
        "UPDATE remotes SET definition = ?, is_on = ?, is_shared = ?, is_retired = ?, group_id = ? WHERE id = ?",
        _text(remote.kind, definition or remote.definition),
        int(remote.is_on if is_on is None else is_on),
        int(remote.is_shared if is_shared is None else is_shared),
        int(remote.is_retired if is_retired is None else is_retired),
        (remote.group_id if group_id is None else group_id) or None,
        remote_id,
    )
    return owned(scene, remote_id)


@core_call("core.remote.get", is_reading=True)
def get(scene: Scene, remote_id: str) -> Remote:
    """Return a remote of the caller's."""
    return owned(scene, remote_id)


@core_call("core.remote.list", is_reading=True)
def list_(scene: Scene, *, limit: int = 50, after: tuple[str] | None = None) -> tuple[list[Remote], tuple[str] | None]:
    """Return a page of the caller's remotes, the oldest first."""
    rows = scene.tx.all(
        f"SELECT {COLUMNS} FROM remotes WHERE owner_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        *(scene.user_id, after[0] if after else "", limit + 1),
    )
    found = [_remote(row) for row in rows[:limit]]
    return found, (found[-1].id,) if len(rows) > limit else None


@core_call("core.remote.delete")
def delete(scene: Scene, remote_id: str) -> None:
    """Delete a remote of the caller's. Raises StillUsed while a token or rule of theirs names it."""
    owned(scene, remote_id)
    refuse_if_used(scene.tx, scene.user_id, remote_id)
    scene.tx.run("DELETE FROM remotes WHERE id = ?", remote_id)


@core_call("core.remote.load", is_reading=True)
def load(scene: Scene, remote_id: str, owner_id: str) -> tuple[Remote, str]:
    """Return the remote that answers for a token of `owner_id`, and its own owner's name. Raises RemoteNotFound."""
    remote = find(scene.tx, remote_id)
    if remote is None or not is_usable(scene.tx, remote, owner_id):
        raise RemoteNotFound(remote_id)
    row = scene.tx.one("SELECT name FROM users WHERE id = ?", remote.owner_id)
    return remote, row[0] if row else ""


def is_usable(tx: Tx, remote: Remote, user_id: str) -> bool:
    """Tell whether a user may have the remote answer for their tokens and rules."""
    if remote.owner_id == user_id:
        return True
    return groups.contains(tx, remote.group_id, user_id) if remote.group_id else remote.is_shared


def find(tx: Tx, remote_id: str) -> Remote | None:
    """Return the remote whoever asks."""
    row = tx.one(f"SELECT {COLUMNS} FROM remotes WHERE id = ?", remote_id)  # noqa: S608 (a constant)
    return _remote(row) if row else None


def owned(scene: Scene, remote_id: str) -> Remote:
    """Return a remote of the caller's. Raises RemoteNotFound."""
    remote = find(scene.tx, remote_id)
    if remote is None or remote.owner_id != scene.user_id:
        raise RemoteNotFound(remote_id)
    return remote


def _remote(row: tuple[Any, ...]) -> Remote:
    id, owner_id, name, kind, definition, is_on, is_shared, is_retired, group_id = row
    flags = (bool(is_on), bool(is_shared), bool(is_retired))
    return Remote(id, owner_id, name, kind, Definition(**json.loads(definition)), *flags, group_id)


def _text(kind: str, definition: Definition) -> str:
    checked(kind, definition)
    return json.dumps(definition.given())
