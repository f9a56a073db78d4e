"""Notices a blocked event loop: over the limit, the log names the method, plugin or job, and the stack that blocked.

A thread asks the loop for a sign of life and looks at the loop's stack when none comes. A call pays nothing for it.
Source: promises.md R13.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog

from jobs.run import Run

log = structlog.get_logger("loop")

MethodIn = Callable[[FrameType], str | None]

DEEPEST = 12  # frames of the stack that are told, the innermost last


class Watchdog:
    """Watches the loop it was started on.

    Args:
        limit_s: how long the loop may be busy without anybody being told.
        method_in: names the method that a frame of the stack works on, None where it works on none.
    """

    def __init__(self, limit_s: float, method_in: MethodIn) -> None:
        self._limit_s = limit_s
        self._method_in = method_in
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._alive = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.max_s = 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._limit_s / 2):
            self._alive.clear()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:
                return  # the loop is closed
            if self._alive.wait(self._limit_s):
                continue
            if self._stop.is_set():
                return  # the loop waits for us to end, and for nothing else
            seen = self._look()
            while not self._alive.wait(self._limit_s):
                if self._stop.is_set():
                    return
            blocked_s = time.monotonic() - asked
            self.max_s = max(self.max_s, blocked_s)
            log.warning("loop_blocked", ms=round(blocked_s * 1000), **seen)

    def _look(self) -> dict[str, Any]:
        frame = sys._current_frames().get(self._loop_thread)
        # Told at once as well: a loop that never comes back would never be told of otherwise.
        seen = described(frame, self._method_in)
        log.warning("loop_is_blocked", over_ms=round(self._limit_s * 1000), **seen)
        return seen


def described(frame: FrameType | None, method_in: MethodIn) -> dict[str, Any]:
    """Return which method, plugin and job a stack belongs to, and its innermost frames, as `file:line function`."""
    method = plugin = job = None
    stack = traceback.extract_stack(frame)[-DEEPEST:] if frame is not None else []
    while frame is not None:
        method = method or method_in(frame)
        if plugin is None and frame.f_code.co_name == "_ask" and frame.f_globals.get("__name__") == "plugins.manager":
            plugin = frame.f_locals.get("name")
        run = frame.f_locals.get("self")
        if job is None and isinstance(run, Run):
            job = run.spec.name
        frame = frame.f_back
    lines = [f"{entry.filename.rpartition('/')[2]}:{entry.lineno} {entry.name}" for entry in stack]
    return {"method": method, "plugin": plugin, "job": job, "where": lines}
