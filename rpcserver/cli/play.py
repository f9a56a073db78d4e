"""`rpcserver play`: plays a file, a folder or an address, on the running server or in this process, and shows it.

What lies on this machine is read here, by whoever types the command, with every mistake told before anything runs.
It then goes through the public client like anybody's.
"""

import asyncio
import getpass
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException

from heroscript import Action, ParseError, PlayBook
from heroscript.errors import SourceError, TooLarge
from heroscript.parser import Limits
from rpcserver.app import running
from rpcserver.client import CallError, Client, Disconnected
from rpcserver.settings import RUNNING, Settings
from rpcserver.telemetry import logs
from store import DATABASE, StoreLocked

SHOWN = 200  # characters of a result


class Screen:
    """Standard output for what happens, standard error for what went wrong."""

    def show(self, item: dict[str, Any], place: str) -> None:
        """Show an action that begins or ends."""
        if item["state"] == "running":
            self._line(item, "...", f"({item['handled_by'] or 'nobody'})")
        elif item["state"] == "failed":
            self._line(item, "failed", f"{item['error']['message']} [{place}]")
        else:
            self._line(item, "done", f"{_shown(item['result'])} ({item['ms']} ms)".strip())

    def plan(self, item: dict[str, Any], place: str) -> None:
        """Show who would play an action."""
        self._line(item, "would be played by" if item["handled_by"] else "nobody plays it", item["handled_by"] or place)

    def sum_up(self, result: dict[str, Any], session_name: str, context_name: str) -> None:
        """Say how it ended, and which session holds what is left."""
        text = f"{result['done']} done, {result['failed']} failed, {result['left']} left"
        if session_name:
            where = "" if context_name == "default" else f" --context {context_name}"
            text += f"; go on with: rpcserver play{where} --session {session_name}"
        print(text, flush=True)

    def say(self, text: str) -> None:
        """Show a question."""
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Say what the person should know of besides."""
        print(text, file=sys.stderr, flush=True)

    def fail(self, text: str) -> None:
        """Say what went wrong."""
        print(f"rpcserver: {text}", file=sys.stderr, flush=True)

    def _line(self, item: dict[str, Any], state: str, what: str) -> None:
        print(f"{item['number']:>4}  {item['action']:<28} {state:<7} {what}".rstrip(), flush=True)


class Answers:
    """Asks on the terminal what a play asks; another tab may be quicker."""

    def __init__(self, client: Client, screen: Screen) -> None:
        self._client = client
        self._screen = screen
        self._open: list[dict[str, Any]] = []
        self._is_reading = False
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, ask: dict[str, Any]) -> None:
        """Put a question."""
        if any(ask["ask_id"] == other["ask_id"] for other in self._open):
            return
        self._open.append(ask)
        self._next()

    def resolved(self, ask_id: str) -> None:
        """Take a question as answered, here or elsewhere."""
        if self._open and self._open[0]["ask_id"] == ask_id and self._is_reading:
            self._screen.say("      answered elsewhere")
        self._open = [ask for ask in self._open if ask["ask_id"] != ask_id]

    def _next(self) -> None:
        if not self._open or self._is_reading:
            return
        ask = self._open[0]
        self._screen.say(_question(ask))
        self._is_reading = True
        loop = asyncio.get_running_loop()

        def read() -> None:
            line = _line(bool(ask["secret"]))
            loop.call_soon_threadsafe(self._got, line)

        # A thread that may be left behind: nobody can take back a line that is being typed.
        threading.Thread(target=read, daemon=True).start()

    def _got(self, line: str | None) -> None:
        self._is_reading = False
        if not self._open:
            return  # answered elsewhere meanwhile
        task = asyncio.ensure_future(self._answer(self._open.pop(0), line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, ask: dict[str, Any], line: str | None) -> None:
        try:
            if line is None or (line == "" and ask["default"] is not None):
                await self._client.call("ask.answer", ask_id=ask["ask_id"], decline=True)
            else:
                await self._client.call("ask.answer", ask_id=ask["ask_id"], answer=_typed(line, ask))
        except CallError as error:
            self._screen.say(f"      {error}")
            if error.kind == "BAD_ANSWER":
                self._open.insert(0, ask)
        self._next()


def _question(ask: dict[str, Any]) -> str:
    text = f"      {ask['text']}"
    if ask["choices"] is not None:
        text += f" ({', '.join(str(choice) for choice in ask['choices'])})"
    if ask["default"] is not None:
        text += f" [{ask['default']}]"
    return text


def _line(is_secret: bool) -> str | None:
    """Read a line; None at the end of the input."""
    try:
        if is_secret and sys.stdin.isatty():
            return getpass.getpass("      ")
        line = sys.stdin.readline()
    except (EOFError, OSError, ValueError):
        return None
    return line.rstrip("\r\n") if line else None


def _typed(line: str, ask: dict[str, Any]) -> Any:
    kind = (ask["schema"] or {}).get("type")
    if kind in ("integer", "number", "boolean"):
        said = {"yes": "true", "y": "true", "no": "false", "n": "false"}.get(line.lower(), line.lower())
        try:
            return json.loads(said)
        except ValueError:
            return line
    return line


def _shown(result: Any) -> str:
    if result is None:
        return ""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    text = text.replace("\n", " ")
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


PART_CHARACTERS = 200_000
CALL_TIMEOUT_S = 24 * 3600.0
TOPICS = ("playbook.action", "ask.opened", "ask.resolved", "job.completed", "job.failed", "job.cancelled")
ENDS = TOPICS[3:]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; without a target, what is left in the session."""

    target: str | None
    context_name: str = "default"
    session_name: str | None = None
    user: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    is_dry_run: bool = False
    is_interactive: bool = True


def play(settings: Settings, wish: Wish) -> int:
    """Play and return the exit status: 0 when everything was done, 1 when something failed."""
    screen = Screen()
    try:
        actions = [] if wish.target is None or "://" in wish.target else _read(Path(wish.target))
        return asyncio.run(_play(settings, wish, actions, screen))
    except ParseError as error:
        for mistake in error.mistakes:
            screen.fail(str(mistake))
    except CallError as error:
        screen.fail(str(error))
    except (SourceError, TooLarge, Disconnected, WebSocketException, TimeoutError) as error:
        screen.fail(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        screen.fail("interrupted: the play was cancelled")
    return 1


async def _play(settings: Settings, wish: Wish, actions: list[Action], screen: Screen) -> int:
    async with _client(settings, wish.user, screen) as client:
        if wish.session_name is not None and wish.target is not None:
            # Looked at aside first: what nobody plays must not come to stand in a playbook that goes on.
            status = await _plan(client, replace(wish, is_dry_run=True), actions, screen, is_shown=wish.is_dry_run)
            if status or wish.is_dry_run:
                return status
        if wish.is_dry_run:
            return await _plan(client, wish, actions, screen)
        async with _session(client, wish) as session:
            session.places = await _add(client, session.id, wish, actions)
            try:
                result = await _follow(client, session, screen)
            except CallError as error:
                return _unplayed(error, session, screen)
            session.is_kept = bool(result["failed"] or result["left"])
            rest = await client.get_session(session.id)  # its playbook may have given it another name
            screen.sum_up(result, rest.name if session.is_kept else "", rest.context_name)
            return 1 if result["failed"] else 0


async def _plan(client: Client, wish: Wish, actions: list[Action], screen: Screen, is_shown: bool = True) -> int:
    """Say who would play what, if so wanted; 1 when somebody is missing."""
    async with _session(client, wish) as session:
        session.places = await _add(client, session.id, wish, actions)
        try:
            planned = await client.call("session.play", session_id=session.id, dry_run=True)
        except CallError as error:
            return _unplayed(error, session, screen)
        for item in planned["results"] if is_shown else ():
            screen.plan(item, session.places.get(item["number"], ""))
        return 0 if all(item["handled_by"] for item in planned["results"]) or not is_shown else 1


def _unplayed(error: CallError, session: "_Session", screen: Screen) -> int:
    """Say which actions nobody plays; raise any other error again."""
    if error.kind != "UNKNOWN_ACTION":
        raise error
    for mistake in error.data["mistakes"]:
        screen.fail(f"{session.places.get(mistake['number'], '<text>')}: {mistake['message']}")
    return 1


@dataclass(slots=True)
class _Session:
    """The session that plays: `is_new` when it was made for this, `is_kept` when it stays behind then."""

    id: str
    is_new: bool
    is_kept: bool = False
    places: dict[int, str] = field(default_factory=dict)


@asynccontextmanager
async def _client(settings: Settings, user: str | None, screen: Screen) -> AsyncIterator[Client]:
    """Connect as a user: to the server that has the folder open, or to one that runs inside this process meanwhile."""
    async with AsyncExitStack() as stack:
        logs.configure(logging.WARNING, settings.max_equal_log_lines)  # the rest is no news to who plays
        try:
            own = settings.model_copy(update={"host": "127.0.0.1", "port": 0})
            is_new = not (settings.data / DATABASE).exists()
            app = await stack.enter_async_context(running(own))
            screen.note(f"No server runs on {settings.data}: playing there, in this process.")
            if is_new:
                screen.note(
                    "It is a new data folder, and its first user is 'owner':"
                    " `rpcserver credential create owner` prints a credential for a server on it."
                )
            url, credential = app.server.url, await app.operate("operator.lend", name=user)
            stack.push_async_callback(app.operate, "operator.give_back", credential=credential)
        except StoreLocked:
            note = settings.data / RUNNING
            if not note.exists():
                raise
            reach = json.loads(note.read_text("utf-8"))
            operator = await stack.enter_async_context(Client(reach["url"], reach["operator"]))
            url, credential = reach["url"], await operator.call("operator.lend", name=user)
            stack.push_async_callback(operator.call, "operator.give_back", credential=credential)
        yield await stack.enter_async_context(Client(url, credential, timeout_s=CALL_TIMEOUT_S))


@asynccontextmanager
async def _session(client: Client, wish: Wish) -> AsyncIterator[_Session]:
    """Find the session by its name, or make one; one without a name goes when everything was done.

    A dry run looks at what a named session has left, or at the target in a session of its own, and changes nothing.
    """
    found = None
    is_aside = wish.is_dry_run and wish.target is not None
    if wish.session_name is not None and not is_aside:
        known = await client.list_sessions(context_name=wish.context_name)
        found = next((record for record in known if record.name == wish.session_name), None)
    if found is None and wish.target is None:
        raise SourceError(f"there is no session {wish.session_name!r} in the context {wish.context_name!r}")
    if found is None:
        given: dict[str, Any] = {"context_name": wish.context_name, "interactive": wish.is_interactive}
        name = None if is_aside else wish.session_name
        session_id = await client.create_session(name, params=wish.params, **given)
        session = _Session(session_id, name is None)
    else:
        session = _Session(found.session_id, False)
        params = {**found.params, **wish.params}
        interactive = found.interactive and wish.is_interactive
        if not wish.is_dry_run:
            await client.call("session.update", session_id=session.id, params=params, interactive=interactive)
    try:
        yield session
    finally:
        is_quieted = not (wish.is_interactive or wish.is_dry_run) and (found is None or found.interactive)
        if session.is_new and not session.is_kept:
            await client.destroy_session(session.id)
        elif is_quieted:  # for this time alone: who goes on may be asked
            await client.call("session.update", session_id=session.id, interactive=True)


async def _add(client: Client, session_id: str, wish: Wish, actions: list[Action]) -> dict[int, str]:
    """Add what is to be played, in parts a message can hold, and return where each action was written."""
    if wish.target is not None and "://" in wish.target:
        added = await client.call("session.playbook_add", session_id=session_id, url=wish.target)
        return {item["number"]: f"{item['file']}:{item['line']}" for item in added["actions"]}
    places: dict[int, str] = {}
    for part in _parts(actions):
        text = "\n".join(action.heroscript() for action in part)
        added = await client.call("session.playbook_add", session_id=session_id, text=text)
        first = added["actions"][0]["number"]
        places |= {first + index: f"{action.file}:{action.line}" for index, action in enumerate(part)}
    return places


def _parts(actions: list[Action]) -> Iterator[list[Action]]:
    part: list[Action] = []
    size = 0
    for action in actions:
        part.append(action)
        size += len(action.heroscript())
        if size > PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


async def _follow(client: Client, session: _Session, screen: Screen) -> dict[str, Any]:
    """Play, show every action, ask what is asked, and return the result; who stops us stops the play."""
    notices = await client.subscribe(*TOPICS)
    started = await client.call("session.play", session_id=session.id, detach=True)
    session.is_kept = True  # from here on something may be left to go on with
    job_id = started["job_id"]
    answers = Answers(client, screen)
    try:
        async for event in notices:
            if event.data.get("job_id") != job_id and event.topic != "ask.resolved":
                continue
            if event.topic == "playbook.action":
                screen.show(event.data, session.places.get(event.data["number"], ""))
            elif event.topic == "ask.opened":
                answers.ask(event.data)
            elif event.topic == "ask.resolved":
                answers.resolved(event.data["ask_id"])
            elif event.topic in ENDS:
                break
    except asyncio.CancelledError:
        await asyncio.shield(client.call("job.cancel", job_id=job_id))
        raise
    record = await client.call("job.wait", job_id=job_id)
    if record["state"] != "succeeded":
        raise CallError({"code": 0, "data": {}, **(record["error"] or {"message": f"the play is {record['state']}"})})
    result: dict[str, Any] = record["result"]
    return result


MOST_READ = Limits(actions=1_000_000, bytes=128 * 1024 * 1024)  # more than sessions hold


def _read(path: Path) -> list[Action]:
    """Return the actions of a file or folder, with what they include from this machine; addresses are the server's."""
    book = PlayBook(limits=MOST_READ)
    book.add(path=path, follow=lambda action: not _is_remote(action))
    return [action for action in book if not action.done]


def _is_remote(action: Action) -> bool:
    return action.params.exists("url") or action.params.exists("git_url")
