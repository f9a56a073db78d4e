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


def test_users_of_an_older_database_get_a_group_of_their_own() -> None:
    """Named `@user`, with the user as its admin; a group that bore such a name keeps its people under another."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for number, step in migrations()[:5]:
        apply(connection, step.read_text("utf-8"), number)
    for name in ("anna", "bob"):
        token = ("INSERT INTO tokens (id, type, owner_id, name, created_at) VALUES (?, 'user', ?, ?, 1)",)
        connection.execute(*token, (f"t_{name}", f"u_{name}", name))
        connection.execute(
            "INSERT INTO users (id, name, token_id, home_set_id, landing_set_id, wallet_set_id, created_at)"
            " VALUES (?, ?, ?, 'h', 'l', 'w', 1)",
            (f"u_{name}", name, f"t_{name}"),
        )
    connection.execute("INSERT INTO user_groups (id, name, owner_id, created_at) VALUES ('g_1', '@anna', 'u_bob', 1)")
    connection.execute("INSERT INTO user_group_members (group_id, user_id) VALUES ('g_1', 'u_bob')")
    migrate(connection)
    groups = connection.execute("SELECT id, name, owner_id FROM user_groups ORDER BY id").fetchall()
    assert groups == [("g_1", "group @anna g_1", "u_bob"), ("g_anna", "@anna", "u_anna"), ("g_bob", "@bob", "u_bob")]
    assert connection.execute("SELECT group_id FROM users ORDER BY id").fetchall() == [("g_anna",), ("g_bob",)]
    people = connection.execute("SELECT * FROM user_group_members ORDER BY group_id").fetchall()
    assert people == [("g_1", "u_bob", 0), ("g_anna", "u_anna", 1), ("g_bob", "u_bob", 1)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
