"""What the code cites stands in `docs/design/`: every page and every section, so that a reader can look it up."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("rpcserver", "jobs", "plugins", "core", "heroscript", "store", "schema.sql")
PAGES = ("seeds", "sessions", "protocol", "jobs", "libraries", "promises", "api", "house", "speed", "heroscript")
_NUMBER = r"(?:[A-Z]\d+|\d+(?:\.\d+)*)"
_CITED = re.compile(rf"(?<![\w/])({'|'.join(PAGES)})\.md(?:(?: |, | and | to ){_NUMBER})*")
_EACH = re.compile(_NUMBER)


def files() -> list[Path]:
    """Return every file that may cite a page."""
    rooms = [ROOT / room for room in ROOMS]
    return [path for room in rooms for path in ([room] if room.is_file() else sorted(room.rglob("*.py")))]


def cited(text: str) -> list[tuple[str, str]]:
    """Return page and section of every citation; the section is empty where only the page is named."""
    found = []
    for match in _CITED.finditer(text):
        numbers = _EACH.findall(match[0].removeprefix(f"{match[1]}.md"))
        found += [(match[1], number) for number in numbers or [""]]
    return found


def sections(page: str) -> set[str]:
    """Return the numbers that headings, table rows and points of a page bear, and the empty one."""
    text = (ROOT / "docs" / "design" / f"{page}.md").read_text("utf-8")
    return {"", *re.findall(rf"^(?:#+ |\| |\* |- )\**({_NUMBER})\b", text, re.MULTILINE)}


def test_citations_are_found() -> None:
    """A page alone, several sections, a range over two of them."""
    text = "Source: speed.md (what follows); sessions.md 2.10 to 2.12, 3.3. promises.md S2, S12; docs/how-to/jobs.md"
    assert cited(text) == [
        ("speed", ""),
        *(("sessions", number) for number in ("2.10", "2.12", "3.3")),
        *(("promises", number) for number in ("S2", "S12")),
    ]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_cited_can_be_looked_up(page: str) -> None:
    """Every section of the page that some file names is there, and the page is named by some."""
    named = {number for path in files() for name, number in cited(path.read_text("utf-8")) if name == page}
    assert named and named <= sections(page)
