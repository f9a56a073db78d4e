"""The conformance corpus's scenarios: lists of steps, each `[name, argument...]`, run one after another.

A step that fails gives `{"error": true}` and the scenario goes on. Beside the step names listed here, every method of
the thing a scenario is about is a step.
"""

from collections.abc import Callable
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

    def add(text: str, prio: int = 50) -> None:
        book.add(text, prio=prio)

    def add_path(files: dict[str, str] | str) -> None:
        book.add(path=folder / files if isinstance(files, str) else folder)

    def mark_done(*wanted: int | str) -> None:
        for action in book:
            if action.id in wanted or any(action in book.find(item) for item in wanted if isinstance(item, str)):
                action.done = True

    def filtersort(priorities: dict[str, str] | None = None) -> list[int]:
        return _ids(book.filtersort(None if priorities is None else _numbered(priorities)))

    own: Steps = {
        "text": add,
        "add": add,
        "add_text": add,
        "add_path": add_path,
        "mark_done": mark_done,
        "done": mark_done,
        "set_done": mark_done,
        "filtersort": filtersort,
        "sorted": lambda: _ids(book.actions_sorted()),
        "priorities_add": lambda priorities: book.priorities_add(_numbered(priorities)),
        "playbook_priorities_add": lambda priorities: book.priorities_add(_numbered(priorities)),
        "find_include_done": lambda wanted: _ids(book.find(wanted, include_done=True)),
        "find_one": lambda wanted: book.get(wanted).id,
        "ids": lambda: _ids(book.actions),
        "priorities": lambda: [action.priority for action in book],
        "count": lambda: len(book),
        "len": lambda: len(book),
        "othertext": lambda: book.othertext,
        "empty_check": book.empty_check,
        "roundtrip": lambda: PlayBook(book.heroscript(show_done=True)).actions == book.actions,
    }
    return _run(own, lambda: book, steps)


def stores(folder: Path, steps: list[Any]) -> list[Json]:
    """Run the steps of one collection of stores; plain steps go to the store `test`."""
    collection = Collection(folder, is_durable=False)
    return _run(_collection_steps(collection), lambda: collection.db_get_create("test"), steps)


def session(folder: Path, steps: list[Any]) -> list[Json]:
    """Run the steps of one context; steps of a session go to the one that was made or loaded last."""
    contexts = {"default": Context(Collection(folder / "default", is_durable=False))}
    current: list[Any] = [contexts["default"], None]

    def context(options: dict[str, Any] | str | None = None) -> Context:
        given = {"name": options} if isinstance(options, str) else dict(options or {})
        name = given.get("name") or given.get("context_name") or "default"
        if name not in contexts:
            made = Context(Collection(folder / str(len(contexts)), is_durable=False), name, int(given.get("id", 0)))
            made.params = Params.parse(given.get("params", ""))
            contexts[name] = made
        current[0] = contexts[name]
        return contexts[name]

    def session_new(options: dict[str, Any] | str | None = None) -> Session:
        given = {"name": options} if isinstance(options, str) else dict(options or {})
        where = context(given["context_name"]) if given.get("context_name") else current[0]
        wanted: dict[str, Any] = {key: given[key] for key in ("params", "start", "interactive") if key in given}
        current[1] = where.session_new(given.get("name") or given.get("session_name") or "", **wanted)
        if given.get("playbook_text"):
            current[1].plbook.add(given["playbook_text"])
        return current[1]  # type: ignore[no-any-return]

    def session_get(name: str = "") -> Session:
        current[1] = current[0].session_get(name)
        return current[1]  # type: ignore[no-any-return]

    def session_latest() -> Session:
        current[1] = current[0].session_latest()
        return current[1]  # type: ignore[no-any-return]

    def latest() -> Session:
        return current[1] or session_latest()

    own: Steps = {
        "context": context,
        "context_new": context,
        "context_get": context,
        "session_new": session_new,
        "session_get": session_get,
        "session_latest": session_latest,
        "session": session_get,
        "params_set": lambda key, value: latest().params.set(key, value),
        "params_get": lambda key: latest().params.get(key),
        "playbook_add": lambda text: latest().plbook.add(text) and None,
        "playbook_priorities_add": lambda given: latest().playbook_priorities_add(_numbered(given)),
        "params_of": lambda: latest().plbook.params_get("").get_map(),
        "guid": lambda: latest().guid,
        "name": lambda: latest().name,
    }
    return _run(own, latest, steps)


def _collection_steps(collection: Collection) -> Steps:
    def of_store(name: str, op: str, *arguments: Any) -> Json:
        store = collection.db_get_create(name)
        result = _store_steps(store)[op](*arguments)
        return {"ok": True} if op == "set" else result

    def db_create(name: str, options: dict[str, Any] | None = None) -> Json:
        given = options or {}
        secret = str(given.get("secret", "")) if given.get("encrypted") else given.get("secret") or None
        collection.db_create(name, secret=secret)
        return {"ok": True}

    def db_get(name: str, options: dict[str, Any] | None = None) -> Json:
        collection.db_get(name, secret=(options or {}).get("secret"))
        return {"ok": True}

    def plain(op: str) -> Callable[..., Json]:
        return lambda *arguments: _store_steps(collection.db_get_create("test"))[op](*arguments)

    return {
        **{op: plain(op) for op in _store_steps(collection.db_get_create("test"))},
        "session": lambda name, op, *arguments: of_store(f"session_{name}", op, *arguments),
        "config": lambda name, op, *arguments: of_store("config", op, *arguments),
        "db": of_store,
        "db_create": db_create,
        "db_get": db_get,
        "db_get_create": lambda name, *_: collection.db_get_create(name) and {"ok": True},
        "db_exists": collection.exists,
        "db_delete": lambda name: collection.delete(name) and None,
        "db_list": lambda: [name for name in collection.list() if name != "test"],
        "list": lambda: [name for name in collection.list() if name != "test"],
        "db_prefix": lambda prefix: list(collection.list(prefix)),
    }


def _store_steps(store: Store) -> Steps:
    def delete(key: str) -> None:
        store.delete(key)

    def delete_id(id: int) -> None:
        store.delete(id=id)

    return {
        "set": lambda key, value: {"id": store.set(key, value)},
        "set_id": lambda id, value: {"id": store.set(None, value, id=id)},
        "set_key_id": lambda key, id, value: {"id": store.set(key, value, id=id)},
        "set_value_only": lambda value: {"id": store.set(None, value)},
        "get": store.get,
        "get_id": lambda id: store.get(id=id),
        "exists": store.exists,
        "exists_id": lambda id: store.exists(id=id),
        "delete": delete,
        "delete_id": delete_id,
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


def _ids(actions: list[Action]) -> list[int]:
    return [action.id for action in actions]


def _numbered(priorities: dict[str, str]) -> dict[int, str]:
    return {int(number): wanted for number, wanted in priorities.items()}
