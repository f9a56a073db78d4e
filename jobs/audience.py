"""Who waits for jobs in this process: for an end, for the next log line, for progress."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.clock import Stoppable
from jobs.model import JobRow
from jobs.progress import OnProgress

End = tuple[Any, BaseException | None]


class Audience:
    """The waiting callers, by job."""

    def __init__(self) -> None:
        self._waiters: dict[str, asyncio.Future[End | JobRow | None]] = {}
        self._listeners: dict[str, asyncio.Event] = {}
        self._watchers: dict[str, list[OnProgress]] = {}
        self._asking: set[str] = set()
        self._patient: dict[str, list[Stoppable]] = {}

    async def end(self, job_id: str, find: Callable[[], Awaitable[JobRow | None]]) -> End | JobRow | None:
        """Wait for a job's end: what it returned or raised; its row when it had ended before; None without a row."""
        waiter = self._waiters.get(job_id)
        if waiter is None:
            waiter = self._waiters[job_id] = asyncio.get_running_loop().create_future()
        row = await find()  # after the waiter stands ready: no end can come in between
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
    def watched(self, job_id: str, on_progress: OnProgress) -> Iterator[None]:
        """Have a job's progress reported to somebody who waits for it, inside the block."""
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
