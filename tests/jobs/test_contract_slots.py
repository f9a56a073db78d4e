"""Slots: what waits takes none, whoever comes finds one, and what the server died under twice is left alone."""

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest

from core import users
from core.calls import Scene
from jobs import schedules
from jobs.authority import SERVER
from jobs.functions.core import OPERATOR
from jobs.model import Request
from store import StoreFull, Tx
from tests.jobs.conftest import ANNA, Engine, Start
from tests.jobs.contract import World
from tests.jobs.test_full_disk import full

BOB = Request("u_bob", SERVER)


async def begun(engine: Engine, *ids: str) -> None:
    """Wait until jobs have begun."""
    for job_id in ids:
        await engine.until(lambda event, job_id=job_id: event.topic == "job.started" and event.job_id == job_id)


async def eventually(fits: Callable[[], bool]) -> None:
    """Wait until something is so that nobody tells of."""
    async with asyncio.timeout(20):
        while not fits():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.parametrize("function", ["sleeps", "threads", "joins"])
async def test_what_waits_takes_no_slot(start: Start, function: str) -> None:
    """More jobs than there are slots wait, for a time, a thread, another job: the next one starts all the same."""
    async with start(slots=2, per_user=2) as engine:
        gated = await engine.runner.submit("gated", {"text": "first"}, BOB)
        await begun(engine, gated)
        waiting = [await engine.runner.submit(function, {"text": gated}, ANNA) for _ in range(6)]
        await begun(engine, *waiting)
        other = await engine.runner.submit("gated", {"text": "other"}, ANNA)
        await begun(engine, other)
        assert engine.runner.dispatcher.waiting_of(ANNA.owner_id) == 6, "they count among what waits"
        engine.world.gate.set()
        engine.world.thread_gate.set()
        assert await engine.runner.result(other) == "other"
        for job_id in waiting:
            if function == "sleeps":
                assert await engine.runner.cancel(job_id)
            assert (await engine.runner.wait(job_id, 10)).state == (
                "cancelled" if function == "sleeps" else "succeeded"
            )
        await eventually(lambda: engine.runner.dispatcher.waiting_of(ANNA.owner_id) == 0)
        await eventually(lambda: engine.runner.dispatcher._queue.running == 0)


async def test_who_comes_back_waits_for_a_slot(start: Start) -> None:
    """Ten jobs wait for the same moment: afterwards no more of them work at once than have slots."""
    async with start(slots=4, per_user=2) as engine:
        ids = [await engine.runner.submit("naps", {"text": str(number)}, ANNA) for number in range(10)]
        await begun(engine, *ids)
        engine.world.bell.set()
        await eventually(lambda: engine.world.running == 2)
        engine.world.gate.set()
        for job_id in ids:
            assert (await engine.runner.wait(job_id, 10)).state == "succeeded"
        assert engine.world.most_running == 2
        await eventually(lambda: engine.runner.dispatcher._queue.running == 0)


async def test_a_job_that_wants_its_slot_back_can_be_stopped(start: Start) -> None:
    """Cancelled while others have all slots, it ends at once, and takes nothing with it."""
    async with start(slots=1, per_user=1) as engine:
        napping = await engine.runner.submit("naps", {"text": "a"}, ANNA)
        await begun(engine, napping)
        gated = await engine.runner.submit("gated", {"text": "b"}, BOB)
        await begun(engine, gated)
        engine.world.bell.set()
        await eventually(lambda: bool(engine.runner.dispatcher._coming))
        assert await engine.runner.cancel(napping)
        assert (await engine.runner.wait(napping, 10)).state == "cancelled"
        engine.world.gate.set()
        assert await engine.runner.result(gated) == "b"
        await eventually(lambda: engine.runner.dispatcher._queue.running == 0)


async def test_a_question_gives_the_slot_to_others_and_takes_it_again(start: Start) -> None:
    """One slot: while one job asks another runs; answered, the first goes on when that has ended."""
    async with start(slots=1, per_user=1) as engine:
        asking = await engine.runner.submit("asks_first", {}, ANNA)
        event = await engine.until(lambda event: event.topic == "ask.opened")
        gated = await engine.runner.submit("gated", {"text": "b"}, BOB)
        await begun(engine, gated)
        await engine.runner.asks.answer(event.details["ask_id"], ANNA.owner_id, "red")
        engine.world.gate.set()
        assert (await engine.runner.wait(gated, 10)).state == "succeeded"
        assert (await engine.runner.wait(asking, 10)).state == "succeeded"
        await eventually(lambda: engine.runner.dispatcher._queue.running == 0)


async def test_what_ran_when_the_server_was_killed_twice_is_lost(start: Start) -> None:
    """The third server does not take it up; it is told, with how often, and can be run again by hand."""
    async with start() as engine:
        job_id = await engine.runner.submit("gated", {"text": "x"}, replace(ANNA, dedup_key="k"))
        await begun(engine, job_id)
    async with start() as engine:
        await begun(engine, job_id)
    async with start() as engine:
        row = await engine.runner.wait(job_id, 10)
        assert (row.state, row.attempt, row.crashes) == ("lost", 2, 2)
        error = json.loads(row.error or "")
        assert (error["kind"], error["crashes"]) == ("JOB_LOST", 2) and "more than once" in error["message"]
        assert engine.topics(job_id) == ["job.failed"]
        engine.world.gate.set()
        again = await engine.runner.retry(job_id, SERVER)
        assert await engine.runner.result(again) == "x"


async def test_a_stop_is_no_crash_and_waiting_for_a_person_is_not_running(start: Start) -> None:
    """A job may be there at any number of restarts; one that asks at any number of kills."""
    asked = ""
    for number in range(4):
        async with start(World(), was_killed=False) as engine:
            if not number:
                asked = await engine.runner.submit("gated", {"text": "x"}, ANNA)
            await begun(engine, asked)
    async with start(World(), was_killed=False) as engine:
        row = await engine.runner.get(asked)
        assert row is not None and row.crashes == 0
        assert await engine.runner.cancel(asked)
        asked = await engine.runner.submit("asks_again", {}, ANNA)
        await engine.until(lambda event: event.topic == "ask.opened")
    for _ in range(3):
        async with start(World()) as engine:
            await begun(engine, asked)
            await eventually(lambda: engine.runner.dispatcher._away[asked] == 1)
            await engine.store.write(lambda tx: None)  # behind the one that says so in the row
            row = await engine.runner.get(asked)
            assert row is not None and (row.state, row.crashes) == ("waiting_input", 0)


@pytest.mark.parametrize("ending", ["refuses", "cancelled"])
async def test_a_key_of_a_job_that_ended_badly_is_free(start: Start, ending: str) -> None:
    """The same key runs anew; a retry takes the key over, and answers for it once it is good."""
    keyed = replace(ANNA, dedup_key="k")
    async with start() as engine:
        if ending == "refuses":
            first = await engine.runner.submit("refuses", {"text": "x"}, keyed)
            assert (await engine.runner.wait(first, 10)).state == "failed"
            second = await engine.runner.submit("refuses", {"text": "x"}, keyed)
        else:
            first = await engine.runner.submit("gated", {"text": "x"}, keyed)
            assert await engine.runner.cancel(first)
            assert (await engine.runner.wait(first, 10)).state == "cancelled"
            engine.world.gate.set()
            second = await engine.runner.retry(first, SERVER)
        assert second != first
        row = await engine.runner.wait(second, 10)
        function = row.function
        third = await engine.runner.submit(function, {"text": "x"}, keyed)
        assert (third == second) == (row.state == "succeeded")
        kept = await engine.runner.get(first)
        assert kept is not None and kept.state in ("failed", "cancelled"), "the first keeps its record"


async def scheduled(engine: Engine, function: str = "gated") -> tuple[str, str]:
    """Return a user and a schedule of his, every second."""
    anna = await engine.store.write(lambda tx: users.create(Scene(tx, OPERATOR), "anna"))
    made = await engine.runner.schedules.create(
        function, {"text": "x"}, anna.id, SERVER, None, schedules.interval(1), is_catching_up=True
    )
    return anna.id, made.id


async def fall_due(engine: Engine, schedule_id: str) -> None:
    """Have a schedule be due now, and wait until it has been looked at."""
    now = engine.store.clock.steady_ms()

    def hasten(tx: Tx) -> None:
        tx.run("UPDATE schedules SET next_at = ? WHERE id = ?", now, schedule_id)
        tx.after_commit(engine.runner.schedules._wake.set)

    await engine.store.write(hasten)
    async with asyncio.timeout(20):
        while True:
            row = await engine.store.read(lambda tx: tx.one("SELECT next_at FROM schedules WHERE id = ?", schedule_id))
            if row is not None and row[0] != now:
                return
            await asyncio.sleep(0)


async def test_a_schedule_waits_for_nothing_twice(start: Start) -> None:
    """While its last job has not begun none is put behind it; that is told at once, the rest with the next run."""
    async with start(slots=1, per_user=1, max_waiting_per_user=3) as engine:
        anna, schedule_id = await scheduled(engine)
        for _ in range(6):
            await fall_due(engine, schedule_id)
        jobs = await engine.store.read(lambda tx: tx.all("SELECT state FROM jobs WHERE owner_id = ?", anna))
        assert sorted(state for (state,) in jobs) == ["queued", "running"]
        own = [await engine.runner.submit("gated", {}, Request(anna, SERVER)) for _ in range(2)]
        missed = [event.details for event in engine.told if event.topic == "schedule.missed"]
        assert [one["missed"] for one in missed] == [1]
        engine.world.gate.set()
        for job_id in own:
            assert (await engine.runner.wait(job_id, 10)).state == "succeeded"
        await fall_due(engine, schedule_id)
        await engine.store.write(lambda tx: None)  # behind what is told
        missed = [event.details for event in engine.told if event.topic == "schedule.missed"]
        assert [one["missed"] for one in missed] == [1, 3] and missed[1]["from"] <= missed[1]["until"]
        row = await engine.store.read(lambda tx: tx.one("SELECT missed, skipped FROM schedules"))
        assert row == (4, 0)


@pytest.mark.parametrize("function", ["gated", "gated_once"])
async def test_a_schedule_under_which_the_server_dies_twice_starts_no_more(start: Start, function: str) -> None:
    """Whether its job is run again or each time a new one is: its owner is told, and the third server is left alone."""
    async with start() as engine:
        _, schedule_id = await scheduled(engine, function)
        await fall_due(engine, schedule_id)
        await engine.until(lambda event: event.topic == "job.started")
    async with start() as engine:
        if function == "gated_once":  # the first is lost
            await fall_due(engine, schedule_id)
        await engine.until(lambda event: event.topic == "job.started")
    async with start() as engine:
        told = await engine.until(lambda event: event.topic == "schedule.withdrawn")
        assert told.details["schedule_id"] == schedule_id and "went down 2 times" in told.details["reason"]
        row = await engine.store.read(lambda tx: tx.one("SELECT next_at, crashes FROM schedules"))
        assert row == (None, 2)
        states = await engine.store.read(lambda tx: tx.all("SELECT state FROM jobs"))
        assert {state for (state,) in states} == {"lost"}


async def test_a_run_that_ends_well_makes_a_schedule_good_again(start: Start) -> None:
    """Kills count only in a row."""
    async with start() as engine:
        _, schedule_id = await scheduled(engine)
        await fall_due(engine, schedule_id)
        await engine.until(lambda event: event.topic == "job.started")
    world = World()
    world.gate.set()
    async with start(world) as engine:
        await engine.until(lambda event: event.topic == "job.completed")
        await fall_due(engine, schedule_id)
        row = await engine.store.read(lambda tx: tx.one("SELECT next_at IS NOT NULL, crashes FROM schedules"))
        assert row == (1, 0)


async def test_a_job_that_waits_for_nobody_is_stored_as_running(start: Start) -> None:
    """With a slot free its start is no commit of its own, and told as any start; the next one waits in the queue."""
    async with start(slots=1, per_user=1) as engine:
        await engine.store.write(lambda tx: None)  # by then there is a worker
        first = await engine.runner.submit("gated", {"text": "first"}, ANNA)
        assert engine.topics(first) == ["job.started"], "by the commit that stored it"
        row = await engine.runner.get(first)
        assert row is not None and (row.state, row.attempt) == ("running", 1) and row.started_at is not None
        second = await engine.runner.submit("gated", {"text": "second"}, BOB)
        waiting = await engine.runner.get(second)
        assert waiting is not None and (waiting.state, waiting.attempt) == ("queued", 0)
        engine.world.gate.set()
        assert [await engine.runner.result(job_id) for job_id in (first, second)] == ["first", "second"]


@pytest.mark.parametrize("why", ["full disk", "same key", "held", "caller gone", "cancelled"])
async def test_a_reserved_slot_is_not_lost(start: Start, why: str) -> None:
    """Whatever keeps a job from starting where it was stored, the only slot is there for the next one."""
    async with start(slots=1, per_user=1) as engine:
        with full(engine) if why == "full disk" else nullcontext():
            if why == "same key":
                keyed = replace(ANNA, dedup_key="k")
                assert await engine.runner.submit("note", {"text": "once"}, keyed) == await engine.runner.submit(
                    "note", {"text": "once"}, keyed
                )
            elif why == "held":
                made = [
                    await engine.store.write(lambda tx, name=name: users.create(Scene(tx, OPERATOR), name))
                    for name in ("anna", "bob")
                ]
                await engine.runner.defer(made[0].id, made[1].id)
                await engine.runner.submit("note", {"text": "held"}, Request(made[0].id, SERVER))
            else:
                submitting = asyncio.ensure_future(engine.runner.submit("gated", {"text": "gone"}, ANNA))
                await asyncio.sleep(0)
                assert engine.runner.dispatcher._queue.running == 1
                if why == "full disk":
                    with pytest.raises(StoreFull):
                        await submitting
                elif why == "caller gone":
                    submitting.cancel()
                    engine.world.gate.set()
                else:
                    await engine.runner.cancel(await submitting)
        assert await engine.runner.result(await engine.runner.submit("note", {"text": "next"}, BOB))
        await eventually(lambda: engine.runner.dispatcher._queue.running == 0)
