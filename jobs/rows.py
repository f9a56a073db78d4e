"""The rows of `jobs`, `job_lines` and `deferrals`, as functions over a transaction."""

from collections.abc import Callable, Sequence
from dataclasses import astuple

from jobs.model import JobRow
from store import Row, Tx

COLUMNS = (
    "id, function, lane, state, owner_id, session_id, parent_id, retry_of, priority, attempt, is_interactive, is_held,"
    " is_cancelling, dedup_key, data, progress, result, error, callback, run_at, created_at, started_at, finished_at,"
    " age_from, authority, crashes"
)
_INSERT = f"INSERT INTO jobs ({COLUMNS}) VALUES ({', '.join('?' * 26)})"  # noqa: S608 (constants)
LIVE_STATES = ("queued", "running", "waiting_input")
_LIVE = "state IN ('queued', 'running', 'waiting_input')"  # as the index has it
ENDED_BADLY = ("failed", "cancelled", "lost")
LOOKED_AT = 1000  # jobs for one page

Sees = Callable[[str, str], bool]  # whether a job or schedule is there for somebody: by function and stored authority


def insert(tx: Tx, row_values: Row) -> None:
    """Add a job, given as its values in column order."""
    tx.run(_INSERT, *row_values)


def insert_if_new(tx: Tx, row_values: Row) -> bool:
    """Add a job unless its id is there already; tell whether it was added."""
    return tx.run(f"{_INSERT} ON CONFLICT (id) DO NOTHING", *row_values) == 1


def add(tx: Tx, row: JobRow) -> tuple[str, bool]:
    """Add a job unless its owner has one of that function and dedup key; return the id, and whether it is new.

    One that ended badly answers for its key no more.
    """
    if row.dedup_key is not None:
        found = tx.one(
            "SELECT id FROM jobs WHERE owner_id = ? AND function = ? AND dedup_key = ?"
            " AND state NOT IN ('failed', 'cancelled', 'lost')",
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


def queued(tx: Tx, after: tuple[str, str], limit: int) -> list[JobRow]:
    """Return up to `limit` jobs that wait to be started, by owner and id, those after a pair of them."""
    rows = tx.all(
        f"SELECT {COLUMNS} FROM jobs WHERE {_LIVE} AND (owner_id, id) > (?, ?) AND state = 'queued' AND is_held = 0"  # noqa: S608
        " ORDER BY owner_id, id LIMIT ?",
        *(*after, limit),
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


def note_crash(tx: Tx, job_id: str) -> int:
    """Count that the server was killed while the job ran, and return how often that was."""
    row = tx.one("UPDATE jobs SET crashes = crashes + 1 WHERE id = ? RETURNING crashes", job_id)
    return int(row[0]) if row else 0


def state_of(tx: Tx, job_id: str) -> str | None:
    """Return in what state a job is, None for one whose row is not kept."""
    row = tx.one("SELECT state FROM jobs WHERE id = ?", job_id)
    return row[0] if row else None


def set_progress(tx: Tx, job_id: str, progress: str) -> None:
    """Keep how far a live job is."""
    tx.run(f"UPDATE jobs SET progress = ? WHERE id = ? AND {_LIVE}", progress, job_id)  # noqa: S608 (a constant)


def set_cancelling(tx: Tx, job_id: str) -> None:
    """Remember that somebody wants the job to stop: it must not be run again after a crash."""
    tx.run(f"UPDATE jobs SET is_cancelling = 1 WHERE id = ? AND {_LIVE}", job_id)  # noqa: S608 (a constant)


def release(tx: Tx, job_id: str) -> bool:
    """Let a held job go, and tell whether it was held."""
    return tx.run("UPDATE jobs SET is_held = 0 WHERE id = ? AND state = 'queued' AND is_held = 1", job_id) == 1


def release_some(tx: Tx, owner_id: str, limit: int) -> list[JobRow]:
    """Let up to `limit` held jobs of a user go, the oldest first, and return them."""
    found = tx.all(
        "UPDATE jobs SET is_held = 0 WHERE id IN (SELECT id FROM jobs WHERE owner_id = ? AND state = 'queued'"  # noqa: S608 (a constant)
        f" AND is_held = 1 ORDER BY id LIMIT ?) RETURNING {COLUMNS}",
        *(owner_id, limit),
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
    sees: Sees | None = None,
) -> tuple[list[JobRow], str | None]:
    """Return up to `limit` jobs of a user, newest first, older than the job `before`; and where to go on, if anywhere.

    `sees`: only these. So many are looked at and no more: fewer than `limit` may be found among them.
    """
    # By an index whatever is asked for: a user's jobs, those of one session, or the few that have not ended.
    scope, given = ("session_id = ?", session_id) if session_id is not None else ("owner_id = ?", owner_id)
    live = f" AND {_LIVE}" if state in LIVE_STATES and session_id is None else ""
    looked_at = tx.all(
        "SELECT id, function, authority, owner_id, state FROM jobs"  # noqa: S608 (constants)
        f" WHERE {scope}{live} AND id < ? ORDER BY id DESC LIMIT ?",
        *(given, before or "k", LOOKED_AT),
    )
    wanted = [row for row in looked_at if row[3] == owner_id and state in (None, row[4]) and function in (None, row[1])]
    return _page(tx, looked_at, wanted, limit, sees)


def held_for(
    tx: Tx, approver_id: str, limit: int, before: str | None, sees: Sees | None = None
) -> tuple[list[JobRow], str | None]:
    """Return the jobs that wait for this user's approval, as `page` does."""
    looked_at = tx.all(
        "SELECT j.id, j.function, j.authority FROM jobs j JOIN deferrals d ON d.user_id = j.owner_id"  # noqa: S608
        f" WHERE d.approver_id = ? AND j.is_held = 1 AND j.{_LIVE} AND j.id < ? ORDER BY j.id DESC LIMIT ?",
        *(approver_id, before or "k", LOOKED_AT),
    )
    return _page(tx, looked_at, looked_at, limit, sees)


def _page(
    tx: Tx, looked_at: Sequence[Row], wanted: Sequence[Row], limit: int, sees: Sees | None
) -> tuple[list[JobRow], str | None]:
    """Return a page of the jobs wanted among those looked at, given as (id, function, authority, …)."""
    ids = [row[0] for row in wanted if sees is None or sees(row[1], row[2])]
    found = [job for id in ids[:limit] if (job := find(tx, id)) is not None]
    if len(ids) > limit:
        return found, ids[limit - 1]
    return found, looked_at[-1][0] if len(looked_at) == LOOKED_AT else None


def held(tx: Tx, owner_id: str) -> int:
    """Return how many of a user's jobs wait for approval."""
    row = tx.one(f"SELECT count(*) FROM jobs WHERE owner_id = ? AND {_LIVE} AND is_held = 1", owner_id)  # noqa: S608
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


def live(tx: Tx, after: tuple[str, str], limit: int) -> list[JobRow]:
    """Return up to `limit` jobs that have not ended, by owner and id, those after a pair of them."""
    rows = tx.all(
        f"SELECT {COLUMNS} FROM jobs WHERE {_LIVE} AND (owner_id, id) > (?, ?) ORDER BY owner_id, id LIMIT ?",  # noqa: S608
        *(*after, limit),
    )
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
    old: list[Row] = []
    for state, before in (("succeeded", succeeded_before), *((other, others_before) for other in ENDED_BADLY)):
        old += tx.all(
            "SELECT id FROM jobs WHERE state = ? AND age_from IS NOT NULL AND age_from < ? LIMIT ?",
            *(state, before, limit - len(old)),
        )
    return [row[0] for row in old]


def kept(tx: Tx, owner_id: str, most: int) -> int:
    """Return how many records of a user's jobs are kept, those that have not ended too; of very many only how many."""
    row = tx.one("SELECT count(*) FROM (SELECT 1 FROM jobs WHERE owner_id = ? LIMIT ?)", owner_id, most + 1)
    return int(row[0]) if row else 0


def newest_over(tx: Tx, owner_id: str, most: int) -> str | None:
    """Return the newest of a user's jobs that has as many newer ones as may be kept; None: there is none."""
    row = tx.one("SELECT id FROM jobs WHERE owner_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?", owner_id, most)
    return row[0] if row else None


def ended_up_to(tx: Tx, owner_id: str, job_id: str, limit: int) -> list[str]:
    """Return up to `limit` of a user's jobs that have ended, the oldest first, not newer than this one."""
    rows = tx.all(
        "SELECT id FROM jobs WHERE owner_id = ? AND id <= ? AND age_from IS NOT NULL ORDER BY id LIMIT ?",
        *(owner_id, job_id, limit),
    )
    return [row[0] for row in rows]


def forget_lines(tx: Tx, job_ids: Sequence[str], limit: int) -> list[str]:
    """Delete up to `limit` log lines of jobs, and return the jobs that have none left."""
    bare = []
    for job_id in job_ids:
        limit -= tx.run(
            "DELETE FROM job_lines WHERE job_id = ?"
            " AND number < (SELECT min(number) FROM job_lines WHERE job_id = ?) + ?",
            *(job_id, job_id, limit),
        )
        if limit <= 0:
            break
        bare.append(job_id)
    return bare


def forget(tx: Tx, job_ids: Sequence[str]) -> None:
    """Delete jobs that have no log lines left."""
    tx.many("DELETE FROM jobs WHERE id = ?", [(id,) for id in job_ids])
