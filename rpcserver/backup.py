"""Backups: one tar file with everything a data folder keeps, taken while the server runs; and the way back.

Source: promises.md R15. Databases are copied as they stand at one moment; other files as they are.
"""

import asyncio
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from rpcserver.events import log as events
from rpcserver.settings import RUNNING
from store import DATABASE, LOCK, BackupError, NoDescriptors, Store, StoreFull, backup, has_room, named, sync_folder

_LEFT_OUT = {LOCK, RUNNING}
_LOGS = ("-wal", "-shm", "-journal")  # beside a database: what it holds is in the copy


def write(folder: Path, file: Path) -> int:
    """Back a data folder up into a new file that only its owner can read, and return its size in bytes.

    Raises BackupError when the file is there already, lies in the folder, or cannot be written.
    """
    if file.exists():
        raise BackupError(f"{file} is there already: give another name, or move it away.")
    if folder.resolve() in file.resolve().parents:
        raise BackupError(f"{file} lies in the data folder it is to keep: put it somewhere else.")
    if not (folder / DATABASE).is_file():
        raise BackupError(f"{folder} is no data folder, or was moved or deleted: nothing can be kept of it.")
    part = file.with_name(file.name + ".part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w") as tar, tempfile.TemporaryDirectory(dir=file.parent) as aside:
                for path in _kept(folder):
                    try:
                        tar.add(_still(path, Path(aside)), path.relative_to(folder).as_posix())
                    except FileNotFoundError:
                        if path.exists():
                            raise  # else it was deleted in this moment, as values and half made files are
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(file)
        sync_folder(file.parent)
    except (OSError, sqlite3.Error) as error:
        meaning = named(error)
        if isinstance(meaning, StoreFull) or not has_room(file.parent):
            raise StoreFull(f"{file} cannot be written: its disk is full. Free some space there.") from error
        if isinstance(meaning, NoDescriptors):
            raise meaning from error
        raise BackupError(f"{file} cannot be written ({getattr(error, 'strerror', None) or error}).") from error
    finally:
        with suppress(OSError):  # what went wrong is told
            part.unlink(missing_ok=True)
    return file.stat().st_size


def restore(file: Path, folder: Path, *, is_replacing: bool = False) -> Path | None:
    """Make a data folder from a backup; it knows no epoch, so that no client resumes into the past.

    Args:
        is_replacing: move what is in the folder aside, and return where to.

    Raises:
        BackupError: the file is no backup, or the folder holds something.
        StoreLocked: a server uses the folder.
    """
    is_taken = folder.exists() and any(folder.iterdir())
    if is_taken and not is_replacing:
        raise BackupError(f"{folder} is not empty: give --data another folder, or --replace to move it aside.")
    fresh = folder.with_name(folder.name + ".restoring")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    try:
        _unpack(file, fresh)
        backup.check_database(fresh / DATABASE)
        asyncio.run(_forget_epochs(fresh))
        return _put(fresh, folder, is_taken)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


async def _forget_epochs(folder: Path) -> None:
    store = await Store.open(folder)  # brings an older backup to this version, or refuses a newer one
    try:
        await store.write(events.forget_runs)
    finally:
        await store.close()


def _kept(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        is_log = any(path.name.endswith(end) for end in _LOGS)
        if path.is_file() and not path.is_symlink() and path.name not in _LEFT_OUT and not is_log:
            yield path


def _still(path: Path, aside: Path) -> Path:
    """Return the file, or a copy that nobody writes to."""
    if not backup.is_database(path):
        return path
    copy = aside / "database"
    copy.unlink(missing_ok=True)
    backup.copy_database(path, copy)
    return copy


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if not member.isfile() or name.is_absolute() or ".." in name.parts:
                    raise BackupError(f"{file} is no backup of rpcserver: it holds {member.name!r}.")
                target = folder / name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                source = tar.extractfile(member)
                if source is not None:
                    with source, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
                        shutil.copyfileobj(source, written)
                        written.flush()
                        os.fsync(written.fileno())
    except (tarfile.TarError, OSError) as error:
        raise BackupError(f"{file} cannot be read as a backup ({error}).") from error
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    if not (folder / DATABASE).is_file():
        raise BackupError(f"{file} is no backup of rpcserver: {DATABASE} is missing.")


def _put(fresh: Path, folder: Path, is_taken: bool) -> Path | None:
    if not is_taken:
        if folder.exists():
            folder.rmdir()
        fresh.rename(folder)
        sync_folder(folder.parent)
        return None
    aside = folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
    with backup.claimed(folder):
        folder.rename(aside)
        fresh.rename(folder)
        sync_folder(folder.parent)
    return aside
