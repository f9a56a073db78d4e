"""What stands in a set, one page at a time.

A page is found by its place in the order, (sort, token id), never by counting: tokens that come and go in between
make nothing be skipped or told twice. Source: sessions.md 2.5; 7 (an explicit total order in every cursor).
"""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from core import attribute_values, sets
from core.access import Place, Token, asker, find_place, find_token, readable_by, readable_place, readable_token, rights
from core.attribute_values import NESTED, last_answers
from core.calls import Scene, core_call, kept
from core.errors import TokenNotFound
from core.names import sort_key
from core.rules import READING
from store import Row, Tx

Kind = Literal["token", "child", "link", "user", "command"]
Order = Literal["name", "-name", "added", "-added"]
CHUNK = 500  # rows looked at together where a condition is not the database's
Position = tuple[str | int, str]

_COMMAND = "SELECT 1 FROM commands c WHERE c.set_id = m.set_id AND c.token_id = m.token_id"
_KINDS: dict[str, str] = {
    "child": "m.kind = 'child'",
    "link": "m.kind = 'link'",
    "user": "t.type = 'user'",
    "command": f"EXISTS ({_COMMAND})",
    "token": f"m.kind NOT IN ('child', 'link') AND t.type <> 'user' AND NOT EXISTS ({_COMMAND})",
}
# order -> (columns that make the order total, comparison, direction)
_ORDERS: dict[str, tuple[str, str, str]] = {
    "name": ("m.sort, m.token_id", ">", "m.sort, m.token_id"),
    "-name": ("m.sort, m.token_id", "<", "m.sort DESC, m.token_id DESC"),
    "added": ("m.rank, m.token_id", ">", "m.rank, m.token_id"),
    "-added": ("m.rank, m.token_id", "<", "m.rank DESC, m.token_id DESC"),
}
_COLUMNS = (
    "m.kind, m.sort, m.rank, t.id, t.type, t.name, t.owner_id, t.attributes, t.is_human, t.is_public, t.revision,"
    " t.created_at, s.id, EXISTS (SELECT 1 FROM live_values),"
    " EXISTS (SELECT 1 FROM rules WHERE event = 'attribute_reading')"
)
_FROM = "FROM members m JOIN tokens t ON t.id = m.token_id LEFT JOIN sets s ON s.token_id = t.id"
VISIBLE = readable_by("t")
HUMAN = (
    "t.is_human = 1 AND NOT EXISTS (SELECT 1 FROM type_ancestors a JOIN types y ON y.name = a.ancestor"
    " WHERE a.type = t.type AND y.is_human = 0)"
)
# Each by its own small index: the tokens of a large set are not looked at.
_CHILD = f"SELECT 1 FROM sets s JOIN tokens t ON t.id = s.token_id WHERE s.parent_id = ? AND {VISIBLE}"  # noqa: S608
_LINK = (
    f"SELECT 1 FROM members m JOIN tokens t ON t.id = m.token_id WHERE m.set_id = ? AND m.kind = 'link' AND {VISIBLE}"  # noqa: S608, E501
)
_WAYS = f"SELECT EXISTS ({_CHILD}), EXISTS ({_LINK})"  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True)
class Details:
    """More about a token: whose it is, since when (UTC milliseconds), what the reader may do with it, and its set."""

    owner_name: str
    created_at: int
    is_public: bool
    can_write: bool
    place: Place | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One token as it stands in one set. `set_id` is the set it defines, if any; `kind` its relation to this one.

    `attributes` are those the reader may read there; `revision` grows whenever the token is changed; `details` are
    there when they were asked for. `answers` are the last ones of what a script, remote or person answers for.
    """

    id: str
    type: str
    name: str
    owner_id: str
    kind: str
    attributes: dict[str, Any]
    is_human: bool
    set_id: str | None
    revision: int = 1
    details: Details | None = None
    answers: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and the position after which the next page begins (None at the end)."""

    entries: list[Entry]
    next: Position | None


@dataclass(frozen=True, slots=True)
class _Query:
    """Which page of a set is asked for; the fields are as `read` takes them."""

    set_id: str
    limit: int
    after: Position | None
    kind: Kind | None
    filter: str | None
    order: Order
    is_human: bool
    given_to: str | None


@core_call("core.set.read", is_reading=True)
def read(
    scene: Scene,
    set_id: str,
    *,
    limit: int = 50,
    after: Position | None = None,
    kind: Kind | None = None,
    filter: str | None = None,
    order: Order = "name",
    is_human: bool = False,
    wide: bool = False,
    given_to: str | None = None,
) -> Page:
    """Return a page of the set's contents; what the caller cannot read is silently left out.

    Args:
        limit: 1 to 200 entries.
        after: the `next` of the page before.
        filter: a name with `*`, `?` or `[...]`; without one of them, any name that holds the text. Case is ignored.
        is_human: leave out what is not for people.
        wide: also tell of each token whose it is, what the caller may do with it, and what stands in its set.
        given_to: a session: leave out what the set has given to others.
    """
    place = readable_place(scene, set_id)
    query = _Query(
        set_id=set_id,
        limit=limit,
        after=(after[0], after[1]) if after is not None else None,
        kind=kind,
        filter=filter,
        order=order,
        is_human=is_human,
        given_to=recipient(scene.tx, set_id, given_to),
    )
    may_be_common = scene.tx.is_keeping and not (place.rights.is_owner or kind or filter)
    is_common = may_be_common and scene.tx.kept(_is_common, query)
    page = scene.tx.kept(_page, "" if is_common else scene.user_id, query)
    return page if not wide else replace(page, entries=[_detailed(scene, entry) for entry in page.entries])


def _page(tx: Tx, user_id: str, query: _Query) -> Page:
    """Return the page as a user sees it; as user "", who is nobody, what all see."""
    where, by, values = _wanted(query)
    statement = f"SELECT {_COLUMNS} {_FROM} WHERE {where} AND {VISIBLE} {by} LIMIT ?"  # noqa: S608 (constants)
    rows = tx.all(statement, *values, *asker(user_id), query.limit + 1)
    entries = _entries(Scene(tx, user_id), query.set_id, rows[: query.limit], query.is_human)
    if len(rows) <= query.limit:
        return Page(entries, None)
    last = rows[query.limit - 1]
    return Page(entries, ((last[1] if query.order.endswith("name") else last[2]), last[3]))


def _is_common(tx: Tx, query: _Query) -> bool:
    """Tell whether all see a page alike: public tokens of standard types, with nothing decided or answered for each."""
    where, by, values = _wanted(query)
    row = tx.one(
        f"SELECT 1 FROM (SELECT t.id, t.type, t.attributes, t.is_public {_FROM} WHERE {where} {by} LIMIT ?) t"  # noqa: S608
        " WHERE t.is_public = 0 OR instr(t.type, '.') > 0 OR instr(t.attributes, ?) > 0"
        " OR EXISTS (SELECT 1 FROM live_values v WHERE v.token_id = t.id)"
        " OR EXISTS (SELECT 1 FROM rules r WHERE r.token_id = t.id) LIMIT 1",
        *(*values, query.limit + 1, NESTED),
    )
    return row is None


def recipient(tx: Tx, set_id: str, session_id: str | None) -> str | None:
    """Return the session if the set has given anything, None where it makes no difference: so many share an answer."""
    return session_id if session_id is None or not tx.is_keeping or tx.kept(_gives, set_id) else None


def _gives(tx: Tx, set_id: str) -> bool:
    return tx.one("SELECT 1 FROM members WHERE set_id = ? AND kind = 'gift' LIMIT 1", set_id) is not None


@core_call("core.token.read", is_reading=True)
def read_one(
    scene: Scene, token_id: str, set_id: str | None = None, *, is_human: bool = False, wide: bool = False
) -> Entry:
    """Return one token as it stands in a set, or by itself, with its values there that the caller may read.

    Raises TokenNotFound when it is not there or not to be seen.

    Args:
        is_human: leave out attributes that are not for people.
        wide: also tell whose it is, what the caller may do with it, and what stands in the set it defines.
    """
    entry = _alone(scene, token_id, is_human) if set_id is None else _standing(scene, token_id, set_id, is_human)
    return _detailed(scene, entry) if wide else entry


@core_call("core.set.ways", is_reading=True)
@kept
def ways(scene: Scene, set_id: str) -> tuple[bool, bool]:
    """Tell whether the set has a child, and a link, that the caller can see."""
    row = scene.tx.one(_WAYS, *(set_id, *asker(scene.user_id)) * 2)
    return (bool(row[0]), bool(row[1])) if row else (False, False)


@core_call("core.set.links", is_reading=True)
def links(scene: Scene, set_id: str, *, limit: int = 50, after: Position | None = None) -> Page:
    """Return a page of the sets a set links to, as the tokens that define them."""
    return read(scene, set_id, limit=limit, after=after, kind="link")


@core_call("core.set.list", is_reading=True)
def list_sets(
    scene: Scene,
    parent_id: str | None = None,
    name: str | None = None,
    type: str | None = None,
    *,
    attribute: str | None = None,
    value: Any = None,
    is_writable: bool = False,
    limit: int = 50,
    after: tuple[str] | None = None,
) -> tuple[list[Place], tuple[str] | None]:
    """Return a page of the sets the caller can read, the oldest first.

    Args:
        parent_id: those below this set; name: with this name, in any case; type: whose defining token is of this type.
        attribute: whose defining token holds this attribute, as the caller may read it; with `value`, just that.
        is_writable: those the caller can write.
    """
    where, values = _sought(parent_id, type, attribute)
    statement = (
        "SELECT s.id FROM sets s JOIN tokens t ON t.id = s.token_id"  # noqa: S608 (constants)
        f" WHERE {' AND '.join(['s.id > ?', VISIBLE, *where])} ORDER BY s.id LIMIT {CHUNK}"
    )
    values = [*asker(scene.user_id), *values]
    found: list[Place] = []
    last = after[0] if after else ""
    while len(found) <= limit and (rows := scene.tx.all(statement, last, *values)):
        last = rows[-1][0]
        for (set_id,) in rows:
            place = find_place(scene.tx, scene.user_id, set_id)
            if place is None or not place.rights.can_read or (is_writable and not place.rights.can_write):
                continue
            if name in (None, place.name) or sort_key(place.name) == sort_key(name or ""):
                found += [place] if _holds(scene, place, attribute, value) else []
    return found[:limit], (found[limit - 1].id,) if len(found) > limit else None


def _sought(parent_id: str | None, type: str | None, attribute: str | None) -> tuple[list[str], list[str]]:
    # Of what does not stand in the row, only a user's type may have a default: its tokens are looked into.
    written = json.dumps(attribute) if attribute is not None else None
    holding = ("(instr(t.attributes, ?) > 0 OR instr(t.type, '.') > 0)", written)
    wanted = [("s.parent_id = ?", parent_id), ("t.type = ?", type), holding]
    return [one for one, value in wanted if value is not None], [value for _, value in wanted if value is not None]


def _holds(scene: Scene, place: Place, attribute: str | None, value: Any) -> bool:
    if attribute is None:
        return True
    token = find_token(scene.tx, place.token_id)
    held = attribute_values.shown(scene, token, None).get(attribute) if token is not None else None
    return held is not None and value in (None, held)


def _alone(scene: Scene, token_id: str, is_human: bool) -> Entry:
    token = readable_token(scene, token_id)
    row = scene.tx.one("SELECT id FROM sets WHERE token_id = ?", token_id)
    values = attribute_values.shown(scene, token, None, is_human)
    defined = row[0] if row else None
    is_shown = bool(token.is_human)
    entry = Entry(token.id, token.type, token.name, token.owner_id, "", values, is_shown, defined, token.revision)
    return _previewed(scene, [entry], [entry])[0]


def _standing(scene: Scene, token_id: str, set_id: str, is_human: bool) -> Entry:
    readable_place(scene, set_id)
    row = scene.tx.one(
        f"SELECT {_COLUMNS} {_FROM} WHERE m.set_id = ? AND m.token_id = ? AND {VISIBLE}",  # noqa: S608 (constants)
        *(set_id, token_id, *asker(scene.user_id)),
    )
    if row is None:
        raise TokenNotFound(token_id)
    return _entries(scene, set_id, [row], is_human)[0]


def _detailed(scene: Scene, entry: Entry) -> Entry:
    """Return the entry of a token the caller can read with its details; an unreadable set is not told of."""
    row = scene.tx.one(
        "SELECT coalesce(u.name, ''), t.created_at, t.is_public FROM tokens t LEFT JOIN users u ON u.id = t.owner_id"
        " WHERE t.id = ?",
        entry.id,
    )
    assert row is not None  # read in the same snapshot
    owner_name, created_at, is_public = row
    held = rights(scene.tx, scene.user_id, entry.id, entry.owner_id, is_public)
    place = sets.show(scene, entry.set_id, wide=True) if entry.set_id is not None and held.can_read else None
    return replace(entry, details=Details(owner_name, created_at, bool(is_public), held.can_write, place))


def _wanted(query: _Query) -> tuple[str, str, list[Any]]:
    """Return what stands behind WHERE and before LIMIT in a statement for such a page, and the values bound there."""
    columns, comparison, direction = _ORDERS[query.order]
    conditions: list[str] = ["m.set_id = ?"]
    values: list[Any] = [query.set_id]
    if query.kind is not None:
        conditions.append(_KINDS[query.kind])
    if query.filter:
        conditions.append("m.sort GLOB ?")
        values.append(_pattern(query.filter))
    if query.is_human:
        conditions.append(HUMAN)
    if query.given_to is not None:
        conditions.append("(m.session_id IS NULL OR m.session_id = ?)")
        values.append(query.given_to)
    if query.after is not None:
        conditions.append(f"({columns}) {comparison} (?, ?)")
        values += query.after
    return " AND ".join(conditions), f"ORDER BY {direction}", values


def _pattern(filter: str) -> str:
    text = sort_key(filter)
    if any(sign in text for sign in "*?["):
        return text.replace("[!", "[^")
    return f"*{text}*"


def _entries(scene: Scene, set_id: str, rows: list[Row], is_human: bool) -> list[Entry]:
    """Return the rows as entries; only what has declared, one set's, turned off or ruled attributes is looked into."""
    special: set[str] = set()
    is_ruled = bool(rows) and bool(rows[0][-1])
    ids = [row[3] for row in rows]
    marks = ", ".join("?" * len(rows))
    # That others have some, as these columns tell, says nothing of these: what is found hangs on their ids alone.
    if rows and rows[0][-2]:
        statement = f"SELECT DISTINCT token_id FROM live_values WHERE token_id IN ({marks})"  # noqa: S608 (question marks)
        special.update(row[0] for row in scene.tx.all(statement, *ids))
    if is_ruled:
        statement = f"SELECT token_id FROM rules WHERE event = ? AND token_id IN ({marks})"  # noqa: S608 (question marks)
        special.update(row[0] for row in scene.tx.all(statement, READING, *ids))

    def values(row: Row) -> dict[str, Any]:
        if "." not in row[4] and row[3] not in special:
            held: dict[str, Any] = orjson.loads(row[7])
            return held
        id, type, name, owner_id, attributes, is_human_token, is_public, revision, created_at = row[3:12]
        token = Token(id, type, owner_id, name, attributes, is_public, is_human_token, revision, created_at)
        return attribute_values.shown(scene, token, set_id, is_human, is_ruled)

    found = [Entry(row[3], row[4], row[5], row[6], row[0], values(row), bool(row[8]), row[12], row[10]) for row in rows]
    asking = [one for row, one in zip(rows, found, strict=True) if NESTED in row[7] or "." in row[4] or special]
    return _previewed(scene, found, asking) if asking else found


def _previewed(scene: Scene, entries: list[Entry], asking: list[Entry]) -> list[Entry]:
    last = last_answers(scene, [(entry.id, entry.attributes) for entry in asking])
    return [replace(one, answers=last[one.id]) if one.id in last else one for one in entries] if last else entries
