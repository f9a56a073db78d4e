"""Asks what stands behind an attribute or a rule: its value, a script, a remote, or a person.

Source: sessions.md 4.1, 4.4.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from core import activity, known, remember, remotes, scripts
from core.behind import Behind
from core.remotes import Remote
from jobs.context import JobContext
from jobs.errors import AttributePending, RemoteUnavailable, ScriptFailed
from jobs.remoting import Remotes
from jobs.scripting import ScriptEngine

# What a job that asks outside has to declare, besides its own calls.
CALLS = (
    "core.script.load",
    "core.script.keep",
    "core.session.recall",
    "core.session.remember",
    "core.attribute.know",
    "core.remote.load",
    "core.remote.activity.note",
    "core.remote.activity.ask",
    "core.remote.activity.waiting",
)
_KEPT = ("local", "state", "data")
OnAsked = Callable[[str, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. `state`: `ok`, `pending` (a person was asked, see `activity_id`) or `unknown`."""

    value: Any
    state: str = "ok"
    activity_id: str | None = None


class Outside:
    """The scripts' sandbox, the remotes' client and the people, behind one door.

    Args:
        on_asked: told of a question, as (the user who is to answer, what it is about), once it is stored.
    """

    def __init__(self, engine: ScriptEngine, remotes: Remotes, on_asked: OnAsked) -> None:
        self.engine = engine
        self.remotes = remotes
        self._on_asked = on_asked
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """Stop the workers and close the connections."""
        await self.engine.close()
        await self.remotes.close()

    async def read(self, job: JobContext, asked: Behind, data_set_id: str | None = None) -> Answer:
        """Return what the attribute answers its reader, and remember that for listings."""
        if asked.source.kind == "value":
            return Answer(asked.source.value)
        answer = await self._ask(job, asked, None, data_set_id, is_write=False)
        if answer.state == "ok":
            name = asked.source.kept_as(asked.attribute)
            await job.write(lambda core: core(known.know, asked.token_id, name, answer.value))
        return answer

    async def write(self, job: JobContext, asked: Behind, value: Any, data_set_id: str | None = None) -> Answer:
        """Hand a value to the script, remote or person behind the attribute and return what comes back."""
        return await self._ask(job, asked, value, data_set_id, is_write=True)

    async def judge(self, job: JobContext, asked: Behind) -> Any:
        """Return what a rule's script, remote or person says; a script remembers nothing of it."""
        if asked.source.kind == "script":
            return await self._judged(job, asked)
        remote, owner_name = await job.read(lambda core: core(remotes.load, asked.source.value, asked.owner_id))
        if remote.kind != "manual":
            return (await self._call(job, remote, owner_name, asked, None, is_write=True)).value
        if asked.earlier is None:
            await self._person(job, remote, asked, f"to pass {asked.name}", is_write=True)
            return {"allow": False, "message": "somebody has been asked: come again when he has answered."}
        return asked.earlier

    async def _ask(
        self, job: JobContext, asked: Behind, value: Any, data_set_id: str | None, *, is_write: bool
    ) -> Answer:
        if asked.source.kind == "script":
            return Answer(await self._script(job, asked, value, data_set_id))
        remote, owner_name = await job.read(lambda core: core(remotes.load, asked.source.value, asked.owner_id))
        if remote.kind == "manual":
            return await self._person(job, remote, asked, value, is_write=is_write)
        return await self._call(job, remote, owner_name, asked, value, is_write=is_write)

    async def _call(
        self, job: JobContext, remote: Remote, owner_name: str, asked: Behind, value: Any, *, is_write: bool
    ) -> Answer:
        try:
            reply = await self.remotes.call(remote, owner_name, asked, value, is_write=is_write)
        except RemoteUnavailable as error:
            code = error.code
            await job.write(lambda core: core(activity.note, remote.id, asked.token_id, "failed", code, 0))
            raise
        state: activity.Ending = "cached" if reply.is_cached else "succeeded"
        await job.write(
            lambda core: core(activity.note, remote.id, asked.token_id, state, reply.code, reply.duration_ms)
        )
        return Answer(reply.value)

    async def _script(self, job: JobContext, asked: Behind, value: Any, data_set_id: str | None) -> Any:
        # One run of a script at a time: what it remembers is read, changed and stored without another in between.
        lock = self._locks.setdefault(asked.source.value, asyncio.Lock())
        async with lock:
            script, local = await job.read(
                lambda core: core(scripts.load, asked.source.value, asked.owner_id, asked.token_id)
            )
            if not script.is_on:
                raise ScriptFailed("it is turned off")
            data = await self._data(job, data_set_id, asked.set_id)
            before = {"local": local, "state": script.state, "data": data}
            outcome = await self.engine.run(script.text, {**_inputs(asked, value), **before}, _KEPT, job.user_id)
            if any(not isinstance(outcome.kept[name], dict) for name in _KEPT):
                raise ScriptFailed("local, state and data must stay objects")
            await self._keep(job, asked, data_set_id, before, outcome.kept)
        return outcome.value

    async def _judged(self, job: JobContext, asked: Behind) -> Any:
        script, local = await job.read(
            lambda core: core(scripts.load, asked.source.value, asked.owner_id, asked.token_id)
        )
        if not script.is_on:
            raise ScriptFailed("it is turned off")
        inputs = {**_inputs(asked, None), "local": local, "state": script.state, "data": {}}
        return (await self.engine.run(script.text, inputs, (), job.user_id)).value

    async def _data(self, job: JobContext, data_set_id: str | None, set_id: str | None) -> dict[str, Any]:
        if data_set_id is None or set_id is None:
            return {}
        entries = await job.read(lambda core: core(remember.recall, data_set_id, set_id))
        return {entry.name: entry.value for entry in entries if entry.set_id == set_id}

    async def _keep(
        self, job: JobContext, asked: Behind, data_set_id: str | None, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        changed = {name: after[name] if after[name] != before[name] else None for name in _KEPT}
        if changed["local"] is not None or changed["state"] is not None:
            script_id, token_id = asked.source.value, asked.token_id
            await job.write(lambda core: core(scripts.keep, script_id, token_id, changed["local"], changed["state"]))
        if data_set_id is None or asked.set_id is None or changed["data"] is None:
            return
        for name in {**before["data"], **after["data"]}:
            if before["data"].get(name) != after["data"].get(name):
                held = after["data"].get(name)
                await job.write(
                    lambda core, name=name, held=held: core(  # type: ignore[misc]
                        remember.remember, data_set_id, name, held, asked.set_id
                    )
                )

    async def _person(self, job: JobContext, remote: Remote, asked: Behind, value: Any, *, is_write: bool) -> Answer:
        if not remote.is_on:
            raise RemoteUnavailable("it is turned off")
        key = (remote.id, asked.token_id, asked.source.kept_as(asked.attribute))
        pending = await job.read(lambda core: core(activity.waiting, *key))
        if pending is not None and is_write:
            return Answer(None, "pending", pending)
        if pending is not None:
            raise AttributePending(pending)
        if not is_write or value is None:
            # Nothing to ask: pressing again without a value looks whether the answer has come.
            return Answer(asked.earlier, "ok" if asked.earlier is not None else "unknown")
        definition = remote.definition
        answerer_id = remote.owner_id if definition.answered_by == "remote_owner" else asked.owner_id
        question = {
            "text": definition.question,
            "value": value,
            "token": asked.name,
            "caller": asked.caller_name,
        }
        activity_id = await job.write(
            lambda core: core(activity.ask, *key, answerer_id, question, definition.timeout_s)
        )
        await self._on_asked(answerer_id, {"activity_id": activity_id, "remote_id": remote.id, **question})
        return Answer(None, "pending", activity_id)


def _inputs(asked: Behind, value: Any) -> dict[str, Any]:
    return {
        "value": value,
        "token": asked.attributes,
        "name": asked.name,
        "earlier": asked.earlier,
        "caller": {"id": asked.caller_id, "name": asked.caller_name},
    }
