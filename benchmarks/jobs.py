"""How many jobs a second: ours beside a bare asyncio task, a commit for every job, the group-commit loop, and DBOS.

    python -m benchmarks.jobs [--rounds 5] [--seconds 1.0] [--json FILE]

One run, in turn, several rounds, so that a noisy machine is noisy for all; ratios are taken round by round.
Everything durable runs at `synchronous=FULL`. DBOS (on SQLite) is measured when it is installed:
`pip install dbos`; it is nobody's dependency here.

`loop` is the ceiling of the design: the same store and the same two statements a job (insert it running, end it),
handed to the writer together, with nothing of a runner around.
"""

import argparse
import asyncio
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
from pydantic import BaseModel

from jobs import JobContext, job, rows
from jobs.model import JobEvent, Request
from jobs.runner import EmbeddedRunner
from rpcserver.errors import describe_for_job
from store import Store, Tx, new_id, now_ms

CONCURRENT = 100
OWNER = Request("u_bench")
One = Callable[[], Awaitable[Any]]


class Nothing(BaseModel):
    """Input of the no-op."""


@job("noop", Nothing)
async def noop(job: JobContext, data: Nothing) -> None:
    """Do nothing, durably."""


@job("noop_memory", Nothing, lane="memory")
async def noop_memory(job: JobContext, data: Nothing) -> None:
    """Do nothing, and leave no row."""


@job("noop_long", Nothing, lane="long")
async def noop_long(job: JobContext, data: Nothing) -> None:
    """Do nothing, on disk before it starts."""


async def _bare() -> None:
    """What a task costs."""


def _loop(store: Store) -> One:
    def both(tx: Tx) -> None:
        now = now_ms()
        job_id = new_id("j_")
        columns = (job_id, "noop", "local", "running", "u_bench", None, None, None, 0, 1, 1, 0, 0, None, "{}")
        rows.insert(tx, (*columns, None, None, None, None, None, now, now, None))
        rows.finish(tx, job_id, 1, "succeeded", "null", None)

    async def one() -> None:
        await store.write(both)

    return one


def _commit_each(database: aiosqlite.Connection) -> One:
    lock = asyncio.Lock()  # else the jobs of others would share the commit, by accident

    async def one() -> None:
        job_id = new_id("j_")
        async with lock:
            await database.execute("INSERT INTO jobs (id, function, state) VALUES (?, 'noop', 'running')", (job_id,))
            await database.execute("UPDATE jobs SET state = 'succeeded' WHERE id = ?", (job_id,))
            await database.commit()

    return one


async def _rate(one: One, seconds: float) -> float:
    """Return completions a second with CONCURRENT callers."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await one()
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONCURRENT)))
    return done / (time.perf_counter() - started)


async def _round_trip(one: One, count: int = 200) -> tuple[float, float]:
    """Return p50 and p99 of one caller alone, in milliseconds."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await one()
        times.append((time.perf_counter() - started) * 1000)
    times.sort()
    return times[count // 2], times[int(count * 0.99)]


async def measure(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Run every candidate in turn and return rates, round trips and ratios."""
    store = await Store.open(folder / "ours")
    runner = EmbeddedRunner(store, [noop, noop_memory, noop_long], _announce, describe_for_job)
    await runner.start()
    database = await aiosqlite.connect(folder / "each.db")
    await database.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, function TEXT, state TEXT);"
    )
    candidates: dict[str, One] = {
        "bare asyncio task": lambda: asyncio.create_task(_bare()),
        "aiosqlite, a commit a job": _commit_each(database),
        "loop (group commit)": _loop(store),
        "ours, memory lane": lambda: runner.run("noop_memory", Nothing(), OWNER),
        "ours, local lane": lambda: runner.run("noop", Nothing(), OWNER),
        "ours, long lane": lambda: runner.run("noop_long", Nothing(), OWNER),
    }
    dbos = _dbos(folder)
    if dbos is not None:
        candidates["DBOS on SQLite"] = dbos
    try:
        rates: dict[str, list[float]] = {name: [] for name in candidates}
        trips = {name: await _round_trip(one) for name, one in candidates.items()}
        for _ in range(rounds):
            for name, one in candidates.items():
                rates[name].append(await _rate(one, seconds))
    finally:
        await runner.stop()
        await store.close()
        await database.close()
    return {"rates": rates, "trips": trips}


def _announce(tx: Tx, event: JobEvent) -> None:
    """Nobody listens."""


def _dbos(folder: Path) -> One | None:
    try:
        dbos: Any = importlib.import_module("dbos")
    except ImportError:
        return None
    dbos.DBOS(
        config={"name": "bench", "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}", "log_level": "ERROR"}
    )

    async def nothing() -> None:
        return None

    workflow = dbos.DBOS.workflow()(nothing)

    dbos.DBOS.launch()
    one: One = workflow
    return one


def show(measured: dict[str, Any]) -> None:
    """Print a table for people."""
    rates, trips = measured["rates"], measured["trips"]
    loop = rates["loop (group commit)"]
    print(f"{'':28} {'jobs/s':>9} {'min':>9} {'max':>9} {'of loop':>8} {'p50 ms':>8} {'p99 ms':>8}")
    for name, values in rates.items():
        share = statistics.median(a / b for a, b in zip(values, loop, strict=True))
        p50, p99 = trips[name]
        print(
            f"{name:28} {statistics.median(values):9,.0f} {min(values):9,.0f} {max(values):9,.0f}"
            f" {share:8.2f} {p50:8.3f} {p99:8.3f}"
        )
    each = rates["aiosqlite, a commit a job"]
    gain = statistics.median(a / b for a, b in zip(rates["ours, local lane"], each, strict=True))
    print(f"\nours (local lane) against a commit a job: {gain:.1f} times")
    if "DBOS on SQLite" not in rates:
        print("DBOS was not measured: pip install dbos")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the databases are made (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measured = asyncio.run(measure(Path(folder), arguments.rounds, arguments.seconds))
    show(measured)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured), "utf-8")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
