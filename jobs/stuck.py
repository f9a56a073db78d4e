"""Names the jobs that go on although they are stopped: nothing can end a coroutine that catches its cancelling."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from jobs.run import Run

if TYPE_CHECKING:
    from jobs.runner import EmbeddedRunner

log = structlog.get_logger("jobs")

ADVICE = "it catches asyncio.CancelledError, and has to let it pass; until it does, it keeps its slot"


async def watch(runner: "EmbeddedRunner") -> None:
    """Look at what runs, now and then, until cancelled; a job that is late at two looks is told of, once."""
    seen: set[Run] = set()
    told: set[Run] = set()
    while True:
        await asyncio.sleep(runner.limits.stuck_s)
        now = {run for run in runner.live.values() if run.is_overdue}
        _tell(now & seen - told)
        seen, told = now, now & seen


def tell(runner: "EmbeddedRunner") -> None:
    """Name what keeps the server from stopping."""
    _tell(run for run in runner.live.values() if run.is_overdue)


def _tell(runs: Iterable[Run]) -> None:
    for run in runs:
        log.error("job_does_not_stop", job_id=run.id, function=run.spec.name, advice=ADVICE)
