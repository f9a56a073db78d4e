"""A guest whose commands, guards and methods ask a person, for tests over the wire."""

import asyncio
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from plugins.hooks import Passage, Play, plays
from rpcserver.plugin import (
    Action,
    Command,
    GuestMethod,
    JobContext,
    JobSpec,
    MethodCall,
    Move,
    Pallet,
    hookimpl,
    job,
    method,
)

SAID: list[str] = []  # what happened, in order
BEGUN, GATE = asyncio.Event(), asyncio.Event()
JOBS = {"asks.local": "ask.local", "asks.long": "ask.long", "asks.deep": "ask.deep"}


class Question(BaseModel):
    """What to ask."""

    text: str = "Well?"


@job("ask.local", Question, timeout_s=2.0)
async def local(job: JobContext, data: Question) -> str:
    """Ask, in the caller's turn."""
    SAID.append(f"asks {data.text}")
    answer = str(await job.ask(data.text))
    SAID.append(f"heard {answer}")
    if answer == "linger":
        await asyncio.Event().wait()
    return answer


@job("ask.long", Question, lane="long", timeout_s=2.0)
async def long(job: JobContext, data: Question) -> str:
    """Ask, in a job that outlives its caller."""
    return str(await job.ask(data.text))


@job("ask.deep", Question, timeout_s=2.0)
async def deep(job: JobContext, data: Question) -> str:
    """Have a job inside this one ask."""
    return str(await job.run("ask.local", {"text": data.text}))


@hookimpl
def register_jobs() -> Iterable[JobSpec]:
    """Bring the jobs above."""
    return [local, long, deep]


@hookimpl
def session_pallet(pallet: Pallet) -> list[Command]:
    """Offer commands that ask, and one that does not."""
    return [
        Command(name, name, accepts="string") for name in (*JOBS, "asks.twice", "asks.home", "asks.not", "asks.gate")
    ]


@hookimpl
async def session_action(action: Action) -> Any:
    """Ask by the job the command names, then end.

    `asks.twice` asks two at once, `asks.home` sends the session home; `asks.not` and `asks.gate` ask nobody.
    """
    if not action.token_id.startswith("asks."):
        return None
    action.handled = True
    data = {"text": str(action.value)}
    if action.token_id == "asks.not":
        SAID.append(f"ran {action.value}")
        return None
    if action.token_id == "asks.gate":
        SAID.append("gate begins")
        BEGUN.set()
        await GATE.wait()
        SAID.append("gate ends")
        return None
    if action.token_id == "asks.twice":
        return await asyncio.gather(*(action.run("ask.local", {"text": f"{action.value}{n}"}) for n in (1, 2)))
    answer = await action.run(JOBS.get(action.token_id, "ask.local"), data)
    if action.token_id == "asks.home":
        action.move = Move(to="home")
    SAID.append(f"ended {action.value}")
    return answer


@hookimpl
async def set_entering(passage: Passage) -> str | None:
    """Ask for the word of a set whose session is called guarded."""
    if passage.session.name != "guarded":
        return None
    return None if await passage.run("ask.local", {"text": "The word?"}) == "friend" else "That is not the word."


@method("asks.method", Question)
async def asks(call: MethodCall, params: Question) -> str:
    """Ask by a command of a session."""
    answer = await call.call("session.action", session_id=params.text, token_id="asks.local", value="inside")
    return str(answer["response"])


@hookimpl
def register_methods() -> Iterable[GuestMethod]:
    """Bring the method above."""
    return [asks]


@plays("asks.play")
async def play(play: Play) -> Any:
    """Ask by a command of the session that is played in."""
    answer = await play.call("session.action", session_id=play.session.id, token_id="asks.local", value="played")
    return answer["response"]
