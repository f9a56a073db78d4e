"""`git.*` on repositories and checkouts made by somebody who means harm."""

import asyncio
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dulwich.objects import Blob, Commit, ShaFile, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo
from structlog.testing import capture_logs

from heroscript import Params
from jobs import JobError
from plugins.builtin.checkouts import check_pack
from rpcserver.client import CallError, Client
from tests.conftest import run_server
from tests.plugins.git_server import GitServer
from tests.plugins.hostile import repositories
from tests.plugins.test_git import done, play, refused


async def test_what_a_repository_holds_cannot_get_out(carla: Client, hub: GitServer, tmp_path: Path) -> None:
    """Links are files, hooks and filters never run, and a tree that names `.git` or `..` is not written."""
    marker = tmp_path / "ran"
    evil = {
        "link": (0o120000, str(tmp_path)),
        ".gitattributes": "*.txt filter=lfs\n* filter=evil\n",
        "a.txt": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1\n",
        ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = ext::touch\n',
    }
    hub.commit("acme/tool", evil)
    folder = Path((await done(carla, f"!!git.clone url:{hub.url('acme/tool')}"))["path"])
    assert not (folder / "link").is_symlink() and (folder / "link").read_text() == str(tmp_path)
    assert (folder / "a.txt").read_text().startswith("version https")
    hook = folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    (folder / "more").write_text("x")
    await done(carla, "!!git.commit name:tool message:more")
    assert not marker.exists()
    for name in (".git/hooks/post-checkout", "../outside", "a/../../b"):
        hub.repository(f"evil/r{abs(hash(name))}").close()
        _raw_tree(hub, f"evil/r{abs(hash(name))}", name)
        await play(carla, f"!!git.clone url:{hub.url(f'evil/r{abs(hash(name))}')}")
    assert not _is_anywhere(tmp_path, "outside") and not _is_anywhere(tmp_path, "post-checkout")


HOSTILE = """
[core]
    fsmonitor = touch {marker}
    sshCommand = touch {marker}
    hooksPath = {hooks}
    pager = touch {marker}
    editor = touch {marker}
    askPass = touch {marker}
    gitProxy = touch {marker}
    attributesFile = {hooks}/attributes
    worktree = {elsewhere}
[filter "evil"]
    clean = touch {marker}
    smudge = touch {marker}
    process = touch {marker}
    required = true
[credential]
    helper = !touch {marker}
[commit]
    gpgsign = true
[gpg]
    program = touch
[url "ext::touch {marker} "]
    insteadOf = https://
[http]
    proxy = http://127.0.0.1:9
[include]
    path = {elsewhere}/more
"""


async def test_the_configuration_of_a_checkout_runs_nothing(
    carla: Client, hub: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a hostile .git/config, attributes and hooks name: every action works on the checkout alone."""
    marker, elsewhere = tmp_path / "ran", tmp_path / "elsewhere"
    hub.commit("acme/tool", {".gitattributes": "* filter=evil diff=evil merge=evil\n", "a.txt": "one"})
    folder = Path((await done(carla, f"!!git.clone url:{hub.url('acme/tool')}"))["path"])
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    hooks = folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-commit", "commit-msg", "post-checkout", "post-merge", "pre-push", "update"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (hooks / name).chmod(0o755)
    filled = HOSTILE.replace("{marker}", str(marker)).replace("{hooks}", str(hooks))
    config = folder / ".git" / "config"
    config.write_text(config.read_text() + filled.replace("{elsewhere}", str(elsewhere)))
    monkeypatch.setattr("subprocess.Popen.__init__", _forbidden)
    monkeypatch.setattr("os.posix_spawn", _forbidden)
    monkeypatch.setattr("os.system", _forbidden)
    hub.commit("acme/tool", {"a.txt": "two"})
    assert await done(carla, "!!git.list") == ["localhost/acme/tool"]
    await done(carla, "!!git.pull name:tool")
    assert (folder / "a.txt").read_text() == "two"
    (folder / "a.txt").write_text("three")
    await done(carla, "!!git.commit name:tool message:three")
    await done(carla, "!!git.push name:tool")
    (folder / "a.txt").write_text("four")
    await done(carla, "!!git.reset name:tool")
    assert (folder / "a.txt").read_text() == "three" and not marker.exists()
    assert [path.name for path in elsewhere.iterdir()] == ["kept"]


@pytest.mark.parametrize("way", ["file", "link", "linked", "commondir", "alternates"])
async def test_a_checkout_that_lies_elsewhere_is_refused(
    carla: Client, hub: GitServer, tmp_path: Path, way: str
) -> None:
    """A .git that is a file or a link, and one that has parts of it elsewhere, leads nowhere."""
    folder = Path((await done(carla, f"!!git.clone url:{hub.url('acme/tool')}"))["path"])
    control, away = folder / ".git", tmp_path / "away"
    match way:
        case "file":
            control.rename(away)
            control.write_text(f"gitdir: {away}\n")
        case "link":
            control.rename(away)
            control.symlink_to(away)
        case "linked":
            (control / "refs").rename(away)
            (control / "refs").symlink_to(away)
        case "commondir":
            (control / "commondir").write_text(f"{away}\n")
        case "alternates":
            (control / "objects" / "info").mkdir(exist_ok=True)
            (control / "objects" / "info" / "alternates").write_text(f"{away}\n")
    for action in ("pull", "reset", "commit", "push"):
        said = await refused(carla, f"!!git.{action} url:{hub.url('acme/tool')} message:x")
        assert "elsewhere" in said or "no checkout" in said, said


async def test_a_few_bytes_do_not_become_more_than_fits(tmp_path: Path, hub: GitServer) -> None:
    """A file of zeros, one made by a delta, and a tree of trees that names one file a billion times: all refused."""
    (hub.repository("evil/zeros")).close()
    hub.commit("evil/zeros", {"zeros": "\0" * 3_000_000})
    (hub.repository("evil/trees")).close()
    _tree_of_trees(hub, "evil/trees")
    async with run_server(tmp_path / "data", **hub.settings, max_checkout_bytes=2_000_000) as server:
        client = await server.client("carla")
        assert "a file of 3000000 bytes" in await refused(client, f"!!git.clone url:{hub.url('evil/zeros')}")
        assert "more than 2000000 bytes" in await refused(client, f"!!git.clone url:{hub.url('evil/trees')}")
        await done(client, f"!!git.clone url:{hub.url('acme/tool')}")
        hub.commit("acme/tool", {"zeros": "\0" * 3_000_000})
        assert "a file of 3000000 bytes" in await refused(client, "!!git.pull name:tool")
        assert await done(client, "!!git.list") == ["localhost/acme/tool"]


def _tree_of_trees(hub: GitServer, name: str) -> None:
    """Commit a tree of ten trees of ten trees ..., nine deep, with the same file in each."""
    with Repo(str(hub.folder / name)) as repo:
        blob = Blob.from_string(b"x")
        repo.object_store.add_object(blob)
        sha, mode = blob.id, 0o100644
        for _ in range(9):
            tree = Tree()
            for number in range(10):
                tree.add(b"%d" % number, mode, sha)
            repo.object_store.add_object(tree)
            sha, mode = tree.id, 0o040000
        _commit(repo, sha)


def _pack(*objects: tuple[int, int, bytes]) -> BytesIO:
    """A pack of objects given as type, the size they say they have, and what is packed."""
    packed = b"PACK" + (2).to_bytes(4) + len(objects).to_bytes(4)
    for kind, size, content in objects:
        first, rest = (kind << 4) | (size & 15), size >> 4
        while rest:
            packed += bytes([first | 128])
            first, rest = rest & 127, rest >> 7
        packed += bytes([first]) + (b"\0" * 20 if kind == 7 else b"") + zlib.compress(content)
    return BytesIO(packed + b"\0" * 20)


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (_pack((3, 5, b"hello")), ""),
        (_pack((3, 0, b""), (3, 100, b"x" * 100)), ""),
        (_pack((3, 101, b"x" * 101)), "a file of 101 bytes"),
        (_pack((3, 1 << 40, b"x")), "a file of 1099511627776 bytes"),
        (_pack((3, 5, b"x" * 1_000_000)), "no git repository"),
        (_pack((7, 4, b"\x05\x64\x90\x05")), ""),
        (_pack((7, 5, b"\x05\xe5\x00\x90\x05")), "a file of 101 bytes"),
        (_pack((7, 1, b"\x85")), "no git repository"),
        (BytesIO(b"PACK" + b"\0\0\0\2" + b"\xff" * 4), "no git repository"),
        (BytesIO(b"HTTP/1.1"), "no git repository"),
        (BytesIO(_pack((3, 50, b"x" * 50)).getvalue()[:18]), "no git repository"),
    ],
)
def test_a_pack_is_looked_at_before_it_is_unpacked(pack: BytesIO, said: str) -> None:
    """What its objects say they are, what its deltas would make, and what is no pack at all."""
    if not said:
        check_pack(pack, 100)
        return
    with pytest.raises(JobError, match=said):
        check_pack(pack, 100)


def _commit(repo: Repo, tree: Any) -> None:
    commit = Commit()
    commit.tree = tree
    commit.author = commit.committer = b"E <e@e>"
    commit.author_time = commit.commit_time = 1
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"x"
    repo.object_store.add_object(commit)
    repo.refs[Ref(b"refs/heads/main")] = commit.id


def _raw_tree(hub: GitServer, name: str, path: str) -> None:
    """Commit a tree with one entry whose name is a whole path, as git itself never writes it."""
    with Repo(str(hub.folder / name)) as repo:
        blob = Blob.from_string(b"x")
        content = b"100644 " + path.encode() + b"\0" + bytes.fromhex(blob.id.decode())
        tree = ShaFile.from_raw_string(2, content)
        repo.object_store.add_object(blob)
        repo.object_store.add_object(tree)
        _commit(repo, tree.id)


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a program was started")


def _is_anywhere(folder: Path, name: str) -> bool:
    return any(folder.rglob(name))


REPOSITORIES = list(repositories())


@pytest.mark.parametrize("every", [14, pytest.param(1, marks=pytest.mark.slow)])
async def test_whatever_a_git_server_answers(tmp_path: Path, hub: GitServer, every: int) -> None:
    """It is checked out in its folder, or refused in words; nothing lies elsewhere, and the log holds no traceback."""
    some = REPOSITORIES[::every]
    for number, (_, refs, answer) in enumerate(some):
        hub.answers[f"/evil/r{number}/info/refs"] = ("application/x-git-upload-pack-advertisement", refs)
        hub.answers[f"/evil/r{number}/git-upload-pack"] = ("application/x-git-upload-pack-result", answer)
    found = {}
    async with run_server(tmp_path / "data", **hub.settings, max_sessions_per_user=1000) as server:
        client = await server.client("carla")

        async def fetch(numbers: Iterator[int]) -> None:
            for number in numbers:
                address = hub.url(f"evil/r{number}")
                (cloned,) = await play(client, f"!!git.clone url:{address}")
                found[some[number][0]] = cloned["error"]
                with suppress(CallError):
                    await client.call("session.play", url=f"{address}/tree/main/a.hero", dry_run=True)

        with capture_logs() as lines:
            numbers = iter(range(len(some)))
            await asyncio.gather(*(fetch(numbers) for _ in range(4)))
    assert found.pop("good") is None
    for name, error in found.items():
        assert error is None or (error["code"] == -32019 and "log says why" not in error["message"]), (name, error)
    assert [line for line in lines if line["log_level"] in ("error", "critical") or line.get("exc_info")] == []
    _is_in_its_place(tmp_path)


def _is_in_its_place(tmp_path: Path) -> None:
    assert {path.name for path in tmp_path.iterdir()} == {"data", "hub"}
    code = tmp_path / "data" / "code"
    assert {path.name for path in code.glob("*/*/*")} <= {"localhost", ".fetched"}
    assert not [path for path in code.rglob("*") if path.is_symlink() or path.name.startswith(".new-")]


LONG = "x" * 5000
HOSTS = (
    *(
        "",
        "[",
        "[::1",
        "[::1]",
        ":",
        "{host}:1",
        "localhost:0",
        "localhost:65536",
        "localhost:x",
        "localhost:-1",
        "u:p@{host}",
    ),
    *(
        "a@b@{host}",
        "\u00e9.example",
        "xn--\u00e9",
        "a..b",
        ".example",
        "-a.b",
        "a_b.c",
        "a" * 300,
        "a." * 200,
    ),
)
REFS = (
    *(
        "",
        "-",
        "--help",
        "..",
        "a..b",
        "a b",
        "a\x00b",
        "a\nb",
        "x" * 200,
        LONG,
        "@",
        "@{",
        "a@{1}",
        "HEAD",
    ),
    *(
        "refs/heads/main",
        "main^{}",
        "main~1",
        "main:x",
        "*",
        "[",
        "main.lock",
        "main/",
        "/main",
        "a//b",
        "é" * 190,
        "😀",
        "é",
    ),
    *("0" * 40, "f" * 40, "1234567", "g" * 40, ".main", "main.", "a\\b", "٣", "main\u202e"),
)
PATHS = (
    *(
        "",
        "/",
        "/etc/passwd",
        "..",
        "../..",
        "~",
        "~root",
        "\x00",
        "a\x00b",
        "x" * 300,
        LONG,
        "x/" * 3000,
    ),
    *(
        "/proc/self/mem",
        "/dev/zero",
        "/dev/stdin",
        "C:\\x",
        "a\nb",
        "{root}",
        "{root}/loop",
        "{root}/fifo",
        "{root}/mine",
    ),
    *("{root}/bin.hero", "{root}/link.hero", "{root}/x.hero/y", "{root}/" + LONG, "{root}/a.hero\x00", "{root}/a.hero"),
)
AWAY = (
    *(
        "https://",
        "http://[",
        "ftp://a.b/c/d",
        "data:text/plain,x",
        "ssh://git@host:acct/repo",
        "git@host:acct/repo",
        "//a/b/c",
    ),
    *(
        "github.com/onlyone",
        "C:\\x\\y\\z",
        "~",
        "..",
        "a/b/c",
        "https://{host}/acme/tool/tree/",
        "https://{host}/%zz.hero",
    ),
    *(f"https://{{host}}/{name}" for name in ("", "a", "/a//b", "a/\x00b", f"a/{LONG}", "a/...", "a/.git", "%2e/b")),
    *(f"https://{{host}}/{name}.hero" for name in ("", "a b", "a\x00", LONG)),
    *(f"https://{host}/{path}" for host in HOSTS for path in ("a/b", "a.hero")),
    *(f"https://{{host}}/acme/tool/tree/{ref}/a.hero" for ref in REFS),
    *(f"https://{{host}}/acme/tool/tree/main/{path}" for path in PATHS),
)


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_whatever_an_address_a_path_or_a_branch_is(tmp_path: Path, hub: GitServer, every: int) -> None:
    """Each is a good one or refused in words, wherever it may be given; none is met as a failure nobody foresaw."""
    root = _awkward_files(tmp_path / "root")

    def some(given: Sequence[str]) -> list[str]:
        return [text.replace("{host}", hub.host).replace("{root}", str(root)) for text in given[every // 2 :: every]]

    settings = {**hub.settings, "playbook_roots": (root,), "code_roots": (root,), "max_sessions_per_user": 10_000}
    found = []
    async with run_server(tmp_path / "data", **settings) as server:
        client = await server.client("carla")
        session_id = await client.create_session()

        async def tell(method: str, **params: Any) -> None:
            try:
                answer = await client.call(method, **params)
                errors = [item["error"] for item in answer.get("results", ()) if item["error"]]
            except CallError as error:
                errors = [{"code": error.code, "message": str(error)}]
            for error in errors:
                if error["code"] == -32603 or "log says why" in error["message"]:
                    found.append((method, params, error))

        async def played(action: str, **params: str) -> None:
            text = f"!!{action} {Params(params).heroscript()}"
            await tell("session.play", session_id=await client.create_session(interactive=False), text=text)

        with capture_logs() as lines:
            for url in some(AWAY):
                await tell("session.playbook_add", session_id=session_id, url=url)
                await tell("session.create", playbook_url=url)
                await tell("session.playbook_add", session_id=session_id, text=_include(git_url=url))
                await played("git.clone", url=url)
            for branch in some(REFS):
                await tell("session.playbook_add", session_id=session_id, url=hub.url("acme/tool"), git_branch=branch)
                await played("git.clone", url=hub.url("acme/tool"), branch=branch)
                await played("git.pull", name=branch, branch=branch)
                await played("git.commit", name="tool", message=branch, author=branch)
            for path in some(PATHS):
                await tell("session.playbook_add", session_id=session_id, path=path)
                await tell("session.playbook_add", session_id=session_id, text=_include(path=path))
                await tell("session.create", coderoot=path)
                await tell("session.create", playbook_path=path)
                await played("core.coderoot_set", coderoot=path)
                await tell("context.update", coderoot=path)
                await played("git.clone", url=hub.url("acme/tool"))
        assert await client.call("server.ping") == "pong"
    assert found == []
    assert [line for line in lines if line["log_level"] in ("error", "critical") or line.get("exc_info")] == []


def _include(**params: str) -> str:
    return f"!!play.include {Params(params).heroscript()}"


def _awkward_files(root: Path) -> Path:
    (root / "mine").mkdir(parents=True)
    (root / "loop").symlink_to(root / "loop")
    (root / "link.hero").symlink_to("/etc/passwd")
    (root / "bin.hero").write_bytes(bytes(range(256)))
    (root / "x.hero").write_text("!!play.echo content:x")
    os.mkfifo(root / "fifo")
    return root
