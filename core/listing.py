"""What stands in a set, one page at a time.

A page is found by its place in the order, (sort, token id), never by counting: tokens that come and go in between
make nothing be skipped or told twice. Source: sessions.md 2.5; 7 (an explicit total order in every cursor).
"""

from dataclasses import dataclass
from typing import Any, Literal

import orjson

from core import sets
from core.calls import Scene, core_call
from core.errors import TokenNotFound
from core.names import sort_key

Kind = Literal["token", "child", "link", "user", "command"]
Order = Literal["name", "-name", "added", "-added"]
Position = tuple[str | int, str]

_KINDS: dict[str, str] = {
    "child": "m.kind = 'child'",
    "link": "m.kind = 'link'",
    "user": "t.type = 'user'",
    "command": "t.type = 'command'",
    "token": "m.kind NOT IN ('child', 'link') AND t.type NOT IN ('user', 'command')",
}
# order -> (columns that make the order total, comparison, direction)
_ORDERS: dict[str, tuple[str, str, str]] = {
    "name": ("m.sort, m.token_id", ">", "m.sort, m.token_id"),
    "-name": ("m.sort, m.token_id", "<", "m.sort DESC, m.token_id DESC"),
    "added": ("m.rank, m.token_id", ">", "m.rank, m.token_id"),
    "-added": ("m.rank, m.token_id", "<", "m.rank DESC, m.token_id DESC"),
}
_COLUMNS = (
    "m.kind, m.sort, m.rank, t.id, t.type, t.name, t.owner_id, t.attributes, t.is_human, s.id"
    " FROM members m JOIN tokens t ON t.id = m.token_id LEFT JOIN sets s ON s.token_id = t.id"
)
_VISIBLE = (
    "(t.is_public = 1 OR t.owner_id = ? OR EXISTS (SELECT 1 FROM grants g WHERE g.token_id = t.id AND g.user_id = ?))"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One token as it stands in one set. `set_id` is the set it defines, if any; `kind` its relation to this one."""

    id: str
    type: str
    name: str
    owner_id: str
    kind: str
    attributes: dict[str, Any]
    is_human: bool
    set_id: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and the position after which the next page begins (None at the end)."""

    entries: list[Entry]
    next: Position | None


@core_call("core.set.read")
def read(
    scene: Scene,
    set_id: str,
    *,
    limit: int,
    after: Position | None = None,
    kind: Kind | None = None,
    filter: str | None = None,
    order: Order = "name",
    is_human: bool = False,
) -> Page:
    """Return a page of the set's contents; what the caller cannot read is silently left out.

    Args:
        limit: 1 to 200 entries.
        after: the `next` of the page before.
        filter: a name with `*`, `?` or `[...]`; without one of them, any name that holds the text. Case is ignored.
        is_human: leave out what is not for people.
    """
    sets.show(scene, set_id)
    columns, comparison, direction = _ORDERS[order]
    conditions, values = _wanted(kind, filter, is_human)
    if after is not None:
        conditions.append(f"({columns}) {comparison} (?, ?)")
        values += after
    conditions = ["m.set_id = ?", _VISIBLE, *conditions]
    values = [set_id, scene.user_id, scene.user_id, *values]
    statement = f"SELECT {_COLUMNS} WHERE {' AND '.join(conditions)} ORDER BY {direction} LIMIT ?"  # noqa: S608
    rows = scene.tx.all(statement, *values, limit + 1)
    entries = [_entry(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(entries, None)
    last = rows[limit - 1]
    return Page(entries, ((last[1] if "sort" in columns else last[2]), last[3]))


@core_call("core.token.read")
def read_one(scene: Scene, set_id: str, token_id: str) -> Entry:
    """Return one token as it stands in the set. Raises TokenNotFound when it is not there or not to be seen."""
    sets.show(scene, set_id)
    row = scene.tx.one(
        f"SELECT {_COLUMNS} WHERE m.set_id = ? AND m.token_id = ? AND {_VISIBLE}",  # noqa: S608 (constants)
        set_id,
        token_id,
        scene.user_id,
        scene.user_id,
    )
    if row is None:
        raise TokenNotFound(token_id)
    return _entry(row)


@core_call("core.set.has")
def has(scene: Scene, set_id: str, kind: Literal["child", "link"]) -> bool:
    """Tell whether the set has a child or a link that the caller can see."""
    # Each by its own small index: the tokens of a large set are not looked at.
    source = (
        "sets s JOIN tokens t ON t.id = s.token_id WHERE s.parent_id = ?"
        if kind == "child"
        else "members m JOIN tokens t ON t.id = m.token_id WHERE m.set_id = ? AND m.kind = 'link'"
    )
    statement = f"SELECT 1 FROM {source} AND {_VISIBLE} LIMIT 1"  # noqa: S608 (constants)
    return scene.tx.one(statement, set_id, scene.user_id, scene.user_id) is not None


def _wanted(kind: Kind | None, filter: str | None, is_human: bool) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if kind is not None:
        conditions.append(_KINDS[kind])
    if filter:
        conditions.append("m.sort GLOB ?")
        values.append(_pattern(filter))
    if is_human:
        conditions.append("t.is_human = 1")
    return conditions, values


def _pattern(filter: str) -> str:
    text = sort_key(filter)
    if any(sign in text for sign in "*?["):
        return text.replace("[!", "[^")
    return f"*{text}*"


def _entry(row: tuple[Any, ...]) -> Entry:
    kind, _sort, _rank, token_id, type_, name, owner_id, attributes, is_human, set_id = row
    return Entry(token_id, type_, name, owner_id, kind, orjson.loads(attributes), bool(is_human), set_id)
