"""The embedded engine: jobs on the event loop of this process.

Source: jobs.md 6.1 (crash: rule 4), 6.3.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from core.calls import Tell
from core.errors import CoreError
from core.quota import Quota
from jobs import asks, rows, webhooks
from jobs.asks import Asks
from jobs.authority import SERVER, Authority, Ledger, NoLedger
from jobs.clock import CURRENT, elsewhere
from jobs.dispatcher import EmbeddedDispatcher
from jobs.engine import Mode, Then
from jobs.errors import (
    AccountFrozen,
    BadApprover,
    BadJobData,
    CallsSpent,
    CredentialEnded,
    DataHidden,
    JobCancelled,
    JobEnded,
    JobNotFound,
    JobsError,
    NotAllowed,
    TooManyJobs,
    UnknownFunction,
)
from jobs.model import JobEvent, JobRow, JobSpec, Limits, NamedBy, Request, problems
from jobs.progress import Audience, OnProgress, Waiter
from jobs.queue import Waiting
from jobs.remotes.mapping import fitted
from jobs.resilience import at_last, fenced
from jobs.run import Announce, Describe, Run
from jobs.schedules import Schedules
from jobs.secrets import HIDDEN_DATA
from jobs.stats import Stats
from jobs.webhooks import Callbacks, no_callbacks
from store import OWNER, Pool, Store, StoreError, Tx

log = structlog.get_logger("jobs")

ADVICE = "it catches asyncio.CancelledError, and has to let it pass; until it does, it keeps its slot"


TAKEN_AT_ONCE = 200

Claimed = tuple[JobRow | None, Authority]

LOST = {"kind": "JOB_LOST", "message": "The server stopped while the job ran. Run it again.", "code": -32019}
LOST_AGAIN = {
    "kind": "JOB_LOST",
    "message": (
        "The server went down more than once while the job ran, so it is not run again by itself: run it again if it"
        " was not the reason."
    ),
    "code": -32019,
}
CANCELLED = {"kind": "CANCELLED", "message": "The job was cancelled.", "code": -32800}
PRUNED_AT_ONCE = 200
BOUNDED_EVERY_S = 60.0
LINES_AT_ONCE = 500


async def upkeep(store: Store, limits: Limits) -> None:
    """Delete the rows of jobs that ended long ago, some at a time, until cancelled."""
    while True:
        now = store.clock.steady_ms()
        succeeded, others = now - int(limits.keep_succeeded_s * 1000), now - int(limits.keep_others_s * 1000)
        try:
            while await store.write(lambda tx: _prune(tx, succeeded, others)):  # noqa: B023 (awaited here)
                pass
        except StoreError as error:
            log.warning("jobs_not_pruned", reason=str(error))
        await store.clock.sleep(limits.prune_every_s)


def _prune(tx: Tx, succeeded: int, others: int) -> bool:
    """Delete some of the jobs that ended before these times; tell if there were any."""
    return _forget(tx, rows.ended_before(tx, succeeded, others, PRUNED_AT_ONCE))


async def keep_bounded(store: Store, limits: Limits, stats: Stats) -> None:
    """Delete the oldest ended jobs of whoever has more of them than are kept, some at a time, until cancelled."""
    while True:
        await store.clock.sleep(BOUNDED_EVERY_S)
        for owner_id in stats.busy():
            try:
                last = await store.read(partial(rows.newest_over, owner_id=owner_id, most=limits.max_kept_per_user))
                while last is not None and await store.write(partial(_prune_owner, owner_id, last)):
                    pass
            except StoreError as error:
                log.warning("jobs_not_pruned", reason=str(error))


def _prune_owner(owner_id: str, last: str, tx: Tx) -> bool:
    return _forget(tx, rows.ended_up_to(tx, owner_id, last, PRUNED_AT_ONCE))


def _forget(tx: Tx, old: list[str]) -> bool:
    """Delete jobs with all that belongs to them, as many as is done at once; tell if there were any."""
    bare = rows.forget_lines(tx, old, LINES_AT_ONCE)
    asks.forget(tx, bare)
    webhooks.forget(tx, bare)
    rows.forget(tx, bare)
    return bool(old)


class EmbeddedRunner:
    """Runs jobs on the event loop. A job's effects and its end state are one transaction.

    Args:
        announce: called inside a transaction with what to tell the owner.
        describe: turns an error into `{kind, message, code, ...}` for the row.
        hear: called inside a transaction with what a job's core calls did to the world.
        ledger: keeps the credentials that bring jobs.
        threads: what jobs run in them that blocks; None: some of its own.
        quota: how much users may keep in the core.
    """

    def __init__(
        self,
        store: Store,
        specs: Iterable[JobSpec],
        announce: Announce,
        describe: Describe,
        limits: Limits | None = None,
        callbacks: Callbacks | None = None,
        hear: Tell | None = None,
        ledger: Ledger | None = None,
        threads: Pool | None = None,
        quota: Quota | None = None,
    ) -> None:
        self.quota = quota or Quota()
        self.threads = threads or Pool("jobs", 2)
        self.store = store
        self.announce = announce
        self.describe = describe
        self.hear = hear
        self.ledger: Ledger = ledger or NoLedger()
        self.limits = limits or Limits()
        self.stats = Stats()
        self.audience = Audience()
        self.live: dict[str, Run] = {}
        self.is_stopping = False
        self._is_server = True
        self._starting: dict[str, bool] = {}
        self._ready: dict[str, Claimed] = {}  # stored as running, and about to start
        self.asks = Asks(store, announce)
        self.callbacks = callbacks or Callbacks(store, *no_callbacks())
        self.dispatcher = EmbeddedDispatcher(
            store, self.limits.slots, self.limits.per_user, self._limit_of, self._is_patient
        )
        self.schedules = Schedules(
            store, self.build, self.add, announce, self.ledger, self.limits.max_schedules_per_user
        )
        self._specs: dict[str, JobSpec] = {}
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._late: set[asyncio.Task[None]] = set()
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

    async def start(self, *, is_server: bool = True, was_killed: bool = True) -> None:
        """Take up what the last server left, then run what comes. Call `stop` from the same task.

        Args:
            is_server: False for a command that has jobs of its own to run and leaves all others, and what is due, to
                the next server: it may not even know their functions.
            was_killed: the last server did not end by itself.
        """
        self._is_server = is_server
        if is_server:
            await self.recover(was_killed)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        work = [self.dispatcher.worker(self._execute), self._watch()]
        if is_server:
            work += [
                upkeep(self.store, self.limits),
                keep_bounded(self.store, self.limits, self.stats),
                self.schedules.run(),
                self.callbacks.run(),
            ]
        self._tasks = [group.create_task(each) for each in work]

    async def recover(self, was_killed: bool) -> None:
        """Queue again what may run again, and end the rest as `lost`, telling its owner.

        One process owns the data folder, so whatever is not ended at its start is an orphan of the one before.

        Args:
            was_killed: the last server did not end by itself: what ran then may be why.
        """
        after = ("", "")
        waiting = lost = 0
        while some := await self.store.read(partial(rows.live, after=after, limit=TAKEN_AT_ONCE)):
            after = (some[-1].owner_id, some[-1].id)
            queued, ended = await self.store.write(partial(self._take_up_or_end, was_killed, some))
            waiting, lost = waiting + len(queued), lost + ended
            for row in queued:
                if not row.is_held:
                    self.dispatcher.put(row)
        await self.store.write(lambda tx: webhooks.recover(tx, was_killed, self.limits.max_crashes))
        if lost or waiting:
            log.warning("jobs_taken_up", waiting=waiting, lost=lost)

    def _take_up_or_end(self, was_killed: bool, some: list[JobRow], tx: Tx) -> tuple[list[JobRow], int]:
        """Take up some jobs, or end them; return those that wait now, and how many are lost."""
        waiting, lost = list[JobRow](), 0
        for row in some:
            crashes = row.crashes
            if was_killed and row.state == "running":
                crashes = rows.note_crash(tx, row.id)
                self.schedules.note_crash(tx, row.id, self.limits.max_crashes)
            if row.is_cancelling:
                self.end_row(tx, row, "cancelled", "job.cancelled", CANCELLED)
            elif row.state == "queued":
                waiting.append(row)
            elif not self._may_run_again(row):
                self.end_row(tx, row, "lost", "job.failed", LOST)
                lost += 1
            elif crashes >= self.limits.max_crashes:
                log.error("job_lost", job_id=row.id, function=row.function, owner_id=row.owner_id, crashes=crashes)
                self.end_row(tx, row, "lost", "job.failed", {**LOST_AGAIN, "crashes": crashes})
                lost += 1
            else:
                rows.requeue(tx, row.id, row.attempt, None)
                waiting.append(replace(row, state="queued", run_at=None))
        return waiting, lost

    def _may_run_again(self, row: JobRow) -> bool:
        # A job inside another is run again by that one, if at all.
        spec = self._specs.get(row.function)
        return spec is not None and row.parent_id is None and spec.on_crash == "retry" and spec.lane == "long"

    async def stop(self) -> None:
        """Stop the jobs of the long lane where they are: their rows stay, and the next start decides."""
        self.is_stopping = True
        for task in (*self._tasks, *self._late):
            task.cancel()
        late = asyncio.get_running_loop().call_later(self.limits.stuck_s, lambda: _tell(self._overdue()))
        await self._stack.aclose()
        if self._late:
            await asyncio.wait(self._late)
        late.cancel()

    async def _watch(self) -> None:
        """Look at what runs, now and then, until cancelled; a job that is late at two looks is told of, once."""
        seen: set[Run] = set()
        told: set[Run] = set()
        while True:
            await asyncio.sleep(self.limits.stuck_s)
            now = self._overdue()
            _tell(now & seen - told)
            seen, told = now, now & seen

    def _overdue(self) -> set[Run]:
        return {run for run in self.live.values() if run.is_overdue}

    def finish_later(self, job_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Have the end of a job stored by and by; if the server stops before, the next start finds its row."""
        task = asyncio.get_running_loop().create_task(self._finish(job_id, work))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _finish(self, job_id: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await fenced("job_not_ended", work, job_id=job_id)
        except StoreError as error:
            log.error("job_not_ended", job_id=job_id, reason=str(error))

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

        Raises UnknownFunction, BadJobData, NotAllowed, CredentialEnded or CallsSpent when nothing ran; JobTimeout,
        JobFailed, JobCancelled or what the job raised when nothing of its last transaction is stored.
        """
        spec = self._wanted(function, request)
        if then is not None and spec.lane != "local":
            raise ValueError(f"{function!r} is not of the local lane: nothing can be added to its transaction")
        run = Run(self, spec, _checked(spec, data), request, parent=parent, then=then, on_progress=on_progress)
        if not self._is_counted(spec, request):
            return await self._run(run)
        entries = await self._count(spec, request)
        outcome = "CANCELLED"
        try:
            result = await self._run(run)
            outcome = "ok"
            return result
        except (CoreError, JobsError, StoreError) as error:
            outcome = self.describe(error)["kind"]
            raise
        finally:
            self.ledger.note(entries, outcome)

    async def _run(self, run: Run) -> Any:
        spec = run.spec
        if spec.lane == "memory":
            return await run.in_memory()
        if spec.lane == "local":
            return await run.at_once()
        if run.parent is not None:
            await run.store_first()
            return await run.at_once()
        # It may report, and even end, before this goes on.
        ended = self.audience.expect(run.id)
        with self.audience.watched(run.id, run.on_progress):
            job_id = await self._submit(run)
        with self.audience.watched(job_id, run.on_progress):
            return await self._result(job_id, ended if job_id == run.id else None)

    async def submit(
        self,
        function: str,
        data: BaseModel | dict[str, Any],
        request: Request,
        *,
        dedup_key: str | None = None,
        along: Callable[[Tx], Any] | None = None,
    ) -> str:
        """Queue a job and return its id once its row is on disk. Raises also TooManyJobs, and what `along` raises.

        Args:
            dedup_key: as an earlier row has it, instead of the request's own.
            along: done in the transaction that adds the row.
        """
        spec = self._wanted(function, request)
        run = Run(self, spec, _checked(spec, data), request)
        if self._is_counted(spec, request):
            self.ledger.note(await self._count(spec, request), "ok")
        return await self._submit(run, dedup_key, along)

    async def result(self, job_id: str) -> Any:
        """Wait for a job's end and return its result, or raise what it raised. Raises JobNotFound.

        Whoever waits stands still while the job asks a person.
        """
        return await self._result(job_id)

    async def _result(self, job_id: str, ended: Waiter | None = None) -> Any:
        waiting = CURRENT.get()
        async with elsewhere(waiting):
            with nullcontext() if waiting is None else self.audience.patient(job_id, waiting):
                end = await self.audience.end(job_id, lambda: self.get(job_id), ended)
        if isinstance(end, tuple):
            return _outcome(*end)
        if end is None:
            raise JobNotFound(job_id)
        if end.state == "succeeded":
            return json.loads(end.result or "null")
        raise JobEnded(job_id, json.loads(end.error or "{}"))

    async def wait(self, job_id: str, timeout_s: float | None = None) -> JobRow:
        """Wait until the job has ended, or the time is over, and return its row as it is then. Raises JobNotFound."""
        async with elsewhere(CURRENT.get()):
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
        is_here = run is not None or job_id in self._starting
        if run is not None:
            run.is_cancelling = True  # a gentle one sees it at once
        elif job_id in self._starting:
            self._starting[job_id] = True  # between its row and its first step: it will find the wish there
        is_live = await self.store.write(lambda tx: self._cancel_row(tx, job_id, is_here))
        if run is not None and mode == "now":
            run.interrupt()
        elif run is not None:
            asyncio.get_running_loop().call_later(self.limits.gentle_s, run.interrupt)
        return is_live

    async def retry(self, job_id: str, by: Authority) -> str:
        """Submit an ended job again, as a new one of who brought it and who wants it now.

        Raises JobNotFound, ValueError (not ended), DataHidden, NotAllowed or CredentialEnded.
        """
        row = await self.get(job_id)
        if row is None:
            raise JobNotFound(job_id)
        if not row.is_over:
            raise ValueError(f"job {job_id!r} is {row.state}")
        if HIDDEN_DATA in row.data:
            raise DataHidden(job_id, row.function)
        both = by & await self.store.write(lambda tx: self.ledger.load(tx, row.authority))
        both.require(row.function)
        request = Request(
            row.owner_id,
            both,
            row.session_id,
            retry_of=row.id,
            is_interactive=bool(row.is_interactive),
            priority=row.priority,
            callback=row.callback,
            admitted=row.function,
        )
        return await self.submit(row.function, json.loads(row.data), request, dedup_key=row.dedup_key)

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

        def let_some_go(tx: Tx) -> bool:
            freed = rows.release_some(tx, owner_id, TAKEN_AT_ONCE)
            for row in freed:
                tx.after_commit(partial(self._put, row))
            return len(freed) == TAKEN_AT_ONCE

        await self.store.write(lambda tx: rows.defer(tx, owner_id, approver_id))
        while approver_id is None and await self.store.write(let_some_go):
            pass

    def stop_ended(self) -> None:
        """Stop what runs by credentials that have ended, or for a user who is frozen."""
        for run in tuple(self.live.values()):
            if run.authority.over is not None:
                run.withdraw()

    async def take_back(self, credential_id: str, why: CredentialEnded) -> None:
        """End what waits to be started and was brought by a credential that has ended, some at a time."""
        while ids := await self.store.read(lambda tx: rows.brought_by(tx, credential_id, TAKEN_AT_ONCE)):
            await self.store.write(partial(self._refuse_all, ids=ids, why=why))
        await self.schedules.take_back(credential_id, why)

    def _refuse_all(self, tx: Tx, ids: list[str], why: CredentialEnded) -> None:
        for job_id in ids:
            self.refuse_row(tx, job_id, why)

    async def take_up(self) -> None:
        """Queue what was left waiting for an account that was frozen."""
        after = ("", "")
        while waiting := await self.store.read(partial(rows.queued, after=after, limit=TAKEN_AT_ONCE)):
            for row in waiting:
                self._put(row)
            after = (waiting[-1].owner_id, waiting[-1].id)

    async def get(self, job_id: str) -> JobRow | None:
        """Return a job's row."""
        return await self.store.read(lambda tx: rows.find(tx, job_id))

    def build(self, function: str, data: dict[str, Any], request: Request) -> JobRow:
        """Return the row of a job to be, of which it was asked already whether it may run.

        Raises UnknownFunction or BadJobData.
        """
        spec = self._spec(function)
        return Run(self, spec, _checked(spec, data), request).row("queued")

    def spec(self, function: str) -> JobSpec | None:
        """Return a job function's declaration."""
        return self._specs.get(function)

    def _unknown(self, function: str, who: NamedBy) -> UnknownFunction:
        return UnknownFunction(function, (name for name, spec in self._specs.items() if spec.is_known_to(who)))

    def _spec(self, function: str) -> JobSpec:
        spec = self._specs.get(function)
        if spec is None:
            raise UnknownFunction(function, self._specs)
        return spec

    def _wanted(self, function: str, request: Request) -> JobSpec:
        """Return a job function that may run now. Raises UnknownFunction, NotAllowed or CredentialEnded."""
        spec = self._spec(function)
        if not spec.is_known_to(request.named_by):
            raise self._unknown(function, request.named_by)
        if self._has_name(spec, request):
            request.authority.require(function)
        else:
            request.authority.require()
        return spec

    def _has_name(self, spec: JobSpec, request: Request) -> bool:
        # What is internal is a means to what was asked for; but a plugin that runs a part of a method names the method.
        if request.admitted == spec.name:
            return False
        return not spec.is_internal or (request.named_by == "plugin" and not spec.plugin)

    def _is_counted(self, spec: JobSpec, request: Request) -> bool:
        return request.authority.is_metered and self._has_name(spec, request)

    async def _count(self, spec: JobSpec, request: Request) -> Collection[str]:
        spent = await self.store.write(lambda tx: self.ledger.spend(tx, request.authority, spec.name), is_record=True)
        if spent.refusal is not None:
            raise spent.refusal
        return spent.entries

    def _put(self, row: JobRow) -> None:
        if self._is_server:  # else it is the next one's
            self.dispatcher.put(row)

    def _limit_of(self, function: str) -> int | None:
        spec = self._specs.get(function)
        return spec.limit if spec is not None else None

    def _is_patient(self, function: str) -> bool:
        spec = self._specs.get(function)
        return spec is not None and spec.is_patient

    async def _submit(self, run: Run, dedup_key: str | None = None, along: Callable[[Tx], Any] | None = None) -> str:
        row = run.row("queued")
        run.context.end()  # of this run there is nothing but the row: whoever takes that up makes another
        if dedup_key is not None:
            row = replace(row, dedup_key=dedup_key)

        # One that has to wait for nobody is stored as running: its start costs no commit of its own.
        place = self.dispatcher.reserve(row)

        def add(tx: Tx) -> str:
            if along is not None:
                along(tx)
            return self.add(tx, row, place)

        if place is None:
            return await self.store.write(add)
        try:
            stored = self.store.write(add)
        except StoreError:
            self.dispatcher.give_back(place)
            raise
        stored.add_done_callback(lambda _: self.dispatcher.give_back(place))
        return await stored

    def add(self, tx: Tx, row: JobRow, place: Waiting | None = None) -> str:
        """Add a job in a transaction and have it queued after the commit, or held; return its id, or an earlier one's.

        Args:
            place: the slot that is reserved for it, in which it is started after the commit.

        Raises TooManyJobs.
        """
        is_held = row.lane == "long" and rows.is_deferred(tx, row.owner_id)
        waiting = rows.held(tx, row.owner_id) if is_held else self.dispatcher.waiting_of(row.owner_id)
        if waiting >= self.limits.max_waiting_per_user:
            raise TooManyJobs(self.limits.max_waiting_per_user)
        if place is None or is_held:
            return self.dispatcher.add(tx, replace(row, is_held=1) if is_held else row)
        job_id, is_new = rows.add(tx, row)
        if is_new:
            claimed = self._claimed(tx, job_id)
            tx.after_commit(lambda: self._begin(place, claimed))
        return job_id

    def _begin(self, place: Waiting, claimed: Claimed) -> None:
        self._starting[place.id] = False
        self._ready[place.id] = claimed
        self.dispatcher.begin(place)

    def _claimed(self, tx: Tx, job_id: str) -> Claimed:
        """Have a queued job run; return its row, None if it is not to start, and by whose credentials it runs."""
        authority = self._still_allowed(tx, job_id)
        row = None if authority is None else rows.claim(tx, job_id)
        if row is not None:
            details = {"attempt": row.attempt}
            event = JobEvent("job.started", row.owner_id, job_id, row.function, row.session_id, details, row.authority)
            self.announce(tx, event)
        return row, authority or SERVER

    async def _claim(self, job_id: str) -> Claimed:
        """Take a job whose turn has come, unless that was done when it was stored."""
        if job_id in self._ready:
            return self._ready.pop(job_id)
        self._starting[job_id] = False
        return await at_last(self.store, lambda tx: self._claimed(tx, job_id))

    def _still_allowed(self, tx: Tx, job_id: str) -> Authority | None:
        """Return by whose credentials a queued job may start now; else end it, or leave it where it is, held."""
        found = rows.starting(tx, job_id)
        if found is None:
            return None
        function, attempts, stored = found
        authority, spec = self.ledger.load(tx, stored), self._specs.get(function)
        try:
            authority.require(*(() if spec is None or spec.is_internal else (function,)))
            # The first attempt was paid for by whoever asked for the job; each further one is a call of its own.
            if attempts and authority.is_metered:
                spent = self.ledger.spend(tx, authority, function)
                if spent.refusal is not None:
                    raise spent.refusal
        except AccountFrozen:
            return None  # until the account is let go
        except (CredentialEnded, NotAllowed, CallsSpent) as error:
            self.refuse_row(tx, job_id, error)
            return None
        return authority

    def refuse_row(self, tx: Tx, job_id: str, why: JobsError) -> None:
        """End a queued job because those who brought it may not have it run, or not any more."""
        row = rows.find(tx, job_id)
        if row is not None and row.state == "queued":
            state = "cancelled" if isinstance(why, CredentialEnded) else "failed"
            self.end_row(tx, row, state, f"job.{state}", self.describe(why))
            tx.after_commit(partial(self.dispatcher.drop, job_id))
            tx.after_commit(partial(self.audience.ended, job_id, None, why))

    async def _execute(self, job_id: str) -> None:
        """Run one attempt of a queued job; whatever becomes of it stands in its row."""
        try:
            row, authority = await self._claim(job_id)
        finally:
            is_cancelling = self._starting.pop(job_id)
        if row is None:
            return  # cancelled while it waited, or told twice
        request = Request(
            row.owner_id,
            authority,
            session_id=row.session_id,
            parent_id=row.parent_id,
            retry_of=row.retry_of,
            is_interactive=bool(row.is_interactive),
            priority=row.priority,
            callback=row.callback,
        )
        OWNER.set(row.owner_id)  # of this task, which is the job's alone
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

    def _cancel_row(self, tx: Tx, job_id: str, is_here: bool) -> bool:
        row = rows.find(tx, job_id)
        if row is None or row.is_over:
            # One that runs here has seen the wish already, and may be stored as ended by it before the wish is.
            return row is not None and is_here and row.state == "cancelled"
        rows.set_cancelling(tx, job_id)
        if row.state == "queued":
            self.end_row(tx, row, "cancelled", "job.cancelled", CANCELLED)
            tx.after_commit(lambda: self.dispatcher.drop(job_id))
            tx.after_commit(lambda: self.audience.ended(job_id, None, JobCancelled(job_id, row.function)))
        return True

    def end_row(self, tx: Tx, row: JobRow, state: str, topic: str, error: dict[str, Any]) -> None:
        """End a job that is not running here, and tell its owner, once."""
        if rows.finish(tx, row.id, row.attempt, state, None, json.dumps(error)):
            self.asks.cancel(tx, row.id)
            if row.callback is not None:
                self.callbacks.due(tx, row.id, row.callback)
            event = JobEvent(topic, row.owner_id, row.id, row.function, row.session_id, {"error": error}, row.authority)
            self.announce(tx, event)


def _tell(runs: Iterable[Run]) -> None:
    """Name what keeps its slot, and the server from stopping."""
    for run in runs:
        log.error("job_does_not_stop", job_id=run.id, function=run.spec.name, advice=ADVICE)


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
