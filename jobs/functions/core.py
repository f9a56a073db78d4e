"""The core's calls as jobs: one table of names; params, job and method of each follow from the call's own signature.

A call that asks a script, a remote or a person cannot be a plain function over a transaction: these are jobs of
their own, in `jobs.functions.attributes`. Source: sessions.md 3.4.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, create_model

from core import (
    activity,
    attribute_values,
    groups,
    listing,
    presence,
    remember,
    remotes,
    rules,
    scripts,
    sets,
    tokens,
    types,
    users,
)
from core.calls import Core, CoreCall
from core.users import User
from jobs.model import Commit, JobContext, JobSpec, Lane, job

OPERATOR = "operator"  # in whose name the command line works; no user has this id


class CreateUser(BaseModel):
    """Input of create_user."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    name: str


@job("create_user", CreateUser, calls=["core.user.create"], is_internal=True)
async def create_user(job: JobContext, data: CreateUser) -> Commit[User]:
    """Make a user with their token, group and home."""
    return Commit(lambda core: core(users.create, data.name))


MAX_PAGE = 200
MAX_AT_ONCE = 500  # things that one call puts somewhere, or takes away, in its transaction

# Every core call that is open to those with the scope.
OPEN: tuple[CoreCall[..., Any], ...] = (
    users.create,
    users.read,
    users.list_,
    users.freeze,
    groups.create,
    groups.read,
    groups.list_,
    groups.add,
    groups.remove,
    groups.delete,
    types.create,
    types.read,
    types.list_,
    types.retire,
    types.change_creators,
    types.declare,
    types.list_attributes,
    attribute_values.permissions,
    tokens.create,
    listing.read_one,
    attribute_values.edit,
    attribute_values.turn,
    tokens.give,
    tokens.delete,
    tokens.grant,
    sets.create,
    sets.show,
    listing.read,
    listing.list_sets,
    sets.change_parent,
    sets.change_policy,
    sets.link,
    sets.unlink,
    listing.links,
    sets.add_tokens,
    sets.remove_tokens,
    sets.truncate,
    sets.delete,
    presence.create_gift,
    presence.list_gifts,
    presence.delete_gift,
    remember.remember,
    remember.recall,
    rules.create,
    rules.list_,
    rules.delete,
    rules.events,
    scripts.create,
    scripts.edit,
    scripts.get,
    scripts.list_,
    scripts.delete,
    remotes.create,
    remotes.edit,
    remotes.get,
    remotes.list_,
    remotes.delete,
    activity.list_,
    activity.get,
)
OPERATORS = frozenset({"core.user.create", "core.user.list", "core.user.freeze"})  # the operator's alone


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A core call as the edge offers it: `fields` are its parameters without the position of a page.

    `returns` is the type of what it answers; of a page, the type of the list of its items.
    """

    name: str
    doc: str
    fields: dict[str, tuple[Any, Any]]
    returns: Any
    is_paged: bool
    is_operators: bool
    is_reading: bool


def open_calls() -> list[OpenCall]:
    """Return the calls the edge offers, in the order of the table."""
    found = []
    for call in OPEN:
        fields = parameters(call)
        is_paged = fields.pop("after", None) is not None
        doc = inspect.cleandoc(call.__doc__ or "")
        found.append(
            OpenCall(
                call.name, doc, fields, _returned(call, is_paged), is_paged, call.name in OPERATORS, call.is_reading
            )
        )
    return found


def parameters(call: CoreCall[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return a call's parameters as (type, default) by name; `...` where it must be given."""
    hints = get_type_hints(call.fn, include_extras=True)
    found = {}
    for name, parameter in list(inspect.signature(call.fn).parameters.items())[1:]:
        hint = hints[name]
        if not call.is_reading and get_origin(hint) is list:
            hint = Annotated[hint, Field(max_length=MAX_AT_ONCE)]
        elif not call.is_reading and hint == list[str] | None:
            hint = Annotated[list[str], Field(max_length=MAX_AT_ONCE)] | None
        if name == "limit":
            hint = Annotated[int, Field(ge=1, le=MAX_PAGE, description="How many items at most.")]
        elif (call.name, name) == ("core.type.create", "attributes"):
            hint = Annotated[dict[str, DECLARED], Field(max_length=MAX_AT_ONCE)] | None  # type: ignore[valid-type]
        elif name == "after" or any(is_dataclass(part) for part in (hint, *get_args(hint))):
            # It comes as a JSON array or object, and leaves its check as what the call takes.
            hint = Annotated[hint, BeforeValidator(TypeAdapter(hint).validate_python)]
        found[name] = (hint, ... if parameter.default is inspect.Parameter.empty else parameter.default)
    return found


def _returned(call: CoreCall[..., Any], is_paged: bool) -> Any:
    returned = get_type_hints(call.fn)["return"]
    if not is_paged:
        return returned
    return get_type_hints(returned)["entries"] if is_dataclass(returned) else get_args(returned)[0]


def _output(call: CoreCall[..., Any]) -> Any:
    return get_type_hints(call.fn).get("return", Any)


def model(call: str, doc: str, fields: dict[str, Any]) -> type[BaseModel]:
    """Return a strict model of these fields, named after the call."""
    name = "".join(part.title() for part in call.replace("_", ".").split("."))
    config = ConfigDict(defer_build=True, extra="forbid", strict=True, frozen=True)
    return create_model(name, __config__=config, __doc__=doc, **fields)


def job_of(call: CoreCall[..., Any]) -> JobSpec:
    """Return the job that makes the call: in memory when it only reads, else its change is the job's end."""
    doc = inspect.cleandoc(call.__doc__ or "")
    data = model(call.name, doc, parameters(call))
    run = _read if call.is_reading else _write
    fn: Callable[[JobContext, Any], Any] = partial(run, call)
    fn.__doc__ = doc
    lane: Lane = "memory" if call.is_reading else "local"
    # What is the operator's alone must not be reached by way of job.run.
    is_internal = call.name in OPERATORS
    return JobSpec(
        call.name, fn, data, frozenset({call.name}), lane, 30.0, is_internal=is_internal, output=_output(call)
    )


async def _read(call: CoreCall[..., Any], job: JobContext, data: BaseModel) -> Any:
    return await job.read(partial(_make, call, dict(data)))


async def _write(call: CoreCall[..., Any], job: JobContext, data: BaseModel) -> Commit[Any]:
    arguments = {name: _given(value) for name, value in dict(data).items()}
    if call.before is not None:
        while await job.write(lambda core: core.piece(call, **arguments)):
            pass  # other users' writes come in between
    return Commit(lambda core: core(call, **arguments))


def _make(call: CoreCall[..., Any], arguments: dict[str, Any], core: Core) -> Any:
    return core(call, **{name: _given(value) for name, value in arguments.items()})


def _given(value: Any) -> Any:
    """Return a parameter as the call takes it: of declarations only what was given."""
    if not isinstance(value, dict) or not any(isinstance(part, BaseModel) for part in value.values()):
        return value
    return {word: {name: getattr(part, name) for name in part.model_fields_set} for word, part in value.items()}


def _declaration() -> type[BaseModel]:
    fields = parameters(types.declare)
    kept = {name: field for name, field in fields.items() if name not in ("type", "name")}
    return model("core.declared.attribute", "An attribute of a type: see core.attribute.create.", kept)


DECLARED = _declaration()
JOBS = (create_user, *(job_of(call) for call in OPEN))
