"""The command that runs a corpus file, on entries of our own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from play.conformance import actual

CASES: list[tuple[str, Any, Any]] = [
    (
        "dbfs",
        {
            "steps": [
                ["db_create", "v", {"encrypted": True, "secret": "abcd"}],
                ["set", "k", "x"],
                ["get", "k"],
                ["list"],
            ]
        },
        {"results": [{"ok": True}, {"id": 1}, "x", ["v"]]},
    ),
    ("params_replace", {"text": "a:{X}", "replace": {"x": "1"}}, {"params": [["a", "1", ""]]}),
    (
        "playbook_path",
        {"files": {"d/a.md": "!!x.y k:v"}, "path": "."},
        {"actions": [{"id": 1, "actor": "x", "name": "y", "params": [["k", "v"]]}]},
    ),
    ("getter", {"text": "a:1", "op": "get_u8_default", "key": "b", "default": "7"}, {"value": "7"}),
    ("getter", {"text": "x y", "op": "get_arg", "key": "1", "default": None}, {"value": "y"}),
    ("ourtime", {"text": "-1h"}, {"delta": -3600}),
    ("find", {"text": "!!a.b\n!!c.d", "filter": "c.*"}, {"ids": [2]}),
    (
        "filtersort",
        {"text": "!!a.b\n!!c.d", "priorities": {"1": "c.*"}},
        {"ids": [2, 1], "priorities": [1, 50], "prio_only": [2]},
    ),
    ("namefix", {"text": "A b.C"}, {"name_fix": "a_b.c", "no_underscore": "ab.c", "no_ext": "a_b"}),
    (
        "dbfs",
        {
            "steps": [
                ["set", "a", "x"],
                ["get", "a"],
                ["get", "b"],
                ["keys"],
                ["ids"],
                ["db", "o", "set", "k", "v"],
                ["db_list"],
                ["get_id", 2],
            ]
        },
        {"results": [{"id": 1}, "x", {"error": True}, ["a"], [1], {"ok": True}, ["o"], {"error": True}]},
    ),
    (
        "playbook_state",
        {
            "steps": [
                ["text", "!!a.b\n!!c.d x:1"],
                ["mark_done", 1],
                ["ensure_processed", "a.*"],
                ["params_get", "c.*"],
                ["names"],
                ["get", "a.b"],
                ["roundtrip"],
            ]
        },
        {"results": [None, None, None, {"x": "1"}, ["a.b", "c.d"], {"error": True}, False]},
    ),
    (
        "session",
        {"steps": [["session_new", {"name": "a/../b"}], ["session_get", "none"], ["guid"]]},
        {"results": [{"error": True}] * 2},
    ),
]


@pytest.mark.parametrize(("kind", "given", "expected"), CASES)
def test_runs_every_kind(kind: str, given: Any, expected: Any) -> None:
    """What is made of an entry has the shape of what its kind expects."""
    made = actual(kind, given)
    if kind == "session":
        made["results"] = made["results"][:2]
    assert made == {"ok": True, **expected}


def test_prints_one_line_an_entry(tmp_path: Path) -> None:
    """An entry that fails is a line too."""
    corpus = tmp_path / "corpus.jsonl"
    entries = [
        {"id": "good", "kind": "params", "input": {"text": "a:1"}},
        {"id": "bad", "kind": "playbook", "input": {"text": "!!"}},
    ]
    corpus.write_text("\n".join(map(json.dumps, entries)))
    done = subprocess.run(
        [sys.executable, "-m", "play.conformance", str(corpus)], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["id"], line["actual"]["ok"]) for line in lines] == [("good", True), ("bad", False)]
    assert "<text>:1:3" in lines[1]["actual"]["error"]
