"""One client that does not read harms nobody: bounded memory, a quick end, and the others go on."""

import asyncio
import gc
import resource
import socket
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.builders import Wire
from tests.conftest import Running, run_server

EVENT_BYTES = 4096


async def flood(server: Running, user_id: str, bytes_in_all: int, is_over: asyncio.Event) -> None:
    """Announce events to a user until enough has been said, or somebody says stop."""
    events, data = server.app.events, {"filler": "x" * EVENT_BYTES}
    for _ in range(bytes_in_all // EVENT_BYTES // 50):
        await asyncio.gather(
            *(
                server.app.store.write(lambda tx: events.append(tx, "test.flood", f"user:{user_id}", data))
                for _ in range(50)
            )
        )
        if is_over.is_set():
            return


async def sleeper(server: Running) -> Wire:
    """Connect a client with a small receive buffer, subscribe, and stop reading."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", server.app.server.port))
    headers = {"Authorization": f"Bearer {await server.credential('anna')}"}
    wire = Wire(
        await connect(server.url, sock=plain, additional_headers=headers, compression=None, max_size=None, proxy=None)
    )
    assert (await wire.receive())["method"] == "$/hello"
    await wire.call("events.subscribe", {"topics": ["test.*"]})
    wire.socket.transport.pause_reading()
    return wire


async def stall(tmp_path: Path, megabytes: int) -> None:
    """Flood a client that does not read, look at what it costs, and call beside it all the while."""
    async with run_server(tmp_path / "data", synchronous="NORMAL", max_events=2000) as server:
        wire = await sleeper(server)
        user_id = (await server.app.user_named("anna")).id
        (connection,) = server.app.server.users.of(user_id)
        beside = await server.client("bob")
        gc.collect()
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        is_over = asyncio.Event()
        flooding = asyncio.ensure_future(flood(server, user_id, megabytes * 2**20, is_over))
        began, most, slowest = time.monotonic(), 0, 0.0
        while connection.is_open:
            asked = time.monotonic()
            assert await beside.call("server.ping") == "pong"
            slowest = max(slowest, time.monotonic() - asked)
            most = max(most, connection.queue_bytes)
            assert time.monotonic() - began < 20
        is_over.set()
        await flooding
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
        print(f"queued at most {most}, peak memory +{grown_kb} kB, slowest call beside {slowest * 1000:.0f} ms")
        assert most <= 2**20
        assert grown_kb < 20_000 and slowest < 1
        wire.socket.transport.abort()


@pytest.mark.timeout(60)
async def test_a_client_that_does_not_read_costs_a_mebibyte(tmp_path: Path) -> None:
    """It is cut off when a mebibyte waits for it, at the latest; others are answered meanwhile."""
    await stall(tmp_path, 60)
