"""A server that was away for a week, and one whose process, or wall clock, was stopped and set: as processes."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import Client
from tests.builders import write_guest
from tests.clocks import DAY_S
from tests.conftest import Process, run_server

COUNT = 200
WEEK_MS = 7 * 24 * 3600 * 1000
WITHIN_S = 1.0

GUEST = """
import time

from pydantic import Field

offset = 0.0
time_ns = time.time_ns
time.time_ns = lambda: time_ns() + int(offset * 1e9)

class By(BaseModel):
    by_s: float

@method("clocks.set", By, result=bool)
async def set_by(call, params):
    global offset
    offset += params.by_s
    return True

@job("clocks.note", Nothing, lane="long")
async def note(job, data):
    return "noted"

@job("clocks.asks", Nothing, lane="long", timeout_s=3600)
async def asks(job, data):
    return await job.ask("Well?", default="nobody", timeout_s=2)

@hookimpl
def register_methods():
    return [set_by]

@hookimpl
def register_jobs():
    return [note, asks]
"""


async def weeks_ago(data: Path) -> str:
    """Make a folder as a server leaves it that ended a week ago with minutely schedules; return a credential."""
    async with run_server(data) as server:
        anna = await server.client("anna")
        await anna.subscribe("schedule.*")
        for number in range(COUNT):
            when: dict[str, Any] = {"cron": "* * * * *"} if number % 2 else {"cron": f"{number % 60}-59 * * * *"}
            await anna.call("job.schedule", function="core.user.read", timezone="Europe/Brussels", **when)
        credential = await server.credential("anna")
    with closing(sqlite3.connect(data / "rpcserver.db")) as database, database:
        clock = database.execute("SELECT value FROM server_values WHERE name = 'clock'").fetchone()[0]
        clock = " ".join(str(int(said) - WEEK_MS) for said in clock.split())
        database.execute("UPDATE server_values SET value = ? WHERE name = 'clock'", (clock,))
        database.execute("UPDATE schedules SET next_at = next_at - ?", (WEEK_MS,))
    return credential


def used_s(process: Process) -> float:
    """Return the processor time a process has used: other than the time that passed it is not the machine's load."""
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


async def rows(client: Client) -> list[dict[str, Any]]:
    """Return all schedules."""
    found: list[dict[str, Any]] = (await client.call("schedules.list", limit=COUNT))["items"]
    return found


async def test_after_a_week_the_server_answers_at_once(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Two hundred minutely schedules: it is ready, answers each call within a second, and tells each once."""
    empty = serve(tmp_path / "empty")
    empty_s = used_s(empty)
    assert empty.stop() == 0
    credential = await weeks_ago(tmp_path / "data")
    process = serve(tmp_path / "data")
    assert used_s(process) < empty_s + WITHIN_S  # until it was ready
    slowest_s = 0.0
    async with Client(process.url, credential) as anna:
        done = False
        while not done:
            called = time.monotonic()
            done = any(row["last_at"] is not None for row in await rows(anna))
            slowest_s = max(slowest_s, time.monotonic() - called)
    assert slowest_s < WITHIN_S
    # What was counted so far is kept by a kill.
    process.stop(signal.SIGKILL)
    process.start()
    async with asyncio.timeout(60), Client(process.url, credential) as anna:
        while any(row["last_at"] is None for row in await rows(anna)):
            pass
        missed = {row["schedule_id"]: row["missed"] for row in await rows(anna)}
        history: list[dict[str, Any]] = []
        cursor = None
        while len(history) < COUNT:
            page = await anna.call("events.history", topics=["schedule.missed"], limit=200, cursor=cursor)
            history += [item["data"] for item in page["items"]]
            cursor = page["next_cursor"]
            assert cursor or len(history) >= COUNT
        assert {item["schedule_id"]: item["missed"] for item in history} == missed and len(history) == COUNT
        assert max(missed.values()) == pytest.approx(7 * 24 * 60, abs=3)
        assert history[0]["until"] - history[0]["from"] == pytest.approx(WEEK_MS, abs=3_700_000)
    assert process.stop() == 0


async def ended(client: Client, job_id: str) -> Any:
    """Return a job's result once it has ended."""
    return (await client.call("job.wait", job_id=job_id, timeout_s=20))["result"]


@pytest.mark.parametrize("by_s", [-7200.0, 60 * DAY_S])
async def test_a_process_whose_clock_is_set_and_that_is_stopped(
    serve: Callable[..., Process], tmp_path: Path, by_s: float
) -> None:
    """Delays, questions, intervals, tickets and subscriptions: none stands still, none is lost, each comes once."""
    guest = write_guest(tmp_path, "clocks", GUEST)
    data = tmp_path / "data"
    async with run_server(data) as made:
        credential = await made.credential("anna")
    process = serve(data, "--plugin", str(guest))
    async with Client(process.url, credential) as anna:
        await anna.ls()  # her default session is there
        heard = await anna.subscribe("session.created")
        delayed = (await anna.call("job.run", function="clocks.note", wait=False, delay_s=2))["job_id"]
        asking = (await anna.call("job.run", function="clocks.asks", wait=False))["job_id"]
        every = (await anna.call("job.schedule", function="clocks.note", every_s=2))["schedule_id"]
        ticket = (await anna.call("auth.ticket"))["ticket"]
        assert await anna.call("clocks.set", by_s=by_s)
        set_at = time.monotonic()
        assert await ended(anna, delayed) == "noted" and await ended(anna, asking) == "nobody"
        assert time.monotonic() - set_at < 10
        while not (row := (await anna.call("schedules.list"))["items"][0])["last_job_id"]:
            pass
        assert (row["schedule_id"], row["missed"]) == (every, 0)
        process.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(5)  # the machine is away, and nothing happens that one could wait for
        process.process.send_signal(signal.SIGCONT)
        sessions = [await anna.create_session(name) for name in ("one", "two", "three")]
        assert [(await heard.next()).data["session_id"] for _ in sessions] == sessions
        async with asyncio.timeout(10):
            while not (row := (await anna.call("schedules.list"))["items"][0])["missed"]:
                pass
        assert row["missed"] in (1, 2)
        async with Client(process.url) as page:
            assert (await page.call("auth.authenticate", ticket=ticket))["name"] == "anna"
    assert process.stop() == 0
