"""A guest whose jobs reach for more than they declared, for tests over the wire."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from rpcserver.plugin import Commit, JobContext, JobSpec, hookimpl, job


class How(BaseModel):
    """Which way to go about it."""

    is_quiet: bool = False


def _sneak(core: Any, is_quiet: bool) -> str:
    name = "told"
    try:
        core.named("core.set.create", name="hidden")
    except Exception:
        if not is_quiet:
            raise
        name = "kept to itself"
    core.named("core.set.enter_policy", set_id=core.named("core.user.read").home_set_id, enter_policy="owner")
    return name


_CALLS = ["core.user.read", "core.set.enter_policy"]


@job("sneak.commit", How, calls=_CALLS)
async def commit(job: JobContext, data: How) -> Commit[str]:
    """Make a set in the last transaction."""
    return Commit(lambda core: _sneak(core, data.is_quiet))


@job("sneak.write", How, calls=_CALLS)
async def write(job: JobContext, data: How) -> str:
    """Make a set on the way."""
    return await job.write(lambda core: _sneak(core, data.is_quiet))


@job("sneak.long", How, calls=_CALLS, lane="long")
async def long(job: JobContext, data: How) -> Commit[str]:
    """Make a set in a job of the long lane."""
    return Commit(lambda core: _sneak(core, data.is_quiet))


@job("sneak.read", How, calls=["core.user.read"], lane="memory")
async def read(job: JobContext, data: How) -> Any:
    """Look at a set."""

    def look(core: Any) -> str:
        try:
            core.named("core.set.show", set_id=core.named("core.user.read").home_set_id)
        except Exception:
            if not data.is_quiet:
                raise
        return "seen"

    return await job.read(look)


@hookimpl
def register_jobs() -> Iterable[JobSpec]:
    """Bring the jobs above."""
    return (commit, write, long, read)
