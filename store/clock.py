"""The two clocks: moments are read off the wall, durations are counted by one that nobody sets.

A credential ends at a moment, and a cron line names moments: these go by the wall clock, wherever it is set to. A
delay, a time to answer, the life of a ticket, the age of an event are durations: setting the wall clock neither
shortens nor stretches them. Where a duration has to outlive the process, the row holds its end on the steady scale.
"""

import asyncio
import time
from collections.abc import Callable

SAME_MS = 50  # by less the two differ because one is read after the other
STEP_MS = 1000  # a wall clock that moves by less was corrected, not set
SETTLED_S = 60.0
LONGEST_WAIT_S = 30.0  # a machine may sleep, and timers of the event loop do not notice: the clock is looked at again


def now_ms() -> int:
    """Return the wall clock in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def _steady_seconds() -> Callable[[], float]:
    number = getattr(time, "CLOCK_BOOTTIME", None)
    if number is None:
        return time.monotonic
    try:
        time.clock_gettime(number)
    except OSError:
        return time.monotonic
    return lambda: time.clock_gettime(number)


_seconds = _steady_seconds()


class Clock:
    """The wall clock, and a steady one that nobody sets.

    The steady scale counts milliseconds as the wall clock does, and agrees with it until somebody sets that; after a
    restart it goes on where it was (`go_on`). Times on it are stored and compared with one another, and shown to
    people as a `moment`.
    """

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._settled_at = self.monotonic()
        self._zero_ms = self.now_ms() - round(self.monotonic() * 1000)

    def now_ms(self) -> int:
        """Return the wall clock in UTC milliseconds: for moments, and for what a row says of when it was made."""
        return now_ms()

    def monotonic(self) -> float:
        """Return the seconds of a clock that nobody sets; it counts while the machine sleeps, where the system can."""
        return _seconds()

    def steady_ms(self) -> int:
        """Return the steady scale's milliseconds: for durations and ages."""
        return self._zero_ms + int(self.monotonic() * 1000)

    def moment(self, steady_ms: int) -> int:
        """Return when something on the steady scale is, or was, by the wall clock as it is set now."""
        return steady_ms + self.ahead_ms

    @property
    def ahead_ms(self) -> int:
        """How far the wall clock is ahead of the steady scale: it changes when, and only when, somebody sets it."""
        self._look()
        return self._ahead_ms

    @property
    def is_settled(self) -> bool:
        """Nobody has set the wall clock for a minute: what cannot be undone is done by such a clock alone."""
        self._look()
        return self.monotonic() >= self._settled_at

    def _look(self) -> None:
        now, steady = self.both_ms()
        step_ms = now - steady - self._ahead_ms
        if abs(step_ms) > SAME_MS:
            self._ahead_ms += step_ms
        if abs(step_ms) >= STEP_MS:
            self._settled_at = self.monotonic() + SETTLED_S

    def both_ms(self) -> tuple[int, int]:
        """Return what the wall clock and the steady scale say at the same time."""
        while True:
            steady, now = self.steady_ms(), self.now_ms()
            if self.steady_ms() - steady <= SAME_MS:  # else the process, or the machine, was stopped in between
                return now, steady

    def go_on(self, now_ms: int, steady_ms: int) -> None:
        """Go on with the scale of an earlier process, which read these two at the same time.

        What has passed since is told by the wall clock alone; if that has gone back meanwhile, nothing has.
        """
        self._zero_ms = steady_ms + max(0, self.now_ms() - now_ms) - round(self.monotonic() * 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait for a duration."""
        end = self.monotonic() + seconds
        while (left_s := end - self.monotonic()) > 0:  # noqa: ASYNC110 (nobody wakes it)
            await asyncio.sleep(min(left_s, LONGEST_WAIT_S))

    async def wait(self, future: asyncio.Future[object], until_ms: int | None) -> bool:
        """Wait for a future until a time of the steady scale, or for ever, and tell whether it is done."""
        while not future.done():
            left_s = LONGEST_WAIT_S if until_ms is None else (until_ms - self.steady_ms()) / 1000
            if left_s <= 0:
                return False
            await asyncio.wait((future,), timeout=min(left_s, LONGEST_WAIT_S))
        return True


async def pause(wake: asyncio.Event, left_s: float | None) -> None:
    """Wait for an event, for so many seconds or less; None: as long as may be. The caller looks at its clock again."""
    try:
        async with asyncio.timeout(max(0.0, min(LONGEST_WAIT_S if left_s is None else left_s, LONGEST_WAIT_S))):
            await wake.wait()
    except TimeoutError:
        return
