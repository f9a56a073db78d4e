"""The rows of `jobs`, `job_lines` and `deferrals`, as functions over a transaction."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from jobs.model import JobRow
from store import Row, Tx

COLUMNS = (
    "id, function, lane, state, owner_id, session_id, parent_id, retry_of, priority, attempt, is_interactive, is_held,"
    " is_cancelling, dedup_key, data, progress, result, error, callback, run_at, created_at, started_at, finished_at,"
    " age_from, authority"
)
_INSERT = f"INSERT INTO jobs ({COLUMNS}) VALUES ({', '.join('?' * 25)})"  # noqa: S608 (constants)
_LIVE = "state IN ('queued', 'running', 'waiting_input')"


def insert(tx: Tx, row_values: Row) -> None:
    """Add a job, given as its values in column order."""
    tx.run(_INSERT, *row_values)


def insert_if_new(tx: Tx, row_values: Row) -> bool:
    """Add a job unless its id is there already; tell whether it was added."""
    return tx.run(f"{_INSERT} ON CONFLICT (id) DO NOTHING", *row_values) == 1


def add(tx: Tx, row: JobRow) -> tuple[str, bool]:
    """Add a job unless its owner has one of that function and dedup key; return the id, and whether it is new."""
    if row.dedup_key is not None:
        found = tx.one(
            "SELECT id FROM jobs WHERE owner_id = ? AND function = ? AND dedup_key = ?",
            row.owner_id,
            row.function,
            row.dedup_key,
        )
        if found is not None:
            return found[0], False
    insert(tx, astuple(row))
    return row.id, True


def is_deferred(tx: Tx, user_id: str) -> bool:
    """Tell whether the user's jobs wait for somebody's approval."""
    return tx.one("SELECT 1 FROM deferrals WHERE user_id = ?", user_id) is not None


def brought_by(tx: Tx, credential_id: str, limit: int) -> list[str]:
    """Return up to `limit` jobs that wait to be started and that a credential brought, with others or alone."""
    rows = tx.all(
        f"SELECT id FROM jobs WHERE {_LIVE} AND state = 'queued' AND authority LIKE ? LIMIT ?",  # noqa: S608 (a constant)
        f'%"{credential_id}"%',
        limit,
    )
    return [row[0] for row in rows]


def queued(tx: Tx, after: str, limit: int) -> list[JobRow]:
    """Return up to `limit` jobs that wait to be started, whose ids come after one."""
    rows = tx.all(
        f"SELECT {COLUMNS} FROM jobs WHERE {_LIVE} AND state = 'queued' AND is_held = 0 AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        after,
        limit,
    )
    return [JobRow(*row) for row in rows]


def starting(tx: Tx, job_id: str) -> tuple[str, int, str] | None:
    """Return function, attempts so far and authority of a job that waits to be started, None when it does not."""
    row = tx.one(
        "SELECT function, attempt, authority FROM jobs WHERE id = ? AND state = 'queued' AND is_held = 0", job_id
    )
    return None if row is None else (row[0], row[1], row[2])


def claim(tx: Tx, job_id: str) -> JobRow | None:
    """Mark a queued job as running, one attempt further, and return it; None when it is not to be started."""
    row = tx.one(
        "UPDATE jobs SET state = 'running', attempt = attempt + 1, run_at = NULL,"  # noqa: S608 (a constant)
        f" started_at = coalesce(started_at, ?) WHERE id = ? AND state = 'queued' AND is_held = 0 RETURNING {COLUMNS}",
        tx.clock.now_ms(),
        job_id,
    )
    return JobRow(*row) if row else None


def finish(
    tx: Tx, job_id: str, attempt: int, state: str, result: str | None, error: str | None, progress: str | None = None
) -> bool:
    """End the attempt's job if it has not ended and no later attempt took over; tell whether this was the end."""
    ended = tx.run(
        "UPDATE jobs SET state = ?, result = ?, error = ?, progress = coalesce(?, progress), finished_at = ?,"
        " age_from = ?, is_held = 0, run_at = NULL WHERE id = ? AND attempt = ?"
        " AND state IN ('queued', 'running', 'waiting_input')",
        state,
        result,
        error,
        progress,
        tx.clock.now_ms(),
        tx.clock.steady_ms(),
        job_id,
        attempt,
    )
    return ended == 1


def requeue(tx: Tx, job_id: str, attempt: int, run_at: int | None, error: str | None = None) -> bool:
    """Put an interrupted or failed attempt back into the queue, unless somebody wants it to stop.

    `run_at` is on the steady scale; `error` says why, until the next attempt ends.
    """
    changed = tx.run(
        "UPDATE jobs SET state = 'queued', run_at = ?, error = ? WHERE id = ? AND attempt = ?"
        " AND state IN ('running', 'waiting_input') AND is_cancelling = 0",
        run_at,
        error,
        job_id,
        attempt,
    )
    return changed == 1


def wait_for_input(tx: Tx, job_id: str) -> None:
    """Note that a running job waits for an answer, and the jobs around it with it."""
    around: str | None = job_id
    while around is not None:
        tx.run("UPDATE jobs SET state = 'waiting_input' WHERE id = ? AND state = 'running'", around)
        around = _parent(tx, around)


def go_on(tx: Tx, job_id: str) -> None:
    """Note that a job has all the answers it waited for, and those around it that wait for no other."""
    around: str | None = job_id
    while around is not None:
        tx.run(
            "UPDATE jobs SET state = 'running' WHERE id = ? AND state = 'waiting_input'"
            " AND NOT EXISTS (SELECT 1 FROM asks WHERE job_id = jobs.id AND state = 'open')"
            " AND NOT EXISTS (SELECT 1 FROM jobs AS child WHERE child.parent_id = jobs.id"
            " AND child.state = 'waiting_input')",
            around,
        )
        around = _parent(tx, around)


def _parent(tx: Tx, job_id: str) -> str | None:
    row = tx.one("SELECT parent_id FROM jobs WHERE id = ?", job_id)
    return None if row is None else row[0]


def set_progress(tx: Tx, job_id: str, progress: str) -> None:
    """Keep how far a live job is."""
    tx.run(f"UPDATE jobs SET progress = ? WHERE id = ? AND {_LIVE}", progress, job_id)  # noqa: S608 (a constant)


def set_cancelling(tx: Tx, job_id: str) -> None:
    """Remember that somebody wants the job to stop: it must not be run again after a crash."""
    tx.run(f"UPDATE jobs SET is_cancelling = 1 WHERE id = ? AND {_LIVE}", job_id)  # noqa: S608 (a constant)


def release(tx: Tx, job_id: str) -> bool:
    """Let a held job go, and tell whether it was held."""
    return tx.run("UPDATE jobs SET is_held = 0 WHERE id = ? AND state = 'queued' AND is_held = 1", job_id) == 1


def release_all(tx: Tx, owner_id: str) -> list[JobRow]:
    """Let every held job of a user go, and return them."""
    found = tx.all(
        "UPDATE jobs SET is_held = 0 WHERE owner_id = ? AND state = 'queued' AND is_held = 1"  # noqa: S608 (a constant)
        f" RETURNING {COLUMNS}",
        owner_id,
    )
    return [JobRow(*row) for row in found]


def find(tx: Tx, job_id: str) -> JobRow | None:
    """Return the job whoever asks."""
    row = tx.one(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", job_id)  # noqa: S608 (a constant)
    return JobRow(*row) if row else None


def page(
    tx: Tx,
    owner_id: str,
    limit: int,
    before: str | None,
    state: str | None = None,
    function: str | None = None,
    session_id: str | None = None,
) -> list[JobRow]:
    """Return up to `limit` jobs of a user, newest first, older than the job `before`."""
    conditions = ["owner_id = ?"]
    given: list[Any] = [owner_id]
    wanted = (("id < ?", before), ("state = ?", state), ("function = ?", function), ("session_id = ?", session_id))
    for condition, value in wanted:
        if value is not None:
            conditions.append(condition)
            given.append(value)
    statement = f"SELECT {COLUMNS} FROM jobs WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return [JobRow(*row) for row in tx.all(statement, *given, limit)]


def held_for(tx: Tx, approver_id: str, limit: int, before: str | None) -> list[JobRow]:
    """Return the jobs that wait for this user's approval, newest first."""
    columns = ", ".join(f"j.{name.strip()}" for name in COLUMNS.split(","))
    rows = tx.all(
        f"SELECT {columns} FROM jobs j JOIN deferrals d ON d.user_id = j.owner_id WHERE d.approver_id = ?"  # noqa: S608
        " AND j.is_held = 1 AND j.state = 'queued' AND (? IS NULL OR j.id < ?) ORDER BY j.id DESC LIMIT ?",
        approver_id,
        before,
        before,
        limit,
    )
    return [JobRow(*row) for row in rows]


def held(tx: Tx, owner_id: str) -> int:
    """Return how many of a user's jobs wait for approval."""
    row = tx.one("SELECT count(*) FROM jobs WHERE owner_id = ? AND state = 'queued' AND is_held = 1", owner_id)
    return int(row[0]) if row else 0


def approver_of(tx: Tx, user_id: str) -> str | None:
    """Return who approves the user's jobs, None when nobody needs to."""
    row = tx.one("SELECT approver_id FROM deferrals WHERE user_id = ?", user_id)
    return row[0] if row else None


def defer(tx: Tx, user_id: str, approver_id: str | None) -> None:
    """Have the user's jobs of the long lane wait for an approver, or, with None, no more."""
    tx.run("DELETE FROM deferrals WHERE user_id = ?", user_id)
    if approver_id is not None:
        tx.run("INSERT INTO deferrals (user_id, approver_id) VALUES (?, ?)", user_id, approver_id)


def live(tx: Tx) -> list[JobRow]:
    """Return the jobs that had not ended: at start, those the last server left."""
    rows = tx.all(f"SELECT {COLUMNS} FROM jobs WHERE {_LIVE} ORDER BY id")  # noqa: S608 (constants)
    return [JobRow(*row) for row in rows]


def counts(tx: Tx) -> dict[str, int]:
    """Return how many live jobs there are in each state."""
    rows = tx.all(f"SELECT state, count(*) FROM jobs WHERE {_LIVE} GROUP BY state")  # noqa: S608 (a constant)
    return dict(rows)


def add_lines(tx: Tx, job_id: str, lines: Sequence[tuple[int, int, str]], keep: int) -> None:
    """Add log lines (number, at, text) and drop all but the newest `keep`."""
    tx.many(
        "INSERT INTO job_lines (job_id, number, at, text) VALUES (?, ?, ?, ?)",
        [(job_id, number, at, text) for number, at, text in lines],
    )
    tx.run("DELETE FROM job_lines WHERE job_id = ? AND number <= ?", job_id, lines[-1][0] - keep)


def lines(tx: Tx, job_id: str, after: int, limit: int) -> list[tuple[int, int, str]]:
    """Return up to `limit` log lines (number, at, text) after a number."""
    rows = tx.all(
        "SELECT number, at, text FROM job_lines WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?",
        job_id,
        after,
        limit,
    )
    return [(number, at, text) for number, at, text in rows]


def last_line(tx: Tx, job_id: str) -> int:
    """Return the number of the newest log line, 0 when there is none."""
    row = tx.one("SELECT coalesce(max(number), 0) FROM job_lines WHERE job_id = ?", job_id)
    return int(row[0]) if row else 0


def ended_before(tx: Tx, succeeded_before: int, others_before: int, limit: int) -> list[str]:
    """Return up to `limit` jobs that ended before these times of the steady scale, the succeeded before the first."""
    old = tx.all(
        "SELECT id FROM jobs WHERE age_from IS NOT NULL"
        " AND age_from < (CASE state WHEN 'succeeded' THEN ? ELSE ? END) LIMIT ?",
        succeeded_before,
        others_before,
        limit,
    )
    return [row[0] for row in old]


def forget(tx: Tx, job_ids: Sequence[str]) -> None:
    """Delete jobs and their log lines."""
    tx.many("DELETE FROM job_lines WHERE job_id = ?", [(id,) for id in job_ids])
    tx.many("DELETE FROM jobs WHERE id = ?", [(id,) for id in job_ids])
