"""Asks what stands behind an attribute or a rule: its value, a script, a remote, or a person.

Source: sessions.md 4.1, 4.4.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from core import activity, attribute_values, remotes
from core.activity import Try
from core.attribute_values import Behind
from core.calls import Core
from core.remotes import Remote
from jobs.errors import AttributePending, RemoteUnavailable
from jobs.model import Answer, JobContext
from jobs.remotes import manual
from jobs.remotes.client import Remotes, Reply
from jobs.remotes.manual import Persons, Tell
from jobs.scripts import runs
from jobs.scripts.engine import ScriptEngine
from jobs.scripts.runs import ScriptRuns
from store import Clock, note_outside

# What a job that asks outside has to declare, besides its own calls.
CALLS = (
    *runs.CALLS,
    *manual.CALLS,
    "core.attribute.know",
    "core.attribute.forget",
    "core.remote.load",
    "core.remote.activity.note",
)


class Outside:
    """The scripts' sandbox, the remotes' client and the people, behind one door.

    Args:
        clock: what tells the time.
        on_asked, on_resolved: told of a question to a person, and of its end, once that is stored, as (the user who is
            to hear it, what it is about).
    """

    def __init__(self, engine: ScriptEngine, remotes: Remotes, clock: Clock, on_asked: Tell, on_resolved: Tell) -> None:
        self.clock = clock
        self.scripts = ScriptRuns(engine, clock)
        self.remotes = remotes
        self.persons = Persons(on_asked, on_resolved)
        self._being_written: Counter[tuple[str, str]] = Counter()
        self._asking: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """Stop the workers and close the connections."""
        await self.scripts.engine.close()
        await self.remotes.close()

    async def read(self, job: JobContext, asked: Behind, data_set_id: str | None = None) -> Answer:
        """Return what the attribute answers its reader, and remember that for listings.

        While a write of it is not answered, its owner is told so, and nobody else reads it: AttributePending.
        """
        if asked.source.kind == "value":
            return Answer(asked.source.value)
        if asked.source.kind == "script":
            answer = await self.scripts.answer(job, asked, None, data_set_id, is_write=False)
        else:
            answer = await self._read_remote(job, asked)
        if answer.state in ("ok", "cached"):
            name = asked.source.kept_as(asked.attribute)
            await job.write(
                lambda core: core(attribute_values.keep_answer, asked.token_id, name, answer.value), is_record=True
            )
        return answer

    async def write(self, job: JobContext, asked: Behind, value: Any, data_set_id: str | None = None) -> Answer:
        """Hand a value to the script, remote or person behind the attribute and return what comes back."""
        if asked.source.kind == "script":
            return await self.scripts.answer(job, asked, value, data_set_id, is_write=True)
        remote, owner_name = await self._load(job, asked)
        if remote.kind == "manual":
            return await self._ask_person(job, remote, asked, value)
        name = asked.source.kept_as(asked.attribute)
        with self._writing(asked.token_id, name):
            while await job.write(
                lambda core: core(attribute_values.forget_answers, asked.token_id, name), is_record=True
            ):
                pass
            reply = await self.call(job, remote, owner_name, asked, value, is_write=True)
        return Answer(reply.value, as_of=reply.as_of)

    async def judge(self, job: JobContext, asked: Behind) -> Any:
        """Return what a rule's script, remote or person says; a script remembers nothing of it."""
        if asked.source.kind == "script":
            return await self.scripts.judge(job, asked)
        remote, owner_name = await self._load(job, asked)
        if remote.kind != "manual":
            return (await self.call(job, remote, owner_name, asked, None, is_write=True, is_question=True)).value
        if asked.earlier is None:
            await self._ask_person(job, remote, asked, f"to pass {asked.name}")
            return {"allow": False, "message": "somebody has been asked: come again when they have answered."}
        return asked.earlier

    async def call(
        self,
        job: JobContext,
        remote: Remote,
        owner_name: str,
        asked: Behind,
        value: Any,
        *,
        is_write: bool,
        is_question: bool = False,
        may_repeat: bool = True,
    ) -> Reply:
        """Call a remote, and record each try, however it ends. Raises RemoteUnavailable.

        Args:
            is_question: it only asks, with the time a write has.
        """
        tries: list[Try] = []
        try:
            async with job.waiting():
                return await self.remotes.call(
                    remote, owner_name, asked, value, is_write=is_write, tries=tries, may_repeat=may_repeat
                )
        finally:
            if is_write and not is_question and any(one.is_sent for one in tries):
                note_outside()
            if tries:
                noting = partial(_note, remote_id=remote.id, token_id=asked.token_id or None, tries=tries)
                await job.write(noting, is_record=True)

    async def _read_remote(self, job: JobContext, asked: Behind) -> Answer:
        remote, owner_name = await self._load(job, asked)
        if remote.kind == "manual":
            return await self._read_person(job, remote, asked)
        name = asked.source.kept_as(asked.attribute)
        if self._being_written[asked.token_id, name]:
            return _pending(asked, None)
        reply = await self.call(job, remote, owner_name, asked, None, is_write=False)
        return Answer(reply.value, "cached" if reply.is_cached else "ok", as_of=reply.as_of)

    async def _ask_person(self, job: JobContext, remote: Remote, asked: Behind, value: Any) -> Answer:
        if not remote.is_on:
            raise RemoteUnavailable("it is turned off")
        name = asked.source.kept_as(asked.attribute)
        # One question at a time of each asker, also of two of their tabs.
        lock = self._asking.setdefault((asked.token_id, name, asked.caller_id), asyncio.Lock())
        async with lock:
            pending = await job.read(lambda core: core(activity.waiting, asked.token_id, name))
            if pending is not None:
                return Answer(None, "pending", pending.id, pending.job_id)
            if value is None:
                # Nothing to ask: pressing again without a value looks whether the answer has come.
                return _last(asked)
            waiting = await self.persons.ask(job, remote, asked, value)
            return Answer(None, "pending", waiting.activity_id, waiting.job_id)

    async def _read_person(self, job: JobContext, remote: Remote, asked: Behind) -> Answer:
        # Each asker has an answer of their own, and waits for it alone; the token's owner sees that somebody waits.
        if not remote.is_on:
            raise RemoteUnavailable("it is turned off")
        name, is_owner = asked.source.kept_as(asked.attribute), asked.owner_id == asked.caller_id
        pending = await job.read(lambda core: core(activity.waiting, asked.token_id, name, is_of_all=is_owner))
        return _last(asked) if pending is None else _pending(asked, pending.id)

    async def _load(self, job: JobContext, asked: Behind) -> tuple[Remote, str]:
        return await job.read(lambda core: core(remotes.load, asked.source.value, asked.owner_id))

    @contextmanager
    def _writing(self, token_id: str, name: str) -> Iterator[None]:
        self._being_written[token_id, name] += 1
        try:
            yield
        finally:
            self._being_written[token_id, name] -= 1
            if not self._being_written[token_id, name]:
                del self._being_written[token_id, name]


def _note(core: Core, remote_id: str, token_id: str | None, tries: list[Try]) -> None:
    core(activity.note, remote_id, token_id, tries)


def _pending(asked: Behind, activity_id: str | None) -> Answer:
    if asked.owner_id != asked.caller_id:
        raise AttributePending(activity_id)
    return Answer(None, "pending", activity_id)


def _last(asked: Behind) -> Answer:
    if asked.earlier_at is None:
        return Answer(None, "unknown")
    return Answer(asked.earlier, as_of=asked.earlier_at)
