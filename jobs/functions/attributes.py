"""The jobs that ask outside: reading and writing attributes, running commands, asking rules, trying things out.

Source: sessions.md 2.7, 4.1, 4.4.
"""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from core import attribute_values, presence, remotes, rules, scripts
from core.attribute_values import Behind, edit
from core.calls import Core
from core.errors import AttributeNotReadable, AttributeNotWritable, ChecksumMismatch
from core.presence import Question
from core.rules import Verdict, sources
from core.types import Source
from jobs.errors import JobsError, RemoteUnavailable
from jobs.functions.core import OpenCall
from jobs.model import Answer, Commit, JobContext, JobSpec
from jobs.remotes.manual import WAIT, WaitForPerson
from jobs.remotes.sources import CALLS, Outside
from jobs.scripts.runs import inputs

TIMEOUT_S = 60.0


class _Data(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", strict=True, frozen=True)


class ReadAttribute(_Data):
    """Return what a token's attribute answers the caller in a set: its script or remote is asked."""

    token_id: str
    attribute: str
    set_id: str | None = None


class WriteAttribute(ReadAttribute):
    """Hand a value to what stands behind an attribute: a script, a remote, a person; else it is stored."""

    value: Any = None


class RunScript(_Data):
    """Input of core.script.run."""

    script_id: str
    value: Any = None
    token_id: str | None = None
    params: dict[str, Any] | None = None


class TestRemote(_Data):
    """Input of core.remote.test."""

    remote_id: str
    value: Any = None
    token_id: str | None = None


class SendEvent(_Data):
    """Send an event of one's own, `custom.WORD`, to a token: its rules decide. Raises EventRefused."""

    event: str
    token_id: str


class AskPassage(_Data):
    """Input of session.ask: a move about to be made."""

    session_id: str
    from_set_id: str | None
    to_set_id: str


class RunCommand(_Data):
    """Input of command.run: write `value`, then read. `if_match`: the revision the command must still have."""

    token_id: str
    set_id: str
    value: Any = None
    data_set_id: str | None = None
    if_match: int | None = None


class SortCommands(_Data):
    """Input of command.sort: whose place in the pallet is to be found out."""

    token_ids: list[str]
    set_id: str


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command: of its write and of its read attribute, None where it has none."""

    written: Answer | None
    read: Answer | None


@dataclass(frozen=True, slots=True)
class Tried:
    """What a script or remote answered when it was tried."""

    value: Any
    printed: str = ""
    kept: dict[str, Any] | None = None
    code: int | None = None
    duration_ms: int | None = None


async def read_attribute(outside: Outside, job: JobContext, data: ReadAttribute) -> Answer:
    """Return what a token's attribute answers the caller in a set: its script or remote is asked.

    `state` is `ok`, `cached` (it was answered earlier), `unknown` (by a person who was not asked yet) or, for the
    token's owner alone, `pending`: a write is not answered yet, or `off`: it is turned off. `as_of` is when the value
    was found out, UTC milliseconds.

    Raises AttributeNotReadable when it is off, AttributePending while a write is not answered; RemoteUnavailable,
    ScriptFailed and ScriptLimit as what stands behind it has it.
    """
    try:
        asked = await _look(job, data.token_id, data.attribute, data.set_id, "read")
    except AttributeNotReadable as error:
        if error.is_owner:
            return Answer(None, "off")
        raise
    answer = await outside.read(job, asked)
    return replace(answer, as_of=outside.clock.now_ms()) if answer.state == "ok" and answer.as_of is None else answer


async def write_attribute(outside: Outside, job: JobContext, data: WriteAttribute) -> Answer | Commit[Answer]:
    """Hand a value to what stands behind an attribute: a script, a remote, a person; a value is replaced.

    `state` is `ok`, or `pending` when a person was asked: `activity_id` names the question, `job_id` the caller's job
    that waits for the answer.

    Raises AttributeNotWritable, and what reading it raises.
    """
    asked = await _look(job, data.token_id, data.attribute, data.set_id, "write")
    if asked.source.kind != "value":
        return await outside.write(job, asked, data.value)
    return Commit(
        partial(_edit, token_id=data.token_id, attribute=data.attribute, value=data.value, set_id=data.set_id)
    )


async def run_script(outside: Outside, job: JobContext, data: RunScript) -> Tried:
    """Try a script of the caller's; it remembers nothing of it.

    Returns `value`, what it `printed`, and as `kept` what it would remember.

    Args:
        value: what is written. token_id: a token of the caller's it is to answer for.
        params: in place of its extra_params.
    """
    script = await job.read(lambda core: core(scripts.get, data.script_id))
    asked = await _tried(job, "script", script.id, data.token_id)
    given = inputs(script, asked, data.value, outside.clock.now_ms())
    given |= {"local": dict(script.initial_state), "state": script.state, "data": {}}
    if data.params is not None:
        given["params"] = data.params
    outcome = await outside.scripts.engine.run(script.text, given, ("local", "state", "data"), job.user_id)
    return Tried(outcome.value, outcome.printed, outcome.kept)


async def test_remote(outside: Outside, job: JobContext, data: TestRemote) -> Tried:
    """Call a remote of the caller's once, as writing a value does; the call is recorded like any other.

    Returns `value`, the HTTP status as `code`, and `duration_ms`.

    Args:
        value: what is written. token_id: a token of the caller's it is to answer for.

    Raises RemoteUnavailable with what is wrong; also for a manual one, which a person answers.
    """
    await job.read(lambda core: core(remotes.get, data.remote_id))
    remote, owner_name = await job.read(lambda core: core(remotes.load, data.remote_id, job.user_id))
    if remote.kind == "manual":
        raise RemoteUnavailable("a person answers it: there is nothing to try")
    asked = await _tried(job, "remote", data.remote_id, data.token_id)
    reply = await outside.call(job, remote, owner_name, asked, data.value, is_write=True, may_repeat=False)
    return Tried(reply.value, code=reply.code, duration_ms=reply.duration_ms)


async def wait_for_person(outside: Outside, job: JobContext, data: WaitForPerson) -> Any:
    """Wait for the answer of the person a manual remote asked; it is the result."""
    return await outside.persons.wait(job, data)


async def send_event(outside: Outside, job: JobContext, data: SendEvent) -> dict[str, bool]:
    """Send an event of one's own, `custom.WORD`, to a token: its rules decide. Raises EventRefused."""
    found = await job.read(lambda core: core(rules.deciding, data.event, data.token_id))
    questions = [
        Question(kind, id, data.event, "", data.token_id, rule.owner_id)
        for rule in found
        for kind, id in sources(rule.decision)
    ]
    answers = await _judge(outside, job, questions)
    await job.read(lambda core: core(rules.ask, data.event, data.token_id, answers))
    return {"allowed": True}


async def ask_passage(outside: Outside, job: JobContext, data: AskPassage) -> dict[str, Verdict]:
    """Ask the scripts and remotes of the rules of a place left and a place entered."""
    questions = await job.read(lambda core: core(presence.passage, data.from_set_id, data.to_set_id))
    return await _judge(outside, job, questions)


async def run_command(outside: Outside, job: JobContext, data: RunCommand) -> Ran:
    """Run a command: what is given goes to its write attribute, then its read attribute answers."""
    write, has_read = await job.read(partial(_command, data=data))
    written = None
    if write is not None and write.source.kind != "value":
        written = await outside.write(job, write, data.value, data.data_set_id)
    elif write is not None:
        written = await job.write(partial(_edit, token_id=data.token_id, attribute="write", value=data.value))
    if not has_read or (written is not None and written.state == "pending"):
        return Ran(written, None)
    # Looked up after the write: what was written may be what is read.
    read = await _look(job, data.token_id, "read", data.set_id, "read")
    return Ran(written, await outside.read(job, read, data.data_set_id))


async def sort_commands(outside: Outside, job: JobContext, data: SortCommands) -> int:
    """Find out where commands stand in the pallet; those that do not answer keep their places."""
    known_now = 0
    for token_id in data.token_ids:
        asked = await _look(job, token_id, "sort", data.set_id, "read")
        name = asked.source.kept_as("sort")
        try:
            known_now += (await outside.read(job, asked)).state in ("ok", "cached")
        except JobsError:
            # It keeps its last place; asked again when that is stale, not at every listing.
            await job.write(partial(_touch, token_id=token_id, name=name))
    return known_now


def _command(core: Core, data: RunCommand) -> tuple[Behind | None, bool]:
    revision, attributes = core(attribute_values.command, data.token_id, data.set_id)
    if data.if_match is not None and data.if_match != revision:
        raise ChecksumMismatch(revision)
    if "write" not in attributes and data.value is not None:
        raise AttributeNotWritable("write", "this command takes no value")
    is_asked = Source.of(attributes.get("write")).kind != "value"
    if "write" not in attributes or not (is_asked or data.value is not None):
        return None, "read" in attributes
    return core(attribute_values.look_behind, data.token_id, "write", data.set_id, "write"), "read" in attributes


async def _judge(outside: Outside, job: JobContext, questions: Iterable[Question]) -> dict[str, Verdict]:
    asked = {question.id: question for question in questions}
    return {id: await _verdict(outside, job, question) for id, question in asked.items()}


async def _verdict(outside: Outside, job: JobContext, question: Question) -> Verdict:
    set_id = question.set_id or None
    asked = await job.read(
        lambda core: core(
            attribute_values.look_at_rule, question.token_id, set_id, question.kind, question.id, question.owner_id
        )
    )
    said = await outside.judge(job, asked)
    if isinstance(said, dict):
        message = said.get("message")
        return Verdict(bool(said.get("allow")), message if isinstance(message, str) else None)
    return Verdict(bool(said))


async def _look(job: JobContext, token_id: str, attribute: str, set_id: str | None, purpose: Any) -> Behind:
    return await job.read(lambda core: core(attribute_values.look_behind, token_id, attribute, set_id, purpose))


async def _tried(job: JobContext, kind: Literal["script", "remote"], id: str, token_id: str | None) -> Behind:
    return await job.read(lambda core: core(attribute_values.look_tried, token_id, kind, id))


def _touch(core: Core, token_id: str, name: str) -> None:
    core(attribute_values.note_no_answer, token_id, name)


def _edit(core: Core, token_id: str, attribute: str, value: Any, set_id: str | None = None) -> Answer:
    core(edit, token_id, attribute, value, set_id)
    return Answer(value)


_LOOK = ("core.attribute.look",)
_RULES = ("core.rule.look",)
# name, input, function, the core calls of its own, what callers are answered (None: only the server runs it)
_JOBS: tuple[tuple[str, type[BaseModel], Any, tuple[str, ...], Any], ...] = (
    ("core.attribute.read", ReadAttribute, read_attribute, _LOOK, Answer),
    ("core.attribute.write", WriteAttribute, write_attribute, (*_LOOK, "core.token.edit_attribute"), Answer),
    ("core.script.run", RunScript, run_script, ("core.script.get", "core.attribute.try"), Tried),
    ("core.remote.test", TestRemote, test_remote, ("core.remote.get", "core.attribute.try"), Tried),
    ("core.event.send", SendEvent, send_event, ("core.event.rules", "core.event.ask", *_RULES), dict[str, bool]),
    ("session.ask", AskPassage, ask_passage, ("core.set.passage", *_RULES), None),
    ("command.run", RunCommand, run_command, ("core.command.look", *_LOOK, "core.token.edit_attribute"), None),
    ("command.sort", SortCommands, sort_commands, (*_LOOK, "core.attribute.touch"), None),
)


def jobs(outside: Outside | None) -> list[JobSpec]:
    """Return the jobs that ask outside; with None only to be shown."""
    found = []
    for name, data, run, calls, returns in _JOBS:
        fn = partial(run, outside)
        fn.__doc__ = run.__doc__
        declared = frozenset((*calls, *CALLS))
        found.append(JobSpec(name, fn, data, declared, "local", TIMEOUT_S, is_internal=returns is None))
    waiting: Any = partial(wait_for_person, outside)  # type: ignore[arg-type]
    waiting.__doc__ = wait_for_person.__doc__
    settling = frozenset({"core.remote.activity.settle"})
    found.append(
        JobSpec(
            WAIT,
            waiting,
            WaitForPerson,
            settling,
            "long",
            TIMEOUT_S,
            on_crash="retry",
            is_internal=True,
            is_patient=True,
        )
    )
    return found


def open_calls() -> list[OpenCall]:
    """Return those that the edge offers as methods, beside the core's own."""
    return [
        OpenCall(
            name,
            inspect.getdoc(run) or "",
            {name: (field.annotation, field) for name, field in data.model_fields.items()},
            returns,
            is_paged=False,
            is_operators=False,
            is_reading=False,
        )
        for name, data, run, _, returns in _JOBS
        if returns is not None
    ]
