"""The contract of `JobRunner`, second part: every job has one end, told once, whatever it races with."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from core import users
from core.calls import Scene
from jobs import resilience
from jobs import run as ending
from jobs.authority import SERVER
from jobs.errors import JobFailed, JobTimeout, ResultTooLarge, UnknownFunction
from jobs.functions.core import OPERATOR
from jobs.model import JobRow, job
from store import StoreFull, Tx
from tests.jobs.conftest import ANNA, Engine, Start
from tests.jobs.contract import Text, World

ENDS = {"job.completed", "job.failed", "job.cancelled"}
WRITES = 16  # more than any job below submits


class Held:
    """Holds a store's writes back from a certain one on, so that things happen exactly while it is on its way."""

    def __init__(self, engine: Engine, from_write: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._write = engine.store.write
        self._left = from_write
        self._held: list[tuple[Callable[..., Any], asyncio.Future[Any]]] = []
        self._is_open = False
        self.reached = asyncio.Event()
        monkeypatch.setattr(engine.store, "write", self.write)

    def write(self, fn: Callable[..., Any], *, is_record: bool = False) -> asyncio.Future[Any]:
        """Stand in for `store.write`."""
        if self._is_open or self._left:
            self._left -= not self._is_open
            return self._write(fn)
        future = asyncio.get_running_loop().create_future()
        self._held.append((fn, future))
        self.reached.set()
        return future

    async def let_go(self, turns: int) -> None:
        """Write what was held, in order, with so many turns of the loop after the first."""
        while self._held:
            fn, future = self._held.pop(0)
            self._write(fn).add_done_callback(partial(_pass_on, future))
            await turn(turns)
        self._is_open = True

    async def is_reached(self) -> bool:
        """Wait until a write is held; False when there is none to come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await self.reached.wait()
        return self.reached.is_set()


def _pass_on(future: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
    if future.done():
        return
    if (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())


async def turn(turns: int) -> None:
    """Let the loop go round so many times."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def run_out(engine: Engine, job_id: str) -> None:
    """Have a job's time be over."""
    run = engine.runner.live.get(job_id)
    if run is not None and run._clock is not None and run._clock._limit is not None:
        run._clock._limit.reschedule(asyncio.get_running_loop().time())


async def ended(engine: Engine, job_id: str) -> JobRow:
    """Return the row of a job at its end, having checked that the end was told once, and is true."""
    row = await engine.runner.wait(job_id, 10)
    assert row.is_over, f"{row.function} does not end"
    await engine.store.write(lambda tx: None)  # what is on disk is told by then: the row may be read a moment earlier
    told = [topic for topic in engine.topics(job_id) if topic in ENDS]
    assert told == [{"succeeded": "job.completed", "cancelled": "job.cancelled"}.get(row.state, "job.failed")]
    return row


async def notes(engine: Engine) -> set[str]:
    """Return the names of the tokens that jobs have made."""
    found = await engine.store.read(lambda tx: tx.all("SELECT name FROM tokens WHERE type = 'note'"))
    assert len(found) == len({name for (name,) in found}), "an effect is there twice"
    return {name for (name,) in found}


@pytest.mark.parametrize("turns", [0, 1, 3, 10])
@pytest.mark.parametrize("how", ["cancel", "gently", "timeout"])
async def test_an_interruption_at_any_write_has_one_outcome(
    start: Start, monkeypatch: pytest.MonkeyPatch, how: str, turns: int
) -> None:
    """A job stopped while any of its writes is on its way has its effects and its success, or neither; told once."""
    states = set()
    async with start(gentle_s=0.0) as engine:
        for number in range(WRITES):
            with monkeypatch.context() as patch:
                held = Held(engine, number, patch)
                submitting = asyncio.ensure_future(engine.runner.submit("steps_and_note", {"text": str(number)}, ANNA))
                if not await held.is_reached():
                    break
                await held.let_go(turns) if number == 0 else None
                job_id = await submitting
                stopping = asyncio.ensure_future(_stop(engine, job_id, how))
                await turn(3)
                await held.let_go(turns)
                was_live = await stopping
            row = await ended(engine, job_id)
            assert row.state == "succeeded" or json.loads(row.error or "")["kind"] in ("CANCELLED", "JOB_TIMEOUT")
            assert was_live or row.state == "succeeded"
            assert (str(number) in await notes(engine)) == (row.state == "succeeded")
            states.add(row.state)
    assert states & {"cancelled", "failed"}, "none was stopped in time"


@pytest.mark.parametrize("turns", [0, 1, 3, 10])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_parent_stops_whenever_it_is_stopped(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str, turns: int
) -> None:
    """Also when a job inside it is just being stored as ended: that one keeps its end, and the parent stops."""
    inside = set()
    for number in range(WRITES):
        with monkeypatch.context() as patch:
            job_id = await engine.runner.submit("family", {"text": f"{number}-"}, ANNA)
            held = Held(engine, number, patch)
            if not await held.is_reached():
                await held.let_go(0)
                assert await engine.runner.cancel(job_id)
                break
            stopping = asyncio.ensure_future(_stop(engine, job_id, how))
            await turn(3)
            await held.let_go(turns)
            await stopping
        row = await ended(engine, job_id)
        assert row.state == ("cancelled" if how == "cancel" else "failed")
        rows = await engine.store.read(partial(_inside, job_id))
        for child_id, state, data in rows:
            await ended(engine, child_id)
            assert state in ("succeeded", "cancelled")
            assert (json.loads(data)["text"] in await notes(engine)) == (state == "succeeded")
        inside.add(len(rows))
    assert len(inside) > 1


async def _stop(engine: Engine, job_id: str, how: str) -> bool:
    if how == "timeout":
        await run_out(engine, job_id)
        return True
    return await engine.runner.cancel(job_id, "gently" if how == "gently" else "now")


def _inside(job_id: str, tx: Tx) -> list[Any]:
    return tx.all("SELECT id, state, data FROM jobs WHERE parent_id = ?", job_id)


@pytest.mark.parametrize("turns", [0, 1, 3, 10])
async def test_a_cancel_between_attempts_counts(engine: Engine, monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """A job that fails and is tried again stops at the first wish, also between two attempts."""
    for number in range(WRITES):
        name = str(number)
        with monkeypatch.context() as patch:
            job_id = await engine.runner.submit("flaky_and_slow", {"text": name}, ANNA)
            held = Held(engine, number, patch)
            if not await held.is_reached():
                break
            stopping = asyncio.ensure_future(engine.runner.cancel(job_id))
            await turn(3)
            started = engine.world.started[name]
            await held.let_go(turns)
            was_live = await stopping
        row = await ended(engine, job_id)
        assert row.state == ("cancelled" if was_live else "failed")
        assert not was_live or engine.world.started[name] == started, "it was started again"


async def test_a_caller_who_gives_up_twice_leaves_one_end(engine: Engine) -> None:
    """A call stopped again while the end of its job is stored: one row, one end, and no other error."""
    for turns in range(10):
        request = replace(ANNA, job_id=f"j_{turns}")
        calling = asyncio.ensure_future(engine.runner.run("note", {"text": str(turns)}, request))
        await turn(1)
        calling.cancel()
        await turn(turns)
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled() or calling.exception() is None
        assert (await ended(engine, f"j_{turns}")).state == "succeeded"


@pytest.mark.parametrize("function", ["stopped_inside", "long_stopped_inside"])
async def test_what_a_job_waits_for_may_be_cancelled(engine: Engine, function: str) -> None:
    """A job that runs into somebody else's cancelling has failed: it does not hang, and its caller is not stopped."""
    with pytest.raises(JobFailed):
        await engine.runner.run(function, {}, replace(ANNA, job_id="j_1"))
    assert (await ended(engine, "j_1")).state == "failed"


async def test_a_job_that_was_left_behind_ends_with_its_parent(engine: Engine) -> None:
    """A job that nobody inside its parent waits for is cancelled when the parent has ended."""
    parent = await engine.runner.submit("leaves", {"text": "x"}, ANNA)
    assert (await ended(engine, parent)).state == "succeeded"
    child = await engine.store.read(lambda tx: tx.one("SELECT id FROM jobs WHERE parent_id = ?", parent))
    assert child is not None
    assert (await ended(engine, child[0])).state == "cancelled"


async def test_a_job_inside_can_be_stopped_alone(engine: Engine) -> None:
    """The job around it hears of it, and may go on."""
    parent = await engine.runner.submit("forgives", {"text": "x"}, ANNA)
    await engine.world.entered.wait()
    rows = await engine.store.read(partial(_inside, parent))
    assert await engine.runner.cancel(rows[0][0])
    assert (await ended(engine, parent)).state == "succeeded"
    assert (await ended(engine, rows[0][0])).state == "cancelled"
    assert await notes(engine) == {"x"}


async def test_gentleness_reaches_what_is_inside(start: Start) -> None:
    """A job inside one that is asked gently sees it, and its result counts."""
    async with start(gentle_s=60) as engine:
        job_id = await engine.runner.submit("holds_gentle", {}, ANNA)
        await engine.world.entered.wait()
        await engine.runner.cancel(job_id, "gently")
        assert await engine.runner.result(job_id) == "ended by itself"


async def test_data_that_breaks_its_check_fails_its_job_alone(engine: Engine) -> None:
    """A function whose model raises what nobody foresaw fails that job, and the engine goes on."""
    job_id = await engine.runner.submit("moody", {"text": "fine"}, replace(ANNA, delay_s=0.2))
    await engine.store.write(lambda tx: tx.run('UPDATE jobs SET data = \'{"text": "sad"}\' WHERE id = ?', job_id))
    assert (await ended(engine, job_id)).state == "failed"
    assert await engine.runner.run("moody", {"text": "fine"}, ANNA) == "fine"


async def test_a_job_that_listens_to_nobody_is_named(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """What catches its cancelling cannot be ended; the log says which it is, and so does the row."""
    async with start(stuck_s=0.02) as engine:
        job_id = await engine.runner.submit("deaf", {}, ANNA)
        await engine.world.entered.wait()
        assert await engine.runner.cancel(job_id)
        said = ""
        async with asyncio.timeout(10):
            while "job_does_not_stop" not in said:
                await asyncio.sleep(0.01)
                said += capsys.readouterr().out
        assert job_id in said and "deaf" in said
        row = await engine.runner.get(job_id)
        assert row is not None and (row.state, row.is_cancelling) == ("running", 1)
        engine.world.gate.set()
        assert (await ended(engine, job_id)).state == "succeeded"


async def test_the_last_report_and_line_are_never_lost(engine: Engine) -> None:
    """Also of a job that ends at once: told before the end, and in the row; half a character is no obstacle."""
    from jobs import rows

    await engine.runner.run("says", {}, replace(ANNA, job_id="j_1"))
    assert engine.topics("j_1") == ["job.progress", "job.completed"]
    row = await engine.runner.get("j_1")
    assert row is not None and json.loads(row.progress or "")["message"] == "done ?"
    lines = await engine.store.read(lambda tx: rows.lines(tx, "j_1", 0, 10))
    assert [text for _, _, text in lines] == ["a name with half a character: ?"]
    job_id = await engine.runner.submit("counts", {}, ANNA)
    await ended(engine, job_id)
    last = [event for event in engine.told if event.job_id == job_id][-2]
    assert (last.topic, last.details["fraction"]) == ("job.progress", 1.0)


async def test_progress_with_a_total_that_grows(engine: Engine) -> None:
    """What is done goes on being told, and the fraction does not go back; what is no number is passed over."""
    from jobs.progress import Progress

    progress = Progress(engine.store, "j_none", lambda tx, value: None)
    taken = [
        progress.report(done, total, "")
        for done, total in ((5, 10), (6, 20), (float("nan"), 20), (4, 20), (19, 20), (20, float("inf")))
    ]
    assert taken == [True, True, False, False, True, False]
    assert progress.value == {"done": 19, "total": 20, "fraction": 0.95, "message": ""}
    progress.hush()


async def test_a_huge_result_is_refused_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be small enough as JSON is not made into any: that would hold up everybody."""

    def looked_into(result: Any) -> bytes:
        raise AssertionError("it was made into JSON")

    monkeypatch.setattr(ending, "as_json", looked_into)
    with pytest.raises(ResultTooLarge):
        await engine.runner.run("large", {}, ANNA)


async def test_what_is_only_for_long_jobs_is_refused_elsewhere() -> None:
    """A promise that could not be kept is refused where it is made."""
    for promise in ({"retries": 1}, {"on_crash": "retry"}, {"limit": 1}):
        with pytest.raises(ValueError, match="long lane"):
            job("promises", Text, **promise)(World().echo)  # type: ignore[arg-type]


async def test_an_unknown_function_names_near_ones(engine: Engine) -> None:
    """A slip of the pen is answered with what was meant."""
    with pytest.raises(UnknownFunction, match="did you mean gentle"):
        await engine.runner.submit("gentel", {}, ANNA)


async def test_cancelled_jobs_wait_no_more(start: Start) -> None:
    """They count for nothing: neither against what a user may have waiting, nor in the queue."""
    async with start(max_waiting_per_user=3) as engine:
        for _ in range(5):
            ids = [await engine.runner.submit("gated", {}, replace(ANNA, delay_s=3600)) for _ in range(3)]
            for job_id in ids:
                assert await engine.runner.cancel(job_id)
        assert engine.runner.dispatcher.waiting_of(ANNA.owner_id) == 0


async def test_a_job_that_takes_the_server_down_is_lost_at_last(start: Start) -> None:
    """What is interrupted at every start is not tried for ever."""
    async with start(max_crashes=2) as engine:
        job_id = await engine.runner.submit("gated", {"text": "x"}, ANNA)
        await engine.world.entered.wait()
    async with start(max_crashes=2) as engine:
        await engine.world.entered.wait()
    async with start(max_crashes=2) as engine:
        row = await engine.runner.get(job_id)
        assert row is not None and (row.state, row.attempt) == ("lost", 2)


async def test_a_full_disk_is_no_outage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that cannot be started, ended or tried again for want of space is, as soon as there is space."""
    monkeypatch.setattr(resilience, "FIRST_RETRY_S", 0.01)
    write, refused = engine.store.write, 0

    def full(fn: Callable[..., Any], *, is_record: bool = False) -> asyncio.Future[Any]:
        nonlocal refused
        refused += 1
        future = asyncio.get_running_loop().create_future()
        future.set_exception(StoreFull())
        return future

    async def filled(turns: int, function: str) -> str:
        job_id = await engine.runner.submit(function, {"text": function}, ANNA)
        await turn(turns)
        monkeypatch.setattr(engine.store, "write", full)
        await asyncio.sleep(0.05)
        monkeypatch.setattr(engine.store, "write", write)
        return job_id

    for turns in range(0, 40, 2):
        for function, states in (("flaky", {"succeeded", "failed"}), ("gated_once", {"succeeded", "failed"})):
            engine.world.gate.set()
            row = await ended(engine, await filled(turns, function))
            assert row.state in states
    assert refused > 0
    assert await engine.runner.run("long_note", {"text": "still here"}, ANNA)


async def test_a_full_disk_stops_no_schedules(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due while the disk is full is run when there is room."""
    from jobs import schedules

    monkeypatch.setattr(schedules, "STORE_RETRY_S", 0.01)
    engine.world.gate.set()
    anna = await engine.store.write(lambda tx: users.create(Scene(tx, OPERATOR), "anna"))
    await engine.runner.schedules.create(
        "gated", {"text": "due"}, anna.id, SERVER, None, schedules.moment(engine.store.clock.now_ms() + 100)
    )
    write = engine.store.write

    def full(fn: Callable[..., Any], *, is_record: bool = False) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(StoreFull())
        return future

    monkeypatch.setattr(engine.store, "write", full)
    await asyncio.sleep(0.2)
    monkeypatch.setattr(engine.store, "write", write)
    await engine.until(lambda event: event.topic == "job.completed" and event.function == "gated")


async def test_an_end_that_comes_before_its_caller_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job may have ended before its caller hears that it is stored: what it raised is raised all the same."""
    submit = engine.runner._submit

    async def late(run: ending.Run) -> str:
        job_id = await submit(run)
        assert (await engine.runner.wait(job_id, 10)).is_over
        return job_id

    monkeypatch.setattr(engine.runner, "_submit", late)
    with pytest.raises(JobTimeout):
        await engine.runner.run("slow", {"text": "x"}, ANNA)
