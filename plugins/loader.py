"""Finds the plugins: our own, those of installed packages (entry points `rpcserver.plugins`), and files."""

import functools
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path

from jobs.remotes.http import Hosts
from plugins.builtin import bookmarks, navigation, playbooks, scripting, stores, world
from plugins.builtin.git import Git
from plugins.errors import BadPlugin, printable
from plugins.manager import Bus

GROUP = "rpcserver.plugins"
OWN = {
    "navigation": navigation,
    "bookmarks": bookmarks,
    "playbooks": playbooks,
    "scripting": scripting,
    "world": world,
    "stores": stores,
}


def load(bus: Bus, files: Iterable[Path], hosts: Hosts | None = None) -> None:
    """Register every plugin, each named after its module, entry point or file. Raises BadPlugin, naming it."""
    for name, module in OWN.items():
        bus.register(module, name)
    bus.register(Git(hosts or Hosts()), "git")
    for point in _installed():
        try:
            plugin = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise BadPlugin(point.name, f"importing it raised {type(error).__name__}: {printable(error)}") from error
        bus.register(plugin, point.name)
    for path in files:
        bus.register(_import_file(path), path.stem)


@functools.cache
def _installed() -> EntryPoints:
    # What is installed is looked for in every package there is, and does not change under a running process.
    return entry_points(group=GROUP)


def _import_file(path: Path) -> object:
    if not path.is_file():
        raise BadPlugin(path.stem, f"there is no file {path}")
    name = f"rpcserver_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadPlugin(path.stem, f"{path} is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up by name
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BadPlugin(path.stem, f"importing {path} raised {type(error).__name__}: {printable(error)}") from error
    return module
