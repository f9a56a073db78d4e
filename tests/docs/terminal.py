"""Runs a page of the documentation as its reader would: block after block, in one terminal, on a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.toolchain import load_script

CHECKOUT = Path(__file__).parent.parent.parent
INSTALL = load_script(CHECKOUT / "requirements" / "install.py")
TIMEOUT_S = 200
NOT_THE_READERS = ("RPCSERVER_", "PYTEST", "MAKE", "MFLAGS")
_BLOCK = re.compile(r"^```(\w*)(?: +([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else stands on its first line, and its text."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks, in order."""
    return [Block(match[1], match[2] or "", match[3]) for match in _BLOCK.finditer(page.read_text("utf-8"))]


class Terminal:
    """A shell whose working folder and variables carry over from block to block, and a server beside it.

    Args:
        home: what stands for the reader's home folder; all data goes below it.
        commands: a folder of commands that come before those of this environment.
        variables: further environment variables, the only thing adapted.
    """

    def __init__(self, home: Path, cwd: Path, commands: Path | None = None, **variables: str) -> None:
        self._home = home
        self._cwd = cwd
        self._server: subprocess.Popen[str] | None = None
        own = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THE_READERS)}
        folders = *([commands] if commands else []), Path(sys.executable).parent, os.environ["PATH"]
        path = os.pathsep.join(map(str, folders))
        self._variables = {**own, "HOME": str(home), "PATH": path, "RPCSERVER_PORT": "0", **variables}
        self._variables.setdefault("RPCSERVER_DATA", str(home / "data"))

    def run_page(self, page: Path) -> None:
        """Run the `sh` blocks, write the files that blocks are titled with, and look for what `text` blocks promise."""
        output = ""
        for block in blocks(page):
            if block.title.startswith("title="):
                (self._cwd / block.title.removeprefix("title=")).write_text(block.text, "utf-8")
            elif block.language == "sh":
                output = self.run(block.text)
            elif block.language == "text":
                for line in block.text.splitlines():
                    assert line.strip() in output, f"{page.name} promises {line!r}, the command printed {output}"

    def run(self, script: str) -> str:
        """Run a block and return what it printed; one that starts a server returns when the server is ready."""
        if script.startswith("rpcserver serve"):
            return self._serve(script)
        if script.startswith("make "):
            # Make would mend what is not as locked, and with it the environment that runs this.
            assert INSTALL.Environment(CHECKOUT / ".venv").whole("test"), "run `python3 requirements/install.py test`"
        after = self._home / "after"
        done = subprocess.run(
            ["bash", "-euc", f'{script}\nenv -0 > "{after}"; pwd > "{after}.pwd"'],
            cwd=self._cwd,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        self._variables = dict(line.split("=", 1) for line in after.read_text().split("\0") if line)
        self._cwd = Path((after.parent / "after.pwd").read_text().strip())
        return done.stdout

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            self._server.communicate(timeout=30)
            self._server = None

    def _serve(self, command: str) -> str:
        self.close()
        with open(self._home / "server.log", "w+", encoding="utf-8") as log:
            self._server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._cwd,
                env=self._variables,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            assert self._server.stdout is not None
            line = self._server.stdout.readline()
            assert line, (self._home / "server.log").read_text()
        self._variables["RPCSERVER_URL"] = json.loads(line)["url"]
        return line
