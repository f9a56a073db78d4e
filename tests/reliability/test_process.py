"""A server as a process: killed, told to stop, and beside a client that does not read."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rpcserver.client import Client, Disconnected
from rpcserver.transport.connection import Connection
from store import Store
from tests.builders import Wire, write_guest
from tests.conftest import Process, Running, run_cli, run_server

SLOW = """
@hookimpl
def session_pallet(pallet):
    return [Command("slow.go", "Go")]

@hookimpl
async def session_action(action):
    if action.token_id == "slow.go":
        action.handled = True
        await asyncio.sleep(float(action.value))
        return "done"
"""


def credential_of(data: Path, name: str = "anna") -> str:
    """Add a user and return the credential."""
    return run_cli("user", "add", name, "--data", str(data)).stdout.strip()


async def write_until_killed(url: str, credential: str, worker: int, record: dict[str, str], go: asyncio.Event) -> None:
    """Create sessions one after another, keeping what became of each: ok, or unknown."""
    async with Client(url, credential) as client:
        for number in range(10_000):
            name = f"w{worker} n{number}"
            record[name] = "unknown"
            try:
                await client.create_session(name)
            except Disconnected:
                return
            record[name] = "ok"
            if len(record) > 60:
                go.set()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_acknowledged_write_is_lost_by_kill_9(
    serve: Callable[..., Process], tmp_path: Path, seed: int
) -> None:
    """Every `ok` is there after the restart; every `unknown` is there whole or not at all."""
    data = tmp_path / "data"
    credential = credential_of(data)
    process = serve(data, env={"RPCSERVER_MAX_SESSIONS_PER_USER": "100000"})
    record: dict[str, str] = {}
    under_way = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for worker in range(4):
            tasks.create_task(write_until_killed(process.url, credential, worker, record, under_way))
        await under_way.wait()
        for _ in range(random.Random(seed).randrange(200)):
            await asyncio.sleep(0)
        process.process.send_signal(signal.SIGKILL)
    process.stop()
    process.start()
    async with Client(process.url, credential) as client:
        found = {session.name: session for session in await client.list_sessions()}
        for name, session in found.items():
            assert session.state == "active"
            assert record[name] in ("ok", "unknown")
            assert (await client.ls(session.session_id)).current_set.id == session.working_set
    assert {name for name, outcome in record.items() if outcome == "ok"} <= found.keys()
    assert process.stop() == 0
    store = await Store.open(data)
    assert await store.read(lambda tx: tx.all("PRAGMA integrity_check")) == [("ok",)]
    assert await store.read(lambda tx: tx.all("PRAGMA foreign_key_check")) == []
    await store.close()


async def test_sigterm_lets_a_running_call_end(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Its reply is delivered, then the connection is closed with 1012 and the process ends with status 0."""
    guest = write_guest(tmp_path, "slow", SLOW)
    data = tmp_path / "data"
    credential = credential_of(data)
    process = serve(data, "--plugin", str(guest))
    wire = await Wire.open(process.url, credential)
    await wire.call("session.ls")
    action = {"jsonrpc": "2.0", "method": "session.action", "id": 7, "params": {"token_id": "slow.go", "value": 0.5}}
    await wire.send(action)
    await wire.call("server.ping")
    process.process.send_signal(signal.SIGTERM)
    answer = await wire.receive()
    assert (answer["id"], answer["result"]["response"]["slow"]) == (7, "done")
    closing = await wire.receive()
    assert (closing["method"], closing["params"]["code"]) == ("$/closing", 1012)
    await wire.socket.wait_closed()
    assert wire.socket.close_code == 1012
    assert process.stop() == 0


async def test_a_call_longer_than_the_grace_is_stopped(serve: Callable[..., Process], tmp_path: Path) -> None:
    """It is answered with -32802, and the process ends all the same."""
    guest = write_guest(tmp_path, "slow", SLOW)
    data = tmp_path / "data"
    credential = credential_of(data)
    process = serve(data, "--plugin", str(guest), env={"RPCSERVER_SHUTDOWN_GRACE_S": "0.1"})
    wire = await Wire.open(process.url, credential)
    session_id = (await wire.call("session.ls"))["result"]["session_id"]
    params = {"session_id": session_id, "token_id": "slow.go", "value": 25}
    for id in ("running", "queued"):
        await wire.send({"jsonrpc": "2.0", "method": "session.action", "id": id, "params": params})
    await wire.call("server.ping")
    process.process.send_signal(signal.SIGTERM)
    answers = {answer["id"]: answer for answer in [await wire.receive() for _ in range(2)]}
    assert {answer["error"]["code"] for answer in answers.values()} == {-32802}
    assert answers.keys() == {"running", "queued"}
    await wire.socket.wait_closed()
    process.process.wait(10)
    assert process.stop() == 0


MESSAGE = b'"' + b"x" * 4998 + b'"'


async def test_a_client_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    """What waits for it is bounded; the others do not notice."""
    async with run_server(tmp_path, max_outbox_bytes=50_000, max_outbox_age_s=30) as server:
        anna = await server.client("anna")
        most = 0
        async with deaf_client(server) as stalled:
            while stalled in server.app.server._connections:
                stalled.send_soon(MESSAGE)
                assert await anna.call("server.ping") == "pong"
                most = max(most, stalled._outbox_bytes)
        assert 0 < most <= 50_000 + len(MESSAGE)  # the limit, and the message that went over it


async def test_a_client_that_reads_nothing_for_long_is_cut_off(tmp_path: Path) -> None:
    """Also when what waits for it is little: age counts as size does."""
    async with run_server(tmp_path, max_outbox_age_s=0.05) as server:
        anna = await server.client("anna")
        async with deaf_client(server) as stalled:
            while not stalled.paused:
                stalled.send_soon(MESSAGE)
                assert await anna.call("server.ping") == "pong"
            async with asyncio.timeout(20):
                await stalled.wait_closed()


@asynccontextmanager
async def deaf_client(server: Running) -> AsyncIterator[Connection]:
    """Connect a client that stops to read, and give the server's end of it."""
    wire = await Wire.open(server.url, await server.credential("bob"))
    wire.socket.transport.pause_reading()
    connections = server.app.server._connections
    yield next(one for one in connections if one.remote_address == wire.socket.local_address)
    wire.socket.transport.abort()
    await wire.socket.wait_closed()
