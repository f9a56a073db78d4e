"""Playbooks by path: inside the folders the operator allowed, whatever the path looks like or turns into."""

import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heroscript import PlayBook
from heroscript.errors import SourceError
from rpcserver.client import CallError, Client
from tests.conftest import run_server

SECRET = "!!play.echo content:from-outside"


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A folder the operator allowed, a secret beside it, and links from the one to the other."""
    folder = tmp_path / "books"
    (folder / "sub").mkdir(parents=True)
    (folder / "one.hero").write_text("!!play.echo content:one\n!!play.include path:sub/two.md\n")
    (folder / "sub" / "two.md").write_text("!!play.echo content:two\n")
    (folder / "up.hero").write_text("!!play.include path:../secret.hero\n")
    (folder / "by_link.hero").write_text("!!play.include path:link.hero\n")
    (tmp_path / "secret.hero").write_text(SECRET)
    (tmp_path / "books-beside").mkdir()
    (tmp_path / "books-beside" / "x.hero").write_text(SECRET)
    (folder / "link.hero").symlink_to(tmp_path / "secret.hero")
    (folder / "linked").symlink_to(tmp_path)
    return folder


@pytest.fixture
async def reader(books: Path, tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server that may read `books`."""
    async with run_server(tmp_path / "data", playbook_roots=(books,)) as server:
        yield await server.client("anna")


async def test_a_path_is_a_file_or_a_folder(reader: Client, books: Path) -> None:
    """A file with what it includes, a folder with all it holds, by a whole path or one that begins in a root."""
    for path in (str(books / "one.hero"), "one.hero", "./sub/../one.hero"):
        session_id = await reader.create_session(playbook_path=path)
        played = await reader.call("session.play", session_id=session_id)
        assert [item["result"] for item in played["results"]] == ["one", "two"]
        assert played["results"][0]["file"] == str(books / "one.hero") and played["results"][0]["line"] == 1
    played = await reader.call("session.play", session_id=await reader.create_session(), path="sub")
    assert [item["result"] for item in played["results"]] == ["two"]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.hero",
        "sub/../../secret.hero",
        "{root}/../secret.hero",
        "{root}-beside/x.hero",
        "/etc/hostname",
        "/proc/self/environ",
        "link.hero",
        "linked/secret.hero",
        "{root}/linked",
        "up.hero",
        "by_link.hero",
        "~/secret.hero",
        "..\\secret.hero",
        "one.hero\0",
        "\0",
        "%2e%2e/secret.hero",
        "nowhere",
        "a" * 4000,
    ],
)
async def test_no_path_leaves_the_folders(reader: Client, books: Path, path: str) -> None:
    """Dots, whole paths, links, look-alikes and odd characters are refused in one way, and nothing is read."""
    asked = path.replace("{root}", str(books))
    for method in ("session.playbook_add", "session.play"):
        with pytest.raises(CallError) as refused:
            await reader.call(method, path=asked)
        assert refused.value.kind in ("SOURCE_UNREADABLE", "INVALID_PARAMS"), path
        assert "from-outside" not in str(refused.value.as_dict())
    assert (await reader.call("session.playbook_find", filter=""))["items"] == []


async def test_every_mistake_of_a_folder_and_its_includes_is_told(reader: Client, books: Path) -> None:
    """File, line, column and text of each, over the wire too; nothing is added."""
    (books / "sub" / "three.md").write_text("!!a.b k@:1\n!!play.include path:../bad.txt\n")
    (books / "bad.txt").write_text("!!c.d\n  k:'open\n")
    with pytest.raises(CallError) as refused:
        await reader.call("session.playbook_add", path="sub")
    assert refused.value.kind == "BAD_SCRIPT"
    told = [
        (Path(item["file"]).name, item["line"], item["column"], item["text"]) for item in refused.value.data["mistakes"]
    ]
    assert told == [("three.md", 1, 8, "k@"), ("bad.txt", 2, 5, "'")]
    assert (await reader.call("session.playbook_find", filter=""))["items"] == []


async def test_a_playbook_larger_than_allowed_is_refused(books: Path, tmp_path: Path) -> None:
    """By its actions, or by the bytes of its files, in one way; nothing is added."""
    (books / "large.hero").write_text("!!play.echo content:x\n" * 20)
    for name, settings in (("few", {"max_playbook_actions": 19}), ("short", {"max_playbook_bytes": 400})):
        async with run_server(tmp_path / name, playbook_roots=(books,), **settings) as server:
            client = await server.client("anna")
            with pytest.raises(CallError) as refused:
                await client.call("session.playbook_add", path="large.hero")
            assert refused.value.kind == "PLAYBOOK_TOO_LARGE" and "the most allowed" in str(refused.value)
            assert (await client.call("session.playbook_find", filter=""))["items"] == []


async def test_without_a_setting_no_path_is_read(tmp_path: Path, books: Path) -> None:
    """By default there is no folder to read from."""
    async with run_server(tmp_path / "data") as server:
        client = await server.client("anna")
        with pytest.raises(CallError) as refused:
            await client.call("session.playbook_add", path=str(books / "one.hero"))
        assert refused.value.kind == "SOURCE_UNREADABLE"


@contextmanager
def swapping(books: Path) -> Iterator[None]:
    """Swap a folder for a link to elsewhere and back, again and again, as fast as the disk allows."""
    inside, away = books / "swap", books / "aside"
    inside.mkdir()
    (inside / "secret.hero").write_text("!!play.echo content:inside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(inside, away)
            os.symlink(books.parent, inside)
            os.unlink(inside)
            os.rename(away, inside)
            stop.wait(0.0005)  # most of the time it is what it should be

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def test_a_link_that_changes_while_it_is_looked_at_opens_nothing(reader: Client, books: Path) -> None:
    """Over the wire: what lies behind the link is never read."""
    read = 0
    with swapping(books):
        for _ in range(25):
            try:
                added = await reader.call("session.playbook_add", path="swap/secret.hero")
            except CallError as error:
                assert error.kind == "SOURCE_UNREADABLE"
            else:
                read += 1
                assert added["actions"][0]["params"] == {"content": "inside"}
    assert read > 0


@pytest.mark.parametrize("rounds", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("asked", ["swap/secret.hero", "swap"])
def test_many_rounds_against_a_link_that_changes(books: Path, asked: str, rounds: int) -> None:
    """The reading itself, a file or a folder, thousands of times: the inside, or an error, and nothing else."""
    read = 0
    with swapping(books):
        for _ in range(rounds):
            book = PlayBook(roots=[books])
            try:
                added = book.add(path=books / asked)
            except SourceError:
                continue
            read += len(added)
            assert all(action.params.get("content") == "inside" for action in added)
    assert read > 0
