"""Bring a database to the shape of schema.sql: a new one is made, one of another version refused.

Versions 1 to 9 were steps of the time before the first release; a step from this version to the next one will be a
script given to `apply`.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from store.errors import NewerStore, OlderStore

_ROOM = Path(__file__).parent

SCHEMA_VERSION = 14  # of schema.sql, kept in the database as its `user_version`; 0 is an empty database


def schema_path() -> Path:
    """Return where schema.sql lies: inside the installed package, or beside the rooms in a checkout."""
    for path in (_ROOM / "schema.sql", _ROOM.parent / "schema.sql"):
        if path.exists():
            return path
    raise FileNotFoundError("schema.sql is missing beside the packages: install rpcserver again")


def migrate(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty database in one transaction; leave those of today's version as they are.

    Raises:
        NewerStore, OlderStore: the database is of a version that this program cannot use; it was not touched.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == 0:
        apply(connection, schema_path().read_text("utf-8"), SCHEMA_VERSION)
    elif version > SCHEMA_VERSION:
        raise NewerStore(
            f"The database has version {version}, this program knows {SCHEMA_VERSION}."
            " Upgrade rpcserver; nothing was changed."
        )
    elif version < SCHEMA_VERSION:
        raise OlderStore(
            f"The database has version {version}, from before the first release; this program needs {SCHEMA_VERSION}"
            " and cannot convert it. Give --data a new folder, or go on with the rpcserver that made this one;"
            " nothing was changed."
        )


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
