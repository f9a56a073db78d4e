"""A guest with jobs of every kind, for tests over the wire."""

import asyncio
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, get_args

from pydantic import BaseModel, Field

from jobs.model import Lane
from rpcserver.plugin import Action, Command, JobContext, JobError, JobSpec, Pallet, hookimpl, job


class Note(BaseModel):
    """Some text."""

    text: str = ""


@job("guest.echo", Note)
async def echo(job: JobContext, data: Note) -> str:
    """Return the text."""
    return data.text


@job("guest.looks", Note, lane="memory")
async def looks(job: JobContext, data: Note) -> str:
    """Return the text, without a row."""
    return data.text


class Renamed(BaseModel):
    """A number under another name."""

    up_to: int = Field(3, alias="upTo")


ODD = {"set": {1}, "big": 2**70, "decimal": Decimal("1.5"), "keys": {1: 2}, "model": Note(text="x"), "nan": math.nan}


async def returns(job: JobContext, data: Note) -> Any:
    """Return something that JSON has no word for."""
    return ODD[data.text]


async def renamed(job: JobContext, data: Renamed) -> int:
    """Return the number."""
    return data.up_to


@job("guest.naps", Note, timeout_s=20)
async def naps(job: JobContext, data: Note) -> str:
    """Take a moment."""
    await asyncio.sleep(0.5)
    return "awake"


@job("guest.steps", Note, lane="long")
async def steps(job: JobContext, data: Note) -> int:
    """Take three steps, and say so."""
    for number in range(1, 4):
        job.log(f"step {number}")
        job.progress(number, 3, f"step {number}")
        await asyncio.sleep(0)
    return 3


@job("guest.forever", Note, lane="long")
async def forever(job: JobContext, data: Note) -> None:
    """Wait for ever."""
    job.log("waiting")
    await asyncio.Event().wait()


@job("guest.fails", Note, lane="long")
async def fails(job: JobContext, data: Note) -> None:
    """Fail, in words for the caller."""
    raise JobError(f"no {data.text}")


@job("guest.exits", Note)
async def exits(job: JobContext, data: Note) -> None:
    """Try to end the whole process."""
    raise SystemExit(3)


@job("guest.asks", Note, lane="long", on_crash="retry", timeout_s=60)
async def asks(job: JobContext, data: Note) -> list[Any]:
    """Ask for a name, a colour and an age."""
    name = await job.ask("Your name?")
    colour = await job.ask("Which colour?", choices=("red", "green"), default="red")
    age = await job.ask("How old?", schema={"type": "integer", "minimum": 0})
    return [name, colour, age]


@job("guest.secret", Note, lane="long", on_crash="retry")
async def secret(job: JobContext, data: Note) -> int:
    """Ask for a password and return its length."""
    return len(await job.ask("Password?", is_secret=True))


@job("guest.hurried", Note, lane="long")
async def hurried(job: JobContext, data: Note) -> str:
    """Ask, but not for long."""
    return str(await job.ask("Quick?", default="nobody was there", timeout_s=0.05))


@job("guest.patient", Note, lane="long", timeout_s=0.3)
async def patient(job: JobContext, data: Note) -> str:
    """Ask before anything else, with less time of its own than a person needs."""
    answer = str(await job.ask("Well?"))
    await asyncio.sleep(0.4 if answer == "too long" else 0)
    return answer


@hookimpl
def register_jobs() -> Iterable[JobSpec]:
    """Bring the jobs above."""
    again = [job(f"guest.{lane}.returns", Note, lane=lane)(returns) for lane in get_args(Lane)]
    again += [job(f"guest.{lane}.renamed", Renamed, lane=lane)(renamed) for lane in get_args(Lane)]
    return [echo, looks, naps, steps, forever, fails, exits, asks, secret, hurried, patient, *again]


@hookimpl
def session_pallet(pallet: Pallet) -> list[Command]:
    """Offer to take the steps."""
    return [Command("guest.steps", "Take steps")]


@hookimpl
async def session_action(action: Action) -> Any:
    """Take the steps."""
    if action.token_id != "guest.steps":
        return None
    action.handled = True
    return await action.run("guest.steps", {})
