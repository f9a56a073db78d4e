"""Contexts and key-value stores over the wire: whose they are, where they lie, and that they are apart."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rpcserver.app import sweep
from rpcserver.client import CallError, Client
from rpcserver.sessions import rows as sessions
from tests.conftest import Running, run_server
from tests.protocol.test_events import until


async def test_a_store_of_a_session_and_one_of_its_context(anna: Client, server: Running) -> None:
    """get, set, exists, delete, keys, destroy; each value is a readable file below the data folder."""
    for about, noun in (({"session_id": await anna.create_session("work")}, "session"), ({}, "context")):
        first = await anna.call(f"{noun}.db.set", **about, key="app/one", value="värde\n2")
        assert await anna.call(f"{noun}.db.set", **about, key="app/one", value="new") == first
        await anna.call(f"{noun}.db.set", **about, key="../../etc/passwd", value="harmless")
        assert await anna.call(f"{noun}.db.get", **about, key="APP/ONE") == "new"
        assert await anna.call(f"{noun}.db.exists", **about, key="app/one")
        keys = await anna.call(f"{noun}.db.keys", **about)
        assert keys == {"items": ["../../etc/passwd", "app/one"], "next_cursor": None}
        assert (await anna.call(f"{noun}.db.keys", **about, prefix="app"))["items"] == ["app/one"]
        assert await anna.call(f"{noun}.db.delete", **about, key="app/one")
        assert not await anna.call(f"{noun}.db.delete", **about, key="app/one")
        with pytest.raises(CallError) as missing:
            await anna.call(f"{noun}.db.get", **about, key="app/one")
        assert missing.value.kind == "KEY_NOT_FOUND"
        texts = await asyncio.to_thread(_texts, server.services.settings.data / "stores")
        assert any("harmless" in text for text in texts)
        assert await anna.call(f"{noun}.db.destroy", **about)
        assert (await anna.call(f"{noun}.db.keys", **about))["items"] == []
        with pytest.raises(CallError):
            await anna.call(f"{noun}.db.set", **about, key="k", value="")


def _texts(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()]


async def test_stores_are_apart(anna: Client, bob: Client) -> None:
    """Two sessions, two contexts and two users never see each other's."""
    first, second = await anna.create_session("one"), await anna.create_session("two")
    places: list[tuple[Client, str, dict[str, Any]]] = [
        (anna, "session", {"session_id": first}),
        (anna, "session", {"session_id": second}),
        (anna, "context", {"context_name": "default"}),
        (anna, "context", {"context_name": "other"}),
        (bob, "context", {"context_name": "default"}),
        (bob, "session", {"session_id": await bob.create_session("one")}),
    ]
    for number, (client, noun, about) in enumerate(places):
        assert not await client.call(f"{noun}.db.exists", **about, key="k")
        await client.call(f"{noun}.db.set", **about, key="k", value=f"value {number}")
    for number, (client, noun, about) in enumerate(places):
        assert await client.call(f"{noun}.db.get", **about, key="k") == f"value {number}"


async def test_a_store_goes_with_its_session(anna: Client, server: Running) -> None:
    """Destroying a session removes its files; the context's stay."""
    session_id = await anna.create_session()
    await anna.call("session.db.set", session_id=session_id, key="k", value="of-the-session")
    await anna.call("context.db.set", key="k", value="of-the-context")
    await anna.destroy_session(session_id)
    texts = "".join(await asyncio.to_thread(_texts, server.services.settings.data / "stores"))
    assert "of-the-context" in texts and "of-the-session" not in texts


async def test_keys_come_page_by_page(anna: Client) -> None:
    """Sorted, by prefix, each once."""
    session_id = await anna.create_session()
    for number in range(23):
        await anna.call("session.db.set", session_id=session_id, key=f"{'ab'[number % 2]}_{number:02}", value="v")
    seen: list[str] = []
    cursor = None
    while True:
        page = await anna.call("session.db.keys", session_id=session_id, prefix="a", limit=5, cursor=cursor)
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"a_{number:02}" for number in range(0, 23, 2)]


KEYS = [
    ".", "..", "...", "/", "//", "a/../b", "~", "a\0b", "\n", "a b", "a--b", "%", "%2e%2e", "=1", "+x", ".meta", ".ids",
    ".lock", ".new-1", "config", "con", "nul.txt", "x" * 300, "日" * 300, "é", "🚀", "a\\b", "'; DROP TABLE jobs",
    "-rf", "*", "a" * 1000,
]  # fmt: skip


async def test_any_key_is_safe(anna: Client, server: Running, tmp_path: Path) -> None:
    """Each of them keeps its value apart from all others, below the data folder; blank or longer ones are refused."""
    session_id = await anna.create_session()
    before = set(await asyncio.to_thread(lambda: list(tmp_path.iterdir())))
    kept = {}
    for key in KEYS:
        try:
            await anna.call("session.db.set", session_id=session_id, key=key, value=f"value of {key}")
            kept[key] = f"value of {key}"
        except CallError as error:
            assert (key, error.kind) == ("\n", "BAD_KEY")
    for key, value in kept.items():
        assert await anna.call("session.db.get", session_id=session_id, key=key) == value, key
    listed = (await anna.call("session.db.keys", session_id=session_id, limit=200))["items"]
    assert len(listed) == len(kept)
    for key in listed:
        assert await anna.call("session.db.delete", session_id=session_id, key=key), key
    assert set(await asyncio.to_thread(lambda: list(tmp_path.iterdir()))) == before
    for key in ("", "a" * 1001):
        with pytest.raises(CallError) as refused:
            await anna.call("session.db.set", session_id=session_id, key=key, value="v")
        assert refused.value.kind == "INVALID_PARAMS"


async def test_a_hundred_writers_lose_nothing(anna: Client, server: Running) -> None:
    """A hundred calls in flight at once, from four connections, each store their own."""
    session_id = await anna.create_session()
    clients = [anna, *[await server.client("anna") for _ in range(3)]]
    calls = [
        clients[number % 4].call("session.db.set", session_id=session_id, key=f"k{number}", value=str(number))
        for number in range(100)
    ]
    assert len(set(await asyncio.gather(*calls))) == 100
    keys = await anna.call("session.db.keys", session_id=session_id, limit=200)
    assert len(keys["items"]) == 100
    assert await anna.call("session.db.get", session_id=session_id, key="k57") == "57"


async def test_stores_can_be_sealed(tmp_path: Path) -> None:
    """With the operator's secret nothing of a value is readable on the disk; another secret opens nothing."""
    data = tmp_path / "data"
    async with run_server(data, stores_secret="correct horse") as server:
        anna = await server.client("anna")
        await anna.call("context.db.set", key="k", value="very-private-value")
        assert await anna.call("context.db.get", key="k") == "very-private-value"
        credential = await server.credential("anna")
    content = await asyncio.to_thread(lambda: b"".join(p.read_bytes() for p in data.rglob("*") if p.is_file()))
    assert b"very-private-value" not in content
    async with run_server(data, stores_secret="wrong horse") as server, Client(server.url, credential) as anna:
        with pytest.raises(CallError) as refused:
            await anna.call("context.db.get", key="k")
        assert refused.value.kind == "BAD_SECRET"


async def test_secrets_are_sealed_with_a_key_of_the_folder(anna: Client, server: Running) -> None:
    """Without any setting a context's secrets are not readable from its files, and the key is the operator's alone."""
    await anna.call("context.db.set", key="token", value="sesame-sesame", secret=True)
    assert (await anna.call("context.db.keys", secret=True))["items"] == ["token"]
    assert (await anna.call("context.db.keys"))["items"] == []
    stores = server.services.settings.data / "stores"
    content = await asyncio.to_thread(lambda: b"".join(p.read_bytes() for p in stores.rglob("*") if p.is_file()))
    assert b"sesame-sesame" not in content
    assert (await asyncio.to_thread((stores / "secrets.key").stat)).st_mode & 0o077 == 0


async def test_contexts(anna: Client, bob: Client) -> None:
    """Each user has his own, numbered; a session brings its context about; what they share can be changed."""
    assert (await anna.call("context.get"))["id"] == 0
    await anna.create_session("in-other", context_name="other")
    listed = (await anna.call("contexts.list"))["items"]
    assert [(item["id"], item["name"]) for item in listed] == [(0, "default"), (1, "other")]
    changed = await anna.call("context.update", context_name="other", params="region:eu fast", interactive=False)
    assert changed["params"] == {"region": "eu", "fast": ""} and changed["interactive"] is False
    assert (await anna.call("context.get", context_name="other"))["params"] == {"region": "eu", "fast": ""}
    assert (await bob.call("contexts.list"))["items"] == []
    page = await anna.call("contexts.list", limit=1)
    assert (await anna.call("contexts.list", limit=1, cursor=page["next_cursor"]))["items"][0]["name"] == "other"
    for name in ("..", "a", "a/b", ".hidden", "x" * 200):
        with pytest.raises(CallError) as refused:
            await anna.call("context.get", context_name=name)
        assert refused.value.kind == "INVALID_PARAMS"


async def test_the_arguments_of_a_session(anna: Client) -> None:
    """The seed's PlayArgs: params as heroscript, a start, a coderoot, a context, and a name by the time."""
    session_id = await anna.create_session(params="env:prod 'two words'", start="2026-03-04 05:06", coderoot="mine")
    record = await anna.get_session(session_id)
    assert record.params == {"env": "prod", "two words": ""}
    assert record.start == 1772600760000
    with pytest.raises(CallError) as refused:
        await anna.create_session(start="soon")
    assert refused.value.kind == "BAD_SCRIPT"
    with pytest.raises(CallError):
        await anna.create_session(playbook_text="!!a.b", playbook_path="x")


async def test_what_a_kill_left_is_swept_at_the_start(tmp_path: Path) -> None:
    """Half made files and folders, and stores of sessions that are gone, are removed; what is somebody's stays."""
    data = tmp_path / "data"
    async with run_server(data) as server:
        anna = await server.client("anna")
        kept, gone = await anna.create_session("kept"), await anna.create_session("gone")
        for session_id in (kept, gone):
            await anna.call("session.db.set", session_id=session_id, key="k", value=session_id)
        await anna.call("context.db.set", key="s", value="secret", secret=True)
        credential, user_id = await server.credential("anna"), await server.user_id("anna")
        # Killed when the rows were gone, and the files were not.
        await server.services.store.write(lambda tx: sessions.remove(tx, gone))
    context = data / "stores" / user_id / "default"
    leftovers = [
        context / ".ids" / ".new-1-abc",
        context / f"session_{kept}" / ".new-1-abc",
        context / ".gone-abc" / "k",
        context / "half" / ".new-1-abc",
        data / "stores" / user_id / "unused" / ".ids",
        data / "stores" / "u_none" / "unused" / ".ids",
        data / "stores" / ".secrets.key-abc",
    ]
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if path.name == ".ids" else path.write_text("x")
    leftovers.append(context / f"session_{gone}")
    async with run_server(data) as server:
        server.credentials["anna"] = credential
        await sweep(server.services)
        # The server sweeps by itself, too: what it has in hand just now it takes away in a moment.
        leftovers += [context / ".gone-abc", context / "half"]
        await until(lambda: not [path for path in leftovers if path.exists()])
        anna = await server.client("anna")
        assert await anna.call("session.db.get", session_id=kept, key="k") == kept
        await anna.call("session.db.set", session_id=kept, key="k", value="again")


def _no(number: int) -> Callable[..., Any]:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fails


ERRORS = [
    ("ENOSPC", "STORAGE_FULL", True),
    ("EDQUOT", "STORAGE_FULL", True),
    ("EMFILE", "NO_DESCRIPTORS", True),
    ("ENFILE", "NO_DESCRIPTORS", True),
    ("EROFS", "STORAGE_FAILED", False),
    ("EIO", "STORAGE_FAILED", False),
    ("EACCES", "STORAGE_FAILED", False),
    ("ENOTDIR", "STORAGE_FAILED", False),
]


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("set", {"key": "new", "value": "v"}),
    ("set", {"key": "old", "value": "w"}),
    ("get", {"key": "old"}),
    ("exists", {"key": "old"}),
    ("keys", {}),
    ("delete", {"key": "old"}),
    ("destroy", {}),
]


@pytest.mark.parametrize("method", ["os.fsync", "os.replace", "os.rename", "os.open", "os.scandir", "builtins.open"])
@pytest.mark.parametrize(("number", "kind", "is_retryable"), ERRORS, ids=lambda value: str(value))
async def test_an_error_of_the_disk_is_told_alike_by_every_call(
    anna: Client, monkeypatch: pytest.MonkeyPatch, method: str, number: str, kind: str, is_retryable: bool
) -> None:
    """Whichever operation of the disk fails with it: never an internal error, and nothing acknowledged is lost."""
    session_id = await anna.create_session()
    told = 0
    for verb, params in CALLS:
        await anna.call("session.db.set", session_id=session_id, key="old", value="v")
        with monkeypatch.context() as patch:
            patch.setattr(method, _no(getattr(errno, number)))
            try:
                await anna.call(f"session.db.{verb}", session_id=session_id, **params)
                continue  # it needed nothing of the kind
            except CallError as error:
                assert (error.kind, error.data["retryable"]) == (kind, is_retryable), (verb, error)
                told += 1
        if method != "os.fsync":  # after that nobody knows
            assert await anna.call("session.db.get", session_id=session_id, key="old") == "v", verb
    assert told
