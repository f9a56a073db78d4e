"""The command line contract that other tools rely on."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import write_guest
from tests.conftest import Process, run_cli

Serve = Callable[..., Process]


def refused(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Run a command that must fail with status 1, one clear message and no traceback, and return the message."""
    ran = run_cli(*arguments, **({"env": {**os.environ, **env}} if env else {}))
    assert ran.returncode == 1, ran.stderr
    assert ran.stdout == "" and "Traceback" not in ran.stderr
    return ran.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_when_it_is_ready_and_ends_cleanly(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    """One JSON line on standard output, logs on standard error, status 0 on SIGTERM and SIGINT."""
    process = serve()
    assert process.ready.keys() == {"event", "url", "pid"}
    assert process.ready["event"] == "ready" and process.ready["pid"] == process.process.pid
    assert process.ready["url"].startswith("ws://127.0.0.1:")
    assert (tmp_path / "data" / "running.json").stat().st_mode & 0o077 == 0
    assert process.process.stdout is not None
    process.process.send_signal(number)
    assert process.process.stdout.read() == b""
    assert process.stop(number) == 0
    assert not (tmp_path / "data" / "running.json").exists()


def test_the_first_serve_shows_a_credential_to_a_person(tmp_path: Path) -> None:
    """On a terminal the command it prints works as it stands."""
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "rpcserver", "serve", "--port", "0", "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal) as process:
        assert process.stdout is not None and process.stdout.readline()
        shown = os.read(person, 10_000).decode()
        line = next(line.strip() for line in shown.splitlines() if line.strip().startswith("rpcserver call"))
        ran = run_cli(*line.split()[1:])
        process.terminate()
    os.close(terminal)
    os.close(person)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["current_set"]["set_author"]["name"] == "owner"


def test_the_first_serve_puts_no_credential_into_a_log(serve: Serve, tmp_path: Path) -> None:
    """Elsewhere the log names the command that prints one, which works; a second serve makes no other owner."""
    process = serve()
    log = (tmp_path / "server.log").read_text()
    advice = json.loads(log)["advice"].split("`")[1]
    assert "rpc_" not in log
    credential = run_cli(*advice.split()[1:]).stdout.strip()
    ran = run_cli("call", "auth.whoami", "--url", process.url, "--credential", credential)
    assert json.loads(ran.stdout)["name"] == "owner"
    process.stop()
    (tmp_path / "server.log").unlink()
    process.start()
    assert "first_user" not in (tmp_path / "server.log").read_text()


def test_user_add_alone_makes_no_owner(serve: Serve, tmp_path: Path) -> None:
    """`user add` prints the credential alone on one line; the serve after it finds a user and makes none."""
    data = tmp_path / "data"
    added = run_cli("user", "add", "anna", "--data", str(data))
    assert added.returncode == 0 and added.stdout == added.stdout.split()[0] + "\n"
    process = serve(data)
    assert "owner" not in (tmp_path / "server.log").read_text()
    ran = run_cli("call", "auth.whoami", "--url", process.url, "--credential", added.stdout.strip())
    assert json.loads(ran.stdout)["name"] == "anna"


def test_user_add_goes_through_the_running_server(serve: Serve, tmp_path: Path) -> None:
    """With the folder in use the server does it; what it refuses is said on standard error."""
    process = serve()
    data = str(tmp_path / "data")
    added = run_cli("user", "add", "anna", "--data", data)
    ran = run_cli("call", "auth.whoami", "--url", process.url, "--credential", added.stdout.strip())
    assert json.loads(ran.stdout)["name"] == "anna"
    assert "credential create anna" in refused("user", "add", "anna", "--data", data)
    assert "a-z" in refused("user", "add", "An na", "--data", data)


def test_call_prints_results_and_errors(serve: Serve, tmp_path: Path) -> None:
    """The result goes to standard output; the error object goes to standard error, with status 1."""
    process = serve()
    credential = run_cli("user", "add", "anna", "--data", str(tmp_path / "data")).stdout.strip()
    env = {"RPCSERVER_URL": process.url, "RPCSERVER_CREDENTIAL": credential}
    ran = run_cli("call", "session.create", '{"name": "wörk"}', env={**os.environ, **env})
    assert ran.returncode == 0 and json.loads(ran.stdout).keys() == {"session_id"}
    for arguments, code in (
        (["session.create", '{"name": "wörk"}'], -32017),
        (["no.such"], -32601),
        (["session.get", '{"session_id": "s_none"}'], -32004),
        (["session.get", "{no json"], -32602),
        (["session.get", "[]"], -32602),
    ):
        error = json.loads(refused("call", *arguments, env=env))
        assert error.keys() == {"code", "message", "data"} and error["code"] == code
    assert json.loads(refused("call", "session.ls", env={**env, "RPCSERVER_CREDENTIAL": "wrong"}))["code"] == -32002


def test_call_without_a_server_says_so(tmp_path: Path) -> None:
    """Nobody listening, something else listening, or a url that is none."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = f"127.0.0.1:{other.getsockname()[1]}"
    for url, said in ((f"ws://{closed}/", closed), ("http://127.0.0.1:1/", "127.0.0.1:1"), ("nonsense", "nonsense")):
        error = json.loads(refused("call", "server.ping", "--url", url))
        assert error["data"]["kind"] == "UNREACHABLE" and said in error["message"]


def test_the_data_folder_comes_from_the_environment(tmp_path: Path) -> None:
    """RPCSERVER_DATA, else the platform's folder for a user's data."""
    for env, made in (
        ({"RPCSERVER_DATA": str(tmp_path / "one")}, tmp_path / "one"),
        ({"XDG_DATA_HOME": str(tmp_path / "two"), "HOME": str(tmp_path)}, tmp_path / "two" / "rpcserver"),
    ):
        given = {name: value for name, value in os.environ.items() if name != "RPCSERVER_DATA"}
        assert run_cli("user", "add", "anna", env={**given, **env}).returncode == 0
        assert (made / "rpcserver.db").is_file()


def test_a_folder_given_from_where_one_stands(tmp_path: Path) -> None:
    """--data may be relative."""
    assert run_cli("user", "add", "anna", "--data", "here", cwd=tmp_path).returncode == 0
    assert (tmp_path / "here" / "rpcserver.db").is_file()


@pytest.mark.parametrize("number", ["0", "9" * 20])
def test_a_number_that_cannot_be_is_named(serve: Serve, tmp_path: Path, number: str) -> None:
    """Without a server and with one: too small, and too large for a message."""
    data = str(tmp_path / "data")
    assert run_cli("user", "add", "anna", "--data", data).returncode == 0
    create = ("credential", "create", "anna", "--max-calls", number, "--data", data)
    assert "max_calls" in refused(*create)
    serve()
    told = refused(*create)
    assert "max_calls" in told or "64 bits" in told


def test_a_start_that_cannot_be(serve: Serve, tmp_path: Path) -> None:
    """A folder in use, a damaged database, a port in use, a bad setting, a bad plugin: one line, status 1."""
    process = serve()
    data, port = str(tmp_path / "data"), process.url.rstrip("/").rsplit(":", 1)[1]
    assert str(process.ready["pid"]) in refused("serve", "--data", data, "--port", "0")
    assert port in refused("serve", "--data", str(tmp_path / "other"), "--port", port)
    guest = write_guest(tmp_path, "crooked", "def (")
    assert "crooked" in refused("serve", "--data", str(tmp_path / "third"), "--port", "0", "--plugin", str(guest))
    assert "port" in refused("serve", "--data", str(tmp_path / "third"), env={"RPCSERVER_PORT": "many"})
    process.stop()
    (tmp_path / "data" / "rpcserver.db").write_bytes(b"garbage!" * 999)
    assert "damaged" in refused("serve", "--data", data, "--port", "0")
