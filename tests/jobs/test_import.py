"""import_tree: the worst trees there are, and failures that leave nothing."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import listing, sets, users
from core.calls import Scene
from rpcserver.errors import RpcError
from store import Tx
from tests.builders import dump, make_place
from tests.conftest import Process, Running, run_cli


def names_below(tx: Tx, name: str, set_id: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (path, type, attributes) of everything below a set."""
    user = users.find_by_name(tx, name)
    assert user is not None
    for entry in listing.read(Scene(tx, user.id), set_id, limit=200).entries:
        yield entry.name, entry.type, entry.attributes
        if entry.set_id is not None:
            for path, type, attributes in names_below(tx, name, entry.set_id):
                yield f"{entry.name}/{path}", type, attributes


def nasty(root: Path) -> Path:
    """Make a tree with everything that trips importers."""
    tree = root / "tree"
    (tree / "folder" / "empty folder").mkdir(parents=True)
    for name in ("new\nline", "quotes \"'`", "-rf", "*", " ", "ünïcode", "%s%n", "$(id)", "<b>"):
        (tree / name).write_text("text")
    (tree / "empty").touch()
    (tree / "binary").write_bytes(bytes(range(256)))
    (tree / "cut").write_bytes("ä".encode() * 600)
    with open(os.fsencode(tree) + b"/bad\xff\xfename", "wb"):
        pass
    (tree / "loop").symlink_to(tree)
    (tree / "folder" / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "s"))
    deep = tree / "deep"
    for _ in range(210):
        deep = deep / "d"
    deep.mkdir(parents=True)
    return tree


async def test_a_nasty_tree(server: Running, tmp_path: Path) -> None:
    """Odd names are kept, loops not followed, what is no file skipped; each is told, none is fatal."""
    await server.credential("anna")
    done = await server.app.operate("operator.import", path=str(nasty(tmp_path)), user="anna")
    found = await server.services.store.read(lambda tx: list(names_below(tx, "anna", done["set_id"])))
    kinds = {path: type for path, type, _ in found}
    for name in ("new\nline", "quotes \"'`", "-rf", "*", " ", "ünïcode", "%s%n", "$(id)", "<b>", "empty", "binary"):
        assert kinds[name] == "file"
    assert kinds["loop"] == kinds["folder/dangling"] == "symlink"
    assert kinds["bad\ufffd\ufffdname"] == "file"
    assert kinds["folder/empty folder"] == "set"
    assert not {"pipe", "s"} & kinds.keys()
    attributes = {path: values for path, _, values in found}
    assert attributes["new\nline"]["preview"] == "text" and attributes["new\nline"]["size"] == 4
    assert "preview" not in attributes["binary"] and attributes["cut"]["preview"] == "ä" * 400
    told = {Path(where).name: what for where, what in done["problems"]}
    assert told.keys() == {"pipe", "s", "bad\ufffd\ufffdname", "d"}
    assert (done["sets"], done["tokens"]) == (
        1 + sum(type == "set" for type in kinds.values()),
        sum(type != "set" for type in kinds.values()),
    )


@pytest.mark.parametrize("where", ["unknown", "foreign", "readable"])
async def test_an_import_that_fails_leaves_nothing(server: Running, tmp_path: Path, where: str) -> None:
    """A target that is not there, not to be seen or not to be written: nothing of the tree stays behind."""
    await server.credential("anna")
    readable = await make_place(await server.client("bob"), is_public=True)

    def target(tx: Tx) -> str:
        bob = users.find_by_name(tx, "bob")
        assert bob is not None
        return {"unknown": "set_none", "foreign": bob.home_set_id, "readable": readable}[where]

    into = await server.services.store.read(target)
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    (tmp_path / "tree" / "file").touch()
    before = await dump(server.services.store)
    with pytest.raises(RpcError) as caught:
        await server.app.operate("operator.import", path=str(tmp_path / "tree"), user="anna", into=into)
    assert caught.value.kind == ("FORBIDDEN" if where == "readable" else "SET_NOT_FOUND")
    assert await dump(server.services.store) == before


async def test_a_tree_goes_where_it_is_told(server: Running, tmp_path: Path) -> None:
    """Below a set the user may write, and public if so asked."""
    await server.credential("anna")
    await server.credential("bob")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()

    def make(tx: Tx) -> str:
        anna = users.find_by_name(tx, "anna")
        assert anna is not None
        return sets.create(Scene(tx, anna.id), "library", anna.home_set_id, is_public=True)

    into = await server.services.store.write(make)
    await server.app.operate("operator.import", path=str(tmp_path / "tree"), user="anna", into=into, public=True)
    seen = await server.services.store.read(lambda tx: [path for path, *_ in names_below(tx, "bob", into)])
    assert seen == ["tree", "tree/file"]


async def test_without_descriptors_an_import_fails_rather_than_leaving_folders_empty(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server cannot open is no fault of the tree: nothing of it is shown."""
    await server.credential("anna")
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    (tmp_path / "tree" / "folder" / "file").touch()
    scandir = os.scandir

    def out_of(path: Any) -> Any:
        if str(path).endswith("/folder"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", out_of)
    with pytest.raises(RpcError, match="descriptors.*import once more"):
        await server.app.operate("operator.import", path=str(tmp_path / "tree"), user="anna")
    assert await server.services.store.read(lambda tx: tx.one("SELECT count(*) FROM sets")) == (1,)


@pytest.mark.parametrize("has_server", [False, True])
def test_import_by_command_line(tmp_path: Path, serve: Any, has_server: bool) -> None:
    """With a running server or without one: one JSON line on standard output, problems on standard error."""
    data = tmp_path / "data"
    assert run_cli("user", "add", "anna", "--data", str(data)).returncode == 0
    process: Process | None = serve(data) if has_server else None
    ran = run_cli("import", str(nasty(tmp_path)), "--user", "anna", "--data", str(data))
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()

    assert json.loads(line).keys() == {"set_id", "sets", "tokens"}
    assert "pipe" in ran.stderr and "skipped" in ran.stderr
    missing = run_cli("import", str(tmp_path / "none"), "--user", "anna", "--data", str(data))
    unknown = run_cli("import", str(tmp_path), "--user", "nobody", "--data", str(data))
    for refused in (missing, unknown):
        assert refused.returncode == 1 and refused.stdout == "" and "Traceback" not in refused.stderr
    if process is not None:
        assert process.stop() == 0
