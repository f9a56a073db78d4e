"""Whether the packages that Python would import as `core`, `jobs` and so on are those of this installation.

Others may bear such names: a folder that stands before ours on the path, or a package installed over ours. This is
looked at before any of them is imported, so that what is wrong is told, and not met as an import that fails.
"""

import csv
import importlib.util
from pathlib import Path

from rpcserver import __version__

ROOMS = ("rpcserver", "plugins", "jobs", "core", "heroscript", "store")
HERE = Path(__file__).resolve().parent.parent


def collision() -> str | None:
    """Return what stands in the way of our packages, and what to do; None when nothing does."""
    for room in ROOMS:
        place = _place(room)
        if place is not None and place.parent != HERE:
            return (
                f"the package {room!r} would come from {place}, not from {HERE}, where rpcserver is: run it in another"
                f" folder than {place.parent}, and take that out of PYTHONPATH; or install rpcserver into an"
                " environment of its own."
            )
    for path in _laid_over():
        return (
            f"{HERE / path} is not the file that rpcserver was installed with: another package with a {path.parts[0]!r}"
            " of its own was installed over it, or removed. Install rpcserver into an environment of its own."
        )
    return None


def _place(room: str) -> Path | None:
    """Return the folder, or the file, that Python would import as this package."""
    try:
        spec = importlib.util.find_spec(room)
    except ValueError:  # it was put among the imported modules by hand
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin).resolve()
    return origin.parent if origin.name.startswith("__init__.") else origin


def _laid_over() -> list[Path]:
    """Return our files whose sizes are not those they were installed with; none in a checkout, without a record."""
    try:
        record = (HERE / f"rpcserver-{__version__}.dist-info" / "RECORD").read_text("utf-8")
    except OSError:
        return []
    found = []
    for name, _, size in csv.reader(record.splitlines()):
        path = Path(name)
        if size and path.parts[0] in ROOMS and _size(HERE / path) != int(size):
            found.append(path)
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
