"""Events on the wire: each once and in order, after its answer and its commit, to those who may see it, or a gap."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import Client
from rpcserver.transport.connection import Connection
from store import Tx
from tests.builders import Wire, make_place
from tests.conftest import Running, run_server, settle


async def announce(server: Running, user: str, *numbers: int, topic: str = "test.told", size: int = 0) -> None:
    """Announce events to a user, one transaction each."""
    user_id = await server.user_id(user)
    for number in numbers:
        data = {"n": number, "filler": "x" * size}
        await server.services.store.write(
            lambda tx, data=data: server.services.events.append(tx, topic, f"user:{user_id}", data)  # type: ignore[misc]
        )


async def subscribed(wire: Wire, topics: list[str] | None = None, **params: Any) -> dict[str, Any]:
    """Subscribe and return the answer."""
    answer = await wire.call("events.subscribe", {"topics": topics or ["test.*"], **params})
    result: dict[str, Any] = answer["result"]
    return result


async def numbers(wire: Wire, count: int) -> list[int]:
    """Return the numbers of the next events."""
    return [(await wire.receive())["params"]["data"]["n"] for _ in range(count)]


def connection_of(server: Running, user_id: str) -> Connection:
    """Return the server's end of a user's only connection."""
    (connection,) = server.services.connections.users.of(user_id)
    return connection


@pytest.fixture
async def wire(server: Running) -> AsyncIterator[Wire]:
    """A socket of anna's."""
    opened = await Wire.open(server.url, await server.credential("anna"))
    yield opened
    opened.socket.transport.abort()  # what was not read would hold up a proper end


async def until(is_so: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait turn by turn until something is so."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0)


def since(answer: dict[str, Any], seq: int | None = None) -> dict[str, Any]:
    """Return the position a client comes back with."""
    return {"since": {"epoch": answer["epoch"], "seq": answer["seq"] if seq is None else seq}}


async def test_nothing_comes_before_its_response(server: Running, wire: Wire) -> None:
    """Events of a subscription follow its answer, however many are announced around it."""
    await subscribed(wire, ["other"])
    for number in range(20):
        announcing = asyncio.ensure_future(announce(server, "anna", number))
        await wire.send(
            {"jsonrpc": "2.0", "id": number, "method": "events.subscribe", "params": {"topics": ["test.*"]}}
        )
        await announcing
    known: set[str] = set()
    for _ in range(20):
        message = await wire.receive()
        while "method" in message:
            assert message["params"]["subscription"] in known
            message = await wire.receive()
        known.add(message["result"]["subscription"])


async def test_what_is_rolled_back_is_never_told(server: Running, wire: Wire) -> None:
    """An event of a transaction that fails leaves neither a message nor a row."""
    await subscribed(wire)
    user_id = await server.user_id("anna")

    def fail(tx: Tx) -> None:
        server.services.events.append(tx, "test.told", f"user:{user_id}", {"n": -1})
        raise LookupError

    with pytest.raises(LookupError):
        await server.services.store.write(fail)
    await announce(server, "anna", 1)
    assert await numbers(wire, 1) == [1]
    assert (await wire.call("events.history", {"topics": ["test.*"]}))["result"]["items"][0]["data"]["n"] == 1


async def test_a_client_that_has_seen_none_can_come_back(server: Running, wire: Wire) -> None:
    """The position of the answer is enough: what was announced since comes, once, in order."""
    answer = await subscribed(wire)
    await wire.socket.close()
    await announce(server, "anna", *range(450))
    again = await Wire.open(server.url, await server.credential("anna"))
    resumed = await subscribed(again, **since(answer))
    assert resumed["recovered"] is True and resumed["seq"] == answer["seq"]
    await announce(server, "anna", 450)
    assert await numbers(again, 451) == list(range(451))
    await again.close()


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    """After a restart an epoch and position of before give what was missed; a new tab gets it, too."""
    async with run_server(tmp_path / "data") as server:
        credential = await server.credential("anna")
        wire = await Wire.open(server.url, credential)
        answer = await subscribed(wire)
        await announce(server, "anna", 1, 2)
        assert await numbers(wire, 1) == [1]
    async with run_server(tmp_path / "data") as server:
        await announce(server, "anna", 3)
        for seen, expected in ((answer["seq"], [1, 2, 3]), (answer["seq"] + 1, [2, 3])):
            wire = await Wire.open(server.url, credential)
            resumed = await subscribed(wire, **since(answer, seen))
            assert resumed["recovered"] is True and resumed["epoch"] != answer["epoch"]
            assert await numbers(wire, len(expected)) == expected
            await wire.close()


@pytest.mark.parametrize("position", [{"epoch": "e_other", "seq": 0}, {"epoch": None, "seq": 10**9}])
async def test_a_position_that_is_not_ours_is_not_recovered(
    server: Running, wire: Wire, position: dict[str, Any]
) -> None:
    """Another epoch, or a number that was never given: `recovered` is false, and new events come."""
    answer = await subscribed(wire)
    position = {**position, "epoch": position["epoch"] or answer["epoch"]}
    resumed = await subscribed(wire, ["test.again"], since=position)
    assert resumed["recovered"] is False
    await announce(server, "anna", 5, topic="test.again")
    assert [(await wire.receive())["params"]["data"]["n"] for _ in range(2)] == [5, 5]


async def test_events_beyond_the_count_are_not_recovered(tmp_path: Path) -> None:
    """Where some of what was missed is gone, none of it is sent: all, or `recovered: false`."""
    async with run_server(tmp_path / "data", max_events=50) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        answer = await subscribed(wire)
        await announce(server, "anna", *range(80))
        await server.services.events.upkeep()
        assert await numbers(wire, 80) == list(range(80))
        gone = await subscribed(wire, ["none"], **since(answer, answer["seq"] + 29))
        kept = await subscribed(wire, ["test.*"], **since(answer, answer["seq"] + 30))
        assert (gone["recovered"], kept["recovered"]) == (False, True)
        assert await numbers(wire, 50) == list(range(30, 80))
        await wire.close()


async def test_who_never_listened_has_no_position(server: Running, wire: Wire) -> None:
    """A position before the user's first subscription is not taken for a record without events."""
    bob = await Wire.open(server.url, await server.credential("bob"))
    start = await subscribed(bob)
    await announce(server, "bob", 1)
    await announce(server, "anna", 1, 2, 3)
    rows = await server.services.store.read(lambda tx: tx.all("SELECT data FROM events"))
    assert len(rows) == 1, "events nobody could come to hear of are kept"
    assert (await subscribed(wire, **since(start)))["recovered"] is False
    await bob.close()


async def test_a_position_before_the_first_subscription_is_not_recovered(server: Running, wire: Wire) -> None:
    """What happened before a user listened was not kept, and no position makes it so; from there on all of it was."""
    bob = await Wire.open(server.url, await server.credential("bob"))
    start = await subscribed(bob)
    await announce(server, "bob", *range(5))
    first = await subscribed(wire, ["none"])
    assert first["seq"] == start["seq"] + 5
    await announce(server, "anna", 1)
    assert (await subscribed(wire, ["none"], **since(first)))["recovered"] is True
    assert (await subscribed(wire, ["none"], **since(first, first["seq"] - 1)))["recovered"] is False
    bob.socket.transport.abort()


async def test_what_was_allowed_then_is_asked_again_now(server: Running) -> None:
    """On coming back, the events of a place one may no longer read are left out."""
    anna, bob = await server.client("anna"), await server.client("bob")
    room = await make_place(bob, is_public=True)
    await anna.cd(set_id=room)
    subscription = await anna.subscribe("session.contents_changed")
    await bob.cd(set_id=room)
    assert (await subscription.next()).data["change"] == "entered"
    position = (subscription.epoch, subscription.seq - 1)

    def close_place(tx: Tx) -> None:
        tx.run("UPDATE tokens SET is_public = 0 WHERE id = (SELECT token_id FROM sets WHERE id = ?)", room)

    open_again = await anna.subscribe("session.contents_changed", since=position)
    assert (await open_again.next()).data["change"] == "entered"
    await server.services.store.write(close_place)
    closed = await anna.subscribe("session.contents_changed", "session.created", since=position)
    assert closed.recovered is True
    await bob.cd(to="home")
    await anna.create_session("three")
    assert (await closed.next()).topic == "session.created"


async def test_history_is_the_callers_own(server: Running, wire: Wire) -> None:
    """events.history tells the newest first, page by page, by topic, and nothing of others."""
    await subscribed(wire)
    bob = await Wire.open(server.url, await server.credential("bob"))
    await subscribed(bob)
    await announce(server, "anna", *range(5))
    await announce(server, "anna", 99, topic="other.told")
    await announce(server, "bob", 100)
    seen: list[int] = []
    cursor = None
    while True:
        params = {"topics": ["test.*"], "limit": 2, **({"cursor": cursor} if cursor else {})}
        answer = await wire.call("events.history", params)
        while "result" not in answer or "items" not in answer["result"]:
            answer = await wire.receive()
        seen += [item["data"]["n"] for item in answer["result"]["items"]]
        cursor = answer["result"]["next_cursor"]
        if cursor is None:
            break
    assert seen == [4, 3, 2, 1, 0]
    await bob.close()


async def stalled(server: Running, wire: Wire) -> Connection:
    """Make the server believe that the client does not read."""
    user_id = (await wire.call("auth.whoami"))["result"]["user_id"]
    connection = connection_of(server, user_id)
    await settle()
    connection.pause_writing()
    return connection


async def test_drop_oldest_keeps_the_newest_and_tells_the_gap(server: Running, wire: Wire) -> None:
    """A client too slow for its events gets a gap, then the newest ones; the numbers add up."""
    await subscribed(wire, policy="drop_oldest")
    await announce(server, "anna", 0)
    assert await numbers(wire, 1) == [0]
    connection = await stalled(server, wire)
    await announce(server, "anna", *range(1, 301))
    connection.resume_writing()
    gap = await wire.receive()
    assert gap["method"] == "$/gap"
    first = await wire.receive()
    assert gap["params"]["to"] == first["params"]["seq"] - 1
    assert gap["params"]["to"] - gap["params"]["from"] + 1 == 300 - 256
    assert first["params"]["data"]["n"] == 45 and await numbers(wire, 255) == list(range(46, 301))
    await announce(server, "anna", 301)
    assert await numbers(wire, 1) == [301]


async def test_latest_keeps_one(server: Running, wire: Wire) -> None:
    """A client that wants only the present gets only the present, and is told what it did not see."""
    await subscribed(wire, policy="latest")
    connection = await stalled(server, wire)
    await announce(server, "anna", *range(10))
    connection.resume_writing()
    gap, last = await wire.receive(), await wire.receive()
    assert gap["params"]["to"] - gap["params"]["from"] == 8 and last["params"]["data"]["n"] == 9


async def test_large_events_are_dropped_by_their_size(server: Running, wire: Wire) -> None:
    """What is kept for a slow client is bounded in bytes, too."""
    await subscribed(wire, policy="drop_oldest")
    connection = await stalled(server, wire)
    await announce(server, "anna", *range(20), size=3000)
    connection.resume_writing()
    gap = await wire.receive()
    assert gap["method"] == "$/gap"
    assert await numbers(wire, 2) == [18, 19]


async def test_a_stalled_client_is_cut_off_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With policy `close` a full queue ends the connection; the log says who, why, for how long, and what was asked."""
    async with run_server(tmp_path / "data", max_outbox_bytes=64 * 1024) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        await wire.call("server.identify", {"client": "sleeper"})
        answer = await subscribed(wire)
        connection = await stalled(server, wire)
        await announce(server, "anna", *range(100), size=1000)
        await wire.socket.wait_closed()
        assert connection.transport.is_closing()
        logged = capsys.readouterr().out
        for fact in ("slow_consumer", "sleeper", "4409", "queue full", "stalled_s", "queued_bytes", "auth.whoami"):
            assert fact in logged
        again = await Wire.open(server.url, await server.credential("anna"))
        assert (await subscribed(again, **since(answer)))["recovered"] is True
        assert await numbers(again, 100) == list(range(100))
        await again.close()


async def test_a_client_that_does_not_read_for_long_is_cut_off(tmp_path: Path) -> None:
    """With little to say and nobody reading it, the connection ends by its age."""
    async with run_server(tmp_path / "data", max_outbox_age_s=0.05) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        await subscribed(wire)
        await stalled(server, wire)
        await announce(server, "anna", 1)
        await asyncio.wait_for(wire.socket.wait_closed(), 5)


async def test_a_client_that_takes_drops_may_stall_longer(tmp_path: Path) -> None:
    """Only lossy subscriptions and nothing else waiting: the client may take its time, but not for ever."""
    async with run_server(tmp_path / "data", max_outbox_age_s=0.1) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        await subscribed(wire, policy="latest")
        connection = await stalled(server, wire)
        began = asyncio.get_running_loop().time()
        await announce(server, "anna", 1)
        await asyncio.wait_for(wire.socket.wait_closed(), 10)
        assert asyncio.get_running_loop().time() - began >= 0.4
        assert connection.transport.is_closing()


async def test_two_large_answers_are_no_fault(tmp_path: Path) -> None:
    """A client that asks for more than the outbox holds gets it, if it reads."""
    async with run_server(tmp_path / "data", max_outbox_bytes=16 * 1024) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        connection = await stalled(server, wire)
        connection.transport.resume_reading()
        for id in range(20):
            await wire.send({"jsonrpc": "2.0", "id": id, "method": "server.info"})
        await until(lambda: connection._reply_bytes >= 16 * 1024)
        connection.resume_writing()
        assert sorted([(await wire.receive())["id"] for _ in range(20)]) == list(range(20))
        await wire.close()


async def test_presence_tells_who_is_attached(server: Running, anna: Client) -> None:
    """session.presence names the connections that have used a session, with what they say they are."""
    session_id = await anna.create_session("shared")
    await anna.get_session(session_id)
    page = await server.client("anna", name="console", type="web")
    idle = await server.client("anna", name="idle")
    await page.ls(session_id)
    items = (await page.call("session.presence", session_id=session_id))["items"]
    assert {(item["client"], item["type"], item["is_me"]) for item in items} == {
        ("", "other", False),
        ("console", "web", True),
    }
    await idle.ls(session_id)
    assert len((await page.call("session.presence", session_id=session_id))["items"]) == 3
    await idle.close()
    user_id = (await anna.call("auth.whoami"))["user_id"]
    await until(lambda: len(server.services.connections.users.of(user_id)) == 2)
    assert len((await page.call("session.presence", session_id=session_id))["items"]) == 2
    bob = await server.client("bob")
    with pytest.raises(Exception, match="No session"):
        await bob.call("session.presence", session_id=session_id)
