"""Commands that jobs run as processes: an argument list, never a shell; ended as a group, and with the server.

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
_LEASH = str(Path(__file__).with_name("leash.py"))


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: exit status (128 + N for signal N), and the last of what it wrote."""

    status: int
    output: str


async def run(
    arguments: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None, on_line: Callable[[str], None]
) -> Finished:
    """Run a command to its end; cancelled, end it and everything it started (SIGTERM, five seconds, SIGKILL).

    Args:
        env: the whole environment; None: only PATH, HOME and the language of the server's.
        on_line: called with every line of output, standard error included.
    """
    if sys.platform != "linux":
        raise JobError("Commands run only on Linux, where they are sure to end with the server.")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", _LEASH, *arguments),
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
    _kill_group(process)  # what the command left behind
    return Finished(status, output)


async def _read(process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> str:
    assert process.stdout is not None  # asked for above
    kept = bytearray()
    while chunk := await process.stdout.read(65536):
        kept += chunk
        for line in chunk.decode("utf-8", "replace").splitlines():
            on_line(line)
        del kept[:-MAX_OUTPUT_BYTES]
    return kept.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    waiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({waiting}, timeout=TERM_GRACE_S)
    finally:
        _kill_group(process)
        await waiting


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
