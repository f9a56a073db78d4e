"""Jobs to come: at a time, at an interval, or by a cron line. Submitting one and moving on is one transaction.

What fell due and was not run is told (`schedule.missed`): while the server was down, or for several times at once. What
is late by more than a minute is run only if the schedule says so, and then once.

A cron line is that of Debian's cron, read in a time zone: a time the clocks leave out when they go forward is run right
after the change, one they show twice is run the first time; lines with `*` in hours or minutes follow the real time.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim, CronSimError

from core import users
from jobs.errors import BadSchedule, JobsError, ScheduleNotFound, TooManySchedules
from jobs.fence import fenced
from jobs.model import JobEvent, JobRow, Request
from store import Store, StoreError, Tx, new_id, now_ms

log = structlog.get_logger("jobs")

Kind = Literal["cron", "interval", "at"]
Build = Callable[[str, dict[str, Any], Request], JobRow]
Add = Callable[[Tx, JobRow], str]
_COLUMNS = (
    "id, owner_id, session_id, function, data, kind, spec, is_catching_up, next_at, last_at, last_job_id, missed,"
    " created_at"
)
MIN_INTERVAL_S = 1.0
PUT_OFF_MS = 60_000  # of one that broke
LATE_MS = 60_000  # later than this was missed, not just slow
MAX_COUNTED = 10_000  # of missed runs
CRON_FIELDS = 5
LONGEST_SLEEP_S = 3600.0  # the wall clock may be set: look again now and then
STORE_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row of `schedules`. `spec`: a cron line with its time zone, seconds, or UTC milliseconds, by `kind`."""

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

    def after(self, at: int) -> int | None:
        """Return when it is due next after a time, both in UTC milliseconds; None when it is over."""
        if self.kind == "at":
            return int(self.spec) if int(self.spec) > at else None
        if self.kind == "interval":
            every = int(float(self.spec) * 1000)
            steps = max(0, at - self.created_at) // every + 1
            return self.created_at + steps * every
        line, _, zone = self.spec.partition("@")
        start = datetime.fromtimestamp(at / 1000, ZoneInfo(zone or "UTC"))
        # In the hour that the clocks show twice, what it finds first may be past.
        times = (int(found.timestamp() * 1000) for found in CronSim(line, start))
        return next((time for time in times if time > at), None)


def cron(line: str, zone: str = "UTC") -> tuple[Kind, str]:
    """Return kind and spec of a cron line of five fields in a time zone. Raises BadSchedule."""
    try:
        if len(line.split()) != CRON_FIELDS:
            raise CronSimError("Wrong number of fields")
        CronSim(line, datetime.now(ZoneInfo(zone)))
    except CronSimError as error:
        message = f"The cron line {line[:80]!r} is not one: {error}. It has five fields, as '0 7 * * 1'."
        raise BadSchedule(message) from error
    except (KeyError, ValueError) as error:
        raise BadSchedule(f"There is no time zone {zone[:80]!r}: give one such as Europe/Paris.") from error
    return "cron", f"{line}@{zone}"


def interval(every_s: float) -> tuple[Kind, str]:
    """Return kind and spec of an interval in seconds. Raises BadSchedule."""
    if not MIN_INTERVAL_S <= every_s <= timedelta(days=366).total_seconds():
        raise BadSchedule("An interval is 1 second at the least and 366 days at the most.")
    return "interval", str(every_s)


def moment(at: int) -> tuple[Kind, str]:
    """Return kind and spec of a moment in UTC milliseconds. Raises BadSchedule when it is past."""
    if at <= now_ms():
        raise BadSchedule("That moment is past: give UTC milliseconds of one to come.")
    return "at", str(at)


class Schedules:
    """Submits what falls due.

    Args:
        build: makes the row of a job from function, data and request; raises what submitting would.
        add: adds the row in a transaction and has it queued after the commit; raises what submitting would.
        max_per_user: schedules one user may have.
    """

    def __init__(
        self, store: Store, build: Build, add: Add, announce: Callable[[Tx, JobEvent], None], max_per_user: int
    ) -> None:
        self._store = store
        self._build = build
        self._add = add
        self._announce = announce
        self._max_per_user = max_per_user
        self._wake = asyncio.Event()

    async def create(
        self,
        function: str,
        data: dict[str, Any],
        owner_id: str,
        session_id: str | None,
        when: tuple[Kind, str],
        *,
        is_catching_up: bool = False,
    ) -> Schedule:
        """Add a schedule.

        Raises UnknownFunction, BadJobData or BadSchedule now rather than when it is due; TooManySchedules.
        """
        self._build(function, data, Request(owner_id, session_id))
        kept = (function, json.dumps(data))
        new = Schedule(
            new_id("sch_"), owner_id, session_id, *kept, *when, int(is_catching_up), None, None, None, 0, now_ms()
        )
        due = new.after(new.created_at)
        if due is None:
            raise BadSchedule("That never comes.")
        schedule = replace(new, next_at=due)

        def insert(tx: Tx) -> None:
            row = tx.one("SELECT count(*) FROM schedules WHERE owner_id = ?", owner_id)
            if row is not None and row[0] >= self._max_per_user:
                raise TooManySchedules(self._max_per_user)
            tx.run(
                f"INSERT INTO schedules ({_COLUMNS}) VALUES ({', '.join('?' * 13)})",  # noqa: S608 (constants)
                *(getattr(schedule, name) for name in Schedule.__slots__),
            )
            tx.after_commit(self._wake.set)

        await self._store.write(insert)
        return schedule

    async def delete(self, schedule_id: str, owner_id: str) -> None:
        """Take a schedule away; jobs it started go on. Raises ScheduleNotFound."""

        def take(tx: Tx) -> None:
            if not tx.run("DELETE FROM schedules WHERE id = ? AND owner_id = ?", schedule_id, owner_id):
                raise ScheduleNotFound(schedule_id)

        await self._store.write(take)

    async def run(self) -> None:
        """Submit what falls due, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._sweep()
                row = await self._store.read(lambda tx: tx.one("SELECT min(next_at) FROM schedules"))
            except StoreError as error:
                # A full disk is no reason to forget what is due.
                log.warning("schedules_wait", reason=str(error))
                await asyncio.sleep(STORE_RETRY_S)
                continue
            due = row[0] if row else None
            left_s = LONGEST_SLEEP_S if due is None else (due - now_ms()) / 1000
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(left_s, LONGEST_SLEEP_S))):
                    await self._wake.wait()

    async def _sweep(self) -> None:
        now = now_ms()
        due = await self._store.read(lambda tx: tx.all("SELECT id FROM schedules WHERE next_at <= ?", now))
        await asyncio.gather(*(self._fire(schedule_id, now) for (schedule_id,) in due))

    async def _fire(self, schedule_id: str, now: int) -> None:
        fired = self._store.write(lambda tx: self._fire_in(tx, schedule_id, now))
        if not await fenced("schedule_broke", fired, schedule_id=schedule_id):
            await self._store.write(partial(_put_off, schedule_id=schedule_id, at=now + PUT_OFF_MS))

    def _fire_in(self, tx: Tx, schedule_id: str, now: int) -> bool:
        row = tx.one(f"SELECT {_COLUMNS} FROM schedules WHERE id = ? AND next_at <= ?", schedule_id, now)  # noqa: S608
        if row is None:
            return True  # taken away since
        schedule = Schedule(*row)
        due = schedule.next_at or now
        is_late = now - due > LATE_MS
        missed = self._count(schedule, due, now) - (not is_late)
        if missed:
            details = {"schedule_id": schedule.id, "missed": missed, "since": due}
            self._announce(
                tx,
                JobEvent("schedule.missed", schedule.owner_id, None, schedule.function, schedule.session_id, details),
            )
        job_id = schedule.last_job_id
        if not is_late or schedule.is_catching_up:
            job_id = self._submit(tx, schedule) or job_id
        tx.run(
            "UPDATE schedules SET next_at = ?, last_at = ?, last_job_id = ?, missed = missed + ? WHERE id = ?",
            schedule.after(now),
            now,
            job_id,
            missed,
            schedule.id,
        )
        return True

    def _submit(self, tx: Tx, schedule: Schedule) -> str | None:
        owner = users.find(tx, schedule.owner_id)
        if owner is not None and owner.is_frozen:
            log.warning("schedule_not_run", schedule_id=schedule.id, reason="its user is frozen")
            return None
        try:
            job = self._build(
                schedule.function,
                json.loads(schedule.data),
                Request(schedule.owner_id, schedule.session_id, is_interactive=False),
            )
            return self._add(tx, job)
        except JobsError as error:
            # Its plugin is gone, or its owner has as many jobs waiting as he may have.
            log.warning("schedule_not_run", schedule_id=schedule.id, reason=str(error))
            return None

    def _count(self, schedule: Schedule, due: int, now: int) -> int:
        count, at = 0, due
        while at <= now and count < MAX_COUNTED:
            count += 1
            following = schedule.after(at)
            if following is None:
                break
            at = following
        return count


def _put_off(tx: Tx, schedule_id: str, at: int) -> None:
    tx.run("UPDATE schedules SET next_at = ? WHERE id = ?", at, schedule_id)


def page(tx: Tx, owner_id: str, limit: int, after: str | None) -> list[Schedule]:
    """Return up to `limit` schedules of a user, the oldest first."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM schedules WHERE owner_id = ? AND (? IS NULL OR id > ?) ORDER BY id LIMIT ?",  # noqa: S608
        owner_id,
        after,
        after,
        limit,
    )
    return [Schedule(*row) for row in rows]
