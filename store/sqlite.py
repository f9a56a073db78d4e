"""The store on SQLite: one writing connection, read-only connections for reads, one process per data folder."""

import asyncio
import errno
import fcntl
import math
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import aiosqlite
import structlog

from store.clock import Clock
from store.disk import EFFECTS, has_room, make_folder
from store.errors import (
    CorruptStore,
    NoDescriptors,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreUnwritable,
    TooLongHere,
    named,
    sqlite_code,
)
from store.kept import Kept, Reading, Stale, Told
from store.migrate import migrate
from store.pools import Places, Pool
from store.tx import SqliteTx, Tx
from store.writer import Writer

log = structlog.get_logger("store")

T = TypeVar("T")

DATABASE = "rpcserver.db"
LOCK = "lock"
_BROKEN = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE)
# A read on the event loop's thread may take 30,000 steps of SQLite's machine, about two milliseconds.
_TICK_STEPS = 1000
_TICKS = 30
WAL_KEPT_BYTES = 8 * 1024 * 1024  # twice the 1,000 pages after which SQLite looks whether it can begin anew
MAX_READS_WAITING = 10_000  # long ones of one owner
QUICK_CHECK_MAX_BYTES = 64 * 1024 * 1024  # above this a look at every page would delay the start by seconds


class _Reader(aiosqlite.Connection):
    """A read-only connection on a thread of its own that runs whole functions over one snapshot."""

    clock: Clock

    async def read(self, fn: Callable[[Tx], T]) -> T:
        return cast(T, await self._execute(_snapshot, self._conn, fn, self.clock))  # type: ignore[no-untyped-call]


class _Readers:
    """The readers with threads; owners take turns at them."""

    def __init__(self, readers: list[_Reader]) -> None:
        self._all = tuple(readers)
        self._idle = deque(readers)
        self.places = Places("reads", len(readers), waiting_per_owner=MAX_READS_WAITING, wait_s=None)

    async def read(self, fn: Callable[[Tx], T]) -> T:
        async with self.places.place():
            reader = self._idle.pop()
            try:
                return await reader.read(fn)
            finally:
                self._idle.appendleft(reader)  # at the end of the line: a read nobody waits for may still run on it

    async def close(self) -> None:
        await self.places.close()
        for reader in self._all:
            await reader.close()


class _NearReader:
    """A read-only connection on the event loop's own thread, for reads that are over before a thread would have woken.

    One that turns out long is stopped after so many steps of SQLite's machine, and belongs on a reader's thread.
    """

    def __init__(self, path: Path, clock: Clock, kept: Kept) -> None:
        self._clock = clock
        self._kept = kept
        self._connection = _connect_reader(path, busy_ms=0)
        self._connection.set_authorizer(kept.look_at)
        self._connection.set_progress_handler(self._tick, _TICK_STEPS)
        self._left = math.inf

    def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` over one snapshot. Raises TooLongHere; then it has to be run again from its beginning."""
        try:
            with suppress(Stale):
                return self._run(fn, Reading(self._connection, self._clock, self._kept))
            self._connection.execute("BEGIN")
            return self._run(fn, SqliteTx(self._connection, self._clock))
        except sqlite3.OperationalError as error:
            if sqlite_code(error) in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY):
                raise TooLongHere from error
            raise

    def close(self) -> None:
        self._connection.close()

    def _run(self, fn: Callable[[Tx], T], tx: Tx) -> T:
        self._left = _TICKS
        try:
            return fn(tx)
        finally:
            # The end of the transaction is not counted: stopped itself, it would leave the connection in its snapshot.
            self._left = math.inf
            if self._connection.in_transaction:  # else all was kept, or SQLite has ended it: an I/O error does
                self._connection.execute("ROLLBACK")

    def _tick(self) -> bool:
        self._left -= 1
        return self._left < 0


class Store:
    """Transactions for everybody: `await store.read(fn)`, `await store.write(fn)` with `fn(tx) -> result`."""

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        readers: list[_Reader],
        lock: IO[str],
        max_batch: int,
        clock: Clock,
        threads: Pool,
        kept: Kept,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.is_broken = False
        self._connection = connection
        self.kept = kept
        self._writer = Writer(
            connection, clock, max_batch, self._broke, partial(_has_room, folder), _presence(folder), kept
        )
        self._near = _NearReader(folder / DATABASE, clock, kept)
        self._readers = _Readers(readers)
        self._lock = lock
        self._threads = threads
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        synchronous: str = "FULL",
        readers: int = 2,
        max_batch: int = 1000,
        clock: Clock | None = None,
        told: Mapping[str, Told] | None = None,
    ) -> "Store":
        """Open the data folder, making it and the tables when they are not there.

        Args:
            synchronous: FULL survives power loss; NORMAL only a killed process.
            readers: how many reads can run side by side.
            max_batch: how many waiting writes one commit may hold.
            clock: what every transaction tells the time by.
            told: tables whose changes are told, so that reads of them can be kept; see `store.kept`.

        Raises:
            StoreUnwritable, StoreLocked, CorruptStore, NewerStore: each says what to do; nothing was changed.
        """
        threads = Pool("database", 1, timeout_s=None)  # to open and to close it
        lock = await threads.run(_lock_folder, folder)
        try:
            connection = await threads.run(_open_database, folder / DATABASE, synchronous)
            clock = clock or Clock()
            pool = [await _open_reader(folder / DATABASE, clock) for _ in range(readers)]
            kept = Kept(told or {})
            kept.watch(connection)
        except BaseException:
            lock.close()
            raise
        return cls(folder, connection, pool, lock, max_batch, clock, threads, kept)

    def write(self, fn: Callable[[Tx], T], *, is_record: bool = False) -> asyncio.Future[T]:
        """Run `fn` in a transaction; awaiting gives its result once it is on disk.

        Args:
            is_record: it only records what is tried, and would be the same again: no effect of the work it belongs to.

        Raises what `fn` raised (nothing of it is stored then), StoreFull, StoreFailed or StoreClosed.
        Cancelling the wait does not undo the write: it was promised to the writer.
        """
        promised = self._writer.submit(fn)
        if not is_record and (effects := EFFECTS.get()) is not None:
            effects.note(promised)
        return promised

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` over one snapshot of what is committed. A write in it is an error.

        It is run here at once; when it turns out long it is stopped, and run again on a reader's thread: so it may
        have no effects of its own.
        """
        if self._is_closed:
            raise StoreClosed
        try:
            with suppress(TooLongHere):
                return self._near.read(fn)
            return await self._readers.read(fn)
        except sqlite3.Error as error:
            meaning = named(error)
            if meaning is error or sqlite_code(error) == sqlite3.SQLITE_READONLY:
                raise  # a mistake of the function, which may not write
            raise meaning from error

    @property
    def reads(self) -> Places:
        """The places of the long reads."""
        return self._readers.places

    @property
    def commits(self) -> int:
        """Commits so far; `writes / commits` is the size of a batch."""
        return self._writer.commits

    @property
    def writes(self) -> int:
        """Functions committed so far."""
        return self._writer.writes

    @property
    def writes_waiting(self) -> int:
        """Functions that wait for the next batch."""
        return self._writer.waiting

    async def close(self) -> None:
        """Finish what was promised, fold the log into the database and let the folder go. Twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._writer.close()
            self._near.close()
            await self._readers.close()
            await self._threads.run(_close_database, self._connection)
            await self._threads.close()
        finally:
            self._lock.close()

    def _broke(self) -> None:
        self.is_broken = True


def _presence(folder: Path) -> Callable[[], bool]:
    """Return a look whether the files that are written are still those of the folder: nobody moved or deleted them."""
    kept = [(path, path.stat().st_ino) for path in (folder / DATABASE, folder / f"{DATABASE}-wal")]

    def are_there() -> bool:
        try:
            return all(os.stat(path).st_ino == number for path, number in kept)
        except OSError:
            return False

    return are_there


def _has_room(folder: Path) -> bool:
    """Tell whether a file in the folder could grow beyond the longest of the database's."""
    return has_room(folder, max((path.stat().st_size for path in folder.glob(f"{DATABASE}*")), default=0))


def _snapshot(connection: sqlite3.Connection, fn: Callable[[Tx], Any], clock: Clock) -> Any:
    connection.execute("BEGIN")
    try:
        return fn(SqliteTx(connection, clock))
    finally:
        if connection.in_transaction:  # else SQLite has ended it: an I/O error does
            connection.execute("ROLLBACK")


def _lock_folder(folder: Path) -> IO[str]:
    try:
        make_folder(folder)
        lock = open(folder / LOCK, "a+", encoding="utf-8")
    except OSError as error:
        raise _not_opened(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        pid = lock.read().strip() or "unknown"
        lock.close()
        raise StoreLocked(
            f"Another server (process {pid}) is using {folder}. Stop it first, or give --data another folder."
        ) from error
    try:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    except OSError as error:
        with suppress(OSError):  # what is left in its buffer finds no room either
            lock.close()
        raise _not_opened(folder, error) from error
    return lock


def _not_opened(folder: Path, error: OSError | sqlite3.Error) -> StoreError:
    """Return what to tell a person whose data folder cannot be used, with the remedy."""
    meaning = named(error)
    if isinstance(meaning, StoreFull):
        return StoreFull(f"{folder} cannot be written: its disk is full. Free some space there, and start again.")
    if isinstance(meaning, NoDescriptors):
        return meaning
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return StoreUnwritable(f"{there} is a file: give --data a folder.")
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return StoreUnwritable(
            f"{folder} is on a disk that is mounted read-only: mount it for writing, or give --data another folder."
        )
    if getattr(error, "errno", 0) in _BROKEN or sqlite_code(error) == sqlite3.SQLITE_IOERR:
        return StoreFailed(f"The disk of {folder} reports errors: look at it, and at the log of the system.")
    return StoreUnwritable(
        f"{folder} cannot be written by this user: give --data a folder of this user's, or have its owner changed."
    )


def _open_database(path: Path, synchronous: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    except sqlite3.Error as error:
        raise _not_opened(path.parent, error) from error
    try:
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {'NORMAL' if synchronous == 'NORMAL' else 'FULL'}",
            "foreign_keys = ON",
            "busy_timeout = 5000",
            "trusted_schema = OFF",
            # What a long reader kept in the log is given back to the disk by the second commit after it has gone.
            f"journal_size_limit = {WAL_KEPT_BYTES}",
            # No file but the database's own is opened later: a server without descriptors can still write.
            "temp_store = MEMORY",
            "cell_size_check = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if path.stat().st_size <= QUICK_CHECK_MAX_BYTES:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        migrate(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        # Which SQLite tells as a broken disk where it is a quota, or a limit on the size of files.
        why = error if _has_room(path.parent) else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise _not_opened(path.parent, why) from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise CorruptStore(
            f"{path} is damaged ({error}). Nothing was changed: keep the folder, and put a backup in its place."
        ) from error
    except BaseException:
        connection.close()
        raise
    return connection


async def _open_reader(path: Path, clock: Clock) -> _Reader:
    reader = _Reader(partial(_connect_reader, path, busy_ms=5000), 64)
    reader.clock = clock
    await reader
    return reader


def _connect_reader(path: Path, busy_ms: int) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=512)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
    return connection


def _close_database(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA optimize")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        # Nothing is lost by that: what was acknowledged is in the log, and the next start reads it there.
        log.warning("log_not_folded", reason=str(error), advice="look at the disk of the data folder")
    with suppress(sqlite3.Error):
        connection.close()
