"""Which waiting job goes next: users take turns; within one user's jobs priority decides, then age.

A plain data structure: no clock, no input or output.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

MAX_DROPPED = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits for a slot; `run_at` is the time, on the steady scale, before which it may not start."""

    id: str
    owner_id: str
    function: str
    priority: int
    run_at: int | None


class FairQueue:
    """Jobs waiting for slots.

    Args:
        slots: how many jobs may run at once.
        per_user: how many of them may be one user's; never more than that user leaves to others.
        limit: how many of one function may run at once, None for any number.
    """

    def __init__(self, slots: int, per_user: int, limit: Callable[[str], int | None]) -> None:
        self.slots = slots
        self.per_user = per_user
        self._limit = limit
        # owner -> function -> heap of (-priority, order of arrival, job)
        self._waiting: dict[str, dict[str, list[tuple[float, int, Waiting]]]] = {}
        self._turns: deque[str] = deque()
        # What waits, by id. A job that is dropped leaves this at once, and its heap when its turn comes.
        self._jobs: dict[str, Waiting] = {}
        self._dropped = 0
        self._delayed: list[tuple[int, int, Waiting]] = []
        self._arrivals = 0
        self._by_owner: Counter[str] = Counter()
        self._by_function: Counter[str] = Counter()
        self.running = 0
        self.waiting_of: Counter[str] = Counter()

    def put(self, job: Waiting, *, is_back: bool = False) -> None:
        """Add a job, unless it waits already; one that is back goes before its user's others."""
        if job.id in self._jobs:
            return
        self._arrivals += 1
        self._jobs[job.id] = job
        self.waiting_of[job.owner_id] += 1
        if is_back:
            self._make_ready(job, self._arrivals, -math.inf)
        elif job.run_at is not None:
            heapq.heappush(self._delayed, (job.run_at, self._arrivals, job))
        else:
            self._make_ready(job, self._arrivals)

    def drop(self, job_id: str) -> None:
        """Take a waiting job away."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        self._count_down(job.owner_id)
        self._dropped += 1
        if self._dropped > MAX_DROPPED and self._dropped * 2 > len(self._delayed):
            # A delayed one may lie there for a year.
            self._delayed = [entry for entry in self._delayed if self._is_waiting(entry[2])]
            heapq.heapify(self._delayed)
            self._dropped = 0

    def take(self, now: int) -> Waiting | None:
        """Return the job to start next and count it as running; None when none may start now."""
        while self._delayed and self._delayed[0][0] <= now:
            _, arrival, job = heapq.heappop(self._delayed)
            if self._is_waiting(job):
                self._make_ready(job, arrival)
        if self.running >= self.slots:
            return None
        for _ in range(len(self._turns)):
            if not self._turns:
                break
            owner = self._turns[0]
            self._turns.rotate(-1)
            # Of eight slots one user has four, the next one two: there is one for whoever comes.
            room = min(self.per_user, self.slots - self.running)
            if self._by_owner[owner] < room and (taken := self._pop(owner)) is not None:
                self.start(taken)
                return taken
        return None

    def start_at_once(self, job: Waiting) -> bool:
        """Count a job that does not wait as running, if it may start before those that do; tell whether it does."""
        room = min(self.per_user, self.slots - self.running)
        is_first = job.run_at is None and job.owner_id not in self._waiting
        if is_first and self._by_owner[job.owner_id] < room and self._has_room(job.function):
            self.start(job)
            return True
        return False

    def next_due(self) -> int | None:
        """Return when, on the steady scale, the next delayed job may start; None when none is delayed."""
        return self._delayed[0][0] if self._delayed else None

    def start(self, job: Waiting) -> None:
        """Count a job as running."""
        self.running += 1
        self._by_owner[job.owner_id] += 1
        self._by_function[job.function] += 1

    def stop(self, job: Waiting) -> None:
        """Count a job as running no more: it ended, or it waits and leaves its slot to others."""
        self.running -= 1
        for counter, key in ((self._by_owner, job.owner_id), (self._by_function, job.function)):
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]

    def _make_ready(self, job: Waiting, arrival: int, order: float | None = None) -> None:
        if job.owner_id not in self._waiting:
            self._waiting[job.owner_id] = {}
            self._turns.append(job.owner_id)
        heap = self._waiting[job.owner_id].setdefault(job.function, [])
        heapq.heappush(heap, (-job.priority if order is None else order, arrival, job))

    def _pop(self, owner: str) -> Waiting | None:
        by_function = self._waiting[owner]
        job = None
        while job is None and (free := [heap for name, heap in by_function.items() if self._has_room(name)]):
            taken = heapq.heappop(heap := min(free))[2]
            if not heap:
                del by_function[taken.function]
            if self._is_waiting(taken):
                job = taken
        if not by_function:
            del self._waiting[owner]
            self._turns.remove(owner)
        if job is not None:
            del self._jobs[job.id]
            self._count_down(owner)
        return job

    def _is_waiting(self, job: Waiting) -> bool:
        return self._jobs.get(job.id) is job

    def _count_down(self, owner: str) -> None:
        self.waiting_of[owner] -= 1
        if self.waiting_of[owner] <= 0:
            del self.waiting_of[owner]

    def _has_room(self, function: str) -> bool:
        limit = self._limit(function)
        return limit is None or self._by_function[function] < limit
