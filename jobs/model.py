"""What a job is: its function, what that declares and holds while it runs, its row, and the ways it can end.

Source: jobs.md 6.1 (states, lanes); sessions.md 2.13.
"""

import inspect
import json
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

import jsonschema
from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from core.calls import CALLS, Core
from core.durations import LONGEST_S, SHORTEST_S, is_duration
from jobs import processes
from jobs.authority import Authority
from jobs.clock import Clock, elsewhere
from jobs.errors import CredentialEnded, JobError
from jobs.nearest import nearest
from jobs.processes import Finished
from jobs.remotes.mapping import MOST
from store import Pool, Store, Tx, note_outside


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything.

    Args:
        slots: jobs of the long lane at once; per_user: of one user.
        max_waiting_per_user: jobs one user may have that wait, for a slot or for something else.
        max_schedules_per_user: schedules they may have.
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
    `activity_id`, and `job_id`, the job that waits for them); `unknown`, nobody has answered yet; `off`.
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
class Form:
    """What kind of answer fits.

    Args:
        schema: JSON Schema of the answer; None: any text.
        choices: the answers to choose from.
        default: the answer when nobody may be asked, or nobody answers in time.
        timeout_s: seconds until it expires; None: it waits as long as the job may.
        max_bytes: how long the answer may be as JSON; None: as long as a message.
    """

    schema: dict[str, Any] | None = None
    choices: tuple[Any, ...] | None = None
    default: Any = None
    has_default: bool = False
    is_secret: bool = False
    timeout_s: float | None = None
    max_bytes: int | None = None

    def check(self) -> None:
        """Raise ValueError for a form that no answer could be held against, JobError for a time nobody waits."""
        if self.timeout_s is not None and not is_duration(self.timeout_s):
            raise JobError(f"A question waits (timeout_s) {SHORTEST_S:g} to {LONGEST_S:.0f} s, not {self.timeout_s:g}.")
        try:
            jsonschema.validators.validator_for(self.schema or {}).check_schema(self.schema or {})
        except jsonschema.SchemaError as error:
            raise ValueError(f"the schema of a question is none: {error.message}") from error

    def fault(self, answer: Any) -> str | None:
        """Return why an answer does not fit, or None."""
        if self.max_bytes is not None and len(json.dumps(answer)) > self.max_bytes:
            return f"it is longer than {self.max_bytes} bytes"
        if self.choices is not None and not any(_are_same(answer, choice) for choice in self.choices):
            return f"choose one of {', '.join(str(choice) for choice in self.choices)}"
        schema = self.schema
        if schema is None and self.choices is None:
            schema = {"type": "string"}
        if schema is None:
            return None
        try:
            jsonschema.validate(answer, schema)
        except jsonschema.ValidationError as error:
            # Not the library's own text: it repeats the answer, which may be secret.
            where = "/".join(str(part) for part in error.absolute_path)
            return f"{where or 'the answer'} does not satisfy {error.validator!r}: {error.validator_value!r}"
        return None


def _are_same(answer: Any, choice: Any) -> bool:
    # In JSON `true` is not 1.
    return bool(answer == choice) and isinstance(answer, bool) == isinstance(choice, bool)


class Running(Protocol):
    """What a `JobContext` uses of the run it stands for: see `jobs.run.Run`."""

    id: str
    spec: "JobSpec"
    request: Request
    attempt: int
    authority: Authority
    withdrawn: CredentialEnded | None
    asked: int

    @property
    def store(self) -> Store: ...
    @property
    def threads(self) -> Pool: ...
    @property
    def is_asked_to_end(self) -> bool: ...
    @property
    def timer(self) -> Clock: ...
    def core(self, tx: Tx) -> Core: ...
    def checked(self, outcome: T) -> T: ...
    def report(self, done: float, total: float | None, message: str) -> None: ...
    def log(self, text: str) -> None: ...
    async def ask(self, text: str, form: Form) -> Any: ...
    async def post(
        self,
        function: str,
        data: dict[str, Any],
        text: str,
        form: Form,
        user_id: str,
        also: Callable[[Core, str, str], None],
    ) -> tuple[str, str]: ...
    async def posted(self) -> Any: ...
    async def run_child(
        self, function: str, data: dict[str, Any], secrets: tuple[str, ...], named_by: NamedBy
    ) -> Any: ...


_NOTHING: Any = object()


class JobContext:
    """The capability a job is given, in its user's name. It ends with the job: later calls are refused.

    It stands for the temporary credential of sessions.md 2.13: nothing that outlives the job is ever made.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Running) -> None:
        self._run: Running | None = run

    @property
    def id(self) -> str:
        """The job's id; the same in every attempt."""
        return self._live.id

    @property
    def user_id(self) -> str:
        """In whose name it runs."""
        return self._live.request.owner_id

    @property
    def session_id(self) -> str | None:
        """The session it works for, if any."""
        return self._live.request.session_id

    @property
    def attempt(self) -> int:
        """1 the first time; more after a retry or a crash."""
        return self._live.attempt

    @property
    def is_cancelling(self) -> bool:
        """True when somebody asked the job, or one around it, gently, to come to an end."""
        return self._live.is_asked_to_end

    @property
    def authority(self) -> Authority:
        """By whose credentials it runs now."""
        return self._live.authority

    @contextmanager
    def under(self, authority: Authority) -> Iterator[None]:
        """Do what is inside the block by these credentials: the job's own, and whoever else brought it."""
        run = self._live
        before, run.authority = run.authority, authority
        try:
            yield
        finally:
            run.authority = before

    @property
    def is_withdrawn(self) -> bool:
        """Tell whether it is being stopped because a credential by which it runs has ended."""
        return self._live.withdrawn is not None

    async def read(self, fn: Callable[[Core], T]) -> T:
        """Run `fn(core)` over one snapshot of what is committed."""
        return await self._live.store.read(lambda tx: fn(self._live.core(tx)))

    async def write(self, fn: Callable[[Core], T], *, is_record: bool = False) -> T:
        """Run `fn(core)` in a transaction of its own, stored at once; what belongs to the end goes into a Commit.

        Args:
            is_record: it only records what was asked and answered, which is no effect of the job.
        """
        run = self._live
        if run.spec.lane == "memory":
            raise RuntimeError(f"job {run.spec.name!r} is in the memory lane, which only reads")
        run.authority.require()
        return await run.store.write(lambda tx: run.checked(fn(self._live.core(tx))), is_record=is_record)

    async def run(
        self, function: str, data: dict[str, Any], *, secrets: tuple[str, ...] = (), named_by: NamedBy = ""
    ) -> Any:
        """Run another job function for the same user, inside this job's slot and time, and return its result.

        Args:
            secrets: texts in the data that no row, log line, event or error of that job may hold.
            named_by: who chose the function; empty: whoever brings this job's function.
        """
        return await self._live.run_child(function, data, secrets, named_by)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the job is: `done` of `total`, or just `done` where the end is not known.

        What goes backwards is passed over; at most ten reports a second are told, the newest wins.
        """
        self._live.report(done, total, message)

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        self._live.log(text)

    @property
    def asked(self) -> int:
        """How many questions it has put: a job run again after a crash finds its answers by their numbers."""
        return self._live.asked

    def skip_asks(self, number: int) -> None:
        """Take the questions up to `number` as put by what the job has done before and does not do again."""
        self._live.asked = number

    async def ask(
        self,
        text: str,
        *,
        schema: dict[str, Any] | None = None,
        choices: tuple[Any, ...] | None = None,
        default: Any = _NOTHING,
        is_secret: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """Ask a person and return the answer; the job leaves its slot to others meanwhile.

        When the session is not interactive, or time runs out, the answer is `default`; without one AskDeclined is
        raised. See `Form` for the rest.
        """
        has_default = default is not _NOTHING
        form = Form(schema, choices, default if has_default else None, has_default, is_secret, timeout_s)
        return await self._live.ask(text, form)

    async def post(
        self,
        function: str,
        data: dict[str, Any],
        text: str,
        form: Form,
        user_id: str,
        also: Callable[[Core, str, str], None],
    ) -> tuple[str, str]:
        """Put a question to another person, with a job of its own to wait for the answer; return both their ids.

        Args:
            function, data: the job, of the long lane, which calls `posted`; it is this job's user's.
            also: `also(core, job_id, ask_id)` runs in the transaction that stores both.
        """
        return await self._live.post(function, data, text, form, user_id, also)

    async def posted(self) -> Any:
        """Wait for the answer to the question this job was posted with. Raises AskDeclined."""
        return await self._live.posted()

    async def in_thread(self, fn: Callable[..., T], *args: Any) -> T:
        """Run what blocks, `fn(*args)`, in one of the server's threads for jobs. Raises PoolBusy, PoolLate."""
        async with self.waiting():
            return await self._live.threads.run(fn, *args)

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """Let others have the job's slot inside the block, in which it only waits; its time goes on."""
        return elsewhere(self._live.timer)

    async def sleep(self, seconds: float) -> None:
        """Wait for a while; the job leaves its slot to others meanwhile."""
        async with self.waiting():
            await self._live.store.clock.sleep(seconds)

    async def process(self, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command, its lines going to the job's log; it ends with the job, and with the server."""
        run = self._live
        note_outside()
        return await processes.run(arguments, cwd=cwd, env=env, on_line=run.log)

    def end(self) -> None:
        """Take the capability away: the runner does so when the job is over."""
        self._run = None

    @property
    def _live(self) -> Running:
        if self._run is None:
            raise RuntimeError("this job is over and can make no more calls")
        return self._run


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
    fn: Callable[[JobContext, Any], Coroutine[Any, Any, Any]]
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
) -> Callable[[Callable[[JobContext, Any], Coroutine[Any, Any, Any]]], JobSpec]:
    """Make a job function: `async def fn(job, data)`, with `data` an instance of `input`. See `JobSpec`."""

    def declare(fn: Callable[[JobContext, Any], Coroutine[Any, Any, Any]]) -> JobSpec:
        return JobSpec(
            name=name,
            fn=fn,
            input=input,
            calls=frozenset(calls),
            lane=lane,
            timeout_s=timeout_s,
            retries=retries,
            backoff_s=backoff_s,
            on_crash=on_crash,
            limit=limit,
            is_internal=is_internal,
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
