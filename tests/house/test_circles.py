"""No file is imported by what it imports, imports for type checking and inside functions counted."""

import ast
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("rpcserver", "plugins", "jobs", "core", "heroscript", "store")
# Files of rpcserver that stand in a circle still: these may only become less.
STILL_IN_ONE = {
    *("rpcserver.app", "rpcserver.auth.withdrawal", "rpcserver.events.publish", "rpcserver.methods"),
    *("rpcserver.methods.auth", "rpcserver.methods.context", "rpcserver.methods.core", "rpcserver.methods.credential"),
    *("rpcserver.methods.event", "rpcserver.methods.job", "rpcserver.methods.keyvalue", "rpcserver.methods.operator"),
    *("rpcserver.methods.playbook", "rpcserver.methods.plugin", "rpcserver.methods.question"),
    *("rpcserver.methods.server", "rpcserver.methods.session", "rpcserver.openrpc.document"),
    *("rpcserver.playbooks.adding", "rpcserver.playbooks.player", "rpcserver.rpc.calls", "rpcserver.rpc.dispatcher"),
    *("rpcserver.rpc.idempotency", "rpcserver.rpc.inside", "rpcserver.rpc.replies", "rpcserver.sessions.ends"),
    *("rpcserver.sessions.navigation", "rpcserver.sessions.pallet", "rpcserver.sessions.questions"),
    *("rpcserver.sessions.views", "rpcserver.telemetry.usage", "rpcserver.telemetry.watchdog"),
    *("rpcserver.transport.connection", "rpcserver.transport.handshake", "rpcserver.transport.http"),
    *("rpcserver.transport.registry", "rpcserver.transport.server"),
}

Graph = dict[str, set[str]]


def imported(source: str, module: str, modules: Collection[str]) -> Iterator[str]:
    """Yield those of `modules` that a module imports, wherever in its source the import stands."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: imports say the whole name"
            # Of a package its own file is meant by a name that is none of its modules.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module or "" for name in inner]
        yield from (name for name in names if name in modules and name != module)


def graph_of(sources: dict[str, str]) -> Graph:
    """Return every module with those it imports."""
    return {module: {*imported(source, module, sources)} for module, source in sources.items()}


def of_rooms() -> Graph:
    """Return the files of the rooms with those they import."""
    sources = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        sources[name] = path.read_text("utf-8")
    return graph_of(sources)


def circle(files: Graph) -> str | None:
    """Return one circle of imports, as it runs."""
    try:
        TopologicalSorter(files).prepare()
    except CycleError as error:
        return " imports ".join(reversed(error.args[1]))
    return None


def reached(files: Graph, start: str) -> set[str]:
    """Return what a file imports, and what that imports, and so on."""
    found: set[str] = set()
    left = {start}
    while left:
        left = {name for one in left for name in files[one]} - found
        found |= left
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import room.b",
        "from room import b",
        "from room.b import Thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from room.b import Thing",
        "def late() -> None:\n    from room import b",
    ],
)
def test_circle_is_seen_wherever_the_import_stands(source: str) -> None:
    """However and wherever a module is imported, the way back to it is found and told."""
    assert circle(graph_of({"room": "", "room.a": source, "room.b": "import json\nfrom room import a"})) in (
        "room.a imports room.b imports room.a",
        "room.b imports room.a imports room.b",
    )
    assert circle(graph_of({"room": "", "room.a": source, "room.b": "import json"})) is None


def test_no_circle_of_files() -> None:
    """Who reads a file has to have read those below it, and never that file itself."""
    files = of_rooms()
    without = {name: imports - STILL_IN_ONE for name, imports in files.items() if name not in STILL_IN_ONE}
    assert (found := circle(without)) is None, found


def test_known_circle_only_shrinks() -> None:
    """What is excused from the rule needs to be: a file that stands in no circle any more is struck off the list."""
    files = of_rooms()
    assert {name for name in files if name in reached(files, name)} == STILL_IN_ONE
