"""What remotes did: every call, when and how it ended, never what was sent or answered.

Only a manual remote keeps its question and answer, until both are read. Source: sessions.md 4.2, 4.4.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from core.calls import Scene, core_call
from core.errors import ActivityNotFound, RemoteNotFound
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
        " AND (? IS NULL OR state = ?) ORDER BY id DESC LIMIT ?",
        remote_id or scene.user_id,
        *((after[0] if after else None,) * 2),
        *((state,) * 2),
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
    """Answer a manual remote that waits for the caller. Raises ActivityNotFound when none does, or not any more."""
    changed = scene.tx.run(
        "UPDATE remote_activity SET state = 'answered', answer = ?, finished_at = ?"
        " WHERE id = ? AND answerer_id = ? AND state = 'pending'",
        *(json.dumps(answer), now_ms(), activity_id, scene.user_id),
    )
    if not changed:
        raise ActivityNotFound(activity_id)
    return get(scene, activity_id)


@core_call("core.remote.activity.note")
def note(scene: Scene, remote_id: str, token_id: str | None, state: Ending, code: int | None, duration_ms: int) -> None:
    """Record a call that is over. The newest thousand of a remote are kept."""
    now = now_ms()
    activity_id = new_id("ra_")
    scene.tx.run(
        "INSERT INTO remote_activity (id, remote_id, token_id, caller_id, state, code, duration_ms, created_at,"
        " finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(activity_id, remote_id, token_id, scene.user_id, state, code, duration_ms, now - duration_ms, now),
    )
    _prune(scene.tx, remote_id)


@core_call("core.remote.activity.ask")
def ask(scene: Scene, remote_id: str, token_id: str | None, answerer_id: str, question: Any) -> str:
    """Put a manual remote's question before a person and return the activity's id."""
    activity_id = new_id("ra_")
    scene.tx.run(
        "INSERT INTO remote_activity (id, remote_id, token_id, caller_id, answerer_id, state, question, created_at)"
        " VALUES (?, ?, ?, ?, ?, 'pending', ?, ?)",
        *(activity_id, remote_id, token_id, scene.user_id, answerer_id, json.dumps(question), now_ms()),
    )
    _prune(scene.tx, remote_id)
    return activity_id


@core_call("core.remote.activity.take")
def take(scene: Scene, activity_id: str, is_last: bool = False) -> tuple[bool, Any]:
    """Return whether a question of the caller's is answered, and the answer, which is then forgotten.

    Args:
        is_last: nobody waits any longer: a question still open expires.
    """
    row = scene.tx.one(
        "SELECT state, answer FROM remote_activity WHERE id = ? AND caller_id = ?", activity_id, scene.user_id
    )
    if row is None:
        raise ActivityNotFound(activity_id)
    ended = {"answered": "succeeded"}.get(row[0], "expired" if is_last and row[0] == "pending" else None)
    if ended is not None:
        scene.tx.run(
            "UPDATE remote_activity SET state = ?, question = NULL, answer = NULL,"
            " finished_at = coalesce(finished_at, ?), duration_ms = ? - created_at WHERE id = ?",
            *(ended, now_ms(), now_ms(), activity_id),
        )
    return row[0] == "answered", json.loads(row[1]) if row[1] is not None else None


def _prune(tx: Tx, remote_id: str) -> None:
    tx.run(
        "DELETE FROM remote_activity WHERE remote_id = ? AND state <> 'pending' AND id <="
        " (SELECT id FROM remote_activity WHERE remote_id = ? ORDER BY id DESC LIMIT 1 OFFSET 1000)",
        *(remote_id, remote_id),
    )


def _activity(row: tuple[Any, ...], user_id: str) -> Activity:
    question = json.loads(row[8]) if row[8] is not None and row[4] == user_id else None
    values = (*row[:8], question, *row[9:])
    return Activity(*values)
