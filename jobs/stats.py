"""Counts by job function, for each user their own: runs, errors, and how long they took.

A run is an attempt; one that was cancelled is no error.
"""

import math
from collections import Counter, OrderedDict, deque
from typing import Any

KEPT = 512  # durations kept of each function, the newest
MANY = 1000  # runs
MAX_USERS = 5000  # whoever was idle longest is forgotten first


class _Counts:
    __slots__ = ("errors", "runs", "seconds")

    def __init__(self) -> None:
        self.runs = 0
        self.errors = 0
        self.seconds: deque[float] = deque(maxlen=KEPT)


class Stats:
    """Counts since the server started."""

    def __init__(self) -> None:
        self._users: OrderedDict[str, dict[str, _Counts]] = OrderedDict()
        self._recent: Counter[str] = Counter()

    def note(self, user_id: str, function: str, seconds: float, is_error: bool) -> None:
        """Count one run."""
        functions = self._users.get(user_id)
        if functions is None:
            functions = self._users[user_id] = {}
            if len(self._users) > MAX_USERS:
                self._users.popitem(last=False)
        else:
            self._users.move_to_end(user_id)
        counts = functions.get(function)
        if counts is None:
            counts = functions[function] = _Counts()
        self._recent[user_id] += 1
        counts.runs += 1
        counts.errors += is_error
        counts.seconds.append(seconds)

    def busy(self) -> list[str]:
        """Return who has run many jobs since they were last returned."""
        found = [user_id for user_id, count in self._recent.items() if count >= MANY]
        for user_id in found:
            del self._recent[user_id]
        return found

    def table(self, user_id: str) -> list[dict[str, Any]]:
        """Return a user's counts, by function: runs, errors, p50_ms and p99_ms of the newest durations."""
        return [
            {
                "function": name,
                "runs": counts.runs,
                "errors": counts.errors,
                "p50_ms": _percentile(counts.seconds, 0.50),
                "p99_ms": _percentile(counts.seconds, 0.99),
            }
            for name, counts in sorted(self._users.get(user_id, {}).items())
        ]


def _percentile(seconds: deque[float], share: float) -> float:
    """Return the shortest of the durations that this share of them does not exceed, in milliseconds."""
    ordered = sorted(seconds)
    return round(ordered[math.ceil(share * len(ordered)) - 1] * 1000, 3)
