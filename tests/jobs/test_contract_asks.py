"""The contract of `JobRunner`, third part: questions cost neither time nor a slot, and each has its own answer."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.asks import Ask, page
from jobs.errors import AskNotFound, JobFailed
from jobs.model import Form, JobEvent
from store import Tx
from tests.jobs.conftest import ANNA, Engine, Start

LONGER_THAN_ALLOWED_S = 0.5  # the functions here may take 0.2 s


async def asked(engine: Engine, count: int = 1) -> list[Ask]:
    """Return the open questions, once there are so many."""
    async with asyncio.timeout(10):
        while True:
            engine.changed.clear()
            found = await engine.store.read(lambda tx: page(tx, ANNA.owner_id, 10, None, None))
            if len(found) >= count:
                return found
            await engine.changed.wait()


async def answer(engine: Engine, ask: Ask, text: Any) -> None:
    """Answer a question as its user."""
    await engine.runner.asks.answer(ask.id, ANNA.owner_id, text)


@pytest.mark.parametrize("function", ["asks_first", "asks_at_once", "asks_inside"])
async def test_waiting_for_an_answer_takes_no_time(engine: Engine, function: str) -> None:
    """Neither of a job that asks first of all, in whatever lane, nor of the one around it."""
    running = asyncio.ensure_future(engine.runner.run(function, {}, replace(ANNA, job_id="j_1")))
    ask = (await asked(engine))[0]
    row = await engine.runner.get(ask.job_id)
    assert row is not None and row.state == "waiting_input"
    await asyncio.sleep(LONGER_THAN_ALLOWED_S)
    await answer(engine, ask, "at last")
    assert await running == "at last"


async def test_a_question_inside_leaves_the_slot(start: Start) -> None:
    """While a job inside another asks, the slot they share is others'."""
    async with start(slots=1) as engine:
        parent = await engine.runner.submit("asks_inside", {}, ANNA)
        ask = (await asked(engine))[0]
        engine.world.gate.set()
        assert await asyncio.wait_for(engine.runner.run("gated", {"text": "x"}, ANNA), 5) == "x"
        await answer(engine, ask, "now")
        assert (await engine.runner.wait(parent, 10)).state == "succeeded"


async def test_several_questions_at_once(engine: Engine) -> None:
    """The job waits until the last is answered, and its function can run again afterwards."""
    for _ in range(3):
        job_id = await engine.runner.submit("asks_twice", {}, ANNA)
        left, right = await asked(engine, 2)
        await answer(engine, right, "r")
        row = await engine.runner.get(job_id)
        assert row is not None and row.state == "waiting_input"
        await answer(engine, left, "l")
        assert await engine.runner.result(job_id) == ["l", "r"]


async def test_a_schema_that_is_none_fails_the_job(engine: Engine) -> None:
    """It is the job's fault, and nobody is asked what nobody could answer."""
    with pytest.raises(JobFailed):
        await engine.runner.run("asks_badly", {}, ANNA)
    with pytest.raises(JobFailed):
        await engine.runner.run("asks_in_memory", {}, ANNA)
    assert await engine.store.read(lambda tx: tx.one("SELECT count(*) FROM asks")) == (0,)


async def test_an_answer_is_never_taken_for_another_question(engine: Engine) -> None:
    """A job that asks something else in its next attempt asks it, whatever its number was answered with before."""
    job_id = await engine.runner.submit("asks_anew", {}, ANNA)
    await answer(engine, (await asked(engine))[0], "yes")
    second = (await asked(engine))[0]
    assert second.text == "Delete everything?"
    await answer(engine, second, "no")
    assert await engine.runner.result(job_id) == "no"


async def test_true_is_not_one(engine: Engine) -> None:
    """An answer is one of the choices, not something Python takes for one."""
    form = Form(choices=(0, 1, "yes"))
    assert [form.fault(given) is None for given in (1, "yes", True, False, "no")] == [True, True, False, False, False]


async def test_what_has_expired_is_open_no_more(start: Start) -> None:
    """An answer after the time is none, also while the job that asked has not heard of it."""
    async with start() as engine:
        await engine.runner.submit("asks_first", {}, ANNA)
        ask = (await asked(engine))[0]
        await engine.store.write(lambda tx: tx.run("UPDATE asks SET expires_at = 1 WHERE id = ?", ask.id))
        assert await engine.store.read(lambda tx: page(tx, ANNA.owner_id, 10, None, None)) == []
        with pytest.raises(AskNotFound):
            await answer(engine, ask, "late")


async def test_an_answer_in_the_very_moment_of_expiry_counts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered in time is the answer, also when it reaches the disk too late for the clock."""
    await engine.runner.run("says", {}, replace(ANNA, job_id="j_1"))
    event = JobEvent("", ANNA.owner_id, "j_1", "says", None, {})
    form = Form(default="nobody", has_default=True, timeout_s=0.5)
    asking = asyncio.ensure_future(engine.runner.asks.ask("Now?", form, 1, event))
    ask = (await asked(engine))[0]
    write = engine.store.write

    def slow(fn: Callable[[Tx], Any], *, is_record: bool = False) -> asyncio.Future[Any]:
        def slowly(tx: Tx) -> Any:
            result = fn(tx)
            time.sleep(0.7)
            return result

        monkeypatch.setattr(engine.store, "write", write)
        return write(slowly)

    monkeypatch.setattr(engine.store, "write", slow)
    await answer(engine, ask, "somebody")
    assert await asking == "somebody"
    row = await engine.store.read(lambda tx: tx.one("SELECT state, answer FROM asks WHERE id = ?", ask.id))
    assert row == ("answered", json.dumps("somebody"))
