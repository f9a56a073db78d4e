"""What is poured over the server without a credential, or by a user as no call: others hardly wait, memory is bounded.

How long a turn of the event loop is, is measured in the processor's time, which other programs on the machine do not
take part in: nobody waits longer for a flood than the longest turn, times the turns that a call needs.
"""

import asyncio
import json
import math
import selectors
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.load import _HANDSHAKE, masked
from benchmarks.strangers import KINDS, SOCKETS, Flood, part
from rpcserver.transport.connection import Connection
from tests.builders import Wire
from tests.conftest import Process, Running, run_cli, run_server
from tests.protocol.test_events import until

LONGEST_S = 0.025  # of a turn; undisturbed it is a fifth of that at most
POUR_S = 0.3


@asynccontextmanager
async def flooded(server: Running, kind: str) -> AsyncIterator[None]:
    """Pour, from a thread, as long as the block lasts."""
    credential = await server.credential("loud") if kind.startswith("user") else None
    poll, stop = selectors.DefaultSelector(), threading.Event()

    def pour() -> None:
        floods = [Flood(kind, server.url, credential, poll) for _ in range(SOCKETS)]
        while not stop.is_set():
            for key, _ in poll.select(0.1):
                key.data.pour()
        for one in floods:
            one.drop()
        poll.close()

    pouring = asyncio.ensure_future(asyncio.to_thread(pour))
    try:
        yield
    finally:
        stop.set()
        await pouring


async def longest_turn(seconds: float) -> float:
    """Return what the longest turn of the loop has taken of the processor."""
    loop, last, longest = asyncio.get_running_loop(), time.thread_time(), 0.0
    until = loop.time() + seconds
    while loop.time() < until:
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return longest


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_leaves_the_loop_to_others(tmp_path: Path, kind: str) -> None:
    """Whatever is poured, turns stay short, and a user beside is answered."""
    async with run_server(tmp_path / "data", max_failed_logins_per_minute=10**6) as server:
        quiet = await server.client("quiet")
        async with flooded(server, kind):
            longest = await longest_turn(POUR_S)
            async with asyncio.timeout(10):
                assert await quiet.call("server.ping") == "pong"
                await quiet.ls()
        assert longest < LONGEST_S


def peak_bytes(process: Process) -> int:
    """Return the most memory a server has had."""
    lines = Path(f"/proc/{process.process.pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def opened(process: Process | Running, credential: str | None = None, handshake: bool = True) -> socket.socket:
    """Connect, and shake hands without looking at the answer."""
    address = process.url.removeprefix("ws://").rstrip("/")
    host, _, port = address.partition(":")
    one = socket.create_connection((host, int(port)), timeout=10)
    if handshake:
        bearer = f"Authorization: Bearer {credential}\r\n" if credential else ""
        one.sendall(_HANDSHAKE.format(host=address, extra=bearer).encode())
        assert one.recv(4096).startswith(b"HTTP/1.1 101")
    return one


def give(one: socket.socket, data: bytes) -> bool:
    """Send it all; False when the server ends the connection first."""
    try:
        one.sendall(data)
    except OSError:
        return False
    return True


def is_ended(one: socket.socket) -> bool:
    """Tell whether the server has ended the connection, in a moment or two."""
    one.settimeout(5)
    try:
        while one.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


MEBIBYTE = 1024 * 1024
PARTS = {
    "parts of a byte": part(1, b"{") + part(0, b"x") * 500_000,
    "parts of 1000 bytes": part(1, b"{") + part(0, b"x" * 1000) * 1000,
    "parts of nothing": part(1, b"{") + part(0, b"") * 500_000,
    "one long frame": struct.pack("!BBQ", 0x81, 0xFF, MEBIBYTE) + b"\x00" * (MEBIBYTE - 10),
    "one very long frame": struct.pack("!BBQ", 0x81, 0xFF, 2**62) + b"\x00" * MEBIBYTE,
    "many messages": masked(b"x" * 4000) * 500,
}


@pytest.mark.parametrize("kind", PARTS)
def test_strangers_hold_little(serve: Callable[..., Process], kind: str) -> None:
    """Unfinished messages of forty strangers: each is ended, the server's memory stays, and its users are served."""
    process = serve()
    before = peak_bytes(process)
    strangers = [opened(process) for _ in range(40)]
    for stranger in strangers:
        give(stranger, PARTS[kind])
    assert all(is_ended(stranger) for stranger in strangers)
    assert peak_bytes(process) - before < 24 * MEBIBYTE
    for stranger in strangers:
        stranger.close()
    assert run_cli("call", "server.ping", "--url", process.url).returncode == 0


HEADERS = {
    "long headers": "".join(f"X-{n}: {'x' * 8000}\r\n" for n in range(120)),
    "many headers": "".join(f"X-{n}: x\r\n" for n in range(10_000)),
    "one endless header": "X: " + "x" * 10**6,
    "an endless line": "x" * 10**6,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_requests_hold_little(serve: Callable[..., Process], kind: str) -> None:
    """Headers without end are answered with what is wrong, or ended; nothing is kept of them."""
    process = serve()
    before = peak_bytes(process)
    strangers = [opened(process, handshake=False) for _ in range(40)]
    for stranger in strangers:
        give(stranger, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + HEADERS[kind].encode())
    for stranger in strangers:
        assert is_ended(stranger)
        stranger.close()
    assert peak_bytes(process) - before < 16 * MEBIBYTE


def codes_of(wires: list[Wire]) -> list[int]:
    """Return the codes of the connections that were closed."""
    return [wire.socket.close_code for wire in wires if wire.socket.close_code is not None]


async def test_strangers_together_are_bounded(tmp_path: Path) -> None:
    """Each of a hundred says no more than it may: together they are too many, and the last ones are told so."""
    async with run_server(tmp_path, max_strangers_bytes=200_000) as server:
        wires = [await Wire.open(server.url) for _ in range(100)]
        for wire in wires:
            wire.socket.transport.write(part(1, b"x" * 3000))
        pool = server.app.server._strangers_pools[0]
        await until(lambda: len(codes_of(wires)) >= 30)
        assert set(codes_of(wires)) == {1013} and pool.used <= 200_000
        anna = await server.client("anna")
        assert await anna.call("server.ping") == "pong"
        for wire in wires:
            await wire.close()
        await until(lambda: len(server.app.server._connections) == 1)
        assert pool.used == 0


async def test_a_users_connections_together_are_bounded(tmp_path: Path) -> None:
    """Unfinished messages of one user: what is over ends that connection; another user's are not counted with them."""
    async with run_server(tmp_path, max_unfinished_bytes_per_user=1_000_000) as server:
        credential = await server.credential("anna")
        wires = [await Wire.open(server.url, credential) for _ in range(5)]
        other = await Wire.open(server.url, await server.credential("bob"))
        for wire in (*wires, other):
            wire.socket.transport.write(part(1, b'"' + b"x" * 300_000))
        await until(lambda: codes_of(wires) == [4429, 4429])
        assert sum(wire.socket.close_code is None for wire in (*wires, other)) == 4
        for wire in wires:
            if wire.socket.close_code is None:
                wire.socket.transport.write(part(0, b'"', is_last=True))
                assert (await wire.receive())["error"]["code"] == -32600
        for wire in (*wires, other):
            await wire.close()


def test_answers_nobody_reads_are_bounded(serve: Callable[..., Process]) -> None:
    """Forty connections of a user that ask for the largest answers and read none: cut off, not kept."""
    process = serve()
    credential = run_cli("user", "add", "anna", "--data", str(process.data)).stdout.strip()
    before = peak_bytes(process)
    call = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}'
    batch = masked(b"[%b]" % b",".join([call] * 15))
    deaf = [opened(process, credential) for _ in range(40)]
    for one in deaf:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        give(one, batch * 5)
    with closing(opened(process, credential)) as last:
        give(last, masked(call))
        assert last.recv(100)
    assert run_cli("call", "server.ping", "--url", process.url, "--credential", credential).returncode == 0
    assert peak_bytes(process) - before < 160 * MEBIBYTE  # 32 that may wait, and what is in the making
    for one in deaf:
        one.close()


async def test_who_holds_most_goes_first(tmp_path: Path) -> None:
    """A tab whose answer makes it too much with what another does not take stays; the other one goes."""
    async with run_server(tmp_path / "data") as server:
        credential = await server.credential("anna")
        quiet = await Wire.open(server.url, credential)
        (group,) = server.services.connections.users._by_key.values()
        call = {"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"}
        for _ in range(3):
            deaf = await asyncio.to_thread(opened, server, credential)
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            give(deaf, masked(b"[%b]" % b",".join([json.dumps(call).encode()] * 12)))
            with closing(deaf):
                await until(lambda: group.outgoing.used > 3_000_000)
                group.outgoing.limit = group.outgoing.used
                answers = await quiet.ask([{**call, "id": number} for number in range(3)])
                assert all("result" in answer for answer in answers)
                await until(lambda: len(group.connections) == 1)
                group.outgoing.limit = math.inf
        await quiet.close()


async def test_a_stranger_that_says_much_is_ended(tmp_path: Path) -> None:
    """A thousand messages, or 256 KiB of small ones, are more than anybody needs to say who he is."""
    async with run_server(tmp_path) as server:
        ping = masked(b'{"jsonrpc":"2.0","id":1,"method":"server.ping"}')
        for flood in (ping * 2000, masked(b"x" * 2000) * 200, masked(b"", 9) * 2000):
            wire = await Wire.open(server.url)
            wire.socket.transport.write(flood)
            with pytest.raises(ConnectionClosed):
                while True:
                    await asyncio.wait_for(wire.receive(), 10)
            assert wire.socket.close_code == 1008


async def test_a_stranger_is_answered_twenty_times_a_second(tmp_path: Path) -> None:
    """A batch of a hundred pings before authentication: the first ones are answered, the others told to slow down."""
    async with run_server(tmp_path) as server:
        wire = await Wire.open(server.url)
        items = [{"jsonrpc": "2.0", "id": n, "method": "server.ping"} for n in range(40)]
        answers = await wire.ask(items)
        kinds = [answer["error"]["data"]["kind"] if "error" in answer else "pong" for answer in answers]
        assert 20 <= kinds.count("pong") < 35 and set(kinds) == {"pong", "RATE_LIMITED"}
        await wire.call("auth.authenticate", {"credential": await server.credential("anna")}, id=99)
        await wire.close()


async def test_nothing_is_done_after_the_end(tmp_path: Path) -> None:
    """What a client sends behind its fault is not looked at, however much; the socket is given up in a while."""
    async with run_server(tmp_path) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        ping = masked(b'{"jsonrpc":"2.0","id":1,"method":"session.create"}')
        wire.socket.transport.write(masked(b"\xff") + ping * 1000)
        await asyncio.wait_for(wire.socket.wait_closed(), 10)
        assert wire.socket.close_code == 1007
        anna = await server.client("anna")
        assert [one.name for one in await anna.list_sessions()] == []


async def test_calls_before_a_clients_close_are_made(tmp_path: Path) -> None:
    """Who says something and goes at once has said it."""
    async with run_server(tmp_path) as server:
        for number in range(20):
            wire = await Wire.open(server.url, await server.credential("anna"))
            name = f"work {number}"
            notice = b'{"jsonrpc":"2.0","method":"session.create","params":{"name":"%b"}}' % name.encode()
            wire.socket.transport.write(masked(notice) + masked(b"\x03\xe8", 8))
            await wire.socket.wait_closed()
        anna = await server.client("anna")
        async with asyncio.timeout(10):
            while len(await anna.list_sessions()) < 20:
                pass


async def test_a_client_that_does_not_go_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fault a socket that stays open on the other side costs nothing for long."""
    monkeypatch.setattr("rpcserver.transport.connection.LINGER_S", 0.05)
    async with run_server(tmp_path) as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        (connection,) = server.app.server._connections
        wire.socket.transport.pause_reading()
        wire.socket.transport.write(masked(b"\xff"))
        async with asyncio.timeout(10):
            await connection.wait_closed()
        wire.socket.transport.abort()


async def test_strangers_keep_no_user_out(tmp_path: Path) -> None:
    """Of handshakes that do not go on, and of connections without a user, the oldest makes room when they are many."""
    async with run_server(tmp_path / "data", max_connections=20) as server:
        anna = await server.client("anna")
        address = server.url.removeprefix("ws://").rstrip("/")
        silent = [await asyncio.open_connection(*address.split(":")) for _ in range(8)]
        wires = [await Wire.open(server.url) for _ in range(25)]
        bob = await server.client("bob")
        assert await anna.call("server.ping") == await bob.call("server.ping") == "pong"
        async with asyncio.timeout(10):
            for reader, writer in silent:
                with suppress(OSError):
                    assert await reader.read() == b""
                writer.close()
        await until(lambda: server.app.server.connection_count <= 12)  # ten of them without a user
        await wires[-1].call("auth.authenticate", {"credential": await server.credential("carl")})
        await Wire.open(server.url)
        assert len(server.app.server._strangers) <= 10
        for wire in wires:
            await wire.close()


async def test_some_descriptors_are_for_the_servers_own_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection takes the last ones: who comes then is let go, and who is there can go on opening files."""
    with socket.socket() as free:
        room = free.fileno() + 120
    monkeypatch.setattr("rpcserver.transport.listening.file_room", lambda: room)
    async with run_server(tmp_path / "data") as server:
        anna = await server.client("anna")
        wires: list[Wire] = []
        with pytest.raises((OSError, WebSocketException)):
            while len(wires) < 120:
                wires.append(await Wire.open(server.url))
        assert len(wires) > 10
        session = await anna.create_session("still")
        await anna.call("session.db.set", session_id=session, key="a", value="b")
        for wire in wires:
            await wire.close()


async def test_large_answers_go_out_one_in_a_turn(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing megabytes to a socket takes milliseconds: between two of them the loop looks at its other sockets."""
    turns: list[int] = []
    turn, is_over = 0, False
    loop = asyncio.get_running_loop()
    send = Connection.send_large

    def count() -> None:
        nonlocal turn
        turn += 1
        if not is_over:
            loop.call_soon(count)

    def counted(connection: Connection) -> None:
        turns.append(turn)
        send(connection)

    monkeypatch.setattr(Connection, "send_large", counted)
    wanted = [{"jsonrpc": "2.0", "id": number, "method": "rpc.discover"} for number in range(16)]
    wires = [await Wire.open(server.url, await server.credential("loud")) for _ in range(3)]
    count()
    for wire in wires:
        await wire.send(wanted)
    answers = [await wire.receive() for wire in wires]
    is_over = True
    for wire in wires:
        await wire.close()
    assert all(len(answer) == len(wanted) for answer in answers)
    assert len(turns) == len(wires) and len(set(turns)) == len(turns)
