"""The contract of `JobRunner`, held against the embedded engine."""

import asyncio
import json
from dataclasses import replace

import pytest

from jobs.authority import SERVER
from jobs.engine import JobRunner
from jobs.errors import (
    BadJobData,
    JobCancelled,
    JobError,
    JobFailed,
    JobNotFound,
    JobTimeout,
    ResultTooLarge,
    TooDeep,
    TooManyJobs,
    UnknownFunction,
)
from jobs.model import Request
from tests.jobs.conftest import ANNA, Engine, Start
from tests.jobs.contract import World

BOB = Request("u_bob", SERVER)


def test_the_embedded_engine_keeps_the_protocol(engine: Engine) -> None:
    """The engine is a `JobRunner`, as mypy sees it too."""
    runner: JobRunner = engine.runner
    assert runner is engine.runner


async def test_a_job_that_only_reads_leaves_no_row(engine: Engine) -> None:
    """The memory lane answers without a row and tells nobody."""
    assert await engine.runner.run("echo", {"text": "hi"}, ANNA) == "hi"
    assert await engine.store.read(lambda tx: tx.one("SELECT count(*) FROM jobs")) == (0,)
    assert engine.told == []


@pytest.mark.parametrize("function", ["note", "long_note"])
async def test_end_and_effects_are_one(engine: Engine, function: str) -> None:
    """When a caller hears of the end, the end state and the effects are on disk, and the end is told once."""
    token_id = await engine.runner.run(function, {"text": "a"}, replace(ANNA, job_id="j_1"))
    row = await engine.runner.get("j_1")
    assert row is not None
    assert (row.state, json.loads(row.result or ""), row.attempt) == ("succeeded", token_id, 1)
    assert await engine.store.read(lambda tx: tx.one("SELECT name FROM tokens WHERE id = ?", token_id)) == ("a",)
    assert engine.topics("j_1").count("job.completed") == 1


async def test_a_job_may_catch_what_it_waited_for(engine: Engine) -> None:
    """What fails under a job's hands is raised where the job waits for it, the first wait included."""
    assert await engine.runner.run("mends", {}, ANNA) == "made do"


async def test_a_failed_job_leaves_nothing_but_its_row(engine: Engine) -> None:
    """A job whose last transaction fails stores nothing of it; the row says why, in words without secrets."""
    with pytest.raises(JobError):
        await engine.runner.run("refuses", {"text": "soup"}, replace(ANNA, job_id="j_1"))
    with pytest.raises(JobFailed) as caught:
        await engine.runner.run("breaks", {}, replace(ANNA, job_id="j_2"))
    for job_id, kind in (("j_1", "JOB_FAILED"), ("j_2", "JOB_FAILED")):
        row = await engine.runner.get(job_id)
        assert row is not None and row.state == "failed"
        assert json.loads(row.error or "")["kind"] == kind
        assert "secret" not in (row.error or "")
    assert "secret" not in str(caught.value)


async def test_submit_answers_when_the_row_is_on_disk(engine: Engine) -> None:
    """A promise to run a long job is kept in a row before it is made."""
    job_id = await engine.runner.submit("gated", {"text": "x"}, ANNA)
    assert await engine.runner.get(job_id) is not None
    engine.world.gate.set()
    assert await engine.runner.result(job_id) == "x"
    assert engine.topics(job_id) == ["job.started", "job.completed"]


async def test_bad_requests_run_nothing(engine: Engine) -> None:
    """An unknown function, data that does not fit, and an unknown id are errors that say so."""
    with pytest.raises(UnknownFunction):
        await engine.runner.submit("nothing", {}, ANNA)
    with pytest.raises(BadJobData, match="text"):
        await engine.runner.submit("gated", {"text": 7}, ANNA)
    with pytest.raises(JobNotFound):
        await engine.runner.wait("j_unknown", 0.01)


async def test_the_same_dedup_key_is_the_same_job(engine: Engine) -> None:
    """However often and however concurrently a key is submitted, one job runs; another owner's key is another."""
    keyed = replace(ANNA, dedup_key="k")
    ids = await asyncio.gather(*(engine.runner.submit("gated", {"text": "x"}, keyed) for _ in range(20)))
    other = await engine.runner.submit("gated", {"text": "y"}, replace(BOB, dedup_key="k"))
    engine.world.gate.set()
    await engine.runner.result(ids[0])
    await engine.runner.result(other)
    assert len(set(ids)) == 1 and other not in ids
    assert engine.world.started == {"x": 1, "y": 1}


async def test_a_queued_job_that_is_cancelled_never_starts(start: Start) -> None:
    """Cancelling a job that waits ends it at once."""
    async with start(slots=1) as engine:
        first = await engine.runner.submit("gated", {"text": "first"}, ANNA)
        second = await engine.runner.submit("gated", {"text": "second"}, ANNA)
        assert await engine.runner.cancel(second)
        engine.world.gate.set()
        await engine.runner.result(first)
        with pytest.raises(JobCancelled):
            await _result(engine, second)
        assert engine.world.started == {"first": 1}
        assert engine.topics(second) == ["job.cancelled"]


async def test_a_running_job_that_is_cancelled_stops(engine: Engine) -> None:
    """Cancelling interrupts a running job; a second cancel has nothing to do."""
    job_id = await engine.runner.submit("gated", {}, ANNA)
    await engine.world.entered.wait()
    assert await engine.runner.cancel(job_id)
    row = await engine.runner.wait(job_id, 10)
    assert row.state == "cancelled"
    assert not await engine.runner.cancel(job_id)
    assert engine.world.running == 0


async def test_a_job_cancelled_at_any_moment_of_its_start_stops(engine: Engine) -> None:
    """However soon after `submit` the wish comes, it is heard."""
    for turns in range(40):
        job_id = await engine.runner.submit("gated", {}, ANNA)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await engine.runner.cancel(job_id)
        assert (await engine.runner.wait(job_id, 10)).state == "cancelled"


async def test_a_gently_cancelled_job_ends_by_itself(engine: Engine) -> None:
    """A job asked gently may finish, and its result counts."""
    job_id = await engine.runner.submit("gentle", {}, ANNA)
    await engine.world.entered.wait()
    await engine.runner.cancel(job_id, "gently")
    assert await engine.runner.result(job_id) == "ended by itself"


async def test_cancelling_a_parent_stops_what_runs_inside(engine: Engine) -> None:
    """The jobs inside a cancelled job are cancelled with it, each told once."""
    parent = await engine.runner.submit("parent", {}, ANNA)
    await engine.world.entered.wait()
    await engine.runner.cancel(parent)
    assert (await engine.runner.wait(parent, 10)).state == "cancelled"
    rows = await engine.store.read(lambda tx: tx.all("SELECT state FROM jobs WHERE parent_id = ?", parent))
    assert rows == [("cancelled",)]


async def test_a_caller_who_goes_away_does_not_stop_a_long_job(engine: Engine) -> None:
    """Whoever waits may stop waiting; the job goes on."""
    waiting = asyncio.ensure_future(engine.runner.run("gated", {"text": "x"}, replace(ANNA, job_id="j_1")))
    await engine.world.entered.wait()
    waiting.cancel()
    engine.world.gate.set()
    assert (await engine.runner.wait("j_1", 10)).state == "succeeded"


async def test_time_is_limited(engine: Engine) -> None:
    """A job that takes longer than its function may is stopped."""
    with pytest.raises(JobTimeout):
        await engine.runner.run("slow", {}, replace(ANNA, job_id="j_1"))
    assert (await engine.runner.wait("j_1", 10)).state == "failed"


async def test_a_function_that_allows_it_is_tried_again(engine: Engine) -> None:
    """Unforeseen errors are retried as often as declared, under one id and with one end."""
    assert await engine.runner.run("flaky", {"text": "x"}, replace(ANNA, job_id="j_1")) == 3
    row = await engine.runner.get("j_1")
    assert row is not None and (row.state, row.attempt, row.error) == ("succeeded", 3, None)
    assert engine.topics("j_1") == ["job.started"] * 3 + ["job.completed"]


async def test_jobs_may_not_nest_without_end(engine: Engine) -> None:
    """Jobs inside jobs end at a depth, with an error that names the function."""
    with pytest.raises(TooDeep, match="nests"):
        await engine.runner.run("nests", {}, ANNA)


async def test_a_result_too_large_is_an_error(engine: Engine) -> None:
    """A result that no row may hold fails the job and says how large it was."""
    with pytest.raises(ResultTooLarge, match="at least 2000000 bytes"):
        await engine.runner.run("large", {}, ANNA)


async def test_priority_orders_one_users_jobs(start: Start) -> None:
    """Among one user's waiting jobs the higher priority goes first, then the older."""
    async with start(slots=1) as engine:
        await engine.runner.submit("gated", {"text": "running"}, ANNA)
        await engine.world.entered.wait()
        ids = [
            await engine.runner.submit("gated", {"text": text}, replace(ANNA, priority=priority))
            for text, priority in (("low", -1), ("a", 0), ("b", 0), ("high", 5))
        ]
        engine.world.gate.set()
        for job_id in ids:
            await engine.runner.result(job_id)
        assert engine.world.order == ["running", "high", "a", "b", "low"]


async def test_one_users_thousand_jobs_delay_anothers_by_one_slot(start: Start) -> None:
    """Users take turns: whoever comes later starts with the next free slot."""
    async with start(slots=1) as engine:
        await asyncio.gather(*(engine.runner.submit("gated", {"text": "anna"}, ANNA) for _ in range(1000)))
        await engine.world.entered.wait()
        bobs = await engine.runner.submit("gated", {"text": "bob"}, BOB)
        engine.world.gate.set()
        await engine.runner.result(bobs)
        assert engine.world.order.index("bob") <= 2


async def test_limits_by_function_and_user(start: Start) -> None:
    """No more of a function, or of a user's jobs, run at once than may."""
    async with start(slots=8, per_user=3) as engine:
        ids = [await engine.runner.submit("limited", {"text": str(number)}, ANNA) for number in range(3)]
        ids += [await engine.runner.submit("gated", {"text": str(number)}, ANNA) for number in range(6)]
        await engine.world.entered.wait()
        engine.world.gate.set()
        for job_id in ids:
            await engine.runner.result(job_id)
        assert engine.world.most_running <= 3
    async with start(max_waiting_per_user=2, slots=1) as engine:
        for _ in range(3):
            await engine.runner.submit("gated", {}, ANNA)
            await engine.world.entered.wait()
        with pytest.raises(TooManyJobs):
            await engine.runner.submit("gated", {}, ANNA)


async def test_a_delayed_job_waits(engine: Engine) -> None:
    """A job with a delay does not start before its time, and starts then."""
    job_id = await engine.runner.submit("gated", {"text": "later"}, replace(ANNA, delay_s=0.2))
    engine.world.gate.set()
    assert await engine.runner.run("gated", {"text": "now"}, ANNA) == "now"
    assert engine.world.order == ["now"]
    assert await engine.runner.result(job_id) == "later"


async def test_progress_is_monotone_and_throttled(engine: Engine) -> None:
    """A thousand reports become a few events that never go back; the last stands in the row."""
    job_id = await engine.runner.submit("counts", {}, ANNA)
    row = await engine.runner.wait(job_id, 10)
    assert json.loads(row.progress or "")["fraction"] == 1.0
    fractions = [event.details["fraction"] for event in engine.told if event.topic == "job.progress"]
    assert fractions == sorted(fractions)
    assert len(fractions) <= 3


async def test_the_log_keeps_its_newest_lines(start: Start) -> None:
    """A job that says too much keeps the end of it, numbered in order."""
    from jobs import rows

    async with start(max_lines=100) as engine:
        job_id = await engine.runner.submit("talks", {}, ANNA)
        await engine.runner.wait(job_id, 10)
        lines = await engine.store.read(lambda tx: rows.lines(tx, job_id, 0, 1000))
        assert [text for _, _, text in lines] == [f"line {number}" for number in range(1900, 2000)]


async def test_a_restart_takes_up_what_was_promised(start: Start) -> None:
    """Queued jobs run after a restart; interrupted ones run again or are lost, as their function says, once."""
    world = World()
    async with start(world, slots=4) as engine:
        again = await engine.runner.submit("gated", {"text": "again"}, ANNA)
        lost = await engine.runner.submit("gated_once", {"text": "lost"}, ANNA)
        queued = await engine.runner.submit("gated_once", {"text": "queued"}, ANNA)
        await engine.until(lambda event: event.topic == "job.started" and event.job_id == lost)
    world = World()
    world.gate.set()
    async with start(world) as engine:
        assert (await engine.runner.wait(again, 10)).state == "succeeded"
        assert (await engine.runner.wait(queued, 10)).state == "succeeded"
        row = await engine.runner.get(lost)
        assert row is not None and row.state == "lost"
        assert json.loads(row.error or "")["kind"] == "JOB_LOST"
        assert world.started == {"again": 1, "queued": 1}
        assert engine.topics(lost) == ["job.failed"]


async def test_a_cancelled_job_is_not_run_again_after_a_crash(start: Start) -> None:
    """Somebody's wish that a job stop outlives the server."""
    async with start() as engine:
        job_id = await engine.runner.submit("gated", {"text": "x"}, ANNA)
        await engine.world.entered.wait()
        await engine.store.write(lambda tx: tx.run("UPDATE jobs SET is_cancelling = 1 WHERE id = ?", job_id))
    async with start() as engine:
        assert (await engine.runner.wait(job_id, 10)).state == "cancelled"
        assert engine.world.started == {}


async def test_only_the_newest_attempt_may_end_a_job(engine: Engine) -> None:
    """An attempt that was overtaken (a zombie) cannot end the job any more: `attempt` fences."""
    from jobs import rows

    job_id = await engine.runner.submit("gated", {}, ANNA)
    await engine.world.entered.wait()
    assert not await engine.store.write(lambda tx: rows.finish(tx, job_id, 0, "succeeded", "1", None))
    assert await engine.store.write(lambda tx: rows.finish(tx, job_id, 1, "succeeded", "1", None))


async def test_counts_by_function(engine: Engine) -> None:
    """Runs, errors and durations are counted for every lane."""
    await engine.runner.run("echo", {"text": "x"}, ANNA)
    with pytest.raises(JobError):
        await engine.runner.run("refuses", {}, ANNA)
    table = {line["function"]: line for line in engine.runner.stats.table(ANNA.owner_id)}
    assert (table["echo"]["runs"], table["echo"]["errors"]) == (1, 0)
    assert (table["refuses"]["runs"], table["refuses"]["errors"]) == (1, 1)
    assert engine.runner.stats.table(BOB.owner_id) == []
    assert table["echo"]["p99_ms"] >= table["echo"]["p50_ms"] >= 0


async def _result(engine: Engine, job_id: str) -> object:
    row = await engine.runner.wait(job_id, 10)
    if row.state == "cancelled":
        raise JobCancelled(job_id, row.function)
    return row.result
