"""How jobs of the long lane reach a worker.

The row is the truth; a dispatcher only says which job goes next, and may say it twice. Source: jobs.md 6.3.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable

import structlog

from jobs import rows
from jobs.model import JobRow
from jobs.queue import FairQueue, Waiting
from jobs.resilience import at_last, fenced
from store import Store, StoreError, Tx, pause

log = structlog.get_logger("jobs")

Execute = Callable[[str], Awaitable[None]]


class EmbeddedDispatcher:
    """Queues jobs in memory; at start the rows fill it again.

    Args:
        slots: how many jobs run at once. per_user: how many of them for one user.
        limit: how many of one function may run at once, None for any number.
        is_patient: tells of a function whether it waits nearly all its time: it starts at once and takes no slot.
    """

    def __init__(
        self,
        store: Store,
        slots: int,
        per_user: int,
        limit: Callable[[str], int | None],
        is_patient: Callable[[str], bool] = lambda function: False,
    ) -> None:
        self._store = store
        self._is_patient = is_patient
        self._patient: deque[str] = deque()
        self._queue = FairQueue(slots, per_user, limit)
        self._started: dict[str, Waiting] = {}
        self._away: Counter[str] = Counter()  # jobs that gave their slot away, and for how many things they wait
        self._away_of: Counter[str] = Counter()  # how many of a user's have
        self._coming: dict[str, asyncio.Future[None]] = {}  # those that wait for a slot to go on in
        self._reserved: set[str] = set()
        self._start: Callable[[Waiting], None] | None = None  # while there is a worker
        self._wake = asyncio.Event()

    def waiting_of(self, owner_id: str) -> int:
        """Return how many jobs of a user wait, for a slot or, having begun, for something else."""
        return self._queue.waiting_of[owner_id] + self._away_of[owner_id]

    def add(self, tx: Tx, job: JobRow) -> str:
        """Add a row in a transaction and have it queued after the commit; return its id."""
        job_id, is_new = rows.add(tx, job)
        if is_new and not job.is_held:
            tx.after_commit(lambda: self.put(job))
        return job_id

    async def requeue(self, job_id: str, attempt: int, delay_s: float, error: str | None) -> bool:
        """Put an attempt back, to start again after `delay_s`."""
        run_at = self._store.clock.steady_ms() + int(delay_s * 1000)

        def back(tx: Tx) -> bool:
            if not rows.requeue(tx, job_id, attempt, run_at, error) or (row := rows.find(tx, job_id)) is None:
                return False
            tx.after_commit(lambda: self.put(row))
            return True

        return await at_last(self._store, back)

    def put(self, job: JobRow) -> None:
        """Queue a job whose row is on disk."""
        if self._is_patient(job.function):
            self._patient.append(job.id)
        else:
            self._queue.put(_waiting(job))
        self._wake.set()

    def reserve(self, job: JobRow) -> Waiting | None:
        """Take a slot for a job that is about to be stored; None when it has to wait for its turn.

        With one it is stored as running, in one transaction; what is not begun after it gives the slot back.
        """
        place = _waiting(job)
        if self._start is None or self._wake.is_set() or self._is_patient(job.function):
            return None
        if not self._queue.start_at_once(place):
            return None
        self._reserved.add(job.id)
        return place

    def begin(self, place: Waiting) -> None:
        """Start a job that had a slot reserved, and whose row is on disk."""
        if place.id in self._reserved:
            self._reserved.discard(place.id)
        else:
            self._queue.start(
                place
            )  # whoever submitted it has gone, and the slot with them: for once there is one more
        if self._start is not None:  # else the server is stopping, and the next start decides
            self._start(place)

    def give_back(self, place: Waiting) -> None:
        """Let others have a slot that was reserved, unless its job has begun."""
        if place.id in self._reserved:
            self._reserved.discard(place.id)
            self._queue.stop(place)
            self._wake.set()

    def drop(self, job_id: str) -> None:
        """Forget a waiting job: it will not be started any more."""
        self._queue.drop(job_id)

    def pause(self, job_id: str) -> None:
        """Let others have the slot of a job that waits; one that runs in its caller's task has none."""
        job = self._started.get(job_id)
        if job is None:
            return
        self._away[job_id] += 1
        if self._away[job_id] > 1:
            return
        self._away_of[job.owner_id] += 1
        if not self._drop_coming(job_id):
            self._queue.stop(job)
            self._wake.set()

    def resume(self, job_id: str) -> None:
        """Have a job that waits for nothing any more stand in line for a slot, before its user's other jobs."""
        if job_id not in self._away:
            return
        self._away[job_id] -= 1
        if not self._away[job_id]:
            self._is_back(self._started[job_id])
            self._coming[job_id] = asyncio.get_running_loop().create_future()
            self._queue.put(self._started[job_id], is_back=True)
            self._wake.set()

    def _is_back(self, job: Waiting) -> bool:
        """Have a job be away no more, and tell whether it was."""
        if self._away.pop(job.id, None) is None:
            return False
        self._away_of[job.owner_id] -= 1
        if not self._away_of[job.owner_id]:
            del self._away_of[job.owner_id]
        return True

    async def back(self, job_id: str) -> None:
        """Wait until a job that is back has a slot."""
        coming = self._coming.get(job_id)
        if coming is not None:
            await asyncio.shield(coming)

    def _drop_coming(self, job_id: str) -> bool:
        """Have a job stand in line no more, and tell whether it did."""
        coming = self._coming.pop(job_id, None)
        if coming is None:
            return False
        self._queue.drop(job_id)
        if not coming.done():
            coming.set_result(None)
        return True

    async def worker(self, execute: Execute) -> None:
        """Start jobs as slots come free."""
        async with asyncio.TaskGroup() as tasks:

            def start(job: Waiting) -> None:
                self._started[job.id] = job
                tasks.create_task(self._execute(job, execute))

            self._start = start
            try:
                while True:
                    self._wake.clear()
                    while self._patient:
                        tasks.create_task(_run(execute, self._patient.popleft()))
                    while (job := self._queue.take(self._store.clock.steady_ms())) is not None:
                        if (coming := self._coming.pop(job.id, None)) is not None:
                            coming.set_result(None)
                        else:
                            start(job)
                    due = self._queue.next_due()
                    await pause(self._wake, None if due is None else (due - self._store.clock.steady_ms()) / 1000)
            finally:
                self._start = None

    async def _execute(self, job: Waiting, execute: Execute) -> None:
        try:
            await _run(execute, job.id)
        finally:
            has_no_slot = self._is_back(job) or self._drop_coming(job.id)
            if self._started.get(job.id) is job:  # else its next attempt has begun already
                del self._started[job.id]
            if not has_no_slot:
                self._queue.stop(job)
            self._wake.set()


def _waiting(job: JobRow) -> Waiting:
    return Waiting(job.id, job.owner_id, job.function, job.priority, job.run_at)


async def _run(execute: Execute, job_id: str) -> None:
    try:
        await fenced("job_not_run", execute(job_id), job_id=job_id)
    except StoreError as error:
        # Broken or closing: the row says what the next start has to know.
        log.error("job_not_run", job_id=job_id, reason=str(error))
