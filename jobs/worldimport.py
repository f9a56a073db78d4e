"""The job that makes a world of a world file: all of it in one transaction, or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from core import attributes, gifts, groups, live, remotes, rules, scripts, sets, tokens, types, users
from core.calls import Core
from core.definitions import Definition
from core.errors import CoreError
from jobs.context import JobContext
from jobs.errors import BadWorld
from jobs.model import Commit, job
from jobs.worldfile import AttributePart, RulePart, SetPart, World, attributes_in_order, in_order, read

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
            core(attributes.create, name, word, **_options(part.attributes[word], made, place))


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
            core(live.edit, token_id, name, value)
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
            core(gifts.create, set_id, made.types.get(gift.type, gift.type), gift.name, values, gift.access)


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
