"""The servers that are compared: each a process on the server's core, with the ground its sessions walk on."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load import Connection
from rpcserver.app import opened
from rpcserver.client import Client
from rpcserver.settings import Settings

FILES = 49  # with the visiting user's own token a listing shows 50
METHODS = ("session.get", "session.ls", "session.cd")


@dataclass(frozen=True, slots=True)
class Walk:
    """A session and the two sets it walks between."""

    id: str
    here: str
    there: str

    def calls(self, method: str, slot: int) -> list[bytes]:
        """Return the messages of a slot: one, or for session.cd one there and one back."""
        params: list[dict[str, Any]] = [{"session_id": self.id}]
        if method == "session.ls":
            params = [{"session_id": self.id, "limit": 50}]
        elif method == "session.cd":
            params = [{"session_id": self.id, "set_id": place} for place in (self.there, self.here)]
        calls = [{"jsonrpc": "2.0", "method": method, "params": one, "id": slot + 1} for one in params]
        return [json.dumps(call, separators=(",", ":")).encode() for call in calls]


@dataclass
class Server:
    """A running server; `walks[i]` are the sessions of connection i, `credentials[i]` how it gets in."""

    name: str
    process: subprocess.Popen[str]
    url: str
    walks: list[list[Walk]] = field(default_factory=list)
    credentials: list[str | None] = field(default_factory=list)
    greets: bool = False

    @property
    def pid(self) -> int:
        """The process whose CPU time counts."""
        return self.process.pid

    def connect(self, method: str, connections: int, depth: int) -> list[Connection]:
        """Open the connections of a shape, each slot with a session of its own."""
        opened_connections = []
        for number in range(connections):
            slots = [walk.calls(method, slot) for slot, walk in enumerate(self.walks[number][:depth])]
            opened_connections.append(Connection(self.url, self.credentials[number], slots, self.greets))
        return opened_connections

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def running(folder: Path, sessions_of: list[int], core: int | None) -> Iterator[list[Server]]:
    """Run ours, the echo and the naive stack; `sessions_of[i]` is how many sessions connection i has."""
    started: list[Server] = []
    try:
        started.append(_ours(folder, sessions_of, core))
        flags = ["--uvloop"] if has_uvloop() else []
        echo = start("echo", folder, core, "-m", "benchmarks.echo_server", *flags)[0]
        started.append(echo)
        echo.walks, echo.credentials = started[0].walks, [None] * len(sessions_of)
        naive, ready = start(
            "naive", folder, core, "-m", "benchmarks.naive_server", str(folder / "naive.db"), json.dumps(sessions_of)
        )
        started.append(naive)
        naive.walks = [[Walk(**walk) for walk in walks] for walks in ready["sessions"]]
        naive.credentials = [None] * len(sessions_of)
        yield started
    finally:
        for server in started:
            server.stop()


def has_uvloop() -> bool:
    """Tell whether the server runs on uvloop here; the echo then does too."""
    return importlib.util.find_spec("uvloop") is not None


def start(name: str, folder: Path, core: int | None, *arguments: str) -> tuple[Server, dict[str, Any]]:
    """Start a server as a process on a core, None: on any, and return it with what it said when it was ready."""
    with open(folder / f"{name}.log", "ab") as log, _pinned(core):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        process.stdout.close()
        raise RuntimeError(f"{name} did not start:\n{(folder / f'{name}.log').read_text()[-2000:]}")
    ready: dict[str, Any] = json.loads(line)
    return Server(name, process, ready["url"]), ready


@contextmanager
def _pinned(core: int | None) -> Iterator[None]:
    # A child inherits the affinity it is started with, and so do its threads.
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _ours(folder: Path, sessions_of: list[int], core: int | None) -> Server:
    data = folder / "data"
    credentials = asyncio.run(_populate(data, folder, sessions_of))
    server = start("ours", folder, core, "-m", "rpcserver", "serve", "--data", str(data), "--port", "0")[0]
    try:
        server.walks = asyncio.run(_walk_in(server.url, credentials, sessions_of))
    except BaseException:
        server.stop()
        raise
    server.credentials, server.greets = list(credentials), True
    return server


async def _populate(data: Path, folder: Path, sessions_of: list[int]) -> list[str]:
    """Make a user for each connection, with two sets of `FILES` files for each of his sessions."""
    async with opened(Settings.load(data=data)) as app:
        credentials = []
        for number, count in enumerate(sessions_of):
            name = f"user{number}"
            credentials.append(await app.operate("operator.user_add", name=name))
            await app.operate("operator.import", path=str(_tree(folder, count)), user=name)
    return credentials


async def _walk_in(url: str, credentials: list[str], sessions_of: list[int]) -> list[list[Walk]]:
    walks = []
    for credential, count in zip(credentials, sessions_of, strict=True):
        async with Client(url, credential) as client:
            own = []
            for number in range(count):
                session_id = await client.create_session(f"walk {number}")
                there = await client.cd(session_id, path=f"tree{count}/there-{number}")
                here = await client.cd(session_id, path=f"../here-{number}")
                own.append(Walk(session_id, here.current_set.id, there.current_set.id))
            walks.append(own)
    return walks


def _tree(folder: Path, pairs: int) -> Path:
    tree = folder / f"tree{pairs}"
    if not tree.exists():
        for number in range(pairs):
            for way in ("here", "there"):
                place = tree / f"{way}-{number}"
                place.mkdir(parents=True)
                for item in range(FILES):
                    (place / f"item-{item:02}.txt").write_text(f"item {item} " + "a" * 80)
    return tree
