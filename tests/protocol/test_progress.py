"""Progress, deadlines and cancelling: monotone, thinned out, over before the answer; and every call answered once."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import rpcserver.app
from rpcserver.client import CallError, Client
from rpcserver.rpc.calls import Progress, method
from rpcserver.schemas.session import Params
from rpcserver.services import Call
from tests.builders import Wire
from tests.conftest import Running, run_server


class Steps(Params):
    """Params of test.steps."""

    session_id: str = "s"
    reports: list[float] = []
    waits: float = 0.0


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Give servers test.steps, which reports and waits, and test.turn, which waits for the test in order."""
    gate = asyncio.Event()

    @method("test.steps", Steps)
    async def steps(call: Call, params: Steps) -> str:
        """Report."""
        for done in params.reports:
            call.progress(done, 10, f"at {done}")
            await asyncio.sleep(params.waits)
        return "done"

    @method("test.turn", Steps, is_ordered=True)
    async def turn(call: Call, params: Steps) -> str:
        """Wait."""
        await gate.wait()
        return "done"

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, steps, turn))
    return gate


@pytest.fixture
async def wire(server: Running) -> AsyncIterator[Wire]:
    """A socket of anna's."""
    opened = await Wire.open(server.url, await server.credential("anna"))
    yield opened
    opened.socket.transport.abort()


async def reported(wire: Wire, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Call test.steps and return the values reported before the answer."""
    meta = {"_meta": {"progress_token": "p"}}
    await wire.send({"jsonrpc": "2.0", "id": 1, "method": "test.steps", "params": {**params, **meta}})
    values = []
    while "method" in (message := await wire.receive()):
        assert message["params"]["token"] == "p"
        values.append(message["params"]["value"])
    assert message["result"] == "done"
    return values


async def test_many_reports_are_few_messages(wire: Wire) -> None:
    """The first comes at once, the last before the answer; of what comes in between the latest wins."""
    values = await reported(wire, {"reports": [float(n) for n in range(11)]})
    assert [value["done"] for value in values] == [0.0, 10.0]
    assert values[-1]["percentage"] == 100 and values[-1]["message"] == "at 10.0"


async def test_at_most_ten_a_second(wire: Wire) -> None:
    """A call that reports every few milliseconds is heard of ten times a second."""
    began = time.monotonic()
    values = await reported(wire, {"reports": [n / 10 for n in range(60)], "waits": 0.005})
    assert 3 <= len(values) <= 2 + 10 * (time.monotonic() - began)
    assert [value["done"] for value in values] == sorted(value["done"] for value in values)


async def test_progress_never_goes_back(wire: Wire) -> None:
    """A report below an earlier one is left out."""
    values = await reported(wire, {"reports": [5.0, 1.0, 3.0]})
    assert [value["done"] for value in values] == [5.0]


async def test_a_total_that_grows_does_not_turn_the_bar_back() -> None:
    """The percentage is monotone, too; nothing is said after the end."""
    sent: list[Any] = []
    progress = Progress("t", 0.0, lambda message: sent.append(orjson.loads(message)["params"]["value"]))
    for done, total in ((5, 10), (6, 20), (7, 7)):
        progress.report(done, total, "")
        await asyncio.sleep(0.001)
    progress.end()
    progress.report(8, 8, "")
    assert [value["percentage"] for value in sent] == [50.0, 50.0, 100.0]


async def test_without_a_token_nothing_is_told(wire: Wire) -> None:
    """Who did not ask for progress hears none."""
    answer = await wire.ask({"jsonrpc": "2.0", "id": 1, "method": "test.steps", "params": {"reports": [1.0]}})
    assert answer["result"] == "done"


async def test_a_deadline_counts_from_the_call_also_in_line(wire: Wire, methods: asyncio.Event) -> None:
    """A call that waits for its turn is answered when its time is over, and never starts."""
    turn = {"jsonrpc": "2.0", "method": "test.turn"}
    await wire.send({**turn, "id": 1})
    await wire.send({**turn, "id": 2, "params": {"_meta": {"deadline_ms": 20}}})
    answer = await wire.receive()
    assert (answer["id"], answer["error"]["data"]["kind"]) == (2, "TIMED_OUT")
    methods.set()
    assert (await wire.receive())["id"] == 1


@pytest.mark.parametrize(("client_ms", "method_s", "server_s"), [(30, 9, 9), (9000, 0.03, 9), (9000, None, 0.03)])
async def test_the_least_deadline_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_ms: int, method_s: float | None, server_s: float
) -> None:
    """Client, method and server each have a limit, and the shortest counts."""

    @method("test.forever", Steps, timeout_s=method_s)
    async def forever(call: Call, params: Steps) -> None:
        """Wait."""
        await asyncio.Event().wait()

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, forever))
    async with run_server(tmp_path / "data", call_timeout_s=server_s) as server:
        client = await server.client("anna")
        with pytest.raises(CallError, match=r"longer than 0\.03 s"):
            await asyncio.wait_for(client.call("test.forever", _meta={"deadline_ms": client_ms}), 5)


async def test_a_cancel_at_every_moment_is_honest(anna: Client, shelf: str) -> None:
    """session.cd cancelled after ever more turns of the loop: one answer, and the session stands here or there."""
    home = (await anna.ls()).current_set.id
    session_id = await anna.create_session("work")
    outcomes = set()
    for turns in range(40):
        before = (await anna.get_session(session_id)).working_set
        target = shelf if before == home else home
        future = anna.send("session.cd", {"session_id": session_id, "set_id": target})
        id = future.rpc_id  # type: ignore[attr-defined]
        for _ in range(turns):
            await asyncio.sleep(0)
        anna._write({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": id}})
        try:
            await asyncio.wait_for(future, 10)
            outcome = "result"
        except CallError as error:
            assert error.code == -32800
            outcome = "cancelled"
        outcomes.add(outcome)
        record = await anna.get_session(session_id, include=["history"])
        assert record.working_set in (before, target)
        assert outcome == "cancelled" or record.working_set == target
        standing = (await anna.ls(session_id)).current_set.id
        assert standing == record.working_set
    assert outcomes == {"result", "cancelled"}
