"""Time limits that stand still while a person is asked, and the chain of those that do so together.

Whatever else is waited for, another job, a host, a thread, an hour, takes time but no slot (`elsewhere`).

A question stops the clock of the job that asks, and of everything that waits for that job: the jobs around it, the
plugin that runs it, the call. Its end lets them go on; what was given away meanwhile, such as a call's turn on its
session, is waited for before the asker goes on (`back`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Protocol


class Stoppable(Protocol):
    """What stands still while a person is asked."""

    def stop(self, job_id: str) -> None:
        """Stand still, until `go_on` was called as often as this; `job_id` is the job that is waited for."""

    def go_on(self) -> None:
        """Count again, unless it was stopped a second time meanwhile."""

    def leave(self) -> None:
        """Let others have the slot while something is waited for; time goes on. Ended by `come_back`, then `back`."""

    def come_back(self) -> None:
        """Want the slot again."""

    async def back(self) -> None:
        """Wait for what was given away meanwhile."""


# What waits for the code that runs here, in this task or one it started: a question asked by it stops that, too.
CURRENT: ContextVar[Stoppable | None] = ContextVar("clock", default=None)


class Clock:
    """The time something may take.

    Args:
        timeout_s: seconds; what passes while the clock is stopped does not count. None: no end.
        around: what stands still with it; None: nothing.
    """

    __slots__ = ("_around", "_left_s", "_limit", "_stops")

    def __init__(self, timeout_s: float | None, around: Stoppable | None) -> None:
        self._left_s = timeout_s
        self._around = around
        self._limit: asyncio.Timeout | None = None
        self._stops = 0

    def start(self) -> asyncio.Timeout:
        """Return the limit to run within; it stands still if the clock was stopped before it was started."""
        self._limit = asyncio.timeout(None if self._stops else self._left_s)
        return self._limit

    @property
    def is_up(self) -> bool:
        """Tell whether the time is over."""
        return self._limit is not None and self._limit.expired()

    @property
    def is_stopped(self) -> bool:
        """Tell whether a person is asked now."""
        return self._stops > 0

    def stop(self, job_id: str) -> None:
        """Stand still, and everything around it."""
        self._stops += 1
        if self._stops > 1:
            return
        if (limit := self._running) is not None and (at := limit.when()) is not None:
            self._left_s = at - asyncio.get_running_loop().time()
            limit.reschedule(None)
        if self._around is not None:
            self._around.stop(job_id)

    def go_on(self) -> None:
        """Count again, and everything around it."""
        self._stops -= 1
        if self._stops:
            return
        if (limit := self._running) is not None:
            limit.reschedule(None if self._left_s is None else asyncio.get_running_loop().time() + self._left_s)
        if self._around is not None:
            self._around.go_on()

    def leave(self) -> None:
        """Let others have the slot of what is around it."""
        if self._around is not None:
            self._around.leave()

    def come_back(self) -> None:
        """Want that slot again."""
        if self._around is not None:
            self._around.come_back()

    async def back(self) -> None:
        """Wait for what was given away around it."""
        if self._around is not None:
            await self._around.back()

    def end(self) -> None:
        """Time nothing more."""
        self._limit = None

    @property
    def _running(self) -> asyncio.Timeout | None:
        return None if self._limit is None or self._limit.expired() else self._limit


@asynccontextmanager
async def elsewhere(around: Stoppable | None) -> AsyncIterator[None]:
    """Let others have the slot inside the block, in which something is waited for that the slot is of no use to."""
    if around is None:
        yield
        return
    around.leave()
    try:
        yield
    finally:
        around.come_back()
        await around.back()
