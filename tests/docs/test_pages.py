"""Every page with commands does what it says: run block by block, as its reader would."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugins.hooks import Hooks
from tests.docs.terminal import CHECKOUT, Terminal, blocks
from tests.forked import put_in

Open = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    """Open terminals on a home folder of their own; their servers are stopped with the test."""
    opened: list[Terminal] = []

    def start(cwd: Path, **variables: str) -> Terminal:
        opened.append(Terminal(tmp_path, cwd, put_in(tmp_path / ".commands"), **variables))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.timeout(300)
def test_tutorial(terminal: Open) -> None:
    """The tutorial's commands, files and promises hold from its beginning to its end."""
    terminal(CHECKOUT).run_page(CHECKOUT / "docs" / "tutorial.md")


@pytest.mark.timeout(300)
def test_how_to_run_jobs(terminal: Open, tmp_path: Path) -> None:
    """The page's job counts, asks, and ends."""
    terminal(tmp_path).run_page(CHECKOUT / "docs" / "how-to" / "jobs.md")


@pytest.mark.timeout(300)
def test_how_to_deploy(terminal: Open, tmp_path: Path) -> None:
    """The page's commands look, back up and restore."""
    (tmp_path / "work").mkdir()
    terminal(tmp_path / "work").run_page(CHECKOUT / "docs" / "how-to" / "deploy.md")


@pytest.mark.timeout(300)
def test_how_to_write_a_plugin(terminal: Open, tmp_path: Path) -> None:
    """The page's plugin loads, writes, and guards."""
    terminal(tmp_path).run_page(CHECKOUT / "docs" / "how-to" / "plugin.md")


@pytest.mark.timeout(300)
def test_how_to_play(terminal: Open, tmp_path: Path) -> None:
    """The page's playbooks play, its mistakes are told, its secret is shown nowhere, its plugin plays."""
    terminal(tmp_path).run_page(CHECKOUT / "docs" / "how-to" / "playbooks.md")


@pytest.mark.timeout(300)
def test_how_to_have_something_outside_answer(terminal: Open, tmp_path: Path) -> None:
    """The page's remote calls, its person is asked and answers, its script says how long."""
    (tmp_path / "work").mkdir()
    terminal(tmp_path / "work").run_page(CHECKOUT / "docs" / "how-to" / "remotes.md")


def test_every_hook_is_told() -> None:
    """The table of hooks is the hooks there are."""
    page = (CHECKOUT / "docs" / "how-to" / "plugin.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(\w+)\(", page, re.MULTILINE))
    assert told == {name for name in vars(Hooks) if not name.startswith("_")}


@pytest.mark.parametrize("page", sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")]), ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link in the documentation names a file that exists, and every block is closed."""
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
    assert len(blocks(page)) * 2 == len(re.findall(r"^```", text, re.MULTILINE))
