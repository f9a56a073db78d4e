"""Puts what is locked into .venv: `install.py run` what the demo and a server need, `install.py test` the tests' too.

Needs nothing but a Python with its `venv`. An environment is whole when a record in it says what it holds; while
anything is being put in there is no record, so one that was interrupted is made anew, like one whose locks changed.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MINIMUM = (3, 11)

if sys.version_info < MINIMUM:  # an older Python can read this file, but not run what stands below
    sys.exit(
        f"rpcserver needs Python {MINIMUM[0]}.{MINIMUM[1]} or newer, and {sys.executable} is {sys.version.split()[0]}:"
        " install one and name it, as in `make demo PYTHON=python3.12`"
    )

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "requirements"
BASED_ON = {"run": ("run",), "test": ("run", "test")}  # a lock has every pin of those below it
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-compile", "--no-build-isolation")
# Pure Python of which there are no wheels. What else has none would want a compiler, and has no place in a lock.
SOURCES = ("jsonrpcserver", "jsonrpc-base", "jsonrpc-websocket")
LOCKED = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-binary", ",".join(SOURCES), "--requirement")
TOLD_LINES = 15


class Failed(Exception):
    """An environment could not be made; the text says what to do."""


def main(arguments: list[str]) -> int:
    """Install a set (`run` or `test`) into a folder (.venv unless given) and return the exit status."""
    kind, folder = arguments[0], ROOT / (arguments[1] if len(arguments) > 1 else ".venv")
    try:
        Environment(folder).install(kind)
    except Failed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted: the same command begins anew.", file=sys.stderr)
        return 130
    return 0


class Environment:
    """A virtual environment, made of the locked files by the Python that runs this."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self._record = folder / "installed.json"
        self._made_of = [*sys.version_info[:2], str(folder)]  # its commands name their folder

    def install(self, kind: str) -> None:
        """See that the set is there: at once when it is, or on top of what is, or all anew when a lock changed."""
        if self.whole(kind):
            return
        started = time.monotonic()
        held, project = self._held(kind), project_digest()
        self._record.unlink(missing_ok=True)
        if not held:
            self._make()
        if kind not in held:
            self._pip("what it needs", *LOCKED, f"requirements/{kind}.txt")
        self._pip("rpcserver itself", "--no-deps", "--no-index", "--editable", ".")
        locks = {**held, **{name: lock_digest(name) for name in BASED_ON[kind]}}
        aside = self._record.with_suffix(".part")
        aside.write_text(json.dumps({"made_of": self._made_of, "locks": locks, "project": project}, indent=1), "utf-8")
        aside.replace(self._record)
        print(f"{self.folder.name} is ready after {time.monotonic() - started:.0f} s", flush=True)

    def whole(self, kind: str) -> bool:
        """Tell whether all of the set is there, as it is locked now."""
        return kind in self._held(kind) and self._read()["project"] == project_digest()

    def _held(self, kind: str) -> dict[str, str]:
        """Return the digests of the sets that are there; none when the environment is not fit for this one."""
        record = self._read()
        if record["made_of"] != self._made_of:
            return {}
        locks = record["locks"]
        changed = [name for name in BASED_ON[kind] if locks.get(name, "") not in ("", lock_digest(name))]
        return {} if changed else locks

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._record.read_text("utf-8"))
        except (OSError, ValueError):
            return {"made_of": None, "locks": {}, "project": None}  # none was made here, or not to its end

    def _make(self) -> None:
        """Make an empty environment, with what sources are built with."""
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if find_spec("venv") is None or find_spec("ensurepip") is None:
            raise Failed(
                f"{sys.executable} cannot make environments: install its module `venv` (on Debian and Ubuntu"
                f" the package python{version}-venv), then run the same again."
            )
        print(f"Python {version} makes {self.folder.name}", flush=True)
        base = getattr(sys, "_base_executable", sys.executable)  # not the one inside, which is about to go
        run([base, "-m", "venv", "--clear", str(self.folder)], "an empty environment")
        self._pip("what sources are built with", *LOCKED, "requirements/build.txt")

    def _pip(self, what: str, *arguments: str) -> None:
        run([str(self.python), *PIP, *arguments], what)


def run(command: list[str], what: str) -> None:
    """Run a command, showing how far it is. Raises Failed with its last lines and what to do."""
    terminal = sys.stdout.isatty()
    print(f"  {what} ...", end="" if terminal else "\n", flush=True)
    lines: list[str] = []
    packages = 0
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            found = re.match(r"Collecting (\S+)", line)
            packages += found is not None
            if terminal and found:
                print(f"\r\033[K  {what} ... {packages} {found[1]}", end="", flush=True)
            elif "Retrying" in line:
                print("\n  no answer, trying again ...", end="" if terminal else "\n", flush=True)
    if process.returncode != 0:
        told = [line for line in lines if "Retrying" not in line][-TOLD_LINES:]
        raise Failed("\n".join([*told, "", remedy("\n".join(lines), what)]))
    if terminal:
        print(f"\r\033[K  {what}" + (f": {packages} packages" if packages else ""), flush=True)


def remedy(output: str, what: str) -> str:
    """Return what to do about a command that failed, from what it printed."""
    if "DO NOT MATCH THE HASHES" in output:
        return f"What came is not what was locked, so {what} was not installed: ask who serves the packages here."
    if "No space left" in output:
        return "The disk is full: make room, then run the same again."
    if "No matching distribution" in output and "from versions: none" not in output:
        return (
            f"For {what} the index has no such version that fits Python {sys.version.split()[0]} on this machine:"
            " take another Python (make ... PYTHON=python3.12), or see whether the index is complete."
        )
    return (
        f"Installing {what} failed. Packages come from the index that pip is set up with (see `pip config list` and"
        " HTTPS_PROXY): look whether it can be reached, then run the same again."
    )


def lock_digest(name: str) -> str:
    """Return what tells a lock, and that of what its sources are built with, from every other version of them."""
    return hashlib.sha256(b"\0".join((LOCKS / f"{lock}.txt").read_bytes() for lock in ("build", name))).hexdigest()


def project_digest() -> str:
    """Return what tells pyproject.toml from every other version of it."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def pins(lock: str, *, everywhere: bool = False) -> dict[str, str]:
    """Return the version of each package that a lock names, or only of those that are for every machine."""
    found = re.findall(r"^([\w.-]+)==(\S+)( ;)?", (LOCKS / f"{lock}.txt").read_text("utf-8"), re.MULTILINE)
    return {name: version for name, version, marker in found if not (everywhere and marker)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
