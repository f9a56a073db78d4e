"""`rpcserver demo --world NAME`: make one of the example worlds, start a server and walk a visitor through it.

As with the plain demo everything stands in a temporary folder, and the calls go over a real socket.
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

from rpcserver.client import CallError, Client, Disconnected
from rpcserver.demo import DemoError, command, served
from rpcserver.demo_screen import Screen
from rpcserver.extras import MissingExtra, check_world

KEEPER, VISITOR = "keeper", "visitor"
_ROOM = Path(__file__).parent


def worlds() -> dict[str, Path]:
    """Return the example worlds by name: inside the installed package, or beside the rooms in a checkout."""
    for folder in (_ROOM / "worlds", _ROOM.parent / "examples" / "worlds"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.json"))}
    return {}


def run(name: str) -> int:
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
            keeper, visitor, sets = _prepare(screen, data, found)
            with open(data / "server.log", "w+b") as log:
                asyncio.run(_walk(screen, data, log, (keeper, visitor), sets, WALKS[name]))
    except (DemoError, CallError, Disconnected, OSError) as error:
        screen.failed(str(error) or "the server did not answer in time.")
        return 1
    screen.say("\nThe server was stopped and its folder removed. The world file: " + str(found))
    return 0


def _prepare(screen: Screen, data: Path, world: Path) -> tuple[str, str, dict[str, str]]:
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
