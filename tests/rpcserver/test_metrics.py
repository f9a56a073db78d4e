"""GET pages on the server's port: probes, metrics, the OpenRPC document, and what they cost."""

import asyncio
import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rpcserver.auth import authenticator
from rpcserver.client import CallError
from tests.conftest import Running, run_server, settle
from tests.rpcserver.test_openrpc import meta_schema_faults

PROXIED = {"X-Forwarded-For": "203.0.113.7"}


class Got:
    """What a page answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.type = response.headers["Content-Type"]
        self.text = response.read().decode()

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.text)


async def get(server: Running, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Got:
    """Ask for a page as a program without a WebSocket does."""

    def ask() -> Got:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            return Got(connection.getresponse())
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def samples(server: Running) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample of /metrics, as Prometheus' own parser reads it."""
    page = await get(server, "/metrics")
    assert page.type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


async def test_probes(server: Running) -> None:
    """A server that runs is healthy and ready; only this machine hears why."""
    assert (await get(server, "/healthz")).text == "ok\n"
    ready = await get(server, "/readyz")
    assert (ready.status, ready.type) == (200, "application/json")
    assert set(ready.json()["checks"]) == {"database", "writer", "threads", "disk", "draining"}
    assert all(check["ok"] for check in ready.json()["checks"].values())
    for headers in (PROXIED, {"Host": "balancer.example"}):
        told = await get(server, "/readyz", headers)
        assert (told.status, told.text) == (200, "ready\n")


async def test_not_ready_while_draining(server: Running) -> None:
    """A server about to stop says so at once, although it was ready a moment ago."""
    assert (await get(server, "/readyz")).status == 200
    server.services.dispatcher.is_draining = True
    ready = await get(server, "/readyz")
    assert ready.status == 503
    assert ready.json()["checks"]["draining"] == {"ok": False}
    assert (await get(server, "/readyz", PROXIED)).text == "not ready\n"
    assert (await get(server, "/healthz")).status == 200


async def test_not_ready_when_the_database_takes_no_write(server: Running) -> None:
    """A database that refuses a write takes the server out of service."""
    store = server.services.store
    await store.write(lambda tx: tx.run("PRAGMA query_only = ON"))
    ready = await get(server, "/readyz")
    store._connection.execute("PRAGMA query_only = OFF")  # the writer itself begins no transaction any more
    assert ready.status == 503
    assert not ready.json()["checks"]["database"]["ok"]
    assert ready.json()["checks"]["disk"]["ok"]


async def test_not_ready_when_the_disk_is_full(tmp_path: Path) -> None:
    """Less free space than asked for takes the server out of service."""
    async with run_server(tmp_path / "data", min_free_disk_bytes=2**60) as server:
        ready = await get(server, "/readyz")
    assert ready.status == 503
    assert not ready.json()["checks"]["disk"]["ok"]


async def test_not_ready_when_the_writer_falls_behind(tmp_path: Path) -> None:
    """More than half of the writes that may wait take the server out of service."""
    begun, release = threading.Event(), threading.Event()
    async with run_server(tmp_path / "data", max_writes_waiting=8) as server:
        store = server.services.store
        held = store.write(lambda tx: begun.set() or release.wait(20))
        await asyncio.to_thread(begun.wait)  # what is queued from now on waits for the next commit
        more = [store.write(lambda tx: None) for _ in range(5)]
        try:
            ready = await get(server, "/readyz")
        finally:
            release.set()
        await asyncio.gather(held, *more)
    assert ready.status == 503
    assert not ready.json()["checks"]["writer"]["ok"]


async def test_metrics_count_calls(server: Running) -> None:
    """Calls are counted by method and code, with their seconds; names a client makes up are one series."""
    client = await server.client("anna")
    for _ in range(3):
        await client.call("server.ping")
    for method, params in (("session.get", {"session_id": "s_none"}), ("made.up", {}), ("made.up.too", {})):
        with pytest.raises(CallError):
            await client.call(method, **params)
    seen = await samples(server)
    assert seen["rpcserver_calls_total", (("code", "0"), ("method", "server.ping"))] == 3
    assert seen["rpcserver_calls_total", (("code", "-32004"), ("method", "session.get"))] == 1
    assert seen["rpcserver_calls_total", (("code", "-32601"), ("method", "(unknown)"))] == 2
    assert seen["rpcserver_call_seconds_count", (("method", "server.ping"),)] == 3
    assert seen["rpcserver_call_seconds_bucket", (("le", "+Inf"), ("method", "server.ping"))] == 3
    assert seen["rpcserver_call_seconds_sum", (("method", "session.get"),)] > 0
    assert "made.up" not in (await get(server, "/metrics")).text


async def test_metrics_show_the_rest(server: Running) -> None:
    """Connections, queues, jobs, commits and resumes are shown."""
    client, other = await server.client("anna"), await server.client("bob")
    session_id = await client.create_session("work")
    await client.action("bookmarks.add", session_id)
    first = await client.subscribe("*")
    await client.subscribe("*", since=(first.epoch, first.seq))
    await client.subscribe("*", since=("e_another", 0))
    seen = await samples(server)
    assert seen["rpcserver_connections", ()] == 2
    assert seen["rpcserver_connections_total", ()] == 2
    assert seen["rpcserver_queue_bytes", ()] == 0
    assert seen["rpcserver_calls_in_flight", ()] == 0
    assert seen["rpcserver_resumes_total", (("outcome", "recovered"),)] == 1
    assert seen["rpcserver_resumes_total", (("outcome", "not_recovered"),)] == 1
    assert seen["rpcserver_jobs", (("state", "running"),)] == 0
    assert seen["rpcserver_jobs_ended_total", (("outcome", "completed"),)] >= 4  # two users, a session, a bookmark
    assert 0 < seen["rpcserver_commits_total", ()] <= seen["rpcserver_writes_total", ()]
    await other.close()
    await settle()
    assert (await samples(server))["rpcserver_connections", ()] == 1


async def test_an_answer_that_is_too_large_is_no_success(tmp_path: Path) -> None:
    """What the client got is what is counted."""
    async with run_server(tmp_path / "data", max_response_bytes=100) as server:
        client = await server.client("anna")
        with pytest.raises(CallError):
            await client.call("server.info")
        seen = await samples(server)
    assert seen["rpcserver_calls_total", (("code", "-32008"), ("method", "server.info"))] == 1


async def test_a_blocked_loop_shows_as_lag(server: Running) -> None:
    """A turn of the loop that takes too long stands in the histogram."""
    time.sleep(0.6)  # noqa: ASYNC251 (to block is the point)
    await settle()
    late = {
        key: value for key, value in (await samples(server)).items() if key[0] == "rpcserver_loop_lag_seconds_bucket"
    }
    assert (
        late["rpcserver_loop_lag_seconds_bucket", (("le", "+Inf"),)]
        > late["rpcserver_loop_lag_seconds_bucket", (("le", "0.25"),)]
    )


async def test_metrics_are_not_for_everybody(server: Running) -> None:
    """From elsewhere, metrics need a credential with the scope `metrics`; `*` does not do."""
    anna = await server.credential("anna")
    user = await server.services.store.read(lambda tx: tx.one("SELECT id FROM users WHERE name = 'anna'"))
    assert user is not None
    scraper = await server.services.store.write(lambda tx: authenticator.issue(tx, user[0], "prometheus", ("metrics",)))
    assert (await get(server, "/metrics", PROXIED)).status == 403
    assert (await get(server, "/metrics", {**PROXIED, "Authorization": f"Bearer {anna}"})).status == 403
    assert (await get(server, "/metrics", {**PROXIED, "Authorization": "Bearer rpc_wrong"})).status == 401
    assert (await get(server, "/metrics", {**PROXIED, "Authorization": f"Bearer {scraper}"})).status == 200


async def test_openrpc_page(server: Running) -> None:
    """/openrpc.json shows what the asker may call."""
    anybody = await get(server, "/openrpc.json")
    assert anybody.type == "application/json"
    assert meta_schema_faults(anybody.json()) == []
    known = await get(server, "/openrpc.json", {"Authorization": f"Bearer {await server.credential('anna')}"})
    names = {method["name"] for method in known.json()["methods"]}
    assert "session.ls" in names
    assert "session.ls" not in {method["name"] for method in anybody.json()["methods"]}


async def test_other_paths_and_verbs(server: Running) -> None:
    """What is not there is 404, the root says what this is, a POST is refused."""
    assert (await get(server, "/nothing")).status == 404
    assert (await get(server, "/")).status == 426
    assert (await get(server, "/metrics", method="POST")).status == 405
