"""How much is too much: calls a second, and failed attempts a minute. In memory, on the monotonic clock.

Source: protocol.md 2 (limits), promises.md S2, S12; decision 12 says why no package does this.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

_ADDRESSES = 10_000


class Meter:
    """Lets a steady rate of calls through, and a second's worth of them at once."""

    __slots__ = ("_clock", "_free_at", "_interval_s")

    def __init__(self, calls_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1 / calls_per_s
        self._free_at = 0.0
        self._clock = clock

    def take(self) -> float:
        """Count a call and return 0, or the seconds to wait when it is one too many; that one is not counted."""
        now = self._clock()
        free_at = max(self._free_at, now)
        # The bucket holds one second of calls, and at least one call.
        wait_s = free_at + self._interval_s - now - max(1.0, self._interval_s)
        if wait_s > 1e-9:
            return wait_s
        self._free_at = free_at + self._interval_s
        return 0.0


class Attempts:
    """Failed attempts by address: after `limit` different ones in `window_s` seconds an address has to wait.

    One that is repeated, as by a page that was forgotten, counts once. Only the addresses seen last are kept, so that
    many of them cost no memory.
    """

    def __init__(self, limit: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._failed: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def wait_s(self, address: str, key: str = "") -> float:
        """Return 0 when the address may try this one now, else for how many seconds it has to wait."""
        failed = self._failed.get(address)
        if failed is None:
            return 0.0
        now = self._clock()
        while failed and (oldest := next(iter(failed.values()))) <= now - self._window_s:
            failed.popitem(last=False)
        if not failed:
            del self._failed[address]
        if key in failed or len(failed) < self._limit:
            return 0.0
        return oldest + self._window_s - now

    def note(self, address: str, key: str) -> None:
        """Count a failed attempt."""
        failed = self._failed.setdefault(address, OrderedDict())
        failed.setdefault(key, self._clock())
        if len(failed) > self._limit:
            failed.popitem(last=False)
        self._failed.move_to_end(address)
        if len(self._failed) > _ADDRESSES:
            self._failed.popitem(last=False)
