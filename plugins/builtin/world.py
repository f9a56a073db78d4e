"""Plugin: the actions `core.set_*` and `core.token_*`: building a world from a script.

`core.set_create` and `core.token_create` find what is there already under that name, so that playing a script twice,
or again after a crash, builds nothing twice. A set is named by its id, by a path from the working set, or not at all.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from jobs import Commit, JobContext, JobError, JobSpec, job
from plugins.builtin.playbooks import data_of
from plugins.hooks import Play, hookimpl, plays

Step = Literal[
    "set_create",
    "set_delete",
    "set_link",
    "set_unlink",
    "token_create",
    "token_edit",
    "token_delete",
    "token_add",
    "token_remove",
]
CALLS = {
    "set_create": "core.set.create",
    "set_delete": "core.set.delete",
    "set_link": "core.set.link.add",
    "set_unlink": "core.set.link.remove",
    "token_create": "core.token.create",
    "token_edit": "core.token.edit_attribute",
    "token_delete": "core.token.delete",
    "token_add": "core.set.tokens.add",
    "token_remove": "core.set.tokens.remove",
}
OWN = ("name", "set", "type", "public", "as", "data", "description")


class WorldStep(BaseModel):
    """Input of world.step: what to do, from which set on; `may_edit`: tokens that are there already."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    step: Step
    here: str
    home: str
    params: dict[str, Any]
    attributes: dict[str, Any] = {}
    may_edit: bool = False


@job(
    "world.step",
    WorldStep,
    is_internal=True,
    calls=[*CALLS.values(), "core.set.child", "core.set.resolve", "core.set.show", "core.set.read"],
)
async def world_step(job: JobContext, data: WorldStep) -> Commit[str]:
    """Do one step of building a world, in one transaction."""
    return Commit(partial(_step, data=data))


@hookimpl
def register_jobs() -> list[JobSpec]:
    """Bring the job above."""
    return [world_step]


@plays(",".join(f"core.{name}" for name in CALLS), is_calling=True)
async def build(play: Play) -> Any:
    """`!!core.set_create name:... set:PARENT public:true as:NAME`, `!!core.token_create name:... type:...`, and others.

    Parameters of `token_create` that it does not know become attributes.
    """
    for action in play.find():
        params = action.params
        play.require(CALLS[action.name])
        attributes = data_of(params, OWN) if action.name == "token_create" else {}
        if action.name == "token_create" and params.exists("description"):
            attributes["description"] = params.get("description")
        if play.holds_secret([params.get_map(), params.args]):
            raise JobError("A world holds no secret: others would read it. Hand it to git.* or play.run.")
        step = {
            "step": action.name,
            "here": play.session.working_set_id,
            "home": play.session.home_set_id,
            "params": params.get_map(),
            "attributes": attributes,
            "may_edit": play.may(CALLS["token_edit"]),
        }
        return await play.run("world.step", step)
    return None


def _step(core: Any, data: WorldStep) -> str:
    return _STEPS[data.step](core, data)


def _set_create(core: Any, data: WorldStep) -> str:
    name, parent = _need(data, "name"), _place(core, data, "set")
    found: str | None = core.named("core.set.child", set_id=parent, name=name)
    if found is not None:
        return found
    made: str = core.named("core.set.create", name=name, parent_id=parent, is_public=_says_yes(data, "public"))
    return made


def _set_delete(core: Any, data: WorldStep) -> str:
    _need(data, "set")
    place = _place(core, data, "set")
    core.named("core.set.delete", set_id=place)
    return place


def _link(core: Any, data: WorldStep) -> str:
    _need(data, "target")
    place, target = _place(core, data, "set"), _place(core, data, "target")
    is_there = _first(core, place, "link", lambda entry: entry.set_id == target) is not None
    if is_there == (data.step == "set_link"):
        return target
    core.named(CALLS[data.step], set_id=place, target_id=target)
    return target


def _token_create(core: Any, data: WorldStep) -> str:
    name, place = _need(data, "name"), _place(core, data, "set")
    type = data.params.get("type", "thing")
    if type in ("set", "user"):
        raise JobError(f"A token of type {type!r} is not made so: use core.set_create.")
    found = _standing(core, place, name, type)
    if found is None:
        found = core.named(
            "core.token.create",
            type=type,
            name=name,
            attributes=data.attributes,
            is_public=data.params.get("public", "true") == "true",
        )
        core.named("core.set.tokens.add", set_id=place, token_ids=[found])
    else:
        if data.attributes and not data.may_edit:
            raise JobError(f"{name!r} is there already, and the scopes do not include {CALLS['token_edit']}.")
        for attribute, value in data.attributes.items():
            core.named("core.token.edit_attribute", token_id=found, attribute=attribute, value=value)
    return found


def _token_edit(core: Any, data: WorldStep) -> str:
    token = _token(core, data)
    attribute = _need(data, "attribute")
    core.named("core.token.edit_attribute", token_id=token, attribute=attribute, value=data.params.get("value"))
    return token


def _token_delete(core: Any, data: WorldStep) -> str:
    token = _token(core, data)
    core.named("core.token.delete", token_id=token)
    return token


def _token_place(core: Any, data: WorldStep) -> str:
    token, place = _need(data, "token"), _place(core, data, "set")
    core.named(CALLS[data.step], set_id=place, token_ids=[token])
    return token


def _token(core: Any, data: WorldStep) -> str:
    """Return the token an action names: by its id, or by its name in a set."""
    named = _need(data, "token")
    found = _standing(core, _place(core, data, "set"), named, data.params.get("type"))
    return found or named


def _standing(core: Any, set_id: str, name: str, type: str | None) -> str | None:
    entry = _first(core, set_id, "token", lambda entry: entry.name == name and type in (None, entry.type))
    return None if entry is None else str(entry.id)


def _first(core: Any, set_id: str, kind: str, fits: Callable[[Any], bool]) -> Any:
    after = None
    while True:
        page = core.named("core.set.read", set_id=set_id, limit=200, kind=kind, after=after)
        for entry in page.entries:
            if fits(entry):
                return entry
        after = page.next
        if after is None:
            return None


def _place(core: Any, data: WorldStep, key: str) -> str:
    named = str(data.params.get(key, ""))
    if not named:
        return data.here
    if named.startswith("set_") and "/" not in named:
        place = core.named("core.set.show", set_id=named)
        return str(place.id)
    return str(core.named("core.set.resolve", set_id=data.here, path=named, home_set_id=data.home))


def _need(data: WorldStep, key: str) -> str:
    value = data.params.get(key)
    if not value:
        raise JobError(f"core.{data.step} needs the parameter {key!r}.")
    return str(value)


def _says_yes(data: WorldStep, key: str) -> bool:
    return str(data.params.get(key, "")).lower() in ("true", "yes", "1", "y")


_STEPS = {
    "set_create": _set_create,
    "set_delete": _set_delete,
    "set_link": _link,
    "set_unlink": _link,
    "token_create": _token_create,
    "token_edit": _token_edit,
    "token_delete": _token_delete,
    "token_add": _token_place,
    "token_remove": _token_place,
}
