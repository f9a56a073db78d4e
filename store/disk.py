"""What the disk has to be told before anybody is: that names were made, changed or taken away."""

import os
from pathlib import Path


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
