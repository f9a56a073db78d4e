"""Attributes as types declare them: what kind of value, within which limits, for whose eyes and hands.

Source: sessions.md 1.1. Several types of a line may declare one name: the nearest wins.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from core import groups, types
from core.calls import Scene, core_call
from core.errors import BadName, BadValue, NameTaken, TypeClosed
from core.limits import Limits, ValueType, check
from store import Tx, new_id, now_ms

Access = Literal["read", "write"]
Needs = list[str] | dict[str, bool]
COLUMNS = "id, type, name, value_type, limits, default_value, read_needs, write_needs, is_human"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A declared attribute.

    `read_needs` and `write_needs` name attributes that must be present in the same set: a list means any of them,
    an object (name -> true) all of them.
    """

    id: str
    type: str
    name: str
    value_type: str
    limits: dict[str, Any]
    default: Any
    read_needs: Needs | None
    write_needs: Needs | None
    is_human: bool
    read_groups: list[str] = field(default_factory=list)
    write_groups: list[str] = field(default_factory=list)


@core_call("core.attribute.create")
def create(
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
) -> str:
    """Declare an attribute of a type of the caller's that nothing was made of yet, and return its id.

    Args:
        minimum, maximum: of a number; of text, of its length in characters.
        allow_null: False needs a default.
        read_groups, write_groups: who may; none: whoever may read, and whoever may write, the token.
        read_needs, write_needs: attributes that must be present in the same set.
    """
    _check_place(scene, type, name)
    limits = Limits(minimum, maximum, pattern, choices, allow_null)
    limits.check_self(name, value_type, default)
    texts = (json.dumps(limits.given()), _text(default), _text(read_needs), _text(write_needs))
    attribute_id = _insert(scene.tx, type, name, value_type, *texts, int(is_human), now_ms())
    _share(scene.tx, attribute_id, "read", read_groups or [])
    _share(scene.tx, attribute_id, "write", write_groups or [])
    return attribute_id


@core_call("core.attribute.list", is_reading=True)
def list_(scene: Scene, type: str) -> list[Attribute]:
    """Return all a type's tokens carry, inherited attributes included, by name."""
    if not types.is_standard(type):
        types.read(scene, type)
    found = of_type(scene.tx, type)
    return [found[name] for name in sorted(found)]


def of_type(tx: Tx, type: str) -> dict[str, Attribute]:
    """Return what a type's tokens carry, by name: of several declarations the nearest."""
    if types.is_standard(type):
        return {}
    rows = tx.all(
        f"SELECT {_qualified()} FROM type_ancestors t JOIN attributes a ON a.type = t.ancestor"  # noqa: S608
        " WHERE t.type = ? ORDER BY t.rank",
        type,
    )
    found: dict[str, Attribute] = {}
    for row in rows:
        if row[2] not in found:
            found[row[2]] = _attribute(tx, row)
    return found


def checked(tx: Tx, declared: dict[str, Attribute], name: str, value: Any) -> Any:
    """Return the value if it fits the attribute. Raises BadValue."""
    attribute = declared[name]
    if value is None:
        if not attribute.limits.get("allow_null", True):
            raise BadValue(name, "it cannot be empty")
        return None
    check(tx, name, attribute.value_type, Limits(**attribute.limits), value)
    return value


def _check_place(scene: Scene, type: str, name: str) -> None:
    if types.owned(scene, type).is_frozen:
        raise TypeClosed(type, "is frozen, because tokens or child types of it exist")
    if not types.WORD.fullmatch(name):
        raise BadName(name, "an attribute is a word of a-z, 0-9, _ and - that begins with a letter")
    if scene.tx.one("SELECT 1 FROM attributes WHERE type = ? AND name = ?", type, name):
        raise NameTaken(name)


def _insert(tx: Tx, *values: Any) -> str:
    attribute_id = new_id("a_")
    tx.run(
        f"INSERT INTO attributes ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        *(attribute_id, *values),
    )
    return attribute_id


def _attribute(tx: Tx, row: tuple[Any, ...]) -> Attribute:
    id, type, name, value_type, limits, default, read_needs, write_needs, is_human = row
    shared: dict[str, list[str]] = {"read": [], "write": []}
    for access, group_id in tx.all(
        "SELECT access, group_id FROM attribute_groups WHERE attribute_id = ? ORDER BY group_id", id
    ):
        shared[access].append(group_id)
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
        shared["read"],
        shared["write"],
    )


def _share(tx: Tx, attribute_id: str, access: Access, group_ids: list[str]) -> None:
    for group_id in dict.fromkeys(group_ids):
        groups.require(tx, group_id)
        tx.run(
            "INSERT INTO attribute_groups (attribute_id, access, group_id) VALUES (?, ?, ?)",
            attribute_id,
            access,
            group_id,
        )


def _qualified() -> str:
    return ", ".join(f"a.{column}" for column in COLUMNS.split(", "))


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
