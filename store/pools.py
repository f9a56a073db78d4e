"""Room for slow work: each kind has its own few places, or threads, so that none waits for those of another.

Nothing in a place may wait for other work of the server: it would hold what that may need.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import structlog

from store.errors import PoolBusy, PoolLate, StoreClosed
from store.roundrobin import OWNER, RoundRobin

log = structlog.get_logger("threads")

T = TypeVar("T")

RETRY_AFTER_MS = 500


class Places:
    """A few places for one kind of slow work; owners take turns, and leave as many free as they take.

    Args:
        count: how many there are.
        per_owner: how many of them one owner has at most, however many are free; None: half of what is free.
        waiting_per_owner: how often one owner may wait for one.
        wait_s: how long anybody waits for one; None: as long as it takes.
        stuck_s: how long all may be taken, or somebody wait, without one being left, before `is_stuck`.
    """

    def __init__(
        self,
        name: str,
        count: int,
        *,
        per_owner: int | None = None,
        waiting_per_owner: int = 256,
        wait_s: float | None = 60.0,
        stuck_s: float = 30.0,
    ) -> None:
        self.name = name
        self.count = count
        self._per_owner = per_owner or count
        self._waiting_per_owner = waiting_per_owner
        self._wait_s = wait_s
        self._stuck_s = stuck_s
        self._waiting: RoundRobin[tuple[str, asyncio.Future[None]]] = RoundRobin()
        self._taken_by: Counter[str] = Counter()
        self._taken = 0
        self._moved_at = time.monotonic()
        self._is_closed = False

    async def enter(self, owner: str) -> None:
        """Take a place; `leave` it afterwards.

        Raises:
            PoolBusy: the owner waits for too many already, or none came free in time.
            StoreClosed: the server stops.
        """
        if self._is_closed:
            raise StoreClosed
        if not self._is_pressed:
            self.beat()
        if self._may_take(owner) and not self._waiting.waiting_of(owner):
            self._take(owner)
            return
        if self._waiting.waiting_of(owner) >= self._waiting_per_owner:
            raise PoolBusy(self.name, RETRY_AFTER_MS)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.put(owner, (owner, turn))
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(owner)  # it came in the very moment in which nobody wanted it any more
            if isinstance(error, TimeoutError):
                raise PoolBusy(self.name, RETRY_AFTER_MS) from None
            raise

    def leave(self, owner: str) -> None:
        """Give a place back to whose turn it is."""
        self._taken -= 1
        self._taken_by[owner] -= 1
        if not self._taken_by[owner]:
            del self._taken_by[owner]
        self.beat()
        while self._taken < self.count and (next_one := self._waiting.take(self._may_take)) is not None:
            owner, turn = next_one
            if not turn.done():  # else nobody waits for it any more
                self._take(owner)
                turn.set_result(None)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Have a place inside the block, in the name of whoever this runs for. Raises what `enter` raises."""
        owner = OWNER.get()
        await self.enter(owner)
        try:
            yield
        finally:
            self.leave(owner)

    def beat(self) -> None:
        """Tell that what takes long comes forward. From any thread."""
        self._moved_at = time.monotonic()

    @property
    def is_stuck(self) -> bool:
        """Tell whether more is wanted than there is, and for too long no place was left."""
        return self._is_pressed and time.monotonic() - self._moved_at > self._stuck_s

    @property
    def state(self) -> dict[str, Any]:
        """What readiness tells: whether it comes forward, how much runs and how much waits."""
        return {"ok": not self.is_stuck, "places": self.count, "taken": self._taken, "waiting": len(self._waiting)}

    async def close(self) -> None:
        """Let nobody in any more."""
        self._is_closed = True
        while (next_one := self._waiting.take()) is not None:
            if not next_one[1].done():
                next_one[1].set_exception(StoreClosed())

    @property
    def _is_pressed(self) -> bool:
        return self._taken >= self.count or len(self._waiting) > 0

    def _may_take(self, owner: str) -> bool:
        # As many as it leaves to others: of four places one owner has two, the next one, and one is left.
        left = self.count - self._taken
        return left > 0 and (not owner or self._taken_by[owner] < min(self._per_owner, left))

    def _take(self, owner: str) -> None:
        self._taken += 1
        self._taken_by[owner] += 1


class Pool(Places):
    """Threads of one kind of work, used from one event loop. They start when they are needed.

    Args:
        timeout_s: how long a caller waits for a function; None: as long as it takes. A thread cannot be stopped.
        on_start: called in each thread before its first function.
        options: as of `Places`.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        *,
        timeout_s: float | None = 60.0,
        on_start: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, threads, wait_s=timeout_s, **options)
        self._timeout_s = timeout_s
        self._on_start = on_start
        self._queue: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any], str] | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._ended = asyncio.Event()

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run `fn(*args)` in a thread in the name of whoever this runs for; see `run_for`."""
        return await self.run_for(OWNER.get(), fn, *args)

    async def run_for(self, owner: str, fn: Callable[..., T], *args: Any) -> T:
        """Run `fn(*args)` in a thread and return what it returns, or raise what it raises.

        Cancelled, or late, a function that has begun goes on, and keeps its thread.

        Raises:
            PoolLate: it took longer than it may.
            PoolBusy, StoreClosed: as of `enter`; then it did not begin.
        """
        await self.enter(owner)
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        if self._taken > len(self._threads):
            # A daemon: one that hangs must not keep the process from its end.
            name = f"{self.name}-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, args=(loop,), name=name, daemon=True)
            self._threads.add(thread)
            thread.start()
        self._queue.put((lambda: fn(*args), result, owner))
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                return cast(T, await result)
        except TimeoutError:
            if not limit.expired():
                raise  # the function's own
            raise PoolLate(self.name, self._timeout_s or 0) from None

    async def close(self, within_s: float = 2.0) -> None:
        """Begin nothing more, and let what runs end for a while; what hangs is named in the log and left behind."""
        await super().close()
        for _ in self._threads:
            self._queue.put(None)
        try:
            async with asyncio.timeout(within_s):
                while self._threads:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            log.error("threads_hang", pool=self.name, threads=sorted(thread.name for thread in self._threads))

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._on_start is not None:
            self._on_start()
        # A loop that is closed waits for nothing.
        with suppress(RuntimeError):
            while (work := self._queue.get()) is not None:
                fn, result, owner = work
                loop.call_soon_threadsafe(self._done, result, owner, *_outcome(fn))
                del work, fn, result
            loop.call_soon_threadsafe(self._left, threading.current_thread())

    def _done(self, result: asyncio.Future[Any], owner: str, value: Any, failure: BaseException | None) -> None:
        self.leave(owner)
        if result.done():
            return  # nobody waits for it any more
        if failure is None:
            result.set_result(value)
        else:
            result.set_exception(failure)

    def _left(self, thread: threading.Thread) -> None:
        self._threads.discard(thread)
        self._ended.set()


def _outcome(fn: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return fn(), None
    except StopIteration as error:
        return None, RuntimeError(f"a thread's function raised {error!r}")  # which no future takes
    except BaseException as error:
        return None, error  # for whoever waits


@dataclass(frozen=True, slots=True)
class Pools:
    """Every pool of a server but the database's own, by what they are for.

    Args:
        stores: key-value stores. git: fetches and checkouts. jobs: what blocks in jobs.
        playbooks: processes that read playbooks. scans: calls that go through much, some of it in a turn of the loop.
        scripts: waiting for the sandbox. names: looking up the names of hosts.
        answers: making and reading what goes to others. backup: the backup.
    """

    stores: Pool
    git: Pool
    jobs: Pool
    playbooks: Places
    scans: Places
    scripts: Pool
    names: Pool
    answers: Pool
    backup: Pool

    @property
    def all(self) -> tuple[Places, ...]:
        """Each of them."""
        return tuple(getattr(self, field.name) for field in fields(self))

    async def close(self) -> None:
        """End all threads that can be ended."""
        await asyncio.gather(*(pool.close() for pool in self.all))
