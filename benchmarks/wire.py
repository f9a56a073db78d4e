"""What a call costs on the wire: this server beside a raw echo and the naive stack, in one run.

    python -m benchmarks.wire --rounds 5 --seconds 1 --json wire.json

The servers stand on one core, the load client on another. For each method and shape (`64x1`: 64 connections with one
call in flight each) the servers are measured in turn, round after round, so that a slow minute of the machine meets
all three.
Server CPU per request is the steadiest figure; the ratios are the point. Linux only (epoll, process CPU clocks).
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import servers
from benchmarks.load import Sample, measure
from benchmarks.servers import METHODS, Server

Shape = tuple[int, int]
SATURATED = 0.9
_PACKAGES = ("websockets", "jsonrpcserver", "aiosqlite", "pydantic", "structlog", "orjson", "uvloop")


@dataclass(frozen=True, slots=True)
class Cell:
    """One server under one method and shape, over all rounds."""

    server: str
    method: str
    shape: str
    samples: list[Sample]

    def summary(self) -> dict[str, Any]:
        """Return medians over the rounds, and the least and most of the CPU."""
        cpu = [sample.cpu_us for sample in self.samples]
        return {
            "server": self.server,
            "method": self.method,
            "shape": self.shape,
            "cpu_us": median(cpu),
            "cpu_us_min": min(cpu),
            "cpu_us_max": max(cpu),
            "rate": median(sample.rate for sample in self.samples),
            "p50_us": median(sample.p50_s for sample in self.samples) * 1e6,
            "p99_us": median(sample.p99_s for sample in self.samples) * 1e6,
            "client_share": median(sample.client_share for sample in self.samples),
            "rounds": [asdict(sample) for sample in self.samples],
        }

    def ratio(self, other: "Cell") -> tuple[float, float, float]:
        """Return median, least and most of this server's CPU over the other's, round by round."""
        ratios = [mine.cpu_us / its.cpu_us for mine, its in zip(self.samples, other.samples, strict=True)]
        return median(ratios), min(ratios), max(ratios)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write the file."""
    options = _options(arguments)
    shapes = [_shape(text) for text in options.shapes.split(",")]
    methods = options.methods.split(",")
    server_core = _split_cores()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="wire-") as folder:
        with servers.running(Path(folder), _sessions_of(shapes), server_core) as running:
            cells = measure_all(running, methods, shapes, options.rounds, options.seconds)
    print(_table(cells))
    if options.json is not None:
        options.json.write_text(json.dumps(_report(cells, server_core, options), indent=1) + "\n", "utf-8")


def measure_all(
    running: list[Server], methods: list[str], shapes: list[Shape], rounds: int, seconds: float
) -> list[Cell]:
    """Measure every server under every method and shape, the servers in turn, `rounds` times."""
    cells = []
    for method, (connections, depth) in product(methods, shapes):
        taken: dict[str, list[Sample]] = {server.name: [] for server in running}
        for number in range(rounds):
            for server in running:
                _show(f"{method} {connections}x{depth} {server.name} {number + 1}")
                opened = server.connect(method, connections, depth)
                taken[server.name].append(measure(opened, server.pid, min(0.3, seconds / 2), seconds))
        cells += [Cell(name, method, f"{connections}x{depth}", samples) for name, samples in taken.items()]
    _show("")
    return cells


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each cell [5]")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement [1]")
    parser.add_argument("--shapes", default="64x1,32x8", help="connections x calls in flight [64x1,32x8]")
    parser.add_argument("--methods", default=",".join(METHODS), help="[%(default)s]")
    parser.add_argument("--quick", action="store_true", help="one short round: about 20 s")
    parser.add_argument("--folder", type=Path, help="where the databases are made: on a real disk [the temporary one]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    if unknown := set(options.methods.split(",")) - set(METHODS):
        parser.error(f"no method {', '.join(sorted(unknown))}: there are {', '.join(METHODS)}")
    return options


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress:40}\r", end="", file=sys.stderr)


def _shape(text: str) -> Shape:
    connections, _, depth = text.partition("x")
    return int(connections), int(depth)


def _sessions_of(shapes: list[Shape]) -> list[int]:
    """Return how many sessions each connection needs: as many as the deepest shape that reaches it."""
    most = max(connections for connections, _ in shapes)
    return [max(depth for connections, depth in shapes if connections > number) for number in range(most)]


def _split_cores() -> int | None:
    """Keep this process off one core and return that core, for the servers; None where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("one core only: servers and client share it, the latencies mean little", file=sys.stderr)
        return None
    os.sched_setaffinity(0, {cores[1]})
    return cores[0]


def _table(cells: list[Cell]) -> str:
    lines = [
        "| call | shape | server | CPU us/request (min-max) | requests/s | p50 us | p99 us | ours is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = {(cell.method, cell.shape): cell for cell in cells if cell.server == "ours"}
    for cell in cells:
        found = cell.summary()
        against = ""
        if cell.server != "ours":
            ratio, least, most = ours[cell.method, cell.shape].ratio(cell)
            against = f"{ratio:.2f} x its CPU ({least:.2f}-{most:.2f})"
        mark = " *" if found["client_share"] > SATURATED else ""
        cpu = f"{found['cpu_us']:.1f} ({found['cpu_us_min']:.1f}-{found['cpu_us_max']:.1f})"
        lines.append(
            f"| {cell.method} | {cell.shape} | {cell.server} | {cpu} | {found['rate']:,.0f}{mark} |"
            f" {found['p50_us']:,.0f} | {found['p99_us']:,.0f} | {against} |"
        )
    lines += ["", f"\\* the load client was busy over {SATURATED:.0%} of the time: the rate and latency are its own."]
    return "\n".join(lines)


def _report(cells: list[Cell], server_core: int | None, options: argparse.Namespace) -> dict[str, Any]:
    ours = {(cell.method, cell.shape): cell for cell in cells if cell.server == "ours"}
    ratios = [
        {
            "method": cell.method,
            "shape": cell.shape,
            "ours_over": cell.server,
            "median": middle,
            "min": low,
            "max": high,
        }
        for cell in cells
        if cell.server != "ours"
        for middle, low, high in [ours[cell.method, cell.shape].ratio(cell)]
    ]
    installed = [name for name in _PACKAGES if name != "uvloop" or servers.has_uvloop()]
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "server_core": server_core,
        "packages": {name: version(name) for name in installed},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "cells": [cell.summary() for cell in cells],
        "ratios": ratios,
    }


if __name__ == "__main__":
    main()
