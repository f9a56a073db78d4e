"""`git.*` on repositories and checkouts made by somebody who means harm."""

from pathlib import Path
from typing import Any

import pytest
from dulwich.repo import Repo

from rpcserver.client import Client
from tests.plugins.git_server import GitServer
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


def _raw_tree(hub: GitServer, name: str, path: str) -> None:
    """Commit a tree with one entry whose name is a whole path, as git itself never writes it."""
    from dulwich.objects import Blob, Commit, ShaFile

    with Repo(str(hub.folder / name)) as repo:
        blob = Blob.from_string(b"x")
        content = b"100644 " + path.encode() + b"\0" + bytes.fromhex(blob.id.decode())
        tree = ShaFile.from_raw_string(2, content)
        commit = Commit()
        commit.tree = tree.id
        commit.author = commit.committer = b"E <e@e>"
        commit.author_time = commit.commit_time = 1
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = b"x"
        for item in (blob, tree, commit):
            repo.object_store.add_object(item)
        repo.refs[b"refs/heads/main"] = commit.id


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a program was started")


def _is_anywhere(folder: Path, name: str) -> bool:
    return any(folder.rglob(name))
