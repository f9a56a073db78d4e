"""Runs the entries of a conformance corpus: `python -m heroscript.conformance FILE.jsonl`.

Prints one line an entry, `{"id": ..., "actual": ...}`, in the shape of the entry's `expected`. Compares nothing. A line
that is no entry, or of a kind or with a step that is not known, is answered with `{"ok": false, "error": ...}` too.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from heroscript import grammar
from heroscript.action import Action
from heroscript.errors import PlayError
from heroscript.giturl import GitUrl
from heroscript.grammar import name_fix, name_fix_no_ext, name_fix_no_underscore
from heroscript.kvs import Collection, Store
from heroscript.ourtime import OurTime
from heroscript.params import Params
from heroscript.playbook import PlayBook
from heroscript.session import Context, Session

Json = Any
Steps = dict[str, Callable[..., Json]]


def playbook(folder: Path, steps: list[Any]) -> list[Json]:
    """Run the steps of one playbook."""
    book = PlayBook()
    own: Steps = {
        **dict.fromkeys(("text", "add", "add_text"), lambda text, prio=50: _nothing(book.add(text, prio=prio))),
        **dict.fromkeys(("mark_done", "done", "set_done"), lambda *wanted: _mark_done(book, wanted)),
        "filtersort": lambda given=None: _ids(book.filtersort(None if given is None else _numbered(given))),
        "sorted": lambda: _ids(book.actions_sorted()),
        "priorities_add": lambda given: book.priorities_add(_numbered(given)),
        "playbook_priorities_add": lambda given: book.priorities_add(_numbered(given)),
        "find_include_done": lambda wanted: _ids(book.find(wanted, include_done=True)),
        "find_one": lambda wanted: book.get(wanted).id,
        "ids": lambda: _ids(book.actions),
        "priorities": lambda: [action.priority for action in book],
        "count": lambda: len(book),
        "len": lambda: len(book),
        "othertext": lambda: book.othertext,
        "roundtrip": lambda: PlayBook(book.heroscript(show_done=True)).actions == book.actions,
    }
    return _run(own, lambda: book, steps)


def _mark_done(book: PlayBook, wanted: tuple[int | str, ...]) -> None:
    for action in book:
        if action.id in wanted or any(action in book.find(item) for item in wanted if isinstance(item, str)):
            action.done = True


def stores(folder: Path, steps: list[Any]) -> list[Json]:
    """Run the steps of one collection; plain steps go to the store opened last, at first one named `test`."""
    run = _Stores(Collection(folder, is_durable=False))
    own: Steps = {
        **{op: partial(run.of_current, op) for op in _store_steps(run.current)},
        "session": lambda name, op, *arguments: run.of(f"session_{name}", op, *arguments),
        "config": lambda name, op, *arguments: run.of("config", op, *arguments),
        "db": run.of,
        "db_create": partial(run.open, "db_create"),
        "db_get": partial(run.open, "db_get"),
        "db_get_create": partial(run.open, "db_get_create"),
        "db_exists": run.collection.exists,
        "db_delete": lambda name: _nothing(run.collection.delete(name)),
        "db_list": run.names,
        "db_prefix": run.names,
        "list": run.names,
    }
    return _run(own, lambda: run.current, steps)


class _Stores:
    """The collection of one scenario, and the stores that were opened."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.current = collection.db_create("test")
        self._opened: dict[str, Store] = {}

    def open(self, how: str, name: str, options: dict[str, Any] | None = None) -> Json:
        given = options or {}
        secret = str(given.get("secret", "")) if given.get("encrypted") or given.get("secret") else None
        self.current = self._opened[name] = getattr(self.collection, how)(name, secret=secret)
        return {"ok": True}

    def of(self, name: str, op: str, *arguments: Any) -> Json:
        store = self._opened.get(name) or self.collection.db_get_create(name)
        result = _store_steps(store)[op](*arguments)
        return {"ok": True} if op == "set" else result

    def of_current(self, op: str, *arguments: Any) -> Json:
        return _store_steps(self.current)[op](*arguments)

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in self.collection.list(prefix) if name != "test"]


def session(folder: Path, steps: list[Any]) -> list[Json]:
    """Run the steps of one context; steps of a session go to the one that was made or loaded last."""
    run = _Sessions(folder)
    own: Steps = {
        "context": run.context_new,
        "context_new": run.context_new,
        "context_get": run.context_new,
        "session_new": run.session_new,
        "session_get": run.session_get,
        "session": run.session_get,
        "session_latest": run.session_latest,
        "params_set": lambda key, value: run.latest().params.set(key, value),
        "params_get": lambda key: run.latest().params.get(key),
        "playbook_add": lambda text: _nothing(run.latest().plbook.add(text)),
        "playbook_priorities_add": lambda given: run.latest().playbook_priorities_add(_numbered(given)),
        "guid": lambda: run.latest().guid,
        "name": lambda: run.latest().name,
    }
    return _run(own, run.latest, steps)


class _Sessions:
    """The contexts of one scenario, and the context and session that are current."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contexts: dict[str, Context] = {}
        self._session: Session | None = None
        self.context = self.context_new()

    def context_new(self, options: dict[str, Any] | str | None = None) -> Context:
        given = {"name": options} if isinstance(options, str) else dict(options or {})
        name = given.get("name") or "default"
        if name not in self._contexts:
            stores = Collection(self._folder / str(len(self._contexts)), is_durable=False)
            params = Params.parse(given.get("params", ""))
            self._contexts[name] = Context(stores, name, int(given.get("id", 0)), params)
        self.context = self._contexts[name]
        return self.context

    def session_new(self, options: dict[str, Any] | str | None = None) -> Session:
        given = {"name": options} if isinstance(options, str) else dict(options or {})
        if given.get("context_name"):
            self.context_new(given["context_name"])
        wanted: dict[str, Any] = {key: given[key] for key in ("params", "start", "interactive") if key in given}
        self._session = self.context.session_new(given.get("name") or given.get("session_name") or "", **wanted)
        if given.get("playbook_text"):
            self._session.plbook.add(given["playbook_text"])
        return self._session

    def session_get(self, name: str = "") -> Session:
        self._session = self.context.session_get(name)
        return self._session

    def session_latest(self) -> Session:
        self._session = self.context.session_latest()
        return self._session

    def latest(self) -> Session:
        if self._session is None:
            self._session = self.context.session_latest()
        return self._session


def _store_steps(store: Store) -> Steps:
    return {
        "set": lambda key, value: {"id": store.set(key, value)},
        "set_id": lambda id, value: {"id": store.set(None, value, id=id)},
        "set_key_id": lambda key, id, value: {"id": store.set(key, value, id=id)},
        "set_value_only": lambda value: {"id": store.set(None, value)},
        "get": store.get,
        "get_id": lambda id: store.get(id=id),
        "exists": store.exists,
        "exists_id": lambda id: store.exists(id=id),
        "delete": lambda key: _nothing(store.delete(key)),
        "delete_id": lambda id: _nothing(store.delete(id=id)),
        "keys": lambda prefix="": list(store.keys(prefix)),
        "prefix": lambda prefix="": list(store.keys(prefix)),
        "ids": store.ids,
        "empty": store.empty,
        "destroy": store.destroy,
    }


def _run(own: Steps, subject: Callable[[], Any], steps: list[Any]) -> list[Json]:
    results = []
    for name, *arguments in steps:
        try:
            step = own[name] if name in own else getattr(subject(), name)
            results.append(_written_of_step(step(*arguments)))
        except (PlayError, AttributeError, TypeError, ValueError):
            results.append({"error": True})
    return results


def _written_of_step(value: Any) -> Json:
    if isinstance(value, Session):
        end = value.end.unix if value.end else 0
        about = {"name": value.name, "guid": value.guid, "params": value.params.get_map()}
        return {**about, "interactive": value.interactive, "start": value.start.unix, "end": end}
    if isinstance(value, Context):
        return {"name": value.name, "guid": value.guid, "id": value.id, "params": value.params.get_map()}
    if isinstance(value, Params):
        return value.get_map()
    if isinstance(value, Action):
        return value.id
    if isinstance(value, list) and value and isinstance(value[0], Action):
        return _ids(value)
    return value


def _nothing(_: Any) -> None:
    """A step whose result the corpus does not look at."""


def _ids(actions: list[Action]) -> list[int]:
    return [action.id for action in actions]


def _numbered(priorities: dict[str, str]) -> dict[int, str]:
    return {int(number): wanted for number, wanted in priorities.items()}


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
        return grammar.items(text)
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
    "playbook_state": _steps(playbook),
    "params": _params,
    "params_replace": _params_replace,
    "getter": _getter,
    "ourtime": _ourtime,
    "find": _find,
    "filtersort": _filtersort,
    "namefix": _namefix,
    "giturl": _giturl,
    "dbfs": _steps(stores),
    "session": _steps(session),
}


def main(arguments: list[str]) -> int:
    """Run every entry of one corpus file."""
    if len(arguments) != 1:
        print("usage: python -m heroscript.conformance FILE.jsonl", file=sys.stderr)
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
