"""What remotes did: every call, when and how it ended, never what was sent or answered.

Only a manual remote keeps its question, until it is answered. Source: sessions.md 4.2, 4.4.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from core.calls import Scene, core_call
from core.errors import ActivityNotFound, RemoteNotFound
from core.known import forget, know
from core.remotes import find as find_remote
from store import Tx, new_id, now_ms

Ending = Literal["succeeded", "failed", "cached", "expired"]
COLUMNS = "id, remote_id, token_id, caller_id, answerer_id, state, code, duration_ms, question, created_at, finished_at"


@dataclass(frozen=True, slots=True)
class Activity:
    """One call of a remote; `question` is there while a manual one waits for its answerer."""

    id: str
    remote_id: str
    token_id: str | None
    caller_id: str
    answerer_id: str | None
    state: str
    code: int | None
    duration_ms: int | None
    question: Any
    created_at: int
    finished_at: int | None


@core_call("core.remote.activity.list", is_reading=True)
def list_(
    scene: Scene,
    remote_id: str | None = None,
    state: str | None = None,
    *,
    limit: int = 50,
    after: tuple[str] | None = None,
) -> tuple[list[Activity], tuple[str] | None]:
    """Return a page, the newest first: of the calls of a remote of the caller's, or of what waits for his answer."""
    if remote_id is not None:
        remote = find_remote(scene.tx, remote_id)
        if remote is None or remote.owner_id != scene.user_id:
            raise RemoteNotFound(remote_id)
    where = "answerer_id = ? AND state = 'pending'" if remote_id is None else "remote_id = ?"
    rows = scene.tx.all(
        f"SELECT {COLUMNS} FROM remote_activity WHERE {where} AND (? IS NULL OR id < ?)"  # noqa: S608 (constants)
        " AND (? IS NULL OR state = ?) AND (state <> 'pending' OR expires_at > ?) ORDER BY id DESC LIMIT ?",
        remote_id or scene.user_id,
        *((after[0] if after else None,) * 2),
        *((state,) * 2),
        now_ms(),
        limit + 1,
    )
    found = [_activity(row, scene.user_id) for row in rows[:limit]]
    return found, (found[-1].id,) if len(rows) > limit else None


@core_call("core.remote.activity.get", is_reading=True)
def get(scene: Scene, activity_id: str) -> Activity:
    """Return a call of a remote of the caller's, one he made, or one he is to answer."""
    row = scene.tx.one(f"SELECT {COLUMNS} FROM remote_activity WHERE id = ?", activity_id)  # noqa: S608
    remote = find_remote(scene.tx, row[1]) if row else None
    if row is None or remote is None or scene.user_id not in (remote.owner_id, row[3], row[4]):
        raise ActivityNotFound(activity_id)
    return _activity(row, scene.user_id)


@core_call("core.remote.activity.update")
def update(scene: Scene, activity_id: str, answer: Any) -> Activity:
    """Answer a manual remote that waits for the caller: whoever asked reads it from the attribute he wrote.

    Raises ActivityNotFound when none waits, or not any more.
    """
    tx, now = scene.tx, now_ms()
    row = tx.one(
        "SELECT token_id, attribute, caller_id, created_at FROM remote_activity"
        " WHERE id = ? AND answerer_id = ? AND state = 'pending' AND expires_at > ?",
        *(activity_id, scene.user_id, now),
    )
    if row is None:
        raise ActivityNotFound(activity_id)
    token_id, attribute, caller_id, created_at = row
    tx.run(
        "UPDATE remote_activity SET state = 'succeeded', question = NULL, finished_at = ?, duration_ms = ?"
        " WHERE id = ?",
        *(now, now - created_at, activity_id),
    )
    know(Scene(tx, caller_id), token_id, attribute, answer)
    return get(scene, activity_id)


@core_call("core.remote.activity.note")
def note(scene: Scene, remote_id: str, token_id: str | None, state: Ending, code: int | None, duration_ms: int) -> None:
    """Record a call that is over. The newest thousand of a remote are kept."""
    now = now_ms()
    scene.tx.run(
        "INSERT INTO remote_activity (id, remote_id, token_id, caller_id, state, code, duration_ms, created_at,"
        " finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(new_id("ra_"), remote_id, token_id, scene.user_id, state, code, duration_ms, now - duration_ms, now),
    )
    _prune(scene.tx, remote_id)


@core_call("core.remote.activity.ask")
def ask(
    scene: Scene, remote_id: str, token_id: str, attribute: str, answerer_id: str, question: Any, timeout_s: float
) -> str:
    """Put a manual remote's question before a person and return the activity's id; what was answered before is past."""
    now = now_ms()
    activity_id = new_id("ra_")
    scene.tx.run(
        "INSERT INTO remote_activity (id, remote_id, token_id, attribute, caller_id, answerer_id, state, question,"
        " expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)",
        *(activity_id, remote_id, token_id, attribute, scene.user_id, answerer_id, json.dumps(question)),
        *(now + int(timeout_s * 1000), now),
    )
    forget(scene, token_id, attribute)
    _prune(scene.tx, remote_id)
    return activity_id


@core_call("core.remote.activity.waiting", is_reading=True)
def waiting(scene: Scene, remote_id: str, token_id: str, attribute: str) -> str | None:
    """Return the question of the caller that a person has not answered yet, None when there is none."""
    row = scene.tx.one(
        "SELECT id FROM remote_activity WHERE remote_id = ? AND token_id = ? AND attribute = ? AND caller_id = ?"
        " AND state = 'pending' AND expires_at > ? ORDER BY id DESC LIMIT 1",
        *(remote_id, token_id, attribute, scene.user_id, now_ms()),
    )
    return row[0] if row else None


def _prune(tx: Tx, remote_id: str) -> None:
    tx.run(
        "UPDATE remote_activity SET state = 'expired', question = NULL, finished_at = expires_at"
        " WHERE remote_id = ? AND state = 'pending' AND expires_at <= ?",
        *(remote_id, now_ms()),
    )
    tx.run(
        "DELETE FROM remote_activity WHERE remote_id = ? AND state <> 'pending' AND id <="
        " (SELECT id FROM remote_activity WHERE remote_id = ? ORDER BY id DESC LIMIT 1 OFFSET 1000)",
        *(remote_id, remote_id),
    )


def _activity(row: tuple[Any, ...], user_id: str) -> Activity:
    question = json.loads(row[8]) if row[8] is not None and row[4] == user_id else None
    values = (*row[:8], question, *row[9:])
    return Activity(*values)
