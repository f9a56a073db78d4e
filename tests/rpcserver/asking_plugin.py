"""A plugin whose job asks a question: for the examples of asks and of jobs that are held."""

from pydantic import BaseModel

from rpcserver.plugin import JobContext, JobSpec, hookimpl, job


class Nothing(BaseModel):
    """Input of asking.colour."""


@job("asking.colour", Nothing, lane="long")
async def colour(job: JobContext, data: Nothing) -> str:
    """Ask for a colour."""
    return str(await job.ask("Which colour?", choices=("red", "green")))


@hookimpl
def register_jobs() -> list[JobSpec]:
    """Bring the job above."""
    return [colour]
