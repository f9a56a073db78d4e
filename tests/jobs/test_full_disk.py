"""The end of a job on a disk that takes nothing: it is stored at last, once, or the job is run again."""

import asyncio
import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobs import resilience
from jobs.errors import JobError
from store import StoreError, StoreFailed, StoreFull, Tx
from tests.conftest import settle
from tests.jobs.conftest import ANNA, Engine, Start


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(resilience, "LONGEST_RETRY_S", 0.01)


@contextmanager
def full(engine: Engine, error: type[StoreError] = StoreFull) -> Iterator[asyncio.Event]:
    """Have the disk take nothing inside the block; the event is set when something was refused."""
    write, refused = engine.store.write, asyncio.Event()

    def refuse(fn: Callable[[Tx], Any], **_: Any) -> asyncio.Future[Any]:
        refused.set()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(error())
        return future

    engine.store.write = refuse  # type: ignore[method-assign, assignment]
    try:
        yield refused
    finally:
        engine.store.write = write  # type: ignore[method-assign]


async def notes(engine: Engine) -> list[str]:
    """Return the names of the tokens there are."""
    return [name for (name,) in await engine.store.read(lambda tx: tx.all("SELECT name FROM tokens ORDER BY name"))]


@pytest.mark.parametrize("error", [StoreFull, StoreFailed])
@pytest.mark.parametrize("function", ["gated_note", "gated_note_again"])
async def test_an_end_is_stored_when_there_is_room(engine: Engine, function: str, error: type[StoreError]) -> None:
    """Eleven jobs that are done while the disk takes nothing succeed, each with its effect, and none is run twice."""
    ids = [await engine.runner.submit(function, {"text": f"note {number:02}"}, ANNA) for number in range(11)]
    await engine.world.entered.wait()
    with full(engine, error) as refused:
        engine.world.gate.set()
        await refused.wait()
        await settle()
    rows = [await engine.runner.wait(job_id, 20) for job_id in ids]
    assert {(row.state, row.attempt) for row in rows} == {("succeeded", 1)}
    assert await notes(engine) == [f"note {number:02}" for number in range(11)]
    assert set(engine.world.started.values()) == {1}
    assert all(engine.topics(job_id).count("job.completed") == 1 for job_id in ids)


@pytest.mark.parametrize(("function", "state"), [("gated_note", "lost"), ("gated_note_again", "succeeded")])
async def test_a_server_stopped_before_there_is_room_leaves_the_rest_to_the_next(
    start: Start, function: str, state: str
) -> None:
    """It stops at once; at the next start a job that may be run again is, and another is told to be lost."""
    async with start() as engine:
        job_id = await engine.runner.submit(function, {"text": "note"}, ANNA)
        await engine.world.entered.wait()
        with full(engine) as refused:
            engine.world.gate.set()
            await refused.wait()
            async with asyncio.timeout(5):
                await engine.runner.stop()
    async with start() as engine:
        engine.world.gate.set()
        row = await engine.runner.wait(job_id, 20)
        assert row.state == state
        assert await notes(engine) == (["note"] if state == "succeeded" else [])


async def test_a_call_hears_of_the_full_disk_and_its_job_has_an_end(engine: Engine) -> None:
    """A short job whose end finds no room fails at once for its caller; its row says so when there is room."""
    call = asyncio.ensure_future(engine.runner.run("gated_note_at_once", {"text": "note"}, ANNA))
    await engine.world.entered.wait()
    (job_id,) = engine.runner.live
    await engine.store.write(lambda tx: None)  # its row is on the disk
    with full(engine):
        engine.world.gate.set()
        with pytest.raises(StoreFull):
            await call
    row = await engine.runner.wait(job_id, 20)
    assert (row.state, await notes(engine)) == ("failed", [])


async def test_a_refusal_is_told_although_the_disk_is_full(engine: Engine) -> None:
    """What the caller hears is why it was refused; the row has its end by and by."""
    call = asyncio.ensure_future(engine.runner.run("gated_refusal", {}, ANNA))
    await engine.world.entered.wait()
    (job_id,) = engine.runner.live
    await engine.store.write(lambda tx: None)  # its row is on the disk
    with full(engine):
        engine.world.gate.set()
        with pytest.raises(JobError, match="not today"):
            await call
    row = await engine.runner.wait(job_id, 20)
    assert row.state == "failed" and row.error is not None and "not today" in row.error


async def test_a_job_that_began_without_room_for_its_row_ends_with_one(engine: Engine) -> None:
    """It is not taken for one that another attempt has ended."""
    with full(engine) as refused:
        call = asyncio.ensure_future(engine.runner.run("gated_note_at_once", {"text": "note"}, ANNA))
        await engine.world.entered.wait()
        await refused.wait()
        await settle()
    engine.world.gate.set()
    await call
    assert await notes(engine) == ["note"]
    states = await engine.store.read(lambda tx: tx.all("SELECT state FROM jobs"))
    assert states == [("succeeded",)]


@pytest.mark.parametrize("failure", [StoreFull(), OSError(errno.ENOSPC, "a file of the job's own")], ids=repr)
@pytest.mark.parametrize(("function", "end"), [("gated_note_again", ("succeeded", 2)), ("gated_note", ("failed", 1))])
async def test_a_full_disk_in_the_middle_of_a_job_is_a_crash_to_it(
    engine: Engine, function: str, end: tuple[str, int], failure: Exception
) -> None:
    """One that may be run again after a crash is; another has failed, and says why."""
    engine.world.failures.append(failure)
    engine.world.gate.set()
    job_id = await engine.runner.submit(function, {"text": "note"}, ANNA)
    row = await engine.runner.wait(job_id, 20)
    assert (row.state, row.attempt) == end
    assert row.error is None or "STORAGE_FULL" in row.error
    assert await notes(engine) == (["note"] if row.state == "succeeded" else [])
