"""Types: templates of tokens, with parents of which the nearest wins.

A plain word (`set`, `user`, `command`, `file`) is a standard type: it is there without a row and declares what
`core.standard` says. A user's type is named `user.word`. Source: sessions.md 1.1.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from core import groups
from core.calls import Scene, core_call
from core.errors import BadName, NameTaken, NotWritable, TooMany, TypeClosed, TypeNotFound
from store import Tx

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
    from core import attributes as catalog  # which is made of types, and comes after them

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
        catalog.create(scene, full, word, **options)
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
