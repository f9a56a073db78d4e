"""`rpcserver demo`: import a real tree, start a server as a process of its own, and walk around in it.

Everything stands in a temporary folder and goes with it; the calls go over a real socket through the public client.
"""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError
from rich.markup import escape

from rpcserver.client import CallError, Client, Disconnected, Subscription
from rpcserver.demo_screen import Screen
from rpcserver.models import ActionResult, Listing

USER = "visitor"
SHOWN = 8  # rows of a table
LEFT_OUT = ("site-packages", "dist-packages", "__pycache__")
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
NOTICE_TIMEOUT_S = 30
LOG_TAIL_BYTES = 2000


class DemoError(Exception):
    """The demo could not go on."""


def run() -> int:
    """Run the demo and return the exit status: 0, or 1 with what went wrong on standard error."""
    # Told to end, it ends as if interrupted: by the way that stops the server and removes the folder.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(Screen())
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(screen: Screen) -> int:
    screen.say("[bold]rpcserver demo[/]: a session server to walk around in, on this Python's standard library")
    try:
        with tempfile.TemporaryDirectory(prefix="rpcserver-demo-") as folder:
            data = Path(folder) / "data"
            credential, tree = _prepare(screen, data)
            with open(data / "server.log", "w+b") as log:
                _walk_beside_server(screen, data, log, credential, tree)
    except (DemoError, CallError, Disconnected, ValidationError, OSError) as error:
        screen.failed(str(error) or "the server did not answer in time.")
        return 1
    except KeyboardInterrupt:
        screen.failed("interrupted; the server was stopped and its folder removed.")
        return 1
    screen.say(
        "\nThe server was stopped and its folder removed.\n[bold]Try next:[/] `rpcserver serve` starts a server of"
        " your own and prints the first call to make; docs/tutorial.md goes on from there."
    )
    return 0


def _prepare(screen: Screen, data: Path) -> tuple[str, str]:
    """Make a user and import the tree; return his credential and the name of the tree's set."""
    screen.step("A data folder, a user, a tree")
    credential = command(screen, "user", "add", USER, "--data", str(data)).strip()
    screen.answered(f"his credential, shown this once: {credential[:8]}...")
    root = Path(sysconfig.get_path("stdlib")).resolve()
    flags = [flag for name in LEFT_OUT for flag in ("--exclude", name)]
    started = time.monotonic()
    counted = json.loads(command(screen, "import", str(root), "--user", USER, *flags, "--data", str(data)))
    took_s = time.monotonic() - started
    screen.answered(f"{counted['sets']:,} sets (folders) and {counted['tokens']:,} tokens (files) in {took_s:.1f} s")
    return credential, root.name


def command(screen: Screen, *arguments: str) -> str:
    """Run an `rpcserver` command and return what it printed; its standard error goes to the person."""
    shown = arguments[: arguments.index("--data")]
    screen.say(f"[cyan]$ rpcserver {escape(shlex.join(shown))}[/]")
    done = subprocess.run(_rpcserver(*arguments), stdout=subprocess.PIPE, text=True, env=_environment())
    if done.returncode != 0:
        raise DemoError(f"`rpcserver {shlex.join(shown)}` ended with status {done.returncode}.")
    return done.stdout


def _rpcserver(*arguments: str) -> list[str]:
    # Not from the folder that this is run in: it may hold packages of the same names.
    return [sys.executable, "-P", "-m", "rpcserver", *arguments]


def _environment() -> dict[str, str]:
    # The person's own settings belong to his own server.
    return {name: value for name, value in os.environ.items() if not name.startswith("RPCSERVER_")}


@asynccontextmanager
async def served(data: Path, log: IO[bytes]) -> AsyncIterator[str]:
    """Run `rpcserver serve` as a process and give its url; it is stopped whatever happens."""
    process = await asyncio.create_subprocess_exec(
        *_rpcserver("serve", "--data", str(data), "--host", "127.0.0.1", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env=_environment(),
    )
    try:
        yield await _ready_url(process)
    finally:
        await _stop(process)


async def _ready_url(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await process.stdout.readline()
    if not line:
        raise DemoError(f"the server did not start within {START_TIMEOUT_S} s.")
    return str(json.loads(line)["url"])


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _walk_beside_server(screen: Screen, data: Path, log: IO[bytes], credential: str, tree: str) -> None:
    try:
        asyncio.run(_walk_around(screen, data, log, credential, tree))
    except (DemoError, CallError, Disconnected, OSError):
        log.seek(0)
        screen.failed("the server's log ends with:\n" + log.read()[-LOG_TAIL_BYTES:].decode(errors="replace"))
        raise


async def _walk_around(screen: Screen, data: Path, log: IO[bytes], credential: str, tree: str) -> None:
    screen.step("The server")
    async with served(data, log) as url:
        screen.answered(f"rpcserver serve: ready at {url}")
        async with Client(url, credential, timeout_s=30, name="demo") as client:
            subscription = await client.subscribe("session.*", "job.*")
            screen.answered("connected; subscribed to session.* and job.*: lines with ! were pushed by the server")
            try:
                async with asyncio.TaskGroup() as tasks:
                    listening = tasks.create_task(_listen(screen, subscription))
                    await _Walk(screen, client, tree).all()
                    await _heard_the_end(listening)
            except BaseExceptionGroup as group:
                # What is told is what went wrong first, not that it happened in a group.
                raise group.exceptions[0] from None


async def _heard_the_end(listening: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait({listening}, timeout=NOTICE_TIMEOUT_S)
    if not done:
        raise DemoError("the server did not announce that the session is destroyed.")


async def _listen(screen: Screen, subscription: Subscription) -> None:
    """Show every notice as it arrives, until the job that destroys the session is announced."""
    async for event in subscription:
        screen.heard(event)
        if event.data.get("function") == "session.destroy_session":
            return


class _Walk:
    """The calls, one after another."""

    def __init__(self, screen: Screen, client: Client, tree: str) -> None:
        self._screen = screen
        self._client = client
        self._tree = tree
        self._session_id = ""

    async def all(self) -> None:
        """Create a session, look, walk, act, and destroy it."""
        await self._create()
        await self._look_and_walk()
        await self._act()
        await self._take_stock()
        self._screen.step("Destroy the session")
        self._screen.asked("session.destroy", {"session_id": self._session_id})
        await self._client.destroy_session(self._session_id)

    async def _create(self) -> None:
        self._screen.step("Create a session")
        self._screen.asked("session.create", {"name": "a walk"})
        self._session_id = await self._client.create_session("a walk")
        self._screen.answered(f"session_id {self._session_id}")

    async def _look_and_walk(self) -> None:
        self._screen.step("Look around, at home")
        await self._listing("session.ls", limit=SHOWN)
        self._screen.step("Walk into the tree, and turn a page")
        there = await self._listing("session.cd", path=self._tree, limit=SHOWN)
        if there.contents is not None and there.contents.next_cursor:
            await self._listing("session.ls", limit=SHOWN, cursor=there.contents.next_cursor)
        self._screen.step("Walk on, and look into a file")
        there = await self._listing("session.cd", path="json", limit=SHOWN)
        files = [token for token in there.contents.tokens if token.type == "file"] if there.contents else []
        if files:
            token_id = files[0].id
            self._screen.asked("session.ls", {"session_id": self._session_id, "token_id": token_id})
            found = await self._client.ls(self._session_id, token_id=token_id, sections=["contents"])
            for token in found.contents.tokens if found.contents else []:
                self._screen.token(token)

    async def _act(self) -> None:
        self._screen.step("Act: a bookmark, back, and to the bookmark again")
        added = await self._action("bookmarks.add")
        await self._action("navigation.back")
        bookmark = added.response["bookmarks"]["id"]
        await self._action(f"bookmarks.go.{bookmark}")

    async def _take_stock(self) -> None:
        self._screen.step("List the sessions, and get this one")
        self._screen.asked("sessions.list", {})
        self._screen.sessions(await self._client.list_sessions())
        self._screen.asked("session.get", {"session_id": self._session_id})
        self._screen.record(await self._client.get_session(self._session_id))

    async def _listing(self, method: str, **params: Any) -> Listing:
        shown = {**params, "cursor": "..."} if "cursor" in params else params
        self._screen.asked(method, {"session_id": self._session_id, **shown})
        call = self._client.cd if method == "session.cd" else self._client.ls
        listing = await call(self._session_id, **params)
        self._screen.listing(listing, SHOWN)
        return listing

    async def _action(self, command: str) -> ActionResult:
        self._screen.asked("session.action", {"session_id": self._session_id, "token_id": command})
        result = await self._client.action(command, self._session_id)
        self._screen.answered(json.dumps(result.response, ensure_ascii=False))
        if result.listing is not None:
            self._screen.answered(f"the session now stands in {result.listing.current_set.set_name!r}")
        self._screen.commands(result.commands)
        return result
