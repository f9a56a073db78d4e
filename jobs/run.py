"""One run of one job: its attempt, its time, the jobs inside it, and which way it ends."""

import asyncio
import json
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from core.calls import Core, Scene, Tell
from core.errors import PassageChanged, UndeclaredCall
from core.quota import Quota
from jobs import rows
from jobs.asks import Asks
from jobs.clock import CURRENT, Clock
from jobs.dispatcher import EmbeddedDispatcher
from jobs.engine import Then
from jobs.errors import (
    FORESEEN,
    AccountFrozen,
    AskDeclined,
    BadJobData,
    CredentialEnded,
    JobCancelled,
    JobError,
    JobFailed,
    JobOvertaken,
    JobTimeout,
    ResultTooLarge,
    TooDeep,
)
from jobs.model import (
    Commit,
    Ending,
    Form,
    JobContext,
    JobEvent,
    JobRow,
    JobSpec,
    Limits,
    NamedBy,
    Request,
    problems,
)
from jobs.progress import Audience, OnProgress, Voice
from jobs.resilience import again_until_stored, at_last, backoff_s
from jobs.secrets import data_text, hidden, holds, spellings
from jobs.stats import Stats
from jobs.webhooks import Callbacks
from store import Pool, Row, Store, StoreError, Tx, named, new_id

T = TypeVar("T")


@types.coroutine
def go_on(work: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine that has been started by hand and now waits for `awaited`."""
    while True:
        try:
            yield awaited
        except BaseException as error:
            # What it waited for failed, or it is cancelled: it may know what to do about it, and wait for that.
            try:
                awaited = work.throw(error)
            except StopIteration as done:
                return done.value
        else:
            return (yield from work.__await__())


log = structlog.get_logger("jobs")

Announce = Callable[[Tx, JobEvent], None]
Describe = Callable[[BaseException], dict[str, Any]]


class Runtime(Protocol):
    """What a run needs of its runner (`jobs.runner.EmbeddedRunner`): what all runs share, and whom they tell."""

    store: Store
    limits: Limits
    quota: Quota
    threads: Pool
    asks: Asks
    audience: Audience
    callbacks: Callbacks
    dispatcher: EmbeddedDispatcher
    stats: Stats
    live: dict[str, "Run"]
    is_stopping: bool
    hear: Tell | None
    announce: Announce
    describe: Describe

    def build(self, function: str, data: dict[str, Any], request: Request) -> JobRow: ...
    def finish_later(self, job_id: str, work: Coroutine[Any, Any, None]) -> None: ...
    async def run(self, function: str, data: dict[str, Any], request: Request, *, parent: "Run") -> Any: ...


_JSON = TypeAdapter(Any)
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


def as_json(result: Any) -> bytes:
    """Return a job's result as it is stored and answered, in every lane alike."""
    return _JSON.dump_json(result)


def well(run: "Run", tx: Tx, outcome: Any) -> Any:
    """End a run as succeeded and return what its caller gets.

    Raises JobOvertaken, ResultTooLarge, CredentialEnded, or what it did.
    """
    run.authority.require()
    if isinstance(outcome, Ending):
        result = outcome.fn(tx)
    else:
        result = run.checked(outcome.fn(run.core(tx)) if isinstance(outcome, Commit) else outcome)
    answer = run.then(tx, result) if run.then is not None else result
    text = "null" if result is None else _text(run, result)
    if run.is_stored or run.is_talkative:
        if not _write(run, tx, "succeeded", text, None):
            raise JobOvertaken(run.id, run.spec.name)  # rolls back: the effects are the later attempt's
    else:
        rows.insert(tx, run.values("succeeded", text, is_over=True))
    run.tell(tx, "job.completed", {})
    tx.after_commit(lambda: run.runtime.audience.ended(run.id, result, None))
    return answer


def badly(run: "Run", tx: Tx, state: str, error: BaseException) -> None:
    """End a run as failed or cancelled; nothing happens when it has ended already."""
    is_cancelled = state == "cancelled"
    reason = run.withdrawn or asyncio.CancelledError() if is_cancelled else error
    described = hidden(run.runtime.describe(reason), run.secrets)
    if not _write(run, tx, state, None, json.dumps(described)):
        return
    run.tell(tx, "job.cancelled" if is_cancelled else "job.failed", {"error": described})
    told = run.withdrawn or JobCancelled(run.id, run.spec.name) if is_cancelled else error
    tx.after_commit(lambda: run.runtime.audience.ended(run.id, None, told))


async def badly_at_last(run: "Run", state: str, error: BaseException) -> None:
    """End a run as failed or cancelled as soon as that can be stored. Raises StoreFailed or StoreClosed."""
    await at_last(run.runtime.store, lambda tx: badly(run, tx, state, error))


async def again_or_badly(run: "Run", error: BaseException) -> None:
    """Put an attempt of the long lane that did not succeed back into the queue, or end its job.

    Raises StoreFailed or StoreClosed: then the next start decides.
    """
    if isinstance(error, StoreError):
        log.error("job_not_stored", job_id=run.id, function=run.spec.name, reason=str(error))
    if isinstance(error, CredentialEnded) and run.authority.over is not None:
        run.withdrawn = error
    if run.withdrawn is not None and not run.is_cancelling:
        await _withdrawn(run, run.withdrawn)
        return
    if not run.is_cancelling and _may_be_again(run, error):
        if await _again(run, error):
            return
        run.is_cancelling = True  # somebody's wish was stored while this attempt ended
    await badly_at_last(run, "cancelled" if run.is_cancelling else "failed", error)


async def _withdrawn(run: "Run", why: CredentialEnded) -> None:
    # What may be run again is held for a frozen account, and goes on when that is let go.
    is_held = isinstance(why, AccountFrozen) and run.spec.on_crash == "retry"
    described = json.dumps(run.runtime.describe(why))
    if not (is_held and await run.runtime.dispatcher.requeue(run.id, run.attempt, 0, described)):
        await badly_at_last(run, "cancelled", why)


def _may_be_again(run: "Run", error: BaseException) -> bool:
    if isinstance(error, StoreError):
        # The disk stopped it, as a crash would have.
        return run.spec.on_crash == "retry" and run.attempt < run.spec.retries + run.runtime.limits.max_attempts
    return isinstance(error, JobFailed | JobTimeout) and run.attempt <= run.spec.retries


async def _again(run: "Run", error: BaseException) -> bool:
    why = json.dumps(hidden(run.runtime.describe(error), run.secrets))
    return await run.runtime.dispatcher.requeue(run.id, run.attempt, backoff_s(run.spec.backoff_s, run.attempt), why)


def _text(run: "Run", result: Any) -> str:
    limit = run.runtime.limits.max_result_bytes
    if isinstance(result, _SIZED) and len(result) > limit:
        # It is longer yet as JSON, and making that of something huge would hold up everybody.
        raise ResultTooLarge(run.id, run.spec.name, len(result), limit)
    text = as_json(result).decode()
    if run.secrets:
        text = json.dumps(hidden(json.loads(text), run.secrets))
    if len(text) > limit:
        raise ResultTooLarge(run.id, run.spec.name, len(text), limit)
    return text


def _write(run: "Run", tx: Tx, state: str, result: str | None, error: str | None) -> bool:
    last = None if run.said is None else run.said.last
    is_end = run.is_stored and rows.finish(tx, run.id, run.attempt, state, result, error, last)
    if not is_end and (not run.is_stored or run.spec.lane == "local"):
        # One without a row gets it here: it had to wait for nothing, or the disk was full when it began to. It may
        # have its end already, when its caller gave up twice.
        is_end = rows.insert_if_new(tx, run.values(state, result, error, last, is_over=True))
    if not is_end:
        return False
    if run.asked:
        run.runtime.asks.cancel(tx, run.id)
    if run.said is not None:
        run.said.end(tx)
    if run.request.callback is not None:
        run.runtime.callbacks.due(tx, run.id, run.request.callback)
    return True


MAX_NESTED = 8


class Run:
    """One run. `is_stored`: its row is on its way to the disk; `depth`: how many jobs it stands inside.

    `data` is JSON text until the run begins when it comes from a row.
    """

    __slots__ = (
        "_baseline",
        "_children",
        "_clock",
        "_interruptions",
        "_started",
        "_undeclared",
        "asked",
        "attempt",
        "caller",
        "authority",
        "context",
        "created_at",
        "data",
        "depth",
        "id",
        "is_cancelling",
        "is_error",
        "is_stored",
        "on_progress",
        "parent",
        "request",
        "runtime",
        "said",
        "secrets",
        "spec",
        "task",
        "then",
        "withdrawn",
    )

    def __init__(
        self,
        runtime: Runtime,
        spec: JobSpec,
        data: BaseModel | str,
        request: Request,
        *,
        id: str | None = None,
        attempt: int = 1,
        parent: "Run | None" = None,
        then: Then | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.runtime = runtime
        self.spec = spec
        self.data = data
        self.request = request
        self.authority = request.authority  # a play's is also that of whoever brought the action it plays
        self.withdrawn: CredentialEnded | None = None
        self.secrets = spellings(request.secrets)
        self.id = id or request.job_id or new_id("j_")
        self.attempt = attempt
        self.parent = parent
        self.caller = CURRENT.get() if parent is None else None  # what waits for it to stand still while it asks
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.then = then
        self.on_progress = on_progress
        self.created_at = runtime.store.clock.now_ms()
        self.is_stored = id is not None
        self.is_cancelling = False
        self.is_error = True
        self.task: asyncio.Task[Any] | None = None
        self.asked = 0
        self.said: Voice | None = None
        self.context = JobContext(self)
        self._started = time.monotonic()
        self._baseline = 0
        self._interruptions = 0
        self._clock: Clock | None = None
        self._children: set[Run] | None = None
        self._undeclared: UndeclaredCall | None = None

    async def in_memory(self) -> Any:
        """Run a job that only reads: no row, nothing told."""
        try:
            result = self.checked(await self._attempt(_this_task()))
            if self.spec.plugin:
                self._require_json(result)
            self.is_error = False
            return result
        finally:
            self._over()

    async def at_once(self) -> Any:
        """Run a job of the local lane, or one inside another job, in the caller's task, and return its result.

        Raises what the job raised, JobTimeout, JobFailed or JobCancelled; whatever happens, the row says so.
        """
        task = _this_task()
        try:
            result = await self._succeed(await self._attempt(task))
            self.is_error = False
        except asyncio.CancelledError as error:
            self.is_error = False
            await asyncio.shield(self._end_badly("cancelled", error))
            self._take_back(task)
            if task.cancelling() > self._baseline:
                raise  # the caller, or a job around this one, is being stopped
            raise self.withdrawn or JobCancelled(self.id, self.spec.name) from error
        except StoreError as error:
            self._end_later("failed", error)  # its row cannot be written now, either
            raise
        except FORESEEN as error:
            # A move whose rules were not asked has done nothing, and is made again by whoever wanted it: that run
            # has the row.
            if self.is_stored or not isinstance(error, PassageChanged):
                await self._end_badly("failed", error)
            raise
        finally:
            self._over()
        self._take_back(task)
        if self.parent is not None and task.cancelling() > self._baseline:
            # The end was on its way when somebody stopped the job around this one: that one is to stop, still.
            raise asyncio.CancelledError
        return result

    async def in_background(self) -> None:
        """Run an attempt of the long lane in a task of its own: nothing is raised, whoever waits is told."""
        try:
            if (error := await self._tried()) is not None:
                if self.said is not None:
                    self.said.hush()
                self.is_error = not self.is_cancelling
                await again_or_badly(self, error)
        finally:
            self._over()
            self.said = None  # as with the clock

    async def store_first(self) -> None:
        """Have the row on disk before the job starts: the promise of the long lane, kept inside another job too."""
        self.is_stored = True
        await self.runtime.store.write(lambda tx: rows.insert(tx, self.values("running")), is_record=True)

    def interrupt(self) -> None:
        """Stop the attempt, if one is under way; an end that is being stored is not touched."""
        if self.task is not None:
            self._interruptions += 1
            self.task.cancel()

    def withdraw(self) -> None:
        """Stop the attempt for good, if a credential by which it runs has ended."""
        try:
            self.authority.require()
        except CredentialEnded as error:
            if self.withdrawn is None:
                self.withdrawn = error
                self.interrupt()

    @property
    def is_talkative(self) -> bool:
        """Tell whether there is more to its end than its row."""
        return self.said is not None or self.request.callback is not None

    @property
    def is_asked_to_end(self) -> bool:
        """Tell whether somebody wants this job, or one around it, to stop."""
        return self.is_cancelling or (self.parent is not None and self.parent.is_asked_to_end)

    @property
    def is_overdue(self) -> bool:
        """Tell whether the attempt goes on although it was to stop: it caught what should have ended it."""
        return self.task is not None and self.task.cancelling() > self._baseline

    async def run_child(self, function: str, data: dict[str, Any], secrets: tuple[str, ...], named_by: NamedBy) -> Any:
        """Run a job inside this one."""
        if self.depth + 1 >= MAX_NESTED:
            raise TooDeep(function, MAX_NESTED)
        own = self.request
        known = (*own.secrets, *secrets)
        request = Request(
            own.owner_id,
            self.authority,
            own.session_id,
            self.id,
            is_interactive=own.is_interactive,
            secrets=known,
            named_by=named_by or ("plugin" if self.spec.plugin else ""),
        )
        return await self.runtime.run(function, data, request, parent=self)

    def _voice(self) -> Voice:
        if self.said is None:
            runtime = self.runtime
            self.said = Voice(
                runtime.store,
                runtime.audience,
                runtime.limits,
                job_id=self.id,
                secrets=self.secrets,
                has_row=self.has_row,
                tell=lambda tx, value: self.tell(tx, "job.progress", value),
                on_progress=self.on_progress,
            )
        return self.said

    def report(self, done: float, total: float | None, message: str) -> None:
        """Tell how far it is."""
        self._voice().report(done, total, message)

    def log(self, text: str) -> None:
        """Add a line to its log."""
        self._voice().log(text)

    @property
    def store(self) -> Store:
        """Where its reads and writes go."""
        return self.runtime.store

    @property
    def threads(self) -> Pool:
        """What runs that which blocks."""
        return self.runtime.threads

    def core(self, tx: Tx) -> Core:
        """Return the core calls it declared, in its user's name, in this transaction."""
        scene = Scene(tx, self.request.owner_id, self.runtime.hear, self.runtime.quota)
        return Core(scene, self.spec.name, self.spec.calls, self._note_undeclared)

    def _note_undeclared(self, error: UndeclaredCall) -> None:
        self._undeclared = self._undeclared or error

    def checked(self, outcome: T) -> T:
        """Return an outcome. Raises UndeclaredCall if it made such a call, also when it caught the error."""
        if self._undeclared is not None:
            raise self._undeclared
        return outcome

    @property
    def has_row(self) -> bool:
        """Tell whether it is, or will be, on disk."""
        return self.is_stored or self.spec.lane != "memory"

    async def ask(self, text: str, form: Form) -> Any:
        """Put a question, in state waiting_input; neither a slot nor the job's time is used meanwhile."""
        if not self.has_row:
            raise RuntimeError(f"job {self.spec.name!r} is in the memory lane, which asks nobody")
        form.check()
        if holds([text, form.schema, form.choices, form.default], self.secrets):
            raise JobError("A question cannot hold a secret: those who are asked would read it.")
        if not self.request.is_interactive:
            if form.has_default:
                return form.default
            raise AskDeclined(text, "the session is not interactive, and there is no default")
        self._store()
        self.asked += 1
        event = JobEvent("", self.request.owner_id, self.id, self.spec.name, self.request.session_id, {})
        return await self._answer(self.runtime.asks.ask(text, form, self.asked, event))

    async def post(
        self,
        function: str,
        data: dict[str, Any],
        text: str,
        form: Form,
        user_id: str,
        also: Callable[[Core, str, str], None],
    ) -> tuple[str, str]:
        """Put a question to another person, with a job of its own that waits for the answer: see `JobContext.post`."""
        runtime, own = self.runtime, self.request
        row = runtime.build(function, data, Request(own.owner_id, self.authority, own.session_id))

        def put(tx: Tx) -> tuple[str, str]:
            job_id = runtime.dispatcher.add(tx, row)
            ask_id = runtime.asks.put(tx, text, form, job_id, user_id)
            also(self.core(tx), job_id, ask_id)
            return job_id, ask_id

        return await runtime.store.write(put)

    async def posted(self) -> Any:
        """Wait, in the same way, for the answer to the question that was put when the job was queued."""
        self.asked += 1
        return await self._answer(self.runtime.asks.posted(self.id))

    async def _answer(self, asking: Coroutine[Any, Any, Any]) -> Any:
        clock = self._time()
        clock.stop(self.id)
        try:
            return await asking
        finally:
            clock.go_on()
            await clock.back()

    def row(self, state: str) -> JobRow:
        """Return the row of this run in a state that is not its end."""
        return JobRow(*self.values(state))

    def values(
        self,
        state: str,
        result: str | None = None,
        error: str | None = None,
        progress: str | None = None,
        *,
        is_over: bool = False,
    ) -> Row:
        """Return the values of this run's row, in the order of its columns."""
        request, clock = self.request, self.runtime.store.clock
        is_queued = state == "queued"
        data = self.data if isinstance(self.data, str) else data_text(self.data, self.secrets)
        return (
            *(self.id, self.spec.name, self.spec.lane, state, request.owner_id, request.session_id),
            *(request.parent_id, request.retry_of, request.priority, 0 if is_queued else self.attempt),
            *(int(request.is_interactive), 0, 0, request.own_dedup_key, data),
            *(progress, result, error, request.callback),
            self.created_at - clock.ahead_ms + int(request.delay_s * 1000) if request.delay_s else None,
            *(self.created_at, None if is_queued else self.created_at),
            *((clock.now_ms(), clock.steady_ms()) if is_over else (None, None)),
            request.authority.stored,
            0,
        )

    def tell(self, tx: Tx, topic: str, details: dict[str, Any]) -> None:
        """Tell the owner something about this job, in the transaction that makes it true."""
        request = self.request
        event = JobEvent(
            topic, request.owner_id, self.id, self.spec.name, request.session_id, details, request.authority.stored
        )
        self.runtime.announce(tx, event)

    async def _attempt(self, task: asyncio.Task[Any]) -> Any:
        self._baseline = task.cancelling()
        clock = self._time()
        outside = CURRENT.set(clock)
        work = self.spec.fn(self.context, self.data)
        try:
            # The first stretch is run at once: only a job that has to wait for something needs a clock, and a row
            # before its last one. One that goes straight to its last transaction is inserted there, ended.
            try:
                awaited = work.send(None)
            except StopIteration as done:
                return done.value
            self._has_to_wait(task)
            async with clock.start():
                return await go_on(work, awaited)
        except TimeoutError as error:
            if clock.is_up:
                raise JobTimeout(self.id, self.spec.name, self.spec.timeout_s) from error
            raise self._unforeseen(error) from error
        except asyncio.CancelledError as error:
            if task.cancelling() > self._baseline:
                raise
            raise self._unforeseen(error) from error  # nobody stopped it: what it waited for was cancelled
        except FORESEEN:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # A plugin's sys.exit() is a fault of one job, not the end of the server.
            raise self._unforeseen(error) from error
        finally:
            self.task = None
            clock.end()
            CURRENT.reset(outside)

    def _has_to_wait(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        if self.parent is not None:
            self.parent._adopt(self)
        if self.has_row:
            self.runtime.live[self.id] = self
            self._store()

    def _store(self) -> None:
        if not self.is_stored:
            self.is_stored = True
            # A job inside this one may ask already, before the row of this one is due.
            row = self.values("waiting_input" if self._time().is_stopped else "running")
            stored = self.runtime.store.write(lambda tx: rows.insert(tx, row), is_record=True)
            stored.add_done_callback(_note_unstored)

    def _decoded(self, data: BaseModel | str) -> BaseModel:
        try:
            return data if isinstance(data, BaseModel) else self.spec.input.model_validate_json(data)
        except ValidationError as error:
            raise BadJobData(self.spec.name, problems(error)) from error  # its plugin takes other data now
        except Exception as error:
            raise self._unforeseen(error) from error

    async def _succeed(self, outcome: Any) -> Any:
        if self.said is not None:
            self.said.hush()
        # One of ours that stores nothing as it ends has only looked; of a plugin's nobody knows what it did outside.
        is_look = self.spec.is_internal and not isinstance(outcome, Commit | Ending) and self.then is None
        commit = self.runtime.store.write(lambda tx: well(self, tx, outcome), is_record=is_look)
        try:
            return await asyncio.shield(commit)
        except asyncio.CancelledError:
            # The commit is on its way and cannot be called back: the honest answer is what became of it.
            return await commit
        except FORESEEN:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._unforeseen(error) from error
        finally:
            del commit  # which holds the error that holds this frame

    def _require_json(self, result: Any) -> None:
        try:
            as_json(result)
        except Exception as error:
            raise self._unforeseen(error) from error

    async def _end_badly(self, state: str, error: BaseException) -> None:
        if self.said is not None:
            self.said.hush()
        try:
            await self.runtime.store.write(lambda tx: badly(self, tx, state, error), is_record=True)
        except StoreError:
            self._end_later(state, error)  # the caller hears of its own error, not of the disk's

    def _end_later(self, state: str, error: BaseException) -> None:
        """Have the end stored as soon as that can be, if there is a row that waits for it."""
        if self.is_stored:
            self.runtime.finish_later(self.id, badly_at_last(self, state, error))

    async def _tried(self) -> BaseException | None:
        """Make the attempt and store its end; return why it did not succeed."""
        try:
            if self.is_cancelling:
                return asyncio.CancelledError()  # between its row and its first step
            self.data = self._decoded(self.data)
            outcome = await self._attempt(_this_task())
            # What it came to is kept until the disk takes it: it is not done a second time for that.
            await again_until_stored(self.runtime.store, lambda: self._succeed(outcome))
            self.is_error = False
            return None
        except asyncio.CancelledError as error:
            if self.runtime.is_stopping:
                raise  # the row stays as it is, and the next start decides
            return error
        except FORESEEN as error:
            return error

    @property
    def timer(self) -> Clock:
        """The clock of this attempt, and all that stands still with it."""
        return self._time()

    def _time(self) -> Clock:
        if self._clock is None:
            self._clock = Clock(self.spec.timeout_s, _Around(self) if self.parent is None else self.parent._time())
        return self._clock

    def _adopt(self, child: "Run") -> None:
        if self._children is None:
            self._children = set()
        self._children.add(child)

    def _take_back(self, task: asyncio.Task[Any]) -> None:
        # What was asked of this job alone is done: the task goes on with whatever is around it.
        while self._interruptions:
            self._interruptions -= 1
            task.uncancel()

    def _over(self) -> None:
        self.runtime.stats.note(self.request.owner_id, self.spec.name, time.monotonic() - self._started, self.is_error)
        self.runtime.live.pop(self.id, None)
        self.context.end()
        self._clock = None  # it holds the run: a ring would wait for the collector
        if self.said is not None:
            self.said.hush()
        if self.parent is not None and self.parent._children is not None:
            self.parent._children.discard(self)
        for child in self._children or ():
            if child.task is not None:
                child.task.cancel()  # it was started, and not waited for

    def _unforeseen(self, error: BaseException) -> JobFailed | StoreError:
        meaning = named(error)
        if isinstance(meaning, StoreError):
            return meaning  # a full disk, or no descriptor left: whoever met it, in the same words
        ref = new_id("r_")
        # The text of an error may repeat what the job was handed: with secrets its kind has to do.
        what: dict[str, Any] = {"error": type(error).__name__} if self.secrets else {"exc_info": error}
        log.error("job_failed", ref=ref, job_id=self.id, function=self.spec.name, **what)
        return JobFailed(self.id, self.spec.name, ref)


class _Around:
    """What stands still while a job that is inside no other asks: its slot, its caller, and who waits for its end."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def stop(self, job_id: str) -> None:
        """Let others have the slot meanwhile."""
        run = self.run
        run.runtime.dispatcher.pause(run.id)
        run.runtime.audience.asks(run.id)
        if run.caller is not None:
            run.caller.stop(run.id)

    def go_on(self) -> None:
        """Want the slot again."""
        run = self.run
        run.runtime.dispatcher.resume(run.id)
        run.runtime.audience.goes_on(run.id)
        if run.caller is not None:
            run.caller.go_on()

    def leave(self) -> None:
        """Let others have the slot; whoever waits for the end of this job has given away their own."""
        self.run.runtime.dispatcher.pause(self.run.id)

    def come_back(self) -> None:
        """Want the slot again."""
        self.run.runtime.dispatcher.resume(self.run.id)

    async def back(self) -> None:
        """Wait for a slot, unless all that is left is to end, and for what the caller gave away."""
        if not self.run.is_overdue:
            await self.run.runtime.dispatcher.back(self.run.id)
        if self.run.caller is not None:
            await self.run.caller.back()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # a run is awaited
    return task


def _note_unstored(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()):
        log.error("job_row_not_stored", error=str(error))
