"""Ids. They are time-ordered, so an index grows at its end (random keys cost SQLite over twice)."""

import os
import threading
from collections.abc import Iterator

from store.clock import now_ms

_RANDOM_BYTES = 9
_AT_ONCE = 512
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return `prefix` and 30 hexadecimal digits that sort by age: 48 bits of milliseconds, then 72 random bits.

    Every id sorts after the one before, also inside a millisecond and when the clock steps back; over a restart by
    `go_on`. The random part makes ids hard to guess; access is checked all the same.
    """
    global _last  # the one exception to "no module state": order must hold across every caller in the process
    with _lock:
        noise = next(_noise)
        value = (now_ms() << 8 * _RANDOM_BYTES) | noise
        if value <= _last:
            value = _last + 1 + (noise & 0xFFFFFFFF)
        _last = value
    return f"{prefix}{value:030x}"


def newest_ms() -> int:
    """Return of when the newest id says to be, in UTC milliseconds; 0 when there is none."""
    return _last >> 8 * _RANDOM_BYTES


def go_on(after_ms: int) -> None:
    """Have ids sort after those of an earlier process, whose newest said to be of then."""
    global _last
    with _lock:
        _last = max(_last, (after_ms + 1) << 8 * _RANDOM_BYTES)


def _noises() -> Iterator[int]:
    # Random bytes by the page: asking the kernel for nine at a time costs more than all the rest of an id.
    while True:
        page = os.urandom(_RANDOM_BYTES * _AT_ONCE)
        for start in range(0, len(page), _RANDOM_BYTES):
            yield int.from_bytes(page[start : start + _RANDOM_BYTES])


_noise = _noises()
