"""The conformance corpus's scenarios: lists of steps, each `[name, argument...]`, run one after another.

A step that fails gives `{"error": true}` and the scenario goes on. Beside the step names listed here, every method of
the thing a scenario is about is a step.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from play.action import Action
from play.errors import PlayError
from play.kvs import Collection, Store
from play.params import Params
from play.playbook import PlayBook
from play.session import Context, Session

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
            results.append(_written(step(*arguments)))
        except (PlayError, AttributeError, TypeError, ValueError):
            results.append({"error": True})
    return results


def _written(value: Any) -> Json:
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
