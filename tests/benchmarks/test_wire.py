"""The benchmark runs: what it measured is not judged here, only that it measures."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_wire_measures_every_call_on_every_server(tmp_path: Path) -> None:
    """One small run gives a table for people and a file with figures and ratios."""
    report = tmp_path / "wire.json"
    sizes = ["--shapes", "2x1", "--rounds", "1", "--seconds", "0.15", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.wire", *sizes, "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "| session.cd | 2x1 | naive |" in done.stdout
    found = json.loads(report.read_text())
    cells = {(cell["method"], cell["shape"], cell["server"]) for cell in found["cells"]}
    methods, names = ("session.get", "session.ls", "session.cd"), ("ours", "echo", "naive")
    assert cells == {(method, "2x1", name) for method in methods for name in names}
    assert all(cell["cpu_us"] > 0 and cell["rate"] > 0 for cell in found["cells"])
    assert {ratio["ours_over"] for ratio in found["ratios"]} == {"echo", "naive"}
    assert list(tmp_path.iterdir()) == [report]
