"""Bring a database to the shape of schema.sql: a new one at once, an older one step by step."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from store.errors import NewerStore

_ROOM = Path(__file__).parent


def schema_path() -> Path:
    """Return where schema.sql lies: inside the installed package, or beside the rooms in a checkout."""
    return _first(_ROOM / "schema.sql", _ROOM.parent / "schema.sql")


def migrations() -> list[tuple[int, Path]]:
    """Return (version, file) of every step, in order; the files are named `NNN_what.sql`."""
    folder = _first(_ROOM / "migrations", _ROOM.parent / "migrations")
    steps = [(int(match[1]), path) for path in folder.iterdir() if (match := re.match(r"(\d+)_.*\.sql$", path.name))]
    return sorted(steps)


def migrate(connection: sqlite3.Connection) -> int:
    """Make or upgrade the tables in one transaction a step, and return the version reached.

    Raises:
        NewerStore: the database is of a later version than this program; it was not touched.
    """
    steps = migrations()
    latest = steps[-1][0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > latest:
        raise NewerStore(
            f"The database has version {version}, this program knows {latest}. Upgrade rpcserver; nothing was changed."
        )
    if version == 0:
        apply(connection, schema_path().read_text("utf-8"), latest)
        return latest
    for number, path in steps:
        if number > version:
            apply(connection, path.read_text("utf-8"), number)
    return latest


def apply(connection: sqlite3.Connection, script: str, version: int) -> None:
    """Run a script and record its version in the same transaction, so that a kill leaves both or neither."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version:d}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _first(*places: Path) -> Path:
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{places[0].name} is missing beside the packages: install rpcserver again")
