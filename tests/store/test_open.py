"""Opening a data folder: what can be wrong with it is said, with what to do."""

import errno
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store import (
    CorruptStore,
    NewerStore,
    NoDescriptors,
    OlderStore,
    Store,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreUnwritable,
)
from store.sqlite import DATABASE

NOBODY = 65534


async def filled(folder: Path, rows: int = 2000) -> Path:
    """Make a store with some rows and return its database file."""
    store = await Store.open(folder)
    await store.write(
        lambda tx: tx.many(
            "INSERT INTO server_values (name, value) VALUES (?, ?)", [(f"n{n}", "v" * 100) for n in range(rows)]
        )
    )
    await store.close()
    return folder / DATABASE


async def test_a_folder_named_from_here_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data folder may be given relative to where one stands."""
    monkeypatch.chdir(tmp_path)
    store = await Store.open(Path("some data?#%"))
    assert await store.read(lambda tx: tx.one("SELECT count(*) FROM users")) == (0,)
    await store.close()


async def test_a_folder_in_use_names_the_process(tmp_path: Path) -> None:
    """A second server on the same folder is told whose it is."""
    store = await Store.open(tmp_path)
    with pytest.raises(StoreLocked, match=rf"process {os.getpid()}\b"):
        await Store.open(tmp_path)
    await store.close()
    again = await Store.open(tmp_path)
    await again.close()


HOLDER = """
import asyncio, sys
from pathlib import Path
from store import Store

async def main():
    store = await Store.open(Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[int]:
    """Hold a store open in another process, and kill that in the end."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], **pipes) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
        yield holder.pid
        holder.kill()


async def test_a_folder_in_use_by_another_process(tmp_path: Path) -> None:
    """The lock holds between processes, and goes with the process however it ends."""
    with held_elsewhere(tmp_path) as pid, pytest.raises(StoreLocked, match=rf"process {pid}\b"):
        await Store.open(tmp_path)
    store = await Store.open(tmp_path)
    await store.close()


def test_an_unwritable_folder_says_so(tmp_path: Path) -> None:
    """A folder this user may not write to is refused, naming --data; nothing is made there."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    code = """
        import asyncio, os, sys
        from pathlib import Path
        from store import Store, StoreUnwritable
        asyncio.run(asyncio.to_thread(int))  # loads what the other user may not be able to read
        if os.geteuid() == 0:  # permissions do not bind root
            os.setgroups([]); os.setgid(%d); os.setuid(%d)
        try:
            asyncio.run(Store.open(Path("locked/data")))
        except StoreUnwritable as error:
            sys.exit(str(error))
    """
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o055)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code % (NOBODY, NOBODY))],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1
    assert "cannot be written" in ran.stderr and "--data" in ran.stderr
    assert list(folder.iterdir()) == []


async def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    """A data folder that is a file is refused."""
    (tmp_path / "file").write_text("here")
    with pytest.raises(StoreUnwritable, match="is a file: give --data a folder"):
        await Store.open(tmp_path / "file")


@pytest.mark.parametrize(
    ("number", "refusal", "remedy"),
    [
        ("EROFS", StoreUnwritable, "mounted read-only: mount it for writing, or give --data"),
        ("ENOSPC", StoreFull, "its disk is full. Free some space"),
        ("EDQUOT", StoreFull, "its disk is full. Free some space"),
        ("EMFILE", NoDescriptors, "as many files open as it may"),
        ("EIO", StoreFailed, "reports errors: look at it"),
        ("EACCES", StoreUnwritable, "by this user: give --data"),
    ],
)
async def test_a_folder_that_cannot_be_opened_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, refusal: type[StoreError], remedy: str
) -> None:
    """Each with what to do about it, and never in the words of the system alone."""

    class ReadOnly:
        f_flag = os.ST_RDONLY if number == "EROFS" else 0

    def fails(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, number), "so")

    monkeypatch.setattr("builtins.open", fails)
    monkeypatch.setattr(os, "statvfs", lambda path: ReadOnly)
    with pytest.raises(refusal, match=remedy):
        await Store.open(tmp_path / "data")


async def test_a_database_that_is_none(tmp_path: Path) -> None:
    """A file that is no database is refused, and stays as it is."""
    database = await filled(tmp_path)
    garbage = b"garbage!" * 1000
    database.write_bytes(garbage)
    with pytest.raises(CorruptStore, match="damaged"):
        await Store.open(tmp_path)
    assert database.read_bytes() == garbage


async def test_a_database_with_flipped_bytes(tmp_path: Path) -> None:
    """Damage inside the file is found at the start and not in the middle of the work."""
    database = await filled(tmp_path)
    content = bytearray(database.read_bytes())
    chance = random.Random(7)
    for page in range(5, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 64] = chance.randbytes(64)
    database.write_bytes(content)
    with pytest.raises(CorruptStore, match="backup"):
        await Store.open(tmp_path)
    assert database.read_bytes() == content


async def test_a_database_cut_short(tmp_path: Path) -> None:
    """A database that lost its end is refused."""
    database = await filled(tmp_path)
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2)
    with pytest.raises(CorruptStore):
        await Store.open(tmp_path)


async def test_a_refused_folder_is_let_go(tmp_path: Path) -> None:
    """A start that failed holds no lock: with the backup in place the next one works."""
    database = await filled(tmp_path)
    good = database.read_bytes()
    database.write_bytes(b"garbage!" * 1000)
    with pytest.raises(CorruptStore):
        await Store.open(tmp_path)
    database.write_bytes(good)
    store = await Store.open(tmp_path)
    await store.close()


@pytest.mark.parametrize(("version", "refusal"), [(999, NewerStore), (8, OlderStore), (1, OlderStore)])
async def test_a_database_of_another_version_is_refused_untouched(
    tmp_path: Path, version: int, refusal: type[StoreError]
) -> None:
    """A later version must not be written to, an earlier one is never half converted; both are said with the number."""
    database = await filled(tmp_path)
    connection = sqlite3.connect(database)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(refusal, match=f"version {version}, .* nothing was changed"):
        await Store.open(tmp_path)
    assert database.read_bytes() == before


async def test_commits_are_durable(store: Store) -> None:
    """The writing connection keeps a write-ahead log, forces it to the disk, and checks foreign keys."""
    for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        assert store._connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
