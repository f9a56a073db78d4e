"""What happens to jobs that nobody runs any more: after a killed server, and when they are old.

Source: jobs.md 6.1 (crash, rules 4 and 10).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from jobs import asks, callbacks, rows
from jobs.model import JobRow
from store import StoreError, Tx

if TYPE_CHECKING:
    from jobs.runner import EmbeddedRunner

log = structlog.get_logger("jobs")

LOST = {"kind": "JOB_LOST", "message": "The server stopped while the job ran. Run it again.", "code": -32019}
CANCELLED = {"kind": "CANCELLED", "message": "The job was cancelled.", "code": -32800}
PRUNED_AT_ONCE = 200
LINES_AT_ONCE = 500


async def recover(runner: "EmbeddedRunner") -> None:
    """Queue again what may run again, and end the rest as `lost`, telling its owner.

    One process owns the data folder, so whatever is not ended at its start is an orphan of the one before.
    """

    def sweep(tx: Tx) -> tuple[list[JobRow], int]:
        waiting, lost = [], 0
        for row in rows.live(tx):
            if row.is_cancelling:
                runner.end_row(tx, row, "cancelled", "job.cancelled", CANCELLED)
            elif row.state == "queued":
                waiting.append(row)
            elif _may_run_again(runner, row):
                rows.requeue(tx, row.id, row.attempt, None)
                waiting.append(replace(row, state="queued", run_at=None))
            else:
                runner.end_row(tx, row, "lost", "job.failed", LOST)
                lost += 1
        return waiting, lost

    waiting, lost = await runner.store.write(sweep)
    for row in waiting:
        if not row.is_held:
            runner.dispatcher.put(row)
    if lost or waiting:
        log.warning("jobs_taken_up", waiting=len(waiting), lost=lost)


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
    """Delete some of the jobs that ended before these times, with all that belongs to them; tell if there were any."""
    old = rows.ended_before(tx, succeeded, others, PRUNED_AT_ONCE)
    bare = rows.forget_lines(tx, old, LINES_AT_ONCE)
    asks.forget(tx, bare)
    callbacks.forget(tx, bare)
    rows.forget(tx, bare)
    return bool(old)


def _may_run_again(runner: "EmbeddedRunner", row: JobRow) -> bool:
    # A job inside another is run again by that one, if at all; one that takes the server down with it every time
    # must not do so for ever.
    spec = runner.spec(row.function)
    if spec is None or row.parent_id is not None or row.attempt >= spec.retries + runner.limits.max_attempts:
        return False
    return spec.on_crash == "retry" and spec.lane == "long"
