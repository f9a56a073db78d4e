"""What one user's flood costs another: how long the quiet one waits, beside each of twelve kinds of flood.

    python -m benchmarks.fairness [--rounds 5] [--seconds 3] [--only ls,waits] [--json FILE] [--check]

Server, flood and probe are processes of their own; the flood has the lowest priority, so that it takes the server's
time and not the probe's. In each round the quiet user is measured alone and then beside every kind, so that a noisy
machine is noisy for all, and once the server is done with the flood before; what is told is the median of the rounds.
`--check` ends with 1 when a p99 is not below twice the quiet one plus 10 ms.
"""

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.floods import CROWD, KINDS
from benchmarks.load import Connection, LoadError, cpu_seconds, masked
from benchmarks.servers import FILES, start
from rpcserver.app import opened
from rpcserver.client import Client
from rpcserver.settings import Settings

QUIET = "quiet"
GAP_S = 0.005
IDLE_S = 0.3  # nearly so long without work is settled
LONGEST_S = 60.0  # a probe that takes so much longer than it should is not served
FACTOR, MARGIN_MS = 2, 10.0
USES = ("read", "walk", "store", "play")  # what the quiet user does: a listing, a walk, a key's value, an action played
Figures = dict[str, float]  # use -> p99 in milliseconds


def probe(url: str, credential: str, session_id: str, seconds: float) -> None:
    """Make the quiet user's calls one after another, and print the p99 of each use, in milliseconds."""
    connection = Connection(url, credential, [[b"{}"]], greets=True)
    took: dict[str, list[float]] = {use: [] for use in USES}
    connection.ask(_call("session.cd", session_id=session_id, to="home"))
    end = time.perf_counter() + seconds
    turn = 0
    while time.perf_counter() < end:
        for use, frame in _turn(session_id, turn):
            seconds_taken, message = connection.ask(frame)
            if b'"error"' in message[:40]:
                raise LoadError(f"the quiet user's {use} was refused: {message[:300]!r}")
            took[use].append(seconds_taken * 1000)
            time.sleep(GAP_S)
        turn += 1
    connection.close()
    print(json.dumps({use: _p99(times) for use, times in took.items()}), flush=True)


def _turn(session_id: str, turn: int) -> Iterator[tuple[str, bytes]]:
    yield "read", _call("session.ls", session_id=session_id, limit=50)
    yield "walk", _call("session.cd", session_id=session_id, **({"to": "home"} if turn % 2 else {"path": "files"}))
    yield "read", _call("session.get", session_id=session_id)
    yield "store", _call("session.db.set", session_id=session_id, key="turn", value=str(turn))
    yield "store", _call("session.db.get", session_id=session_id, key="turn")
    yield "play", _call("session.play", session_id=session_id, text="!!play.echo hello")


def _call(method: str, **params: Any) -> bytes:
    return masked(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())


def _p99(times: list[float]) -> float:
    times.sort()
    return times[min(len(times) - 1, int(len(times) * 0.99))]


def measure(folder: Path, kinds: list[str], rounds: int, seconds: float) -> dict[str, list[Figures]]:
    """Return, by kind of flood and for the quiet user alone, the figures of each round."""
    credentials = asyncio.run(populate(folder))
    server = start("server", folder, None, "-m", "rpcserver", "serve", "--data", str(folder / "data"), "--port", "0")[0]
    try:
        session_id = asyncio.run(quiet_session(server.url, credentials[QUIET]))
        found: dict[str, list[Figures]] = {kind: [] for kind in (QUIET, *kinds)}
        for number in range(rounds):
            for kind in found:
                _settle(server.pid)
                with _flooded(kind, server.url, credentials[kind], folder):
                    figures = probed(server.url, credentials[QUIET], session_id, seconds)
                found[kind].append(figures)
                shown = "  ".join(f"{use} {figures[use]:8.1f}" for use in USES)
                print(f"round {number + 1} {kind:16} {shown}", file=sys.stderr, flush=True)
        return found
    finally:
        server.stop()


def _settle(pid: int) -> None:
    """Wait until the server has done what the flood before has left, and the disk has taken it."""
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        before = cpu_seconds(pid)
        time.sleep(IDLE_S)
        if cpu_seconds(pid) - before < IDLE_S / 10:
            os.sync()
            return
    raise LoadError(f"the server was not done with a flood {LONGEST_S:g} s after its end")


def probed(url: str, credential: str, session_id: str, seconds: float) -> Figures:
    """Have a process of its own make the quiet user's calls, and return its figures."""
    command = [sys.executable, "-m", "benchmarks.fairness", "probe", url, credential, session_id, str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LONGEST_S + seconds)
    except subprocess.TimeoutExpired as error:
        print(f"the quiet user was not served: {error}", file=sys.stderr)
        return dict.fromkeys(USES, math.inf)
    except subprocess.CalledProcessError as error:
        print(f"the quiet user was not served: {error.stderr[-300:]}", file=sys.stderr)
        return dict.fromkeys(USES, math.inf)
    figures: Figures = json.loads(done.stdout)
    return figures


@contextmanager
def _flooded(kind: str, url: str, credential: str, folder: Path) -> Iterator[None]:
    if kind == QUIET:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.floods", kind, url, credential]
    with (
        open(folder / "flood.log", "ab") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as flood,
    ):
        assert flood.stdout is not None and flood.stdin is not None
        if flood.stdout.readline() != "flooding\n":
            raise LoadError(f"the flood {kind!r} did not begin: {(folder / 'flood.log').read_text()[-1000:]}")
        yield
        flood.stdin.close()
        answered = flood.stdout.readline()
        if flood.wait(60) or not int(answered or 0):
            raise LoadError(f"the flood {kind!r} ended early: {(folder / 'flood.log').read_text()[-1000:]}")


async def populate(folder: Path) -> dict[str, str]:
    """Make the quiet user with a set of files, and a user for each kind of flood; return their credentials."""
    few, many = _files(folder / "files", FILES), _files(folder / "many", CROWD)
    async with opened(Settings.load(data=folder / "data")) as app:
        credentials = {}
        for number, kind in enumerate((QUIET, *KINDS)):
            name = QUIET if kind == QUIET else f"loud{number}"
            credentials[kind] = await app.operate("operator.user_add", name=name)
            tree = many if kind == "filtered reads" else few
            await app.operate("operator.import", path=str(tree), user=name)
        return credentials


def _files(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"item-{number:04}.txt").write_text(f"item {number}")
    return folder


async def quiet_session(url: str, credential: str) -> str:
    """Make the quiet user's session."""
    async with Client(url, credential) as client:
        return await client.create_session("quiet")


def judged(found: dict[str, list[Figures]]) -> tuple[list[list[str]], list[str]]:
    """Return the rows of the table, and what missed its mark."""
    medians = {
        kind: {use: statistics.median(one[use] for one in figures) for use in USES} for kind, figures in found.items()
    }
    rows, missed = [], []
    for kind, figures in medians.items():
        row = [kind]
        for use in USES:
            mark = FACTOR * medians[QUIET][use] + MARGIN_MS
            is_missed = figures[use] >= mark
            row.append(f"{figures[use]:.1f}{' *' if is_missed else ''}")
            if is_missed:
                missed.append(f"{kind}: {use} {figures[use]:.1f} ms, to be below {mark:.1f}")
        rows.append(row)
    return rows, missed


def show(rows: list[list[str]], missed: list[str]) -> None:
    """Print a table for people, as Markdown."""
    print(f"| beside | {' | '.join(f'{use} p99 ms' for use in USES)} |")
    print(f"|---|{'---|' * len(USES)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    for line in missed:
        print(f"missed: {line}")


def main() -> None:
    """Measure, print the table and, with `--check`, fail on a miss."""
    if sys.argv[1:2] == ["probe"]:
        url, credential, session_id, seconds = sys.argv[2:6]
        probe(url, credential, session_id, float(seconds))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", help="kinds, separated by commas")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    kinds = given.only.split(",") if given.only else list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), kinds, given.rounds, given.seconds)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    rows, missed = judged(found)
    show(rows, missed)
    if given.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
