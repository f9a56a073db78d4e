"""One client that does not read harms nobody: bounded memory, a quick end, and the others go on."""

import asyncio
import gc
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from benchmarks.load import _HANDSHAKE, masked
from rpcserver.client import Client
from tests.builders import Wire
from tests.conftest import Running, run_server

EVENT_BYTES = 4096


async def flood(server: Running, user_id: str, bytes_in_all: int, is_over: asyncio.Event) -> None:
    """Announce events to a user until enough has been said, or somebody says stop."""
    events, data = server.services.events, {"filler": "x" * EVENT_BYTES}
    for _ in range(bytes_in_all // EVENT_BYTES // 50):
        await asyncio.gather(
            *(
                server.services.store.write(lambda tx: events.append(tx, "test.flood", f"user:{user_id}", data))
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
        user_id = await server.user_id("anna")
        (connection,) = server.services.connections.users.of(user_id)
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


class Modem:
    """A client behind a slow line: it reads as much as it may in its time, and answers pings when it comes to them.

    Args:
        plain: connected, the handshake done.
        bytes_per_s: what the line lets through.
    """

    def __init__(self, plain: socket.socket, bytes_per_s: float) -> None:
        self._plain, self._bytes_per_s = plain, bytes_per_s
        self._came = bytearray()
        self.read, self.texts, self.pings, self.codes = 0, list[bytes](), 0, list[int]()

    @classmethod
    async def open(cls, server: Running, bytes_per_s: float) -> "Modem":
        """Connect and shake hands."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, ("127.0.0.1", server.app.server.port))
        bearer = f"Authorization: Bearer {await server.credential('anna')}\r\n"
        address = server.url.removeprefix("ws://").rstrip("/")
        await loop.sock_sendall(plain, _HANDSHAKE.format(host=address, extra=bearer).encode())
        modem = cls(plain, bytes_per_s)
        while b"\r\n\r\n" not in modem._came:
            modem._came += await loop.sock_recv(plain, 4096)
        del modem._came[: modem._came.index(b"\r\n\r\n") + 4]
        return modem

    async def send(self, frames: bytes) -> None:
        """Send frames."""
        await asyncio.get_running_loop().sock_sendall(self._plain, frames)

    async def read_until(self, is_enough: Callable[[], bool]) -> None:
        """Read at the line's pace until it is enough, or the server has ended the connection."""
        loop = asyncio.get_running_loop()
        began, read = loop.time(), 0
        while not is_enough():
            data = await loop.sock_recv(self._plain, 8192)
            if not data:
                return
            read += len(data)
            self._came += data
            await self._take()
            await asyncio.sleep(max(0.0, began + read / self._bytes_per_s - loop.time()))  # the line's own time
        self.read += read

    def close(self) -> None:
        """Be gone."""
        self._plain.close()

    async def _take(self) -> None:
        while len(self._came) >= 2:
            opcode, size, head = self._came[0] & 15, self._came[1] & 127, 2
            if size >= 126:
                head += 2 if size == 126 else 8
                size = int.from_bytes(self._came[2:head], "big")
            if len(self._came) < head + size:
                return
            payload = bytes(self._came[head : head + size])
            del self._came[: head + size]
            if opcode == 9:
                self.pings += 1
                await self.send(masked(payload, 10))
            elif opcode == 8:
                self.codes.append(int.from_bytes(payload[:2], "big"))
            else:
                self.texts.append(payload)


async def test_a_slow_but_steady_reader_is_left_in_peace(tmp_path: Path) -> None:
    """Nine long answers at 4 Mbit/s, but all times a fiftieth or less: none is lost, and no ping counts against it.

    What waits lasts for several of the times after which a client that reads nothing is cut off, or one that answers no
    ping.
    """
    settings: dict[str, Any] = {"max_outbox_age_s": 0.5, "heartbeat_s": 0.4}
    async with run_server(tmp_path / "data", **settings) as server:
        anna = await server.client("anna")
        session = await anna.create_session("long")
        await anna.call("session.db.set", session_id=session, key="long", value="x" * 300_000)
        modem = await Modem.open(server, 1_200_000)
        get = b'{"jsonrpc":"2.0","id":%d,"method":"session.db.get","params":{"session_id":"%b","key":"long"}}'
        await modem.send(b"".join(masked(get % (number, session.encode())) for number in range(9)))
        began = time.monotonic()
        await modem.read_until(lambda: len(modem.texts) == 10)  # the hello, and nine answers
        took = time.monotonic() - began
        assert modem.codes == [] and len(modem.texts) == 10 and modem.read > 2_700_000
        assert took > 3 * settings["max_outbox_age_s"]
        pings = modem.pings
        await modem.read_until(lambda: modem.pings > pings + 1)  # it is asked again, and answers
        modem.close()


async def stalled(tmp_path: Path, count: int, megabytes: int) -> None:
    """Have many subscribers with the policy `close` stop reading while events are told; look at what it costs."""
    async with run_server(tmp_path / "data", synchronous="NORMAL", max_events=2000) as server:
        await server.credential("anna")
        user_id = await server.user_id("anna")
        beside = await server.client("bob")
        quiet = await round_trips(beside, lambda: False, 100)
        wires = [await sleeper(server) for _ in range(count)]
        gc.collect()
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        is_over = asyncio.Event()
        flooding = asyncio.ensure_future(flood(server, user_id, megabytes * 2**20, is_over))
        most = 0

        def is_done() -> bool:
            nonlocal most
            most = max(most, server.app.server.queue_bytes)
            return flooding.done()

        beset = await round_trips(beside, is_done, 10**6)
        await flooding
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
        print(
            f"{count} stalled: queued at most {most}, peak memory +{grown_kb} kB, "
            f"p99 beside {quiet[-2] * 1000:.1f} -> {beset[int(len(beset) * 0.99)] * 1000:.1f} ms"
        )
        assert most <= min(server.services.settings.max_outbox_bytes_per_user, count * 100_000)
        assert grown_kb < 40_000
        assert beset[int(len(beset) * 0.99)] < 2 * quiet[-2] + 0.05
        for wire in wires:
            wire.socket.transport.abort()


async def round_trips(client: Client, is_over: Callable[[], bool], at_most: int) -> list[float]:
    """Call until it is over, and return how long each took, the shortest first."""
    times = []
    while len(times) < at_most and not is_over():
        asked = time.monotonic()
        await client.call("server.ping")
        times.append(time.monotonic() - asked)
    return sorted(times)


@pytest.mark.timeout(60)
async def test_stalled_subscribers_are_bounded_together(tmp_path: Path) -> None:
    """Sixty that stay connected and read nothing: what they miss stays in the log, and is not kept for each of them."""
    await stalled(tmp_path, 60, 4)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_hundred_stalled_subscribers(tmp_path: Path) -> None:
    """The same as the strangers tried it."""
    await stalled(tmp_path, 200, 30)
