"""`rpcserver demo`: what a stranger types first."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rpcserver.cli import demo
from tests.conftest import run_cli

METHODS = ("create", "ls", "cd", "action", "list", "get", "destroy")


def test_demo_shows_every_method_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The demo drives the seven methods over a socket, shows notices, ends with 0 and removes its folder."""
    settings = {"RPCSERVER_PORT": "not a port", "RPCSERVER_DATA": str(tmp_path / "mine")}
    done = run_cli("demo", env={**os.environ, **settings, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    for method in METHODS:
        assert f"-> session.{method} " in done.stdout or f"-> sessions.{method} " in done.stdout
    for notice in ("session.entered", "job.completed", "session.destroyed"):
        assert f"! {notice}" in done.stdout
    assert "Try next" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_demo_says_when_a_command_fails(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A command that fails is named, and the exit status is 1."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert demo.run() == 1
    assert "user add" in capfd.readouterr().err


def test_demo_says_when_the_server_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that does not come up is told with the end of its log; the folder is removed all the same."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *" serve "*) echo no port left >&2; exit 3;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert demo.run() == 1
    error = capfd.readouterr().err
    assert "did not start" in error and "no port left" in error
    assert list(tmp_path.iterdir()) == [python]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_demo_that_is_stopped_stops_its_server(tmp_path: Path, number: int) -> None:
    """A demo ended half-way takes its server and its folder with it."""
    # A pipe this small makes the demo wait for its reader, so that it cannot be over before the signal comes.
    started = subprocess.Popen(
        [sys.executable, "-u", "-m", "rpcserver", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pipesize=4096,
        bufsize=0,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert started.stdout is not None
    ready = next(match for line in started.stdout if (match := re.search(rb"ready at ws://127.0.0.1:(\d+)/", line)))
    started.send_signal(number)
    _, error = started.communicate(timeout=30)
    assert started.returncode == 1 and b"interrupted" in error
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(ready[1])), timeout=5).close()
