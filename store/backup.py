"""Copies of databases while they are in use, and the claim on a folder that nothing else may use."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from store.errors import CorruptStore
from store.sqlite import _lock_folder

_MAGIC = b"SQLite format 3\x00"


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it stands at one moment, while others read and write it.

    All pages go in one step: in WAL mode that is one snapshot, and no writer waits for it.
    """
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing, pages=-1)
        # A copy is one file: whoever opens it next makes its own log.
        writing.execute("PRAGMA journal_mode = DELETE")


def is_database(path: Path) -> bool:
    """Tell whether a file is an SQLite database, by its first bytes."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def check_database(path: Path) -> None:
    """Read every page and index of a database. Raises CorruptStore."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise CorruptStore(f"{path} is no database that can be read ({error}).") from error
    if verdict != "ok":
        raise CorruptStore(f"{path} is damaged ({verdict}).")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a data folder, so that no server uses it meanwhile. Raises StoreLocked or StoreUnwritable."""
    lock = _lock_folder(folder)
    try:
        yield
    finally:
        lock.close()
