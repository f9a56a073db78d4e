"""The disk as it is after every single commit: a server that starts on any of these finds jobs it can bring to an end.

What a kill can leave behind is what stands after some commit. So a scene is played, a copy is taken after each of its
commits, and another engine is started on each copy. Source: promises.md R3, R5.
"""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.model import JobEvent, Limits
from store import DATABASE, Store, Tx
from store.backup import copy_database
from store.writer import Writer
from tests.jobs.conftest import ANNA, Engine
from tests.jobs.contract import World

ENDS = ("job.completed", "job.failed", "job.cancelled")
Scene = Callable[[Engine], Awaitable[None]]


class Keeping(Engine):
    """An engine whose announcements are rows, as the server's are: they come and go with their transactions."""

    def _announce(self, tx: Tx, event: JobEvent) -> None:
        super()._announce(tx, event)
        tx.run("INSERT INTO told (job_id, topic) VALUES (?, ?)", event.job_id, event.topic)


async def cancelled(engine: Engine) -> None:
    """Cancel a job that runs, one that waits, and one whose time has not come."""
    ids = [await engine.runner.submit("gated", {"text": text}, ANNA) for text in ("runs", "waits")]
    ids.append(await engine.runner.submit("gated", {"text": "later"}, replace(ANNA, delay_s=60)))
    await engine.world.entered.wait()
    for job_id in ids:
        await engine.runner.cancel(job_id)
        await engine.runner.wait(job_id, 10)


async def failing(engine: Engine) -> None:
    """Have a job fail and be tried again, one run out of time, and one refuse."""
    for function in ("flaky", "slow"):
        await engine.runner.wait(await engine.runner.submit(function, {"text": function}, ANNA), 10)


async def family(engine: Engine) -> None:
    """Have jobs run inside a job that is cancelled."""
    parent = await engine.runner.submit("family", {"text": "child"}, ANNA)
    await engine.world.entered.wait()
    await engine.runner.cancel(parent)
    await engine.runner.wait(parent, 10)


async def effects(engine: Engine) -> None:
    """Have jobs of two lanes make tokens, one of them under a key, twice."""
    await engine.runner.run("note", {"text": "short"}, ANNA)
    for _ in range(2):
        await engine.runner.wait(
            await engine.runner.submit("long_note", {"text": "keyed"}, replace(ANNA, dedup_key="k"))
        )


async def asking(engine: Engine) -> None:
    """Have a job ask, and answer it."""
    job_id = await engine.runner.submit("asks_first", {}, ANNA)
    event = await engine.until(lambda event: event.topic == "ask.opened")
    await engine.runner.asks.answer(event.details["ask_id"], ANNA.owner_id, "an answer")
    await engine.runner.wait(job_id, 10)


@pytest.mark.parametrize("scene", [cancelled, failing, family, effects, asking])
async def test_a_cut_after_any_commit_leaves_whole_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    """Every job has one end that was told once; what was promised is kept, and effects are there with it, once."""
    copies: list[Path] = []
    commit = Writer._commit

    def copied(writer: Writer) -> None:
        commit(writer)
        copies.append(tmp_path / str(len(copies)) / DATABASE)
        copies[-1].parent.mkdir()
        copy_database(tmp_path / "data" / DATABASE, copies[-1])

    with monkeypatch.context() as patch:
        store = await Store.open(tmp_path / "data", max_batch=1)
        await store.write(lambda tx: tx.run("CREATE TABLE told (job_id TEXT, topic TEXT)"))
        patch.setattr(Writer, "_commit", copied)
        engine = Keeping(store, World(), Limits(slots=1))
        await engine.runner.start()
        await scene(engine)
        await engine.runner.stop()
        await store.close()
    assert len(copies) > 3
    for copy in copies:
        await _brought_to_an_end(copy.parent)


async def _brought_to_an_end(folder: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        before = dict(database.execute("SELECT id, state FROM jobs"))
        wished = {id for (id,) in database.execute("SELECT id FROM jobs WHERE is_cancelling = 1")}
    store = await Store.open(folder)
    world = World()
    world.gate.set()
    engine = Keeping(store, world, Limits())
    await engine.runner.start()
    async with asyncio.timeout(20):
        while live := await store.read(lambda tx: tx.all("SELECT id, state FROM jobs WHERE finished_at IS NULL")):
            for job_id, state in live:
                await _helped_on(engine, job_id, state)
    await engine.runner.stop()
    rows = await store.read(lambda tx: tx.all("SELECT id, state, function, attempt, data FROM jobs"))
    told = Counter(id for id, topic in await store.read(lambda tx: tx.all("SELECT * FROM told")) if topic in ENDS)
    notes = Counter(name for (name,) in await store.read(lambda tx: tx.all("SELECT name FROM tokens")))
    await store.close()
    ids = {id for id, *_ in rows}
    assert set(before) <= ids
    assert told == Counter(ids), "an end was not told, or twice"
    assert set(notes.values()) <= {1}, "an effect is there twice"
    for job_id, state, function, attempt, data in rows:
        assert state in ("succeeded", "failed", "cancelled", "lost")
        assert job_id not in wished or state == "cancelled" or before[job_id] == state
        if function in ("note", "long_note"):
            assert (json.loads(data)["text"] in notes) == (state == "succeeded")
        is_promised = before.get(job_id) == "queued" and job_id not in wished
        if is_promised and (function == "long_note" or (function == "gated" and json.loads(data)["text"] != "later")):
            assert state == "succeeded", f"{function} was promised, and ended {state} in attempt {attempt}"


async def _helped_on(engine: Engine, job_id: str, state: str) -> None:
    if state == "waiting_input":
        for (ask_id,) in await engine.store.read(lambda tx: tx.all("SELECT id FROM asks WHERE state = 'open'")):
            await engine.runner.asks.answer(ask_id, ANNA.owner_id, "again")
    row = await engine.runner.wait(job_id, 0.1)
    if row.run_at is not None or row.function == "family":
        await engine.runner.cancel(job_id)  # it would wait for its time, or for ever
