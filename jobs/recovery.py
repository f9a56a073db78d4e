"""What happens to jobs that nobody runs any more: after a killed server, and when they are old.

Source: jobs.md 6.1 (crash, rules 4 and 10).
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from jobs import asks, rows, webhooks
from jobs.model import JobRow
from store import StoreError, Tx

if TYPE_CHECKING:
    from jobs.runner import EmbeddedRunner

log = structlog.get_logger("jobs")

LOST = {"kind": "JOB_LOST", "message": "The server stopped while the job ran. Run it again.", "code": -32019}
LOST_AGAIN = {
    "kind": "JOB_LOST",
    "message": (
        "The server went down more than once while the job ran, so it is not run again by itself: run it again if it"
        " was not the reason."
    ),
    "code": -32019,
}
CANCELLED = {"kind": "CANCELLED", "message": "The job was cancelled.", "code": -32800}
AT_ONCE = 200
PRUNED_AT_ONCE = 200
BOUNDED_EVERY_S = 60.0
LINES_AT_ONCE = 500


async def recover(runner: "EmbeddedRunner", was_killed: bool) -> None:
    """Queue again what may run again, and end the rest as `lost`, telling its owner.

    One process owns the data folder, so whatever is not ended at its start is an orphan of the one before.

    Args:
        was_killed: the last server did not end by itself: what ran then may be why.
    """
    after = ("", "")
    waiting = lost = 0
    while some := await runner.store.read(partial(rows.live, after=after, limit=AT_ONCE)):
        after = (some[-1].owner_id, some[-1].id)
        queued, ended = await runner.store.write(partial(_sweep, runner, was_killed, some))
        waiting, lost = waiting + len(queued), lost + ended
        for row in queued:
            if not row.is_held:
                runner.dispatcher.put(row)
    await runner.store.write(lambda tx: webhooks.recover(tx, was_killed, runner.limits.max_crashes))
    if lost or waiting:
        log.warning("jobs_taken_up", waiting=waiting, lost=lost)


def _sweep(runner: "EmbeddedRunner", was_killed: bool, some: list[JobRow], tx: Tx) -> tuple[list[JobRow], int]:
    """Take up some jobs, or end them; return those that wait now, and how many are lost."""
    waiting, lost = list[JobRow](), 0
    for row in some:
        crashes = row.crashes
        if was_killed and row.state == "running":
            crashes = rows.note_crash(tx, row.id)
            runner.schedules.note_crash(tx, row.id, runner.limits.max_crashes)
        if row.is_cancelling:
            runner.end_row(tx, row, "cancelled", "job.cancelled", CANCELLED)
        elif row.state == "queued":
            waiting.append(row)
        elif not _may_run_again(runner, row):
            runner.end_row(tx, row, "lost", "job.failed", LOST)
            lost += 1
        elif crashes >= runner.limits.max_crashes:
            log.error("job_lost", job_id=row.id, function=row.function, owner_id=row.owner_id, crashes=crashes)
            runner.end_row(tx, row, "lost", "job.failed", {**LOST_AGAIN, "crashes": crashes})
            lost += 1
        else:
            rows.requeue(tx, row.id, row.attempt, None)
            waiting.append(replace(row, state="queued", run_at=None))
    return waiting, lost


async def upkeep(runner: "EmbeddedRunner") -> None:
    """Delete the rows of jobs that ended long ago, some at a time, until cancelled."""
    limits = runner.limits
    while True:
        now = runner.store.clock.steady_ms()
        succeeded, others = now - int(limits.keep_succeeded_s * 1000), now - int(limits.keep_others_s * 1000)
        try:
            while await runner.store.write(lambda tx: _prune(tx, succeeded, others)):  # noqa: B023 (awaited here)
                pass
        except StoreError as error:
            log.warning("jobs_not_pruned", reason=str(error))
        await runner.store.clock.sleep(limits.prune_every_s)


def _prune(tx: Tx, succeeded: int, others: int) -> bool:
    """Delete some of the jobs that ended before these times; tell if there were any."""
    return _forget(tx, rows.ended_before(tx, succeeded, others, PRUNED_AT_ONCE))


async def keep_bounded(runner: "EmbeddedRunner") -> None:
    """Delete the oldest ended jobs of whoever has more of them than are kept, some at a time, until cancelled."""
    limits, store = runner.limits, runner.store
    while True:
        await store.clock.sleep(BOUNDED_EVERY_S)
        for owner_id in runner.stats.busy():
            try:
                last = await store.read(partial(rows.newest_over, owner_id=owner_id, most=limits.max_kept_per_user))
                while last is not None and await store.write(partial(_prune_owner, owner_id, last)):
                    pass
            except StoreError as error:
                log.warning("jobs_not_pruned", reason=str(error))


def _prune_owner(owner_id: str, last: str, tx: Tx) -> bool:
    return _forget(tx, rows.ended_up_to(tx, owner_id, last, PRUNED_AT_ONCE))


def _forget(tx: Tx, old: list[str]) -> bool:
    """Delete jobs with all that belongs to them, as many as is done at once; tell if there were any."""
    bare = rows.forget_lines(tx, old, LINES_AT_ONCE)
    asks.forget(tx, bare)
    webhooks.forget(tx, bare)
    rows.forget(tx, bare)
    return bool(old)


def _may_run_again(runner: "EmbeddedRunner", row: JobRow) -> bool:
    # A job inside another is run again by that one, if at all.
    spec = runner.spec(row.function)
    return spec is not None and row.parent_id is None and spec.on_crash == "retry" and spec.lane == "long"
