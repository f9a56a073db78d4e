"""What a job is: its function and declaration, its row, and the ways it can end.

Source: jobs.md 6.1 (states, lanes); sessions.md 2.13.
"""

import inspect
import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from core.calls import CALLS, Core
from jobs.authority import Authority
from jobs.nearest import nearest
from jobs.remotes.mapping import MOST
from store import Tx

if TYPE_CHECKING:
    from jobs.context import JobContext


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything.

    Args:
        slots: jobs of the long lane at once; per_user: of one user.
        max_waiting_per_user: jobs one user may have that wait, for a slot or for something else.
        max_schedules_per_user: schedules he may have.
        max_result_bytes: of a result as JSON. max_lines: of log kept for a job.
        gentle_s: what a job asked gently to end may take before it is stopped.
        stuck_s: how long a job that is stopped may go on without the log naming it.
        max_crashes: how often the server may be killed while a job runs, before that is lost.
        max_kept_per_user: records of ended jobs; of more the oldest are forgotten.
        max_attempts: how often a job may be started, its retries not counted, when the disk fails under it.
        keep_succeeded_s, keep_others_s: how long rows of ended jobs are kept.
    """

    slots: int = 16
    per_user: int = 8
    max_waiting_per_user: int = 10_000
    max_schedules_per_user: int = 1000
    max_result_bytes: int = 1024 * 1024
    max_lines: int = 1000
    max_line_characters: int = 2000
    gentle_s: float = 5.0
    stuck_s: float = 5.0
    max_crashes: int = 2
    max_attempts: int = 20
    max_kept_per_user: int = 200_000
    keep_succeeded_s: float = 24 * 3600.0
    keep_others_s: float = 7 * 24 * 3600.0
    prune_every_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    `state`: `ok`; `cached`, of `as_of` (UTC milliseconds); `pending`, until a write is answered (by a person: see
    `activity_id`, and `job_id`, the job that waits for him); `unknown`, nobody has answered yet; `off`.
    """

    value: Any
    state: str = "ok"
    activity_id: str | None = None
    job_id: str | None = None
    as_of: int | None = None


T = TypeVar("T")

Lane = Literal["memory", "local", "long"]
State = Literal["queued", "running", "waiting_input", "succeeded", "failed", "cancelled", "lost"]
NamedBy = Literal["", "plugin", "caller"]
MOST_LOOKED_AT = 2000
TERMINAL: tuple[State, ...] = ("succeeded", "failed", "cancelled", "lost")


@dataclass(frozen=True, slots=True)
class Commit(Generic[T]):
    """What a job returns to have its last changes stored together with its end state, or not at all.

    `fn(core)` runs inside the transaction that ends the job; its result is the job's.
    """

    fn: Callable[[Core], T]


@dataclass(frozen=True, slots=True)
class Ending(Generic[T]):
    """What a job of the server's own returns for rows that are not the core's; else as `Commit`.

    `fn(tx)` may run again, when the disk did not take what it did.
    """

    fn: Callable[[Tx], T]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job function as it is registered.

    Args:
        calls: the core calls it may make; any other is refused.
        lane: `memory` leaves no row and may only read; `local` starts at once, and its row commits with its effects;
            `long` is on disk before it starts, waits for a slot, and survives the server.
        timeout_s: seconds one attempt may take; the time a question waits for its answer does not count.
        retries: how often it is run again after an unforeseen error or a time-out; a promise that it may be. This,
            `on_crash` and `limit` are for the long lane.
        backoff_s: the pause before the first retry; doubled each time, give or take a fifth.
        on_crash: `retry` promises that it may be run again when the server was killed while it ran; `fail` ends it
            as `lost`, with a notice.
        limit: how many may run at once, not counting those inside other jobs; None: as many as there are slots.
        is_internal: only the server, or the plugin that brings it, starts it as a means to something else: it has no
            name of its own in scopes, and nobody names it, neither to `job.run` nor by way of a plugin.
        is_patient: of the long lane: it waits for a person nearly all its time, and needs no slot.
        output: the type of its result; None: what the function is annotated to return.
        plugin: who brings it; empty: the server itself.
        is_part: internal, but of use to plugins too: it does what the method of its name does, and needs that name in
            the scopes when a plugin runs it.
    """

    name: str
    fn: Callable[["JobContext", Any], Coroutine[Any, Any, Any]]
    input: type[BaseModel]
    calls: frozenset[str]
    lane: Lane
    timeout_s: float
    retries: int = 0
    backoff_s: float = 0.5
    on_crash: Literal["fail", "retry"] = "fail"
    limit: int | None = None
    is_internal: bool = False
    output: Any = None
    is_patient: bool = False
    plugin: str = ""
    is_part: bool = False

    def __post_init__(self) -> None:
        if self.lane != "long" and (self.retries or self.limit is not None or self.on_crash != "fail"):
            raise ValueError(f"job function {self.name!r}: retries, on_crash and limit are for the long lane")

    def is_known_to(self, who: NamedBy) -> bool:
        """Tell whether it is there for somebody to name."""
        if who == "plugin":
            return not self.is_internal or self.is_part or self.plugin != ""
        return who == "" or not self.is_internal

    @property
    def output_schema(self) -> dict[str, Any]:
        """The JSON Schema of the result; empty when the function does not say, or says what has none."""
        returned = self.output if self.output is not None else _returned(self.fn)
        try:
            return TypeAdapter(returned).json_schema(mode="serialization")
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
            return {}

    @property
    def doc(self) -> str:
        """The function's own words."""
        return (self.fn.__doc__ or "").strip()


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of `jobs`; data, progress, result, error and authority are JSON text, times UTC milliseconds.

    On the steady scale: `run_at`, and `age_from`, its end once more, from which the record's age counts.
    """

    id: str
    function: str
    lane: str
    state: str
    owner_id: str
    session_id: str | None
    parent_id: str | None
    retry_of: str | None
    priority: int
    attempt: int
    is_interactive: int
    is_held: int
    is_cancelling: int
    dedup_key: str | None
    data: str
    progress: str | None
    result: str | None
    error: str | None
    callback: str | None
    run_at: int | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    age_from: int | None
    authority: str
    crashes: int = 0

    @property
    def is_over(self) -> bool:
        """Tell whether the job has ended."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants a job, and how.

    Args:
        authority: the credentials that bring it, all of which have to allow it.
        session_id: the session it works for, if any.
        parent_id: the job that started it, if any.
        is_interactive: whether it may ask; otherwise a question gets its default, or fails.
        priority: among one user's waiting jobs, higher goes first.
        delay_s: seconds to wait before it may start.
        dedup_key: the same key, function, owner and scopes give the same job, for as long as its row is kept.
        callback: JSON text of where to tell of its end.
        job_id: the id it is to have; None: a new one.
        secrets: texts in its data that stand in none of its rows, lines, events and errors.
        admitted: the name under which it was asked already whether it may run, and counted.
        named_by: who chose the function; empty: the server itself, for what it does anyway.
    """

    owner_id: str
    authority: Authority
    session_id: str | None = None
    parent_id: str | None = None
    retry_of: str | None = None
    is_interactive: bool = True
    priority: int = 0
    delay_s: float = 0
    dedup_key: str | None = None
    callback: str | None = None
    job_id: str | None = None
    secrets: tuple[str, ...] = ()
    admitted: str = ""
    named_by: NamedBy = ""

    @property
    def own_dedup_key(self) -> str | None:
        """The key as its row has it."""
        return None if self.dedup_key is None else self.authority.own(self.dedup_key)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job, told inside the transaction that makes it true.

    `topic` is one of job.started, job.progress, job.completed, job.failed, job.cancelled, ask.opened, ask.resolved,
    schedule.missed, schedule.withdrawn; `authority` is who brought the job or schedule, as rows have it; `details` is
    what the topic adds.
    """

    topic: str
    owner_id: str
    job_id: str | None
    function: str
    session_id: str | None
    details: dict[str, Any]
    authority: str = "[]"


def job(
    name: str,
    input: type[BaseModel],
    *,
    calls: Iterable[str] = (),
    lane: Lane = "local",
    timeout_s: float = 30.0,
    retries: int = 0,
    backoff_s: float = 0.5,
    on_crash: Literal["fail", "retry"] = "fail",
    limit: int | None = None,
    is_internal: bool = False,
    is_part: bool = False,
) -> Callable[[Callable[["JobContext", Any], Coroutine[Any, Any, Any]]], JobSpec]:
    """Make a job function: `async def fn(job, data)`, with `data` an instance of `input`. See `JobSpec`."""

    def declare(fn: Callable[["JobContext", Any], Coroutine[Any, Any, Any]]) -> JobSpec:
        return JobSpec(
            name,
            fn,
            input,
            frozenset(calls),
            lane,
            timeout_s,
            retries,
            backoff_s,
            on_crash,
            limit,
            is_internal,
            is_part=is_part,
        )

    return declare


def faults(spec: JobSpec) -> list[str]:
    """Return what in a declaration can never work, in words for its author; empty for a good one."""
    found = []
    if not inspect.iscoroutinefunction(_plain(spec.fn)):
        found.append("its function is not `async def`")
    if not (isinstance(spec.input, type) and issubclass(spec.input, BaseModel)):
        found.append(f"its input is {spec.input!r:.60}, not a pydantic model")
    for name, given, allowed in (("lane", spec.lane, get_args(Lane)), ("on_crash", spec.on_crash, ("fail", "retry"))):
        if given not in allowed:
            found.append(f"{name} is {given!r:.60}, not one of {', '.join(allowed)}")
    for name, number, least in (("timeout_s", spec.timeout_s, 0.001), ("backoff_s", spec.backoff_s, 0)):
        if not isinstance(number, int | float) or not least <= number < math.inf:
            found.append(f"{name} is {number!r:.60}, not a number of seconds above {least}")
    for name, count, least in (("retries", spec.retries, 0), ("limit", 1 if spec.limit is None else spec.limit, 1)):
        if not isinstance(count, int) or count < least:
            found.append(f"{name} is {count!r:.60}, not a whole number of at least {least}")
    for call in sorted(spec.calls - CALLS.keys()):
        near = nearest(call, CALLS)
        found.append(f"there is no core call {call!r}" + (f": did you mean {', '.join(near)}?" if near else ""))
    return found


def problems(error: ValidationError) -> list[dict[str, Any]]:
    """Return what does not fit, field by field, without what was given: the first of them, and how many more.

    Of very many only how many there are: telling each apart would take longer than reading them did.
    """
    count = error.error_count()
    if count > MOST_LOOKED_AT:
        return [{"loc": (), "msg": f"{count} values do not fit", "type": "too_many"}]
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [dict(item) for item in found[:MOST]]
    if count > MOST:
        told.append(
            {"loc": found[MOST]["loc"][:1], "msg": f"{count - MOST} more values do not fit", "type": "too_many"}
        )
    return told


def _plain(fn: Any) -> Any:
    while isinstance(fn, partial):
        fn = fn.func
    return fn


def _returned(fn: Any) -> Any:
    """Return the type a job function answers with, whether by itself or by a Commit."""
    returned = get_type_hints(_plain(fn)).get("return", Any)
    return get_args(returned)[0] if get_origin(returned) is Commit else returned
