"""Types: templates of tokens, with parents of which the nearest wins, and the attributes that they declare.

A plain word (`set`, `user`, `command`, `file`) is a standard type: it is there without a row and declares nothing.
A user's type is named `user.word`. Several types of a line may declare one name: the nearest wins. An attribute may
have a parent, of any type: whoever is to read or write the one must be allowed to read or write the other.
Source: sessions.md 1.1.
"""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from core import groups, remotes, scripts
from core.access import Access
from core.calls import Scene, core_call
from core.errors import (
    AttributeNotFound,
    BadAttribute,
    BadName,
    BadValue,
    NameTaken,
    NotWritable,
    RemoteNotFound,
    ScriptNotFound,
    SourceClosed,
    TooMany,
    TypeClosed,
    TypeNotFound,
)
from core.limits import Limits, ValueType, check, source_of
from store import Tx, new_id

WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")
SYSTEM_MADE = ("set", "user")  # tokens of these come with their set or user alone
COMMAND = "command"
MAX_PARENTS = 16
MAX_LINE = 100
COLUMNS = "name, owner_id, parents, description, creators_group_id, is_human, is_frozen, is_retired, created_at"


@dataclass(frozen=True, slots=True)
class Type:
    """A type with its parents in the order given, and all it is: itself, then its ancestors, nearest first."""

    name: str
    owner_id: str
    parents: list[str]
    description: str
    creators_group_id: str | None
    is_human: bool
    is_frozen: bool
    is_retired: bool
    created_at: int
    line: list[str]


@core_call("core.type.create")
def create(
    scene: Scene,
    name: str,
    parents: list[str] | None = None,
    description: str = "",
    *,
    is_human: bool = True,
    creators_group_id: str | None = None,
    attributes: dict[str, dict[str, Any]] | None = None,
) -> str:
    """Make a type and return its full name, `user.name`.

    Args:
        name: a word of a-z, 0-9, _ and -.
        parents: full names, or standard words; what several declare is taken from the nearest, then the first.
        creators_group_id: who may make tokens of it, and of the types that descend from it; None: everybody.
        attributes: word -> what core.attribute.create takes besides type and name.
    """
    full = _full_name(scene, name)
    _check_parents(scene.tx, parents or [])
    if creators_group_id is not None:
        groups.require(scene, creators_group_id)
    scene.tx.run(
        f"INSERT INTO types ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?)",  # noqa: S608 (a constant)
        full,
        scene.user_id,
        json.dumps(parents or []),
        description,
        creators_group_id,
        int(is_human),
        scene.tx.clock.now_ms(),
    )
    _store_line(scene, full, parents or [])
    for word, options in (attributes or {}).items():
        declare(scene, full, word, **options)
    return full


@core_call("core.type.read", is_reading=True)
def read(scene: Scene, name: str) -> Type:
    """Return a type. Raises TypeNotFound."""
    found = find(scene.tx, name)
    if found is None:
        raise TypeNotFound(name)
    return found


@core_call("core.type.list", is_reading=True)
def list_(scene: Scene, *, limit: int = 50, after: tuple[str] | None = None) -> tuple[list[Type], tuple[str] | None]:
    """Return a page of all users' types by name."""
    rows = scene.tx.all(
        "SELECT name FROM types WHERE name > ? ORDER BY name LIMIT ?", after[0] if after else "", limit + 1
    )
    found = [read(scene, row[0]) for row in rows[:limit]]
    return found, (found[-1].name,) if len(rows) > limit else None


@core_call("core.type.retire")
def retire(scene: Scene, name: str, is_retired: bool = True) -> None:
    """Have no new tokens and child types of a type of the caller's; what there is stays."""
    found = owned(scene, name)
    scene.tx.run("UPDATE types SET is_retired = ? WHERE name = ?", int(is_retired), found.name)


@core_call("core.type.creators")
def change_creators(scene: Scene, name: str, creators_group_id: str | None) -> None:
    """Say who may make tokens of a type of the caller's, frozen or not; None: everybody. What there is stays."""
    found = owned(scene, name)
    if creators_group_id is not None:
        groups.require(scene, creators_group_id)
    scene.tx.run("UPDATE types SET creators_group_id = ? WHERE name = ?", creators_group_id, found.name)


def find(tx: Tx, name: str) -> Type | None:
    """Return a user's type whoever asks."""
    row = tx.one(f"SELECT {COLUMNS} FROM types WHERE name = ?", name)  # noqa: S608 (a constant)
    if row is None:
        return None
    name, owner_id, parents, description, creators, is_human, is_frozen, is_retired, created_at = row
    flags = (bool(is_human), bool(is_frozen), bool(is_retired))
    return Type(name, owner_id, json.loads(parents), description, creators, *flags, created_at, line(tx, name))


def owned(scene: Scene, name: str) -> Type:
    """Return a type of the caller's. Raises TypeNotFound or NotWritable."""
    found = read(scene, name)
    if found.owner_id != scene.user_id:
        raise NotWritable(name, name)
    return found


def check_creator(scene: Scene, name: str) -> None:
    """Raise TypeNotFound or TypeClosed unless the caller may make tokens of the type."""
    if name in SYSTEM_MADE:
        raise TypeClosed(name, "is made by the server alone: use core.set.create")
    if is_standard(name):
        return
    found = find(scene.tx, name)
    if found is None:
        raise TypeNotFound(name)
    if found.is_retired:
        raise TypeClosed(name, "is retired: no new tokens of it are made")
    closed = scene.tx.all(
        "SELECT y.name, y.owner_id, y.creators_group_id FROM type_ancestors a JOIN types y ON y.name = a.ancestor"
        " WHERE a.type = ? AND y.creators_group_id IS NOT NULL ORDER BY a.rank",
        name,
    )
    for ancestor, owner_id, group_id in closed:
        if owner_id != scene.user_id and not groups.contains(scene.tx, group_id, scene.user_id):
            raise TypeClosed(ancestor, "lets only a group make tokens of it, and you are not in that group")


def is_standard(name: str) -> bool:
    """Tell whether the name is a plain word, which every server knows."""
    return WORD.fullmatch(name) is not None


def line(tx: Tx, name: str) -> list[str]:
    """Return all a type is: itself, then its ancestors, nearest first."""
    if is_standard(name):
        return [name]
    return [row[0] for row in tx.all("SELECT ancestor FROM type_ancestors WHERE type = ? ORDER BY rank", name)]


def is_a(tx: Tx, name: str, ancestor: str) -> bool:
    """Tell whether a type is another or descends from it."""
    if name == ancestor:
        return True
    if is_standard(name):
        return False
    return tx.one("SELECT 1 FROM type_ancestors WHERE type = ? AND ancestor = ?", name, ancestor) is not None


def freeze(scene: Scene, name: str) -> None:
    """Note that its owner made a token or child type of it: from now on its attributes stay as they are.

    What others make of it holds its owner up in nothing.
    """
    if not is_standard(name):
        tx, owner_id = scene.tx, scene.user_id
        tx.run("UPDATE types SET is_frozen = 1 WHERE name = ? AND is_frozen = 0 AND owner_id = ?", name, owner_id)


def _full_name(scene: Scene, name: str) -> str:
    if not WORD.fullmatch(name):
        raise BadName(name, "a type is a word of a-z, 0-9, _ and - that begins with a letter")
    owner = scene.tx.one("SELECT name FROM users WHERE id = ?", scene.user_id)
    full = f"{owner[0] if owner else ''}.{name}"
    if scene.tx.one("SELECT 1 FROM types WHERE name = ?", full):
        raise NameTaken(full)
    return full


def _check_parents(tx: Tx, parents: list[str]) -> None:
    if len(parents) > MAX_PARENTS:
        raise TooMany("parents of a type", MAX_PARENTS)
    for parent in parents:
        _inheritable(tx, parent)


def _inheritable(tx: Tx, parent: str) -> None:
    if parent in SYSTEM_MADE:
        raise TypeClosed(parent, "cannot be inherited from")
    if is_standard(parent):
        return
    found = find(tx, parent)
    if found is None:
        raise TypeNotFound(parent)
    if found.is_retired:
        raise TypeClosed(parent, "is retired: no new types inherit from it")


def _store_line(scene: Scene, name: str, parents: list[str]) -> None:
    tx = scene.tx
    order, level = [name], parents
    while level:
        order += level
        above = [find(tx, one) for one in level]
        level = [parent for one in above if one is not None for parent in one.parents if parent not in order]
    if len(set(order)) > MAX_LINE:
        raise TooMany("ancestors of a type", MAX_LINE)
    tx.many(
        "INSERT INTO type_ancestors (type, ancestor, rank) VALUES (?, ?, ?)",
        [(name, ancestor, rank) for rank, ancestor in enumerate(dict.fromkeys(order))],
    )
    for parent in parents:
        freeze(scene, parent)


Kind = Literal["value", "script", "remote"]


@dataclass(frozen=True, slots=True)
class Source:
    """A value, or who is asked for it: then `value` is the id of the script or remote."""

    kind: Kind
    value: Any

    def kept_as(self, attribute: str) -> str:
        """Return under which name the last answer is kept: a remote's is one for all attributes it stands behind."""
        return f"remote:{self.value}" if self.kind == "remote" else attribute

    @classmethod
    def of(cls, held: Any) -> "Source":
        """Return what an attribute's value means; `{"value": x}` is x, for an x that would mean something else."""
        found = source_of(held)
        if found is not None:
            return cls("script" if found[0] == "script" else "remote", found[1])
        if isinstance(held, dict) and set(held) == {"value"}:
            return cls("value", held["value"])
        return cls("value", held)


def require_source(scene: Scene, kind: str, id: str) -> None:
    """Raise unless the caller may have the script or remote answer for a token or rule from now on.

    Raises ScriptNotFound, RemoteNotFound or SourceClosed.
    """
    if kind == "remote":
        remote = remotes.find(scene.tx, id)
        if remote is None or not remotes.is_usable(scene.tx, remote, scene.user_id):
            raise RemoteNotFound(id)
        if remote.is_retired:
            raise SourceClosed(kind, remote.name)
        return
    script = scripts.find(scene.tx, id)
    if script is None or not (script.owner_id == scene.user_id or script.is_shared):
        raise ScriptNotFound(id)
    if script.is_retired:
        raise SourceClosed(kind, script.name)


Needs = list[str] | dict[str, bool]
ATTRIBUTE_COLUMNS = "id, type, name, value_type, limits, default_value, read_needs, write_needs, is_human, parent_id"
# What a token may carry that its type does not declare, and every type's tokens may: name -> kind and limits.
STANDARD: dict[str, tuple[ValueType, Limits]] = {
    "description": ("markdown", Limits()),  # what it is, in a sentence or two
    "image": ("url", Limits(maximum=2048)),  # a picture of it
    "greeting": ("markdown", Limits()),  # of a set: what whoever enters reads first
    "sort": ("any", Limits()),  # of a command: its place in the pallet, a number
    "write": ("any", Limits()),  # of a command: where its input goes
    "read": ("any", Limits()),  # of a command: what it answers
    "accepts": ("string", Limits(maximum=64)),  # of a command: the kind of input it takes, such as `json`
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """A declared attribute.

    `read_needs` and `write_needs` name attributes that must be present in the same set: a list means any of them,
    an object (name -> true) all of them.
    """

    id: str
    type: str
    name: str
    value_type: ValueType
    limits: dict[str, Any]
    default: Any
    read_needs: Needs | None
    write_needs: Needs | None
    is_human: bool
    parent_id: str | None = None
    read_groups: list[str] = field(default_factory=list)
    write_groups: list[str] = field(default_factory=list)


@core_call("core.attribute.create")
def declare(
    scene: Scene,
    type: str,
    name: str,
    value_type: ValueType,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    pattern: str | None = None,
    choices: list[Any] | None = None,
    allow_null: bool = True,
    default: Any = None,
    read_groups: list[str] | None = None,
    write_groups: list[str] | None = None,
    read_needs: Needs | None = None,
    write_needs: Needs | None = None,
    is_human: bool = True,
    parent: str | None = None,
) -> str:
    """Declare an attribute of a type of the caller's that nothing was made of yet, and return its id.

    Args:
        minimum, maximum: of a number; of text, of its length in characters; of binary, in bytes when decoded.
        pattern: a regular expression of up to 200 characters that the whole of a text must match; it has no look-around
            and no back references, and may not repeat too often. The text then has up to 256 characters.
        allow_null: False needs a default.
        read_groups, write_groups: who may; none: whoever may read, and whoever may write, the token.
        read_needs, write_needs: attributes that must be present in the same set.
        parent: an attribute, by its id or as `type.name`, that must allow it, too: groups are some of its or, if none.
    """
    _check_place(scene, type, name)
    limits = Limits(minimum, maximum, pattern, choices, allow_null)
    limits.check_self(name, value_type, default)
    known = (value_type, limits.given(), default, read_needs, write_needs, is_human)
    above = None if parent is None else _named(scene.tx, parent)
    shared = (read_groups or [], write_groups or [])
    told = () if above is None else (*above.read_groups, *above.write_groups)
    for group_id in (*shared[0], *shared[1]):
        if group_id not in told:
            groups.require(scene, group_id)
    new = _narrowed(Attribute(new_id("a_"), type, name, *known, above.id if above else None, *shared), above)
    source = source_of(default)
    if source is not None:
        require_source(scene, *source)
    return _insert(scene.tx, new)


@core_call("core.attribute.list", is_reading=True)
def list_attributes(scene: Scene, type: str) -> list[Attribute]:
    """Return all a type's tokens carry, inherited attributes included, by name."""
    if not is_standard(type):
        read(scene, type)
    found = attributes_of(scene.tx, type)
    return [found[name] for name in sorted(found)]


def attributes_of(tx: Tx, type: str) -> dict[str, Attribute]:
    """Return what a type's tokens carry, by name: of several declarations the nearest."""
    if is_standard(type):
        return {}
    rows = tx.all(
        f"SELECT {_qualified()} FROM type_ancestors t JOIN attributes a ON a.type = t.ancestor"  # noqa: S608
        " WHERE t.type = ? ORDER BY t.rank",
        type,
    )
    shared = tx.all(
        "SELECT g.attribute_id, g.access, g.group_id FROM type_ancestors t JOIN attributes a ON a.type = t.ancestor"
        " JOIN attribute_groups g ON g.attribute_id = a.id WHERE t.type = ? ORDER BY g.group_id",
        type,
    )
    found: dict[str, Attribute] = {}
    for row in rows:
        if row[2] not in found:
            found[row[2]] = _attribute(row, shared)
    return found


def check_value(tx: Tx, name: str, declared: Attribute | None, value: Any) -> None:
    """Raise BadValue unless the value fits the attribute; what is not declared fits as `STANDARD` says."""
    value_type, limits = STANDARD.get(name, ("any", Limits()))
    if declared is not None:
        value_type, limits = declared.value_type, Limits(**declared.limits)
    if value is None and not limits.allow_null:
        raise BadValue(name, "it cannot be empty")
    if value is not None:
        check(tx, name, value_type, limits, value)


def defaults(declared: dict[str, Attribute]) -> dict[str, Any]:
    """Return the values a token holds that was given none."""
    return {name: attribute.default for name, attribute in declared.items() if attribute.default is not None}


def lineage(tx: Tx, attribute: Attribute) -> list[Attribute]:
    """Return an attribute, its parent, the parent of that and so on: each must allow what is done to the first."""
    found = [attribute]
    while (above := found[-1].parent_id) is not None:
        found.append(_one(tx, "id = ?", above))
    return found


def is_present(tx: Tx, set_id: str, name: str) -> bool:
    """Tell whether an attribute is present in a set: a token stands there whose type declares it."""
    row = tx.one(
        "SELECT 1 FROM members m JOIN tokens t ON t.id = m.token_id JOIN type_ancestors y ON y.type = t.type"
        " JOIN attributes a ON a.type = y.ancestor WHERE m.set_id = ? AND a.name = ? LIMIT 1",
        *(set_id, name),
    )
    return row is not None


def _check_place(scene: Scene, type: str, name: str) -> None:
    if owned(scene, type).is_frozen:
        raise TypeClosed(type, "is frozen, because tokens or child types of it exist")
    if not WORD.fullmatch(name):
        raise BadName(name, "an attribute is a word of a-z, 0-9, _ and - that begins with a letter")
    if scene.tx.one("SELECT 1 FROM attributes WHERE type = ? AND name = ?", type, name):
        raise NameTaken(name)


def _named(tx: Tx, parent: str) -> Attribute:
    type, _, name = parent.rpartition(".")
    return _one(tx, "id = ? OR (type = ? AND name = ?)", parent, type, name)


def _one(tx: Tx, where: str, *values: str) -> Attribute:
    row = tx.one(f"SELECT {ATTRIBUTE_COLUMNS} FROM attributes WHERE {where}", *values)  # noqa: S608 (constants)
    if row is None:
        raise AttributeNotFound(values[0])
    shared = tx.all(
        "SELECT attribute_id, access, group_id FROM attribute_groups WHERE attribute_id = ? ORDER BY group_id", row[0]
    )
    return _attribute(row, shared)


def _narrowed(new: Attribute, above: Attribute | None) -> Attribute:
    """Return the attribute with the groups that count: those of its parent where it names none itself."""
    if above is None:
        return new
    full = f"{above.type}.{above.name}"
    if not set(new.read_groups) <= set(above.read_groups) and above.read_groups:
        raise BadAttribute(new.name, f"its parent {full} is not read by all its read_groups: name some of the parent's")
    if not set(new.write_groups) <= set(above.write_groups):
        raise BadAttribute(
            new.name, f"its parent {full} is not written by all its write_groups: name some of the parent's, or none"
        )
    return replace(
        new, read_groups=new.read_groups or above.read_groups, write_groups=new.write_groups or above.write_groups
    )


def _insert(tx: Tx, new: Attribute) -> str:
    tx.run(
        f"INSERT INTO attributes ({ATTRIBUTE_COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        *(new.id, new.type, new.name, new.value_type, json.dumps(new.limits)),
        *(_text(new.default), _text(new.read_needs), _text(new.write_needs), int(new.is_human)),
        *(new.parent_id, tx.clock.now_ms()),
    )
    _share(tx, new.id, "read", new.read_groups)
    _share(tx, new.id, "write", new.write_groups)
    return new.id


def _attribute(row: tuple[Any, ...], shared: list[tuple[Any, ...]]) -> Attribute:
    id, type, name, value_type, limits, default, read_needs, write_needs, is_human, parent_id = row
    groups_of: dict[str, list[str]] = {"read": [], "write": []}
    for attribute_id, access, group_id in shared:
        if attribute_id == id:
            groups_of[access].append(group_id)
    return Attribute(
        id,
        type,
        name,
        value_type,
        json.loads(limits),
        _parsed(default),
        _parsed(read_needs),
        _parsed(write_needs),
        bool(is_human),
        parent_id,
        groups_of["read"],
        groups_of["write"],
    )


def _share(tx: Tx, attribute_id: str, access: Access, group_ids: list[str]) -> None:
    for group_id in dict.fromkeys(group_ids):
        tx.run(
            "INSERT INTO attribute_groups (attribute_id, access, group_id) VALUES (?, ?, ?)",
            attribute_id,
            access,
            group_id,
        )


def _qualified() -> str:
    return ", ".join(f"a.{column}" for column in ATTRIBUTE_COLUMNS.split(", "))


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
