"""Bringing an older database to the world of rules and commands."""

import sqlite3

from store.migrate import apply, migrate, migrations


def test_commands_of_an_older_database_are_found() -> None:
    """A command that stood in a set before there was an index of commands is in it afterwards, and nothing else is."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    number, first = migrations()[0]
    apply(connection, first.read_text("utf-8"), number)
    for token_id, type in (("t_set", "set"), ("t_command", "command"), ("t_note", "note")):
        connection.execute(
            "INSERT INTO tokens (id, type, owner_id, name, created_at) VALUES (?, ?, 'u_1', 'name', 1)",
            (token_id, type),
        )
    connection.execute("INSERT INTO sets (id, token_id, created_at) VALUES ('set_1', 't_set', 1)")
    for rank, token_id in enumerate(("t_command", "t_note")):
        connection.execute(
            "INSERT INTO members (set_id, token_id, kind, sort, rank) VALUES ('set_1', ?, 'member', 'name', ?)",
            (token_id, rank),
        )
    migrate(connection)
    assert connection.execute("SELECT set_id, token_id FROM commands").fetchall() == [("set_1", "t_command")]
    connection.close()
