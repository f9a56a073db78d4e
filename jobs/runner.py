"""The embedded engine: jobs on the event loop of this process.

Source: jobs.md 6.1 and 6.3.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from core.calls import Policy
from core.notices import Tell
from jobs import recovery, rows, stuck
from jobs.asks import Asks
from jobs.audience import Audience
from jobs.callbacks import Callbacks, no_callbacks
from jobs.clock import CURRENT
from jobs.dispatcher import EmbeddedDispatcher
from jobs.engine import Mode, Then
from jobs.errors import (
    BadApprover,
    BadJobData,
    DataHidden,
    JobCancelled,
    JobEnded,
    JobNotFound,
    TooManyJobs,
    UnknownFunction,
)
from jobs.fitting import fitted
from jobs.hiding import HIDDEN_DATA
from jobs.limits import Limits
from jobs.model import JobEvent, JobRow, JobSpec, Request, problems
from jobs.progress import OnProgress
from jobs.run import Run
from jobs.schedules import Schedules
from jobs.stats import Stats
from jobs.storing import at_last
from store import Store, Tx

Announce = Callable[[Tx, JobEvent], None]
Describe = Callable[[BaseException], dict[str, Any]]


class EmbeddedRunner:
    """Runs jobs on the event loop. A job's effects and its end state are one transaction.

    Args:
        announce: called inside a transaction with what to tell the owner.
        describe: turns an error into `{kind, message, code, ...}` for the row.
        hear: called inside a transaction with what a job's core calls did to the world.
    """

    def __init__(
        self,
        store: Store,
        specs: Iterable[JobSpec],
        announce: Announce,
        describe: Describe,
        limits: Limits | None = None,
        callbacks: Callbacks | None = None,
        policy: Policy | None = None,
        hear: Tell | None = None,
    ) -> None:
        self.store = store
        self.announce = announce
        self.describe = describe
        self.hear = hear
        self.limits = limits or Limits()
        self.policy = policy or Policy()
        self.stats = Stats()
        self.audience = Audience()
        self.live: dict[str, Run] = {}
        self.is_stopping = False
        self._is_server = True
        self._starting: dict[str, bool] = {}
        self.asks = Asks(store, announce)
        self.callbacks = callbacks or Callbacks(store, *no_callbacks())
        self.dispatcher = EmbeddedDispatcher(
            store, self.limits.slots, self.limits.per_user, self._limit_of, self._is_patient
        )
        self.schedules = Schedules(store, self.build, self.add, announce, self.limits.max_schedules_per_user)
        self._specs: dict[str, JobSpec] = {}
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
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

    async def start(self, *, is_server: bool = True) -> None:
        """Take up what the last server left, then run what comes. Call `stop` from the same task.

        Args:
            is_server: False for a command that has jobs of its own to run and leaves all others, and what is due, to
                the next server: it may not even know their functions.
        """
        self._is_server = is_server
        if is_server:
            await recovery.recover(self)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        work = [self.dispatcher.worker(self._execute), stuck.watch(self)]
        if is_server:
            work += [recovery.upkeep(self), self.schedules.run(), self.callbacks.run()]
        self._tasks = [group.create_task(each) for each in work]

    async def stop(self) -> None:
        """Stop the jobs of the long lane where they are: their rows stay, and the next start decides."""
        self.is_stopping = True
        for task in self._tasks:
            task.cancel()
        late = asyncio.get_running_loop().call_later(self.limits.stuck_s, stuck.tell, self)
        await self._stack.aclose()
        late.cancel()

    async def run(
        self,
        function: str,
        data: BaseModel | dict[str, Any],
        request: Request,
        *,
        then: Then | None = None,
        on_progress: OnProgress | None = None,
        parent: Run | None = None,
    ) -> Any:
        """Run a job and return its result once its end is stored.

        A job of the long lane waits for a slot; if the caller goes away, it goes on. One inside another job runs in
        that job's slot.

        Args:
            then: `then(tx, result)` runs in the transaction that ends the job, and what it returns is returned
                instead; only for the local lane.
            on_progress: called on the event loop with (done, total or None, message).
            parent: the run inside which it runs.

        Raises UnknownFunction or BadJobData when nothing ran; JobTimeout, JobFailed, JobCancelled or what the job
        raised when nothing of its last transaction is stored.
        """
        spec = self._spec(function)
        if then is not None and spec.lane != "local":
            raise ValueError(f"{function!r} is not of the local lane: nothing can be added to its transaction")
        run = Run(self, spec, _checked(spec, data), request, parent=parent, then=then, on_progress=on_progress)
        if spec.lane == "memory":
            return await run.in_memory()
        if spec.lane == "local":
            return await run.at_once()
        if parent is not None:
            await run.store_first()
            return await run.at_once()
        job_id = await self._submit(run)
        if on_progress is None:
            return await self.result(job_id)
        with self.audience.watched(job_id, on_progress):
            return await self.result(job_id)

    async def submit(self, function: str, data: BaseModel | dict[str, Any], request: Request) -> str:
        """Queue a job and return its id once its row is on disk. Raises also TooManyJobs."""
        spec = self._spec(function)
        return await self._submit(Run(self, spec, _checked(spec, data), request))

    async def result(self, job_id: str) -> Any:
        """Wait for a job's end and return its result, or raise what it raised. Raises JobNotFound.

        Whoever waits stands still while the job asks a person.
        """
        waiting = CURRENT.get()
        try:
            with nullcontext() if waiting is None else self.audience.patient(job_id, waiting):
                end = await self.audience.end(job_id, lambda: self.get(job_id))
        finally:
            if waiting is not None:
                await waiting.back()
        if isinstance(end, tuple):
            return _outcome(*end)
        if end is None:
            raise JobNotFound(job_id)
        if end.state == "succeeded":
            return json.loads(end.result or "null")
        raise JobEnded(job_id, json.loads(end.error or "{}"))

    async def wait(self, job_id: str, timeout_s: float | None = None) -> JobRow:
        """Wait until the job has ended, or the time is over, and return its row as it is then. Raises JobNotFound."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.audience.end(job_id, lambda: self.get(job_id))
        row = await self.get(job_id)
        if row is None:
            raise JobNotFound(job_id)
        return row

    async def cancel(self, job_id: str, mode: Mode = "now") -> bool:
        """Stop a job, with the jobs inside it; one that waits never starts. False when it has ended already.

        Args:
            mode: `now` interrupts it; `gently` lets it see `is_cancelling` and end by itself for a while first.
        """
        run = self.live.get(job_id)
        if run is not None:
            run.is_cancelling = True  # a gentle one sees it at once
        elif job_id in self._starting:
            self._starting[job_id] = True  # between its row and its first step: it will find the wish there
        is_live = await self.store.write(lambda tx: self._cancel_row(tx, job_id))
        if run is not None and mode == "now":
            run.interrupt()
        elif run is not None:
            asyncio.get_running_loop().call_later(self.limits.gentle_s, run.interrupt)
        return is_live

    async def retry(self, job_id: str) -> str:
        """Submit an ended job again, as a new one. Raises JobNotFound, ValueError (not ended) or DataHidden."""
        row = await self.get(job_id)
        if row is None:
            raise JobNotFound(job_id)
        if not row.is_over:
            raise ValueError(f"job {job_id!r} is {row.state}")
        if HIDDEN_DATA in row.data:
            raise DataHidden(job_id, row.function)
        request = Request(
            row.owner_id,
            row.session_id,
            retry_of=row.id,
            is_interactive=bool(row.is_interactive),
            priority=row.priority,
            callback=row.callback,
        )
        return await self.submit(row.function, json.loads(row.data), request)

    async def release(self, job_id: str) -> bool:
        """Let a held job go; False when it was not held."""

        def let_go(tx: Tx) -> bool:
            is_free = rows.release(tx, job_id)
            row = rows.find(tx, job_id)
            if is_free and row is not None:
                tx.after_commit(partial(self._put, row))
            return is_free

        return await self.store.write(let_go)

    async def defer(self, owner_id: str, approver_id: str | None) -> None:
        """Have a user's jobs of the long lane wait for an approver; None: let them all go. Raises BadApprover."""
        if approver_id == owner_id:
            raise BadApprover

        def change(tx: Tx) -> None:
            rows.defer(tx, owner_id, approver_id)
            if approver_id is None:
                for row in rows.release_all(tx, owner_id):
                    tx.after_commit(partial(self._put, row))

        await self.store.write(change)

    async def get(self, job_id: str) -> JobRow | None:
        """Return a job's row."""
        return await self.store.read(lambda tx: rows.find(tx, job_id))

    def build(self, function: str, data: dict[str, Any], request: Request) -> JobRow:
        """Return the row of a job to be. Raises UnknownFunction or BadJobData."""
        spec = self._spec(function)
        return Run(self, spec, _checked(spec, data), request).row("queued")

    def spec(self, function: str) -> JobSpec | None:
        """Return a job function's declaration."""
        return self._specs.get(function)

    def _spec(self, function: str) -> JobSpec:
        spec = self._specs.get(function)
        if spec is None:
            raise UnknownFunction(function, self._specs)
        return spec

    def _put(self, row: JobRow) -> None:
        if self._is_server:  # else it is the next one's
            self.dispatcher.put(row)

    def _limit_of(self, function: str) -> int | None:
        spec = self._specs.get(function)
        return spec.limit if spec is not None else None

    def _is_patient(self, function: str) -> bool:
        spec = self._specs.get(function)
        return spec is not None and spec.is_patient

    async def _submit(self, run: Run) -> str:
        row = run.row("queued")
        return await self.store.write(lambda tx: self.add(tx, row))

    def add(self, tx: Tx, row: JobRow) -> str:
        """Add a job in a transaction and have it queued after the commit, or held; return its id, or an earlier one's.

        Raises TooManyJobs.
        """
        is_held = row.lane == "long" and rows.is_deferred(tx, row.owner_id)
        waiting = rows.held(tx, row.owner_id) if is_held else self.dispatcher.waiting_of(row.owner_id)
        if waiting >= self.limits.max_waiting_per_user:
            raise TooManyJobs(self.limits.max_waiting_per_user)
        return self.dispatcher.add(tx, replace(row, is_held=1) if is_held else row)

    async def _claim(self, job_id: str) -> tuple[JobRow | None, bool]:
        """Take a queued job, told with it; return its row, None if it is not to start, and whether to stop it again."""

        def claim(tx: Tx) -> JobRow | None:
            row = rows.claim(tx, job_id)
            if row is not None:
                details = {"attempt": row.attempt}
                event = JobEvent("job.started", row.owner_id, job_id, row.function, row.session_id, details)
                self.announce(tx, event)
            return row

        self._starting[job_id] = False
        try:
            row = await at_last(self.store, claim)
        finally:
            is_cancelling = self._starting.pop(job_id)
        return row, is_cancelling

    async def _execute(self, job_id: str) -> None:
        """Run one attempt of a queued job; whatever becomes of it stands in its row."""
        row, is_cancelling = await self._claim(job_id)
        if row is None:
            return  # cancelled while it waited, or told twice
        request = Request(
            row.owner_id,
            row.session_id,
            row.parent_id,
            row.retry_of,
            bool(row.is_interactive),
            row.priority,
            dedup_key=row.dedup_key,
            callback=row.callback,
        )
        spec = self._specs.get(row.function)
        if spec is None:
            # Its plugin is gone.
            reason = UnknownFunction(row.function, self._specs)
            described = self.describe(reason)
            await at_last(self.store, lambda tx: self.end_row(tx, row, "failed", "job.failed", described))
            self.audience.ended(job_id, None, reason)
            return
        run = Run(self, spec, row.data, request, id=job_id, attempt=row.attempt)
        run.is_cancelling = is_cancelling or bool(row.is_cancelling)
        self.live[job_id] = run
        await run.in_background()

    def _cancel_row(self, tx: Tx, job_id: str) -> bool:
        row = rows.find(tx, job_id)
        if row is None or row.is_over:
            return False
        rows.set_cancelling(tx, job_id)
        if row.state == "queued":
            self.end_row(tx, row, "cancelled", "job.cancelled", recovery.CANCELLED)
            tx.after_commit(lambda: self.dispatcher.drop(job_id))
            tx.after_commit(lambda: self.audience.ended(job_id, None, JobCancelled(job_id, row.function)))
        return True

    def end_row(self, tx: Tx, row: JobRow, state: str, topic: str, error: dict[str, Any]) -> None:
        """End a job that is not running here, and tell its owner, once."""
        if rows.finish(tx, row.id, row.attempt, state, None, json.dumps(error)):
            self.asks.cancel(tx, row.id)
            if row.callback is not None:
                self.callbacks.due(tx, row.id, row.callback)
            event = JobEvent(topic, row.owner_id, row.id, row.function, row.session_id, {"error": error})
            self.announce(tx, event)


def _outcome(result: Any, error: BaseException | None) -> Any:
    if error is not None:
        raise error
    return result


def _checked(spec: JobSpec, data: BaseModel | dict[str, Any]) -> BaseModel:
    if isinstance(data, spec.input):
        return data
    try:
        return fitted(spec.input, data) if isinstance(data, dict) else spec.input.model_validate(data)
    except ValidationError as error:
        raise BadJobData(spec.name, problems(error)) from error
