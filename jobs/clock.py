"""What an attempt may take: a clock that stands still while a person is asked."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Stoppable(Protocol):
    """What stands still while a person is asked: the clock of the job around, or the slot of the outermost."""

    def stop(self) -> None: ...
    def go_on(self) -> None: ...


class Clock:
    """The time one attempt has.

    Args:
        timeout_s: seconds; what passes while the clock is stopped does not count.
        around: what is to stand still with it.
    """

    __slots__ = ("_around", "_left_s", "_limit", "_stops")

    def __init__(self, timeout_s: float, around: Callable[[], Stoppable]) -> None:
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

    def stop(self) -> None:
        """Stand still, until `go_on` was called as often as this."""
        self._stops += 1
        if self._stops > 1:
            return
        if (limit := self._running) is not None and (at := limit.when()) is not None:
            self._left_s = at - asyncio.get_running_loop().time()
            limit.reschedule(None)
        self._around().stop()

    def go_on(self) -> None:
        """Count again, unless it was stopped a second time meanwhile."""
        self._stops -= 1
        if self._stops:
            return
        if (limit := self._running) is not None:
            limit.reschedule(asyncio.get_running_loop().time() + self._left_s)
        self._around().go_on()

    def end(self) -> None:
        """Time nothing more: the attempt is over."""
        self._limit = None

    @property
    def _running(self) -> asyncio.Timeout | None:
        return None if self._limit is None or self._limit.expired() else self._limit
