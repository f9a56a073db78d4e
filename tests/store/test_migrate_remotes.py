"""Bringing an older database to remotes and scripts with policies."""

import sqlite3

from core import remotes, scripts
from core.calls import Scene
from store.migrate import apply, migrate, migrations
from store.tx import SqliteTx


def test_questions_and_definitions_of_an_older_database_go_on() -> None:
    """A question that waited, a call that was told, a remote and a script are there as they were."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    for number, path in migrations():
        if number < 6:
            apply(connection, path.read_text("utf-8"), number)
    for statement in (
        "INSERT INTO tokens (id, type, owner_id, name, created_at) VALUES ('t_1', 'user', 'u_1', 'anna', 1)",
        "INSERT INTO users (id, name, token_id, home_set_id, landing_set_id, wallet_set_id, created_at)"
        " VALUES ('u_1', 'anna', 't_1', 's', 's', 's', 1)",
        "INSERT INTO scripts (id, owner_id, name, text, created_at) VALUES ('sc_1', 'u_1', 's', '1', 1)",
        "INSERT INTO remotes (id, owner_id, name, kind, definition, created_at)"
        """ VALUES ('rm_1', 'u_1', 'r', 'manual', '{"question": "Well?", "timeout_s": 600}', 1)""",
        "INSERT INTO remote_activity (id, remote_id, token_id, attribute, caller_id, answerer_id, state, question,"
        " expires_at, created_at) VALUES ('ra_1', 'rm_1', 't_1', 'x', 'u_2', 'u_1', 'pending', '{}', 99, 1)",
        "INSERT INTO remote_activity (id, remote_id, caller_id, state, code, duration_ms, created_at, finished_at)"
        " VALUES ('ra_2', 'rm_1', 'u_2', 'succeeded', 200, 5, 1, 6)",
    ):
        connection.execute(statement)
    migrate(connection)
    rows = connection.execute("SELECT id, state, question, expires_at, code, job_id FROM remote_activity ORDER BY id")
    assert rows.fetchall() == [("ra_1", "pending", "{}", 99, None, None), ("ra_2", "succeeded", None, None, 200, None)]
    scene = Scene(SqliteTx(connection), "u_1")
    remote, script = remotes.get(scene, "rm_1"), scripts.get(scene, "sc_1")
    assert (remote.definition.question, remote.definition.direction) == ("Well?", "read_and_write_remote")
    assert (remote.is_retired, remote.group_id, remote.redirect_id) == (False, None, None)
    assert (script.text, script.is_retired, script.extra_params, script.output_keys) == ("1", False, {}, [])
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
