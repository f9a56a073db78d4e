"""What hangs in threads of one kind stops neither the other kinds nor the end of the process; readiness names it."""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from rpcserver.client import CallError, Client
from tests.conftest import Process, run_cli

GRACE = {"RPCSERVER_SHUTDOWN_GRACE_S": "1", "RPCSERVER_STOP_MARGIN_S": "4"}
PLUGIN = """
    import os
    import time
    from pydantic import BaseModel
    from rpcserver.plugin import JobContext, hookimpl, job

    class Fifo(BaseModel):
        path: str

    @job("hang.in_thread", Fifo, lane="long", timeout_s=3600)
    async def hang(job: JobContext, data: Fifo) -> int:
        job.log("begun")
        return await job.in_thread(lambda: os.open(data.path, os.O_RDONLY))

    @hookimpl
    def register_jobs():
        return [hang]
"""


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


def credential_of(data: Path) -> str:
    """Add a user and return the credential."""
    return run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()


def ready(process: Process) -> tuple[int, dict[str, Any]]:
    """Return the status and the checks of /readyz."""
    url = process.url.replace("ws://", "http://") + "readyz"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (our own server)
            return answer.status, json.load(answer)["checks"]
    except HTTPError as error:
        return error.code, json.load(error)["checks"]


async def test_fetches_from_a_silent_host_stop_nothing_else(
    serve: Callable[..., Process], tmp_path: Path, silent: int
) -> None:
    """One batch of playbooks by url, more than there are threads: stores and other playbooks go on, SIGTERM ends it."""
    data = tmp_path / "data"
    credential = credential_of(data)
    host = json.dumps([f"localhost:{silent}"])
    process = serve(data, env={**GRACE, "RPCSERVER_FETCH_HOSTS": host, "RPCSERVER_FETCH_PRIVATE_HOSTS": host})
    async with Client(process.url, credential) as client, Client(process.url, credential) as other:
        session, beside = await client.create_session("fetching"), await other.create_session("beside")
        url = f"https://localhost:{silent}/a/r"
        fetches = [
            asyncio.ensure_future(client.call("session.playbook_add", session_id=session, url=f"{url}{number}"))
            for number in range(12)
        ]
        async with asyncio.timeout(20):
            assert await other.call("session.db.set", session_id=beside, key="k", value="v")
            assert await other.call("context.db.set", key="k", value="v")
            added = await other.call("session.playbook_add", session_id=beside, text="!!play.echo content:hello")
            assert added["added"] == 1
            played = await other.call("session.play", session_id=beside)
            assert played["done"] == 1
        assert not any(fetch.done() for fetch in fetches)
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*fetches, return_exceptions=True)
    assert process.stop() == 0
    assert time.monotonic() - began < 10


async def test_readiness_names_threads_that_hang_and_sigterm_ends_them(
    serve: Callable[..., Process], tmp_path: Path
) -> None:
    """A job's function that never comes back: /readyz names the threads that are stuck, and the process still ends."""
    data = tmp_path / "data"
    credential = credential_of(data)
    plugin = tmp_path / "hanging.py"
    plugin.write_text("\n".join(line[4:] for line in PLUGIN.splitlines()))
    os.mkfifo(tmp_path / "fifo")
    env = {**GRACE, "RPCSERVER_JOB_THREADS": "1", "RPCSERVER_POOL_STUCK_S": "0.2"}
    process = serve(data, "--plugin", str(plugin), env=env)
    async with Client(process.url, credential) as client:
        assert (await asyncio.to_thread(ready, process))[0] == 200
        started = await client.call(
            "job.run", function="hang.in_thread", data={"path": str(tmp_path / "fifo")}, wait=False
        )
        await client.call("job.log", job_id=started["job_id"], follow=True, timeout_s=20.0)
        async with asyncio.timeout(20):
            while (found := await asyncio.to_thread(ready, process))[0] == 200:
                pass
        assert found[1]["threads"]["stuck"] == ["jobs"]
        assert found[1]["database"]["ok"]
        session = await client.create_session("beside")
        assert await client.call("session.db.set", session_id=session, key="k", value="v")
    began = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - began < 8
    assert "threads_hang" in (tmp_path / "server.log").read_text()


async def test_too_much_for_one_pool_is_refused_and_can_be_tried_again(
    serve: Callable[..., Process], tmp_path: Path, silent: int
) -> None:
    """Over the bound of what may wait the refusal is BUSY, retryable, and says when; other calls are not touched."""
    data = tmp_path / "data"
    credential = credential_of(data)
    host = json.dumps([f"localhost:{silent}"])
    bounds = {"RPCSERVER_GIT_THREADS": "1", "RPCSERVER_MAX_WAITING_IN_POOL_PER_USER": "2"}
    env = {**GRACE, **bounds, "RPCSERVER_FETCH_HOSTS": host, "RPCSERVER_FETCH_PRIVATE_HOSTS": host}
    process = serve(data, env=env)
    async with Client(process.url, credential) as client:
        sessions = [await client.create_session(f"number {number}") for number in range(8)]
        fetches = [
            asyncio.ensure_future(
                client.call("session.playbook_add", session_id=session, url=f"https://localhost:{silent}/a/{session}")
            )
            for session in sessions
        ]
        done, _ = await asyncio.wait(fetches, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        refused = [fetch.exception() for fetch in done]
        assert refused and all(isinstance(error, CallError) for error in refused)
        for error in refused:
            assert isinstance(error, CallError)
            assert (error.kind, error.data["retryable"]) == ("BUSY", True) and error.data["retry_after_ms"] > 0
        process.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*fetches, return_exceptions=True)
    assert process.stop() == 0
