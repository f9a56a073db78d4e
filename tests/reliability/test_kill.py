"""kill -9 at any moment: what was acknowledged is there, what was promised is run or told to be lost, nothing twice."""

import asyncio
import json
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from rpcserver.client import CallError, Client, Disconnected
from tests.conftest import Process, run_cli

# An event for every end, however many there are; a job under which the server is killed often is still run again.
KEEP = {"RPCSERVER_MAX_EVENTS": "100000000", "RPCSERVER_MAX_JOB_CRASHES": "1000000"}
PLUGIN = str(Path(__file__).with_name("working_plugin.py"))
WORKERS = 8


class Record:
    """What a client knows of the jobs it asked for, by the name of their trace."""

    def __init__(self) -> None:
        self.ok: set[str] = set()
        self.failed: set[str] = set()
        self.unknown: set[str] = set()
        self.promised: dict[str, tuple[str, str]] = {}  # name -> function, job id


async def _work(client: Client, record: Record, kill: int, worker: int) -> None:
    for number in range(10_000):
        name = f"{kill}-{worker}-{number}"
        function = ("trace.short", "trace.short", "trace.again", "trace.once")[number % 4]
        is_short = function == "trace.short"
        try:
            answer = await client.call("job.run", function=function, data={"name": name}, wait=is_short)
        except CallError:
            record.failed.add(name)
        except (Disconnected, OSError):
            record.unknown.add(name)
            return
        else:
            if is_short:
                record.ok.add(name)
            else:
                record.promised[name] = (function, answer["job_id"])


async def _load(process: Process, credential: str, record: Record, kill: int, seconds: float) -> None:
    """Work on several connections until the server is killed under us."""
    async with Client(process.url, credential) as one, Client(process.url, credential) as two:
        await one.subscribe("job.*")  # an end is kept for whoever has asked to hear of it
        work = [asyncio.ensure_future(_work((one, two)[n % 2], record, kill, n)) for n in range(WORKERS)]
        await asyncio.sleep(seconds)  # the moment of the kill is the random thing here
        process.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*work)


def _kill_often(serve: Callable[..., Process], tmp_path: Path, kills: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    data, record = tmp_path / "data", Record()
    credential = run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()
    for kill in range(kills):
        process = serve(data, "--plugin", PLUGIN, env=KEEP)
        asyncio.run(_load(process, credential, record, kill, chance.uniform(0.01, 0.3)))
        process.stop(signal.SIGKILL)
    process = serve(data, "--plugin", PLUGIN, env=KEEP)
    states = asyncio.run(_ends(process, credential, record))
    assert process.stop() == 0
    _check(data, record, states)


async def _ends(process: Process, credential: str, record: Record) -> dict[str, str]:
    """Wait for the end of every job, promised or not, and return the states of the promised."""
    async with Client(process.url, credential) as client:
        for state in ("queued", "running"):
            for job in await client.list_jobs(state=state):
                await client.call("job.wait", job_id=job.job_id)
        return {
            name: (await client.call("job.wait", job_id=job_id))["state"]
            for name, (_, job_id) in record.promised.items()
        }


def _check(data: Path, record: Record, states: dict[str, str]) -> None:
    with closing(sqlite3.connect(data / "rpcserver.db")) as database:
        traces = Counter(name for (name,) in database.execute("SELECT name FROM tokens WHERE type = 'trace'"))
        ends = Counter(
            job
            for (job,) in database.execute(
                "SELECT json_extract(data, '$.job_id') FROM events"
                " WHERE topic IN ('job.completed', 'job.failed', 'job.cancelled')"
            )
        )
        rows = dict(database.execute("SELECT id, state FROM jobs WHERE owner_id <> 'operator'"))
        (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
        broken = database.execute("PRAGMA foreign_key_check").fetchall()
    assert (integrity, broken) == ("ok", [])
    assert len(record.ok) > 0 and len(record.promised) > 0
    assert record.ok <= set(traces), "an acknowledged job left no trace"
    assert not record.failed & set(traces), "a job that failed left a trace"
    assert set(traces.values()) <= {1}, "a job left two traces"
    assert set(rows.values()) <= {"succeeded", "lost"}, "a job has no end"
    assert set(ends.values()) <= {1}, "an end was told twice"
    assert set(ends) == set(rows), "an end was not told"
    for name, (function, _) in record.promised.items():
        assert states[name] == "succeeded" if function == "trace.again" else states[name] in ("succeeded", "lost")
        assert (name in traces) == (states[name] == "succeeded")


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled_by_kills(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Twenty kills at random moments under load: the client's record and the server's rows agree."""
    _kill_often(serve, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost_or_doubled_by_many_kills(serve: Callable[..., Process], tmp_path: Path) -> None:
    """The same five hundred times."""
    _kill_often(serve, tmp_path, 500)


async def test_processes_end_with_the_server(serve: Callable[..., Process], tmp_path: Path) -> None:
    """A killed server leaves no process behind: neither the command of a job nor what the command started."""
    data = tmp_path / "data"
    credential = run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()
    process = serve(data, "--plugin", PLUGIN)
    async with Client(process.url, credential) as client:
        pids = await _start_sleeper(client)
        process.process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(_wait_until_gone, pids)


async def test_processes_end_with_their_job(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Cancelling a job ends its command and what the command started, also one that ignores SIGTERM."""
    data = tmp_path / "data"
    credential = run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()
    process = serve(data, "--plugin", PLUGIN)
    async with Client(process.url, credential) as client:
        pids = await _start_sleeper(client)
        job = (await client.list_jobs(function="trace.sleep"))[0]
        assert await client.call("job.cancel", job_id=job.job_id)
        assert (await client.call("job.wait", job_id=job.job_id))["state"] == "cancelled"
        await asyncio.to_thread(_wait_until_gone, pids)


async def test_a_killed_import_leaves_nothing(serve: Callable[..., Process], tmp_path: Path) -> None:
    """What an import had made when the server was killed is gone after the next start, and the job says so."""
    data, tree = tmp_path / "data", tmp_path / "tree"
    for number in range(60):
        (tree / str(number)).mkdir(parents=True)
        for file in range(100):
            (tree / str(number) / str(file)).touch()
    credential = run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()
    process = serve(data)
    operator = json.loads((data / "running.json").read_text())["operator"]
    with suppress(Disconnected):
        async with Client(process.url, operator) as client:
            await client.call(
                "operator.import",
                path=str(tree),
                user="anna",
                on_progress=lambda *_: process.process.send_signal(signal.SIGKILL),
            )
    process.stop(signal.SIGKILL)
    process = serve(data)
    async with Client(process.url, credential) as client:
        job = (await client.list_jobs(function="import_tree"))[0]
        ended = await client.call("job.wait", job_id=job.job_id)
    assert (ended["state"], ended["attempts"]) == ("failed", 2)
    assert "import once more" in ended["error"]["message"]
    assert process.stop() == 0
    with closing(sqlite3.connect(data / "rpcserver.db")) as database:
        assert database.execute("SELECT count(*) FROM tokens WHERE type = 'file'").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM sets").fetchone() == (1,)


async def _start_sleeper(client: Client) -> list[int]:
    job = await client.call("job.run", function="trace.sleep", data={"name": "x"}, wait=False)
    said = await client.call("job.log", job_id=job["job_id"], follow=True)
    pids = [int(word) for word in said["lines"][0]["text"].split()]
    for pid in pids:
        os.kill(pid, 0)
    return pids


def _wait_until_gone(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                import select

                assert select.select([descriptor], [], [], 20)[0], f"process {pid} lives on"
            finally:
                os.close(descriptor)
