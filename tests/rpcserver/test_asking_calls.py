"""Calls in which a job asks a person: others go on, a person's time does not count, the answer is the job's id."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.conftest import Running, run_server
from tests.rpcserver.test_asks import next_ask
from tests.rpcserver.working import kind_of

GUEST = Path(__file__).with_name("asks.py")
ASKING = ("asks.local", "asks.long", "asks.deep")
SOON = {"deadline_ms": 550}  # the caller's patience ends at once


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with the guest, and with little time for guests: more than a slow machine needs, less than `outlast`."""
    settings = {"action_timeout_s": 0.8, "filter_timeout_s": 0.8, "call_timeout_s": 20.0}
    async with run_server(tmp_path / "data", plugins=(GUEST,), **settings) as running:
        guest_of(running).SAID.clear()
        yield running


def guest_of(server: Running) -> Any:
    """Return the guest's module."""
    return server.services.bus._manager.get_plugin("asks")


def act(client: Client, session_id: str, token_id: str, value: str = "A", **params: Any) -> asyncio.Future[Any]:
    """Send an action without waiting for its answer."""
    return client.send("session.action", {"session_id": session_id, "token_id": token_id, "value": value, **params})


async def answer(client: Client, value: Any = "yes") -> None:
    """Answer the open question."""
    await client.call("ask.answer", ask_id=(await next_ask(client))["ask_id"], answer=value)


async def a_hall(client: Client) -> str:
    """Make a set and return its id."""
    return str(await client.call("core.set.create", name="hall"))


async def outlast(client: Client, s: float = 1.0) -> dict[str, Any]:
    """Let a question stay open for a while, and return it."""
    ask = await next_ask(client)
    record = await client.call("job.wait", job_id=ask["job_id"], timeout_s=s)
    assert record["state"] == "waiting_input"
    return ask


@pytest.mark.parametrize("token_id", ASKING)
async def test_other_calls_on_the_session_go_on(anna: Client, token_id: str) -> None:
    """While the question of an action is open, calls on its session answer, ordered ones too; then it ends well."""
    session_id = await anna.create_session("work")
    asking = act(anna, session_id, token_id)
    ask = await next_ask(anna)
    assert (await anna.ls(session_id)).session_id == session_id
    assert (await anna.call("session.update", session_id=session_id, name="busy"))["name"] == "busy"
    assert (await anna.cd(session_id, to="home")).session_id == session_id
    assert (await anna.call("session.action", session_id=session_id, token_id="asks.not"))["response"] == {}
    assert not asking.done()
    await anna.call("ask.answer", ask_id=ask["ask_id"], answer="yes")
    assert (await asking)["response"] == {"asks": "yes"}
    assert (await anna.call("session.action", session_id=session_id, token_id="asks.not"))["response"] == {}


async def test_the_order_is_kept(server: Running, anna: Client) -> None:
    """An answered action goes on in its turn: after the call under way, before those that have not begun."""
    guest, session_id = guest_of(server), await anna.create_session("work")
    asking = act(anna, session_id, "asks.local")
    ask = await next_ask(anna)
    gate, behind = act(anna, session_id, "asks.gate"), act(anna, session_id, "asks.not", "B")
    await guest.BEGUN.wait()
    await anna.call("ask.answer", ask_id=ask["ask_id"], answer="yes")
    assert (await anna.call("server.ping")) == "pong"
    assert not asking.done() and not behind.done()
    guest.GATE.set()
    await asyncio.gather(asking, gate, behind)
    assert guest.SAID == ["asks A", "gate begins", "gate ends", "heard yes", "ended A", "ran B"]


async def test_two_questions_of_one_action(anna: Client) -> None:
    """Each goes on when it is answered; the session is free while one is open, and the action's when none is."""
    session_id = await anna.create_session("work")
    asking = act(anna, session_id, "asks.twice")
    while len(found := (await anna.call("asks.list"))["items"]) < 2:
        pass
    for ask in found:
        await anna.cd(session_id, to="home")
        await anna.call("ask.answer", ask_id=ask["ask_id"], answer=ask["text"])
    assert (await asking)["response"] == {"asks": ["A1", "A2"]}
    await anna.cd(session_id, to="home")


async def test_actions_that_ask_one_another(anna: Client) -> None:
    """The answer to an action's question is found by another action of the session, which asks in its turn."""
    session_id = await anna.create_session("work")

    async def handler(params: dict[str, Any]) -> str:
        depth = int(params["text"])
        if depth == 0:
            return "bottom"
        found = await anna.call("session.action", session_id=session_id, token_id="asks.local", value=str(depth - 1))
        return f"{found['response']['asks']} {depth}"

    anna.on("client.ask", handler)
    done = await anna.call("session.action", session_id=session_id, token_id="asks.local", value="4")
    assert done["response"] == {"asks": "bottom 1 2 3 4"}


@pytest.mark.parametrize("token_id", [*ASKING, "asks.home"])
async def test_a_persons_time_does_not_count(anna: Client, token_id: str) -> None:
    """Neither the plugin's time nor the job's runs while the question is open."""
    session_id = await anna.create_session("work")
    hall = await a_hall(anna)
    await anna.cd(session_id, set_id=hall)
    asking = act(anna, session_id, token_id)
    await outlast(anna)
    await answer(anna)
    done = await asking
    assert (done["handled_by"], done["response"]) == ("asks", {"asks": "yes"})
    assert ("working_set" in done) == (token_id == "asks.home")


async def test_a_jobs_own_time_counts(anna: Client) -> None:
    """After the answer its time runs, and ends it."""
    session_id = await anna.create_session("work")
    asking = act(anna, session_id, "asks.local")
    await answer(anna, "linger")
    with pytest.raises(CallError) as caught:
        await asking
    assert caught.value.kind == "PLUGIN_ERROR" and "took longer than 0.8 s" in str(caught.value)
    assert (await anna.call("session.action", session_id=session_id, token_id="asks.not"))["response"] == {}


async def test_a_guard_may_ask(anna: Client) -> None:
    """A guard has all the time its person takes, and its verdict counts."""
    session_id = await anna.create_session("guarded")
    hall = await a_hall(anna)
    for word, kind in (("foe", "ENTER_REFUSED"), ("friend", None)):
        going = anna.send("session.cd", {"session_id": session_id, "set_id": hall})
        await outlast(anna)
        await answer(anna, word)
        assert (await going)["current_set"]["id"] == hall if kind is None else await kind_of(going) == kind


@pytest.mark.parametrize("token_id", [*ASKING, "asks.home"])
async def test_past_the_calls_time_the_answer_is_the_job(server: Running, anna: Client, token_id: str) -> None:
    """The job's id, its state and how to go on; the action goes on by itself, also what it does after its job."""
    guest, session_id = guest_of(server), await anna.create_session("work")
    home, hall = (await anna.ls(session_id)).current_set.id, await a_hall(anna)
    await anna.cd(session_id, set_id=hall)
    heard = await anna.subscribe("session.entered")
    done = await act(anna, session_id, token_id, _meta=SOON)
    assert (done["handled_by"], done["response"], done["state"]) == (None, {}, "waiting_input")
    assert done["next"] == {"method": "job.wait", "params": {"job_id": done["job"]}}
    ask = await next_ask(anna)
    assert (ask["job_id"] == done["job"]) == (token_id != "asks.deep")
    await anna.cd(session_id, set_id=hall)
    await anna.call("ask.answer", ask_id=ask["ask_id"], answer="yes")
    record = await anna.call(done["next"]["method"], **done["next"]["params"])
    assert (record["state"], record["result"]) == ("succeeded", "yes")
    if token_id == "asks.home":
        assert (await heard.next()).data["set_id"] == home
    await anna.call("session.action", session_id=session_id, token_id="asks.not", value="B")
    assert guest.SAID[-2:] == ["ended A", "ran B"]


async def test_an_answer_just_before_the_calls_time(anna: Client) -> None:
    """A call that asked is answered in its time, also while its job uses what is left of its own."""
    session_id = await anna.create_session("work")
    asking = act(anna, session_id, "asks.local", _meta={"deadline_ms": 700})
    await answer(anna, "linger")
    done = await asking
    assert done["state"] in ("running", "waiting_input")
    record = await anna.call("job.wait", job_id=done["job"])
    assert record["state"] in ("failed", "cancelled")


async def test_job_run_answers_with_the_job(anna: Client) -> None:
    """Also for a job of the local lane, which runs inside the call."""
    for function in ("ask.local", "ask.long", "ask.deep"):
        done = await anna.call("job.run", function=function, _meta=SOON)
        assert done["state"] in ("queued", "running", "waiting_input")  # the machine may be slower than the caller
        ask = await next_ask(anna)
        assert (await anna.call("job.get", job_id=done["job_id"]))["state"] == "waiting_input"
        await anna.call("ask.answer", ask_id=ask["ask_id"], answer="yes")
        record = await anna.call(done["next"]["method"], **done["next"]["params"])
        assert (record["state"], record["result"]) == ("succeeded", "yes")


async def test_a_local_job_waits_for_its_person_past_the_servers_limit(tmp_path: Path) -> None:
    """Without a deadline of the caller's, the server's own limit for calls ends no question."""
    async with run_server(tmp_path / "data", plugins=(GUEST,), call_timeout_s=0.8) as server:
        anna = await server.client("anna")
        done = await anna.call("job.run", function="ask.local")
        assert done["state"] == "waiting_input"
        await outlast(anna)
        await answer(anna)
        assert (await anna.call("job.wait", job_id=done["job_id"]))["result"] == "yes"


async def test_calls_without_a_place_for_it_say_so_as_an_error(anna: Client) -> None:
    """Moves and methods of plugins: WAITING_INPUT names the job; what was begun is done when it is answered."""
    session_id = await anna.create_session("guarded")
    hall = await a_hall(anna)
    calls = (("session.cd", {"session_id": session_id, "set_id": hall}), ("asks.method", {"text": session_id}))
    for method, params in calls:
        heard = await anna.subscribe("session.entered", "job.completed")
        with pytest.raises(CallError) as caught:
            await anna.send(method, {**params, "_meta": SOON})
        error = caught.value
        assert (error.kind, error.data["retryable"], error.data["state"]) == ("WAITING_INPUT", False, "waiting_input")
        assert error.data["next"] == {"method": "job.wait", "params": {"job_id": error.data["job_id"]}}
        await answer(anna, "friend")
        while (await heard.next()).topic != ("session.entered" if method == "session.cd" else "job.completed"):
            pass
    assert (await anna.ls(session_id)).current_set.id == hall


async def test_a_play_waits_for_the_person_its_actions_ask(tmp_path: Path) -> None:
    """What a script calls is not answered before its person has answered, however long that takes."""
    async with run_server(tmp_path / "data", plugins=(GUEST,), call_timeout_s=0.8, action_timeout_s=0.8) as server:
        anna = await server.client("anna")
        session_id = await anna.create_session("work")
        playing = anna.send("session.play", {"session_id": session_id, "text": "!!asks.play"})
        await outlast(anna)
        await anna.cd(session_id, to="home")
        await answer(anna)
        assert [step["result"] for step in (await playing)["results"]] == [{"asks": "yes"}]


async def test_an_early_answer_stays_the_answer(anna: Client) -> None:
    """Under an idempotency key the job's id is told again, while the question is open and after."""
    session_id = await anna.create_session("work")
    meta = {**SOON, "idempotency_key": "k"}
    first = await act(anna, session_id, "asks.local", _meta=meta)
    assert await act(anna, session_id, "asks.local", _meta=meta) == first
    await answer(anna)
    await anna.call("job.wait", job_id=first["job"])
    assert await act(anna, session_id, "asks.local", _meta=meta) == first
    assert (await anna.call("asks.list"))["items"] == []


@pytest.mark.parametrize("token_id", ASKING)
async def test_a_cancelled_action_takes_its_question_with_it(anna: Client, token_id: str) -> None:
    """The call is answered, the question is gone, and the session is free."""
    session_id = await anna.create_session("work")
    asking = asyncio.ensure_future(anna.call("session.action", session_id=session_id, token_id=token_id))
    ask = await next_ask(anna)
    asking.cancel()
    await anna.cd(session_id, to="home")
    record = await anna.call("job.wait", job_id=ask["job_id"])
    assert record["state"] == "cancelled"
    assert (await anna.call("asks.list"))["items"] == []


async def test_a_client_that_goes_leaves_its_action_to_others(server: Running, anna: Client) -> None:
    """Another tab answers, and the action ends; the session is free before and after."""
    session_id = await anna.create_session("work")
    home, hall = (await anna.ls(session_id)).current_set.id, await a_hall(anna)
    await anna.cd(session_id, set_id=hall)
    leaving = await server.client("anna")
    asking = act(leaving, session_id, "asks.home")
    await next_ask(anna)
    assert leaving._socket is not None
    leaving._socket.transport.abort()
    await anna.cd(session_id, set_id=hall)
    heard = await anna.subscribe("session.entered")
    await answer(anna)
    assert (await heard.next()).data["set_id"] == home
    await anna.cd(session_id, set_id=hall)
    assert asking.exception() is not None


async def test_a_server_that_stops_leaves_nothing_waiting(tmp_path: Path) -> None:
    """Actions that wait for a person end with the server, answered or not."""
    async with run_server(tmp_path / "data", plugins=(GUEST,), shutdown_grace_s=0.1) as server:
        anna = Client(server.url, await server.credential("anna"))
        await anna.connect()
        session_id = await anna.create_session("work")
        await act(anna, session_id, "asks.local", _meta=SOON)
        asking = act(anna, session_id, "asks.deep")
        while len((await anna.call("asks.list"))["items"]) < 2:
            pass
    await anna.close()
    with pytest.raises(CallError) as caught:
        await asking
    assert caught.value.kind == "SERVER_CANCELLED"
