"""Jobs to come: at a time, at an interval, or by a cron line. Submitting one and moving on is one transaction.

A moment and a cron line go by the wall clock as it is set, an interval by the steady scale. What falls due while the
server is up is run, once and at once, also when its machine slept meanwhile or somebody set the clock. What fell due
while no server ran is run only if that is less than a minute ago, or the schedule says so, and then once. What was not
run is told, in one notice (`schedule.missed`).
"""

import asyncio
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial
from typing import Any, Literal
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim, CronSimError

from jobs import rows
from jobs.authority import Authority, Ledger
from jobs.errors import (
    BadSchedule,
    CredentialEnded,
    CredentialExpired,
    CredentialRevoked,
    JobsError,
    ScheduleNotFound,
    TooManySchedules,
)
from jobs.model import JobEvent, JobRow, Request
from jobs.resilience import fenced
from jobs.rows import Sees
from store import STEP_MS, Store, StoreError, Tx, new_id, pause

FIELDS = 5
LONGEST_COUNT_MS = 10 * 366 * 24 * 3600 * 1000
_MINUTE_MS = 60_000
_A_DAY = timedelta(days=1)


class CronLine:
    """A cron line of five fields in a time zone; times are UTC milliseconds. Raises BadSchedule."""

    def __init__(self, line: str, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise BadSchedule(f"There is no time zone {zone[:80]!r}: give one such as Europe/Paris.") from error
        try:
            if len(line.split()) != FIELDS:
                raise CronSimError("Wrong number of fields")
            self._days = CronSim(line, datetime(2000, 1, 1, tzinfo=self._zone))
        except CronSimError as error:
            message = f"The cron line {line[:80]!r} is not one: {error}. It has five fields, as '0 7 * * 1'."
            raise BadSchedule(message) from error
        self._line = line
        self._minutes = sorted(hour * 60 + minute for hour in self._days.hours for minute in self._days.minutes)
        self.names_hours = not any(field.startswith("*") for field in line.split()[:2])

    def after(self, at: int) -> int | None:
        """Return when it is due next after a time; None when that never comes."""
        start = datetime.fromtimestamp(at / 1000, self._zone)
        begin, end = (datetime.combine(each, time(), self._zone) for each in (start.date(), start.date() + _A_DAY))
        found = [self._first(start, at)]
        if begin.utcoffset() != end.utcoffset():
            # CronSim goes on by whole hours: where the clocks went on by half of one, it passes by midnight.
            found.append(self._first(end - timedelta(minutes=1), at))
        return min((one for one in found if one is not None), default=None)

    def _first(self, start: datetime, at: int) -> int | None:
        # In the hour that the clocks show twice, what it finds first may be past.
        times = (_ms(found) for found in CronSim(self._line, start))
        return next((time for time in times if time > at), None)

    def count(self, after: int, upto: int) -> int:
        """Return how often it is due after one time and up to another, ten years at the most: by days, not by times."""
        after = max(after, upto - LONGEST_COUNT_MS)
        day = datetime.fromtimestamp(after / 1000, self._zone).date()
        last = datetime.fromtimestamp(upto / 1000, self._zone).date()
        total = 0
        while day <= last:
            total += self._in_day(day, after, upto)
            day += _A_DAY
        return total

    def _in_day(self, day: date, after: int, upto: int) -> int:
        begin, end = (datetime.combine(each, time(), self._zone) for each in (day, day + _A_DAY))
        if begin.utcoffset() != end.utcoffset():
            return self._in_changing_day(begin, after, min(upto, _ms(end) - 1))
        if day.month not in self._days.months or not self._days.match_day(day):
            return 0
        before, until = ((at - _ms(begin)) // _MINUTE_MS for at in (after, upto))
        return bisect_right(self._minutes, until) - bisect_right(self._minutes, before)

    def _in_changing_day(self, begin: datetime, after: int, upto: int) -> int:
        # Its hours are not what they are on other days: here, and only here, one after another is looked at.
        count, at = 0, max(after, _ms(begin) - 1)
        start = begin - timedelta(minutes=1) if after < _ms(begin) else datetime.fromtimestamp(after / 1000, self._zone)
        for found in CronSim(self._line, start):
            if _ms(found) > upto:
                break
            if _ms(found) > at:
                count, at = count + 1, _ms(found)
        return count


@lru_cache(maxsize=1000)
def cron_line(line: str, zone: str) -> CronLine:
    """Return the line, read once. Raises BadSchedule."""
    return CronLine(line, zone)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


log = structlog.get_logger("jobs")

Kind = Literal["cron", "interval", "at"]
Build = Callable[[str, dict[str, Any], Request], JobRow]
Add = Callable[[Tx, JobRow], str]
_COLUMNS = (
    "id, owner_id, session_id, function, data, kind, spec, is_catching_up, next_at, last_at, last_job_id, missed,"
    " created_at, authority, skipped, skipped_from, crashes"
)
MIN_INTERVAL_S = 1.0
MAX_INTERVAL_S = timedelta(days=366).total_seconds()
PUT_OFF_MS = 60_000  # of one that broke
LATE_MS = 60_000  # later than this was missed, not just slow
AT_ONCE = 100  # schedules looked at together
WALL_CHECK_S = 1.0  # the wall clock may be set at any time: what waits for a moment looks at it this often
REPEATED_MS = 3 * 3600 * 1000  # a clock set back by less than this shows the same hours again, as when summer ends
STORE_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row of `schedules`. `spec`: a cron line with its time zone, seconds, or UTC milliseconds, by `kind`.

    `next_at` is a moment; of an interval it is on the steady scale. `skipped`: runs since the last one that were not
    submitted, as that one had not begun yet, the first of them at the moment `skipped_from`. `crashes`: how often in a
    row the server was killed while a job of it ran.
    """

    id: str
    owner_id: str
    session_id: str | None
    function: str
    data: str
    kind: str
    spec: str
    is_catching_up: int
    next_at: int | None
    last_at: int | None
    last_job_id: str | None
    missed: int
    created_at: int
    authority: str = "[]"
    skipped: int = 0
    skipped_from: int | None = None
    crashes: int = 0

    def after(self, at: int) -> int | None:
        """Return when it is due next after a time, both on its own scale; None when it is over."""
        if self.kind == "at":
            return int(self.spec) if int(self.spec) > at else None
        if self.kind == "interval":
            last = at if self.next_at is None else self.next_at - self._every_ms
            return last + (max(0, at - last) // self._every_ms + 1) * self._every_ms
        return self._line.after(at)

    def count(self, now: int) -> int:
        """Return how often it has fallen due by now, from `next_at` on."""
        if self.kind == "at" or self.next_at is None:
            return 1
        if self.kind == "interval":
            return (now - self.next_at) // self._every_ms + 1
        return 1 + self._line.count(self.next_at, now)

    def again_after(self, now: int) -> int | None:
        """Return when it is due next as the clock is set now, which may have gone back since `next_at` was found."""
        if self.kind == "interval":
            return now + self._every_ms
        is_repeated = self.last_at is not None and now < self.last_at < now + REPEATED_MS
        return self._line.after(self.last_at if is_repeated and self._line.names_hours and self.last_at else now)

    @property
    def _every_ms(self) -> int:
        return int(float(self.spec) * 1000)

    @property
    def _line(self) -> CronLine:
        line, _, zone = self.spec.partition("@")
        return cron_line(line, zone)


def cron(line: str, zone: str = "UTC") -> tuple[Kind, str]:
    """Return kind and spec of a cron line of five fields in a time zone. Raises BadSchedule."""
    cron_line(line, zone)
    return "cron", f"{line}@{zone}"


def interval(every_s: float) -> tuple[Kind, str]:
    """Return kind and spec of an interval in seconds. Raises BadSchedule."""
    if not MIN_INTERVAL_S <= every_s <= MAX_INTERVAL_S:
        raise BadSchedule("every_s is 1 second at the least and 366 days at the most.")
    return "interval", str(every_s)


def moment(at: int) -> tuple[Kind, str]:
    """Return kind and spec of a moment in UTC milliseconds."""
    return "at", str(at)


def count(tx: Tx, owner_id: str) -> int:
    """Return how many schedules a user has."""
    row = tx.one("SELECT count(*) FROM schedules WHERE owner_id = ?", owner_id)
    return int(row[0]) if row else 0


class Schedules:
    """Submits what falls due.

    Args:
        build: makes the row of a job from function, data and request; raises what submitting would.
        add: adds the row in a transaction and has it queued after the commit; raises what submitting would.
        ledger: keeps the credentials that brought schedules.
        max_per_user: schedules one user may have.
    """

    def __init__(
        self,
        store: Store,
        build: Build,
        add: Add,
        announce: Callable[[Tx, JobEvent], None],
        ledger: Ledger,
        max_per_user: int,
    ) -> None:
        self._store = store
        self._build = build
        self._add = add
        self._announce = announce
        self._ledger = ledger
        self._max_per_user = max_per_user
        self._wake = asyncio.Event()
        self._down_until: tuple[int, int] | None = None

    async def create(
        self,
        function: str,
        data: dict[str, Any],
        owner_id: str,
        authority: Authority,
        session_id: str | None,
        when: tuple[Kind, str],
        *,
        is_catching_up: bool = False,
    ) -> Schedule:
        """Add a schedule; each run is asked anew whether those who brought it may have it.

        Raises UnknownFunction, BadJobData or BadSchedule now rather than when it is due; TooManySchedules.
        """
        self._build(function, data, Request(owner_id, authority, session_id))
        kind, spec = when
        new = Schedule(
            id=new_id("sch_"),
            owner_id=owner_id,
            session_id=session_id,
            function=function,
            data=json.dumps(data),
            kind=kind,
            spec=spec,
            is_catching_up=int(is_catching_up),
            next_at=None,
            last_at=None,
            last_job_id=None,
            missed=0,
            created_at=self._store.clock.now_ms(),
            authority=authority.stored,
        )
        due = new.after(self._now(new))
        if due is None and new.kind == "at":
            raise BadSchedule("That moment is past: give UTC milliseconds of one to come.")
        if due is None:
            raise BadSchedule("That never comes.")
        schedule = replace(new, next_at=due)

        def insert(tx: Tx) -> None:
            if count(tx, owner_id) >= self._max_per_user:
                raise TooManySchedules(self._max_per_user)
            tx.run(
                f"INSERT INTO schedules ({_COLUMNS}) VALUES ({', '.join('?' * 17)})",  # noqa: S608 (constants)
                *(getattr(schedule, name) for name in Schedule.__slots__),
            )
            tx.after_commit(self._wake.set)

        await self._store.write(insert)
        return schedule

    async def delete(self, schedule_id: str, owner_id: str, sees: Sees | None = None) -> None:
        """Take a schedule away, if it is one of those seen; jobs it started go on. Raises ScheduleNotFound."""

        def take(tx: Tx) -> None:
            own = (schedule_id, owner_id)
            row = tx.one("SELECT function, authority FROM schedules WHERE id = ? AND owner_id = ?", *own)
            if row is None or (sees is not None and not sees(*row)):
                raise ScheduleNotFound(schedule_id)
            tx.run("DELETE FROM schedules WHERE id = ?", schedule_id)

        await self._store.write(take)

    async def run(self) -> None:
        """Submit what falls due, until cancelled."""
        clock = self._store.clock
        self._down_until = clock.both_ms()
        ahead_ms: int | None = None
        while True:
            self._wake.clear()
            try:
                await self._sweep()
                self._down_until = None
                seen = clock.ahead_ms
                if ahead_ms is None or abs(seen - ahead_ms) >= STEP_MS:
                    await self._look_again()
                    ahead_ms = seen
                left_s = await self._store.read(self._left_s)
            except StoreError as error:
                # A full disk is no reason to forget what is due.
                log.warning("schedules_wait", reason=str(error))
                await asyncio.sleep(STORE_RETRY_S)
                continue
            await pause(self._wake, left_s)

    async def _sweep(self) -> None:
        """Take everything that is due one turn further."""
        while due := await self._store.read(self._due):
            turns = []
            for schedule in due:
                turns.append(asyncio.ensure_future(self._turn(schedule)))
                await asyncio.sleep(0)  # counting takes its time: others have theirs between one and the next
            await asyncio.gather(*turns)

    async def _look_again(self) -> None:
        """Bring nearer what the clock as it was set before had put too far away."""
        last_id = ""
        while page := await self._store.read(lambda tx: _waiting(tx, last_id)):  # noqa: B023
            nearer = []
            for schedule in page:
                next_at = await fenced("schedule_broke", self._again(schedule), schedule_id=schedule.id)
                if next_at is not None and schedule.next_at is not None and next_at < schedule.next_at:
                    nearer.append((next_at, schedule.id, schedule.next_at))
                await asyncio.sleep(0)
            if nearer:
                await self._store.write(lambda tx: _move(tx, nearer))  # noqa: B023
            last_id = page[-1].id

    async def _again(self, schedule: Schedule) -> int | None:
        return schedule.again_after(self._now(schedule))

    def _now(self, schedule: Schedule) -> int:
        clock = self._store.clock
        return clock.steady_ms() if schedule.kind == "interval" else clock.now_ms()

    def _due(self, tx: Tx) -> list[Schedule]:
        select = f"SELECT {_COLUMNS} FROM schedules WHERE kind"  # noqa: S608 (a constant)
        steady = tx.all(f"{select} = 'interval' AND next_at <= ? LIMIT ?", tx.clock.steady_ms(), AT_ONCE)
        others = tx.all(f"{select} IN ('cron', 'at') AND next_at <= ? LIMIT ?", tx.clock.now_ms(), AT_ONCE)
        return [Schedule(*row) for row in steady + others]

    def _left_s(self, tx: Tx) -> float | None:
        least = "SELECT min(next_at) FROM schedules WHERE next_at IS NOT NULL AND kind"
        steady, others = tx.one(f"{least} = 'interval'"), tx.one(f"{least} IN ('cron', 'at')")
        left_s = []
        if steady is not None and steady[0] is not None:
            left_s.append((steady[0] - tx.clock.steady_ms()) / 1000)
        if others is not None and others[0] is not None:
            left_s += [WALL_CHECK_S, (others[0] - tx.clock.now_ms()) / 1000]
        return min(left_s, default=None)

    async def _turn(self, schedule: Schedule) -> None:
        if not await fenced("schedule_broke", self._fire(schedule), schedule_id=schedule.id):
            later = (self._now(schedule) + PUT_OFF_MS, schedule.id, schedule.next_at)
            await self._store.write(lambda tx: _move(tx, [later]))

    async def _fire(self, schedule: Schedule) -> bool:
        now, due = self._now(schedule), schedule.next_at or 0
        was_down = self._down_until is not None and due <= self._down_until[schedule.kind == "interval"]
        is_late = was_down and now - due > LATE_MS
        # Counted here: inside the transaction everybody else's would wait for it.
        missed, next_at = schedule.count(now) - (not is_late), schedule.after(now)

        def fire(tx: Tx) -> None:
            is_as_seen = tx.run(
                "UPDATE schedules SET next_at = ?, last_at = ?, missed = missed + ? WHERE id = ? AND next_at = ?",
                *(next_at, tx.clock.now_ms(), missed, schedule.id, due),
            )
            if not is_as_seen:
                return  # taken away since
            if missed:
                self._tell(tx, schedule, missed)
            if not is_late or schedule.is_catching_up:
                self._run_or_skip(tx, schedule)

        await self._store.write(fire)
        return True

    def _run_or_skip(self, tx: Tx, schedule: Schedule) -> None:
        """Submit a job, unless the one before waits still: then another would only wait behind it."""
        before = None if schedule.last_job_id is None else rows.state_of(tx, schedule.last_job_id)
        try:
            job_id = None if before == "queued" else self._submit(tx, schedule)
        except CredentialEnded as error:
            self.withdraw(tx, schedule, str(error))
            return
        if job_id is None:
            now = tx.clock.now_ms()
            tx.run(
                "UPDATE schedules SET missed = missed + 1, skipped = skipped + 1,"
                " skipped_from = coalesce(skipped_from, ?) WHERE id = ?",
                *(now, schedule.id),
            )
            if not schedule.skipped:
                self._tell(tx, schedule, 1)  # the others with the next run, together
            return
        if schedule.skipped > 1:
            self._tell(tx, schedule, schedule.skipped - 1, schedule.skipped_from)
        tx.run(
            "UPDATE schedules SET last_job_id = ?, skipped = 0, skipped_from = NULL, crashes = ? WHERE id = ?",
            *(job_id, 0 if before == "succeeded" else schedule.crashes, schedule.id),
        )

    def note_crash(self, tx: Tx, job_id: str, most: int) -> None:
        """Count that the server was killed while a job ran; a schedule under which it was so often starts no more."""
        tx.run("UPDATE schedules SET crashes = crashes + 1 WHERE last_job_id = ?", job_id)
        found = tx.all(
            f"SELECT {_COLUMNS} FROM schedules WHERE last_job_id = ? AND crashes >= ? AND next_at IS NOT NULL",  # noqa: S608
            *(job_id, most),
        )
        for schedule in (Schedule(*row) for row in found):
            log.error("schedule_withdrawn", schedule_id=schedule.id, function=schedule.function, job_id=job_id)
            self.withdraw(tx, schedule, f"The server went down {schedule.crashes} times while a job of it ran.")

    def _tell(self, tx: Tx, schedule: Schedule, missed: int, since: int | None = None) -> None:
        due = schedule.next_at or 0
        if since is None:
            since = tx.clock.moment(due) if schedule.kind == "interval" else due
        details = {"schedule_id": schedule.id, "missed": missed, "from": since, "until": tx.clock.now_ms()}
        owner, function, session_id = schedule.owner_id, schedule.function, schedule.session_id
        self._announce(tx, JobEvent("schedule.missed", owner, None, function, session_id, details, schedule.authority))

    async def take_back(self, credential_id: str, why: CredentialEnded) -> None:
        """Have no schedule start anything more that a credential brought which has ended."""
        while some := await self._store.read(lambda tx: brought_by(tx, credential_id, AT_ONCE)):
            await self._store.write(partial(self._withdraw_all, schedules=some, why=why))

    def _withdraw_all(self, tx: Tx, schedules: Sequence[Schedule], why: CredentialEnded) -> None:
        for schedule in schedules:
            self.withdraw(tx, schedule, str(why))

    def withdraw(self, tx: Tx, schedule: Schedule, why: str) -> None:
        """Have a schedule start nothing more, and tell its owner; it stays to be looked at."""
        tx.run("UPDATE schedules SET next_at = NULL WHERE id = ?", schedule.id)
        details = {"schedule_id": schedule.id, "reason": why}
        owner, function, session_id = schedule.owner_id, schedule.function, schedule.session_id
        event = JobEvent("schedule.withdrawn", owner, None, function, session_id, details, schedule.authority)
        self._announce(tx, event)

    def _submit(self, tx: Tx, schedule: Schedule) -> str | None:
        """Submit a job; None when it cannot be now. Raises CredentialRevoked or CredentialExpired."""
        authority = self._ledger.load(tx, schedule.authority)
        request = Request(schedule.owner_id, authority, schedule.session_id, is_interactive=False)
        try:
            authority.require(schedule.function)
            job = self._build(schedule.function, json.loads(schedule.data), request)
            if authority.is_metered:
                spent = self._ledger.spend(tx, authority, schedule.function)
                if spent.refusal is not None:
                    raise spent.refusal
                tx.after_commit(lambda: self._ledger.note(spent.entries, "ok"))
            return self._add(tx, job)
        except (CredentialRevoked, CredentialExpired):
            raise
        except JobsError as error:
            # Its plugin is gone, its owner has all the waiting jobs they may have, or who brought it may not any more.
            log.warning("schedule_not_run", schedule_id=schedule.id, reason=str(error))
            return None


def _move(tx: Tx, moves: Sequence[tuple[int, str, int | None]]) -> None:
    """Have schedules be due at another time, given as (that, id, the time they were due)."""
    tx.many("UPDATE schedules SET next_at = ? WHERE id = ? AND next_at = ?", moves)


def _waiting(tx: Tx, after: str) -> list[Schedule]:
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM schedules WHERE id > ? AND next_at IS NOT NULL AND kind <> 'at' ORDER BY id LIMIT ?",  # noqa: S608
        after,
        AT_ONCE,
    )
    return [Schedule(*row) for row in rows]


def brought_by(tx: Tx, credential_id: str, limit: int) -> list[Schedule]:
    """Return up to `limit` schedules still to come that a credential brought."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM schedules WHERE next_at IS NOT NULL AND authority LIKE ? LIMIT ?",  # noqa: S608
        *(f'%"{credential_id}"%', limit),
    )
    return [Schedule(*row) for row in rows]


def page(tx: Tx, owner_id: str, limit: int, after: str | None, sees: Sees | None = None) -> list[Schedule]:
    """Return up to `limit` schedules of a user, the oldest first; `sees`: only these."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM schedules WHERE owner_id = ? AND (? IS NULL OR id > ?) ORDER BY id LIMIT ?",  # noqa: S608
        *(owner_id, after, after),
        limit if sees is None else -1,  # all: a limit bounds how many a user has
    )
    found = (Schedule(*row) for row in rows)
    return [schedule for schedule in found if sees is None or sees(schedule.function, schedule.authority)][:limit]
