"""What can go wrong with the rows.

StoreError
├── StoreLocked      another server uses the data folder
├── StoreUnwritable  the data folder cannot be written
├── CorruptStore     the database file is damaged
├── NewerStore       the database was written by a newer version
├── OlderStore       the database is of a version from before the first release
├── StoreFull        no space left; reads go on, writes work again once there is space
├── StoreFailed      the disk reported an error; nothing of the batch was acknowledged
├── NoDescriptors    the process has as many files open as it may
├── StoreClosed      the store is closed or closing
└── BackupError      a backup cannot be made or used

PoolError            what is done in threads
├── PoolBusy         too much waits for the threads of one kind of slow work
└── PoolLate         what runs in a thread takes longer than anybody waits
"""

import errno
import sqlite3
from typing import ClassVar

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_FAILED = (errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN)
_FAILED_IN_SQLITE = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PROTOCOL,
)


class StoreError(Exception):
    """The data could not be stored or read."""

    code: ClassVar[str]  # the name of the code that a client is told
    kind: ClassVar[str]  # what a client can tell it by; one without is an error of the server's
    is_retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class StoreLocked(StoreError):
    """Another server is using this data folder. Stop it first, or give --data another folder."""


class StoreUnwritable(StoreError):
    """The data folder cannot be written. Give --data a folder this user may write to."""


class CorruptStore(StoreError):
    """The database is damaged. Nothing was changed: keep the folder, and put a backup in its place."""


class NewerStore(StoreError):
    """The database was written by a newer version. Upgrade rpcserver; nothing was changed."""


class OlderStore(StoreError):
    """The database was written before the first release and cannot be converted; nothing was changed."""


class StoreFull(StoreError):
    """The disk is full. Free some space; writing works again then, without a restart."""

    code = "BUSY"
    kind = "STORAGE_FULL"
    is_retryable = True


class StoreFailed(StoreError):
    """The disk reported an error; a change was not stored. The operator finds it in the server's log."""

    code = "BUSY"
    kind = "STORAGE_FAILED"


class NoDescriptors(StoreError):
    """The server has as many files open as it may. Try again in a moment; its operator can allow it more."""

    code = "BUSY"
    kind = "NO_DESCRIPTORS"
    is_retryable = True


class StoreClosed(StoreError):
    """The server is shutting down. Connect again in a moment."""

    code = "SHUTTING_DOWN"
    kind = "SHUTTING_DOWN"
    is_retryable = True


class BackupError(StoreError):
    """The backup could not be made or used."""

    code = "CONFLICT"
    kind = "BACKUP_FAILED"


class TooLongHere(StoreError):
    """This read is too long for the event loop's thread. It never leaves the store: a reader's thread takes it up."""


class PoolError(Exception):
    """The work could not be done in a thread."""

    code: ClassVar[str]  # the name of the code that a client is told
    kind: ClassVar[str]  # what a client can tell it by; one without is an error of the server's
    is_retryable: ClassVar[bool] = False


class PoolBusy(PoolError):
    """Too much of the caller's waits for the server's threads of one kind; it did not begin."""

    code = "BUSY"
    kind = "BUSY"
    is_retryable = True

    def __init__(self, pool: str, retry_after_ms: int) -> None:
        self.pool = pool
        self.retry_after_ms = retry_after_ms
        super().__init__(f"Too much waits for the server's threads for {pool!r}: try again in a moment.")


class PoolLate(PoolError):
    """What a thread of the server does takes longer than anybody waits, and goes on."""

    code = "TIMED_OUT"
    kind = "STILL_RUNNING"

    def __init__(self, pool: str, timeout_s: float) -> None:
        self.pool = pool
        super().__init__(
            f"This takes the server's threads for {pool!r} longer than {timeout_s:g} s, and goes on: look what became"
            " of it before you ask again."
        )


def named(error: BaseException) -> BaseException:
    """Return what an error of SQLite or of the operating system means, whichever operation met it.

    An error that says nothing of the disk or the descriptors is returned as it is.
    """
    meaning = _meaning(error)
    if meaning is None:
        return error
    meaning.__cause__ = error
    return meaning


def sqlite_code(error: BaseException) -> int:
    """Return SQLite's primary code of an error, 0 where there is none: the module raises some by itself."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF


def _meaning(error: BaseException) -> StoreError | None:
    if isinstance(error, sqlite3.Error):
        code = sqlite_code(error)
        if code == sqlite3.SQLITE_FULL:
            return StoreFull()
        return StoreFailed() if code in _FAILED_IN_SQLITE else None
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return StoreFull()
        if error.errno in _NO_DESCRIPTORS:
            return NoDescriptors()
        return StoreFailed() if error.errno in _FAILED else None
    return None
