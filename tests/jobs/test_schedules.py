"""Schedules: when they are due, in which zone, and what is told of what was not run."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core import users
from core.calls import Scene
from jobs import schedules
from jobs.authority import SERVER
from jobs.errors import BadSchedule, TooManySchedules
from jobs.functions.core import OPERATOR
from jobs.model import JobEvent
from jobs.schedules import CronLine, Schedule
from tests.jobs.conftest import Engine, Start

MINUTE = 60_000
BRUSSELS = "Europe/Brussels"


def ms(text: str) -> int:
    """Return a moment, given in UTC, as UTC milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def due(when: tuple[str, str], start: str, count: int, next_at: int | None = None) -> list[str]:
    """Return the next times a schedule is due, each found from the one before, in UTC."""
    schedule = Schedule("sch_1", "u_1", None, "f", "{}", *when, 0, next_at, None, None, 0, 0)
    at: int | None = ms(start)
    found = []
    for _ in range(count):
        assert at is not None
        at = schedule.after(at)
        if at is not None:
            found.append(datetime.fromtimestamp(at / 1000, UTC).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("line", "start", "expected"),
    [
        # The clocks go from 2:00 to 3:00 on 29 March 2026, at 1:00 UTC.
        ("30 2 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30"]),
        ("0 * * * *", "2026-03-28T23:30", ["03-29 00:00", "03-29 01:00", "03-29 02:00"]),
        # They go from 3:00 back to 2:00 on 25 October, at 1:00 UTC: 2:30 comes twice.
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("30 2 * * *", "2026-10-25T01:10", ["10-26 01:30"]),
        ("*/20 2 * * *", "2026-10-25T00:50", ["10-25 01:00", "10-25 01:20", "10-25 01:40", "10-26 01:00"]),
        ("*/30 * * * *", "2026-10-24T23:45", ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"]),
        # What a line may hold besides numbers.
        ("0 7 * * MON-FRI", "2026-11-20T06:30", ["11-23 06:00", "11-24 06:00"]),
        ("0 0 L * *", "2026-11-20T00:00", ["11-29 23:00", "12-30 23:00"]),
        ("0 0 * * MON#1", "2026-11-20T00:00", ["12-06 23:00"]),
        ("15,45 8-9/1 1 JAN *", "2026-11-20T00:00", ["01-01 07:15", "01-01 07:45", "01-01 08:15"]),
    ],
)
def test_cron_lines_follow_the_clocks_of_their_zone(line: str, start: str, expected: list[str]) -> None:
    """A time the clocks leave out is run after the change, one they show twice is run the first time."""
    assert due(schedules.cron(line, BRUSSELS), start, len(expected)) == expected


def test_intervals_keep_their_step() -> None:
    """An interval counts from when it was made, however late a run was."""
    first = ms("2026-11-20T00:00") + 90_000
    assert due(schedules.interval(90), "2026-11-20T00:00", 3, first) == ["11-20 00:01", "11-20 00:03", "11-20 00:04"]
    assert due(schedules.interval(3600), "2026-11-20T05:59", 1, ms("2026-11-20T01:00")) == ["11-20 06:00"]
    assert due(schedules.interval(3600), "2026-11-20T05:59", 2) == ["11-20 06:59", "11-20 07:59"]


@pytest.mark.parametrize("line", ["@daily", "* * * * * *", "61 * * * *", "", "0 7 * *", "0 7 * * 1@UTC"])
def test_what_is_no_cron_line_is_refused(line: str) -> None:
    """The words say what one looks like."""
    with pytest.raises(BadSchedule, match="five fields"):
        schedules.cron(line)


@pytest.mark.parametrize("zone", ["Nowhere/At_All", "Europe", "", "../UTC", "/etc/passwd", "x" * 300])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    """Neither a folder of zones nor a path is one."""
    with pytest.raises(BadSchedule, match="time zone"):
        schedules.cron("0 7 * * 1", zone)


@pytest.fixture
async def scheduling(start: Start) -> AsyncIterator[tuple[Engine, Callable[..., Any]]]:
    """An engine, and how to make a schedule of anna's that was due some time ago and is looked at now."""
    async with start(max_schedules_per_user=4, max_waiting_per_user=3) as engine:
        engine.world.gate.set()
        anna = await engine.store.write(lambda tx: users.create(Scene(tx, OPERATOR), "anna"))

        async def overdue(every_s: float, by_ms: int, is_catching_up: bool = False, **given: Any) -> Schedule:
            made = await engine.runner.schedules.create(
                "gated",
                {"text": "x"},
                anna.id,
                SERVER,
                None,
                schedules.interval(every_s),
                is_catching_up=is_catching_up,
            )
            due_at = engine.store.clock.steady_ms() - by_ms
            await engine.store.write(
                lambda tx: tx.run("UPDATE schedules SET next_at = ? WHERE id = ?", due_at, made.id)
            )
            engine.runner.schedules._wake.set()
            now = made
            while now.last_at is None:
                await asyncio.sleep(0)
                now = await found(engine, made.id)
            return now

        yield engine, overdue


async def found(engine: Engine, schedule_id: str) -> Schedule:
    """Return a schedule as it is now."""
    owner = await engine.store.read(lambda tx: tx.one("SELECT owner_id FROM schedules WHERE id = ?", schedule_id))
    assert owner is not None
    rows = await engine.store.read(lambda tx: schedules.page(tx, owner[0], 10, None))
    return next(schedule for schedule in rows if schedule.id == schedule_id)


async def missed(engine: Engine) -> list[int]:
    """Return what was told of missed runs, once all that is stored is told."""
    await engine.store.write(lambda tx: None)
    return [event.details["missed"] for event in engine.told if event.topic == "schedule.missed"]


async def test_what_was_not_run_is_told(scheduling: tuple[Engine, Callable[..., Any]]) -> None:
    """Of several that fell due within a minute one is run, and the others are told."""
    engine, overdue = scheduling
    schedule = await overdue(20, 41_000)
    assert (schedule.missed, schedule.last_job_id is not None) == (2, True)
    assert await missed(engine) == [2]


@pytest.mark.parametrize("is_catching_up", [False, True])
async def test_what_is_too_late_while_the_server_is_up_is_run_once(
    scheduling: tuple[Engine, Callable[..., Any]], is_catching_up: bool
) -> None:
    """However late it is looked at, one of several is run, and the others are told."""
    engine, overdue = scheduling
    schedule = await overdue(600, 61 * MINUTE, is_catching_up)
    assert (schedule.missed, schedule.last_job_id is not None) == (6, True)
    assert await missed(engine) == [6]
    assert schedule.next_at is not None and schedule.next_at > engine.store.clock.steady_ms()


async def test_what_is_a_little_late_is_just_run(scheduling: tuple[Engine, Callable[..., Any]]) -> None:
    """A server that is slow by some seconds has missed nothing."""
    engine, overdue = scheduling
    schedule = await overdue(600, 30_000)
    assert (schedule.missed, schedule.last_job_id is not None) == (0, True)
    assert await missed(engine) == []


async def test_schedules_keep_to_the_limits_of_their_owner(scheduling: tuple[Engine, Callable[..., Any]]) -> None:
    """A user has so many schedules; what they add to a full queue is left out, and they go on."""
    engine, overdue = scheduling
    engine.world.gate.clear()
    made = [await overdue(3600, 1000) for _ in range(4)]
    with pytest.raises(TooManySchedules):
        await overdue(3600, 1000)
    assert all(schedule.next_at is not None for schedule in made)


async def test_a_deleted_schedule_leaves_its_job_alone(scheduling: tuple[Engine, Callable[..., Any]]) -> None:
    """Taking a schedule away while its job runs ends neither the job nor anything else."""
    engine, overdue = scheduling
    engine.world.gate.clear()
    schedule = await overdue(3600, 1000)
    await engine.world.entered.wait()
    await engine.runner.schedules.delete(schedule.id, schedule.owner_id)
    engine.world.gate.set()

    def is_end(event: JobEvent) -> bool:
        return event.topic == "job.completed" and event.job_id == schedule.last_job_id

    assert await engine.until(is_end)


async def test_jobs_of_a_schedule_wait_for_approval_too(scheduling: tuple[Engine, Callable[..., Any]]) -> None:
    """A user whose jobs are held does not get round that by way of a schedule."""
    engine, overdue = scheduling
    bob = await engine.store.write(lambda tx: users.create(Scene(tx, OPERATOR), "bob"))
    anna = await engine.store.read(lambda tx: users.find_by_name(tx, "anna"))
    assert anna is not None
    await engine.runner.defer(anna.id, bob.id)
    schedule = await overdue(3600, 1000)
    row = await engine.runner.get(schedule.last_job_id)
    assert row is not None and (row.state, row.is_held) == ("queued", 1)
    await engine.runner.defer(anna.id, None)
    assert (await engine.runner.wait(row.id, 10)).state == "succeeded"


async def test_a_schedule_that_breaks_stops_no_other(
    scheduling: tuple[Engine, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose zone is gone, for instance, is put off; the others are run."""
    engine, overdue = scheduling
    broken = await overdue(3600, 1000)
    after = Schedule.after

    def fails(schedule: Schedule, at: int) -> int | None:
        if schedule.id == broken.id:
            raise KeyError("no such zone")
        return after(schedule, at)

    monkeypatch.setattr(Schedule, "after", fails)
    await engine.store.write(lambda tx: tx.run("UPDATE schedules SET next_at = 1 WHERE id = ?", broken.id))
    assert (await overdue(3600, 1000)).last_job_id is not None
    assert (await found(engine, broken.id)).next_at > engine.store.clock.steady_ms()


async def test_lines_are_counted_by_days() -> None:
    """A year of minutes is counted in no time, and as one by one."""
    line = CronLine("* * * * *", BRUSSELS)
    began = time.perf_counter()
    assert line.count(ms("2025-11-20T00:00"), ms("2026-11-20T00:00")) == 365 * 24 * 60
    assert time.perf_counter() - began < 0.5


FIELDS = ("0", "30", "15,45", "*/20", "*", "5-50/15")
HOURS = ("0", "2", "23", "1-3", "*", "*/6", "2,12")
DAYS = (("*", "*"), ("29", "*"), ("*", "SUN"), ("1", "MON-FRI"), ("L", "*"), ("*/2", "SUN#5"))
# Days on which clocks change: by an hour at 1:00 UTC, by half an hour, at midnight, and on none.
CHANGES = {
    BRUSSELS: ("2026-03-29", "2026-10-25"),
    "America/Sao_Paulo": ("2018-11-04", "2018-02-18"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),
    "America/Havana": ("2026-03-08", "2026-11-01"),
    "UTC": ("2026-12-31",),
}


@example("*/20", "0", ("*", "*"), ("Australia/Lord_Howe", "2026-10-04"), 1201, 1261)  # a change by half an hour
@given(
    minute=st.sampled_from(FIELDS),
    hour=st.sampled_from(HOURS),
    days=st.sampled_from(DAYS),
    change=st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days]),
    before_m=st.integers(0, 2000),
    length_m=st.integers(0, 3000),
)
@settings(max_examples=150, deadline=None)
def test_counting_by_days_is_counting_one_by_one(
    minute: str, hour: str, days: tuple[str, str], change: tuple[str, str], before_m: int, length_m: int
) -> None:
    """Whatever the line, and whatever the clocks of its zone do meanwhile."""
    read = CronLine(f"{minute} {hour} {days[0]} * {days[1]}", change[0])
    first = ms(f"{change[1]}T12:00") - before_m * MINUTE
    last = first + length_m * MINUTE
    count, at = 0, read.after(first)
    while at is not None and at <= last:
        count, at = count + 1, read.after(at)
    assert read.count(first, last) == count
