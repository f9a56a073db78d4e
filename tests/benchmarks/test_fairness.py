"""The benchmark of fairness measures, and judges what it measured by its own rule."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fairness import QUIET, USES, Figures, judged
from benchmarks.floods import KINDS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_flood_is_measured_beside_the_quiet_user() -> None:
    """One small run gives a row for the quiet user alone and one beside the flood."""
    sizes = ["--rounds", "1", "--seconds", "0.3", "--only", "ls"]
    command = [sys.executable, "-m", "benchmarks.fairness", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows == ["beside", "---", QUIET, "ls"]


def test_there_are_twelve_kinds_of_flood() -> None:
    """Every kind has messages to flood with, for whatever session."""
    assert len(KINDS) == 12
    assert all(kind("s_one") for kind in KINDS.values())


@pytest.mark.parametrize(("p99", "missed"), [(29.9, 0), (30.0, 1), (math.inf, 1)])
def test_a_p99_is_held_against_twice_the_quiet_one_plus_10_ms(p99: float, missed: int) -> None:
    """The median of the rounds counts: a quiet 10 ms allows anything below 30 ms."""
    quiet: Figures = dict.fromkeys(USES, 10.0)
    beside: Figures = {**quiet, "read": p99}
    _, found = judged({QUIET: [quiet] * 3, "ls": [quiet, beside, beside]})
    assert len(found) == missed
