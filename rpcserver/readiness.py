"""Whether the server can do its work now: the database takes a write, the writer keeps up, there is room, no drain.

Source: promises.md 4.
"""

import asyncio
import shutil
import time
from typing import TYPE_CHECKING, Any

from rpcserver import identity
from store import StoreError

if TYPE_CHECKING:
    from rpcserver.app import App

CHECK_EVERY_S = 1.0
WRITE_WITHIN_S = 2.0


class Readiness:
    """Looks at most once a second, however often it is asked: a look costs a commit."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._looked_at = -CHECK_EVERY_S
        self._checks: dict[str, dict[str, Any]] = {}
        self._looking = asyncio.Lock()

    async def checks(self) -> dict[str, dict[str, Any]]:
        """Return what was looked at, by name; each has `ok`, and what was found."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= CHECK_EVERY_S:
                self._checks = await self._look()
                self._looked_at = time.monotonic()
        # Never kept: a balancer must hear of the drain at once.
        return {**self._checks, "draining": {"ok": not self._app.dispatcher.is_draining}}

    async def _look(self) -> dict[str, dict[str, Any]]:
        settings, store = self._app.settings, self._app.store
        waiting, bound = store.writes_waiting, settings.max_writes_waiting // 2
        free = shutil.disk_usage(store.folder).free
        pools = (*self._app.pools.all, store.reads)
        stuck = [pool.name for pool in pools if pool.is_stuck]
        return {
            "database": await self._database(),
            "threads": {"ok": not stuck, "stuck": stuck, **{pool.name: pool.state for pool in pools}},
            "writer": {"ok": waiting < bound, "waiting": waiting, "bound": bound},
            "disk": {
                "ok": free >= settings.min_free_disk_bytes,
                "free_bytes": free,
                "min_bytes": settings.min_free_disk_bytes,
            },
        }

    async def _database(self) -> dict[str, Any]:
        started = time.monotonic()
        try:
            async with asyncio.timeout(WRITE_WITHIN_S):
                await self._app.store.write(identity.probe)
        except TimeoutError:
            return {"ok": False, "reason": f"a write took longer than {WRITE_WITHIN_S:g} s"}
        except StoreError as error:
            return {"ok": False, "reason": str(error)}
        return {"ok": not self._app.store.is_broken, "ms": round((time.monotonic() - started) * 1000, 1)}
