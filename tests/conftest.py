"""What every test may ask for: a store, a running server in this process, a server as a process of its own."""

import asyncio
import functools
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from rpcserver.app import App, running
from rpcserver.auth import authenticator
from rpcserver.client import Client
from rpcserver.settings import Settings
from store import Store
from store import clock as store_clock
from store.disk import make_folder
from store.sqlite import DATABASE
from tests.builders import make_place
from tests.clocks import LOOK_EVERY_S, SetClock
from tests.forked import Forked, can_fork, command
from tests.installed import Installed, build_wheel, default_environment

# Whoever is started in the background ignores this, and so does all that they start; those that end on it are tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Hundreds of processes are started: each would compile everything anew where an environment says that none may keep it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """Have the collector pass over what is there before the first test, and stays."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Of `-n auto`: half of its time a test waits. None: as the environment says."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (os.cpu_count() or 1) * 2


@functools.cache
def tables() -> bytes:
    """The file of a database without a row: to make the tables anew for each test would take a tenth of the run."""
    with TemporaryDirectory() as folder:

        async def make() -> None:
            await (await Store.open(Path(folder) / "data")).close()

        runner = threading.Thread(target=asyncio.run, args=(make(),))  # a test's loop may be running here
        runner.start()
        runner.join()
        return (Path(folder) / "data" / DATABASE).read_bytes()


def lay_tables(data: Path) -> None:
    """Put the tables into a folder that is not there yet."""
    if not data.exists():
        make_folder(data)
        (data / DATABASE).write_bytes(tables())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store on disk."""
    lay_tables(tmp_path / "data")
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the wheel and what it needs, without any extra; it is not to be changed."""
    made = default_environment(tmp_path_factory.mktemp("installed") / "environment")
    made.install(wheel)
    return made


class Running:
    """A server in this process, with users and clients."""

    def __init__(self, app: App, stack: AsyncExitStack, clock: SetClock) -> None:
        self.app = app
        self.services = app.services
        self.clock = clock
        self.url = app.server.url
        self._stack = stack
        self.credentials: dict[str, str] = {}

    async def credential(self, user: str) -> str:
        """Return the credential of a user, making him first if need be."""
        if user not in self.credentials:
            self.credentials[user] = await self.app.operate("operator.user_add", name=user)
        return self.credentials[user]

    async def user_id(self, user: str) -> str:
        """Return the id of a user there is."""
        return (await self.app.services.store.read(lambda tx: authenticator.user_named(tx, user))).id

    async def client(self, user: str = "anna", **options: Any) -> Client:
        """Return a connected client of the user; it is closed with the test."""
        client = Client(self.url, await self.credential(user), **options)
        return await self._stack.enter_async_context(client)

    async def connect(self, credential: str, **options: Any) -> Client:
        """Return a client connected with this credential; it is closed with the test."""
        return await self._stack.enter_async_context(Client(self.url, credential, **options))

    async def operator(self) -> Client:
        """Return a client that speaks as the operator."""
        return await self.connect(str(self.app.services.operator_secret))


@asynccontextmanager
async def run_server(data: Path, clock: SetClock | None = None, **settings: Any) -> AsyncIterator[Running]:
    """Run a server in this process on a free port, with a clock that can be set."""
    clock = clock or SetClock()
    lay_tables(data)
    async with running(Settings.load(data=data, port=0, **settings), clock=clock) as app, AsyncExitStack() as stack:
        yield Running(app, stack, clock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """A clock to be set, at which everybody looks again at once instead of after half a minute."""
    monkeypatch.setattr(store_clock, "LONGEST_WAIT_S", LOOK_EVERY_S)
    return SetClock()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A server in this process."""
    async with run_server(tmp_path / "data") as running_server:
        yield running_server


@pytest.fixture
async def anna(server: Running) -> Client:
    """A client of the user anna, connected to `server`."""
    return await server.client("anna")


@pytest.fixture
async def bob(server: Running) -> Client:
    """A client of the user bob, connected to `server`."""
    return await server.client("bob")


@pytest.fixture
async def shelf(anna: Client) -> str:
    """A set `shelf` below anna's home."""
    return await make_place(anna)


class Process:
    """A server as a process of its own."""

    def __init__(
        self, data: Path, *flags: str, env: dict[str, str] | None = None, python: str | Path = sys.executable
    ) -> None:
        self.data = data
        self._flags = flags
        self._python = str(python)
        self._env = {**os.environ, **(env or {})}
        self.start()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.log = open(self.data.parent / "server.log", "ab")  # noqa: SIM115 (closed in stop)
        arguments = ["serve", "--data", str(self.data), "--port", "0", *self._flags]
        self.process: subprocess.Popen[bytes] | Forked
        if self._python == sys.executable and can_fork(self._env):
            self.process = Forked(arguments, self.log, self._env)
        else:
            program = [self._python, "-P", "-m", "rpcserver"]
            self.process = subprocess.Popen(
                [*program, *arguments], stdout=subprocess.PIPE, stderr=self.log, env=self._env
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server did not start: {(self.data.parent / 'server.log').read_text()[-2000:]}"
        self.ready = json.loads(line)
        self.url: str = self.ready["url"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        return status


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start servers as processes; they are killed with the test."""
    started: list[Process] = []

    def start(data: Path | None = None, *flags: str, env: dict[str, str] | None = None) -> Process:
        process = Process(data or tmp_path / "data", *flags, env=env)
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop(signal.SIGKILL)


def run_cli(*arguments: str, timeout_s: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    # What is to happen before it begins, in its process, happens in a real one.
    program = command(options.get("env", os.environ), is_real="preexec_fn" in options)
    return subprocess.run(
        [*program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        **options,
    )


async def settle() -> None:
    """Let what is scheduled on the loop happen."""
    for _ in range(5):
        await asyncio.sleep(0)
