"""A guest whose jobs leave traces: a token for every one that ended well, a process for one that has to be stopped."""

import asyncio
from collections.abc import Iterable

from pydantic import BaseModel

from rpcserver.plugin import Commit, JobContext, JobSpec, hookimpl, job


class Trace(BaseModel):
    """Whose trace."""

    name: str


def _leave(name: str) -> Commit[str]:
    return Commit(lambda core: core.named("core.token.create", type="trace", name=name))


@job("trace.short", Trace, calls=["core.token.create"])
async def short(job: JobContext, data: Trace) -> Commit[str]:
    """Leave a trace at once."""
    return _leave(data.name)


@job("trace.again", Trace, calls=["core.token.create"], lane="long", on_crash="retry")
async def again(job: JobContext, data: Trace) -> Commit[str]:
    """Leave a trace after a moment; may be run again."""
    await asyncio.sleep(0.02)
    return _leave(data.name)


@job("trace.once", Trace, calls=["core.token.create"], lane="long")
async def once(job: JobContext, data: Trace) -> Commit[str]:
    """Leave a trace after a moment; must not be run again."""
    await asyncio.sleep(0.02)
    return _leave(data.name)


@job("trace.sleep", Trace, lane="long", timeout_s=3600)
async def sleep(job: JobContext, data: Trace) -> int:
    """Run a process that starts another and would not end by itself; its log says their ids."""
    finished = await job.process("sh", "-c", "sleep 3600 & echo $$ $!; trap '' TERM; wait; sleep 3600")
    return finished.status


@hookimpl
def register_jobs() -> Iterable[JobSpec]:
    """Bring the jobs above."""
    return [short, again, once, sleep]
