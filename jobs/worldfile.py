"""The world file: sets, tokens, types, groups, rules, commands, gifts, scripts and remotes as one JSON document.

It is read and checked as a whole before anything is made of it; whatever is wrong is told with its place in the file.
The format is documented in docs/reference/worlds.md.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core import types
from core.errors import CoreError
from core.limits import ValueType
from core.scripts import parsed
from jobs.errors import BadWorld

MAX_BYTES = 16 * 1024 * 1024
MAX_PARTS = 2000  # made in one transaction, for which all others wait
_TWICE = "\x00twice"
# The words a world may use without declaring them: what a type of any other name is, it says itself.
STANDARD = frozenset({"thing", "note", "person", "place", "message", "file", "set", types.COMMAND})

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Name = Annotated[str, Field(min_length=1, max_length=1000)]


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", strict=True, frozen=True)


class GroupPart(_Part):
    """A group of users by name; the importing user is an admin of it anyway."""

    members: list[Name] = []
    admins: list[Name] = []


class AttributePart(_Part):
    """An attribute of a type; groups by their keys, its parent as `type.attribute`."""

    value_type: ValueType
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    choices: list[Any] | None = None
    allow_null: bool = True
    default: Any = None
    read_groups: list[Key] = []
    write_groups: list[Key] = []
    read_needs: list[str] | dict[str, bool] | None = None
    write_needs: list[str] | dict[str, bool] | None = None
    is_human: bool = True
    parent: Name | None = None


class TypePart(_Part):
    """A type; parents are keys of this file or standard words."""

    parents: list[Name] = []
    description: str = ""
    is_human: bool = True
    creators: Key | None = None
    attributes: dict[Key, AttributePart] = {}
    rules: list["RulePart"] = []


class ScriptPart(_Part):
    """A script: its text, or its lines."""

    text: str | list[str]
    initial_state: dict[str, Any] = {}
    state: dict[str, Any] = {}
    extra_params: dict[str, Any] = {}
    cool_down_s: float = 0
    is_shared: bool = False

    @property
    def program(self) -> str:
        """The text in one piece."""
        return self.text if isinstance(self.text, str) else "\n".join(self.text)


class RemotePart(_Part):
    """A remote; `group` may use it besides the importing user: a key."""

    kind: Literal["url", "manual"] = "url"
    definition: dict[str, Any]
    is_shared: bool = False
    group: Key | None = None


class RulePart(_Part):
    """A rule: exactly one of allow and deny."""

    event: Name
    name: str = ""
    message: str = ""
    allow: dict[str, Any] | None = None
    deny: dict[str, Any] | None = None


class TokenPart(_Part):
    """A token that stands in a set."""

    type: Name = "thing"
    name: Name
    attributes: dict[str, Any] = {}
    is_public: bool = True
    is_human: bool = True
    rules: list[RulePart] = []


class GiftPart(_Part):
    """What a set gives its visitors."""

    type: Name = "thing"
    name: Name
    attributes: dict[str, Any] = {}
    access: Literal["read", "write"] = "read"


class SetPart(_Part):
    """A set; `type` is that of the token that defines it."""

    name: Name
    parent: Key | None = None
    type: Name = "set"
    is_public: bool = True
    is_human: bool = True
    enter_policy: Literal["readers", "members", "owner", "rule"] = "readers"
    attributes: dict[str, Any] = {}
    links: list[Key] = []
    tokens: list[TokenPart] = []
    gifts: list[GiftPart] = []
    rules: list[RulePart] = []


class World(_Part):
    """A whole world."""

    format: Literal["rpcserver.world/1"]
    name: Name
    description: str = ""
    groups: dict[Key, GroupPart] = {}
    types: dict[Key, TypePart] = {}
    scripts: dict[Key, ScriptPart] = {}
    remotes: dict[Key, RemotePart] = {}
    sets: Annotated[dict[Key, SetPart], Field(min_length=1)]


def read(path: Path) -> World:
    """Return the world in a file. Raises BadWorld with the place of what is wrong; OSError when it cannot be read."""
    if path.stat().st_size > MAX_BYTES:
        raise BadWorld("", f"it is longer than {MAX_BYTES} bytes")
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise BadWorld(f"line {error.lineno}, column {error.colno}", error.msg) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise BadWorld("", "it is not UTF-8, or is nested too deeply") from error
    for place, name in _twice(document, ()):
        raise BadWorld(place, f"{name!r} is defined twice")
    try:
        world = World.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadWorld(".".join(str(part) for part in first["loc"]), first["msg"]) from error
    if (parts := _count(world)) > MAX_PARTS:
        raise BadWorld(
            "",
            f"it has {parts} parts, and all of a file is made at once: give it in files of at most {MAX_PARTS},"
            " the next imported `into` a set of the one before",
        )
    for fault in _faults(world):
        raise BadWorld(fault.place, fault.reason)
    return world


def _count(world: World) -> int:
    """Return how many things a file makes: whatever becomes a row or two."""
    rules = [*(part.rules for part in world.types.values()), *(part.rules for part in world.sets.values())]
    rules += [token.rules for part in world.sets.values() for token in part.tokens]
    return (
        sum(1 + len(part.members) + len(part.admins) for part in world.groups.values())
        + sum(1 + len(part.parents) + len(part.attributes) for part in world.types.values())
        + len(world.scripts)
        + len(world.remotes)
        + sum(1 + len(part.links) + len(part.tokens) + len(part.gifts) for part in world.sets.values())
        + sum(len(some) for some in rules)
    )


def in_order(world: World) -> tuple[list[str], list[str]]:
    """Return the keys of the types and of the sets, each after those it hangs on. Raises BadWorld for a cycle."""
    of_types = {key: [parent for parent in part.parents if parent in world.types] for key, part in world.types.items()}
    for key, word in attributes_in_order(world):
        above = _parent(world, key, word)
        if above is not None and above[0] != key:
            of_types[key].append(above[0])
    of_sets = {key: [part.parent] if part.parent else [] for key, part in world.sets.items()}
    return _sorted(of_types, "types", "parents"), _sorted(of_sets, "sets", "parent")


def attributes_in_order(world: World) -> list[tuple[str, str]]:
    """Return (type, attribute) of all that are declared, parents before children."""
    above = {}
    for key, part in world.types.items():
        for word in part.attributes:
            found = _parent(world, key, word)
            above[f"{key}.attributes.{word}"] = [".attributes.".join(found)] if found else []
    places = (place.partition(".attributes.") for place in _sorted(above, "types", "parent"))
    return [(key, word) for key, _, word in places]


@dataclass(frozen=True, slots=True)
class _Fault:
    place: str
    reason: str


def _faults(world: World) -> Iterator[_Fault]:
    for key, type_part in world.types.items():
        for number, parent in enumerate(type_part.parents):
            yield from _type_fault(world, parent, f"types.{key}.parents.{number}")
        yield from _group_faults(world, key, type_part)
        yield from _parent_faults(world, key, type_part)
    for key, script in world.scripts.items():
        try:
            parsed(script.program)
        except CoreError as error:
            yield _Fault(f"scripts.{key}.text", str(error))
    for key, remote in world.remotes.items():
        if remote.group is not None and remote.group not in world.groups:
            yield _Fault(f"remotes.{key}.group", f"there is no group {remote.group!r}")
    for key, place in world.sets.items():
        yield from _set_faults(world, f"sets.{key}", place)
    in_order(world)


def _parent(world: World, key: str, word: str) -> tuple[str, str] | None:
    """Return (type, attribute) of an attribute's parent, None when it has none in this file."""
    type, _, name = (world.types[key].attributes[word].parent or "").rpartition(".")
    return (type, name) if type in world.types and name in world.types[type].attributes else None


def _parent_faults(world: World, key: str, part: TypePart) -> Iterator[_Fault]:
    for word, attribute in part.attributes.items():
        type, _, name = (attribute.parent or "").rpartition(".")
        place = f"types.{key}.attributes.{word}.parent"
        if attribute.parent is not None and "." not in type and type not in world.types:
            yield _Fault(place, f"there is no type {type!r}: a parent is named as type.attribute")
        elif type in world.types and name not in world.types[type].attributes:
            yield _Fault(place, f"the type {type!r} declares no {name!r}")


def _group_faults(world: World, key: str, part: TypePart) -> Iterator[_Fault]:
    if part.creators is not None and part.creators not in world.groups:
        yield _Fault(f"types.{key}.creators", f"there is no group {part.creators!r}")
    for name, attribute in part.attributes.items():
        for use in ("read_groups", "write_groups"):
            for group in getattr(attribute, use):
                if group not in world.groups:
                    yield _Fault(f"types.{key}.attributes.{name}.{use}", f"there is no group {group!r}")


def _set_faults(world: World, place: str, part: SetPart) -> Iterator[_Fault]:
    if part.parent is not None and part.parent not in world.sets:
        yield _Fault(f"{place}.parent", f"there is no set {part.parent!r}")
    for number, link in enumerate(part.links):
        if link not in world.sets:
            yield _Fault(f"{place}.links.{number}", f"there is no set {link!r}")
    yield from _type_fault(world, part.type, f"{place}.type")
    for kind in ("tokens", "gifts"):
        for number, token in enumerate(getattr(part, kind)):
            yield from _type_fault(world, token.type, f"{place}.{kind}.{number}.type")
            if token.type == "set":
                yield _Fault(f"{place}.{kind}.{number}.type", "a set stands under `sets`")


def _type_fault(world: World, name: str, place: str) -> Iterator[_Fault]:
    if name not in world.types and name not in STANDARD:
        yield _Fault(place, f"there is no type {name!r}: declare it under types, or use {', '.join(sorted(STANDARD))}")


def _sorted(above: dict[str, list[str]], kind: str, field: str) -> list[str]:
    done: dict[str, None] = {}
    for start in above:
        # Each with the way that led there: a key met again on its own way closes a cycle.
        stack: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
        while stack:
            key, way = stack[-1]
            waiting = [one for one in above[key] if one not in done]
            if not waiting:
                done[key] = None
                stack.pop()
            elif waiting[0] in way:
                raise BadWorld(f"{kind}.{key}.{field}", f"{' -> '.join([*way, waiting[0]])} is a cycle")
            else:
                stack.append((waiting[0], (*way, waiting[0])))
    return list(done)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            found[_TWICE] = name
        found[name] = value
    return found


def _twice(value: Any, way: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if _TWICE in value:
            yield ".".join((*way, value[_TWICE])), value[_TWICE]
        for name, part in value.items():
            yield from _twice(part, (*way, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _twice(part, (*way, str(number)))
