"""The rows of `jobs`, as functions over a transaction."""

from typing import Any

from jobs.model import JobRow
from store import Tx, now_ms

COLUMNS = (
    "id, function, lane, state, owner_id, session_id, parent_id, data, result, error,"
    " deadline_at, created_at, started_at, finished_at"
)
_INSERT = f"INSERT INTO jobs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_FINISH = (
    "UPDATE jobs SET state = ?, result = ?, error = ?, finished_at = ?"
    " WHERE id = ? AND state IN ('queued', 'running', 'waiting_input')"
)


def insert(tx: Tx, row: JobRow) -> None:
    """Add a job."""
    tx.run(
        _INSERT,
        row.id,
        row.function,
        row.lane,
        row.state,
        row.owner_id,
        row.session_id,
        row.parent_id,
        row.data,
        row.result,
        row.error,
        row.deadline_at,
        row.created_at,
        row.started_at,
        row.finished_at,
    )


def finish(tx: Tx, job_id: str, state: str, result: str | None, error: str | None) -> bool:
    """End a job that has not ended yet, and tell whether this was the end."""
    return tx.run(_FINISH, state, result, error, now_ms(), job_id) == 1


def find(tx: Tx, job_id: str) -> JobRow | None:
    """Return the job whoever asks."""
    row = tx.one(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", job_id)  # noqa: S608 (a constant)
    return JobRow(*row) if row else None


def page(tx: Tx, owner_id: str, limit: int, before: str | None, state: str | None) -> list[JobRow]:
    """Return up to `limit` jobs of a user, newest first, older than the job `before`."""
    conditions = "owner_id = ?"
    values: list[Any] = [owner_id]
    if before is not None:
        conditions += " AND id < ?"
        values.append(before)
    if state is not None:
        conditions += " AND state = ?"
        values.append(state)
    statement = f"SELECT {COLUMNS} FROM jobs WHERE {conditions} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return [JobRow(*row) for row in tx.all(statement, *values, limit)]


def interrupted(tx: Tx) -> list[JobRow]:
    """Return the jobs that had not ended: at start, those a killed server left behind."""
    statement = f"SELECT {COLUMNS} FROM jobs WHERE state IN ('queued', 'running', 'waiting_input')"  # noqa: S608
    return [JobRow(*row) for row in tx.all(statement)]
