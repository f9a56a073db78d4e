"""Where `play` touches files, beside `heroscript.kvs`: reading playbooks and the folders they lie in."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from heroscript.errors import SourceError, TooLarge

Roots = Collection[Path] | None
"""Folders outside which nothing is read; None allows every path."""

_EXTENSIONS = (".md", ".hero", ".heroscript")


def read_text(path: Path, roots: Roots = None, max_bytes: int | None = None) -> str:
    """Read one file of heroscript, which must be UTF-8.

    Args:
        max_bytes: None: however many there are.
        roots: the file must lie in one of these, and no part of its path below may be a link, not even one put there
            while we look; None allows every path.

    Raises:
        SourceError: it cannot be read.
        TooLarge: it has more bytes.
    """
    size = -1 if max_bytes is None else max_bytes + 1
    try:
        with open(path, "rb") if roots is None else _opened_beneath(path, roots) as file:
            content = file.read(size)
        if max_bytes is not None and len(content) > max_bytes:
            raise TooLarge(f"{path}: more than {max_bytes} bytes")
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 at byte {error.start}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SourceError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _opened_beneath(path: Path, roots: Collection[Path]) -> BinaryIO:
    root = next((root for root in roots if path.is_relative_to(root)), None)
    if root is None:
        raise SourceError(f"{path}: outside the folders that may be read")
    *folders, name = path.relative_to(root).parts
    # Part by part from the root on, never through a link: a check of the whole path could be outrun by a swap.
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        return open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle), "rb")
    finally:
        os.close(handle)


def playbook_files(path: Path) -> list[Path]:
    """List the files a path stands for: itself, or the playbooks of a folder and all folders in it.

    Returns:
        first every `.md`, then every `.hero`, then every `.heroscript`; each sorted by name, folder by folder. Names
        that begin with `_` or `.` and symbolic links are left out.

    Raises:
        SourceError: there is nothing at the path.

    Source: heroscript.md 6.
    """
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            found = list(_walk(path))
            return [file for extension in _EXTENSIONS for file in found if file.name.endswith(extension)]
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from None
    raise SourceError(f"{path}: no such file or folder")


def existing_path(text: str, *, create: bool = False) -> Path:
    """Turn the text of a parameter into the path of something that exists.

    Raises:
        ValueError: there is nothing there and `create` does not ask for a folder, or it cannot be made.
    """
    path = Path(text.strip())
    if path.parts[:1] == ("~",):
        path = Path(os.path.expanduser("~"), *path.parts[1:])
    try:
        if create:
            path.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return path
    except OSError as error:
        raise ValueError(f"is no path that can be used: {error.strerror}") from None
    raise ValueError("is a path where nothing exists")


def _walk(folder: Path) -> Iterator[Path]:
    waiting = [(True, folder)]
    while waiting:
        is_folder, path = waiting.pop()
        if not is_folder:
            yield path
            continue
        with os.scandir(path) as found:
            entries = [entry for entry in found if entry.name[0] not in "_." and not entry.is_symlink()]
        entries.sort(key=lambda entry: entry.name, reverse=True)
        # Neither a file nor a folder may be a pipe, which would be read for ever.
        waiting += [(entry.is_dir(), path / entry.name) for entry in entries if entry.is_dir() or entry.is_file()]
