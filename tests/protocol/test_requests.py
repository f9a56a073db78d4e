"""The server asks the client: ids of its own, and no way to wait for one another."""

import asyncio
from typing import Any

import pytest

import rpcserver.app
from rpcserver.client import CallError, Client
from rpcserver.errors import RpcError
from rpcserver.rpc.calls import method
from rpcserver.rpc.requests import ClientDeclined, ClientGone
from rpcserver.schemas.session import Params
from rpcserver.services import Call
from rpcserver.transport.connection import Connection
from tests.builders import Wire
from tests.conftest import Running


class Ask(Params):
    """Params of test.ask."""

    depth: int = 0


class Declined(RpcError):
    """The client declined."""

    code = kind = "DECLINED"


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give servers test.ask, which asks the client."""

    @method("test.ask", Ask)
    async def ask(call: Call, params: Ask) -> Any:
        """Ask the client and return its answer."""
        try:
            return await call.client.ask("client.ask", {"depth": params.depth})
        except ClientDeclined as error:
            raise Declined("no", client_error=error.error) from error

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, ask))


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
    assert caught.value.kind == "DECLINED" and caught.value.data["client_error"]["message"] == "no"


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


async def test_a_cancelled_question_is_taken_back(server: Running) -> None:
    """The client is told that nobody waits any more; an answer that comes all the same is left alone."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": 1, "method": "test.ask"})
    asked = await wire.receive()
    await wire.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}})
    told = await wire.receive()
    assert told == {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": asked["id"]}}
    assert (await wire.receive())["error"]["data"]["kind"] == "CANCELLED"
    await wire.send({"jsonrpc": "2.0", "id": asked["id"], "result": "too late"})
    assert (await wire.call("server.ping", id=2))["result"] == "pong"
    await wire.close()


async def test_a_client_that_goes_ends_the_wait(server: Running) -> None:
    """The question fails at once when its connection is gone."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": 1, "method": "test.ask"})
    await wire.receive()
    assert server.services.dispatcher.in_flight == 1
    wire.socket.transport.abort()
    async with asyncio.timeout(5):
        await server.services.dispatcher.idle.wait()


async def test_a_client_that_is_gone_is_not_asked(server: Running, anna: Client) -> None:
    """Who asks a connection that was closed hears so at once."""
    session_id = await anna.create_session("work")
    user_id = (await anna.call("auth.whoami"))["user_id"]
    await anna.ls(session_id)
    gone = server.services.connections.attached(user_id, session_id)[0]
    await anna.close()
    await gone.wait_closed()
    with pytest.raises(ClientGone):
        await gone.requests.ask("client.ask", {})


async def test_attached_connections_are_found(server: Running, anna: Client) -> None:
    """Whoever asks about a session finds the connections that have used it, and each can be asked."""
    session_id = await anna.create_session("work")
    await anna.ls(session_id)
    await server.client("anna", name="idle")
    user_id = (await anna.call("auth.whoami"))["user_id"]
    found = server.services.connections.attached(user_id, session_id)
    assert len(found) == 1 and isinstance(found[0], Connection)
    anna.on("client.ask", lambda params: "me")
    assert await found[0].requests.ask("client.ask", {}) == "me"


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
    assert (answer["id"], answer["error"]["data"]["kind"]) == (1, "DECLINED")
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
