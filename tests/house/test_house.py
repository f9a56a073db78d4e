"""The house rules that a machine can check: arrows, sizes, names, types, and the truth about the tables."""

import ast
import functools
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from store.migrate import apply, schema_path

ROOT = Path(__file__).parents[2]
ROOMS = ("rpcserver", "plugins", "jobs", "core", "heroscript", "store")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# An alarm, not a ruler: one subject stays in one file, a function fits a screen.
MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 80
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "data", "info"}
MAY_CATCH_EVERYTHING = {
    "rpcserver/rpc/dispatcher.py",
    "plugins/manager.py",
    "plugins/errors.py",
    "plugins/loader.py",
    "jobs/run.py",
    "jobs/resilience.py",
    "rpcserver/telemetry/logs.py",
}
# What a transaction is called by those who run in one.
TRANSACTIONS = {"tx", "scene", "core"}
CHANGING = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "put"),
    *("put_nowait", "remove", "set", "set_exception", "set_result", "setdefault", "update"),
}
# What `_make` makes inside its transaction and returns, and the capability that is made for one: neither outlives it.
MADE_INSIDE = {("jobs/functions/import_world.py", "made"), ("core/calls.py", "self")}
# Order of ids must hold across every caller in the process; the registry of core calls is filled by decorators.
MODULE_STATE = {("store/ids.py", "_last"), ("store/ids.py", "_noise"), ("core/calls.py", "CALLS")}
# These hand on what they catch by other ways than `raise`: to the waiting future, into the coroutine they drive.
HAND_ON = {"store/writer.py", "store/pools.py", "jobs/run.py", "rpcserver/rpc/scheduler.py"}


# Our own clock; the language, which imports nothing of ours; and a guest, for what git writes of when.
MAY_READ_THE_WALL_CLOCK = {"store/clock.py", "heroscript/ourtime.py", "plugins/builtin/checkouts.py"}


def each(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of what holds of every file; it tells all of which it does not hold."""

    def decorate(test: Callable[[Path], None]) -> Callable[[], None]:
        def over_all() -> None:
            found = []
            for path in paths:
                try:
                    test(path)
                except AssertionError as error:
                    found.append(f"{name_of(path)}: {error}")
            assert not found, "\n".join(found)

        over_all.__doc__ = test.__doc__
        return over_all

    return decorate


def name_of(path: Path) -> str:
    """Return a path as the house speaks of it."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return a file's tree, which many tests look at and none changes."""
    return ast.parse(path.read_text("utf-8"))


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment in the project's folder."""
    return subprocess.run([*arguments], cwd=ROOT, capture_output=True, text=True, timeout=110)


def test_arrows_point_one_way() -> None:
    """rpcserver -> plugins -> jobs -> core -> store, and the other contracts of pyproject.toml."""
    checked = tool(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("arguments", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)])
def test_linters_are_content(arguments: tuple[str, ...]) -> None:
    """ruff, its formatter and mypy in strict mode find nothing."""
    checked = tool(sys.executable, "-m", *arguments)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@each([*SOURCES, *TESTS])
def test_a_file_is_short(path: Path) -> None:
    """No file has more than 800 lines, no function more than 80."""
    text = path.read_text("utf-8")
    long = {"the file"} if len(text.splitlines()) > MAX_FILE_LINES else set()
    long |= {
        node.name
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - _first_line(node) + 1 > MAX_FUNCTION_LINES
    }
    assert not long


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


@each(SOURCES)
def test_names_say_something(path: Path) -> None:
    """No module is called utils, helpers, manager, common or base; no function do_x or handle_x."""
    assert path.stem not in FORBIDDEN_NAMES
    names = [n.name for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert not [name for name in names if name.lstrip("_").startswith(("do_", "handle_"))]


@each(SOURCES)
def test_everything_public_has_a_docstring(path: Path) -> None:
    """Modules, public classes and public functions say what they do."""
    tree = parsed(path)
    if not tree.body:
        return
    assert ast.get_docstring(tree) is not None
    missing = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert not missing


@each(SOURCES)
def test_everything_is_caught_only_at_the_doors(path: Path) -> None:
    """`except Exception` stands where a call, a job or a plugin is fenced in, and in the log; others re-raise."""
    tree = parsed(path)
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
        if _catches(handler, "Exception") or handler.type is None:
            assert name_of(path) in MAY_CATCH_EVERYTHING, f"line {handler.lineno}"
        if _catches(handler, "BaseException") and name_of(path) not in HAND_ON:
            assert any(isinstance(node, ast.Raise) for node in ast.walk(handler)), f"line {handler.lineno}"


@each(SOURCES)
def test_nothing_runs_in_threads_that_all_share(path: Path) -> None:
    """What blocks has threads of its kind (`store.pools`): of the loop's own, one use would wait for another's."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            # The loop's getaddrinfo and getnameinfo run there, too.
            is_shared = name in ("to_thread", "run_in_executor", "set_default_executor", "ThreadPoolExecutor")
            is_lookup = name in ("getaddrinfo", "getnameinfo") and ast.unparse(node) != f"socket.{name}"
            assert not is_shared and not is_lookup, f"line {node.lineno}: {ast.unparse(node)}"


@each(SOURCES)
def test_the_wall_clock_is_read_at_one_place(path: Path) -> None:
    """Whoever wants a moment, or counts a duration, has been given the clock (`store.clock`) and says which it is."""
    wall = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and name_of(path) not in MAY_READ_THE_WALL_CLOCK:
            assert ast.unparse(node.func).removeprefix("datetime.datetime") not in wall, f"line {node.lineno}"


def _catches(handler: ast.ExceptHandler, name: str) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id == name for kind in kinds)


@each(SOURCES)
def test_a_module_keeps_constants_only(path: Path) -> None:
    """What can change is made in the composition root and passed: no module keeps a list, a dict or a `global`."""
    tree = parsed(path)
    kept = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    kept |= {
        name
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.List | ast.Set | ast.Dict)
        for name in _assigned(node)
        if name != "__all__" and (not name.isupper() or not _is_filled(node.value))
    }
    assert {(name_of(path), name) for name in kept} <= MODULE_STATE


def _assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Name):
            yield target.id


def _is_filled(value: ast.expr | None) -> bool:
    return bool(value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", ()))


def test_only_the_writing_modules_change_a_table() -> None:
    """A table's comment in schema.sql names the modules that write it, and no other holds a statement that does."""
    claimed = _writers_claimed()
    assert set(claimed) == set(re.findall(r"CREATE TABLE (\w+)", schema_path().read_text("utf-8")))
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        module = name_of(path).removesuffix(".py").replace("/", ".")
        for table in re.findall(r"\b(?:INSERT INTO|UPDATE|DELETE FROM) ([a-z_]+)\b", path.read_text("utf-8")):
            found.setdefault(table, set()).add(module)
    assert found == claimed


def _writers_claimed() -> dict[str, set[str]]:
    claimed = {}
    for comment, table in re.findall(r"((?:^--.*\n)+)CREATE TABLE (\w+)", schema_path().read_text("utf-8"), re.M):
        said = re.search(r"[Ww]ritten by (.+?)\.\s", comment.replace("\n-- ", " ") + " ")
        assert said, f"the comment of {table} does not name who writes it"
        claimed[table] = set(re.findall(r"\b\w+(?:\.\w+)+\b", said[1]))
    return claimed


def test_every_foreign_key_has_an_index() -> None:
    """A column that refers to another table can be searched by: else deleting there looks at every row here."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply(connection, schema_path().read_text("utf-8"), 1)
    missing = []
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        first_columns = {
            connection.execute(f"PRAGMA index_info({index[1]})").fetchone()[2]
            for index in connection.execute(f"PRAGMA index_list({table})").fetchall()
        }
        keys = {key[3] for key in connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()}
        missing += [(table, key) for key in keys - first_columns]
    connection.close()
    assert not missing


@each([path for path in SOURCES if path.parent.name != "store"])
def test_a_transaction_changes_nothing_in_memory(path: Path) -> None:
    """What can be rolled back, or run again, gives back values and leaves notices (`after_commit`, `at_commit`)."""
    for function in ast.walk(parsed(path)):
        if isinstance(function, ast.FunctionDef | ast.Lambda) and TRANSACTIONS & {*_parameters(function)}:
            own = set(_locals(function))
            for node in _inside(function):
                changed = _changed(node)
                is_own = changed is None or changed in own or (name_of(path), changed) in MADE_INSIDE
                assert is_own, f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}"


def _parameters(function: ast.FunctionDef | ast.Lambda) -> Iterator[str]:
    for parameter in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs):
        yield parameter.arg


def _inside(function: ast.FunctionDef | ast.Lambda) -> Iterator[ast.AST]:
    """Yield what is run inside a transaction: not what is left to be run after it."""
    left: list[ast.AST] = [function.body] if isinstance(function, ast.Lambda) else [*function.body]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef) and any(_is_notice(function, node.name)):
            continue
        if not (isinstance(node, ast.Call) and _name(node.func) in ("after_commit", "at_commit")):
            yield node
            left += ast.iter_child_nodes(node)


def _is_notice(function: ast.AST, name: str) -> Iterator[bool]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _name(node.func) in ("after_commit", "at_commit"):
            yield any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))


def _locals(function: ast.FunctionDef | ast.Lambda) -> Iterator[str]:
    for node in _inside(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from _parameters(node)


def _changed(node: ast.AST) -> str | None:
    """Return the name of whose state a piece of code changes; what is handed the transaction changes rows."""
    if isinstance(node, ast.Nonlocal | ast.Global):
        return node.names[0]
    if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return _root(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
        first = _root(node.args[0]) if node.args else None
        return None if first in TRANSACTIONS else _root(node.func.value)
    return None


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _name(node: ast.expr) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else None
