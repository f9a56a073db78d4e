"""Calls every command of the command line with the awkward in one argument or option; prints a JSON list of faults.

A program of its own: the commands set up logs and the umask of their process.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

import rpcserver.cli.serve
from rpcserver.cli.main import app

ENDLESS = {("demo",)}  # `serve` is not begun either, but its settings are read
GOOD = {"name": "anna", "user": "anna", "method": "server.ping", "language": "ts", "approver": "bob", "state": "on"}


def commands(command: Any, *path: str) -> list[tuple[tuple[str, ...], Any]]:
    """Return every command with the words that name it."""
    if hasattr(command, "commands"):
        return [found for name, inner in command.commands.items() for found in commands(inner, *path, name)]
    return [(path, command)]


def words(command: Any, param: Any, given: str, folder: Path) -> list[str]:
    """Return the arguments of a call with `given` in one of them."""
    said = []
    for one in command.params:
        if one.param_type_name == "argument":
            good = GOOD.get(one.name, str(folder / "nothing"))
            said.append(given if one is param else good) if one.required or one is param else None
        elif one is param:
            said += [one.opts[0]] if getattr(one, "is_flag", False) else [one.opts[0], given]
    has_data = any("--data" in one.opts for one in command.params) and "--data" not in said
    return [*said, *(["--data", str(folder / "data")] if has_data else [])]


def main(texts: list[str], folder: Path, every: int) -> list[str]:
    """Make the calls with each `every`th text, another one first for each param, and return the faults."""
    os.chdir(folder)
    rpcserver.cli.serve.serve = lambda settings: None  # type: ignore[assignment]
    faults, runner = [], CliRunner()
    for number, (path, command) in enumerate(commands(get_command(app))):
        if path in ENDLESS:
            continue
        for turn, param in enumerate(command.params, number):
            for given in texts[turn % every :: every]:
                arguments = [*path, *words(command, param, given, folder)]
                done = runner.invoke(app, arguments)
                is_ended = done.exception is None or isinstance(done.exception, SystemExit)
                if not is_ended or done.exit_code not in (0, 1, 2) or "Traceback" in done.output:
                    faults.append(f"{arguments}: {done.exit_code} {done.exception!r}"[:400])
                elif done.exit_code and not done.output.strip():
                    faults.append(f"{arguments}: ends with {done.exit_code} and says nothing"[:400])
    return faults


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
