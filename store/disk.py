"""What the disk has to be told before anybody is: that names were made, changed or taken away."""

import asyncio
import os
import tempfile
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from store.errors import StoreFull, named


class Effects:
    """The writes of one piece of work, and what it did outside of the store."""

    def __init__(self) -> None:
        self.is_outside = False
        self._writes: list[asyncio.Future[Any]] = []

    def note(self, write: asyncio.Future[Any]) -> None:
        """Count a write, as soon as it is promised."""
        self._writes.append(write)

    @property
    def are_any(self) -> bool:
        """Tell whether something was done, or may have been: a wait that was cancelled does not undo its write."""
        return self.is_outside or any(
            not write.done() or write.cancelled() or write.exception() is None for write in self._writes
        )


# Of the work that runs here, in this task or one it started; None: nobody wants to know.
EFFECTS: ContextVar[Effects | None] = ContextVar("effects", default=None)


def note_outside() -> None:
    """Count something that is about to be done outside of the store."""
    effects = EFFECTS.get()
    if effects is not None:
        effects.is_outside = True


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
