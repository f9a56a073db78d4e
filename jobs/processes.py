"""Commands that jobs run as processes: an argument list, never a shell; ended, with all they started, with the server.

Source: jobs.md 6.1 rules 4 and 5.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import JobError

TERM_GRACE_S = 5.0
MAX_OUTPUT_BYTES = 256 * 1024
MAX_LINE_BYTES = 64 * 1024
_GROUP = str(Path(__file__).with_name("process_group.py"))


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: exit status (128 + N for signal N), and the last of what it wrote."""

    status: int
    output: str


async def run(
    arguments: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None, on_line: Callable[[str], None]
) -> Finished:
    """Run a command to its end, and kill what it leaves behind.

    Cancelled, end it and everything it started: SIGTERM, five seconds, SIGKILL.

    Args:
        env: the whole environment; None: only PATH, HOME and the language of the server's.
        on_line: called with every line of output, standard error included.
    """
    if sys.platform != "linux":
        raise JobError("Commands run only on Linux, where they are sure to end with the server.")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", _GROUP, str(os.getpid()), *arguments),
        cwd=cwd,
        env=dict(env) if env is not None else _plain_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=MAX_OUTPUT_BYTES,
    )
    try:
        output = await _read(process, on_line)
        status = await process.wait()
    except BaseException:
        await _end(process)
        raise
    return Finished(status if status >= 0 else 128 - status, output)


async def _read(process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> str:
    assert process.stdout is not None  # asked for above
    kept = bytearray()
    rest = b""
    while chunk := await process.stdout.read(MAX_LINE_BYTES):
        kept += chunk
        del kept[:-MAX_OUTPUT_BYTES]
        *lines, rest = [*(rest + chunk).splitlines(keepends=True), b""]
        if lines and not lines[-1].endswith(b"\n") and len(lines[-1]) < MAX_LINE_BYTES:
            rest = lines.pop()  # it goes on in the next chunk
        for line in lines:
            on_line(_text(line))
    if rest:
        on_line(_text(rest))
    return kept.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    _signal(process, signal.SIGTERM)
    waiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({waiting}, timeout=TERM_GRACE_S)
    finally:
        if not waiting.done():
            _signal(process, signal.SIGUSR1)
        await waiting


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "replace")


def _plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
