"""The queue of waiting jobs against a model of it: who goes next, what counts, and what was taken away."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobs.queue import FairQueue, Waiting

OWNERS, FUNCTIONS = ("anna", "bob", "carol"), ("f", "g")
LIMITS = {"f": None, "g": 1}
SLOTS, PER_USER = 5, 3


class Queueing(RuleBasedStateMachine):
    """Puts, takes, drops, pauses and ends jobs at random."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(SLOTS, PER_USER, LIMITS.get)
        self.waiting: dict[str, Waiting] = {}
        self.running: dict[str, Waiting] = {}
        self.paused: dict[str, Waiting] = {}
        self.back: set[str] = set()  # those that have begun before
        self.order: dict[str, int] = {}
        self.passed_over: dict[str, int] = {}
        self.now = 0
        self.count = 0

    @rule(
        owner=st.sampled_from(OWNERS),
        function=st.sampled_from(FUNCTIONS),
        priority=st.integers(-1, 1),
        delay=st.sampled_from([None, 1, 5]),
    )
    def put(self, owner: str, function: str, priority: int, delay: int | None) -> None:
        """Add a job, now or for later."""
        self.count += 1
        job = Waiting(f"j{self.count}", owner, function, priority, None if delay is None else self.now + delay)
        self.waiting[job.id] = job
        self.order[job.id] = self.count
        self.queue.put(job)
        self.queue.put(job)  # said twice is said once

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(data=st.data())
    @precondition(lambda self: self.waiting)
    def drop(self, data: st.DataObject) -> None:
        """Take a waiting job away."""
        job_id = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[job_id]
        self.queue.drop(job_id)
        self.queue.drop(job_id)

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def end(self, data: st.DataObject) -> None:
        """End a running job."""
        job = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.queue.stop(job)

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def pause(self, data: st.DataObject) -> None:
        """Have a running job wait for an answer."""
        job = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.paused[job.id] = job
        self.queue.stop(job)

    @rule(data=st.data())
    @precondition(lambda self: self.paused)
    def resume(self, data: st.DataObject) -> None:
        """Have it stand in line for a slot, before its user's other jobs."""
        job = self.paused.pop(data.draw(st.sampled_from(sorted(self.paused))))
        self.count += 1
        self.waiting[job.id] = job
        self.order[job.id] = self.count
        self.back.add(job.id)
        self.queue.put(job, is_back=True)

    @rule()
    def take(self) -> None:
        """Start the next job, if one may start: it is one that may, and the first of its owner's that may."""
        able = [job for job in self.waiting.values() if self._may_start(job)]
        taken = self.queue.take(self.now)
        if taken is None:
            assert not able
            return
        assert taken in able
        first = min((job for job in able if job.owner_id == taken.owner_id), key=self._rank)
        assert self._rank(taken)[0] == self._rank(first)[0]
        del self.waiting[taken.id]
        self.running[taken.id] = taken
        self.passed_over[taken.owner_id] = 0
        for owner in {job.owner_id for job in able} - {taken.owner_id}:
            self.passed_over[owner] = self.passed_over.get(owner, 0) + 1
            assert self.passed_over[owner] < 2 * len(OWNERS), f"{owner} waits while others go again and again"

    @invariant()
    def counts(self) -> None:
        """What waits is counted, what was dropped is not."""
        for owner in OWNERS:
            assert self.queue.waiting_of[owner] == sum(job.owner_id == owner for job in self.waiting.values())
        assert self.queue.running == len(self.running)

    def _may_start(self, job: Waiting) -> bool:
        running = self.running.values()
        limit = LIMITS[job.function]
        left = SLOTS - len(self.running)
        return (
            (job.run_at is None or job.run_at <= self.now or job.id in self.back)
            and sum(other.owner_id == job.owner_id for other in running) < min(PER_USER, left)
            and (limit is None or sum(other.function == job.function for other in running) < limit)
        )

    def _rank(self, job: Waiting) -> tuple[float, int]:
        return -math.inf if job.id in self.back else -job.priority, self.order[job.id]


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_dropped_jobs_take_no_room() -> None:
    """Delayed jobs that are taken away again are not kept until their time."""
    queue = FairQueue(1, 1, LIMITS.get)
    for number in range(10_000):
        queue.put(Waiting(str(number), "anna", "f", 0, 10**12))
        queue.drop(str(number))
    assert len(queue._delayed) < 2_000


def test_one_user_takes_as_many_slots_as_he_leaves() -> None:
    """Of eight slots the first has four, the next two, the next one; there is one for whoever comes."""
    queue = FairQueue(8, 8, LIMITS.get)
    for owner in ("anna", "bob", "carol"):
        for number in range(10):
            queue.put(Waiting(f"{owner}{number}", owner, "f", 0, None))
        while queue.take(0) is not None:
            pass
    assert [queue._by_owner[owner] for owner in ("anna", "bob", "carol")] == [4, 2, 1]
    queue.put(Waiting("dora", "dora", "f", 0, None))
    taken = queue.take(0)
    assert taken is not None and taken.owner_id == "dora"
