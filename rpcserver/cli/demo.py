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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rpcserver.client import CallError, Client, Disconnected, Event, Subscription
from rpcserver.extras import MissingExtra, check_world
from rpcserver.schemas.session import ActionResult, ListedCommand, ListedToken, Listing, SessionRecord

MAX_PREVIEW = 34
MAX_NAME = 26
QUIET = ("session_id", "set_id", "token_id")  # shown short: nobody reads an id to its end


class Screen:
    """Standard output, for a person."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._step = 0

    def say(self, text: str) -> None:
        """Print a line; text may hold rich markup."""
        self._console.print(text)

    def step(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        self._console.print()
        self._console.rule(f"[bold]{self._step}. {escape(text)}", align="left", style="dim")

    def asked(self, method: str, params: dict[str, Any]) -> None:
        """Show a call."""
        shown = {name: short(value) if name in QUIET else value for name, value in params.items()}
        self._console.print(f"[cyan]-> {method}[/] {escape(json.dumps(shown, ensure_ascii=False))}")

    def answered(self, text: str) -> None:
        """Show an answer that needs no table."""
        self._console.print(f"[green]<- [/]{escape(text)}")

    def heard(self, event: Event) -> None:
        """Show a pushed notice."""
        names = ("function", "change", "set_id", "session_id")
        facts = " ".join(str(short(event.data[name])) for name in names if event.data.get(name))
        self._console.print(f"   [magenta]! {event.topic}[/] [dim]{escape(facts)}[/]")

    def failed(self, message: str) -> None:
        """Say what went wrong, on standard error."""
        Console(stderr=True, highlight=False).print(f"[red]rpcserver demo:[/] {escape(message)}")

    def listing(self, listing: Listing, limit: int) -> None:
        """Show where the session stands, what stands there and what can be done."""
        place = listing.current_set
        above = f", below {place.parent.set_name}" if place.parent else ""
        self.answered(f"in {place.set_name!r}{above}, by {place.set_author.name}")
        if listing.contents is not None:
            self._console.print(_tokens(listing.contents.tokens[:limit]))
            if listing.contents.next_cursor:
                self.say("   [dim]and more: the answer holds the call for the next page[/]")
        self.commands(listing.commands)

    def commands(self, commands: list[ListedCommand] | None) -> None:
        """Show a command pallet; None: as it was."""
        if commands is not None:
            # A guest's command is known by its id; one that is a token by its name.
            shown = [one.name if one.source.startswith("set_") else one.id for one in commands]
            offered = ", ".join(f"[yellow]{escape(name)}[/]" for name in shown)
            self.say(f"   commands: {offered}")

    def token(self, token: ListedToken) -> None:
        """Show one token with the beginning of its file."""
        self.answered(f"{token.name}, {token.type}, {token.attributes.get('media_type', '?')}")
        for line in str(token.attributes.get("preview", "")).splitlines()[:6]:
            self.say(f"   [dim]{escape(line)}[/]")

    def sessions(self, records: list[SessionRecord]) -> None:
        """Show sessions."""
        table = _table("name", "state", "context", "history", "revision")
        for record in records:
            depth, revision = str(record.history_depth), str(record.revision)
            table.add_row(escape(record.name), record.state, record.context_name, depth, revision)
        self._console.print(table)

    def record(self, record: SessionRecord) -> None:
        """Show one session's record."""
        table = _table("of the session", "is")
        for name in ("name", "state", "working_set", "command_pallet", "session_data", "history_depth", "revision"):
            table.add_row(name, escape(str(getattr(record, name))))
        self._console.print(table)


def short(value: Any) -> Any:
    """Return an id by its end, which tells it from its neighbours."""
    is_id = isinstance(value, str) and len(value) > 16 and value.split("_")[0] in ("s", "set", "t", "j")
    return f"{value.split('_')[0]}_..{value[-5:]}" if is_id else value


def _tokens(tokens: list[ListedToken]) -> Table:
    table = _table("name", "type", "size", "begins with")
    for token in tokens:
        size = token.attributes.get("size")
        preview = _first_words(str(token.attributes.get("preview", "")))
        name = token.name if len(token.name) <= MAX_NAME else token.name[: MAX_NAME - 2] + ".."
        table.add_row(escape(name), token.type, "" if size is None else f"{size:,}", f"[dim]{escape(preview)}[/]")
    return table


def _first_words(preview: str) -> str:
    lines = (line.lstrip("rR\"'#! \t") for line in preview.splitlines())
    return next((line for line in lines if line), "")[:MAX_PREVIEW]


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, no_wrap=True, justify="right" if column == "size" else "left")
    return table


KEEPER, VISITOR = "keeper", "visitor"
_ROOM = Path(__file__).parent.parent


def worlds() -> dict[str, Path]:
    """Return the example worlds by name: inside the installed package, or beside the rooms in a checkout."""
    for folder in (_ROOM / "worlds", _ROOM.parent / "examples" / "worlds"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.json"))}
    return {}


def run_world(name: str) -> int:
    """Walk through a world and return the exit status: 0, or 1 with what went wrong on standard error."""
    screen = Screen()
    found = worlds().get(name)
    if found is None or name not in WALKS:
        screen.failed(f"there is no world {name!r}: choose one of {', '.join(sorted(WALKS))}.")
        return 1
    world = json.loads(found.read_text("utf-8"))
    try:
        check_world(world, f"the world {name!r}")
    except MissingExtra as error:
        screen.failed(f"{error}.")
        return 1
    screen.say(f"[bold]rpcserver demo --world {name}[/]: {world['description']}")
    try:
        with tempfile.TemporaryDirectory(prefix="rpcserver-demo-") as folder:
            data = Path(folder) / "data"
            keeper, visitor, sets = _prepare_world(screen, data, found)
            with open(data / "server.log", "w+b") as log:
                asyncio.run(_walk(screen, data, log, (keeper, visitor), sets, WALKS[name]))
    except (DemoError, CallError, Disconnected, OSError) as error:
        screen.failed(str(error) or "the server did not answer in time.")
        return 1
    screen.say("\nThe server was stopped and its folder removed. The world file: " + str(found))
    return 0


def _prepare_world(screen: Screen, data: Path, world: Path) -> tuple[str, str, dict[str, str]]:
    screen.step("Two users, and a world of a file")
    flags = ("--data", str(data))
    keeper = command(screen, "user", "add", KEEPER, *flags).strip()
    visitor = command(screen, "user", "add", VISITOR, *flags).strip()
    made = json.loads(command(screen, "import", str(world), "--format", "json", "--user", KEEPER, *flags))
    screen.answered(f"{made['name']}: sets {', '.join(made['sets'])}")
    return keeper, visitor, made["sets"]


class Visit:
    """A visitor, and the keeper of the world, each with a connection; what they do is shown."""

    def __init__(self, screen: Screen, visitor: Client, keeper: Client, sets: dict[str, str]) -> None:
        self.screen = screen
        self.visitor = visitor
        self.keeper = keeper
        self.sets = sets
        self._commands: dict[str, str] = {}

    async def go(self, **where: Any) -> None:
        """Walk, and show the place and its commands; a refusal is part of the show."""
        self.screen.asked("session.cd", where)
        try:
            listing = await self.visitor.cd(**where)
        except CallError as error:
            self.screen.answered(f"{error.kind}: {error.message}")
            return
        self.screen.listing(listing, 8)
        self._commands = {one.name: one.id for one in listing.commands or []}

    async def press(self, name: str, value: Any = None) -> None:
        """Run a command of the place by its name."""
        token_id = self._commands.get(name)
        if token_id is None:
            raise DemoError(f"there is no command {name!r} here.")
        self.screen.asked("session.action", {"token_id": name, "value": value})
        result = await self.visitor.action(token_id, value=value)
        self.screen.answered(json.dumps(result.response, ensure_ascii=False))

    async def answer(self, text: str) -> None:
        """Have the keeper answer what he is asked."""
        for ask in (await self.keeper.call("asks.list"))["items"]:
            self.screen.answered(f"the keeper is asked: {ask['text']}")
            self.screen.asked("ask.answer", {"answer": text})
            await self.keeper.call("ask.answer", ask_id=ask["ask_id"], answer=text)
            await self.visitor.call("job.wait", job_id=ask["job_id"])


Walk = Callable[[Visit], Awaitable[None]]


async def _museum(visit: Visit) -> None:
    visit.screen.step("The hall, and a vault that says what it wants first")
    await visit.go(set_id=visit.sets["hall"])
    await visit.press("About the museum")
    await visit.go(path="Vault")
    visit.screen.step("The gallery, and the vault again")
    await visit.go(path="Gallery")
    await visit.go(path="../Vault")
    await visit.go(set_id=visit.sets["office"])


async def _shop(visit: Visit) -> None:
    visit.screen.step("A basket is given at the door")
    await visit.go(set_id=visit.sets["shop"])
    await visit.press("Price list")
    await visit.press("Put into basket", "Sencha")
    visit.screen.step("Out it is gone, back it is as it was")
    await visit.go(to="up")
    await visit.go(to="back")
    await visit.press("Look into basket")
    await visit.press("Pay")


async def _help_desk(visit: Visit) -> None:
    visit.screen.step("A question to a person")
    await visit.go(set_id=visit.sets["desk"])
    await visit.press("Ask the clerk", "Where is the lift?")
    visit.screen.step("The person answers; the visitor finds the answer where he asked")
    await visit.answer("Second door on the left.")
    await visit.press("Ask the clerk")


WALKS: dict[str, Walk] = {"help-desk": _help_desk, "museum": _museum, "shop": _shop}


async def _walk(
    screen: Screen, data: Path, log: IO[bytes], credentials: tuple[str, str], sets: dict[str, str], walk: Walk
) -> None:
    async with served(data, log) as url:
        keeper, visitor = (Client(url, credential, timeout_s=30) for credential in credentials)
        async with keeper, visitor:
            await walk(Visit(screen, visitor, keeper, sets))


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
