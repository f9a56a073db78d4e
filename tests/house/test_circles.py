"""No file is imported by what it imports, imports for type checking and inside functions counted."""

import ast
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("rpcserver", "plugins", "jobs", "core", "heroscript", "store")

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
    assert (found := circle(of_rooms())) is None, found
