"""The five example playbooks, and `rpcserver play`: on a running server and in a process of its own."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpcserver.client import Client
from tests.conftest import Process, run_cli
from tests.docs.terminal import CHECKOUT
from tests.forked import command
from tests.plugins.git_server import GitServer, git_server

BOOKS = CHECKOUT / "examples" / "playbooks"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder without a server."""
    return tmp_path / "data"


@pytest.fixture(params=["server", "alone"])
def either(request: pytest.FixtureRequest, data: Path, serve: Callable[..., Process]) -> Path:
    """A data folder with a running server, and one without."""
    if request.param == "server":
        serve(data)
    return data


def play(target: Path | str, data: Path, *arguments: str, text: str = "", **env: str) -> tuple[int, str, str]:
    """Run `rpcserver play` and return status, output and errors; the milliseconds are left out."""
    variables = {**os.environ, **env}
    done = subprocess.run(
        [*command(variables), "play", "--data", str(data), str(target), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        input=text,
        env=variables,
    )
    return done.returncode, re.sub(r" \(\d+ ms\)", "", done.stdout), done.stderr


def states(output: str) -> list[tuple[str, str, str]]:
    """Return (action, state, rest) of every line that shows an end."""
    found = [re.match(r"\s*\d+  (\S+)\s+(done|failed)\s*(.*)", line) for line in output.splitlines()]
    return [(match[1], match[2], match[3]) for match in found if match]


def test_hello(either: Path) -> None:
    """Each action is shown as it begins and ends; parameters come from the command line."""
    status, output, errors = play(BOOKS / "hello.hero", either, "--param", "who=Anna")
    assert status == 0, errors
    assert states(output)[:2] == [("session.env_set", "done", "greeting"), ("play.echo", "done", "Hello Anna")]
    assert "play.echo                    ...     (playbooks)" in output
    assert output.splitlines()[-1] == "3 done, 0 failed, 0 left"


def test_a_world_is_built_once(data: Path) -> None:
    """Sets, tokens and a link; a second play finds them."""
    for arguments in ((), ("--session", "mine", "--context", "trips")):
        status, output, errors = play(BOOKS / "world.hero", data, *arguments)
        assert status == 0, errors + output
        assert '["A map of the coast", "On weaving", "owner"]' in output and "the library of set_" in output


def test_questions_are_answered_on_the_terminal(either: Path) -> None:
    """A wrong answer is asked again, an empty one takes the default."""
    status, output, errors = play(BOOKS / "questions.hero", either, text="park\nsome\neverybody\n\n")
    assert status == 0, errors + output
    assert "What shall the set be called? [garden]" in output and "choose one of everybody, nobody" in output
    assert states(output)[-1] == ("play.echo", "done", "park: 2 benches, seen by everybody")


def test_questions_without_anybody_take_their_defaults(data: Path) -> None:
    """--no-interactive asks nothing; neither does an input that has ended."""
    for arguments in (["--no-interactive"], []):
        status, output, errors = play(BOOKS / "questions.hero", data, *arguments)
        assert status == 0, errors + output
        assert states(output)[-1] == ("play.echo", "done", "garden: 2 benches, seen by nobody")


def test_a_document_is_played(data: Path) -> None:
    """Prose is passed over, the priority that the document registers holds for the rest of it."""
    status, output, errors = play(BOOKS / "handbook.md", data)
    assert status == 0, errors + output
    assert [action for action, _, _ in states(output)][-2:] == ["session.cd", "play.echo"]
    assert states(output)[-1][2] == "Office North is furnished"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[GitServer]:
    """A git server with one repository."""
    with git_server(tmp_path / "hub") as served:
        served.repository("acme/tool").close()
        served.commit("acme/tool", {"README.md": "hello", "play/run.hero": "!!play.echo content:'from the hub'"})
        yield served


def test_a_checkout_is_reported(hub: GitServer, tmp_path: Path) -> None:
    """The repository lies below the data folder; without the operator's word the host is not called."""
    data, repo = tmp_path / "data", ("--param", f"repo={hub.url('acme/tool')}")
    status, output, _ = play(BOOKS / "checkout.hero", data, *repo)
    assert status == 1 and "fetch_hosts" in output and hub.requests == []
    allowed = {f"RPCSERVER_{name.upper()}": _env(value) for name, value in hub.settings.items()}
    status, output, errors = play(BOOKS / "checkout.hero", data, *repo, **allowed)
    assert status == 0, errors + output
    assert states(output)[-1][2] == 'checkouts: ["localhost/acme/tool"]'
    assert list((data / "code").glob("*/default/localhost/acme/tool/README.md"))
    status, output, errors = play(f"{hub.url('acme/tool')}/tree/main/play", data, **allowed)
    assert (status, states(output)) == (0, [("play.echo", "done", "from the hub")]), errors


def _env(value: object) -> str:
    return json.dumps(value) if isinstance(value, tuple) else str(value)


def test_a_script_runs_by_its_name(tmp_path: Path) -> None:
    """`#!/usr/bin/env -S rpcserver play` makes a playbook a program; the first user is made when there is none."""
    script = tmp_path / "greet"
    script.write_text((BOOKS / "hello.hero").read_text())
    script.chmod(0o755)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "RPCSERVER_DATA": str(tmp_path / "data")}
    done = subprocess.run([script, "--param", "who=you"], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert "Hello you" in done.stdout


def test_every_mistake_is_told_before_anything_runs(data: Path, tmp_path: Path) -> None:
    """All files of a folder and what they include: file, line, column, text; and nothing ran."""
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "a.hero").write_text("!!db.set key:ran value:yes\n!!play.echo content:'open\n")
    (folder / "b.md").write_text("# text\n\n!!a.b.c.d x:1\n\n!!play.echo k-y:1\n!!play.include path:../inner.txt\n")
    (tmp_path / "inner.txt").write_text("!!play.echo\n  content@:x\n!!play.include path:nowhere.hero\n")
    status, output, errors = play(folder, data, "--session", "checked")
    assert (status, output) == (1, "")
    lines = errors.splitlines()
    places = ("b.md:3:3:", "b.md:5:14:", "a.hero:2:21:", "inner.txt:2:10:", "inner.txt:3:1:")
    for line, place in zip(lines, places, strict=True):
        assert f"{place} " in line, errors
    (folder / "a.hero").write_text("!!db.set key:ran value:yes\n!!play.ecco content:x\n")
    (folder / "b.md").unlink()
    status, output, errors = play(folder, data, "--session", "checked")
    assert (status, output) == (1, "")
    said = f"rpcserver: {folder / 'a.hero'}:2: nobody plays 'play.ecco'; near it: play.echo"
    assert errors.splitlines()[-1].startswith(said)


def test_a_failure_is_shown_and_can_be_gone_on_with(data: Path, tmp_path: Path) -> None:
    """Status 1, the file and line of the action that failed, and the session that holds the rest."""
    book = tmp_path / "book.hero"
    book.write_text("!!play.echo content:one\n\n!!db.get key:missing\n!!play.echo content:three\n")
    status, output, _ = play(book, data)
    assert status == 1
    assert [state for _, state, _ in states(output)] == ["done", "failed"]
    assert f"[{book}:3]" in output
    last = output.splitlines()[-1]
    said, _, rest = last.partition("; go on with: rpcserver ")
    assert said == "1 done, 1 failed, 1 left"
    (tmp_path / "more.hero").write_text("!!db.set key:missing value:found\n")
    name = last.rpartition(" ")[2]
    status, output, _ = play(tmp_path / "more.hero", data, "--session", name)
    assert status == 1, "the action that failed comes first, and fails again"
    done = run_cli(*rest.split(), "--data", str(data))
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("0 done, 1 failed, 2 left")
    stays = run_cli("play", str(tmp_path / "more.hero"), "--session", name, "--dry-run", "--data", str(data))
    assert stays.returncode == 0 and len(stays.stdout.splitlines()) == 1
    planned = run_cli("play", "--session", name, "--dry-run", "--data", str(data))
    assert planned.returncode == 0 and len(planned.stdout.splitlines()) == 3, "the dry run before has added nothing"


def test_what_nobody_plays_leaves_nothing_behind(data: Path, tmp_path: Path) -> None:
    """Neither a session that was made for it, nor actions in a session that goes on."""
    wrong, right = tmp_path / "wrong.hero", tmp_path / "right.hero"
    wrong.write_text("!!play.echo content:never\n!!play.ecco content:x\n")
    right.write_text("!!play.echo content:well\n")
    for more in ((), ("--session", "lasting")):
        status, output, errors = play(wrong, data, *more)
        assert (status, output) == (1, "") and f"{wrong}:2: nobody plays 'play.ecco'" in errors
        status, output, _ = play(right, data, *more)
        assert status == 0 and "1 done, 0 failed, 0 left" in output
    with closing(sqlite3.connect(data / "rpcserver.db")) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sessions")]
    assert names == ["lasting"]


def test_what_was_not_asked_can_be_asked_later(data: Path, tmp_path: Path) -> None:
    """--no-interactive is for one play: going on with the session asks."""
    book = tmp_path / "book.hero"
    book.write_text("!!play.ask question:'Who?' as:WHO\n!!play.echo content:'it is {WHO}'\n")
    status, output, _ = play(book, data, "--no-interactive")
    assert status == 1 and "not interactive" in output
    name = output.splitlines()[-1].rpartition(" ")[2]
    status, output, _ = play("--session", data, name, text="me\n")
    assert status == 0 and "it is me" in output


def test_what_is_left_needs_a_session(data: Path) -> None:
    """Without a playbook there is something to go on with, or one line that says what is missing."""
    for arguments, said in (((), "--session"), (("--session", "nowhere"), "no session 'nowhere'")):
        done = run_cli("play", *arguments, "--data", str(data))
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_a_dry_run_says_who(data: Path) -> None:
    """Every action with the guest that would play it; nothing runs, nothing stays behind."""
    status, output, errors = play(BOOKS / "world.hero", data, "--dry-run")
    assert status == 0, errors
    assert "core.set_create" in output and "would be played by world" in output


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A missing file, a folder of too much, an unknown user, a wrong --param: one line, status 1."""
    (tmp_path / "huge").mkdir()
    (tmp_path / "huge" / "zeros.hero").touch()
    os.truncate(tmp_path / "huge" / "zeros.hero", 129 * 1024 * 1024)
    for arguments, said in (
        ((str(tmp_path / "no.hero"),), "no such file"),
        ((str(tmp_path / "huge"),), "the most allowed"),
        ((str(BOOKS / "hello.hero"), "--user", "nobody"), "nobody"),
        ((str(BOOKS / "hello.hero"), "--param", "x"), "NAME=VALUE"),
    ):
        done = run_cli("play", *arguments, "--data", str(tmp_path / "data"))
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_there_are_five_of_them() -> None:
    """The examples are these, and each is played above."""
    assert {path.name for path in BOOKS.iterdir()} == {
        "hello.hero",
        "world.hero",
        "checkout.hero",
        "questions.hero",
        "handbook.md",
    }


def test_another_tab_may_answer_first(data: Path, serve: Callable[..., Process], tmp_path: Path) -> None:
    """While the terminal waits for a line, an answer from elsewhere lets the play go on and end."""
    process = serve(data)
    credential = run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()
    book = tmp_path / "ask.hero"
    book.write_text("!!play.ask question:'Which way?' as:WAY\n!!play.echo content:'{WAY}'\n")
    program = [*command(), "play", str(book), "--data", str(data), "--user", "anna"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as playing:
        assert playing.stdout is not None
        while "Which way?" not in (line := playing.stdout.readline()):
            assert line, "the play ended without asking"
        asyncio.run(_answer(process.url, credential, "north"))
        output = playing.stdout.read()
        assert playing.wait(30) == 0
    assert "answered elsewhere" in output and "done    north" in output


async def _answer(url: str, credential: str, answer: str) -> None:
    async with Client(url, credential) as client:
        [ask] = (await client.call("asks.list"))["items"]
        await client.call("ask.answer", ask_id=ask["ask_id"], answer=answer)
