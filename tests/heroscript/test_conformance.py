"""The command that runs a corpus file, on entries of our own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heroscript.conformance import actual

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
    ("ourtime", {"text": " 0 "}, {"delta": 0}),
    ("getter", {"text": "x y", "op": "check_arg_len", "key": "2", "default": None}, {"value": ""}),
    ("getter", {"text": "a:1,2 b:2", "op": "get_list_int", "key": "a", "default": None}, {"value": ["1", "2"]}),
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
        [sys.executable, "-m", "heroscript.conformance", str(corpus)], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["id"], line["actual"]["ok"]) for line in lines] == [("good", True), ("bad", False)]
    assert "<text>:1:3" in lines[1]["actual"]["error"]


BROKEN: list[tuple[bytes, Any]] = [
    (b"no json", None),
    (b"[1, 2]", None),
    (b"\xff\xfe{}", None),
    (b"[" * 5000, None),
    (b'{"id": "no kind"}', "no kind"),
    (b'{"id": "other kind", "kind": "poem", "input": {}}', "other kind"),
    (b'{"id": "no input", "kind": "params"}', "no input"),
    (b'{"id": "no text", "kind": "params", "input": {}}', "no text"),
    (b'{"id": "null", "kind": "playbook", "input": null}', "null"),
    (b'{"id": "number", "kind": "playbook", "input": {"text": 5}}', "number"),
    (b'{"id": "getter", "kind": "getter", "input": {"text": "a:1", "op": "get_nothing", "key": "a"}}', "getter"),
    (b'{"id": "inside", "kind": "getter", "input": {"text": "a:1", "op": "__class__", "key": "a"}}', "inside"),
    (b'{"id": "arg", "kind": "getter", "input": {"text": "a:1", "op": "get_arg", "key": "x"}}', "arg"),
    (b'{"id": "default", "kind": "getter", "input": {"text": "", "op": "get_int_default", "key": "x", "default": "y"}}',
     "default"),
    (b'{"id": "number", "kind": "filtersort", "input": {"text": "!!a.b", "priorities": {"one": "a.*"}}}', "number"),
    (b'{"id": "steps", "kind": "dbfs", "input": {"steps": [5]}}', "steps"),
    (b'{"id": "out", "kind": "playbook_path", "input": {"files": {"../out.md": "!!a.b"}, "path": "."}}', "out"),
    (b'{"id": "nul", "kind": "playbook_path", "input": {"files": {"a\\u0000b": "!!a.b"}, "path": "."}}', "nul"),
    (b'{"id": "half", "kind": "playbook_path", "input": {"files": {"a.md": "\\ud800"}, "path": "."}}', "half"),
]  # fmt: skip


def test_answers_what_is_no_entry_and_goes_on(tmp_path: Path) -> None:
    """A line that is no entry, or one nobody can run, is a line of output like any other, and the next one is run."""
    corpus = tmp_path / "folder" / "corpus.jsonl"
    corpus.parent.mkdir()
    good = b'{"id": "good", "kind": "params", "input": {"text": "a:1"}}'
    corpus.write_bytes(b"\n".join([*(line for line, _ in BROKEN), b"", good]))
    done = run(str(corpus))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["id"] for line in lines] == [*(id for _, id in BROKEN), "good"]
    assert [line["actual"]["ok"] for line in lines] == [False] * len(BROKEN) + [True]
    assert all(line["actual"]["error"] for line in lines[:-1])
    assert not list(tmp_path.glob("out.md"))


def test_says_that_there_is_no_such_file(tmp_path: Path) -> None:
    """One line, and the status of a wrong command line."""
    for arguments in ([str(tmp_path / "none.jsonl")], [], ["a", "b"]):
        done = run(*arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "heroscript.conformance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
