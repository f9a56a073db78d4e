"""One run of one job: its attempt, its time, and how it ends. The end and the effects are one transaction."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel, TypeAdapter

from core.errors import CoreError, PassageChanged
from jobs import hiding, rows
from jobs.asks import Form
from jobs.context import JobContext
from jobs.errors import (
    AskDeclined,
    JobCancelled,
    JobError,
    JobFailed,
    JobOvertaken,
    JobsError,
    JobTimeout,
    ResultTooLarge,
    TooDeep,
)
from jobs.model import Commit, JobEvent, JobRow, JobSpec, Request
from jobs.progress import Lines, OnProgress, Progress
from jobs.stretches import go_on
from store import Row, StoreError, StoreFull, Tx, new_id, now_ms

if TYPE_CHECKING:
    from jobs.runner import EmbeddedRunner

log = structlog.get_logger("jobs")

Then = Callable[[Tx, Any], Any]
MAX_NESTED = 8
STORE_FULL_RETRY_S = 1.0
_JSON = TypeAdapter(Any)


class Run:
    """One run. `is_stored`: its row is on its way to the disk; `depth`: how many jobs it stands inside."""

    __slots__ = (
        "_limit",
        "_lines",
        "_progress",
        "_secrets",
        "_started",
        "asked",
        "attempt",
        "context",
        "created_at",
        "data",
        "depth",
        "engine",
        "id",
        "is_asking",
        "is_cancelling",
        "is_error",
        "is_stored",
        "on_progress",
        "request",
        "spec",
        "task",
        "then",
    )

    def __init__(
        self,
        engine: "EmbeddedRunner",
        spec: JobSpec,
        data: BaseModel,
        request: Request,
        *,
        id: str | None = None,
        attempt: int = 1,
        depth: int = 0,
        then: Then | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.engine = engine
        self.spec = spec
        self.data = data
        self.request = request
        self._secrets = hiding.spellings(request.secrets)
        self.id = id or request.job_id or new_id("j_")
        self.attempt = attempt
        self.depth = depth
        self.then = then
        self.on_progress = on_progress
        self.created_at = now_ms()
        self.is_stored = id is not None
        self.is_cancelling = False
        self.is_asking = False
        self.is_error = True
        self._started = time.monotonic()
        self.task: asyncio.Task[Any] | None = None
        self.asked = 0
        self.context = JobContext(self)
        self._limit: asyncio.Timeout | None = None
        self._progress: Progress | None = None
        self._lines: Lines | None = None

    async def in_memory(self) -> Any:
        """Run a job that only reads: no row, nothing told."""
        try:
            result = self.context.checked(await self._attempt())
            self.is_error = False
            return result
        finally:
            self._over()

    async def at_once(self) -> Any:
        """Run a job of the local lane, or one inside another job, in the caller's task, and return its result.

        Raises what the job raised, JobTimeout, JobFailed or JobCancelled; whatever happens, the row says so.
        """
        try:
            result = await self._succeed(await self._attempt())
            self.is_error = False
            return result
        except asyncio.CancelledError as error:
            await asyncio.shield(self._end_badly("cancelled", error))
            if not self.is_cancelling or self.task is None:
                raise  # the caller, or a job around this one, is being stopped
            self.task.uncancel()
            raise JobCancelled(self.id, self.spec.name) from error
        except StoreError:
            raise  # the row cannot be written either; recovery finds it
        except (CoreError, JobsError) as error:
            # A move whose rules were not asked has done nothing, and is made again by whoever wanted it: that run
            # has the row.
            if self.is_stored or not isinstance(error, PassageChanged):
                await self._end_badly("failed", error)
            raise
        finally:
            self._over()

    async def in_background(self) -> None:
        """Run an attempt of the long lane in a task of its own: nothing is raised, whoever waits is told."""
        try:
            await self._succeed(await self._attempt())
            self.is_error = False
        except asyncio.CancelledError as error:
            if not self.is_cancelling:
                raise  # the server stops: the row stays as it is, and the next start decides
            await self._end_badly("cancelled", error)
        except StoreError as error:
            await self._end_at_last(error)
        except (JobFailed, JobTimeout) as error:
            if self.attempt <= self.spec.retries:
                await self._try_again(error)
            else:
                await self._end_badly("failed", error)
        except (CoreError, JobsError) as error:
            await self._end_badly("failed", error)
        finally:
            self._over()

    async def store_first(self) -> None:
        """Have the row on disk before the job starts: the promise of the long lane, kept inside another job too."""
        self.is_stored = True
        row = self.values("running")
        await self.engine.store.write(lambda tx: rows.insert(tx, row))

    async def run_child(self, function: str, data: dict[str, Any], secrets: tuple[str, ...]) -> Any:
        """Run a job inside this one."""
        if self.depth + 1 >= MAX_NESTED:
            raise TooDeep(function, MAX_NESTED)
        own = self.request
        request = Request(
            own.owner_id,
            own.session_id,
            self.id,
            is_interactive=own.is_interactive,
            secrets=(*own.secrets, *secrets),
        )
        return await self.engine.run(function, data, request, depth=self.depth + 1)

    def report(self, done: float, total: float | None, message: str) -> None:
        """Pass a progress report on."""
        message = hiding.hidden(message, self._secrets)
        if self._progress is None:
            self._progress = Progress(
                self.engine.store, self.id, lambda tx, value: self._tell(tx, "job.progress", value)
            )
        if self._progress.report(done, total, message):
            watcher = self.on_progress or self.engine.audience.watcher(self.id)
            if watcher is not None:
                watcher(done, total, message)

    def log(self, text: str) -> None:
        """Add a line to the log."""
        if self._lines is None:
            engine = self.engine
            self._lines = Lines(engine.store, self.id, engine.limits.max_lines, lambda: engine.audience.said(self.id))
        self._lines.add(hiding.hidden(text, self._secrets)[: self.engine.limits.max_line_characters])

    async def ask(self, text: str, form: Form) -> Any:
        """Put a question, in state waiting_input; neither a slot nor the job's time is used meanwhile."""
        if hiding.holds([text, form.schema, form.choices, form.default], self._secrets):
            raise JobError("A question cannot hold a secret: those who are asked would read it.")
        if not self.request.is_interactive:
            if form.has_default:
                return form.default
            raise AskDeclined(text, "the session is not interactive, and there is no default")
        self.asked += 1
        event = JobEvent("", self.request.owner_id, self.id, self.spec.name, self.request.session_id, {})
        return await self._answer(self.engine.asks.ask(text, form, self.asked, event, self._wait_for_input))

    async def posted(self) -> Any:
        """Wait, in the same way, for the answer to the question that was put when the job was queued."""
        self.asked += 1
        return await self._answer(self.engine.asks.posted(self.id, self._wait_for_input))

    async def _answer(self, asking: Coroutine[Any, Any, Any]) -> Any:
        asked_at = asyncio.get_running_loop().time()
        deadline = self._limit.when() if self._limit is not None else None
        # A job that asks before anything else has no clock yet: it gets one that stands still.
        left_s = self.spec.timeout_s if deadline is None else deadline - asked_at
        self.is_asking = True
        self.engine.dispatcher.pause(self.id)
        if self._limit is not None:
            self._limit.reschedule(None)
        try:
            answer = await asking
            await self.engine.store.write(lambda tx: rows.set_state(tx, self.id, self.attempt, "running"))
            return answer
        finally:
            self.is_asking = False
            self.engine.dispatcher.resume(self.id)
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time() + left_s)

    def row(self, state: str) -> JobRow:
        """Return the row of this run in a state that is not its end."""
        return JobRow(*self.values(state))

    def values(
        self, state: str, result: str | None = None, error: str | None = None, finished_at: int | None = None
    ) -> Row:
        """Return the values of this run's row, in the order of its columns."""
        request = self.request
        is_queued = state == "queued"
        return (
            *(self.id, self.spec.name, self.spec.lane, state, request.owner_id, request.session_id),
            *(request.parent_id, request.retry_of, request.priority, 0 if is_queued else self.attempt),
            *(int(request.is_interactive), 0, 0, request.dedup_key, hiding.data_text(self.data, self._secrets)),
            *(None, result, error, request.callback),
            self.created_at + int(request.delay_s * 1000) if request.delay_s else None,
            *(self.created_at, None if is_queued else self.created_at, finished_at),
        )

    async def _attempt(self) -> Any:
        work = self.spec.fn(self.context, self.data)
        try:
            # The first stretch is run at once: only a job that has to wait for something needs a clock, and a row
            # before its last one. One that goes straight to its last transaction is inserted there, ended.
            try:
                awaited = work.send(None)
            except StopIteration as done:
                return done.value
            self._has_to_wait()
            async with asyncio.timeout(None if self.is_asking else self.spec.timeout_s) as self._limit:
                return await go_on(work, awaited)
        except TimeoutError as error:
            if self._limit is not None and self._limit.expired():
                raise JobTimeout(self.id, self.spec.name, self.spec.timeout_s) from error
            raise self._unforeseen(error) from error
        except (CoreError, JobsError, StoreError):
            raise
        except (Exception, SystemExit) as error:
            # A guest's sys.exit() is a fault of one job, not the end of the server.
            raise self._unforeseen(error) from error

    def _has_to_wait(self) -> None:
        self.task = asyncio.current_task()
        if self.spec.lane == "memory":
            return
        self.engine.live[self.id] = self
        if self.is_cancelling and self.task is not None:
            self.task.cancel()  # asked to stop before it began
        if not self.is_stored:
            self.is_stored = True
            row = self.values("running")
            self.engine.store.write(lambda tx: rows.insert(tx, row)).add_done_callback(_note_unstored)

    async def _succeed(self, outcome: Any) -> Any:
        ending = self.engine.store.write(lambda tx: self._end_well(tx, outcome))
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            # The commit is on its way and cannot be called back: the honest answer is what became of it.
            return await ending
        except (CoreError, JobsError, StoreError):
            raise
        except (Exception, SystemExit) as error:
            raise self._unforeseen(error) from error

    def _end_well(self, tx: Tx, outcome: Any) -> Any:
        result = self.context.checked(outcome.fn(self.context.core(tx)) if isinstance(outcome, Commit) else outcome)
        answer = self.then(tx, result) if self.then is not None else result
        text = "null" if result is None else _JSON.dump_json(result).decode()
        if self._secrets:
            text = json.dumps(hiding.hidden(json.loads(text), self._secrets))
        if len(text) > self.engine.limits.max_result_bytes:
            raise ResultTooLarge(self.id, self.spec.name, len(text), self.engine.limits.max_result_bytes)
        if not self._write_end(tx, "succeeded", text, None):
            raise JobOvertaken(self.id, self.spec.name)  # rolls back: the effects are the later attempt's
        self._tell(tx, "job.completed", {})
        tx.after_commit(lambda: self.engine.audience.ended(self.id, result, None))
        return answer

    async def _end_badly(self, state: str, error: BaseException) -> None:
        described = hiding.hidden(self.engine.describe(error), self._secrets)

        def end(tx: Tx) -> None:
            if not self._write_end(tx, state, None, json.dumps(described)):
                return
            self._tell(tx, "job.cancelled" if state == "cancelled" else "job.failed", {"error": described})
            told = JobCancelled(self.id, self.spec.name) if state == "cancelled" else error
            tx.after_commit(lambda: self.engine.audience.ended(self.id, None, told))

        await self.engine.store.write(end)

    async def _end_at_last(self, error: StoreError) -> None:
        """End a job whose last transaction found no room on the disk, as soon as there is room to say so."""
        log.error("job_not_stored", job_id=self.id, function=self.spec.name, reason=str(error))
        while True:
            try:
                return await self._end_badly("failed", error)
            except StoreFull:
                await asyncio.sleep(STORE_FULL_RETRY_S)
            except StoreError:
                return  # broken or closing: the next start decides

    async def _try_again(self, error: Exception) -> None:
        delay_s = self.spec.backoff_s * 2 ** (self.attempt - 1) * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        why = json.dumps(hiding.hidden(self.engine.describe(error), self._secrets))
        await self.engine.dispatcher.requeue(self.id, self.attempt, delay_s, why)

    def _write_end(self, tx: Tx, state: str, result: str | None, error: str | None) -> bool:
        if not self.is_stored:
            rows.insert(tx, self.values(state, result, error, now_ms()))
            self._tell_outside(tx)
            return True
        if self._lines is not None:
            self._lines.flush(tx)
        if self._progress is not None and (last := self._progress.end()) is not None:
            rows.set_progress(tx, self.id, last)
        if self.asked:
            self.engine.asks.cancel(tx, self.id)
        is_end = rows.finish(tx, self.id, self.attempt, state, result, error)
        if is_end:
            self._tell_outside(tx)
        return is_end

    def _tell_outside(self, tx: Tx) -> None:
        if self.request.callback is not None:
            self.engine.callbacks.due(tx, self.id, self.request.callback)

    def _wait_for_input(self, tx: Tx) -> None:
        rows.set_state(tx, self.id, self.attempt, "waiting_input")

    def _tell(self, tx: Tx, topic: str, details: dict[str, Any]) -> None:
        request = self.request
        self.engine.announce(
            tx, JobEvent(topic, request.owner_id, self.id, self.spec.name, request.session_id, details)
        )

    def _over(self) -> None:
        self.engine.stats.note(self.request.owner_id, self.spec.name, time.monotonic() - self._started, self.is_error)
        self.engine.live.pop(self.id, None)
        self.context.end()
        if self._progress is not None:
            self._progress.end()

    def _unforeseen(self, error: BaseException) -> JobFailed:
        ref = new_id("r_")
        # The text of an error may repeat what the job was handed: with secrets its kind has to do.
        what: dict[str, Any] = {"error": type(error).__name__} if self._secrets else {"exc_info": error}
        log.error("job_failed", ref=ref, job_id=self.id, function=self.spec.name, **what)
        return JobFailed(self.id, self.spec.name, ref)


def _note_unstored(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()):
        log.error("job_row_not_stored", error=str(error))
