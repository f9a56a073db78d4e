"""What `rpcserver play` shows, and how it asks: one line an action, questions on the terminal."""

import asyncio
import getpass
import json
import sys
import threading
from typing import Any

from rpcserver.client import CallError, Client

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
