"""Schedules while the wall clock is set, summer begins or ends, and the machine sleeps: each fires once, in time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from core import users
from core.calls import Scene
from jobs import schedules
from jobs.authority import SERVER
from jobs.functions.core import OPERATOR
from jobs.schedules import Schedule
from tests.clocks import DAY_S, HOUR_S, MONTH_S, SetClock
from tests.jobs.conftest import Engine, Start

BRUSSELS = "Europe/Brussels"
STEPS_S = (7, -7, 2 * HOUR_S, -2 * HOUR_S, 2 * MONTH_S, -2 * MONTH_S)


@dataclass
class Scheduling:
    """An engine of schedules, a clock to be set, and the user whose they are."""

    engine: Engine
    clock: SetClock
    user_id: str

    async def add(self, when: tuple[schedules.Kind, str], *, is_catching_up: bool = False) -> str:
        """Make a schedule and return its id."""
        made = await self.engine.runner.schedules.create(
            "echo", {"text": "due"}, self.user_id, SERVER, None, when, is_catching_up=is_catching_up
        )
        return made.id

    async def get(self, schedule_id: str) -> Schedule:
        """Return a schedule as it is now."""
        rows = await self.engine.store.read(lambda tx: schedules.page(tx, self.user_id, 100, None))
        return next(row for row in rows if row.id == schedule_id)

    async def fired(self, count: int) -> None:
        """Wait until so many jobs were started, look some more, and see that there are no others."""
        async with asyncio.timeout(20):
            while self.count < count:  # noqa: ASYNC110 (as it is told, by another task)
                await asyncio.sleep(0)
        await self.looked_at()
        assert self.count == count

    async def looked_at(self) -> None:
        """Have the schedules looked at a few times."""
        for _ in range(2):
            self.engine.runner.schedules._wake.set()
            await self.clock.looked_at()

    @property
    def count(self) -> int:
        """How many jobs schedules have started."""
        return sum(event.topic == "job.completed" for event in self.engine.told)

    @property
    def missed(self) -> list[int]:
        """How many runs were told as missed, notice by notice."""
        return [event.details["missed"] for event in self.engine.told if event.topic == "schedule.missed"]

    def set_to(self, text: str) -> None:
        """Set the wall clock to a moment, given in UTC."""
        wanted = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000
        self.clock.set_by((wanted - self.clock.now_ms()) / 1000)


@pytest.fixture
async def scheduling(start: Start, clock: SetClock) -> AsyncIterator[Scheduling]:
    """An engine at noon of a day in January."""
    async with start(clock=clock) as engine:
        anna = await engine.store.write(lambda tx: users.create(Scene(tx, OPERATOR), "anna"))
        scene = Scheduling(engine, clock, anna.id)
        scene.set_to("2026-01-20T12:00:30")
        await scene.looked_at()
        yield scene


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_an_interval_is_not_set_with_the_clock(scheduling: Scheduling, step_s: float) -> None:
    """It is neither early nor late, and its step is kept."""
    schedule_id = await scheduling.add(schedules.interval(600))
    for count in (1, 2):
        scheduling.clock.set_by(step_s)
        await scheduling.fired(count - 1)
        scheduling.clock.sleep_for(600)
        await scheduling.fired(count)
    assert (await scheduling.get(schedule_id)).missed == 0 and scheduling.missed == []


async def test_a_clock_that_was_a_day_ahead_silences_nothing(scheduling: Scheduling) -> None:
    """Fifty minutes of tomorrow, and back: what fires each hour, and each forty minutes, goes on."""
    every = await scheduling.add(schedules.interval(2400))
    line = await scheduling.add(schedules.cron("0 * * * *"))
    scheduling.clock.set_by(DAY_S)
    await scheduling.fired(1)  # the line: a day's hours at once, as one run and one notice
    assert scheduling.missed == [24 - 1]
    scheduling.clock.sleep_for(3000)
    await scheduling.fired(2)
    scheduling.clock.set_by(-DAY_S)
    await scheduling.looked_at()
    scheduling.clock.sleep_for(3600)
    await scheduling.fired(4)
    for schedule_id, within_ms in ((every, 2_400_000), (line, 3_600_000)):
        schedule = await scheduling.get(schedule_id)
        now = scheduling.clock.steady_ms() if schedule_id == every else scheduling.clock.now_ms()
        assert schedule.next_at is not None and 0 < schedule.next_at - now <= within_ms


@pytest.mark.parametrize("kind", ["at", "cron", "interval"])
async def test_a_sleep_of_the_machine_makes_one_run(scheduling: Scheduling, kind: str) -> None:
    """What fell due meanwhile is run once, at once; what was not run is told once, with how much and from when."""
    whens = {
        "at": schedules.moment(scheduling.clock.now_ms() + 1000),
        "cron": schedules.cron("*/10 * * * *"),
        "interval": schedules.interval(600),
    }
    await scheduling.add(whens[kind])
    slept_from = scheduling.clock.now_ms()
    scheduling.clock.sleep_for(8 * HOUR_S)
    await scheduling.fired(1)
    assert scheduling.missed == ([] if kind == "at" else [47])
    for event in scheduling.engine.told:
        if event.topic == "schedule.missed":
            assert 0 < event.details["from"] - slept_from <= 600_000
            assert event.details["until"] - slept_from == pytest.approx(8 * HOUR_S * 1000, abs=30_000)


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_a_moment_comes_with_the_wall_clock(scheduling: Scheduling, step_s: float) -> None:
    """Set past it, it is there at once; set back, it takes the longer; it comes once."""
    left_s = HOUR_S
    await scheduling.add(schedules.moment(scheduling.clock.now_ms() + int(left_s * 1000)))
    scheduling.clock.set_by(step_s)
    await scheduling.fired(int(step_s > left_s))
    scheduling.clock.sleep_for(max(0.0, left_s - step_s) + 1)
    await scheduling.fired(1)
    scheduling.clock.set_by(-DAY_S)
    scheduling.clock.sleep_for(2 * DAY_S)
    await scheduling.fired(1)
    assert scheduling.missed == []


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_a_line_strikes_once_whatever_is_set(scheduling: Scheduling, step_s: float) -> None:
    """Set past its minutes, it is run once at once and tells how many it missed; set back, it strikes at the next."""
    await scheduling.add(schedules.cron("*/10 * * * *"))
    scheduling.clock.set_by(step_s)
    passed = max(0, int(step_s // 600))
    await scheduling.fired(min(passed, 1))
    assert scheduling.missed == ([passed - 1] if passed > 1 else [])
    for count in (1, 2):
        scheduling.clock.sleep_for(600)
        await scheduling.fired(min(passed, 1) + count)
    assert len(scheduling.missed) == int(passed > 1)


async def test_a_line_is_due_by_the_clock_as_it_is_set(scheduling: Scheduling) -> None:
    """Months forward, months back: it is run when its hour strikes."""
    await scheduling.add(schedules.cron("0 3 * * *"))
    scheduling.set_to("2026-03-10T02:59:30")
    await scheduling.fired(1)  # the days from January on, as one
    assert scheduling.missed == [47]
    scheduling.clock.sleep_for(60)
    await scheduling.fired(2)
    scheduling.set_to("2026-01-05T02:59:30")
    await scheduling.fired(2)
    scheduling.clock.sleep_for(60)
    await scheduling.fired(3)
    assert scheduling.missed == [47]


async def test_an_hour_shown_again_repeats_no_hour_that_was_named(scheduling: Scheduling) -> None:
    """Set back by less than three hours, a clock shows again what was run; by more, it was wrong."""
    daily = await scheduling.add(schedules.cron("0 13 * * *"))
    scheduling.clock.sleep_for(HOUR_S)
    await scheduling.fired(1)
    scheduling.clock.set_by(-HOUR_S)
    await scheduling.looked_at()
    scheduling.clock.sleep_for(HOUR_S)
    await scheduling.fired(1)
    following = (await scheduling.get(daily)).next_at
    assert following == int(datetime(2026, 1, 21, 13, tzinfo=UTC).timestamp() * 1000)
    hourly = await scheduling.add(schedules.cron("0 * * * *"))
    scheduling.clock.sleep_for(HOUR_S)
    await scheduling.fired(2)
    scheduling.clock.set_by(-HOUR_S)
    await scheduling.looked_at()
    scheduling.clock.sleep_for(HOUR_S)
    await scheduling.fired(3)  # what is due each hour is due each hour
    scheduling.clock.set_by(-3 * DAY_S)
    await scheduling.looked_at()
    for schedule_id in (daily, hourly):
        schedule = await scheduling.get(schedule_id)
        assert schedule.next_at is not None and schedule.next_at - scheduling.clock.now_ms() <= DAY_S * 1000


@pytest.mark.parametrize(
    ("line", "before", "runs"),
    [
        # The clocks of Brussels go from 2:00 to 3:00 on 29 March, at 1:00 UTC, and back on 25 October, at 1:00 UTC.
        ("30 2 * * *", "2026-03-29T00:10", (0, 0, 0, 0, 1, 1, 1, 1)),
        ("30 2 * * *", "2026-10-25T00:10", (0, 1, 1, 1, 1, 1, 1, 1)),
        ("30 * * * *", "2026-03-29T00:10", (0, 1, 1, 1, 1, 1, 1, 2)),
        ("30 * * * *", "2026-10-25T00:10", (0, 1, 1, 1, 1, 1, 1, 2)),
        ("0 3 * * *", "2026-03-29T00:10", (0, 0, 0, 0, 1, 1, 1, 1)),
    ],
)
async def test_when_summer_begins_and_ends(
    scheduling: Scheduling, line: str, before: str, runs: tuple[int, ...]
) -> None:
    """Looked at every ten minutes, the line of a zone has been run so often; nothing was missed."""
    scheduling.set_to(before)
    await scheduling.looked_at()
    await scheduling.add(schedules.cron(line, BRUSSELS))
    for count in runs:
        scheduling.clock.sleep_for(605)
        await scheduling.fired(count)
    assert scheduling.missed == []


@pytest.mark.parametrize("is_catching_up", [False, True])
async def test_what_was_due_while_no_server_ran(start: Start, clock: SetClock, is_catching_up: bool) -> None:
    """It is told, and run once only if the schedule says so; what is less than a minute late is just run."""
    async with start(clock=clock) as engine:
        anna = await engine.store.write(lambda tx: users.create(Scene(tx, OPERATOR), "anna"))
        before = Scheduling(engine, clock, anna.id)
        late = await before.add(schedules.interval(3600), is_catching_up=is_catching_up)
        moment = await before.add(
            schedules.moment(clock.now_ms() + int(DAY_S * 1000) - 30_000), is_catching_up=is_catching_up
        )
    clock.sleep_for(DAY_S)
    async with start(clock=clock) as engine:
        after = Scheduling(engine, clock, anna.id)
        await after.fired(1 + is_catching_up)
        assert after.missed == [24]
        assert (await after.get(late)).missed == 24 and (await after.get(moment)).missed == 0


async def test_what_a_wrong_clock_put_far_away_is_brought_back_at_the_start(start: Start, clock: SetClock) -> None:
    """A server that ran while the clock was ahead by months leaves nothing that waits for months."""
    async with start(clock=clock) as engine:
        anna = await engine.store.write(lambda tx: users.create(Scene(tx, OPERATOR), "anna"))
        before = Scheduling(engine, clock, anna.id)
        before.set_to("2026-04-20T12:02:30")  # some way from the next five minutes, whenever the test is run
        made = [await before.add(when) for when in (schedules.cron("*/5 * * * *"), schedules.interval(300))]
    clock.set_by(-3 * MONTH_S)
    async with start(clock=clock) as engine:
        after = Scheduling(engine, clock, anna.id)
        await after.looked_at()
        assert [(await after.get(schedule_id)).last_at for schedule_id in made] == [None, None]
        clock.sleep_for(300)
        await after.fired(2)
