"""`git.*` in a playbook: repositories over https, below the coderoot, and no way out of it or into a program."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from dulwich.repo import Repo

from plugins.builtin import checkouts
from rpcserver.client import CallError, Client
from tests.conftest import Running, run_server
from tests.plugins.git_server import GitServer


async def play(client: Client, text: str) -> list[dict[str, Any]]:
    """Play a text in a new session and return the results."""
    answer = await client.call("session.play", session_id=await client.create_session(), text=text)
    return list(answer["results"])


async def done(client: Client, text: str) -> Any:
    """Play one action that succeeds and return its result."""
    [result] = await play(client, text)
    assert result["state"] == "done", result["error"]
    return result["result"]


def _read(folder: str, name: str = "README.md") -> str:
    return Path(folder, name).read_text()


def _write(folder: str, name: str, text: str) -> None:
    Path(folder, name).write_text(text)


async def refused(client: Client, text: str) -> str:
    """Play one action that fails and return what it says."""
    [result] = await play(client, text)
    assert result["state"] == "failed", result["result"]
    return str(result["error"]["message"])


async def test_clone_pull_and_list(carla: Client, hub: GitServer) -> None:
    """A clone lies below the coderoot; a second one uses it; pull brings what came since."""
    url = hub.url("acme/tool")
    cloned = await done(carla, f"!!git.clone url:{url}")
    folder = Path(cloned["path"])
    assert folder.parts[-3:] == ("localhost", "acme", "tool") and (folder / "README.md").read_text() == "hello"
    assert os.access(folder / "bin" / "run", os.X_OK)
    assert (cloned["branch"], cloned["changes"]) == ("main", [])
    hub.commit("acme/tool", {"README.md": "second", "new/deep.txt": "x"})
    again = await done(carla, f"!!gittools.clone url:{url}")
    assert again["commit"] == cloned["commit"]
    pulled = await done(carla, "!!git.pull name:tool")
    assert pulled == {"localhost/acme/tool": hub.head("acme/tool").decode()}
    assert (folder / "README.md").read_text() == "second" and not (folder / "bin" / "run").exists()
    assert (await done(carla, f"!!git.clone url:{url}"))["changes"] == []
    assert await done(carla, "!!git.list") == ["localhost/acme/tool"]


async def test_branches_tags_and_commits(carla: Client, hub: GitServer) -> None:
    """A branch, a tag or a commit can be named, also in the address, where its name may hold a slash."""
    first = hub.head("acme/tool").decode()
    hub.commit("acme/tool", {"README.md": "side"}, "refs/heads/feature/side")
    hub.commit("acme/tool", {"README.md": "tagged"}, "refs/tags/v1")
    hub.commit("acme/tool", {"README.md": "newest"})
    url = hub.url("acme/tool")
    texts = []
    for address, branch in ((url, "feature/side"), (url, "v1"), (url, first), (f"{url}/tree/feature/side", "")):
        cloned = await done(carla, f"!!git.clone url:{address} " + (f"branch:{branch}" if branch else ""))
        texts.append((Path(cloned["path"]) / "README.md").read_text())
    assert texts == ["side", "tagged", "hello", "side"]
    assert "no branch, tag or commit" in await refused(carla, f"!!git.clone url:{url} branch:nowhere")


async def test_no_checkout_is_switched(carla: Client, hub: GitServer) -> None:
    """Each branch, tag or commit that is asked for lies in a folder of its own, what was changed there too."""
    hub.commit("acme/tool", {"README.md": "side"}, "refs/heads/feature/side")
    hub.commit("acme/tool", {"README.md": "tagged"}, "refs/tags/v1")
    url = hub.url("acme/tool")
    main = (await done(carla, f"!!git.clone url:{url}"))["path"]
    _write(main, "README.md", "mine")
    side = (await done(carla, f"!!git.clone url:{url} branch:feature/side"))["path"]
    assert (await done(carla, f"!!git.clone url:{url}/tree/feature/side reset:1"))["path"] == side
    tagged = (await done(carla, f"!!git.clone url:{url} branch:v1"))["path"]
    assert (_read(main), _read(side), _read(tagged)) == ("mine", "side", "tagged")
    names = ["localhost/acme/tool", "localhost/acme/tool@feature,side", "localhost/acme/tool@v1"]
    assert await done(carla, "!!git.list") == names
    hub.commit("acme/tool", {"README.md": "side 2"}, "refs/heads/feature/side")
    for which in (f"url:{url} branch:feature/side", "name:tool branch:feature/side", f"name:{names[1]}"):
        assert list(await done(carla, f"!!git.pull {which}")) == [names[1]]
    await done(carla, "!!git.reset name:tool@v1")
    assert (_read(main), _read(side), _read(tagged)) == ("mine", "side 2", "tagged")
    assert "a tag or a commit" in await refused(carla, "!!git.push name:tool@v1")
    assert "Say which" in await refused(carla, "!!git.pull branch:''")
    assert "No checkout" in await refused(carla, "!!git.pull name:tool branch:nowhere")


async def test_what_a_url_names_depends_on_no_other_call(carla: Client, hub: GitServer) -> None:
    """Whatever was cloned, played, changed or deleted before: the default branch where none is said, else that one."""
    url, branches = hub.url("acme/tool"), {"": "main", "one": "one", "two/three": "two", "v1": "tagged"}
    for branch, text in branches.items():
        ref = f"refs/{'tags' if branch == 'v1' else 'heads'}/{branch or 'main'}"
        hub.commit(
            "acme/tool", {"a.hero": f"!!play.echo content:{text}", "b/c.hero": f"!!play.echo content:{text}2"}, ref
        )
    addresses = {url: "main", f"{url}/tree/two/three/b/c.hero": "two2", f"{url}/tree/v1/a.hero": "tagged"}
    for branch in ("two/three", "", "v1"):
        cloned = await done(carla, f"!!git.clone url:{url}" + (f" branch:{branch}" if branch else ""))
        _write(cloned["path"], "a.hero", "!!play.echo content:changed")
    for address, expected in addresses.items():
        played = await carla.call("session.play", session_id=await carla.create_session(playbook_url=address))
        assert played["results"][0]["result"] == expected
    text = f"!!play.include git_url:{url}/tree/one/a.hero\n!!play.include git_url:{url}/tree/v1/a.hero"
    played = await carla.call("session.play", session_id=await carla.create_session(playbook_text=text))
    assert [item["result"] for item in played["results"] if item["action"] == "play.echo"] == ["one", "tagged"]


async def test_many_at_once_on_one_repository(tmp_path: Path, hub: GitServer) -> None:
    """Two users in one coderoot, each with both branches, played, cloned, pulled, reset: all get what they asked."""
    branches = ("one", "two")
    for branch in branches:
        files = {f"{name}.hero": f"!!play.echo content:{branch}" for name in "abc"}
        hub.commit("acme/tool", files, f"refs/heads/{branch}")
    url = hub.url("acme/tool")
    roots = tmp_path / "shared"
    roots.mkdir()
    async with run_server(tmp_path / "data", **hub.settings, code_roots=(roots,)) as server:
        clients = [await server.client(user) for user in ("carla", "dora")]

        async def walk(client: Client, branch: str, number: int) -> None:
            session_id = await client.create_session(f"{branch} {number}", coderoot=str(roots / "code"))
            found = await client.call(
                "session.play", session_id=session_id, url=f"{url}/tree/{branch}", git_pull=number > 0
            )
            assert [item["result"] for item in found["results"]] == [branch] * 3
            text = "\n".join(
                f"!!git.{what} url:{url} branch:{branch}" for what in ("clone", "pull", "clone reset:1", "reset")
            )
            found = await client.call("session.play", session_id=session_id, text=text)
            assert [(item["state"], item["error"]) for item in found["results"]] == [("done", None)] * 4
            assert _read(found["results"][0]["result"]["path"], "a.hero").endswith(branch)

        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(clients):
                for branch in branches:
                    group.create_task(walk(client, branch, number))
    left = [path for path in roots.rglob("*") if path.name.startswith(".new-")]
    assert left == []


async def test_files_nobody_asks_for_are_deleted(carla: Client, hub: GitServer, tmp_path: Path) -> None:
    """What a newer pull has replaced goes once nobody has used it for an hour; what is asked for stays."""
    url = hub.url("acme/tool")
    for text in ("one", "two", "three"):
        hub.commit("acme/tool", {"a.hero": f"!!play.echo content:{text}"})
        for path in (tmp_path / "data" / "code").glob("*/*/.fetched/*/*/*/*"):
            os.utime(path, (1, 1))
        played = await carla.call("session.play", url=url, git_pull=True)
        assert played["results"][0]["result"] == text
    folders = [path for path in (tmp_path / "data" / "code").glob("*/*/.fetched/*/*/*/*") if path.is_dir()]
    assert [path.name for path in folders] == [hub.head("acme/tool").decode()]


async def test_depth(carla: Client, hub: GitServer) -> None:
    """`light:1` brings the newest commit alone."""
    hub.commit("acme/tool", {"README.md": "second"})
    folder = (await done(carla, f"!!git.clone url:{hub.url('acme/tool')} light:1"))["path"]
    with Repo(folder) as repo:
        assert len(repo.get_shallow()) == 1
    hub.commit("acme/tool", {"README.md": "third"})
    await done(carla, "!!git.pull name:tool")
    assert _read(folder) == "third"


async def test_local_changes(carla: Client, hub: GitServer) -> None:
    """Pull refuses over local changes; reset throws them away and takes what the remote has."""
    folder = Path((await done(carla, f"!!git.clone url:{hub.url('acme/tool')}"))["path"])
    (folder / "README.md").write_text("mine")
    (folder / "junk").mkdir()
    (folder / "junk" / "file").write_text("x")
    hub.commit("acme/tool", {"README.md": "theirs"})
    assert "local changes" in await refused(carla, "!!git.pull name:tool")
    await done(carla, "!!git.reset name:tool")
    assert (folder / "README.md").read_text() == "theirs" and not (folder / "junk").exists()
    assert (await done(carla, f"!!git.clone url:{hub.url('acme/tool')} reset:1"))["changes"] == []


async def test_commit_and_push(carla: Client, hub: GitServer) -> None:
    """What was changed is committed and sent, with a password by reference; others' commits are not overwritten."""
    hub.password = "a-secret-password"
    await carla.call("context.db.set", key="hub", value=hub.password, secret=True)
    url = hub.url("acme/tool")
    assert "not yours to read" in await refused(carla, f"!!git.clone url:{url}")
    folder = Path((await done(carla, f"!!git.clone url:{url} password:{{secret:hub}}"))["path"])
    assert hub.password not in (folder / ".git" / "config").read_text()
    (folder / "README.md").write_text("better")
    (folder / "sub").mkdir()
    (folder / "sub" / "new.txt").write_text("new")
    committed, pushed = await play(
        carla,
        "!!git.commit name:tool message:'make it better' author:'Carla <carla@localhost>'\n"
        "!!git.repo_action action:push name:tool password:{secret:hub}",
    )
    assert (committed["state"], pushed["state"]) == ("done", "done"), pushed["error"]
    assert hub.head("acme/tool").decode() == committed["result"]["localhost/acme/tool"]
    with Repo(str(hub.folder / "acme" / "tool")) as repo:
        commit: Any = repo[hub.head("acme/tool")]
        assert (commit.message, commit.author) == (b"make it better\n", b"Carla <carla@localhost>")
    assert await done(carla, "!!git.commit name:tool message:nothing") == {"localhost/acme/tool": None}
    hub.commit("acme/tool", {"README.md": "theirs"})
    (folder / "README.md").write_text("mine")
    *_, rejected = await play(carla, "!!git.commit name:tool message:mine\n!!git.push name:tool password:{secret:hub}")
    assert "other commits" in rejected["error"]["message"]
    rows = [row for row in await carla.list_jobs()]
    assert hub.password not in f"{rows}{rejected}"


@pytest.mark.parametrize(
    "arguments",
    [
        "url:'ext::sh -c touch% {canary}'",
        "url:'ssh://-oProxyCommand=touch {canary}/a/b'",
        "url:'ssh://localhost/acme/tool'",
        "url:git@localhost:acme/tool",
        "url:'file://{hub}/acme/tool'",
        "url:'{hub}/acme/tool'",
        "url:'http://localhost:{port}/acme/tool'",
        "url:'https://localhost:{port}/acme/--upload-pack=touch'",
        "url:'https://localhost:{port}/../../etc'",
        "url:'https://localhost:{port}/acme/..'",
        "url:'https://localhost:{port}/acme/%2e%2e'",
        "url:'https://localhost:{port}/acme/tool\\\\n-c'",
        "url:'https://localhost:{port}/acme/tool' branch:--upload-pack=touch",
        "url:'https://localhost:{port}/acme/tool' branch:'../../x'",
        "url:'https://localhost:{port}/acme/tool' branch:'a b'",
        "url:'https://localhost:{port}/acme/tool/tree/main/../../..'",
        "url:'https://elsewhere.example/acme/tool'",
        "url:'https://127.0.0.1:{port}/acme/tool'",
        "url:'https://localhost/acme/tool'",
    ],
)
async def test_nothing_starts_a_program_or_leaves(
    arguments: str, carla: Client, hub: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options, schemes, paths and hosts a script makes up are refused before anything is called or written."""
    monkeypatch.setattr("subprocess.Popen.__init__", _forbidden)
    monkeypatch.setattr("os.posix_spawn", _forbidden)
    canary = tmp_path / "canary"
    filled = arguments.replace("{canary}", str(canary)).replace("{hub}", str(hub.folder))
    await refused(carla, f"!!git.clone {filled.replace('{port}', str(hub.port))}")
    assert not canary.exists() and hub.requests == []
    assert not list((tmp_path / "data" / "code").rglob(".git"))


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a program was started")


async def test_a_playbook_from_a_repository(carla: Client, hub: GitServer) -> None:
    """A url names a repository, a folder or file in one, or a single file; includes in it are followed."""
    hub.commit(
        "acme/tool",
        {
            "README.md": "no action",
            "books/one.hero": "!!play.echo content:one\n!!play.include path:two.heroscript\n!!play.echo content:three",
            "books/two.heroscript": "!!play.echo content:two",
        },
    )
    hub.files["/plain/single.hero"] = b"!!play.echo content:single"
    session_id = await carla.create_session(playbook_url=f"{hub.url('acme/tool')}/tree/main/books/one.hero")
    played = await carla.call("session.play", session_id=session_id)
    assert [item["result"] for item in played["results"]] == ["one", "two", "three"]
    single = await carla.call("session.play", url=hub.url("plain/single.hero"))
    assert [item["result"] for item in single["results"]] == ["single"]
    hub.commit("acme/tool", {"books/one.hero": "!!play.echo content:changed"})
    for flags, expected in (({}, "one"), ({"git_pull": True}, "changed")):
        session_id = await carla.create_session()
        url = f"{hub.url('acme/tool')}/tree/main/books/one.hero"
        played = await carla.call("session.play", session_id=session_id, url=url, **flags)
        assert played["results"][0]["result"] == expected


@pytest.mark.parametrize("path", ["nowhere.hero", "README.md/below", "x" * 300])
async def test_what_a_repository_does_not_have_is_told_without_where_it_lies(
    carla: Client, hub: GitServer, tmp_path: Path, path: str
) -> None:
    """The words name the path in the repository, and nothing of this machine."""
    with pytest.raises(CallError) as refusal:
        await carla.call("session.play", url=f"{hub.url('acme/tool')}/tree/main/{path}")
    assert str(tmp_path) not in str(refusal.value.as_dict()) and refusal.value.kind == "JOB_FAILED"


async def test_an_include_cannot_leave_its_repository(carla: Client, hub: GitServer, tmp_path: Path) -> None:
    """An include in a fetched file stays below the coderoot."""
    (tmp_path / "secret.hero").write_text("!!play.echo content:secret")
    for number, path in enumerate(("../../../../../../../secret.hero", str(tmp_path / "secret.hero"))):
        name = f"inc/r{number}"
        hub.repository(name).close()
        hub.commit(name, {"a.hero": f"!!play.include path:{path}"})
        with pytest.raises(CallError) as refusal:
            await carla.create_session(playbook_url=f"{hub.url(name)}/tree/main/a.hero")
        assert refusal.value.kind == "SOURCE_UNREADABLE"


async def test_coderoot_stays_where_it_may(carla: Client, hub: GitServer, tmp_path: Path) -> None:
    """A coderoot is the user's own folder, or one the operator allowed."""
    for coderoot in ("/tmp/x", "../other", "a/../../..", "..", "."):
        for call in (
            lambda coderoot=coderoot: carla.create_session(coderoot=coderoot),
            lambda coderoot=coderoot: carla.call("context.update", coderoot=coderoot),
        ):
            with pytest.raises(CallError) as refusal:
                await call()
            assert refusal.value.kind == "CODEROOT_REFUSED", coderoot
        assert "coderoot" in await refused(carla, f"!!core.coderoot_set coderoot:'{coderoot}'")
    text = f"!!core.coderoot_set coderoot:mine\n!!git.clone url:{hub.url('acme/tool')}"
    result = (await play(carla, text))[1]["result"]
    assert Path(result["path"]).parts[-4:] == ("mine", "localhost", "acme", "tool")


async def test_no_host_is_allowed_by_default(tmp_path: Path, hub: GitServer) -> None:
    """Without a setting nothing is called, and the refusal names the setting."""
    async with run_server(tmp_path / "data") as server:
        client = await server.client("carla")
        assert "fetch_hosts" in await refused(client, f"!!git.clone url:{hub.url('acme/tool')}")
        with pytest.raises(CallError) as refusal:
            await client.call("session.play", url=hub.url("x.hero"))
        assert "fetch_hosts" in str(refusal.value)
    assert hub.requests == []


async def test_a_private_address_is_not_called(tmp_path: Path, hub: GitServer) -> None:
    """A host that is allowed, but lies on this machine, is not called unless the operator said so too."""
    settings = {**hub.settings, "fetch_private_hosts": ()}
    async with run_server(tmp_path / "data", **settings) as server:
        client = await server.client("carla")
        assert "public network" in await refused(client, f"!!git.clone url:{hub.url('acme/tool')}")
    assert hub.requests == []


async def test_a_redirect_is_checked_too(carla: Client, hub: GitServer) -> None:
    """A redirect to a host that is not allowed, or away from https, leads nowhere."""
    hub.redirects["/go/x.hero"] = "https://elsewhere.example/x.hero"
    hub.redirects["/go/y.hero"] = f"http://{hub.host}/x.hero"
    hub.redirects["/go/z.hero"] = f"https://127.0.0.1:{hub.port}/x.hero"
    for name in "xyz":
        with pytest.raises(CallError) as refusal:
            await carla.call("session.play", url=hub.url(f"go/{name}.hero"))
        assert refusal.value.kind == "JOB_FAILED", name
    assert hub.requests == ["/go/x.hero", "/go/y.hero", "/go/z.hero"]


async def test_too_much_is_refused(tmp_path: Path, hub: GitServer) -> None:
    """A fetch ends when the other host sends more than it may."""
    hub.files["/big/x.hero"] = b"!" * 300_000
    hub.commit("acme/tool", {"big": os.urandom(200_000).hex()})
    async with run_server(tmp_path / "data", **hub.settings, max_fetch_bytes=100_000) as server:
        client = await server.client("carla")
        assert "most a fetch may take" in await refused(client, f"!!git.clone url:{hub.url('acme/tool')}")
        with pytest.raises(CallError) as refusal:
            await client.call("session.play", url=hub.url("big/x.hero"))
        assert "most a fetch may take" in str(refusal.value)
        assert not list((tmp_path / "data" / "code").rglob("tool"))


async def test_two_users_share_no_checkout(allowed: Running, hub: GitServer) -> None:
    """Each user's checkouts lie in a folder of their own."""
    places = set()
    for user in ("carla", "dora"):
        client = await allowed.client(user)
        places.add((await done(client, f"!!git.clone url:{hub.url('acme/tool')}"))["path"])
    assert len(places) == 2


async def test_a_cancelled_play_stops_the_fetch(carla: Client, hub: GitServer, tmp_path: Path) -> None:
    """Cancelling ends an action that waits for another host, and leaves no half of a checkout behind."""
    hub.stall.clear()
    session_id = await carla.create_session()
    text = f"!!git.clone url:{hub.url('acme/tool')}\n!!play.echo content:never"
    started = await carla.call("session.play", session_id=session_id, text=text, detach=True)
    await asyncio.to_thread(hub.asked.wait, 20)
    assert await carla.call("job.cancel", job_id=started["job_id"])
    assert (await carla.call("job.wait", job_id=started["job_id"]))["state"] == "cancelled"
    hub.stall.set()
    found = await carla.call("session.playbook_find", session_id=session_id, filter="")
    assert [(item["state"], (item["error"] or {}).get("kind")) for item in found["items"]] == [
        ("failed", "CANCELLED"),
        ("waiting", None),
    ]
    again = await carla.call("session.play", session_id=session_id)
    assert (again["done"], again["failed"]) == (2, 0)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, "STORAGE_FULL"), (errno.EDQUOT, "STORAGE_FULL"), (errno.EMFILE, "NO_DESCRIPTORS")],
)
async def test_a_full_disk_is_told_as_everywhere(
    carla: Client, hub: GitServer, monkeypatch: pytest.MonkeyPatch, number: int, kind: str
) -> None:
    """A checkout that finds no room, or no descriptor, may be tried again."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkouts, "clone", full)
    [result] = await play(carla, f"!!git.clone url:{hub.url('acme/tool')}")
    assert result["error"]["kind"] == kind
