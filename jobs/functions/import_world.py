"""The world file: sets, tokens, types, groups, rules, commands, gifts, scripts and remotes as one JSON document.

It is read and checked as a whole before anything is made of it; whatever is wrong is told with its place in the file.
The format is documented in docs/reference/worlds.md.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core import attribute_values, groups, presence, remotes, rules, scripts, sets, tokens, types, users
from core.calls import Core
from core.errors import CoreError
from core.limits import ValueType
from core.remotes import Definition
from core.scripts import parsed
from jobs.errors import BadWorld
from jobs.model import Commit, JobContext, job

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


_DEFINITION = TypeAdapter(Definition)
_SCRIPT_OPTIONS = ("is_shared", "extra_params", "cool_down_s")


class ImportWorld(BaseModel):
    """Input of import_world; `into` None means the user's home."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    path: Path
    into: str | None = None


@dataclass(slots=True)
class Made:
    """Output of import_world: the ids of what was made, by the keys of the file."""

    name: str
    sets: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    groups: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    remotes: dict[str, str] = field(default_factory=dict)


@job(
    "import_world",
    ImportWorld,
    is_internal=True,
    timeout_s=600,
    calls=[
        "core.user.read",
        "core.user.find",
        "core.group.create",
        "core.group.member.add",
        "core.type.create",
        "core.attribute.create",
        "core.script.create",
        "core.remote.create",
        "core.token.create",
        "core.token.edit_attribute",
        "core.set.create",
        "core.set.show",
        "core.set.link.add",
        "core.set.tokens.add",
        "core.gift.create",
        "core.rule.create",
    ],
)
async def import_world(job: JobContext, data: ImportWorld) -> Commit[Made]:
    """Make sets, tokens, types, groups, rules, commands, gifts, scripts and remotes of a world file, or nothing."""
    world = await job.in_thread(_read, data.path)
    return Commit(partial(_make, world=world, into=data.into))


def _read(path: Path) -> World:
    try:
        return read(path)
    except OSError as error:
        raise BadWorld("", f"{path} cannot be read ({error.strerror})") from error


def _make(core: Core, world: World, into: str | None) -> Made:
    made = Made(world.name)
    root = into or core(users.read).home_set_id
    type_order, set_order = in_order(world)
    _make_groups(core, world, made)
    _make_sources(core, world, made)
    words = attributes_in_order(world)
    for key in type_order:
        _make_type(core, world, made, key, [word for owner, word in words if owner == key])
    for key in set_order:
        with _at(f"sets.{key}"):
            _make_set(core, world.sets[key], made, key, root)
    for key, part in world.sets.items():
        _fill_set(core, part, made, key)
    # Rules last: they name what stands anywhere in the file, and nothing of the import has to pass them.
    for key, part in world.sets.items():
        token_id = core(sets.show, made.sets[key]).token_id
        _make_rules(core, part.rules, made, f"sets.{key}.rules", token_id=token_id)
    for key, type_part in world.types.items():
        _make_rules(core, type_part.rules, made, f"types.{key}.rules", type=made.types[key])
    return made


def _make_groups(core: Core, world: World, made: Made) -> None:
    for key, part in world.groups.items():
        with _at(f"groups.{key}"):
            group_id = made.groups[key] = core(groups.create, f"{world.name}: {key}")
            for names, is_admin in ((part.members, False), (part.admins, True)):
                for name in names:
                    core(groups.add, group_id, core(users.find_named, name), is_admin)


def _make_type(core: Core, world: World, made: Made, key: str, words: list[str]) -> None:
    part = world.types[key]
    with _at(f"types.{key}"):
        parents = [made.types.get(parent, parent) for parent in part.parents]
        creators = made.groups[part.creators] if part.creators else None
        name = made.types[key] = core(
            types.create, key, parents, part.description, is_human=part.is_human, creators_group_id=creators
        )
    for word in words:
        place = f"types.{key}.attributes.{word}"
        with _at(place):
            core(types.declare, name, word, **_options(part.attributes[word], made, place))


def _options(part: AttributePart, made: Made, place: str) -> dict[str, Any]:
    options = {**dict(part), **_meant({"default": part.default}, made, place)}
    if part.parent is not None:
        type, _, word = part.parent.rpartition(".")
        options["parent"] = f"{made.types.get(type, type)}.{word}"
    for use in ("read_groups", "write_groups"):
        options[use] = [made.groups[group] for group in options[use]]
    return options


def _make_sources(core: Core, world: World, made: Made) -> None:
    for key, script in world.scripts.items():
        with _at(f"scripts.{key}"):
            name = f"{world.name}: {key}"
            options = {name: getattr(script, name) for name in _SCRIPT_OPTIONS}
            made.scripts[key] = core(
                scripts.create, name, script.program, script.initial_state, script.state, **options
            )
    for key, remote in world.remotes.items():
        with _at(f"remotes.{key}.definition"):
            made.remotes[key] = core(
                remotes.create,
                f"{world.name}: {key}",
                _DEFINITION.validate_python(remote.definition),
                remote.kind,
                is_shared=remote.is_shared,
                group_id=made.groups[remote.group] if remote.group else None,
            )


def _make_set(core: Core, part: SetPart, made: Made, key: str, root: str) -> None:
    parent = made.sets[part.parent] if part.parent else root
    how: dict[str, Any] = {"is_public": part.is_public, "is_human": part.is_human}
    values = _meant(part.attributes, made, f"sets.{key}.attributes")
    if part.type == "set":
        set_id = core(sets.create, part.name, parent, enter_policy=part.enter_policy, **how)
        token_id = core(sets.show, set_id).token_id
        for name, value in values.items():
            core(attribute_values.edit, token_id, name, value)
    else:
        token_id = core(tokens.create, made.types.get(part.type, part.type), part.name, values, **how)
        set_id = core(sets.create, None, parent, token_id=token_id, enter_policy=part.enter_policy)
    made.sets[key] = set_id


def _fill_set(core: Core, part: SetPart, made: Made, key: str) -> None:
    set_id = made.sets[key]
    for number, link in enumerate(part.links):
        with _at(f"sets.{key}.links.{number}"):
            core(sets.link, set_id, made.sets[link])
    for number, token in enumerate(part.tokens):
        place = f"sets.{key}.tokens.{number}"
        with _at(place):
            values = _meant(token.attributes, made, f"{place}.attributes")
            how: dict[str, Any] = {"is_public": token.is_public, "is_human": token.is_human}
            token_id = core(tokens.create, made.types.get(token.type, token.type), token.name, values, **how)
            core(sets.add_tokens, set_id, [token_id])
        made.tokens += 1
        _make_rules(core, token.rules, made, f"{place}.rules", token_id=token_id)
    for number, gift in enumerate(part.gifts):
        place = f"sets.{key}.gifts.{number}"
        with _at(place):
            values = _meant(gift.attributes, made, f"{place}.attributes")
            core(presence.create_gift, set_id, made.types.get(gift.type, gift.type), gift.name, values, gift.access)


def _make_rules(core: Core, parts: list[RulePart], made: Made, place: str, **on: str) -> None:
    for number, part in enumerate(parts):
        with _at(f"{place}.{number}"):
            modes = {name: value for name, value in (("allow", part.allow), ("deny", part.deny)) if value is not None}
            if len(modes) != 1:
                raise BadWorld("", "a rule has either allow or deny")
            mode, condition = next(iter(modes.items()))
            decision = {mode: _condition(condition, made, mode)}
            core(rules.create, part.event, decision, name=part.name, message=part.message, **on)


def _meant(values: dict[str, Any], made: Made, place: str) -> dict[str, Any]:
    """Return attribute values with the keys of scripts and remotes as their ids."""
    meant = {}
    for name, value in values.items():
        if isinstance(value, dict) and len(value) == 1 and (kind := next(iter(value))) in ("script", "remote"):
            value = {kind: _id(getattr(made, f"{kind}s"), kind, value[kind], f"{place}.{name}")}
        meant[name] = value
    return meant


def _condition(condition: Any, made: Made, place: str) -> Any:
    """Return a condition with the keys of the file as ids and full names."""
    if not isinstance(condition, dict) or len(condition) != 1:
        return condition  # told by the core, with its place
    kind, value = next(iter(condition.items()))
    here = f"{place}.{kind}"
    if kind in ("all", "any") and isinstance(value, list):
        return {kind: [_condition(part, made, f"{here}.{number}") for number, part in enumerate(value)]}
    if kind == "not":
        return {kind: _condition(value, made, here)}
    known = {"group": made.groups, "script": made.scripts, "remote": made.remotes}
    if kind in known:
        return {kind: _id(known[kind], kind, value, here)}
    if kind == "visited" and isinstance(value, list):
        return {kind: [_id(made.sets, "set", key, f"{here}.{number}") for number, key in enumerate(value)]}
    if kind == "type":
        return {kind: made.types.get(value, value) if isinstance(value, str) else value}
    if kind == "count" and isinstance(value, dict):
        return {kind: {**value, "type": made.types.get(str(value.get("type")), value.get("type"))}}
    return condition


def _id(known: dict[str, str], kind: str, key: Any, place: str) -> str:
    if not isinstance(key, str) or key not in known:
        raise BadWorld(place, f"there is no {kind} {key!r} in this file")
    return known[key]


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Have what is raised inside told with this place in the file."""
    try:
        yield
    except BadWorld as error:
        inner = (
            error.place if error.place.startswith(place) else ".".join(part for part in (place, error.place) if part)
        )
        raise BadWorld(inner, error.reason) from error
    except CoreError as error:
        raise BadWorld(place, str(error)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadWorld(".".join([place, *(str(part) for part in first["loc"])]), first["msg"]) from error


JOBS = (import_world,)
