"""Commands of `rpcserver` as processes of their own, forked off one that has imported it; see `tests.forking`."""

import functools
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tests import forking

# What Python and the loader read before there is anything that could be forked.
_BEFORE = ("PYTHON", "LD_", "XDG_")


@functools.cache
def _parent() -> str:
    """Start the process that forks, which ends with this one, and return the socket at which it is asked."""
    path = str(Path(tempfile.mkdtemp(prefix="forks")) / "socket")
    started = subprocess.Popen(
        [sys.executable, "-P", forking.__file__, "parent", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    _PARENTS.append(started)
    return path


_PARENTS: list[subprocess.Popen[bytes]] = []  # their standard input stays open as long as they are


def can_fork(environment: Mapping[str, str]) -> bool:
    """Tell whether a process with these variables can be forked off one with ours."""
    names = {name for name in {*environment, *os.environ} if name.startswith(_BEFORE)}
    return all(environment.get(name) == os.environ.get(name) for name in names)


def command(environment: Mapping[str, str] = os.environ, *, is_real: bool = False) -> list[str]:
    """Return what stands for `rpcserver` in the arguments of a process with these variables."""
    if is_real or not can_fork(environment):
        return [sys.executable, "-m", "rpcserver"]
    return [sys.executable, "-I", "-S", forking.__file__, "run", _parent()]


def put_in(folder: Path) -> Path:
    """Write a command `rpcserver` that is forked into a folder, which can be put into PATH; return the folder."""
    folder.mkdir(exist_ok=True)
    script = folder / "rpcserver"
    script.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n')
    script.chmod(0o755)
    return folder


class Forked:
    """A command that is under way, as subprocess.Popen has it: its standard output is a pipe, its input is empty."""

    def __init__(self, arguments: list[str], stderr: IO[Any], env: dict[str, str]) -> None:
        inside, outside = os.pipe()
        with open(os.devnull, "rb") as nothing:
            files = [nothing.fileno(), outside, stderr.fileno()]
            self._answers = forking.ask(_parent(), arguments, files, os.getcwd(), env)
        os.close(outside)
        self.stdout = os.fdopen(inside, "rb")
        self._lines = self._answers.makefile()
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once it has ended."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("rpcserver", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self.returncode = int(self._lines.readline())
        self._lines.close()
        self._answers.close()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)
