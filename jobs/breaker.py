"""Leaves out what keeps taking too long, a plugin or a remote, so that nobody waits for it; it is tried again later."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from store import OWNER

log = structlog.get_logger("breaker")

EVERYBODY = ""
LONGEST_REST_S = 600.0
MAX_OWNERS = 1000  # remembered for one thing


@dataclass(slots=True)
class _Rest:
    """Until when something is left out, and how long that is."""

    until: float
    rest_s: float
    tried_until: float = 0.0  # somebody tries it now: the others go on without, unless nothing is heard of that


@dataclass(slots=True)
class _Record:
    """What is known of one thing: who waited too long for it since it last answered, and for whom it is left out."""

    late: Counter[str] = field(default_factory=Counter)
    rests: dict[str, _Rest] = field(default_factory=dict)


class Breaker:
    """Counts time-outs in a row.

    One owner's time-outs leave a thing out for that owner alone, who may be the reason; those of two owners, without an
    answer to anybody in between, for everybody.

    Args:
        after: how many of one owner's time-outs leave a thing out.
        rest_s: how long, the first time; doubled each time it takes too long again, up to ten minutes.
        clock: seconds that nobody sets.
    """

    def __init__(self, after: int, rest_s: float, clock: Callable[[], float]) -> None:
        self._after = after
        self._rest_s = rest_s
        self._clock = clock
        self._records: dict[tuple[str, ...], _Record] = {}

    def wait_s(self, thing: tuple[str, ...], owner: str | None = None) -> float:
        """Return 0 when the thing may be asked now, else in how many seconds it is tried again.

        Whoever is let in when the time is over tries it for the others.

        Args:
            owner: None, here and below: in whose name this runs.
        """
        record = self._records.get(thing)
        if record is None:
            return 0.0
        now = self._clock()
        for whose in dict.fromkeys((EVERYBODY, _named(owner))):
            rest = record.rests.get(whose)
            if rest is None:
                continue
            until = max(rest.until, rest.tried_until)
            if now < until:
                return until - now
            rest.tried_until = now + self._rest_s
        return 0.0

    def late(self, thing: tuple[str, ...], owner: str | None = None) -> None:
        """Note that the thing took too long."""
        owner = _named(owner)
        record = self._records.setdefault(thing, _Record())
        record.late[owner] += 1
        if len(record.late) > MAX_OWNERS:
            del record.late[next(iter(record.late))]
        if EVERYBODY in record.rests or (len(record.late) > 1 and record.late.total() >= self._after):
            self._leave_out(thing, record, EVERYBODY)
        elif record.late[owner] >= self._after:
            self._leave_out(thing, record, owner)

    def answered(self, thing: tuple[str, ...], owner: str | None = None) -> None:
        """Note that the thing answered in time, whatever it said."""
        owner = _named(owner)
        record = self._records.get(thing)
        if record is None:
            return
        if record.rests.pop(EVERYBODY, None) is not None or record.rests.pop(owner, None) is not None:
            log.warning("let_in_again", thing=" ".join(thing))
        record.late.clear()
        record.rests.pop(owner, None)
        if not record.rests:
            del self._records[thing]

    def left_out(self, owner: str | None = None) -> dict[tuple[str, ...], float]:
        """Return what is left out for an owner, and in how many seconds it is tried again."""
        concerned, now = {EVERYBODY, _named(owner)}, self._clock()
        return {
            thing: max(0.0, max(record.rests[whose].until for whose in found) - now)
            for thing, record in self._records.items()
            if (found := concerned & record.rests.keys())
        }

    def _leave_out(self, thing: tuple[str, ...], record: _Record, whose: str) -> None:
        before = record.rests.get(whose)
        now = self._clock()
        if before is not None and now < before.until:
            return  # asked before it was left out, and late as well
        rest_s = self._rest_s if before is None else min(2 * before.rest_s, LONGEST_REST_S)
        record.rests[whose] = _Rest(now + rest_s, rest_s)
        log.error("left_out", thing=" ".join(thing), owner_id=whose or None, rest_s=rest_s, late=record.late.total())


def _named(owner: str | None) -> str:
    return OWNER.get() if owner is None else owner
