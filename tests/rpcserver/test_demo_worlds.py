"""`rpcserver demo --world NAME`."""

import os
from pathlib import Path

import pytest

from rpcserver.cli.demo import WALKS, worlds
from tests.conftest import run_cli

SHOWN = {
    "museum": ("ENTER_REFUSED: 'Vault' does not let you in: see the gallery first.", "The blue stone", "staff only"),
    "shop": (
        "Price list, Put into basket",
        "Sencha 9 EUR",
        '"written": "Sencha is in your basket"',
        '"total": 9',
        "thank you, visitor",
    ),
    "help-desk": ('"state": "pending"', "Where is the lift?", "Second door on the left."),
}


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_world_is_walked(name: str, tmp_path: Path) -> None:
    """The walk shows what the world is for, ends with 0 and leaves nothing behind."""
    done = run_cli("demo", "--world", name, env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    for text in SHOWN[name]:
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_every_world_has_its_walk() -> None:
    """What lies in examples/worlds can be walked by name, and nothing else."""
    assert set(worlds()) == set(WALKS) == set(SHOWN)


def test_an_unknown_world_is_told() -> None:
    """The names there are are named."""
    done = run_cli("demo", "--world", "atlantis")
    assert done.returncode == 1 and "museum" in done.stderr
