"""rpcserver backup and restore: complete while the server works, private, and never mistaken for the same past."""

import asyncio
import os
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rpcserver import backup as archive
from rpcserver.client import Client
from store import BackupError, Store, StoreError
from tests.conftest import Process, run_cli


async def cli(*arguments: str) -> str:
    """Run the command line, which must succeed, and return what it printed."""
    done = await asyncio.to_thread(run_cli, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Writing:
    """A user who creates sessions without a pause; after the first twenty each is destroyed at once."""

    def __init__(self, client: Client) -> None:
        self.kept: dict[str, str] = {}
        self.destroyed: set[str] = set()
        self.begun, self.is_over = asyncio.Event(), asyncio.Event()
        self.count = 0
        self._client = client

    async def run(self) -> None:
        """Write until it is over."""
        while not self.is_over.is_set():
            name = f"session {self.count}"
            self.count += 1
            session_id = await self._client.create_session(name)
            if self.count <= 20:
                self.kept[name] = session_id
            else:
                await self._client.destroy_session(session_id)
                self.destroyed.add(name)
            if self.count == 40:
                self.begun.set()


async def test_a_backup_under_writes_is_complete(serve: Callable[..., Process], tmp_path: Path) -> None:
    """What was acknowledged before a backup began is in it, whole, although writes go on; restored it works."""
    process = serve()
    credential = await cli("user", "add", "anna", "--data", str(process.data))
    backup, restored = tmp_path / "backup.tar", tmp_path / "restored"
    async with Client(process.url, credential) as client, asyncio.TaskGroup() as tasks:
        epoch = client.hello["epoch"]
        writing = Writing(client)
        tasks.create_task(writing.run())
        await writing.begun.wait()
        before, gone = writing.count, set(writing.destroyed)
        await cli("backup", str(backup), "--data", str(process.data))
        assert writing.count > before, "nothing was written meanwhile"
        writing.is_over.set()

    await cli("restore", str(backup), "--data", str(restored))
    with closing(sqlite3.connect(restored / "rpcserver.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    other = serve(restored)
    async with Client(other.url, credential) as client:
        there = {session.name: session.session_id for session in await client.list_sessions()}
        assert writing.kept.items() <= there.items()
        assert not gone & set(there)
        assert client.hello["epoch"] != epoch
        assert (await client.subscribe("*", since=(epoch, 0))).recovered is False


async def test_a_backup_without_a_server(tmp_path: Path) -> None:
    """A folder that no server uses is backed up directly; only its owner can read what comes of it."""
    data, backup = tmp_path / "data", tmp_path / "backup.tar"
    await cli("user", "add", "anna", "--data", str(data))
    (data / "kvs").mkdir()
    with closing(sqlite3.connect(data / "kvs" / "one.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE kv (k, v)")
        connection.execute("INSERT INTO kv VALUES ('a', 1)")
        connection.commit()
        await cli("backup", str(backup), "--data", str(data))
    assert backup.stat().st_mode & 0o777 == 0o600
    with tarfile.open(backup) as tar:
        assert sorted(tar.getnames()) == ["kvs/one.db", "rpcserver.db"]
    await cli("restore", str(backup), "--data", str(tmp_path / "restored"))
    with closing(sqlite3.connect(tmp_path / "restored" / "kvs" / "one.db")) as connection:
        assert connection.execute("SELECT v FROM kv WHERE k = 'a'").fetchone() == (1,)


async def test_a_backup_overwrites_nothing(serve: Callable[..., Process], tmp_path: Path) -> None:
    """A name that is taken, or inside the data folder, is refused by a running server with the remedy."""
    process = serve()
    taken = tmp_path / "taken"
    taken.write_text("precious")
    for file, remedy in ((taken, "give another name"), (process.data / "b.tar", "put it somewhere else")):
        refused = await asyncio.to_thread(run_cli, "backup", str(file), "--data", str(process.data))
        assert refused.returncode == 1
        assert remedy in refused.stderr
    assert taken.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["data", "server.log", "taken"]


async def test_restore_harms_no_folder_in_use(serve: Callable[..., Process], tmp_path: Path) -> None:
    """A folder with something in it is left alone, one in use by a server even with --replace."""
    process, backup = serve(), tmp_path / "backup.tar"
    await cli("backup", str(backup), "--data", str(process.data))
    for flags, remedy in ((), "--replace"), (("--replace",), "Stop it first"):
        refused = await asyncio.to_thread(run_cli, "restore", str(backup), "--data", str(process.data), *flags)
        assert refused.returncode == 1
        assert remedy in refused.stderr
    assert process.stop() == 0
    said = await cli("restore", str(backup), "--data", str(process.data), "--replace")
    aside = Path(said.removeprefix("what was there lies in "))
    assert (aside / "rpcserver.db").is_file()
    assert (process.data / "rpcserver.db").is_file()


@pytest.mark.parametrize("name", ["../outside", "/outside", "rpcserver.db/../../outside"])
def test_restore_writes_nothing_outside_the_folder(tmp_path: Path, name: str) -> None:
    """A tar file that is no backup of ours is refused whole."""
    hostile = tmp_path / "hostile.tar"
    (tmp_path / "payload").write_text("x")
    with tarfile.open(hostile, "w") as tar:
        tar.add(tmp_path / "payload", name)
    with pytest.raises(BackupError, match="is no backup of rpcserver"):
        archive.restore(hostile, tmp_path / "data")
    assert sorted(os.listdir(tmp_path)) == ["hostile.tar", "payload"]


def test_restore_refuses_what_is_damaged(tmp_path: Path) -> None:
    """A backup that was cut off, or holds a damaged database, leaves no folder behind."""
    data, backup = tmp_path / "data", tmp_path / "backup.tar"
    asyncio.run(_empty_store(data))
    archive.write(data, backup)
    whole = backup.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not a tar file at all", whole[:5000] + b"\xff" * 3000 + whole[8000:]):
        backup.write_bytes(damaged)
        with pytest.raises(StoreError):
            archive.restore(backup, tmp_path / "restored")
        assert not (tmp_path / "restored").exists()


async def _empty_store(folder: Path) -> None:
    await (await Store.open(folder)).close()
