"""What a running server counts, and the page /metrics that shows it in Prometheus' text format.

A call costs one dictionary look-up and a few additions; whatever can be asked for is asked when the page is read.
Source: the Prometheus text exposition format 0.0.4.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
LAG_EVERY_S = 0.25
UNKNOWN = "(unknown)"  # a method that is not there: its name is the client's, and would be a series without end
INVALID = "(invalid)"  # a message that is no call

Labels = dict[str, str]
Sample = tuple[Labels, float]


class Tally:
    """How often, with what code, and how long."""

    __slots__ = ("buckets", "codes", "seconds")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)

    def add(self, code: int, seconds: float) -> None:
        """Count one."""
        codes = self.codes
        codes[code] = codes.get(code, 0) + 1
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.calls: dict[str, Tally] = {}
        self.resumes: Counter[str] = Counter({"recovered": 0, "not_recovered": 0})
        self.jobs_ended: Counter[str] = Counter({"completed": 0, "failed": 0, "cancelled": 0})
        self.connections = 0
        self.lag = Tally()
        self._lag_timer: asyncio.TimerHandle | None = None

    def called(self, method: str, code: int, seconds: float) -> None:
        """Count an answered call; code 0 is success."""
        tally = self.calls.get(method)
        if tally is None:
            tally = self.calls[method] = Tally()
        tally.add(code, seconds)

    def watch_loop(self) -> None:
        """Begin to measure how late the event loop comes to what is due."""
        loop = asyncio.get_running_loop()
        due = loop.time() + LAG_EVERY_S
        self._lag_timer = loop.call_at(due, self._woken, due)

    def stop(self) -> None:
        """Measure no more."""
        if self._lag_timer is not None:
            self._lag_timer.cancel()

    def _woken(self, due: float) -> None:
        self.lag.add(0, asyncio.get_running_loop().time() - due)
        self.watch_loop()


def calls_by_code(metrics: Metrics) -> Iterable[Sample]:
    """Return the number of calls by method and code."""
    for method, tally in sorted(metrics.calls.items()):
        for code, count in sorted(tally.codes.items()):
            yield {"method": method, "code": str(code)}, count


def family(name: str, kind: str, words: str, samples: Iterable[Sample]) -> str:
    """Return a family of samples as text; a counter's name ends in `_total`."""
    lines = [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def histogram(name: str, words: str, tallies: Iterable[tuple[Labels, Tally]]) -> str:
    """Return tallies as a histogram of seconds."""
    lines = [f"# HELP {name} {words}", f"# TYPE {name} histogram"]
    for labels, tally in tallies:
        total = 0
        for bound, total in zip((*BUCKETS_S, float("inf")), accumulate(tally.buckets), strict=True):
            le = "+Inf" if bound == float("inf") else _number(bound)
            lines.append(f"{name}_bucket{_labels({**labels, 'le': le})} {total}")
        lines.append(f"{name}_sum{_labels(labels)} {_number(tally.seconds)}")
        lines.append(f"{name}_count{_labels(labels)} {total}")
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
