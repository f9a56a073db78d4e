"""The service manager: readiness, watchdog, and a restart behind a socket that stays open."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rpcserver.cli import systemd
from rpcserver.client import CallError, Client, Disconnected
from tests.builders import write_guest
from tests.conftest import Process, run_cli

# What systemd does between fork and exec: the socket becomes descriptor 3, and the child learns its own id.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS=sys.argv[2], LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "rpcserver", "serve", "--data", sys.argv[3], "--port", "1"])
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(20)
        yield channel


def test_ready_watchdog_stopping(serve: Callable[..., Process], tmp_path: Path, manager: socket.socket) -> None:
    """The manager hears READY once the port is open, WATCHDOG in time, and STOPPING at the end."""
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    process = serve(None, env=env)
    ready = manager.recv(1000).decode().split("\n")
    assert ready[0] == "READY=1"
    assert process.url in ready[1]
    assert manager.recv(1000) == b"WATCHDOG=1"
    assert manager.recv(1000) == b"WATCHDOG=1"
    assert process.stop() == 0
    heard = b""
    while heard != b"STOPPING=1":
        assert heard in (b"", b"WATCHDOG=1")
        heard = manager.recv(1000)


def test_a_server_that_hangs_is_not_said_to_live(
    serve: Callable[..., Process], tmp_path: Path, manager: socket.socket
) -> None:
    """A process that does not run any more says nothing, so that the watchdog ends it."""
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    process = serve(None, env=env)
    assert manager.recv(1000).startswith(b"READY=1")
    process.process.send_signal(signal.SIGSTOP)
    manager.settimeout(0.6)
    with pytest.raises(TimeoutError):
        while True:  # what was on its way when it was stopped may still come
            manager.recv(1000)
    process.process.send_signal(signal.SIGCONT)


async def test_a_long_write_does_not_starve_the_watchdog(
    serve: Callable[..., Process], tmp_path: Path, manager: socket.socket
) -> None:
    """The manager goes on hearing of a server whose writer is busy for longer than it would wait."""
    guest = write_guest(
        tmp_path,
        "writes",
        """
        import time

        @job("writes.long", Nothing, lane="long")
        async def long(job, data):
            return await job.write(lambda core: time.sleep(1.5))

        @hookimpl
        def register_jobs():
            return [long]
        """,
    )
    credential = run_cli("user", "add", "anna", "--data", str(tmp_path / "data")).stdout.strip()
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    process = serve(tmp_path / "data", "--plugin", str(guest), env=env)
    assert (await asyncio.to_thread(manager.recv, 1000)).startswith(b"READY=1")
    async with Client(process.url, credential) as client:
        long = asyncio.ensure_future(client.call("job.run", function="writes.long"))
        heard = 0
        while not long.done():
            assert await asyncio.to_thread(manager.recv, 1000) == b"WATCHDOG=1"
            heard += 1
        assert (await long)["state"] == "succeeded" and heard >= 5


def test_without_a_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a service manager all three do nothing, and another process' variables are not ours."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    assert not systemd.notify("READY=1")
    assert systemd.watchdog_s() is None
    assert systemd.inherited_socket() is None
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    assert systemd.watchdog_s() == 1.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert systemd.watchdog_s() is None
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert systemd.inherited_socket() is None


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notification socket in the abstract namespace, written with @, is reached."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0rpcserver-test-{os.getpid()}")
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@rpcserver-test-{os.getpid()}")
        assert systemd.notify("READY=1")
        assert channel.recv(100) == b"READY=1"


class Activated:
    """A server started on a socket that its parent keeps open."""

    def __init__(self, listening: socket.socket, data: Path, count: str = "1") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listening.fileno()), count, str(data)],
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> str:
        """Wait until it serves, and return its address."""
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return str(json.loads(line)["url"])

    def stop(self) -> tuple[int, str]:
        """Ask it to end, and return the exit status and what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, log


async def test_a_restart_refuses_nobody(tmp_path: Path) -> None:
    """While the server restarts behind a socket its parent holds, whoever connects is served, if a little later."""
    data = tmp_path / "data"
    credential = (await asyncio.to_thread(run_cli, "user", "add", "anna", "--data", str(data))).stdout.strip()
    is_over, busy = asyncio.Event(), asyncio.Event()
    served: list[int] = []

    async def visit(url: str, pids: set[int]) -> None:
        while not is_over.is_set() or len(pids) < 3:
            try:
                async with Client(url, credential) as client:
                    await client.call("server.ping")
                    served.append(len(pids))
                    busy.set()
            except (Disconnected, CallError, TimeoutError):
                pass  # told to come back, or waiting too long for a slow machine; a refused connection fails

    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        server = Activated(listening, data)
        url = await asyncio.to_thread(server.ready)
        assert url == f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        pids = {server.process.pid}
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    tasks.create_task(visit(url, pids))
                for _ in range(2):
                    busy.clear()
                    await busy.wait()
                    status, log = await asyncio.to_thread(server.stop)
                    assert (status, "Traceback" in log) == (0, False), log
                    server = Activated(listening, data)
                    await asyncio.to_thread(server.ready)
                    pids.add(server.process.pid)
                is_over.set()
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.communicate()
    assert {1, 2} <= set(served)


@pytest.mark.parametrize("kind", ["two", "unix"])
def test_a_socket_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    """Two sockets, or one that is not TCP, end the start with what to write in the unit."""
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as listening:
        listening.bind(str(tmp_path / "socket") if kind == "unix" else ("127.0.0.1", 0))
        listening.listen()
        server = Activated(listening, tmp_path / "data", "2" if kind == "two" else "1")
        _, log = server.process.communicate(timeout=30)
    assert server.process.returncode == 1
    assert "ListenStream" in log
    assert "Traceback" not in log
