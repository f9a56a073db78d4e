"""What every engine behind `JobRunner` must do: job functions to run, and the behaviour they are held to.

`tests/jobs/test_contract.py` runs this against the embedded engine; another engine adds a fixture.
"""

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from core.calls import Core
from core.errors import TokenNotFound
from jobs import Commit, JobContext, JobError, JobSpec, job
from jobs.errors import JobCancelled


class Text(BaseModel):
    """Input of the functions here."""

    model_config = ConfigDict(extra="forbid")
    text: str = ""


class Moody(Text):
    """Data whose check fails in a way nobody foresaw, once the text says so."""

    @field_validator("text")
    @classmethod
    def _is_wanted(cls, text: str) -> str:
        return {"fine": "fine"}[text]


class World:
    """What the functions here do, seen from outside."""

    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.order: list[str] = []
        self.running = 0
        self.most_running = 0
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.failures: list[BaseException] = []  # of the notes to come
        self.stray: asyncio.Future[Any] | None = None
        self.thread_gate = threading.Event()
        self.bell = asyncio.Event()

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
            job("says", Text)(self.says),
            job("steps_and_note", Text, calls=["core.token.create"], lane="long")(self.steps_and_note),
            job("flaky_and_slow", Text, lane="long", retries=5, backoff_s=0.001)(self.flaky_and_slow),
            job("family", Text, lane="long", timeout_s=60)(self.family),
            job("leaves", Text, lane="long")(self.leaves),
            job("forgives", Text, calls=["core.token.create"], lane="long")(self.forgives),
            job("holds_gentle", Text, lane="long")(self.holds_gentle),
            job("moody", Moody, lane="long")(self.moody),
            job("stopped_inside", Text)(self.stopped_inside),
            job("long_stopped_inside", Text, lane="long")(self.stopped_inside),
            job("asks_first", Text, lane="long", timeout_s=0.2)(self.asks_first),
            job("asks_at_once", Text, timeout_s=0.2)(self.asks_first),
            job("asks_in_memory", Text, lane="memory")(self.asks_first),
            job("asks_twice", Text, lane="long", limit=1)(self.asks_twice),
            job("asks_inside", Text, lane="long", timeout_s=0.2)(self.asks_inside),
            job("asks_badly", Text, lane="long")(self.asks_badly),
            job("asks_anew", Text, lane="long", retries=1, backoff_s=0.001)(self.asks_anew),
            job("deaf", Text, lane="long", timeout_s=60)(self.deaf),
            job("gated_note", Text, calls=["core.token.create"], lane="long")(self.gated_note),
            job("gated_note_again", Text, calls=["core.token.create"], lane="long", on_crash="retry")(self.gated_note),
            job("gated_note_at_once", Text, calls=["core.token.create"])(self.gated_note),
            job("gated_refusal", Text)(self.gated_refusal),
            job("sleeps", Text, lane="long", timeout_s=600)(self.sleeps),
            job("joins", Text, lane="long", timeout_s=600)(self.joins),
            job("threads", Text, lane="long", timeout_s=600)(self.threads),
            job("naps", Text, lane="long", timeout_s=600)(self.naps),
            job("asks_again", Text, lane="long", on_crash="retry")(self.asks_first),
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

    async def gated_note(self, job: JobContext, data: Text) -> Commit[str]:
        """Wait until the gate is open, then make a token together with the end."""
        self.entered.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
        return await self.note(job, data)

    async def gated_refusal(self, job: JobContext, data: Text) -> None:
        """Wait until the gate is open, then fail in words meant for the caller."""
        self.entered.set()
        await self.gate.wait()
        raise JobError("not today")

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

    async def says(self, job: JobContext, data: Text) -> None:
        """Say and report something, and end without ever having waited."""
        job.log("a name with half a character: \ud800")
        job.progress(1, 2, "half")
        job.progress(2, 2, "done \ud800")

    async def steps_and_note(self, job: JobContext, data: Text) -> Commit[str]:
        """Take turns of the loop, storing nothing, and make a token together with the end."""
        for _ in range(3):
            await asyncio.sleep(0)
            await job.write(lambda core: None)
        return await self.note(job, data)

    async def flaky_and_slow(self, job: JobContext, data: Text) -> None:
        """Take some turns of the loop, then fail, every time."""
        self.started[data.text] += 1
        for _ in range(3):
            await asyncio.sleep(0)
        raise RuntimeError("again")

    async def family(self, job: JobContext, data: Text) -> None:
        """Have six jobs make tokens inside this one, in turn, then wait for ever."""
        for number in range(6):
            await job.run("note", {"text": f"{data.text}{number}"})
        self.entered.set()
        await asyncio.Event().wait()

    async def leaves(self, job: JobContext, data: Text) -> None:
        """Start a job inside this one, and end without having waited for it."""
        self.stray = asyncio.ensure_future(job.run("gated", {"text": data.text}))
        await self.entered.wait()

    async def forgives(self, job: JobContext, data: Text) -> Commit[str]:
        """Go on when the job inside is cancelled."""
        with suppress(JobCancelled):
            await job.run("gated", {"text": data.text})
        await asyncio.sleep(0)
        return await self.note(job, data)

    async def holds_gentle(self, job: JobContext, data: Text) -> Any:
        """Run a job inside that ends by itself when asked to."""
        return await job.run("gentle", {})

    async def moody(self, job: JobContext, data: "Moody") -> str:
        """Do nothing with data that may not be wanted any more."""
        return data.text

    async def stopped_inside(self, job: JobContext, data: Text) -> None:
        """Wait for something that is cancelled, although nobody stops this job."""
        inner = asyncio.ensure_future(asyncio.Event().wait())
        inner.cancel()
        await inner

    async def asks_first(self, job: JobContext, data: Text) -> Any:
        """Ask, before anything else, and take some more time."""
        answer = await job.ask("First?")
        await asyncio.sleep(0.01)
        return answer

    async def asks_twice(self, job: JobContext, data: Text) -> Any:
        """Ask two questions at once."""
        return await asyncio.gather(job.ask("Left?"), job.ask("Right?"))

    async def asks_inside(self, job: JobContext, data: Text) -> Any:
        """Have a job inside this one ask."""
        await asyncio.sleep(0)
        return await job.run("asks_first", {})

    async def asks_badly(self, job: JobContext, data: Text) -> Any:
        """Ask with a schema that is none."""
        return await job.ask("What?", schema={"type": "nonsense"})

    async def asks_anew(self, job: JobContext, data: Text) -> Any:
        """Ask one thing, fail, and ask another as first thing of the next attempt."""
        if job.attempt == 1:
            await job.ask("Your name?")
            raise RuntimeError("not this time")
        return await job.ask("Delete everything?", choices=("yes", "no"))

    async def deaf(self, job: JobContext, data: Text) -> str:
        """Go on until the gate opens, whoever wants it to stop."""
        self.entered.set()
        while not self.gate.is_set():
            with suppress(asyncio.CancelledError):
                await self.gate.wait()
        return "never listened"

    async def gentle(self, job: JobContext, data: Text) -> str:
        """Work until asked to end."""
        self.entered.set()
        while not job.is_cancelling:  # noqa: ASYNC110 (what a job that polls looks like)
            await asyncio.sleep(0.001)
        return "ended by itself"

    async def sleeps(self, job: JobContext, data: Text) -> None:
        """Wait for a day."""
        self.entered.set()
        await job.sleep(86_400)

    async def joins(self, job: JobContext, data: Text) -> None:
        """Wait for the end of another job."""
        self.entered.set()
        await job._live.runtime.wait(data.text)

    async def threads(self, job: JobContext, data: Text) -> None:
        """Wait for a thread that waits for the gate."""
        self.entered.set()
        await job.in_thread(self.thread_gate.wait, 20)

    async def naps(self, job: JobContext, data: Text) -> None:
        """Wait for the bell without a slot, then count among those that work."""
        async with job.waiting():
            await self.bell.wait()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self.gate.wait()
        self.running -= 1
