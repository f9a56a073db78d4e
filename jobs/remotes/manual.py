"""Manual remotes: questions that a person answers, each with a job of whoever asked that waits for the answer.

The question is one of `jobs.asks`: it reaches its person as `client.ask`, stands in asks.list, survives a restart and
expires.
Source: sessions.md 4.2, 4.4 (manual); protocol.md 5.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from core import activity
from core.activity import Activity, Question, Resolution
from core.attribute_values import Behind
from core.calls import Core
from core.errors import ActivityNotFound, BadValue
from core.remotes import MAX_ANSWER_BYTES, Remote
from jobs.errors import AskDeclined
from jobs.model import Form, JobContext
from store import new_id

WAIT = "remote.wait"
CALLS = ("core.remote.activity.ask", "core.remote.activity.waiting")
MAX_QUESTION_BYTES = 64 * 1024
MAX_SHOWN = 2000  # characters of what was written, in the text of the question

Tell = Callable[[str, dict[str, Any]], Awaitable[None]]


class WaitForPerson(BaseModel):
    """Input of remote.wait: the activity whose question was put."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    activity_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question that waits for its person, and the job that waits with it."""

    activity_id: str
    job_id: str


class Persons:
    """Puts questions to people and takes their answers.

    Args:
        on_asked, on_resolved: told of a question put, and of its end, as (who is to hear it, what it is about).
    """

    def __init__(self, on_asked: Tell, on_resolved: Tell) -> None:
        self._on_asked = on_asked
        self._on_resolved = on_resolved

    async def ask(self, job: JobContext, remote: Remote, asked: Behind, value: Any) -> Waiting:
        """Put a remote's question to its person and return what waits for the answer."""
        definition = remote.definition
        answerer_id = remote.owner_id if definition.answered_by == "remote_owner" else asked.owner_id
        details = {"text": definition.question, "value": value, "token": asked.name, "caller": asked.caller_name}
        if len(json.dumps(details)) > MAX_QUESTION_BYTES:
            raise BadValue(asked.attribute, f"it is longer than {MAX_QUESTION_BYTES} bytes")
        name = asked.source.kept_as(asked.attribute)
        question = Question(remote.id, asked.token_id, name, answerer_id, details, definition.timeout_s)
        choices = None if definition.choices is None else tuple(definition.choices)
        schema = {} if definition.schema is None and choices is None else definition.schema  # {}: any answer
        form = Form(schema, choices, timeout_s=definition.timeout_s, max_bytes=MAX_ANSWER_BYTES)
        activity_id = new_id("ra_")

        def record(core: Core, job_id: str, ask_id: str) -> None:
            core(activity.ask, activity_id, question, job_id, ask_id)

        waiting = {"activity_id": activity_id}
        job_id, ask_id = await job.post(WAIT, waiting, _text(details), form, answerer_id, record)
        notice = {"activity_id": activity_id, "remote_id": remote.id, "ask_id": ask_id, **details}
        await self._on_asked(answerer_id, notice)
        return Waiting(activity_id, job_id)

    async def wait(self, job: JobContext, data: WaitForPerson) -> Any:
        """Wait for the person, and have the answer known to whoever asked; it is the job's result."""
        state: Resolution = "succeeded"
        answer: Any = None
        declined: AskDeclined | None = None
        try:
            answer = await job.posted()
        except AskDeclined as error:
            declined, state = error, "expired" if error.is_late else "declined"
        except asyncio.CancelledError:
            if job.is_cancelling:  # whoever asked takes the question back; else the server stops, and it goes on later
                with suppress(ActivityNotFound):
                    await self._settle(job, data.activity_id, "cancelled", None)
            raise
        await self._settle(job, data.activity_id, state, answer)
        if declined is not None:
            raise declined
        return answer

    async def _settle(self, job: JobContext, activity_id: str, state: Resolution, answer: Any) -> None:
        settled = await job.write(lambda core: core(activity.settle, activity_id, state, answer))
        if settled is None:
            raise ActivityNotFound(activity_id)  # its remote is gone
        await self._on_resolved(settled.caller_id, _notice(settled, settled.state))


def _notice(activity: Activity, state: str) -> dict[str, Any]:
    return {"activity_id": activity.id, "token_id": activity.token_id, "state": state}


def _text(details: dict[str, Any]) -> str:
    value = details["value"] if isinstance(details["value"], str) else json.dumps(details["value"], ensure_ascii=False)
    shown = value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}..."
    return f"{details['text']}\n{details['caller']} at {details['token']}: {shown}"
