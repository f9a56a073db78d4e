"""Every command of the README runs, in its order; only port, data folder and the tests chosen are adapted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.terminal import CHECKOUT, Terminal, blocks
from tests.installed import Installed

README = CHECKOUT / "README.md"


def walk(terminal: Terminal, adapted: dict[str, str]) -> None:
    """Run the README's blocks one after another, in the clone; some commands are others where there is a wheel."""
    try:
        for block in blocks(README):
            assert block.language == "sh"
            script = block.text.replace("ws://127.0.0.1:7717/", "$RPCSERVER_URL")
            for command, other in adapted.items():
                script = script.replace(command, other)
            printed = terminal.run(script)
            if "session.ls" in script:
                assert "anna's home" in printed
            if "02_walk" in script:
                assert "bookmarked 'docs'" in printed
    finally:
        terminal.close()


def walk_installed(home: Path, environment: Installed) -> None:
    """Run the README with what is installed there in place of .venv; tests are not installed."""
    terminal = Terminal(home, CHECKOUT, PATH=f"{environment.bin}{os.pathsep}/usr/bin{os.pathsep}/bin")
    adapted = {"make demo": "rpcserver demo", ". .venv/bin": f". {environment.bin}", "make test": "rpcserver version"}
    walk(terminal, adapted)


@pytest.mark.slow  # `.ci/run` is its two commands of make; the others run from the wheel, below, with every run
@pytest.mark.timeout(300)
def test_readme_commands_run(tmp_path: Path) -> None:
    """The README's blocks work one after another, in the clone, with nothing prepared."""
    # `make test` runs one test here: all of them are what is running already.
    walk(
        Terminal(
            tmp_path,
            CHECKOUT,
            PYTEST_ADDOPTS="tests/docs/test_readme.py -k says -p no:cacheprovider",
            PYTEST_XDIST_AUTO_NUM_WORKERS="1",
        ),
        {},
    )


@pytest.mark.timeout(300)
def test_readme_commands_run_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    """They work in an environment that has the wheel and what it needs, without any extra."""
    walk_installed(tmp_path, installed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_readme_commands_run_from_the_wheel_and_the_index(wheel: Path, tmp_path: Path) -> None:
    """They work where pip fetched what the wheel says it needs."""
    made = Installed(tmp_path / "environment")
    subprocess.run([sys.executable, "-m", "venv", str(made.folder)], check=True, timeout=100)
    subprocess.run([str(made.bin / "pip"), "install", "--quiet", str(wheel)], check=True, timeout=300)
    walk_installed(tmp_path, made)


def test_readme_says_what_it_is_in_three_lines() -> None:
    """The README opens with its name and three lines; everything a stranger needs has a heading."""
    lines = README.read_text("utf-8").splitlines()
    assert lines[0] == "# rpcserver" and all(lines[2:5]) and not lines[5]
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## Run", "## Test", "## First call", "## Where next"]
