"""Frames on a real socket: what is answered, what closes the connection, and that the server lives on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Frame, Opcode

import rpcserver.app
from rpcserver.client import CallError, Client
from rpcserver.rpc.calls import method
from rpcserver.schemas.session import NoParams, Params
from rpcserver.services import Call
from tests.builders import Wire
from tests.conftest import Running, run_server


class Gates:
    """Calls that wait until the test lets them go."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.open = asyncio.Event()
        self.arrived = asyncio.Event()

    async def wait(self, id: Any) -> str:
        """Wait until the gate is opened."""
        self.begun.append(id)
        self.arrived.set()
        await self.open.wait()
        return "done"


class Ordered(Params):
    """Params of a call that takes its turn."""

    session_id: str


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Gates:
    """Give the server the methods test.wait, test.turn (in order on one session) and test.burst."""
    gates = Gates()

    @method("test.wait", NoParams)
    async def wait(call: Call, params: NoParams) -> str:
        """Wait for the test."""
        return await gates.wait(call.id)

    @method("test.turn", Ordered, is_ordered=True)
    async def turn(call: Call, params: Ordered) -> str:
        """Wait for the test, in order."""
        return await gates.wait(call.id)

    @method("test.burst", NoParams)
    def burst(call: Call, params: NoParams) -> None:
        """Raise what nobody foresaw."""
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, wait, turn, burst))
    return gates


@pytest.fixture
async def wire(gates: Gates, server: Running) -> AsyncIterator[Wire]:
    """A socket of anna's to a server with those methods."""
    opened = await Wire.open(server.url, await server.credential("anna"))
    yield opened
    gates.open.set()
    await opened.close()


async def closed(wire: Wire) -> int:
    """Return the code the server closes with."""
    with pytest.raises(ConnectionClosedError):
        while True:
            await wire.receive()
    assert wire.socket.close_code is not None
    return wire.socket.close_code


async def test_hello_comes_first_and_names_every_limit(wire: Wire) -> None:
    """The server speaks first: protocol, limits, heartbeat, epoch, and that the credential was taken."""
    hello = wire.hello
    assert hello["method"] == "$/hello" and "id" not in hello
    assert hello["params"].keys() == {"protocol", "server", "limits", "heartbeat_s", "auth_required", "epoch"}
    assert hello["params"]["auth_required"] is False
    assert hello["params"]["limits"]["max_batch_items"] == 100


async def test_a_binary_frame_of_json_is_taken_as_text(wire: Wire) -> None:
    """Some clients send no other: whole or in parts, it is answered in text."""
    text = json.dumps({"jsonrpc": "2.0", "method": "server.ping", "id": "ä"}, ensure_ascii=False).encode()
    await wire.send(text)
    answer = await wire.socket.recv()
    assert isinstance(answer, str) and json.loads(answer)["id"] == "ä"
    await wire.socket.send([text[:20], text[20:]])
    assert json.loads(await wire.socket.recv())["result"] == "pong"
    assert (await wire.ask(b' {"jsonrpc":"2.0","id":7,'))["id"] == 7
    assert (await wire.call("server.ping"))["result"] == "pong"


@pytest.mark.parametrize(
    "frame", [b"\x00\x01", b"\x81\xa3abc", b"", b"hello", b'{"jsonrpc":"2.0","id":"\xff"}', b"\xff"]
)
async def test_a_binary_frame_of_something_else_closes_with_1003(server: Running, wire: Wire, frame: bytes) -> None:
    """Only JSON is spoken here; others' connections do not notice."""
    other = await Wire.open(server.url, await server.credential("bob"))
    await wire.send(frame)
    assert await closed(wire) == 1003
    assert (await other.call("server.ping"))["result"] == "pong"
    await other.close()


@pytest.mark.parametrize(
    "payload", [b"\xff", b'{"jsonrpc":"2.0","method":"server.ping","id":"\xc3("}', b"\xed\xa0\x80"]
)
async def test_invalid_utf_8_closes_with_1007(wire: Wire, payload: bytes) -> None:
    """A text frame that is no text is a fault of the protocol (RFC 6455, 8.1)."""
    wire.socket.transport.write(Frame(Opcode.TEXT, payload).serialize(mask=True))
    assert await closed(wire) == 1007


async def test_a_character_may_be_cut_by_a_fragment(wire: Wire) -> None:
    """Only the whole message must be valid UTF-8, not each of its fragments."""
    text = '{"jsonrpc":"2.0","method":"server.ping","id":"ä"}'.encode()
    cut = text.index(b"\xc3") + 1
    for opcode, part, is_last in ((Opcode.TEXT, text[:cut], False), (Opcode.CONT, text[cut:], True)):
        wire.socket.transport.write(Frame(opcode, part, fin=is_last).serialize(mask=True))
    assert (await wire.receive())["id"] == "ä"


async def test_a_message_in_a_hundred_fragments(wire: Wire) -> None:
    """A message may come in parts, with control frames between them."""
    text = json.dumps({"jsonrpc": "2.0", "method": "server.ping", "id": "x" * 1000})
    step = len(text) // 100
    await wire.socket.send(text[at : at + step] for at in range(0, len(text), step))
    assert (await wire.receive())["result"] == "pong"


@pytest.mark.parametrize("in_parts", [False, True])
async def test_a_message_over_the_limit_closes_with_1009(wire: Wire, in_parts: bool) -> None:
    """1 MiB is the limit, in one frame or in many."""
    text = "x" * (1024 * 1024 + 1)
    await wire.socket.send([text[:600_000], text[600_000:]] if in_parts else text)
    assert await closed(wire) == 1009


async def test_a_megabyte_of_items_is_answered_at_once(wire: Wire) -> None:
    """A batch bomb is one short error."""
    frame = f"[{','.join(['1'] * 500_000)}]"
    start = time.perf_counter()
    answer = await wire.ask(frame)
    assert time.perf_counter() - start < 1
    assert answer["error"]["code"] == -32010


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frame=st.text(max_size=100))
async def test_any_text_is_answered_and_kills_nothing(wire: Wire, frame: str) -> None:
    """Whatever text comes, the next call is answered."""
    await wire.send(frame)
    await wire.send({"jsonrpc": "2.0", "method": "server.ping", "id": "after"})
    while (answer := await wire.receive()) != {"jsonrpc": "2.0", "result": "pong", "id": "after"}:
        assert "error" in answer


async def test_params_by_position_and_by_name(wire: Wire) -> None:
    """Both are the same call."""
    named = await wire.call("session.create", {"name": "by name"})
    placed = await wire.call("session.create", ["by position"])
    for answer in (named, placed):
        assert (await wire.call("session.get", [answer["result"]["session_id"]]))["result"]["state"] == "active"


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"name": 5}, "name"),
        ({"name": "ab"}, "name"),
        ({"nam": "abc"}, "nam"),
        (["abc", "default", None, True, {}, False, *[None] * 20, "one too many"], "too many"),
        ({"name": "a\0b"}, "U+0000"),
        ({"_meta": 5}, "_meta"),
        ({"_meta": {"deadline_ms": -1}}, "deadline_ms"),
        ({"_meta": {"deadline_ms": True}}, "deadline_ms"),
    ],
)
async def test_wrong_params_name_the_parameter(wire: Wire, params: Any, part: str) -> None:
    """-32602 says which parameter and why; nothing ran."""
    error = (await wire.call("session.create", params))["error"]
    assert (error["code"], error["data"]["kind"]) == (-32602, "INVALID_PARAMS")
    assert part in error["data"]["reason"]
    assert (await wire.call("sessions.list"))["result"]["items"] == []


class Kinds(Params):
    """Params of every kind that may be left out."""

    text: str = "as it was"
    number: int = 7
    ratio: float = 0.5
    flag: bool = True
    choice: Literal["a", "b"] = "a"
    several: list[Literal["x", "y"]] = ["x"]
    table: dict[str, int] = {}
    inner: "Inner | None" = None
    known: str | None = "known"


class Inner(Params):
    """What may stand in it."""

    limit: int = 9
    where: str = "here"


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the server test.kinds, which answers its params, and test.needs."""

    @method("test.kinds", Kinds)
    def kinds(call: Call, params: Kinds) -> dict[str, Any]:
        """Answer what was given."""
        return params.model_dump(exclude_unset=True)

    @method("test.needs", Ordered)
    def needs(call: Call, params: Ordered) -> str:
        """Answer what was given."""
        return params.session_id

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, kinds, needs))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({name: None for name in Kinds.model_fields if name not in ("known", "inner")}, {}),
        ({"known": None}, {"known": None}),
        ({"number": 10.0}, {"number": 10}),
        ({"number": -0.0, "ratio": 1}, {"number": 0, "ratio": 1.0}),
        ({"inner": {"limit": 3.0, "where": None}}, {"inner": {"limit": 3}}),
        ({"table": {"a": 1.0, "b": 2}}, {"table": {"a": 1, "b": 2}}),
        ([None, 4.0], {"number": 4}),
        (None, {}),
    ],
)
async def test_params_as_common_encoders_write_them(kinds: None, server: Running, given: Any, taken: Any) -> None:
    """Null for what may be left out is left out, unless null says something; 10.0 is 10; null params are none."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    answer = await wire.ask({"jsonrpc": "2.0", "id": 1, "method": "test.kinds", "params": given})
    assert answer["result"] == taken
    await wire.close()


@pytest.mark.parametrize(
    ("method", "given", "name"),
    [
        ("test.needs", {"session_id": None}, "session_id"),
        ("test.kinds", {"number": 10.5}, "number"),
        ("test.kinds", {"number": 1e300}, "number"),
        ("test.kinds", {"number": "10"}, "number"),
        ("test.kinds", {"text": 10.0}, "text"),
        ("test.kinds", {"flag": 1.0}, "flag"),
        ("test.kinds", {"several": [None]}, "several.0"),
        ("test.kinds", {"number": None, "choice": "c"}, "choice"),
    ],
)
async def test_params_that_stay_wrong(kinds: None, server: Running, method: str, given: Any, name: str) -> None:
    """What is no other way of writing the same is refused, by name."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    error = (await wire.call(method, given))["error"]
    assert error["code"] == -32602 and name in [one["param"] for one in error["data"]["errors"]]
    await wire.close()


async def test_null_and_floats_reach_every_method(wire: Wire) -> None:
    """What the page about them names, on methods as they are; and the data of a job."""
    created = await wire.call("session.create", {"name": "work"})
    session = created["result"]["session_id"]
    for name, params in (
        ("session.ls", {"session_id": session, "limit": 10.0, "order": None, "sections": None}),
        ("session.ls", {"session_id": session, "limit": None, "kind": None}),
        ("jobs.list", {"limit": 2.0, "cursor": None, "state": None}),
        ("events.subscribe", {"topics": ["*"], "policy": None, "since": None}),
    ):
        assert "result" in await wire.call(name, params), name


async def test_a_flood_of_wrong_values_is_told_in_short(wire: Wire) -> None:
    """Twenty thousand wrong values are one short error."""
    answer = await wire.call("session.ls", {"sections": [1] * 19_000})
    assert answer["error"]["code"] == -32602 and len(json.dumps(answer)) < 1000
    assert "19000 values" in answer["error"]["data"]["reason"]


async def test_unknown_meta_is_ignored(wire: Wire) -> None:
    """Extensions of others do no harm."""
    assert (await wire.call("server.ping", {"_meta": {"x": 1, "traceparent": "00-"}}))["result"] == "pong"


async def test_an_unknown_method_hints_at_near_ones(wire: Wire) -> None:
    """A mistyped name is told what is near."""
    error = (await wire.call("session.lst"))["error"]
    assert error["code"] == -32601 and "session.ls" in error["data"]["reason"]


@pytest.mark.parametrize("name", ["x" * 100_000, "session." * 5000, "é" * 1000, "\x00", ""])
async def test_whatever_is_mistyped_costs_little(wire: Wire, name: str) -> None:
    """The longest name is looked at as far as a name goes; of a hundred in a batch each is answered."""
    started = time.perf_counter()
    answers = await wire.ask([{"jsonrpc": "2.0", "id": n, "method": f"{name[:8000]}{n}"} for n in range(100)])
    assert {answer["error"]["code"] for answer in answers} == {-32601}
    answer = await wire.call(name)
    assert answer["error"]["code"] == -32601 and len(json.dumps(answer)) < 1000
    assert time.perf_counter() - started < 2


async def test_a_stranger_is_told_no_names(server: Running) -> None:
    """Before authentication nothing near is looked for."""
    wire = await Wire.open(server.url)
    assert "did you mean" not in (await wire.call("session.lst"))["error"]["data"]["reason"]
    await wire.close()


async def test_a_batch_of_large_answers_is_bounded(tmp_path: Path) -> None:
    """Answers that fit alone but not together become errors, each with its id; others are told."""
    async with run_server(tmp_path, max_response_bytes=20_000) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        ids = [f'a"id":{n}' for n in range(30)]
        answers = await wire.ask([{"jsonrpc": "2.0", "id": id, "method": "server.info"} for id in ids])
        assert sorted(answer["id"] for answer in answers) == sorted(ids)
        kinds = [answer["error"]["data"]["kind"] if "error" in answer else "told" for answer in answers]
        assert set(kinds) == {"told", "RESPONSE_TOO_LARGE"}
        await wire.close()


async def test_protocol_messages_nobody_knows(wire: Wire) -> None:
    """An unknown `$/` notification is ignored, an unknown `$/` request is answered."""
    await wire.send({"jsonrpc": "2.0", "method": "$/whatever", "params": {"a": 1}})
    answer = await wire.call("$/whatever", id=7)
    assert (answer["id"], answer["error"]["code"]) == (7, -32601)


async def test_an_internal_error_has_a_ref_and_no_text(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    """The text of an exception stands in the log, under the ref the client gets."""
    answer = await wire.call("test.burst")
    assert answer["error"]["code"] == -32603
    assert "secret" not in json.dumps(answer)
    ref = answer["error"]["data"]["ref"]
    logged = "".join(capsys.readouterr())
    assert ref in logged and "secret of the house" in logged


async def test_a_running_call_is_cancelled(wire: Wire, gates: Gates) -> None:
    """A cancelled call is answered with -32800."""
    await wire.send({"jsonrpc": "2.0", "method": "test.wait", "id": 5})
    await gates.arrived.wait()
    answer = await wire.ask({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 5}})
    assert (answer["id"], answer["error"]["code"]) == (5, -32800)


async def test_a_queued_call_that_is_cancelled_never_starts(wire: Wire, gates: Gates) -> None:
    """A call that waits its turn on a session is taken out of the queue, and answered at once."""
    for id in ("first", "second", "third"):
        await wire.send({"jsonrpc": "2.0", "method": "test.turn", "params": {"session_id": "s"}, "id": id})
    await wire.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": "second"}})
    await gates.arrived.wait()
    answer = await wire.receive()
    assert (answer["id"], answer["error"]["code"]) == ("second", -32800)
    gates.open.set()
    answers = {answer["id"]: answer for answer in [await wire.receive() for _ in range(2)]}
    assert answers["first"]["result"] == answers["third"]["result"] == "done"
    assert gates.begun == ["first", "third"]


async def test_cancelling_what_is_not_there(wire: Wire, gates: Gates) -> None:
    """A cancel for an unknown id, or for `true` where 1 is running, does nothing."""
    await wire.send({"jsonrpc": "2.0", "method": "test.wait", "id": 1})
    await gates.arrived.wait()
    for params in ({"id": True}, {"id": "1"}, {"id": [1]}, {}, [1]):
        await wire.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": params})
    assert (await wire.call("server.ping", id=2))["result"] == "pong"
    gates.open.set()
    assert await wire.receive() == {"jsonrpc": "2.0", "result": "done", "id": 1}


async def test_the_clients_deadline_holds(wire: Wire) -> None:
    """A call that outlasts `_meta.deadline_ms` is stopped and says so; it may have had an effect."""
    answer = await wire.call("test.wait", {"_meta": {"deadline_ms": 20}})
    assert answer["error"]["code"] == -32001
    assert answer["error"]["data"]["retryable"] is False


async def test_thirty_two_calls_in_flight(wire: Wire, gates: Gates) -> None:
    """One more is told to wait; the others are all answered."""
    for id in range(33):
        await wire.send({"jsonrpc": "2.0", "method": "test.wait", "id": id})
    busy = await wire.receive()
    assert (busy["id"], busy["error"]["code"]) == (32, -32009)
    assert busy["error"]["data"]["retry_after_ms"] > 0
    gates.open.set()
    assert sorted([(await wire.receive())["id"] for _ in range(32)]) == list(range(32))


async def test_a_batch_counts_per_item(wire: Wire, gates: Gates) -> None:
    """Forty slow calls in one batch: thirty-two run, eight are refused, one message answers all."""
    await wire.send([{"jsonrpc": "2.0", "method": "test.wait", "id": id} for id in range(40)])
    await wire.send({"jsonrpc": "2.0", "method": "test.wait", "id": 40})
    assert (await wire.receive())["id"] == 40  # behind the batch, whose calls have all begun or were refused
    gates.open.set()
    answers = await wire.receive()
    assert sorted(answer["id"] for answer in answers) == list(range(40))
    assert sum("error" in answer for answer in answers) == 8


async def test_an_answer_over_the_limit(tmp_path: Path) -> None:
    """A response too large for the limit is an error with the way out."""
    async with run_server(tmp_path, max_response_bytes=300) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        error = (await wire.call("session.ls"))["error"]
        assert error["code"] == -32008
        await wire.close()


async def test_a_dead_socket_loses_nothing(gates: Gates, server: Running) -> None:
    """A call whose caller is gone finishes; its reply is dropped, and the next connection sees what it did."""
    credential = await server.credential("anna")
    wire = await Wire.open(server.url, credential)
    await wire.send({"jsonrpc": "2.0", "method": "test.turn", "params": {"session_id": "s"}, "id": 1})
    await gates.arrived.wait()
    for name in ("one", "two", "three"):
        await wire.send({"jsonrpc": "2.0", "method": "session.create", "params": {"name": name}, "id": name})
    assert (await wire.receive())["id"] in ("one", "two", "three")
    wire.socket.transport.abort()
    gates.open.set()
    await server.services.dispatcher.idle.wait()
    client = await server.client("anna")
    assert {session.name for session in await client.list_sessions()} == {"one", "two", "three"}
    assert server.services.dispatcher.in_flight == 0


async def test_unauthenticated_calls_are_told_to_authenticate(server: Running) -> None:
    """Without a credential there is server.ping and auth.authenticate, nothing else."""
    wire = await Wire.open(server.url)
    assert wire.hello["params"]["auth_required"] is True
    assert (await wire.call("server.ping"))["result"] == "pong"
    for name in ("session.ls", "sessions.list", "server.info", "events.subscribe"):
        assert (await wire.call(name))["error"]["code"] == -32002
    await wire.close()


async def test_the_client_raises_code_and_kind(anna: Client) -> None:
    """Errors reach a Python caller as exceptions."""
    with pytest.raises(CallError) as caught:
        await anna.call("session.get", session_id="s_none")
    assert (caught.value.code, caught.value.kind) == (-32004, "SESSION_NOT_FOUND")
