"""Reads a playbook, as a process of its own: bounded in memory and time, and never in the way of the server's loop.

Started as `python -I playbook_reader.py SERVER_PID` with one request as JSON on standard input. It answers on standard
output with frames: how many actions, and how many bytes of JSON, as eight hexadecimal digits each, then the JSON. A
frame with actions holds a list of them; one without is the last, and says how it ended. The server reads short texts
itself, by `frames`.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from heroscript import Action, PlayBook
from heroscript.errors import ParseError, PlayError, SourceError, TooLarge
from heroscript.parser import Limits

PR_SET_PDEATHSIG = 1
NICENESS = 5
FRAME_BYTES = 64 * 1024
FRAME_ACTIONS = 250
HEAD = "%08x%08x"
_TOLD = 10_000  # mistakes


class NotFetched(SourceError):
    """What an address names is not on this machine yet."""


def frames(request: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    """Read what is asked for; yield how many actions a frame holds, and the frame."""
    wanted: list[list[Any]] = []
    shown = _Shown(request)
    try:
        actions = _read(request, wanted)
    except ParseError as error:
        mistakes = [[shown.of(one.file), one.line, one.column, one.message, one.text] for one in error.mistakes[:_TOLD]]
        end: dict[str, Any] = {"mistakes": mistakes}
    except PlayError as error:
        end = {"error": type(error).__name__, "message": shown.of(str(error))}
    except MemoryError:
        end = {"error": TooLarge.__name__, "message": "The playbook takes too much memory to be read: split it."}
    else:
        yield from _packed(actions)
        end = {}
    # What is missing comes first: with it, there may be no mistake.
    yield 0, json.dumps({"wanted": wanted} if wanted else end).encode()


class _Shown:
    """Texts without the places on the server's machine that are nobody's to know."""

    def __init__(self, request: dict[str, Any]) -> None:
        folders = [Path(root) for root in (*request["roots"], *(path for *_, path in request["fetched"]))]
        found = {f"{one}/" for folder in folders for one in (folder, folder.resolve())}
        self._folders = sorted(found, key=len, reverse=True)

    def of(self, text: str) -> str:
        """Return a text in which what lies in such a folder is named from there."""
        for folder in self._folders:
            text = text.replace(folder, "")
        return text


def _read(request: dict[str, Any], wanted: list[list[Any]]) -> list[Action]:
    fetched = {(url, pull, reset): path for url, pull, reset, path in request["fetched"]}

    def fetch(url: str, pull: bool, reset: bool) -> Path:
        path = fetched.get((url, pull, reset))
        if path is None:
            if [url, pull, reset] not in wanted:
                wanted.append([url, pull, reset])
            raise NotFetched(f"{url}: not fetched yet")
        return Path(path)

    roots = [Path(root) for root in request["roots"]]
    limits = Limits(request["max_actions"], request["max_bytes"])
    book = PlayBook(roots=roots, fetch=fetch, limits=limits)
    place = None
    if request["path"] is not None:
        given = Path(request["path"])
        places = [given] if given.is_absolute() else [root / given for root in roots]
        place = next(filter(_is_there, places), places[0])
    book.add(
        request["text"] or "",
        path=place,
        prio=request["prio"],
        replace=request["replace"],
        follow=lambda _: True,
        folder=roots[0],
    )
    return book.actions


def _packed(actions: list[Action]) -> Iterator[tuple[int, bytes]]:
    rows: list[tuple[Any, ...]] = []
    size = 0
    for action in actions:
        text = action.heroscript()
        rows.append((action.actor, action.name, text, action.priority, action.file, action.line, action.done))
        size += len(text)
        if size >= FRAME_BYTES or len(rows) >= FRAME_ACTIONS:
            yield len(rows), json.dumps(rows).encode()
            rows, size = [], 0
    if rows:
        yield len(rows), json.dumps(rows).encode()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # no path at all: reading it says so


def main() -> None:
    """Answer one request."""
    import resource

    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(sys.argv[1]):
            return  # the server ended before we could listen for it
    os.nice(NICENESS)
    request = json.load(sys.stdin.buffer)
    resource.setrlimit(resource.RLIMIT_AS, (request["max_memory"],) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (request["max_cpu_s"],) * 2)
    out = sys.stdout.buffer
    for count, frame in frames(request):
        out.write((HEAD % (count, len(frame))).encode() + frame)
    out.flush()


if __name__ == "__main__":
    main()
