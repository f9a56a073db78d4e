"""Tells guests what has happened: after the commit, in its order, and nobody who changed something waits for it."""

import asyncio
from typing import Any

import structlog

from plugins.bus import Bus

log = structlog.get_logger("plugins")

HOOKS = ("session_created", "session_entered", "session_left", "session_destroyed", "job_finished")


class Notices:
    """What is to be told, one after another. It is not kept over a restart: what must not be missed is an event.

    Args:
        max_waiting: what guests may fall behind by; what comes then is not told, and the log says so.
    """

    def __init__(self, bus: Bus, max_waiting: int) -> None:
        self._bus = bus
        self._wanted = frozenset(hook for hook in HOOKS if bus.has(hook))
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(max_waiting)

    def wants(self, hook: str) -> bool:
        """Tell whether any guest listens."""
        return hook in self._wanted

    def put(self, hook: str, **arguments: Any) -> None:
        """Have guests told; called once it is on disk."""
        try:
            self._queue.put_nowait((hook, arguments))
        except asyncio.QueueFull:
            log.warning("notice_dropped", hook=hook, reason="the plugins are too far behind")

    async def run(self) -> None:
        """Tell what comes, until cancelled."""
        while True:
            hook, arguments = await self._queue.get()
            await self._bus.tell(hook, **arguments)
