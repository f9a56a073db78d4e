"""What every engine behind `JobRunner` must do: job functions to run, and the behaviour they are held to.

`tests/jobs/test_contract.py` runs this against the embedded engine; another engine adds a fixture.
"""

import asyncio
from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict

from core.calls import Core
from core.errors import TokenNotFound
from jobs import Commit, JobContext, JobError, JobSpec, job


class Text(BaseModel):
    """Input of the functions here."""

    model_config = ConfigDict(extra="forbid")
    text: str = ""


class World:
    """What the functions here do, seen from outside."""

    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.order: list[str] = []
        self.running = 0
        self.most_running = 0
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    def specs(self) -> list[JobSpec]:
        """Return the job functions, bound to this world."""
        return [
            job("echo", Text, lane="memory")(self.echo),
            job("note", Text, calls=["core.token.create"])(self.note),
            job("long_note", Text, calls=["core.token.create"], lane="long")(self.note),
            job("gated", Text, lane="long", on_crash="retry")(self.gated),
            job("gated_once", Text, lane="long")(self.gated),
            job("limited", Text, lane="long", limit=1)(self.gated),
            job("refuses", Text)(self.refuses),
            job("breaks", Text)(self.breaks),
            job("slow", Text, lane="long", timeout_s=0.05)(self.gated),
            job("flaky", Text, lane="long", retries=2, backoff_s=0.001)(self.flaky),
            job("parent", Text, lane="long")(self.parent),
            job("nests", Text)(self.nests),
            job("large", Text)(self.large),
            job("counts", Text, lane="long")(self.counts),
            job("talks", Text, lane="long")(self.talks),
            job("mends", Text, calls=["core.token.delete"])(self.mends),
            job("gentle", Text, lane="long")(self.gentle),
        ]

    async def echo(self, job: JobContext, data: Text) -> str:
        """Return the text."""
        return data.text

    async def note(self, job: JobContext, data: Text) -> Commit[str]:
        """Make a token named by the text, together with the job's end."""
        self.started[data.text] += 1

        def make(core: Core) -> str:
            token_id: str = core.named("core.token.create", type="note", name=data.text)
            return token_id

        return Commit(make)

    async def gated(self, job: JobContext, data: Text) -> str:
        """Wait until the gate is open."""
        self.started[data.text] += 1
        self.order.append(data.text)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.entered.set()
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return data.text

    async def refuses(self, job: JobContext, data: Text) -> None:
        """Fail in words meant for the caller."""
        raise JobError(f"no {data.text} today")

    async def breaks(self, job: JobContext, data: Text) -> None:
        """Fail in a way nobody foresaw."""
        raise RuntimeError("secret-of-the-server")

    async def flaky(self, job: JobContext, data: Text) -> int:
        """Fail twice."""
        self.started[data.text] += 1
        if job.attempt < 3:
            raise RuntimeError("not yet")
        return job.attempt

    async def parent(self, job: JobContext, data: Text) -> Any:
        """Run a gated job inside this one."""
        return await job.run("gated", {"text": data.text})

    async def nests(self, job: JobContext, data: Text) -> Any:
        """Run itself inside itself."""
        return await job.run("nests", {})

    async def large(self, job: JobContext, data: Text) -> str:
        """Return two million characters."""
        return "x" * 2_000_000

    async def counts(self, job: JobContext, data: Text) -> None:
        """Report a thousand times, now and then backwards."""
        for number in range(1000):
            job.progress(number if number % 7 else 0, 1000, f"{number}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        job.progress(1000, 1000, "done")

    async def talks(self, job: JobContext, data: Text) -> None:
        """Say two thousand lines."""
        for number in range(2000):
            job.log(f"line {number}")

    async def mends(self, job: JobContext, data: Text) -> str:
        """Wait first of all for something that fails, and then for something else, and make do without both."""
        try:
            await job.write(lambda core: core.named("core.token.delete", token_id="t_none"))
        except TokenNotFound:
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 0)
            except TimeoutError:
                return "made do"
        return "as foreseen"

    async def gentle(self, job: JobContext, data: Text) -> str:
        """Work until asked to end."""
        self.entered.set()
        while not job.is_cancelling:  # noqa: ASYNC110 (what a job that polls looks like)
            await asyncio.sleep(0.001)
        return "ended by itself"
