"""Where a session's playbook comes from: a text, the operator's folders, or the network; and where checkouts lie.

Whatever is not short is read by a process of its own (`rpcserver.playbooks.reader`). What it includes from the network
is fetched between two readings: nobody holds a place while another host is waited for.
Source: seeds.md P9, P10, P12; heroscript.md 6.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from heroscript import errors
from heroscript.errors import Mistake, ParseError, PlayError, TooLarge
from jobs.engine import JobRunner
from jobs.model import Request
from rpcserver.errors import CoderootRefused
from rpcserver.playbooks import reader
from rpcserver.schemas.playbook import PRIO
from rpcserver.settings import Settings
from store import Places

CODE = "code"
FETCH = "git.fetch"
SHORT = 4096  # characters that are read in a millisecond or two, whatever they say
HEAD_BYTES = 16
MAX_ROUNDS = 25  # of fetching what was included by what was fetched: includes go 20 deep


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be added: one of text, path and url, and how.

    Args:
        prio: stored with every action; it orders nothing.
        branch, pull, reset: of a git repository.
    """

    text: str | None = None
    path: str | None = None
    url: str | None = None
    prio: int = PRIO
    branch: str | None = None
    pull: bool = False
    reset: bool = False
    replace: Mapping[str, str] | None = None


class Written(NamedTuple):
    """An action as it is to be stored; `text` is heroscript."""

    actor: str
    name: str
    text: str
    priority: int
    file: str
    line: int
    is_done: bool


@dataclass(slots=True)
class Actions:
    """The actions that were read, packed as they came: a large playbook is unpacked some at a time.

    Args:
        count: how many there are. size: the bytes of their texts, and a little more.
    """

    count: int = 0
    size: int = 0
    _frames: list[bytes] = field(default_factory=list)

    def take(self, count: int, frame: bytes) -> None:
        """Add some."""
        self.count += count
        self.size += len(frame)
        self._frames.append(frame)

    def pieces(self) -> Iterator[list[Written]]:
        """Yield them in order, a few hundred at a time."""
        for frame in self._frames:
            yield [Written(*row) for row in orjson.loads(frame)]


class Sources:
    """Reads playbooks for users.

    Args:
        settings: the folders the operator allowed, and how large a playbook may be.
        runner: what is on the network is fetched by a job.
        places: how many processes may read at once.
    """

    def __init__(self, settings: Settings, runner: JobRunner, places: Places) -> None:
        self._settings = settings
        self._runner = runner
        self._places = places

    async def read(self, source: Source, request: Request, coderoot: Path) -> Actions:
        """Return the actions of a source, its includes followed; nothing is stored.

        Raises ParseError, with every mistake of all its files, SourceError, or TooLarge.
        """
        path = source.path
        if source.url is not None:
            path = await self._fetch(request, coderoot, source.url, source.pull, source.reset, source.branch)
        if source.text is not None and _is_short(source):
            return await _taken(_at_once(self._asked(source, None, coderoot, [])))
        fetched: list[tuple[str, bool, bool, str]] = []
        for _ in range(MAX_ROUNDS):
            asked = self._asked(source, path, coderoot, fetched)
            async with self._places.place(), asyncio.timeout(self._settings.max_playbook_read_s) as limit:
                try:
                    return await _taken(_read_outside(asked))
                except _Wanted as missing:
                    wanted = missing.wanted
                except TimeoutError:
                    if not limit.expired():
                        raise
                    raise TooLarge("The playbook takes too long to be read: split it.") from None
            for url, pull, reset in wanted:
                fetched.append((url, pull, reset, await self._fetch(request, coderoot, url, pull, reset, None)))
        raise TooLarge("The playbook includes from other hosts what includes from other hosts, too often.")

    async def _fetch(
        self, request: Request, coderoot: Path, url: str, pull: bool, reset: bool, branch: str | None
    ) -> str:
        data = {"url": url, "coderoot": str(coderoot), "branch": branch, "pull": pull, "reset": reset}
        return str(await self._runner.run(FETCH, data, request))

    def _asked(
        self, source: Source, path: str | None, coderoot: Path, fetched: list[tuple[str, bool, bool, str]]
    ) -> dict[str, Any]:
        settings = self._settings
        return {
            "text": source.text,
            "path": path,
            "prio": source.prio,
            "replace": dict(source.replace or {}),
            "roots": [str(root) for root in (*settings.playbook_roots, coderoot)],
            "fetched": fetched,
            "max_actions": settings.max_playbook_actions,
            "max_bytes": settings.max_playbook_bytes,
            "max_memory": settings.playbook_memory_bytes,
            "max_cpu_s": max(1, round(settings.max_playbook_read_s)),
        }


class _Wanted(Exception):
    """The playbook includes what is not on this machine yet."""

    def __init__(self, wanted: list[tuple[str, bool, bool]]) -> None:
        self.wanted = wanted


def _is_short(source: Source) -> bool:
    # Neither a file, which may be long, nor words that make it so.
    text = source.text or ""
    return len(text) <= SHORT and not source.replace and "include" not in text.lower()


async def _at_once(asked: dict[str, Any]) -> AsyncGenerator[tuple[int, bytes], None]:
    for frame in reader.frames(asked):
        yield frame


async def _read_outside(asked: dict[str, Any]) -> AsyncGenerator[tuple[int, bytes], None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", reader.__file__, str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: its status says more
            process.stdin.write(orjson.dumps(asked))
            await process.stdin.drain()
            process.stdin.close()
        while head := await process.stdout.read(HEAD_BYTES):
            head += await process.stdout.readexactly(HEAD_BYTES - len(head))
            count = int(head[:8], 16)
            yield count, await process.stdout.readexactly(int(head[8:], 16))
        status = await process.wait()
        if status:
            raise _failure(status, await process.stderr.read(2000))
    except asyncio.IncompleteReadError:
        raise _failure(await process.wait(), b"") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _failure(status: int, said: bytes) -> Exception:
    if status in (-signal.SIGXCPU, -signal.SIGKILL) or b"MemoryError" in said:
        return TooLarge("The playbook takes too much time or memory to be read: split it.")
    return RuntimeError(f"the reader of playbooks ended with {status}: {said.decode('utf-8', 'replace')}")


async def _taken(frames: AsyncGenerator[tuple[int, bytes], None]) -> Actions:
    """Return the actions of an answer. Raises what it says went wrong."""
    found, end = Actions(), None
    async with aclosing(frames):
        async for count, frame in frames:
            if not count:
                end = orjson.loads(frame)
                break
            found.take(count, frame)
    if end is None:
        raise RuntimeError("the reader of playbooks did not come to an end")
    if "wanted" in end:
        raise _Wanted([tuple(one) for one in end["wanted"]])
    if "mistakes" in end:
        raise ParseError(Mistake(*one) for one in end["mistakes"])
    if "error" in end:
        raise _told(end["error"], end["message"])
    return found


def _told(name: str, message: str) -> PlayError:
    kind = getattr(errors, name, PlayError)
    # Not every one is made of a message alone.
    error: PlayError = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


def code_folder(settings: Settings, user_id: str, context_name: str, coderoot: str | None) -> Path:
    """Return the folder a user's checkouts lie in.

    Args:
        coderoot: None: one of the context's own in the data folder; a relative path lies in the user's folder there,
            an absolute one inside a folder the operator allowed.

    Raises RpcError for a path that leaves these.
    """
    own = (settings.data / CODE / user_id).resolve()
    if not coderoot:
        return own / context_name
    try:
        folder = (own / coderoot).resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, or what is no path
        folder = Path("/")
    allowed = [own, *(root.resolve() for root in settings.code_roots)]
    if any(folder.is_relative_to(root) for root in allowed) and folder != own:
        return folder
    message = "A coderoot is a relative path, or lies inside a folder the operator allowed (setting code_roots)."
    raise CoderootRefused(message)
