"""How many jobs a second: ours beside a bare asyncio task, a commit for every job, the group-commit loop, and DBOS.

    python -m benchmarks.jobs [--rounds 5] [--seconds 1.0] [--json FILE] [--flush-ms 1.5]

One run, in turn, several rounds, so that a noisy machine is noisy for all; ratios are taken round by round.
Everything durable runs at `synchronous=FULL`. DBOS (on SQLite) is measured when it is installed:
`pip install dbos`; it is nobody's dependency here.

`loop` is the ceiling of the design: the same store and the same two statements a job (insert it running, end it),
handed to the writer together, with nothing of a runner around. The two plain ways write the same rows into the same
tables, through aiosqlite: a commit a job, or a commit for every state a job is in.

What group commit gains is what a flush of the disk costs, and that is from 0.05 ms (a virtual disk that flushes into
memory) to 10 ms (a rotating one). `--flush-ms` makes every flush take so much longer, for all candidates alike; it
needs a C compiler.
"""

import argparse
import asyncio
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
from pydantic import BaseModel

from jobs import JobContext, job, rows
from jobs.authority import SERVER
from jobs.model import JobEvent, Request
from jobs.runner import EmbeddedRunner
from rpcserver.rpc.errors import describe_for_job
from store import Store, Tx, new_id
from store.sqlite import DATABASE

CONCURRENT = 100
OWNER = Request("u_bench", SERVER)
EACH, STEPS, LOOP, LOCAL = (
    "aiosqlite, a commit a job",
    "aiosqlite, a commit a step",
    "loop (group commit)",
    "ours, local lane",
)
INSERT = (
    "INSERT INTO jobs (id, function, lane, state, owner_id, priority, attempt, is_interactive, data, created_at,"
    " started_at, authority) VALUES (?, 'noop', 'local', 'running', 'u_bench', 0, 1, 1, '{}', ?, ?, '[]')"
)
END = (
    "UPDATE jobs SET state = 'succeeded', result = 'null', finished_at = ? WHERE id = ? AND attempt = 1"
    " AND state IN ('queued', 'running', 'waiting_input')"
)
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
        now = tx.clock.now_ms()
        job_id = new_id("j_")
        before = (job_id, "noop", "local", "running", "u_bench", None, None, None, 0, 1, 1, 0, 0, None, "{}")
        rows.insert(tx, (*before, None, None, None, None, None, now, now, None, None, "[]", 0))
        rows.finish(tx, job_id, 1, "succeeded", "null", None)

    async def one() -> None:
        await store.write(both)

    return one


def _committing(database: aiosqlite.Connection, lock: asyncio.Lock, *, every_step: bool) -> One:
    """Return one job done without group commit: committed at its end, or at every step."""

    async def one() -> None:
        now, job_id = time.time_ns() // 1_000_000, new_id("j_")
        async with lock:  # else the jobs of others would share the commit, by accident
            await database.execute(INSERT, (job_id, now, now))
            if every_step:
                await database.commit()
            await database.execute(END, (time.time_ns() // 1_000_000, job_id))
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
    database = await _same_tables(folder / "each")
    lock = asyncio.Lock()
    candidates: dict[str, One] = {
        "bare asyncio task": lambda: asyncio.create_task(_bare()),
        EACH: _committing(database, lock, every_step=False),
        STEPS: _committing(database, lock, every_step=True),
        LOOP: _loop(store),
        "ours, memory lane": lambda: runner.run("noop_memory", Nothing(), OWNER),
        LOCAL: lambda: runner.run("noop", Nothing(), OWNER),
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


async def _same_tables(folder: Path) -> aiosqlite.Connection:
    await (await Store.open(folder)).close()
    database = await aiosqlite.connect(folder / DATABASE)
    await database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
    return database


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
    loop = rates[LOOP]
    print(f"{'':28} {'jobs/s':>9} {'min':>9} {'max':>9} {'of loop':>8} {'p50 ms':>8} {'p99 ms':>8}")
    for name, values in rates.items():
        share = statistics.median(a / b for a, b in zip(values, loop, strict=True))
        p50, p99 = trips[name]
        print(
            f"{name:28} {statistics.median(values):9,.0f} {min(values):9,.0f} {max(values):9,.0f}"
            f" {share:8.2f} {p50:8.3f} {p99:8.3f}"
        )
    for name in (EACH, STEPS):
        gain = statistics.median(a / b for a, b in zip(rates[LOCAL], rates[name], strict=True))
        print(f"ours, local lane, against {name}: {gain:.1f} times")
    if "DBOS on SQLite" not in rates:
        print("DBOS was not measured: pip install dbos")


def _flush_ms(folder: Path, count: int = 200) -> float:
    """Return how long it takes to write a page and have the disk keep it: the median, in milliseconds."""
    times = []
    with (folder / "flushed").open("wb") as file:
        for _ in range(count):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _again_with_slow_flushes(milliseconds: float) -> int:
    """Run this command once more, with a library loaded that lets each flush take longer."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        print("--flush-ms needs Linux and a C compiler (cc)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "slow_flush.so"
        source = Path(__file__).with_name("slow_flush.c")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        environment = os.environ | {"LD_PRELOAD": str(library), "FLUSH_US": str(round(milliseconds * 1000))}
        return subprocess.run([sys.executable, "-m", "benchmarks.jobs", *sys.argv[1:]], env=environment).returncode


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the databases are made (default: a temporary folder)")
    parser.add_argument("--flush-ms", type=float, help="how much longer every flush of the disk is to take")
    arguments = parser.parse_args()
    if arguments.flush_ms and "FLUSH_US" not in os.environ:
        sys.exit(_again_with_slow_flushes(arguments.flush_ms))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(f"a flush of the disk takes {_flush_ms(Path(folder)):.3f} ms\n")
        measured = asyncio.run(measure(Path(folder), arguments.rounds, arguments.seconds))
    show(measured)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured), "utf-8")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
