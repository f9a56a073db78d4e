"""The server asks the client: ids of its own, a deadline each, and no way to wait for one another."""

import asyncio
from typing import Any

import pytest

import rpcserver.app
from rpcserver.client import CallError, Client
from rpcserver.connection import Connection
from rpcserver.dispatch import Call, method
from rpcserver.models import Params
from tests.builders import Wire
from tests.conftest import Running


class Ask(Params):
    """Params of test.ask and test.nested."""

    session_id: str = "s"
    depth: int = 0
    timeout_s: float = 5.0


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give servers test.ask (asks the client), test.turn (in order) and test.nested (asks, in order, on a session)."""
    ran: list[str] = []

    @method("test.ask", Ask)
    async def ask(call: Call, params: Ask) -> Any:
        """Ask the client and return its answer."""
        return await call.connection.ask("client.ask", {"depth": params.depth}, params.timeout_s)

    @method("test.nested", Ask, is_ordered=True)
    async def nested(call: Call, params: Ask) -> Any:
        """Ask the client, in the session's turn."""
        ran.append(f"begin {params.depth}")
        answer = await call.connection.ask("client.ask", {"depth": params.depth}, params.timeout_s)
        ran.append(f"end {params.depth}")
        return [params.depth, answer]

    @method("test.turn", Ask, is_ordered=True)
    async def turn(call: Call, params: Ask) -> int:
        """Take a turn."""
        ran.append("turn begins")
        await asyncio.sleep(0)
        ran.append("turn ends")
        return params.depth

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, ask, nested, turn))
    return ran


async def test_the_client_answers(anna: Client) -> None:
    """A handler's result, plain or awaited, is the answer; its error is told as one."""
    anna.on("client.ask", lambda params: {"got": params["depth"]})
    assert await anna.call("test.ask", depth=3) == {"got": 3}

    async def later(params: dict[str, Any]) -> str:
        return "later"

    anna.on("client.ask", later)
    assert await anna.call("test.ask") == "later"

    def decline(params: dict[str, Any]) -> None:
        raise CallError({"code": -32018, "message": "no", "data": {"kind": "NO"}})

    anna.on("client.ask", decline)
    with pytest.raises(CallError) as caught:
        await anna.call("test.ask")
    assert caught.value.kind == "CLIENT_DECLINED" and caught.value.data["client_error"]["message"] == "no"


async def test_a_client_without_a_handler_says_so(anna: Client) -> None:
    """The server hears -32601 and need not wait."""
    with pytest.raises(CallError) as caught:
        await anna.call("test.ask")
    assert caught.value.data["client_error"]["code"] == -32601


async def test_ids_are_the_servers_own(server: Running) -> None:
    """Requests of both sides may carry the same id; each answer finds its question."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": "s1", "method": "test.ask"})
    asked = await wire.receive()
    assert (asked["method"], asked["id"]) == ("client.ask", "s1")
    assert (await wire.ask({"jsonrpc": "2.0", "id": "s1x", "method": "server.ping"}))["result"] == "pong"
    await wire.send({"jsonrpc": "2.0", "id": "s99", "result": "nobody asked"})
    answer = await wire.ask([{"jsonrpc": "2.0", "id": "s1", "result": 42}])
    assert answer == {"jsonrpc": "2.0", "id": "s1", "result": 42}
    await wire.close()


async def test_a_silent_client_is_given_up(server: Running) -> None:
    """After the deadline the call fails, and the client is told that nobody waits any more."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": 1, "method": "test.ask", "params": {"timeout_s": 0.02}})
    asked = await wire.receive()
    told = await wire.receive()
    assert told == {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": asked["id"]}}
    assert (await wire.receive())["error"]["data"]["kind"] == "CLIENT_SILENT"
    await wire.send({"jsonrpc": "2.0", "id": asked["id"], "result": "too late"})
    assert (await wire.call("server.ping", id=2))["result"] == "pong"
    await wire.close()


async def test_a_client_that_goes_ends_the_wait(server: Running) -> None:
    """The question fails at once when its connection is gone."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": 1, "method": "test.ask", "params": {"timeout_s": 60}})
    await wire.receive()
    assert server.app.dispatcher.in_flight == 1
    wire.socket.transport.abort()
    async with asyncio.timeout(5):
        await server.app.dispatcher.idle.wait()


async def test_client_asks_server_asks_client_asks_server(anna: Client, methods: list[str]) -> None:
    """Calls nested ever deeper, each in the turn of one and the same session, all come to their end."""

    async def answer(params: dict[str, Any]) -> Any:
        depth = params["depth"]
        return "bottom" if depth == 0 else await anna.call("test.nested", session_id="s", depth=depth - 1)

    anna.on("client.ask", answer)
    async with asyncio.timeout(5):
        assert await anna.call("test.nested", session_id="s", depth=4) == [4, [3, [2, [1, [0, "bottom"]]]]]
    begins = [f"begin {depth}" for depth in (4, 3, 2, 1, 0)]
    assert methods == [*begins, *(f"end {depth}" for depth in range(5))]


async def test_a_call_that_waits_for_its_client_keeps_nobody_waiting(
    server: Running, anna: Client, methods: list[str]
) -> None:
    """Others take their turns meanwhile, one after another; then the call goes on, not in the middle of one."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def answer(params: dict[str, Any]) -> str:
        asked.set()
        await release.wait()
        return "now"

    anna.on("client.ask", answer)
    waiting = asyncio.ensure_future(anna.call("test.nested", session_id="s"))
    await asked.wait()
    others = [anna.send("test.turn", {"session_id": "s", "depth": n}) for n in range(5)]
    release.set()
    assert [await other for other in others] == list(range(5))
    assert await waiting == [0, "now"]
    turns = [event for event in methods if event.startswith("turn")]
    assert turns == ["turn begins", "turn ends"] * 5
    end = methods.index("end 0")
    assert methods[end - 1] in ("turn ends", "begin 0")


async def test_a_cancelled_wait_gives_the_turn_on(anna: Client, methods: list[str]) -> None:
    """A call cancelled while it waits for its client, or for its turn again, leaves no session locked."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def answer(params: dict[str, Any]) -> str:
        asked.set()
        await release.wait()
        return "now"

    anna.on("client.ask", answer)
    waiting = asyncio.ensure_future(anna.call("test.nested", session_id="s"))
    await asked.wait()
    waiting.cancel()
    assert await anna.call("test.turn", session_id="s", depth=1) == 1
    release.set()
    assert await anna.call("test.turn", session_id="s", depth=2) == 2
    assert anna._handlers._answering == {} or release.is_set()


async def test_attached_connections_are_found(server: Running, anna: Client) -> None:
    """Whoever asks about a session finds the connections that have used it, and each can be asked."""
    session_id = await anna.create_session("work")
    await anna.ls(session_id)
    await server.client("anna", name="idle")
    user_id = (await anna.call("auth.whoami"))["user_id"]
    found = server.app.server.attached(user_id, session_id)
    assert len(found) == 1 and isinstance(found[0], Connection)
    anna.on("client.ask", lambda params: "me")
    assert await found[0].ask("client.ask", {}, 5) == "me"


@pytest.mark.parametrize("answer", ['"result":5,"error":null', '"error":null,"result":5'])
async def test_an_answer_with_an_error_that_is_null(server: Running, answer: str) -> None:
    """Many encoders write both members: it is the result."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": 1, "method": "test.ask"})
    asked = await wire.receive()
    assert (await wire.ask(f'{{"jsonrpc":"2.0","id":"{asked["id"]}",{answer}}}'))["result"] == 5
    await wire.close()


@pytest.mark.parametrize(
    "members",
    [
        '"result":5,"error":{"code":1}',
        '"error":"no"',
        '"result":"\\ud83d"',
        '"result":{"a":1,"a":2}',
        '"result":NaN',
        '"result":{"cut',
    ],
)
async def test_a_wrong_answer_ends_the_question_and_is_not_answered(server: Running, members: str) -> None:
    """Whoever asked hears at once that the answer was none; the client hears nothing of it."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": 1, "method": "test.ask"})
    asked = await wire.receive()
    answer = await wire.ask(f'{{"jsonrpc":"2.0","id":"{asked["id"]}",{members}}}')
    assert (answer["id"], answer["error"]["data"]["kind"]) == (1, "CLIENT_DECLINED")
    await wire.close()


@pytest.mark.parametrize("id", ["", '"id":null,', '"id":[1],', '"id":"s99",', '"id":99,', '"id":true,'])
@pytest.mark.parametrize("member", ['"result":1', '"error":{"code":1}', '"error":"no"', '"result":NaN'])
async def test_an_answer_nobody_waits_for_is_not_answered(server: Running, id: str, member: str) -> None:
    """No id, a wrong id, an unknown one: the next thing the client hears is the answer to its next call."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send(f'{{"jsonrpc":"2.0",{id}{member}}}')
    await wire.send(f'[{{"jsonrpc":"2.0",{id}"result":1}}]')
    assert (await wire.call("server.ping", id="next"))["id"] == "next"
    await wire.close()
