"""Every example runs, as the process its own words describe, against a server that is a process of its own."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Process, run_cli

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PLUGIN = EXAMPLES / "03_plugin.py"


def run_example(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an example as a process."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
    )


def add_user(process: Process, name: str) -> str:
    """Return a new user's credential."""
    done = run_cli("user", "add", name, "--data", str(process.data))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder `shelf` with a folder `books` of 25 files."""
    books = tmp_path / "shelf" / "books"
    books.mkdir(parents=True)
    for number in range(25):
        (books / f"{number:02}.txt").write_text("x" * number)
    return books.parent


def test_hello(serve: Callable[..., Process]) -> None:
    """01_hello runs with arguments, and with the environment."""
    process = serve()
    credential = add_user(process, "anna")
    done = run_example("01_hello.py", process.url, credential)
    assert done.returncode == 0, done.stderr
    assert "connected as anna" in done.stdout and "sessions (set)" in done.stdout
    assert "bookmarks.add: Bookmark this set" in done.stdout
    again = run_example("01_hello.py", RPCSERVER_URL=process.url, RPCSERVER_CREDENTIAL=credential)
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_walk(serve: Callable[..., Process], tree: Path) -> None:
    """02_walk turns pages, walks by path, back and by bookmark, and prints what is pushed."""
    process = serve()
    credential = add_user(process, "anna")
    assert run_cli("import", str(tree), "--user", "anna", "--data", str(process.data)).returncode == 0
    done = run_example("02_walk.py", process.url, credential, "shelf/books")
    assert done.returncode == 0, done.stderr
    for line in (
        "'books' holds 26 tokens:",  # the visitor's own among them
        "bookmarked 'books'",
        "Go to books: bookmarks moved the session",
        "  pushed: session.entered",
        "  pushed: session.destroyed",
    ):
        assert line in done.stdout.splitlines()


def test_walk_without_a_path(serve: Callable[..., Process]) -> None:
    """02_walk works for a user who has imported nothing."""
    process = serve()
    done = run_example("02_walk.py", process.url, add_user(process, "anna"))
    assert done.returncode == 0, done.stderr
    assert "bookmarked 'sessions'" in done.stdout


def test_plugin(serve: Callable[..., Process], tree: Path) -> None:
    """03_plugin offers a command; its action runs a job, and the answer stands under the guest's name."""
    process = serve(None, "--plugin", str(PLUGIN))
    data = ("--data", str(process.data))
    reach = ("--url", process.url, "--credential", add_user(process, "anna"))
    assert run_cli("import", str(tree), "--user", "anna", *data).returncode == 0
    there = run_cli("call", "session.cd", '{"path": "shelf/books"}', *reach)
    commands = [command["id"] for command in json.loads(there.stdout)["commands"]]
    assert "03_plugin.survey" in commands
    done = run_cli("call", "session.action", '{"token_id": "03_plugin.survey"}', *reach)
    answer = json.loads(done.stdout)
    assert answer["handled_by"] == "03_plugin"
    assert answer["response"] == {"03_plugin": {"types": {"file": 25, "user": 1}, "bytes": 300}}
    ran = json.loads(run_cli("call", "jobs.list", '{"limit": 1}', *reach).stdout)["items"][0]
    assert (ran["function"], ran["state"]) == ("03_plugin.survey", "succeeded")


@pytest.mark.parametrize("name", ["01_hello.py", "02_walk.py"])
def test_what_is_missing_or_wrong_is_said(name: str, serve: Callable[..., Process]) -> None:
    """Without url and credential, with a wrong one, or without a server, an example says so and exits with 1."""
    missing = run_example(name, RPCSERVER_URL="", RPCSERVER_CREDENTIAL="")
    assert missing.returncode == 1 and "usage" in missing.stderr
    process = serve()
    wrong = run_example(name, process.url, "rpc_wrong")
    assert wrong.returncode == 1 and "The credential is unknown" in wrong.stderr
    process.stop()
    gone = run_example(name, process.url, "rpc_wrong")
    assert gone.returncode == 1 and "Traceback" not in gone.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_use_public_names_only(path: Path) -> None:
    """A client imports the client and its models; a plugin imports `rpcserver.plugin` alone; no name is private."""
    ours = {"rpcserver", "plugins", "jobs", "core", "store", "heroscript"}
    allowed = {"rpcserver.plugin"} if path == PLUGIN else {"rpcserver.client", "rpcserver.schemas.session"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ours:
            assert node.module in allowed
            assert not any(name.name.startswith("_") for name in node.names)
        elif isinstance(node, ast.Import):
            assert not any(name.name.split(".")[0] in ours for name in node.names)
