"""The pages on the server's port: /healthz, /readyz, /metrics, /openrpc.json.

Source: promises.md 4: details and metrics are for this machine, or for a credential that has the scope `metrics`.
"""

import asyncio
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from jobs import rows
from rpcserver import instance
from rpcserver.auth.authenticator import OPERATORS_SCOPES, Principal
from rpcserver.services import Services
from rpcserver.telemetry.metrics import CONTENT_TYPE, calls_by_code, family, histogram
from rpcserver.transport.connection import Connection
from rpcserver.transport.start_checks import OURS
from store import StoreError

CHECK_EVERY_S = 1.0
WRITE_WITHIN_S = 2.0


class Readiness:
    """Looks at most once a second, however often it is asked: a look costs a commit."""

    def __init__(self, services: Services) -> None:
        self._services = services
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
        return {**self._checks, "draining": {"ok": not self._services.dispatcher.is_draining}}

    async def _look(self) -> dict[str, dict[str, Any]]:
        settings, store = self._services.settings, self._services.store
        waiting, bound = store.writes_waiting, settings.max_writes_waiting // 2
        free = shutil.disk_usage(store.folder).free
        pools = (*self._services.pools.all, store.reads)
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
                await self._services.store.write(instance.probe)
        except TimeoutError:
            return {"ok": False, "reason": f"a write took longer than {WRITE_WITHIN_S:g} s"}
        except StoreError as error:
            return {"ok": False, "reason": str(error)}
        return {"ok": not self._services.store.is_broken, "ms": round((time.monotonic() - started) * 1000, 1)}


(SCOPE,) = OPERATORS_SCOPES
PROBES = ("/healthz", "/readyz")


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to a GET."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants a page: from this machine itself (not through a proxy), and with which credential."""

    is_local: bool
    principal: Principal | None = None

    @property
    def may_see_details(self) -> bool:
        """Tell whether the server's inside is his to see. `*` is not enough: every user has it."""
        return self.is_local or (self.principal is not None and SCOPE in self.principal.grant.scopes)


class Pages:
    """Makes the pages.

    Args:
        connections: those that are open, of which the metrics tell.
    """

    def __init__(self, services: Services, connections: Collection[Connection]) -> None:
        self._services = services
        self._connections = connections
        self._readiness = Readiness(services)

    async def page(self, path: str, asker: Asker) -> Page:
        """Return the page at a path; one that is not there says so with 404."""
        if path == "/healthz":
            return Page(200, "ok\n")
        if path == "/readyz":
            return await self._ready(asker)
        if path == "/metrics":
            return await self._metrics(asker)
        if path == "/openrpc.json":
            text = await self._services.description.text_for(asker.principal)
            return Page(200, text.decode(), "application/json")
        if path == "/":
            return Page(426, f"{OURS}: connect with a WebSocket, for example `rpcserver call`.\n")
        return Page(404, "There is no such page here.\n")

    async def _ready(self, asker: Asker) -> Page:
        checks = await self._readiness.checks()
        is_ready = all(check["ok"] for check in checks.values())
        status = 200 if is_ready else 503
        if asker.may_see_details:
            return _json(status, {"ready": is_ready, "checks": checks})
        return Page(status, "ready\n" if is_ready else "not ready\n")

    async def _metrics(self, asker: Asker) -> Page:
        if not asker.may_see_details:
            return Page(403, f"For this machine, or with a credential that has the scope {SCOPE!r}.\n")
        live = await self._services.store.read(rows.counts)
        return Page(200, "".join([*self._calls(), *self._connected(), *self._work(live)]), CONTENT_TYPE)

    def _calls(self) -> list[str]:
        metrics = self._services.metrics
        by_method = [({"method": name}, tally) for name, tally in sorted(metrics.calls.items())]
        return [
            family("rpcserver_calls_total", "counter", "Calls answered; code 0 is success.", calls_by_code(metrics)),
            histogram("rpcserver_call_seconds", "From the message to its answer.", by_method),
            family(
                "rpcserver_calls_in_flight", "gauge", "Calls under way.", [({}, self._services.dispatcher.in_flight)]
            ),
        ]

    def _connected(self) -> list[str]:
        metrics, connections = self._services.metrics, self._connections
        resumes = [({"outcome": outcome}, count) for outcome, count in sorted(metrics.resumes.items())]
        return [
            family("rpcserver_connections", "gauge", "Open connections.", [({}, len(connections))]),
            family("rpcserver_connections_total", "counter", "Connections opened.", [({}, metrics.connections)]),
            family(
                "rpcserver_queue_bytes",
                "gauge",
                "Bytes waiting for clients to read.",
                [({}, sum(one.queue_bytes for one in connections))],
            ),
            family("rpcserver_resumes_total", "counter", "Subscriptions with `since`.", resumes),
            histogram(
                "rpcserver_loop_lag_seconds", "How late the event loop came to what was due.", [({}, metrics.lag)]
            ),
        ]

    def _work(self, live: dict[str, int]) -> list[str]:
        metrics, store = self._services.metrics, self._services.store
        states = [({"state": state}, live.get(state, 0)) for state in ("queued", "running", "waiting_input")]
        ended = [({"outcome": outcome}, count) for outcome, count in sorted(metrics.jobs_ended.items())]
        return [
            family("rpcserver_jobs", "gauge", "Jobs that have not ended.", states),
            family("rpcserver_jobs_ended_total", "counter", "Jobs ended; those that only read leave none.", ended),
            family("rpcserver_commits_total", "counter", "Commits to disk.", [({}, store.commits)]),
            family("rpcserver_writes_total", "counter", "Writes they held.", [({}, store.writes)]),
            family("rpcserver_writes_waiting", "gauge", "Writes waiting for a commit.", [({}, store.writes_waiting)]),
        ]


def _json(status: int, content: Any) -> Page:
    return Page(status, orjson.dumps(content).decode(), "application/json")
