"""The reference pages are what the code says."""

from pathlib import Path

import pytest

from rpcserver.settings import Settings
from tests.conftest import run_cli
from tests.docs.terminal import CHECKOUT
from tests.toolchain import load_script

REFERENCE = CHECKOUT / "docs" / "reference"

GENERATOR = load_script(CHECKOUT / "docs" / "generate.py")


@pytest.mark.parametrize("name", sorted(GENERATOR.PAGES))
def test_page_is_current(name: str) -> None:
    """A page of the reference is exactly what the code gives."""
    written = (REFERENCE / name).read_text("utf-8")
    assert written == GENERATOR.PAGES[name](), "run `make docs`"


def test_no_page_is_left_behind() -> None:
    """A page that says it was written by the script is one the script still writes."""
    marked = {path.name for path in REFERENCE.iterdir() if path.read_text("utf-8").startswith(GENERATOR.HEAD)}
    assert marked == set(GENERATOR.PAGES)


def test_every_setting_is_described() -> None:
    """Every setting says what it is for."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_kind_says_when() -> None:
    """Every kind of error has a code and says when it comes."""
    rows = [line.split("|")[1:-1] for line in GENERATOR.error_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if not all(cell.strip() for cell in row)] == []


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    """An unknown name in rpcserver.toml stops the start and is named, as the page says."""
    (tmp_path / "rpcserver.toml").write_text("prot = 1\n")
    done = run_cli("user", "add", "anna", "--data", str(tmp_path))
    assert done.returncode == 1 and "prot" in done.stderr
