"""Every command of the README runs, in its order; only port, data folder and the tests chosen are adapted."""

from pathlib import Path

import pytest

from tests.docs.terminal import CHECKOUT, Terminal, blocks

README = CHECKOUT / "README.md"


@pytest.mark.timeout(300)
def test_readme_commands_run(tmp_path: Path) -> None:
    """The README's blocks work one after another, in the clone, with nothing prepared."""
    # `make test` runs one test here: all of them are what is running already.
    terminal = Terminal(tmp_path, CHECKOUT, PYTEST_ADDOPTS="tests/docs/test_readme.py -k says -p no:cacheprovider")
    try:
        for block in blocks(README):
            assert block.language == "sh"
            script = block.text.replace("ws://127.0.0.1:7717/", "$RPCSERVER_URL")
            printed = terminal.run(script)
            if "session.ls" in script:
                assert "anna's home" in printed
            if "02_walk" in script:
                assert "bookmarked 'docs'" in printed
    finally:
        terminal.close()


def test_readme_says_what_it_is_in_three_lines() -> None:
    """The README opens with its name and three lines; everything a stranger needs has a heading."""
    lines = README.read_text("utf-8").splitlines()
    assert lines[0] == "# rpcserver" and all(lines[2:5]) and not lines[5]
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## Run", "## Test", "## First call", "## Where next"]
