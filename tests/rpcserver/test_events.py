"""Events: who hears what, in which order, and what is made up for after an absence."""

from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.builders import Wire
from tests.conftest import Running, run_server
from tests.rpcserver.test_sessions import make_set


async def test_nothing_of_a_subscription_before_its_response(server: Running, anna: Client) -> None:
    """The response comes first, then what was missed in order, then what happens: each event once."""
    first = await anna.subscribe("none")
    await anna.create_session("one")
    wire = await Wire.open(server.url, await server.credential("anna"))
    since = {"epoch": first.epoch, "seq": first.seq}
    await wire.send({"jsonrpc": "2.0", "method": "session.create", "params": {"name": "two"}, "id": "c"})
    params = {"topics": ["session.created"], "since": since}
    await wire.send({"jsonrpc": "2.0", "method": "events.subscribe", "params": params, "id": "s"})
    await wire.send({"jsonrpc": "2.0", "method": "session.create", "params": {"name": "three"}, "id": "d"})
    heard = [await wire.receive() for _ in range(6)]
    await wire.close()
    events = [message for message in heard if "method" in message]
    response = next(message for message in heard if message.get("id") == "s")
    assert heard.index(response) < heard.index(events[0])
    assert response["result"]["recovered"] is True
    seqs = [event["params"]["seq"] for event in events]
    assert len(seqs) == 3 and seqs == sorted(set(seqs))


async def test_a_job_that_ends_is_told_to_its_owner_only(anna: Client, bob: Client) -> None:
    """job.completed reaches the caller's connections that asked for it, and nobody else's."""
    mine, theirs = await anna.subscribe("job.*"), await bob.subscribe("*")
    session_id = await anna.create_session()
    event = await mine.next()
    while event.topic != "job.completed":
        event = await mine.next()
    assert event.data["function"] == "session.create_session" and event.data["session_id"] == session_id
    await bob.create_session("bobs")
    heard = await theirs.next()
    assert heard.topic.startswith(("job.", "session."))
    assert session_id not in str(heard.data)


async def test_a_failed_job_is_told_with_its_error(server: Running, anna: Client, bob: Client) -> None:
    """job.failed carries kind and message."""
    closed = await make_set(server, bob, "closed", is_public=True, enter_policy="owner")
    await anna.ls()
    listening = await anna.subscribe("job.failed")
    with pytest.raises(CallError):
        await anna.cd(set_id=closed)
    assert (await listening.next()).data["error"]["kind"] == "ENTER_REFUSED"


async def test_others_in_a_set_hear_who_comes_and_goes(server: Running, anna: Client, bob: Client) -> None:
    """contents_changed goes to those who stand there, once for a user with two sessions."""
    room = await make_set(server, anna, "room", is_public=True)
    await anna.cd(set_id=room)
    listening = await anna.subscribe("session.contents_changed")
    first, second = await bob.create_session("one", set_id=room), await bob.create_session("two", set_id=room)
    await bob.cd(first, to="home")
    await bob.cd(second, to="home")
    heard = [(await listening.next()).data for _ in range(2)]
    assert [(data["change"], data["token"]["name"]) for data in heard] == [("entered", "bob"), ("left", "bob")]


async def test_what_was_missed_is_made_up_for(server: Running, anna: Client) -> None:
    """After a dropped socket `since` replays exactly what came in between, also where no event was seen yet."""
    other = await server.client("anna")
    listening = await other.subscribe("session.created")
    other._socket.transport.abort()  # type: ignore[union-attr]
    made = [await anna.create_session(f"work {number}") for number in range(5)]
    again = await (await server.client("anna")).subscribe("session.created", since=(listening.epoch, listening.seq))
    assert again.recovered is True
    assert [(await again.next()).data["session_id"] for _ in range(5)] == made


@pytest.mark.parametrize("since", [("e_other", 0), ("epoch", 10**9)])
async def test_a_position_of_another_time_is_not_recovered(anna: Client, since: tuple[str, int]) -> None:
    """Another epoch, or a position that was never reached: `recovered` is false, and only new events come."""
    await anna.create_session()
    epoch = anna.hello["epoch"] if since[0] == "epoch" else since[0]
    listening = await anna.subscribe("session.created", since=(epoch, since[1]))
    assert listening.recovered is False
    session_id = await anna.create_session("new")
    assert (await listening.next()).data["session_id"] == session_id


async def test_what_is_no_longer_kept_is_not_recovered_in_part(tmp_path: Path) -> None:
    """Never a partial fill: when the oldest missed event is gone, none is replayed."""
    async with run_server(tmp_path) as server:
        anna = await server.client("anna")
        await anna.create_session()
        await server.services.store.write(lambda tx: tx.run("DELETE FROM events WHERE seq <= 2"))
        assert (await anna.subscribe("*", since=(anna.hello["epoch"], 0))).recovered is False


async def test_unsubscribing(anna: Client) -> None:
    """True for what was open, false for what was not; afterwards nothing comes."""
    listening = await anna.subscribe("session.created")
    assert await anna.call("events.unsubscribe", subscription=listening.id) is True
    assert await anna.call("events.unsubscribe", subscription=listening.id) is False
    other = await anna.subscribe("session.created")
    await anna.create_session()
    assert (await other.next()).subscription == other.id
    assert listening._queue.empty()


async def test_subscriptions_have_a_limit(tmp_path: Path) -> None:
    """One too many is refused; closing one makes room."""
    async with run_server(tmp_path, max_subscriptions=2) as server:
        anna = await server.client("anna")
        first, _ = await anna.subscribe("a"), await anna.subscribe("b")
        with pytest.raises(CallError) as caught:
            await anna.subscribe("c")
        assert caught.value.code == -32006
        await first.close()
        await anna.subscribe("c")


@pytest.mark.parametrize("topics", [[], [""], "session.*", [5], ["x"] * 51])
async def test_topics_that_cannot_be(anna: Client, topics: Any) -> None:
    """Between one and fifty globs."""
    with pytest.raises(CallError) as caught:
        await anna.call("events.subscribe", topics=topics)
    assert caught.value.kind == "INVALID_PARAMS"
