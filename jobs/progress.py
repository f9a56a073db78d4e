"""How far a job is, and what it says on the way: told at most ten times a second, never backwards, the last one always.

Both are kept in batches; what is left is stored in the transaction that ends the job.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from jobs import rows
from jobs.clock import Stoppable
from jobs.model import JobRow, Limits
from jobs.secrets import hidden
from store import Store, Tx

OnProgress = Callable[[float, float | None, str], None]
PROGRESS_EVERY_S = 0.1
LINES_EVERY_S = 0.25
Line = tuple[int, str]


class Progress:
    """The progress of one run: the newest report waits for its turn, and replaces the one before."""

    def __init__(self, store: Store, job_id: str, tell: Callable[[Tx, dict[str, Any]], None]) -> None:
        self._store = store
        self._job_id = job_id
        self._tell = tell
        self._done = -math.inf
        self._fraction = 0.0
        self._told_at = 0.0
        self._told: dict[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.value: dict[str, Any] | None = None

    def report(self, done: float, total: float | None, message: str, *, is_kept: bool = True) -> bool:
        """Take a report; one that goes backwards, or is no number, is passed over (False).

        Args:
            is_kept: the job has a row, and its owner hears of it.
        """
        if not math.isfinite(done) or (total is not None and not math.isfinite(total)) or done < self._done:
            return False
        self._done = done
        if total:
            # A total that grows must not make the bar go back.
            self._fraction = max(self._fraction, min(done / total, 1.0))
        self.value = {
            "done": done,
            "total": total,
            "fraction": round(self._fraction, 4) if total else None,
            "message": message,
        }
        if self._timer is None and is_kept:
            wait_s = self._told_at + PROGRESS_EVERY_S - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wait_s), self._store_and_tell)
        return True

    def hush(self) -> None:
        """Tell no more but by `tell_last`."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def last(self) -> str | None:
        """The last report as JSON, for the row."""
        return None if self.value is None else json.dumps(self.value)

    def tell_last(self, tx: Tx) -> None:
        """Tell the last report, if it was not told, in the transaction that ends the job."""
        if self.value is not None and self.value is not self._told:
            self._tell(tx, self.value)

    def _store_and_tell(self) -> None:
        self._timer = None
        self._told_at = time.monotonic()
        value = self._told = self.value or {}

        def keep(tx: Tx) -> None:
            rows.set_progress(tx, self._job_id, json.dumps(value))
            self._tell(tx, value)

        self._store.write(keep, is_record=True).add_done_callback(_ignore)


class Lines:
    """What one run says: kept in batches, the newest `keep` lines of each job."""

    def __init__(self, store: Store, job_id: str, keep: int, on_stored: Callable[[], None]) -> None:
        self._store = store
        self._job_id = job_id
        self._keep = keep
        self._on_stored = on_stored
        self._unstored: list[Line] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        """Add a line."""
        line = (self._store.clock.now_ms(), text)
        self._unstored.append(line)
        del self._unstored[: -self._keep]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINES_EVERY_S, self._store_some)

    def hush(self) -> None:
        """Store no more but by `flush`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flush(self, tx: Tx) -> None:
        """Store what is not stored yet, in the transaction that ends the job."""
        self._add(tx, self._unstored)

    def _store_some(self) -> None:
        self._timer = None
        batch, self._unstored = self._unstored, []

        def stored(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is not None:
                self._unstored[:0] = batch  # for the next time, or the end

        self._store.write(lambda tx: self._add(tx, batch), is_record=True).add_done_callback(stored)

    def _add(self, tx: Tx, batch: list[Line]) -> None:
        if not batch:
            return
        last = rows.last_line(tx, self._job_id)
        numbered = [(last + index, at, text) for index, (at, text) in enumerate(batch, 1)]
        rows.add_lines(tx, self._job_id, numbered, self._keep)
        tx.after_commit(self._on_stored)


class Voice:
    """All one run says: its reports, to whoever waits for it and to its owner, and the lines of its log."""

    def __init__(
        self,
        store: Store,
        audience: "Audience",
        limits: Limits,
        *,
        job_id: str,
        secrets: tuple[str, ...],
        has_row: bool,
        tell: Callable[[Tx, dict[str, Any]], None],
        on_progress: OnProgress | None,
    ) -> None:
        self._audience = audience
        self._longest = limits.max_line_characters
        self._job_id = job_id
        self._secrets = secrets
        self._has_row = has_row
        self._on_progress = on_progress
        self._progress = Progress(store, job_id, tell)
        self._lines = Lines(store, job_id, limits.max_lines, lambda: audience.said(job_id))

    def report(self, done: float, total: float | None, message: str) -> None:
        """Take a report of progress."""
        message = self._clean(message)
        if self._progress.report(done, total, message, is_kept=self._has_row):
            if self._on_progress is not None:
                self._on_progress(done, total, message)
            self._audience.reported(self._job_id, done, total, message)

    def log(self, text: str) -> None:
        """Add a line to the log; a job without a row has none."""
        if self._has_row:
            self._lines.add(self._clean(text))

    def hush(self) -> None:
        """Say no more but by `end`. On the loop, before the end is on its way: timers are not for the writer."""
        self._progress.hush()
        self._lines.hush()

    @property
    def last(self) -> str | None:
        """The last report as JSON, for the row."""
        return self._progress.last

    def end(self, tx: Tx) -> None:
        """Keep and tell what is left, in the transaction that ends the job."""
        self._lines.flush(tx)
        self._progress.tell_last(tx)

    def _clean(self, text: str) -> str:
        # A name of a file may hold half a character, which no row and no frame can.
        return str(hidden(text, self._secrets))[: self._longest].encode("utf-8", "replace").decode()


def _ignore(stored: asyncio.Future[None]) -> None:
    # A report that could not be stored is no reason to fail the job; whatever is wrong shows at its end.
    if not stored.cancelled():
        stored.exception()


End = tuple[Any, BaseException | None]
Waiter = asyncio.Future[End | JobRow | None]


class Audience:
    """The waiting callers, by job."""

    def __init__(self) -> None:
        self._waiters: WeakValueDictionary[str, Waiter] = WeakValueDictionary()  # as long as anybody waits
        self._listeners: dict[str, asyncio.Event] = {}
        self._watchers: dict[str, list[OnProgress]] = {}
        self._asking: set[str] = set()
        self._patient: dict[str, list[Stoppable]] = {}

    def expect(self, job_id: str) -> Waiter:
        """Return what a job's end will be set on: who has it before the job is stored misses no end."""
        waiter = self._waiters.get(job_id)
        if waiter is None:
            waiter = self._waiters[job_id] = asyncio.get_running_loop().create_future()
        return waiter

    async def end(
        self, job_id: str, find: Callable[[], Awaitable[JobRow | None]], waiter: Waiter | None = None
    ) -> End | JobRow | None:
        """Wait for a job's end: what it returned or raised; its row when it had ended before; None without a row.

        Args:
            waiter: as `expect` returned it, if that was asked for.
        """
        waiter = waiter or self.expect(job_id)
        row = None if waiter.done() else await find()  # after the waiter stands ready: no end can come in between
        if not waiter.done() and (row is None or row.is_over):
            # Whoever else waits hears it from us: the end may have been told before there was a waiter.
            self._waiters.pop(job_id, None)
            waiter.set_result(row)
        return await asyncio.shield(waiter)

    def ended(self, job_id: str, result: Any, error: BaseException | None) -> None:
        """Tell whoever waits that a job's end is on disk."""
        waiter = self._waiters.pop(job_id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result((result, error))
        if self._listeners:
            self.said(job_id)

    @contextmanager
    def patient(self, job_id: str, waiting: Stoppable) -> Iterator[None]:
        """Have whoever waits for a job stand still, inside the block, while the job asks a person."""
        patient = self._patient.setdefault(job_id, [])
        patient.append(waiting)
        if job_id in self._asking:
            waiting.stop(job_id)
        try:
            yield
        finally:
            patient.remove(waiting)
            if not patient and self._patient.get(job_id) is patient:
                del self._patient[job_id]
            if job_id in self._asking:
                waiting.go_on()

    def asks(self, job_id: str) -> None:
        """Note that a job asks a person."""
        self._asking.add(job_id)
        for waiting in self._patient.get(job_id, ()):
            waiting.stop(job_id)

    def goes_on(self, job_id: str) -> None:
        """Note that a job has its answer, or does without."""
        self._asking.discard(job_id)
        for waiting in self._patient.get(job_id, ()):
            waiting.go_on()

    def listen(self, job_id: str) -> asyncio.Event:
        """Return what is set when a live job has said something more, or has ended; then look at its lines again."""
        return self._listeners.setdefault(job_id, asyncio.Event())

    def said(self, job_id: str) -> None:
        """Wake whoever follows a job's log."""
        listener = self._listeners.pop(job_id, None)
        if listener is not None:
            listener.set()

    @contextmanager
    def watched(self, job_id: str, on_progress: OnProgress | None) -> Iterator[None]:
        """Have a job's progress reported to somebody who waits for it, if anybody does, inside the block."""
        if on_progress is None:
            yield
            return
        watchers = self._watchers.setdefault(job_id, [])
        watchers.append(on_progress)
        try:
            yield
        finally:
            watchers.remove(on_progress)
            if not watchers and self._watchers.get(job_id) is watchers:
                del self._watchers[job_id]

    def reported(self, job_id: str, done: float, total: float | None, message: str) -> None:
        """Tell whoever waits for a job how far it is."""
        for on_progress in self._watchers.get(job_id, ()):
            on_progress(done, total, message)
