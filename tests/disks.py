"""A disk that keeps what it was told to: files as they were when last synced, folders with the names they had then."""

import os
import random
import threading
from contextlib import suppress
from pathlib import Path


class Disk:
    """What would be left of a folder: `keep` is told of every sync, `leave` writes it somewhere."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self._root = root
        self._chance = chance
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, int]] = {}
        self._held: dict[int, int] = {}  # open, so that no number is given to another file
        self._lock = threading.RLock()  # servers sync in many threads

    def close(self) -> None:
        """Let go of what was held open."""
        for handle in self._held.values():
            os.close(handle)

    def keep(self, handle: int) -> None:
        """Take over what is synced, as it is now."""
        number, path = os.fstat(handle).st_ino, f"/proc/self/fd/{handle}"
        with self._lock:
            if number not in self._held:
                self._held[number] = os.dup(handle)
            if os.path.isdir(path):
                self._folders[number] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                with open(path, "rb") as file:
                    self._files[number] = file.read()

    def keep_file(self, path: Path) -> None:
        """Take over a file with its name, as whoever syncs both by other ways than ours does."""
        with self._lock, open(path, "rb") as file:
            self.keep(file.fileno())
            names = self._folders.setdefault(path.parent.stat().st_ino, {})
            names[path.name] = os.fstat(file.fileno()).st_ino

    def leave(self, target: Path, *, is_lucky: bool = False) -> None:
        """Write what a power cut leaves; with luck some of what was not synced has come to the disk all the same."""
        with self._lock:
            self._write(self._root, os.stat(self._root).st_ino, target, is_lucky)

    def _write(self, real: Path | None, number: int, target: Path, is_lucky: bool) -> None:
        target.mkdir(0o700)
        synced = self._folders.get(number, {})
        there = _names(real)
        for name in synced.keys() | (there.keys() if is_lucky else set()):
            is_new = is_lucky and self._chance.random() < 0.5
            inode = (there if is_new else synced).get(name)
            if inode is None:
                continue
            at = real / name if real is not None and there.get(name) == inode else None
            if inode in self._folders or (at is not None and at.is_dir()):
                self._write(at, inode, target / name, is_lucky)
            elif is_new and at is not None:
                with suppress(FileNotFoundError):  # somebody removes it right now
                    (target / name).write_bytes(at.read_bytes())
            else:
                (target / name).write_bytes(self._files.get(inode, b""))


def _names(folder: Path | None) -> dict[str, int]:
    try:
        return {} if folder is None else {entry.name: entry.inode() for entry in os.scandir(folder)}
    except FileNotFoundError:
        return {}
