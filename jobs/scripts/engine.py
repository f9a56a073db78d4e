"""Runs scripts in worker processes of their own: no files, no network, bounded in time, memory, depth and output.

The workers belong to pydantic-monty, an optional part: without it a script answers with a clear error. One user's
scripts run one after another, so that nobody's loops keep the workers from the others.
Source: sessions.md 4.3, 4.4; libraries.md 1.5.
"""

import ast
import asyncio
import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from jobs.errors import ScriptFailed, ScriptLimit, ScriptsUnavailable
from store import Pool, PoolBusy

NICENESS = 10  # scripts take what processor time the server leaves
ANSWER = "answer_"  # what the last expression of a script is kept in; scripts see it as any other name


@dataclass(frozen=True, slots=True)
class ScriptLimits:
    """What one run may use.

    Args:
        calls: how often it may turn to the outside of its sandbox: to files, the environment, names it does not know.
        output_bytes: of its answer, of what it remembers and of what it prints, each.
        processes: workers, so scripts that run at once; waiting_per_user: runs one user may have waiting.
    """

    timeout_s: float = 0.2
    memory_bytes: int = 16 * 1024 * 1024
    depth: int = 100
    calls: int = 100
    output_bytes: int = 64 * 1024
    processes: int = 1
    waiting_per_user: int = 32


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a script answered, what its variables `kept` are now, and what it printed."""

    value: Any
    kept: dict[str, Any]
    printed: str


class ScriptEngine(Protocol):
    """What runs scripts; another sandbox has to keep to it."""

    async def run(self, text: str, inputs: Mapping[str, Any], keeps: tuple[str, ...], user_id: str) -> Outcome: ...
    async def close(self) -> None: ...


class MontyEngine:
    """Runs scripts in pydantic-monty's workers, which start with the first script."""

    def __init__(self, limits: ScriptLimits, threads: Pool | None = None) -> None:
        self._limits = limits
        self._threads = threads or script_threads(limits)
        self._pool: Any = None
        self._starting = asyncio.Lock()

    async def run(self, text: str, inputs: Mapping[str, Any], keeps: tuple[str, ...], user_id: str) -> Outcome:
        """Run a script for a user and return what its last expression gave.

        Args:
            inputs: its variables, JSON values.
            keeps: those whose values at the end are wanted.

        Raises:
            ScriptFailed: it raised, or its worker died. ScriptLimit: it used too much, or too many wait already.
            ScriptsUnavailable: the sandbox is not installed.
        """
        pool = await self._started()
        code = _with_answer(text, keeps)
        try:
            return await self._threads.run_for(user_id, self._run, pool, code, dict(inputs), keeps)
        except PoolBusy as error:
            raise ScriptLimit(f"{self._limits.waiting_per_user} scripts of yours wait already") from error

    async def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await self._threads.run(pool.__exit__, None, None, None)
        await self._threads.close()

    async def _started(self) -> Any:
        async with self._starting:
            if self._pool is None:
                try:
                    from pydantic_monty import Monty
                except ImportError as error:
                    raise ScriptsUnavailable from error
                pool = Monty(min_processes=1, max_processes=self._limits.processes)
                # Started from one of our threads: the workers are as patient as it is.
                self._pool = await self._threads.run(pool.__enter__)
        return self._pool

    def _run(self, pool: Any, code: str, inputs: dict[str, Any], keeps: tuple[str, ...]) -> Outcome:
        import pydantic_monty as monty

        limits = self._limits
        bounds = {
            "max_feed_duration_secs": limits.timeout_s,
            "max_memory": limits.memory_bytes,
            "max_recursion_depth": limits.depth,
            "max_suspensions": limits.calls,
            "max_total_sleep_secs": 0.0,
        }
        printed = monty.CollectString(max_bytes=limits.output_bytes)
        try:
            with pool.checkout(script_name="script", limits=bounds, os_policy={"sleep": "zero"}) as session:
                answer = session.feed_run(code, inputs=inputs, print_callback=printed)
        except monty.MontyCrashedError as error:
            raise ScriptFailed("its worker died") from error
        except monty.MontyError as error:
            raise _told(error) from error
        value, *kept = [_plain(part, limits.output_bytes) for part in answer]
        return Outcome(value, dict(zip(keeps, kept, strict=True)), str(printed.output))


def script_threads(limits: ScriptLimits) -> Pool:
    """Return a thread for each worker: the package's own asyncio door leaves one that can abort the process at exit."""
    return Pool(
        "scripts",
        limits.processes,
        per_owner=1,
        waiting_per_owner=limits.waiting_per_user,
        timeout_s=None,
        on_start=_step_back,
    )


def _step_back() -> None:
    # On Linux a thread has a niceness of its own, and a process begins with that of the thread that starts it.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _with_answer(text: str, keeps: tuple[str, ...]) -> str:
    """Return the script with its last expression kept, ending in a list of that and the variables wanted."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ScriptFailed("it does not parse") from error
    head, answer = text, "None"
    if body and isinstance(body[-1], ast.Expr):
        last = body[-1]
        answer = ast.get_source_segment(text, last) or "None"
        head = "".join(text.splitlines(keepends=True)[: last.lineno - 1]) + _before(text, last)
    return f"{head}\n{ANSWER} = (\n{answer}\n)\n[{', '.join([ANSWER, *keeps])}]"


def _before(text: str, last: ast.Expr) -> str:
    line = text.splitlines(keepends=True)[last.lineno - 1]
    return line.encode()[: last.col_offset].decode()


def _told(error: Any) -> ScriptFailed | ScriptLimit:
    inner = error.exception()
    if isinstance(inner, TimeoutError):
        return ScriptLimit("it took too long")
    if isinstance(inner, MemoryError):
        return ScriptLimit("it used too much memory, or said too much")
    if isinstance(inner, RecursionError):
        return ScriptLimit("it called itself too deeply")
    if isinstance(inner, RuntimeError) and str(inner).startswith("suspension limit"):
        return ScriptLimit("it turned to what is outside of it too often")
    return ScriptFailed(str(error)[:500])


def _plain(value: Any, limit: int) -> Any:
    try:
        text = json.dumps(value, allow_nan=False)
        orjson.dumps(value)  # no whole number outside 64 bits, which the answer could not hold
    except (TypeError, ValueError, RecursionError) as error:
        reason = "what it gives is not JSON: numbers of 64 bits, text, lists, objects, true, false, None"
        raise ScriptFailed(reason) from error
    if len(text) > limit:
        raise ScriptLimit(f"it gives more than {limit} bytes")
    return json.loads(text)
