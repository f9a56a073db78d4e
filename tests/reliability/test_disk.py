"""A server on a disk that is full, read-only, failing or gone: what it says, what it keeps, and how it ends.

The limits of a process stand in for those of a disk: they need no rights, and its system calls fail in the same way.
"""

import asyncio
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.conftest import Process, run_cli

FULL, NO_DESCRIPTORS, FAILED = "STORAGE_FULL", "NO_DESCRIPTORS", "STORAGE_FAILED"


@contextmanager
def limited(process: Process, kind: int, limit: int) -> Iterator[None]:
    """Give a running server a limit inside the block: no file can be written, or none opened."""
    pid = process.process.pid
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (limit, before[1]))
    try:
        yield
    finally:
        if process.process.poll() is None:
            resource.prlimit(pid, kind, before)


def said(process: Process) -> str:
    """Return what the server has logged."""
    return (process.data.parent / "server.log").read_text("utf-8", "replace")


class User:
    """A user of a server, with a session, some values, and what came of each call."""

    def __init__(self, client: Client, session_id: str) -> None:
        self.client, self.session_id = client, session_id
        self.kinds: dict[str, str | None] = {}

    @classmethod
    async def begin(cls, client: Client) -> "User":
        """Make a session with two values."""
        user = cls(client, await client.create_session("first"))
        for key in ("kept", "old"):
            await user.store("set", key=key, value=key)
        return user

    async def store(self, verb: str, **params: Any) -> Any:
        """Make a call on the session's store."""
        return await self.client.call(f"session.db.{verb}", session_id=self.session_id, **params)

    async def try_all(self, name: str) -> None:
        """Make calls of every sort, and keep the kind of each answer."""
        home = (await self.client.call("auth.whoami"))["home_set"]
        for method, params in (
            ("session.create", {"name": name}),
            ("core.set.create", {"name": name, "parent_id": home}),
            ("session.db.set", {"session_id": self.session_id, "key": name, "value": "v"}),
            ("session.db.delete", {"session_id": self.session_id, "key": "old"}),
            ("context.get", {"context_name": name}),
            ("context.db.set", {"context_name": name, "key": "k", "value": "v"}),
            ("session.playbook_add", {"session_id": self.session_id, "text": "!!db.set key:a value:b"}),
            ("credential.create", {"label": name}),
            ("session.update", {"session_id": self.session_id, "name": f"renamed {name}"}),
        ):
            try:
                await self.client.call(method, **params)
            except CallError as error:
                assert error.code != -32603, (method, error)
                assert error.data["retryable"] == (error.kind != FAILED), (method, error)
                self.kinds[method] = error.kind
            else:
                self.kinds[method] = None


async def begun(serve: Callable[..., Process], tmp_path: Path) -> tuple[Process, str]:
    """Start a server, and return it with the credential of a user."""
    process = serve(tmp_path / "data")
    added = await asyncio.to_thread(run_cli, "user", "add", "anna", "--data", str(process.data))
    return process, added.stdout.strip()


async def test_a_full_disk_is_no_outage(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Reads go on, changes are refused and may be tried again, and with room again all goes on without a restart."""
    process, credential = await begun(serve, tmp_path)
    async with Client(process.url, credential) as client:
        user = await User.begin(client)
        with limited(process, resource.RLIMIT_FSIZE, 0):
            await user.try_all("while-full")
            assert {kind for method, kind in user.kinds.items() if method != "session.db.delete"} == {FULL}
            assert await user.store("get", key="kept") == "kept"
            assert (await client.ls(user.session_id)).session_id == user.session_id
        await user.try_all("with-room")
        assert set(user.kinds.values()) == {None}
    assert process.stop() == 0
    process.start()
    async with Client(process.url, credential) as client:
        assert {session.name for session in await client.list_sessions()} == {"with-room", "renamed with-room"}
    assert process.stop() == 0
    assert "Traceback" not in said(process) and '"exception"' not in said(process)


async def test_a_server_stops_on_a_full_disk(serve: Callable[..., Process], tmp_path: Path) -> None:
    """It ends by itself with status 0 and no traceback, and the next start finds all that was acknowledged."""
    process, credential = await begun(serve, tmp_path)
    async with Client(process.url, credential) as client:
        user = await User.begin(client)
    with limited(process, resource.RLIMIT_FSIZE, 0):
        assert process.stop() == 0
    assert "Traceback" not in said(process) and '"exception"' not in said(process)
    process.start()
    async with Client(process.url, credential) as client:
        assert await User(client, user.session_id).store("get", key="kept") == "kept"


async def test_without_descriptors_what_is_open_goes_on(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Rows are read and written; what needs a file is refused, and done when there are descriptors again."""
    process, credential = await begun(serve, tmp_path)
    async with Client(process.url, credential) as client:
        user = await User.begin(client)
        used = len(os.listdir(f"/proc/{process.process.pid}/fd"))
        with limited(process, resource.RLIMIT_NOFILE, used):
            await user.try_all("no-descriptors")
            assert set(user.kinds.values()) == {None, NO_DESCRIPTORS}
            assert user.kinds["session.create"] is None
            gone = await client.create_session("goes again")
            await client.destroy_session(gone)
        await user.try_all("with-descriptors")
        assert set(user.kinds.values()) == {None}
        assert not await user.store("exists", key="old") and await user.store("get", key="kept") == "kept"
    assert process.stop() == 0
    assert "Traceback" not in said(process) and '"exception"' not in said(process)


async def test_a_folder_that_vanishes_is_not_written_on(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Nothing is acknowledged that nobody will find again, nothing is made anew in its place, and the server ends."""
    process, credential = await begun(serve, tmp_path)
    async with Client(process.url, credential) as client:
        user = await User.begin(client)
        operator = await Client(process.url, _operator(process)).__aenter__()
        process.data.rename(tmp_path / "moved")
        await user.try_all("nowhere")
        assert set(user.kinds.values()) == {FAILED}
        for call in (user.store("get", key="kept"), operator.call("operator.backup", path=str(tmp_path / "b.tar"))):
            with pytest.raises(CallError) as refused:
                await call
            assert refused.value.kind in (FAILED, "BACKUP_FAILED")
        await operator.close()
    assert process.stop() == 0
    assert not process.data.exists() and "Traceback" not in said(process)
    shutil.move(tmp_path / "moved", process.data)
    process.start()
    async with Client(process.url, credential) as client:
        assert await User(client, user.session_id).store("get", key="kept") == "kept"


def _operator(process: Process) -> str:
    found = re.search(r'"operator": "([^"]+)"', (process.data / "running.json").read_text())
    assert found
    return found[1]


def started(data: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Try to start a server where it cannot."""
    return run_cli("serve", "--data", str(data), "--port", "0", **options)


def full() -> None:
    """Let the process write nothing into any file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_start_on_a_full_disk_says_so(tmp_path: Path, is_new: bool) -> None:
    """In one line, with what to do, for a folder to be made and for one that is there."""
    data = tmp_path / "data"
    if not is_new:
        assert run_cli("user", "add", "anna", "--data", str(data)).returncode == 0
    refused = started(data, preexec_fn=full)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1 and "disk is full" in refused.stderr, refused.stderr


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    """The advice is to give a folder, for the file and for what would lie in it."""
    (tmp_path / "README.md").write_text("# here")
    for data in (tmp_path / "README.md", tmp_path / "README.md" / "data"):
        refused = started(data)
        assert refused.returncode == 1
        assert "README.md is a file: give --data a folder" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert (tmp_path / "README.md").read_text() == "# here"
