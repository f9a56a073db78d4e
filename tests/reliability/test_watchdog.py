"""A blocked event loop is noticed: the log names the method or plugin, and where it blocked."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import rpcserver.app
from rpcserver.rpc.calls import method, method_in
from rpcserver.schemas.session import NoParams
from rpcserver.services import Call
from rpcserver.telemetry.watchdog import described
from tests.builders import write_guest
from tests.conftest import run_server


def blocked(logs: list[Any]) -> list[Any]:
    """Return what was told of blocks that are over."""
    return [entry for entry in logs if entry["event"] == "loop_blocked"]


async def test_a_method_that_blocks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that sleeps stands in the log with its method, its file and line, and for how long."""

    @method("test.block", NoParams)
    async def block(call: Call, params: NoParams) -> str:
        """Block."""
        time.sleep(0.25)  # noqa: ASYNC251 (that is the fault)
        return "done"

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, block))
    async with run_server(tmp_path / "data", blocked_loop_s=0.05) as server:
        client = await server.client("anna")
        with capture_logs() as logs:
            assert await client.call("test.block") == "done"
            await until_told(client, lambda: bool(blocked(logs)))
    entry = blocked(logs)[0]
    assert entry["method"] == "test.block" and entry["plugin"] is None
    assert 100 <= entry["ms"] < 5000
    assert any("test_watchdog.py" in line and line.endswith(" block") for line in entry["where"])


async def until_told(client: Any, is_so: Callable[[], bool]) -> None:
    """Keep the server answering until its watchdog has spoken."""
    deadline = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline:
        await client.call("server.ping")


async def test_a_plugin_that_blocks_is_named(tmp_path: Path) -> None:
    """A guest that blocks in a filter is named, beside the method that asked it."""
    guest = write_guest(
        tmp_path,
        "sleepy",
        """
        import time

        @hookimpl
        def session_pallet(pallet):
            time.sleep(0.25)
            return []
        """,
    )
    async with run_server(tmp_path / "data", plugins=(guest,), blocked_loop_s=0.05) as server:
        client = await server.client("anna")
        with capture_logs() as logs:
            await client.ls()
            await until_told(client, lambda: bool(blocked(logs)))
    entry = blocked(logs)[0]
    assert (entry["plugin"], entry["method"]) == ("sleepy", "session.ls")
    assert any("sleepy.py" in line for line in entry["where"])


async def test_a_job_that_blocks_is_named(tmp_path: Path) -> None:
    """A job that keeps the loop busy is named by its function."""
    guest = write_guest(
        tmp_path,
        "lazy",
        """
        import time

        from pydantic import BaseModel

        class Nothing(BaseModel):
            pass

        @job("lazy.block", Nothing, lane="long")
        async def block(job, data):
            time.sleep(0.25)

        @hookimpl
        def register_jobs():
            return [block]
        """,
    )
    async with run_server(tmp_path / "data", plugins=(guest,), blocked_loop_s=0.05) as server:
        client = await server.client("anna")
        with capture_logs() as logs:
            await client.call("job.run", function="lazy.block")
            await until_told(client, lambda: bool(blocked(logs)))
    entry = blocked(logs)[0]
    assert entry["job"] == "lazy.block"
    assert any("lazy.py" in line for line in entry["where"])


async def test_a_loop_that_is_free_is_left_alone(tmp_path: Path) -> None:
    """Calls that do not block are not told of."""
    async with run_server(tmp_path / "data", blocked_loop_s=5.0) as server:
        client = await server.client("anna")
        with capture_logs() as logs:
            for _ in range(20):
                await client.call("server.ping")
    assert blocked(logs) == []


def test_a_stack_without_a_call_is_still_a_stack() -> None:
    """What belongs to no method and no plugin shows where it is."""
    seen = described(sys._getframe(), method_in)
    assert seen["method"] is None and seen["plugin"] is None
    assert seen["where"][-1].endswith("test_a_stack_without_a_call_is_still_a_stack")
    assert described(None, method_in)["where"] == []
