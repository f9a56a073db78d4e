"""What remotes did: every call, each try of one, when and how it ended, never what was sent or answered.

Only a manual remote keeps its question, until it is answered. Source: sessions.md 4.2, 4.4.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.attribute_values import forget_answer, keep_answer
from core.calls import Scene, core_call
from core.errors import ActivityNotFound, RemoteNotFound, TooMany
from core.remotes import find as find_remote
from store import Tx, new_id

State = Literal["pending", "succeeded", "failed", "cached", "declined", "expired", "cancelled"]
Ending = Literal["succeeded", "failed", "cached"]
Resolution = Literal["succeeded", "declined", "expired", "cancelled"]
MAX_KEPT = 1000
MAX_WAITING = 100  # questions of one asker
LATE_MS = 60_000
COLUMNS = (
    "id, remote_id, token_id, caller_id, answerer_id, state, code, duration_ms, question, created_at, finished_at,"
    " job_id, ask_id"
)


@dataclass(frozen=True, slots=True)
class Activity:
    """One call of a remote, or one try of it. `code` is the HTTP status; times are UTC milliseconds.

    Of a manual one: `question` is there while it waits, for its answerer; `ask_id` is the question ask.answer takes,
    `job_id` the job of whoever asked that waits for it.
    """

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
    job_id: str | None
    ask_id: str | None


@dataclass(frozen=True, slots=True)
class Try:
    """One call that is over: its HTTP status if there was one, and when it began, UTC milliseconds.

    `is_sent`: the remote may have heard of it.
    """

    state: Ending
    code: int | None
    duration_ms: int
    began_at: int
    is_sent: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a manual remote puts to a person. `attribute` is the name its answer is kept under."""

    remote_id: str
    token_id: str
    attribute: str
    answerer_id: str
    details: dict[str, Any]
    timeout_s: float


@core_call("core.remote.activity.list", is_reading=True)
def list_(
    scene: Scene,
    remote_id: str | None = None,
    state: State | None = None,
    *,
    limit: int = 50,
    after: tuple[str] | None = None,
) -> tuple[list[Activity], tuple[str] | None]:
    """Return a page, the newest first: calls of a remote of the caller's, or the questions that are theirs to answer.

    Args:
        state: only those. Without one, and without a remote, those that wait: `pending`.
    """
    if remote_id is not None:
        _owned(scene, remote_id)
    else:
        state = state or "pending"
    column = "answerer_id" if remote_id is None else "remote_id"
    rows = scene.tx.all(
        f"SELECT {COLUMNS} FROM remote_activity WHERE {column} = ? AND (? IS NULL OR id < ?)"  # noqa: S608 (constants)
        " AND (? IS NULL OR state = ?) AND (state <> 'pending' OR expires_at > ?) ORDER BY id DESC LIMIT ?",
        remote_id or scene.user_id,
        *((after[0] if after else None,) * 2),
        *((state,) * 2),
        scene.tx.clock.steady_ms(),
        limit + 1,
    )
    found = [_activity(row, scene.user_id) for row in rows[:limit]]
    return found, (found[-1].id,) if len(rows) > limit else None


@core_call("core.remote.activity.get", is_reading=True)
def get(scene: Scene, activity_id: str) -> Activity:
    """Return a call of a remote of the caller's, one they made, or one they are to answer. Raises ActivityNotFound."""
    row = scene.tx.one(f"SELECT {COLUMNS} FROM remote_activity WHERE id = ?", activity_id)  # noqa: S608
    remote = find_remote(scene.tx, row[1]) if row else None
    if row is None or remote is None or scene.user_id not in (remote.owner_id, row[3], row[4]):
        raise ActivityNotFound(activity_id)
    return _activity(row, scene.user_id)


@core_call("core.remote.activity.settle")
def settle(scene: Scene, activity_id: str, state: Resolution, answer: Any = None) -> Activity | None:
    """End a question: its asker reads the answer from the attribute they wrote. None when it is gone.

    One that has ended already stays as it is.
    """
    tx, now = scene.tx, scene.tx.clock.now_ms()
    row = tx.one(
        "SELECT token_id, attribute, caller_id, created_at, state FROM remote_activity WHERE id = ?", activity_id
    )
    if row is None:
        return None
    token_id, attribute, caller_id, created_at, before = row
    if before == "pending":
        tx.run(
            "UPDATE remote_activity SET state = ?, question = NULL, finished_at = ?, duration_ms = ? WHERE id = ?",
            *(state, now, max(0, now - created_at), activity_id),
        )
        if state == "succeeded":
            keep_answer(Scene(tx, caller_id), token_id, attribute, answer)
    return _activity(tx.all(f"SELECT {COLUMNS} FROM remote_activity WHERE id = ?", activity_id)[0], caller_id)  # noqa: S608


@core_call("core.remote.activity.note")
def note(scene: Scene, remote_id: str, token_id: str | None, tries: Sequence[Try]) -> None:
    """Record calls that are over. The newest thousand of a remote are kept."""
    scene.tx.many(
        "INSERT INTO remote_activity (id, remote_id, token_id, caller_id, state, code, duration_ms, created_at,"
        " finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (new_id("ra_"), remote_id, token_id, scene.user_id, one.state, one.code, one.duration_ms, one.began_at)
            + (one.began_at + one.duration_ms,)
            for one in tries
        ],
    )
    _prune(scene.tx, remote_id)


@core_call("core.remote.activity.ask")
def ask(scene: Scene, activity_id: str, question: Question, job_id: str, ask_id: str) -> None:
    """Record that a manual remote's question waits for a person; what was answered before is past. Raises TooMany."""
    now = scene.tx.clock.steady_ms()
    row = scene.tx.one(
        "SELECT count(*) FROM remote_activity WHERE state = 'pending' AND caller_id = ? AND expires_at > ?",
        *(scene.user_id, now),
    )
    if row and row[0] >= MAX_WAITING:
        raise TooMany("questions of yours that wait (job.cancel takes one back)", MAX_WAITING)
    scene.tx.run(
        "INSERT INTO remote_activity (id, remote_id, token_id, attribute, caller_id, answerer_id, state, question,"
        " expires_at, created_at, job_id, ask_id) VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?)",
        *(activity_id, question.remote_id, question.token_id, question.attribute, scene.user_id),
        *(
            question.answerer_id,
            json.dumps(question.details),
            now + int(question.timeout_s * 1000),
            scene.tx.clock.now_ms(),
        ),
        *(job_id, ask_id),
    )
    forget_answer(scene, question.token_id, question.attribute)
    _prune(scene.tx, question.remote_id)


@core_call("core.remote.activity.waiting", is_reading=True)
def waiting(scene: Scene, token_id: str, attribute: str, *, is_of_all: bool = False) -> Activity | None:
    """Return the question about the token that a person has not answered the caller yet; None when there is none.

    Args:
        is_of_all: whoever asked.
    """
    row = scene.tx.one(
        f"SELECT {COLUMNS} FROM remote_activity WHERE token_id = ? AND attribute = ?"  # noqa: S608 (constants)
        " AND state = 'pending' AND expires_at > ? AND (? OR caller_id = ?) ORDER BY id DESC LIMIT 1",
        *(token_id, attribute, scene.tx.clock.steady_ms(), is_of_all, scene.user_id),
    )
    return _activity(row, scene.user_id) if row else None


def _owned(scene: Scene, remote_id: str) -> None:
    remote = find_remote(scene.tx, remote_id)
    if remote is None or remote.owner_id != scene.user_id:
        raise RemoteNotFound(remote_id)


def _prune(tx: Tx, remote_id: str) -> None:
    # A question ends with the job that waits for it, if it has one: only what that left behind is ended here.
    tx.run(
        "UPDATE remote_activity SET state = 'expired', question = NULL, finished_at = expires_at + ?"
        " WHERE remote_id = ? AND state = 'pending' AND expires_at <= ?",
        *(tx.clock.ahead_ms, remote_id, tx.clock.steady_ms() - LATE_MS),
    )
    tx.run(
        "DELETE FROM remote_activity WHERE remote_id = ? AND state <> 'pending' AND id <="
        " (SELECT id FROM remote_activity WHERE remote_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        *(remote_id, remote_id, MAX_KEPT),
    )


def _activity(row: tuple[Any, ...], user_id: str) -> Activity:
    question = json.loads(row[8]) if row[8] is not None and row[4] == user_id else None
    values = (*row[:8], question, *row[9:])
    return Activity(*values)
