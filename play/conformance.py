"""Runs the entries of a conformance corpus: `python -m play.conformance FILE.jsonl`.

Prints one line an entry, `{"id": ..., "actual": ...}`, in the shape of the entry's `expected`. Compares nothing. A line
that is no entry, or of a kind or with a step that is not known, is answered with `{"ok": false, "error": ...}` too.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from play import scenarios, values
from play.action import Action
from play.errors import PlayError
from play.giturl import GitUrl
from play.names import name_fix, name_fix_no_ext, name_fix_no_underscore
from play.ourtime import OurTime
from play.params import Params
from play.playbook import PlayBook

Json = Any
_NOW = OurTime(1_700_000_000)
# What a malformed entry ends in. It must not stop the entries behind it.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
_GETTERS = ("get", "exists", "filter_match", "check_arg_len")


def actual(kind: str, given: Json) -> Json:
    """Run one entry; an error of `play` becomes `{"ok": false, "error": ...}`."""
    try:
        return {"ok": True, **_RUNNERS[kind](given)}
    except PlayError as error:
        return {"ok": False, "error": str(error)}


def answer(line: bytes) -> str:
    """Give what is printed for one line of a corpus file, whatever is in the line."""
    entry: Json = None
    try:
        entry = json.loads(line)
        if entry["kind"] not in _RUNNERS:
            raise ValueError(f"unknown kind {entry['kind']!r}")
        return json.dumps({"id": entry["id"], "actual": actual(entry["kind"], entry["input"])})
    except _MALFORMED as error:
        why = f"cannot be run: {type(error).__name__}: {error}"
        id = entry.get("id") if isinstance(entry, dict) else None
        return json.dumps({"id": id, "actual": {"ok": False, "error": why}})


def _playbook(given: Json) -> Json:
    book = PlayBook()
    book.add(given["text"], replace=given.get("replace"))
    return {
        "actions": [_action(action) for action in book],
        "othertext": book.othertext,
        "heroscript": book.heroscript(),
    }


def _action(action: Action) -> Json:
    return {
        "id": action.id,
        "actor": action.actor,
        "name": action.name,
        "type": str(action.type),
        "priority": action.priority,
        "comments": action.comments,
        **_params_of(action.params),
    }


def _params_of(params: Params) -> Json:
    return {
        "params": [list(item) for item in params.items()],
        "args": list(params.args),
        "arg_comments": list(params.arg_comments),
    }


def _playbook_path(given: Json) -> Json:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, content in given.get("files", {}).items():
            _place(root, name).write_bytes(content.encode())
        for name, target in given.get("symlinks", {}).items():
            _place(root, name).symlink_to(target)
        book = PlayBook()
        book.add(path=root / given["path"])
        actions = [
            {
                "id": action.id,
                "actor": action.actor,
                "name": action.name,
                "params": [[key, value] for key, value, _ in action.params.items()],
            }
            for action in book
        ]
        return {"actions": actions}


def _place(root: Path, name: str) -> Path:
    """Give where a file of an entry goes, with the folders above it: nowhere but below `root`."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} leaves the folder of the entry")
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _params(given: Json) -> Json:
    params = Params.parse(given["text"])
    script = params.heroscript()
    return {**_params_of(params), "oneline": script.replace("\n", " "), "export": script, "heroscript": script}


def _params_replace(given: Json) -> Json:
    params = Params.parse(given["text"])
    params.replace(given["replace"])
    return {"params": [list(item) for item in params.items()]}


def _getter(given: Json) -> Json:
    params, op = Params.parse(given["text"]), given["op"]
    if not op.startswith(_GETTERS):
        raise ValueError(f"unknown getter {op!r}")
    if op == "filter_match":
        return {"value": _written(params.filter_match(given.get("include", []), given.get("exclude", [])))}
    key: str | int = int(given["key"]) if "_arg" in op and op != "exists_arg" else given["key"]
    arguments: list[Any] = [key]
    if op.endswith("_default"):
        arguments.append(_default(op, given["default"]))
    if op == "get_from_hashmap":
        arguments += [given.get("default") or "", given.get("map") or given.get("hashmap") or {}]
    return {"value": _written(getattr(params, op)(*arguments))}


def _default(op: str, text: str) -> Any:
    """Read a default, which the corpus always writes as text, as the getter wants it."""
    if "_list" in op:
        return values.items(text)
    if op == "get_time_default":
        return OurTime.parse(text)
    if "float" in op or "_f32" in op or "_f64" in op:
        return float(text)
    if any(word in op for word in ("int", "_u", "_i", "storage", "timestamp")):
        return int(text)
    return text


def _written(value: Any) -> Json:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return [_written(item) for item in value]
    if isinstance(value, OurTime):
        return str(value.unix)
    if isinstance(value, Params):
        return [list(item) for item in value.items()]
    if value is None:  # a check that was passed
        return ""
    return value if isinstance(value, dict) else str(value)


def _ourtime(given: Json) -> Json:
    text = given["text"]
    time = OurTime.parse(text, _NOW)
    if text.strip() in ("", "0") or text.strip()[0] in "+-":
        return {"delta": time.unix - _NOW.unix}
    return {"unix": time.unix, "str": str(time), "key": time.key, "day": time.day, "dayhour": time.dayhour}


def _find(given: Json) -> Json:
    found = PlayBook(given["text"]).find(given["filter"], include_done=given.get("include_done", False))
    return {"ids": [action.id for action in found]}


def _filtersort(given: Json) -> Json:
    book = PlayBook(given["text"])
    ordered = book.filtersort({int(number): wanted for number, wanted in given["priorities"].items()})
    return {
        "ids": [action.id for action in ordered],
        "priorities": [action.priority for action in ordered],
        "prio_only": [action.id for action in book.filtersort(prio_only=True)],
    }


def _namefix(given: Json) -> Json:
    text = given["text"]
    return {
        "name_fix": name_fix(text),
        "no_underscore": name_fix_no_underscore(text),
        "no_ext": name_fix_no_ext(text),
    }


def _giturl(given: Json) -> Json:
    url = GitUrl.parse(given["url"])
    names = ("provider", "account", "name", "branch", "path", "anchor")
    return {name: getattr(url, name) for name in names}


def _steps(run: Callable[[Path, list[Any]], list[Json]]) -> Callable[[Json], Json]:
    def runner(given: Json) -> Json:
        with tempfile.TemporaryDirectory() as folder:
            return {"results": run(Path(folder), given["steps"])}

    return runner


_RUNNERS: dict[str, Callable[[Json], Json]] = {
    "playbook": _playbook,
    "playbook_replace": _playbook,
    "playbook_path": _playbook_path,
    "playbook_state": _steps(scenarios.playbook),
    "params": _params,
    "params_replace": _params_replace,
    "getter": _getter,
    "ourtime": _ourtime,
    "find": _find,
    "filtersort": _filtersort,
    "namefix": _namefix,
    "giturl": _giturl,
    "dbfs": _steps(scenarios.stores),
    "session": _steps(scenarios.session),
}


def main(arguments: list[str]) -> int:
    """Run every entry of one corpus file."""
    if len(arguments) != 1:
        print("usage: python -m play.conformance FILE.jsonl", file=sys.stderr)
        return 2
    try:
        lines = open(arguments[0], "rb")
    except OSError as error:
        print(f"{arguments[0]}: {error.strerror}", file=sys.stderr)
        return 2
    with lines:
        for line in lines:
            if line.strip():
                print(answer(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
