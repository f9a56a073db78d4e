"""The embedded job runner: jobs run in this process, each with a row that commits together with its effects."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from core.errors import CoreError
from jobs import rows
from jobs.context import JobContext, OnProgress
from jobs.errors import BadJobData, JobFailed, JobsError, JobTimeout, UnknownFunction
from jobs.model import Commit, JobEnd, JobRow, JobSpec
from store import Store, StoreError, Tx, new_id, now_ms

log = structlog.get_logger("jobs")

Then = Callable[[Tx, Any], Any]
_JSON = TypeAdapter(Any)


class JobRunner(Protocol):
    """What the other rooms know of a runner; another engine has to keep to it."""

    def register(self, spec: JobSpec) -> None:
        """Add a job function."""

    async def run(
        self,
        function: str,
        data: BaseModel | dict[str, Any],
        *,
        user_id: str,
        session_id: str | None = None,
        parent_id: str | None = None,
        then: Then | None = None,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """Run a job and return its result once its end is stored."""


class EmbeddedRunner:
    """Runs jobs on the event loop. A job's effects and its end state are one transaction.

    Args:
        announce: called inside that transaction with what to tell the owner.
        describe: turns an error into `{kind, message, ...}` for the row.
    """

    def __init__(
        self,
        store: Store,
        specs: Iterable[JobSpec],
        announce: Callable[[Tx, JobEnd], None],
        describe: Callable[[BaseException], dict[str, Any]],
    ) -> None:
        self._store = store
        self._announce = announce
        self._describe = describe
        self._specs: dict[str, JobSpec] = {}
        for spec in specs:
            self.register(spec)

    @property
    def functions(self) -> list[JobSpec]:
        """Every registered job function, by name."""
        return [self._specs[name] for name in sorted(self._specs)]

    def register(self, spec: JobSpec) -> None:
        """Add a job function. Raises ValueError when the name is taken."""
        if spec.name in self._specs:
            raise ValueError(f"job function {spec.name!r} is registered twice")
        self._specs[spec.name] = spec

    async def recover(self) -> int:
        """End what a killed server left unfinished as `lost`, telling the owners, and return how many there were."""

        def sweep(tx: Tx) -> int:
            left = rows.interrupted(tx)
            error = {"kind": "JOB_LOST", "message": "The server stopped while the job ran. Run it again."}
            for row in left:
                rows.finish(tx, row.id, "lost", None, json.dumps(error))
                self._announce(
                    tx, JobEnd("job.failed", row.id, row.function, row.owner_id, row.session_id, None, error)
                )
            return len(left)

        return await self._store.write(sweep)

    async def run(
        self,
        function: str,
        data: BaseModel | dict[str, Any],
        *,
        user_id: str,
        session_id: str | None = None,
        parent_id: str | None = None,
        then: Then | None = None,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """Run a job in its user's name and return its result once its end is stored.

        Args:
            on_progress: called on the event loop with (done, total or None, message).
            then: `then(tx, result)` runs in the transaction that ends the job; what it returns is returned instead.

        Raises:
            UnknownFunction, BadJobData: nothing ran.
            JobTimeout, JobFailed: the row says so, and nothing of the job's last transaction is stored.
            CoreError, JobError, StoreError: raised by the job itself.
        """
        spec = self._specs.get(function)
        if spec is None:
            raise UnknownFunction(function)
        checked = _checked(spec, data)
        run = _Run(self, spec, checked, user_id, session_id, parent_id, then, on_progress)
        return await (run.in_memory() if spec.lane == "memory" else run.to_the_end())


class _Run:
    """One run of one job."""

    def __init__(
        self,
        runner: EmbeddedRunner,
        spec: JobSpec,
        data: BaseModel,
        user_id: str,
        session_id: str | None,
        parent_id: str | None,
        then: Then | None,
        on_progress: OnProgress | None,
    ) -> None:
        self.runner = runner
        self.store = runner._store
        self.spec = spec
        self.data = data
        self.parent_id = parent_id
        self.then = then
        self.created_at = now_ms()
        self.is_stored = False
        self.context = JobContext(new_id("j_"), spec, user_id, session_id, self.store, runner, on_progress)

    async def in_memory(self) -> Any:
        """Run a job that only reads: no row, no announcement."""
        try:
            async with asyncio.timeout(self.spec.timeout_s):
                result = await self.spec.fn(self.context, self.data)
        except TimeoutError as error:
            raise JobTimeout(self.context.id, self.spec.name, self.spec.timeout_s) from error
        except (CoreError, JobsError, StoreError):
            raise
        except Exception as error:
            raise self._unforeseen(error) from error
        finally:
            self.context.end()
        if self.then is not None:
            raise RuntimeError("a job of the memory lane has no transaction to add to")
        return result

    async def to_the_end(self) -> Any:
        """Run a job with a row, whatever happens to it."""
        # The row is stored only when the job has to wait for something: one that goes straight to its last
        # transaction is inserted there, already ended, which saves a statement and loses nothing.
        pending = asyncio.get_running_loop().call_soon(self._store_row)
        try:
            async with asyncio.timeout(self.spec.timeout_s):
                outcome = await self.spec.fn(self.context, self.data)
            pending.cancel()
            return await self._succeed(outcome)
        except TimeoutError as error:
            failure = JobTimeout(self.context.id, self.spec.name, self.spec.timeout_s)
            await self._end_badly("failed", failure)
            raise failure from error
        except asyncio.CancelledError as error:
            await asyncio.shield(self._end_badly("cancelled", error))
            raise
        except (CoreError, JobsError) as error:
            await self._end_badly("failed", error)
            raise
        except StoreError:
            raise  # the row cannot be written either; recovery finds it
        except Exception as error:
            failed = self._unforeseen(error)
            await self._end_badly("failed", failed)
            raise failed from error
        finally:
            pending.cancel()
            self.context.end()

    async def _succeed(self, outcome: Any) -> Any:
        ending = self.store.write(lambda tx: self._end_well(tx, outcome))
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            # The commit is on its way and cannot be called back: the honest answer is what became of it.
            return await ending

    def _end_well(self, tx: Tx, outcome: Any) -> Any:
        result = outcome.fn(self.context.core(tx)) if isinstance(outcome, Commit) else outcome
        answer = self.then(tx, result) if self.then is not None else result
        text = _JSON.dump_json(result).decode()
        self._write_end(tx, "succeeded", text, None)
        self._tell(tx, "job.completed", result, None)
        return answer

    async def _end_badly(self, state: str, error: BaseException) -> None:
        described = self.runner._describe(error)

        def end(tx: Tx) -> None:
            self._write_end(tx, state, None, json.dumps(described))
            self._tell(tx, "job.cancelled" if state == "cancelled" else "job.failed", None, described)

        await self.store.write(end)

    def _store_row(self) -> None:
        self.is_stored = True
        row = self._row("running", None, None, None)
        stored = self.store.write(lambda tx: rows.insert(tx, row))
        stored.add_done_callback(_note_unstored)

    def _write_end(self, tx: Tx, state: str, result: str | None, error: str | None) -> None:
        if self.is_stored:
            rows.finish(tx, self.context.id, state, result, error)
        else:
            rows.insert(tx, self._row(state, result, error, now_ms()))

    def _row(self, state: str, result: str | None, error: str | None, finished_at: int | None) -> JobRow:
        context = self.context
        return JobRow(
            context.id,
            self.spec.name,
            self.spec.lane,
            state,
            context.user_id,
            context.session_id,
            self.parent_id,
            self.data.model_dump_json(),
            result,
            error,
            self.created_at + int(self.spec.timeout_s * 1000),
            self.created_at,
            self.created_at,
            finished_at,
        )

    def _tell(self, tx: Tx, topic: str, result: Any, error: dict[str, Any] | None) -> None:
        context = self.context
        self.runner._announce(
            tx, JobEnd(topic, context.id, self.spec.name, context.user_id, context.session_id, result, error)
        )

    def _unforeseen(self, error: Exception) -> JobFailed:
        ref = f"r_{time.time_ns():x}"
        log.error("job_failed", ref=ref, job_id=self.context.id, function=self.spec.name, exc_info=error)
        return JobFailed(self.context.id, self.spec.name, ref)


def _checked(spec: JobSpec, data: BaseModel | dict[str, Any]) -> BaseModel:
    if isinstance(data, spec.input):
        return data
    try:
        return spec.input.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise BadJobData(spec.name, [dict(item) for item in errors]) from error


def _note_unstored(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()):
        log.error("job_row_not_stored", error=str(error))
