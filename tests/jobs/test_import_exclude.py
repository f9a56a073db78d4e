"""Importing a folder without some of it."""

import json
from pathlib import Path

from tests.conftest import run_cli


def test_excluded_names_are_left_out_wherever_they_stand(tmp_path: Path) -> None:
    """`rpcserver import --exclude NAME` skips entries of that name at every level, with all below them."""
    tree = tmp_path / "tree"
    for folder in ("a/cache", "cache/deep"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "one.txt").write_text("one")
    (tree / "a" / "kept.txt").write_text("kept")
    data = ("--data", str(tmp_path / "data"))
    assert run_cli("user", "add", "anna", *data).returncode == 0
    done = run_cli("import", str(tree), "--user", "anna", "--exclude", "cache", *data)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["sets"], answer["tokens"]) == (2, 1)
