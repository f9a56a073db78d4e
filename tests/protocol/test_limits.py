"""Every limit a client can run into: seen in the hello, kept, told with its number, and gone again afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

import rpcserver.app
from rpcserver.ratelimit import Attempts, Meter
from rpcserver.rpc.calls import method
from rpcserver.rpc.registry import Groups
from rpcserver.schemas.session import NoParams
from rpcserver.services import Call
from tests.builders import Wire
from tests.conftest import Running, run_server


class Clock:
    """A clock the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ping(id: Any) -> dict[str, Any]:
    """Return a call that costs nothing."""
    return {"jsonrpc": "2.0", "id": id, "method": "server.ping"}


@pytest.fixture
async def server_of(tmp_path: Path) -> AsyncIterator[Any]:
    """Start servers with settings of the test's."""
    async with asyncio.timeout(30):
        contexts = []

        async def start(**settings: Any) -> Running:
            context = run_server(tmp_path / f"data{len(contexts)}", **settings)
            contexts.append(context)
            return await context.__aenter__()

        yield start
        for context in reversed(contexts):
            await context.__aexit__(None, None, None)


async def opened(server: Running, user: str = "anna") -> Wire:
    """Open a socket of a user."""
    return await Wire.open(server.url, await server.credential(user))


async def test_the_hello_tells_what_is_kept(server_of: Any) -> None:
    """The limits of the hello are those of the settings."""
    given = {"max_batch_items": 3, "max_in_flight": 2, "calls_per_s_per_user": 50.0, "max_connections_per_address": 9}
    wire = await opened(await server_of(**given))
    told = wire.hello["params"]["limits"]
    assert {name: told[name] for name in given} == given
    await wire.close()


async def test_size(server_of: Any) -> None:
    """A message as long as may be is answered; one byte more closes with 1009."""
    server = await server_of(max_message_bytes=1000)
    wire = await opened(server)
    frame = json.dumps(ping(1)).encode()
    assert (await wire.ask((frame + b" " * (1000 - len(frame))).decode()))["result"] == "pong"
    await wire.send((frame + b" " * (1001 - len(frame))).decode())
    with pytest.raises(ConnectionClosed):
        await wire.receive()
    assert wire.socket.close_code == 1009


async def test_size_before_authentication(server_of: Any) -> None:
    """Who has not said who he is may say little."""
    wire = await Wire.open((await server_of(max_unauthenticated_bytes=200)).url)
    answer = await wire.ask(json.dumps(ping(1)) + " " * 200)
    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32007, "REQUEST_TOO_LARGE")
    assert (await wire.call("server.ping"))["result"] == "pong"
    await wire.close()


async def test_batch(server_of: Any) -> None:
    """A batch as large as may be is answered item by item, a larger one as a whole."""
    wire = await opened(await server_of(max_batch_items=3))
    assert len(await wire.ask([ping(n) for n in range(3)])) == 3
    answer = await wire.ask([ping(n) for n in range(4)])
    assert (answer["error"]["code"], answer["id"]) == (-32010, None)
    await wire.close()


async def test_depth(server_of: Any) -> None:
    """Nesting beyond the limit is an invalid request, in a batch and outside."""
    wire = await opened(await server_of(max_depth=5))

    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(depth - 2):
            value = [value]
        return {"jsonrpc": "2.0", "id": 1, "method": "server.ping", "params": {"x": value}}

    assert (await wire.ask(nested(5)))["error"]["code"] == -32602
    assert (await wire.ask(nested(6)))["error"]["code"] == -32600
    await wire.close()


async def test_in_flight(server_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call more than may be under way is told to wait; when one has ended there is room again."""
    gate = asyncio.Event()

    @method("test.wait", NoParams)
    async def wait(call: Call, params: NoParams) -> bool:
        """Wait for the test."""
        return await gate.wait()

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, wait))
    wire = await opened(await server_of(max_in_flight=2))
    for id in (1, 2):
        await wire.send({"jsonrpc": "2.0", "id": id, "method": "test.wait"})
    answer = await wire.ask(ping(3))
    assert (answer["error"]["code"], answer["error"]["data"]["retry_after_ms"] > 0) == (-32009, True)
    gate.set()
    assert {(await wire.receive())["id"], (await wire.receive())["id"]} == {1, 2}
    assert (await wire.ask(ping(4)))["result"] == "pong"
    await wire.close()


async def test_connections_of_a_user(server_of: Any) -> None:
    """A user's third connection is refused, at the upgrade and by ticket; another user's is not; closing makes room."""
    server = await server_of(max_connections_per_user=2)
    first, second = await opened(server), await opened(server)
    with pytest.raises(InvalidStatus, match="429"):
        await opened(server)
    ticket = (await first.call("auth.ticket"))["result"]["ticket"]
    page = await Wire.open(server.url)
    answer = await page.call("auth.authenticate", {"ticket": ticket})
    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32009, "TOO_MANY_CONNECTIONS")
    await (await opened(server, "bob")).close()
    await first.close()
    await page.close()
    await (await eventually(server)).close()
    await second.close()


async def test_connections_of_an_address(server_of: Any) -> None:
    """An address has its own limit, whoever the users are."""
    server = await server_of(max_connections_per_address=2)
    first, second = await opened(server), await opened(server, "bob")
    with pytest.raises(InvalidStatus, match="429"):
        await Wire.open(server.url)
    await first.close()
    await (await eventually(server)).close()
    await second.close()


async def test_connections_in_all(server_of: Any) -> None:
    """A full server says so before it shakes hands."""
    server = await server_of(max_connections=1)
    first = await opened(server)
    with pytest.raises(InvalidStatus, match="503"):
        await opened(server, "bob")
    await first.close()
    await (await eventually(server)).close()


async def eventually(server: Running) -> Wire:
    """Connect as soon as the server has noticed that somebody left."""
    while True:
        try:
            return await opened(server)
        except InvalidStatus:
            await asyncio.sleep(0)


@pytest.mark.parametrize("whose", ["max_subscriptions", "max_subscriptions_per_user"])
async def test_subscriptions(server_of: Any, whose: str) -> None:
    """One subscription too many is refused; unsubscribing makes room."""
    wire = await opened(await server_of(**{whose: 2}))
    ids = [(await wire.call("events.subscribe", {"topics": ["*"]}))["result"]["subscription"] for _ in range(2)]
    answer = await wire.call("events.subscribe", {"topics": ["*"]})
    assert (answer["error"]["code"], answer["error"]["data"]["limit"]) == (-32006, 2)
    assert (await wire.call("events.unsubscribe", {"subscription": ids[0]}))["result"] is True
    assert "result" in await wire.call("events.subscribe", {"topics": ["*"]})
    await wire.close()


@pytest.mark.parametrize("whose", ["connection", "user", "address"])
async def test_rate(server_of: Any, whose: str) -> None:
    """Calls beyond the rate are told when to come back, items of a batch one by one; who shares the limit shares it."""
    server = await server_of(**{f"calls_per_s_per_{whose}": 5.0})
    one, sister, stranger = await opened(server), await opened(server), await opened(server, "bob")
    answers = await one.ask([ping(n) for n in range(8)])
    refused = [answer for answer in answers if "error" in answer]
    assert len(refused) == 3
    assert all(answer["error"]["code"] == -32012 for answer in refused)
    assert all(0 < answer["error"]["data"]["retry_after_ms"] <= 1000 for answer in refused)
    outcomes = ["error" in await wire.ask(ping(9)) for wire in (sister, stranger)]
    assert outcomes == {"connection": [False, False], "user": [True, False], "address": [True, True]}[whose]
    for wire in (one, sister, stranger):
        await wire.close()


async def test_response(server_of: Any) -> None:
    """An answer that is too long becomes an error that says so."""
    wire = await opened(await server_of(max_response_bytes=500))
    answer = await wire.call("server.info")
    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32008, "RESPONSE_TOO_LARGE")
    await wire.close()


async def test_maintenance_refuses_all_but_the_operator(server: Running) -> None:
    """While in maintenance, calls are told to come back; subscribers are told when it begins and ends."""
    anna, operator = await server.client(), await server.operator()
    heard = await anna.subscribe("server.*")
    await operator.call("server.maintenance", on=True, message="new disks", retry_after_s=5)
    wire = await opened(server)
    answer = await wire.call("session.ls")
    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32016, "MAINTENANCE")
    assert answer["error"]["data"]["retry_after_ms"] == 5000 and "new disks" in answer["error"]["message"]
    await operator.call("server.maintenance", on=False)
    assert "result" in await wire.call("session.ls")
    assert [(await heard.next()).data["on"] for _ in range(2)] == [True, False]
    answer = await wire.call("server.maintenance", {"on": True})
    assert answer["error"]["code"] == -32601
    await wire.close()


def test_a_meter_lets_a_steady_rate_through() -> None:
    """A second's worth at once, then one each interval; what is refused costs nothing."""
    clock = Clock()
    meter = Meter(10.0, clock)
    assert [meter.take() for _ in range(10)] == [0.0] * 10
    assert meter.take() == pytest.approx(0.1) and meter.take() == pytest.approx(0.1)
    clock.now += 0.1
    assert meter.take() == 0.0 and meter.take() > 0
    clock.now += 3600
    assert [meter.take() == 0.0 for _ in range(12)] == [True] * 10 + [False] * 2


def test_a_meter_slower_than_one_a_second() -> None:
    """One call each four seconds is one call at a time."""
    clock = Clock()
    meter = Meter(0.25, clock)
    assert meter.take() == 0.0 and meter.take() == pytest.approx(4.0)
    clock.now += 4
    assert meter.take() == 0.0


def test_attempts_are_forgiven_after_the_window() -> None:
    """The limit holds for any window, the oldest attempt is forgiven first, and addresses do not add up."""
    clock = Clock()
    attempts = Attempts(3, 60.0, clock)
    for _ in range(3):
        assert attempts.wait_s("a") == 0
        attempts.note("a", str(clock.now))
        clock.now += 10
    assert attempts.wait_s("a") == pytest.approx(30) and attempts.wait_s("b") == 0
    clock.now += 30
    assert attempts.wait_s("a") == 0
    attempts.note("a", "another")
    assert attempts.wait_s("a") == pytest.approx(10)


def test_attempts_from_many_addresses_cost_no_memory() -> None:
    """Of a flood of addresses only the last are remembered."""
    attempts = Attempts(3, 60.0, Clock())
    for number in range(30_000):
        attempts.note(str(number), "x")
    assert len(attempts._failed) == 10_000 and attempts.wait_s("29999") == 0


def test_a_crowd_that_is_gone_is_forgotten() -> None:
    """Users and addresses that have left cost nothing."""
    groups = Groups(1, 0.0)
    connection: Any = type("One", (), {"meters": ()})()
    groups.join("a", connection)
    assert groups.is_full("a") and not groups.is_full("b")
    groups.leave("a", connection)
    assert not groups.is_full("a") and groups._by_key == {}
