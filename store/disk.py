"""What the disk has to be told before anybody is: that names were made, changed or taken away."""

import os
import tempfile
from pathlib import Path

from store.errors import StoreFull, named

_PAGE_BYTES = 4096


def has_room(folder: Path, size: int = 0) -> bool:
    """Tell whether a file in the folder could grow beyond a size: SQLite does not say why one could not."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.pwrite(file.fileno(), bytes(_PAGE_BYTES), size)
            os.fsync(file.fileno())
    except OSError as error:
        return not isinstance(named(error), StoreFull)
    return True


def sync_folder(folder: Path) -> None:
    """Have the disk know what was made, renamed and removed in a folder: syncing the files alone does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make a folder, and those it lies in, each on the disk before anything comes into it."""
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    folder.mkdir(mode, exist_ok=True)
    sync_folder(folder.parent)
