"""Counts by job function: runs, errors, and how long they took."""

from collections import defaultdict, deque
from typing import Any

KEPT = 1024  # durations kept for each function, the newest


class Stats:
    """Counts since the server started."""

    def __init__(self) -> None:
        self._runs: defaultdict[str, int] = defaultdict(int)
        self._errors: defaultdict[str, int] = defaultdict(int)
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def note(self, function: str, seconds: float, is_error: bool) -> None:
        """Count one attempt."""
        self._runs[function] += 1
        self._seconds[function].append(seconds)
        if is_error:
            self._errors[function] += 1

    def table(self) -> list[dict[str, Any]]:
        """Return, by function: runs, errors, p50_ms and p99_ms of the newest durations."""
        return [
            {
                "function": name,
                "runs": self._runs[name],
                "errors": self._errors[name],
                "p50_ms": _percentile(self._seconds[name], 0.50),
                "p99_ms": _percentile(self._seconds[name], 0.99),
            }
            for name in sorted(self._runs)
        ]


def _percentile(seconds: deque[float], share: float) -> float:
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)
