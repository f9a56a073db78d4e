"""A clock that tests set, and time that passes without anybody waiting."""

import pytest

import store.clock
from store import Clock

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
MONTH_S = 30 * DAY_S


class SetClock(Clock):
    """The real clocks, and what a test does to them."""

    def __init__(self) -> None:
        self._set_s = 0.0
        self._passed_s = 0.0
        super().__init__()

    def now_ms(self) -> int:
        """Return the wall clock as it was set."""
        return super().now_ms() + int((self._set_s + self._passed_s) * 1000)

    def monotonic(self) -> float:
        """Return the steady seconds, those of the sleep counted."""
        return super().monotonic() + self._passed_s

    def set_by(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._set_s += seconds

    def sleep_for(self, seconds: float) -> None:
        """Let time pass as while the machine sleeps: on both clocks, and for no timer of the event loop."""
        self._passed_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """A clock to be set, at which everybody looks again at once instead of after half a minute."""
    monkeypatch.setattr(store.clock, "LONGEST_WAIT_S", 0.02)
    return SetClock()
