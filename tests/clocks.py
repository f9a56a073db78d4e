"""A clock that tests set, and time that passes without anybody waiting."""

import asyncio

from store import Clock

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
MONTH_S = 30 * DAY_S
LOOK_EVERY_S = 0.01
READS = 30  # of all who wait together: each has had its turn several times


class SetClock(Clock):
    """The real clocks, and what a test does to them."""

    def __init__(self) -> None:
        self._reads = 0
        self._set_s = 0.0
        self._passed_s = 0.0
        super().__init__()

    def now_ms(self) -> int:
        """Return the wall clock as it was set."""
        return super().now_ms() + int((self._set_s + self._passed_s) * 1000)

    def monotonic(self) -> float:
        """Return the steady seconds, those of the sleep counted."""
        self._reads += 1
        return super().monotonic() + self._passed_s

    def set_by(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._set_s += seconds

    def sleep_for(self, seconds: float) -> None:
        """Let time pass as while the machine sleeps: on both clocks, and for no timer of the event loop."""
        self._passed_s += seconds

    async def looked_at(self) -> None:
        """Wait until whoever waits for a time has looked at the clock again."""
        wanted = self._reads + READS
        async with asyncio.timeout(20):
            while self._reads < wanted:  # noqa: ASYNC110 (a clock that is read tells nobody)
                await asyncio.sleep(LOOK_EVERY_S)
