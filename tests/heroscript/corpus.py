"""How an entry of the conformance corpus is judged: the policies of its README."""

import json
import math
import re
from pathlib import Path
from typing import Any

from heroscript import Params, PlayBook

CORPUS = Path(__file__).parents[3] / "shared" / "heroscript" / "public.jsonl"
_INFORMATIVE = {"heroscript", "oneline", "export", "error"}


def own_entries() -> list[dict[str, Any]]:
    """Entries of our own, one a policy, for when the corpus is not there."""
    read = {"ok": True, "params": [["a", "1", ""]], "args": [], "arg_comments": []}
    refused = {"ok": False}
    return [
        {"id": "own-contract", "kind": "params", "policy": "contract", "input": {"text": "a:1"}, "expected": read},
        {"id": "own-error", "kind": "params", "policy": "error", "input": {"text": "a@:1"}, "expected": refused},
        {
            "id": "own-quirk",
            "kind": "params",
            "policy": "quirk",
            "input": {"text": "a:'1"},
            "expected": read,
            "recommended": refused,
        },
        {"id": "own-either", "kind": "params", "policy": "either", "input": {"text": "a-b:1"}, "expected": refused},
    ]


def entries() -> list[dict[str, Any]]:
    """All entries of the public corpus; our own when it is not there."""
    if not CORPUS.exists():
        return own_entries()
    return [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]


def is_met(entry: dict[str, Any], actual: dict[str, Any]) -> bool:
    """Tell whether what was made of an entry is what its policy asks for."""
    expected, recommended = entry["expected"], entry.get("recommended")
    match entry["policy"]:
        case "contract":
            wanted = recommended if entry.get("comments_policy") == "quirk" else expected
            return _holds(wanted, actual)
        case "error":
            return not actual["ok"]
        case "quirk":
            return _holds(recommended, actual)
        case "either":
            return recommended is None or _holds(expected, actual) or _holds(recommended, actual)
    raise AssertionError(entry["policy"])


def survives_the_round_trip(entry: dict[str, Any]) -> bool:
    """Tell whether reading what was written gives the same again, and writing that the same text."""
    text = entry["input"]["text"]
    if entry["kind"] == "params":
        params = Params.parse(text)
        return Params.parse(params.heroscript()) == params
    written = (book := PlayBook(text)).heroscript()
    return PlayBook(written).actions == book.actions and PlayBook(written).heroscript() == written


def _holds(wanted: Any, actual: Any) -> bool:
    if isinstance(wanted, dict):
        if "name_regex" in wanted:
            return re.fullmatch(wanted["name_regex"], actual["name"]) is not None
        if wanted.get("ok") is False:
            return actual["ok"] is False
        return (
            isinstance(actual, dict)
            and all(
                key in actual and _holds(value, actual[key]) for key, value in wanted.items() if key not in _INFORMATIVE
            )
            and ("error" in wanted) == ("error" in actual)
        )
    if isinstance(wanted, list):
        return isinstance(actual, list) and len(wanted) == len(actual) and all(map(_holds, wanted, actual))
    if isinstance(wanted, str) and isinstance(actual, str) and wanted != actual:
        return _is_same_number(wanted, actual)
    return bool(wanted == actual)


def _is_same_number(wanted: str, actual: str) -> bool:
    try:
        return math.isclose(float(wanted), float(actual), rel_tol=1e-6)
    except ValueError:
        return False
