"""Questions of jobs to people, over a real socket."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpcserver.auth import authenticator
from rpcserver.client import CallError, Client
from tests.conftest import Running, run_server, settle
from tests.rpcserver.working import GUEST, kind_of, start


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with the guest."""
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as running:
        yield running


async def next_ask(client: Client) -> dict[str, Any]:
    """Return the open question, waiting for it."""
    async with asyncio.timeout(20):
        heard = await client.subscribe("ask.opened")
        page = await client.call("asks.list")
        if not page["items"]:
            await heard.next()
            page = await client.call("asks.list")
        await heard.close()
    item: dict[str, Any] = page["items"][0]
    return item


async def test_questions_are_answered_by_the_first_valid_answer(server: Running, anna: Client, bob: Client) -> None:
    """A job asks; another tab of the same user answers; what does not fit, comes late or from others is refused."""
    tab = await server.client("anna")
    job_id = await start(anna, "guest.asks")
    ask = await next_ask(anna)
    assert (ask["text"], ask["job_id"], ask["secret"]) == ("Your name?", job_id, False)
    assert (await anna.call("job.get", job_id=job_id))["state"] == "waiting_input"
    assert (await bob.call("asks.list"))["items"] == []
    assert await kind_of(bob.call("ask.answer", ask_id=ask["ask_id"], answer="Bob")) == "ASK_NOT_FOUND"
    assert await kind_of(anna.call("ask.answer", ask_id=ask["ask_id"], answer=7)) == "BAD_ANSWER"
    assert await tab.call("ask.answer", ask_id=ask["ask_id"], answer="Anna") is True
    assert await kind_of(anna.call("ask.answer", ask_id=ask["ask_id"], answer="Late")) == "ASK_NOT_FOUND"
    colour = await next_ask(anna)
    assert colour["choices"] == ["red", "green"]
    assert await kind_of(anna.call("ask.answer", ask_id=colour["ask_id"], answer="blue")) == "BAD_ANSWER"
    await anna.call("ask.answer", ask_id=colour["ask_id"], decline=True)
    age = await next_ask(anna)
    await anna.call("ask.answer", ask_id=age["ask_id"], answer=41)
    record = await anna.call("job.wait", job_id=job_id)
    assert (record["state"], record["result"]) == ("succeeded", ["Anna", "red", 41])


async def test_whoever_is_attached_is_asked_at_once(server: Running, anna: Client) -> None:
    """Every connection that uses the session gets `client.ask`; the first valid answer wins, the rest are told."""
    session_id = await anna.create_session("work")
    tab, late = await server.client("anna"), await server.client("anna")
    asked: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
    taken_back: asyncio.Queue[str] = asyncio.Queue()

    anna_asked = asyncio.Event()

    def answering(name: str, answers: list[Any]) -> Any:
        async def handler(params: dict[str, Any]) -> Any:
            await asked.put((name, params))
            if not answers:
                anna_asked.set()
                await asyncio.Event().wait()
            await anna_asked.wait()  # whoever is quicker, both are asked before one answers
            return answers.pop(0)

        return handler

    anna.on("client.ask", answering("anna", []))
    tab.on("client.ask", answering("tab", [7, "Anna", "green"]))
    late.on("client.ask", answering("late", [41]))
    anna.on("ask.resolved", lambda params: taken_back.put_nowait(params["state"]))
    await tab.get_session(session_id)
    job_id = await start(anna, "guest.asks", session_id=session_id)
    names = {(await asked.get())[0] for _ in range(2)}
    assert names == {"anna", "tab"}
    again = (await asked.get())[1]
    assert "problem" in again and again["text"] == "Your name?"
    assert await taken_back.get() == "answered"
    while (await asked.get())[1]["text"] != "How old?":
        pass
    await late.get_session(session_id)
    record = await anna.call("job.wait", job_id=job_id)
    assert (record["state"], record["result"]) == ("succeeded", ["Anna", "green", 41])


async def test_a_declined_question_without_default_fails_the_job(anna: Client) -> None:
    """Declining leaves the job with an error that says so."""
    job_id = await start(anna, "guest.asks")
    await anna.call("ask.answer", ask_id=(await next_ask(anna))["ask_id"], decline=True)
    record = await anna.call("job.wait", job_id=job_id)
    assert (record["state"], record["error"]["kind"]) == ("failed", "ASK_DECLINED")


async def test_a_question_put_first_takes_none_of_the_jobs_time(anna: Client) -> None:
    """The job's clock stands still until the answer, and goes on with all its time from there."""
    for answer, state in (("in time", "succeeded"), ("too long", "failed")):
        job_id = await start(anna, "guest.patient")
        ask = await next_ask(anna)
        record = await anna.call("job.wait", job_id=job_id, timeout_s=0.6)
        assert record["state"] == "waiting_input"
        await anna.call("ask.answer", ask_id=ask["ask_id"], answer=answer)
        record = await anna.call("job.wait", job_id=job_id)
        assert record["state"] == state
    assert record["error"]["kind"] == "JOB_TIMEOUT"


async def test_a_question_expires_to_its_default(anna: Client) -> None:
    """Nobody answering in time is the default, and the question is closed."""
    answer = await anna.call("job.run", function="guest.hurried")
    assert answer["result"] == "nobody was there"
    assert (await anna.call("asks.list"))["items"] == []


async def test_a_session_that_is_not_interactive_is_not_asked(anna: Client) -> None:
    """Without somebody to ask, a question fails with -32018 at once."""
    session_id = await anna.create_session("batch", interactive=False)
    with pytest.raises(CallError) as caught:
        await anna.call("job.run", function="guest.asks", session_id=session_id)
    assert (caught.value.code, caught.value.kind) == (-32018, "ASK_DECLINED")


async def test_a_cancelled_job_takes_its_question_with_it(anna: Client) -> None:
    """A question whose job is gone is open no more."""
    job_id = await start(anna, "guest.asks")
    ask = await next_ask(anna)
    await anna.call("job.cancel", job_id=job_id)
    assert (await anna.call("job.wait", job_id=job_id))["state"] == "cancelled"
    assert await kind_of(anna.call("ask.answer", ask_id=ask["ask_id"], answer="x")) == "ASK_NOT_FOUND"


async def test_questions_and_answers_survive_a_restart(tmp_path: Path) -> None:
    """A question asked before a restart is open after it, and what was answered is not asked again."""
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as server:
        credential = await server.credential("anna")
        client = await server.client("anna")
        job_id = await start(client, "guest.asks")
        await client.call("ask.answer", ask_id=(await next_ask(client))["ask_id"], answer="Anna")
        before = await next_ask(client)
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as server, Client(server.url, credential) as client:
        after = await next_ask(client)
        assert after == before
        await client.call("ask.answer", ask_id=after["ask_id"], answer="green")
        await client.call("ask.answer", ask_id=(await next_ask(client))["ask_id"], answer=3)
        record = await client.call("job.wait", job_id=job_id)
        assert (record["result"], record["attempts"]) == (["Anna", "green", 3], 2)


async def test_a_secret_answer_is_nowhere_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A secret answer reaches its job and neither a row, an event, nor the log."""
    password = "correct horse battery staple"
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as server:
        client = await server.client("anna")
        job_id = await start(client, "guest.secret")
        ask = await next_ask(client)
        assert ask["secret"] is True
        assert await kind_of(client.call("ask.answer", ask_id=ask["ask_id"], answer=[password])) == "BAD_ANSWER"
        await client.call("ask.answer", ask_id=ask["ask_id"], answer=password)
        assert (await client.call("job.wait", job_id=job_id))["result"] == len(password)
    with closing(sqlite3.connect(tmp_path / "data" / "rpcserver.db")) as database:
        dump = "\n".join(database.iterdump())
    out, err = capfd.readouterr()
    assert password not in dump + out + err


async def test_a_call_from_inside_is_asked_nothing(server: Running, anna: Client) -> None:
    """What a script calls on a session where a question is open is answered; the question stays open for people."""
    job_id = await start(anna, "guest.asks")
    ask = await next_ask(anna)
    text = await server.credential("anna")
    principal = await server.services.store.read(lambda tx: authenticator.find(tx, text))
    shown = await server.services.dispatcher.call(principal, "session.get", {"session_id": ask["session_id"]})
    assert shown["session_id"] == ask["session_id"]
    await server.services.store.read(lambda tx: None)  # behind what looks for open questions
    await settle()
    assert [item["ask_id"] for item in (await anna.call("asks.list"))["items"]] == [ask["ask_id"]]
    await anna.call("job.cancel", job_id=job_id)
