"""Ids and the wall clock. Ids are time-ordered, so an index grows at its end (random keys cost SQLite over twice)."""

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 72
_lock = threading.Lock()
_last = 0


def now_ms() -> int:
    """Return the wall clock in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str) -> str:
    """Return `prefix` and 24 characters that sort by age: 48 bits of milliseconds, then 72 random bits.

    Within one process every id sorts after the one before, also inside a millisecond and when the clock steps
    back. The random part makes ids hard to guess; access is checked all the same.
    """
    global _last  # the one exception to "no module state": order must hold across every caller in the process
    with _lock:
        value = (now_ms() << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        if value <= _last:
            value = _last + 1 + secrets.randbits(32)
        _last = value
    return prefix + _base32(value)


def _base32(value: int) -> str:
    return "".join([_ALPHABET[(value >> shift) & 31] for shift in range(115, -1, -5)])
