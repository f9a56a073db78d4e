"""Runs the scripts behind attributes and rules: with what they remember, not too often, and not when the last answer
still holds.

Source: sessions.md 4.3.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from core import remember, scripts
from core.attribute_values import Behind
from core.scripts import Script
from jobs.errors import ScriptFailed, ScriptLimit
from jobs.model import Answer, JobContext
from jobs.scripts.engine import Outcome, ScriptEngine
from store import Clock

CALLS = ("core.script.load", "core.script.keep", "core.session.recall", "core.session.remember")
GOOD_UNTIL = "good_until"
MAX_CACHED = 500
_KEPT = ("local", "state", "data")


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer that holds: when it came, and until when on the steady scale."""

    value: Any
    as_of: int
    steady_until: float


class ScriptRuns:
    """Runs scripts for attributes and rules. `engine` is their sandbox, `clock` tells the time."""

    def __init__(self, engine: ScriptEngine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._began: dict[str, float] = {}
        # (script, text, token or "" for all, set) -> answer
        self._cached: OrderedDict[tuple[str, str, str, str | None], _Kept] = OrderedDict()

    async def answer(
        self, job: JobContext, asked: Behind, value: Any, data_set_id: str | None, *, is_write: bool
    ) -> Answer:
        """Run the script behind an attribute, and keep what it remembers; or return an answer that still holds."""
        # One run of a script at a time: what it remembers is read, changed and stored without another in between.
        lock = self._locks.setdefault(asked.source.value, asyncio.Lock())
        async with lock:
            script, local = await self._load(job, asked)
            data = await _data(job, data_set_id, asked.set_id)
            before = {"local": local, "state": script.state, "data": data}
            if is_write:
                self._forget(script, asked)
                before |= {name: _without_good_until(before[name]) for name in ("local", "state")}
            elif (cached := self._find(script, asked, before)) is not None:
                return cached
            self._cool_down(script)
            outcome = await self._run(
                job, script, {**inputs(script, asked, value, self._clock.now_ms()), **before}, _KEPT
            )
            if any(not isinstance(outcome.kept[name], dict) for name in _KEPT):
                raise ScriptFailed("local, state and data must stay objects")
            # What a write took away of them is stored as well, should the script not have said anything new.
            stored = {"local": local, "state": script.state, "data": data}
            await _keep(job, asked, data_set_id, stored, outcome.kept)
            if not is_write:
                self._remember(script, asked, outcome)
        return Answer(outcome.value, as_of=self._clock.now_ms())

    async def judge(self, job: JobContext, asked: Behind) -> Any:
        """Run the script of a rule, which remembers nothing of it."""
        script, local = await self._load(job, asked)
        self._cool_down(script)
        given = {**inputs(script, asked, None, self._clock.now_ms()), "local": local, "state": script.state, "data": {}}
        return (await self._run(job, script, given, ())).value

    async def _load(self, job: JobContext, asked: Behind) -> tuple[Script, dict[str, Any]]:
        script, local = await job.read(
            lambda core: core(scripts.load, asked.source.value, asked.owner_id, asked.token_id)
        )
        if not script.is_on:
            raise ScriptFailed("it is turned off")
        return script, local

    async def _run(self, job: JobContext, script: Script, given: Mapping[str, Any], keeps: tuple[str, ...]) -> Outcome:
        return await self.engine.run(script.text, given, keeps, job.user_id)

    def _cool_down(self, script: Script) -> None:
        now = self._clock.monotonic()
        left_s = self._began.get(script.id, float("-inf")) + script.cool_down_s - now
        if script.cool_down_s and left_s > 0:
            raise ScriptLimit(f"it ran a moment ago: wait {left_s:.3g} s", retry_after_s=left_s)
        if script.cool_down_s:
            self._began[script.id] = now

    def _find(self, script: Script, asked: Behind, before: Mapping[str, Any]) -> Answer | None:
        scope, until = _held(asked, before)
        found = self._cached.get((script.id, script.text, *scope))
        # It was to hold for so long as well: a clock that was set back since makes that no longer.
        if found is not None and self._clock.now_ms() < until and self._clock.steady_ms() < found.steady_until:
            return Answer(found.value, "cached", as_of=found.as_of)
        left_s = self._began.get(script.id, float("-inf")) + script.cool_down_s - self._clock.monotonic()
        if script.cool_down_s and left_s > 0 and asked.earlier_at is not None:
            return Answer(asked.earlier, "cached", as_of=asked.earlier_at)
        return None

    def _remember(self, script: Script, asked: Behind, outcome: Outcome) -> None:
        scope, until = _held(asked, outcome.kept)
        now, steady = self._clock.both_ms()
        if now < until:
            self._cached[(script.id, script.text, *scope)] = _Kept(outcome.value, now, steady + until - now)
            while len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)

    def _forget(self, script: Script, asked: Behind) -> None:
        for key in [key for key in self._cached if key[0] == script.id and key[2] in ("", asked.token_id)]:
            del self._cached[key]


def inputs(script: Script, asked: Behind, value: Any, now: int) -> dict[str, Any]:
    """Return the variables a script sees, without those it remembers by; `now` is UTC milliseconds."""
    return {
        "value": value,
        "token": asked.attributes,
        "name": asked.name,
        "earlier": asked.earlier,
        "owner": {"id": asked.owner_id, "name": asked.owner_name},
        "caller": {"id": asked.caller_id, "name": asked.caller_name},
        "params": script.extra_params,
        "now": now,
    }


def _held(asked: Behind, kept: Mapping[str, Any]) -> tuple[tuple[str, str | None], float]:
    """Return for which token and set an answer holds, ("", None) for all, and until when, in UTC milliseconds."""
    for name, scope in (("local", (asked.token_id, asked.set_id)), ("state", ("", None))):
        until = kept[name].get(GOOD_UNTIL)
        if until is not None:
            return scope, until if isinstance(until, int | float) and not isinstance(until, bool) else 0
    return ("", None), 0


def _without_good_until(held: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in held.items() if name != GOOD_UNTIL}


async def _data(job: JobContext, data_set_id: str | None, set_id: str | None) -> dict[str, Any]:
    if data_set_id is None or set_id is None:
        return {}
    entries = await job.read(lambda core: core(remember.recall, data_set_id, set_id))
    return {entry.name: entry.value for entry in entries if entry.set_id == set_id}


async def _keep(
    job: JobContext, asked: Behind, data_set_id: str | None, before: Mapping[str, Any], after: Mapping[str, Any]
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
