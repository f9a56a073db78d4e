"""The one writing connection: a thread that commits every write waiting for it in one transaction.

No timer collects a batch: what arrives while a commit is on its way to the disk is the next batch (group commit).
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from store.clock import Clock
from store.errors import StoreClosed, StoreError, StoreFailed, StoreFull, named
from store.tx import SqliteTx, Tx


class Write:
    """One function waiting for its transaction, and what became of it."""

    __slots__ = ("changes", "error", "fn", "future", "notices", "result")

    def __init__(self, fn: Callable[[Tx], Any], future: asyncio.Future[Any]) -> None:
        self.fn = fn
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.notices: list[Callable[[], None]] = []
        self.changes: list[Callable[[], None]] = []


class Writer:
    """Owns the writing connection and its thread. Made and closed on the event loop's thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        max_batch: int,
        on_broken: Callable[[], None],
        has_room: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._max_batch = max_batch
        self._on_broken = on_broken
        self._has_room = has_room
        self._fresh: list[Write] = []
        self._queue: SimpleQueue[list[Write] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._is_broken = False
        self._failed_commits = 0
        self._submitted = 0  # counted by the loop's thread alone
        self._taken = 0  # counted by the writer's
        self.commits = 0
        self.writes = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[[Tx], Any]) -> asyncio.Future[Any]:
        """Queue `fn(tx)`; the future ends after the commit that holds it. Cancelling it does not undo the write."""
        if self._closed:
            raise StoreClosed
        if self._is_broken:
            raise StoreFailed
        future = self._loop.create_future()
        if not self._fresh:
            # What one turn of the loop submits goes to the thread together: waking it for the first would have it
            # pay a whole commit for that one, and leave the others to the next.
            self._loop.call_soon(self._hand_over)
        self._fresh.append(Write(fn, future))
        self._submitted += 1
        return future

    def _hand_over(self) -> None:
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._queue.put(fresh)

    @property
    def waiting(self) -> int:
        """How many writes wait for the next batch."""
        return self._submitted - self._taken

    async def close(self) -> None:
        """Commit what is queued, then end the thread."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        while self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        # The thread's last delivery was scheduled before it ended; one turn of the loop lets it happen.
        await asyncio.sleep(0)

    def _run(self) -> None:
        while True:
            batch, is_last = self._collect()
            if batch:
                self._taken += len(batch)
                self._commit(batch)
                self._loop.call_soon_threadsafe(_deliver, batch)
            if is_last:
                return

    def _collect(self) -> tuple[list[Write], bool]:
        batch: list[Write] = []
        some = self._queue.get()
        while some is not None:
            batch += some
            if len(batch) >= self._max_batch:
                return batch, False
            try:
                some = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[Write]) -> None:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            for write in batch:
                self._apply(write)
            execute("COMMIT")
        except BaseException as error:  # also what a function made of SQLite's error
            self._fail(batch, error)
        else:
            self._failed_commits = 0
            self.commits += 1
            self.writes += len(batch)
            for write in batch:
                for change in write.changes:
                    change()

    def _apply(self, write: Write) -> None:
        # A savepoint each: one that fails must not take its neighbours with it.
        execute = self._connection.execute
        execute("SAVEPOINT one")
        tx = SqliteTx(self._connection, self._clock)
        try:
            write.result = write.fn(tx)
        except BaseException as error:
            if not self._connection.in_transaction:
                raise  # SQLite has rolled back the whole batch (disk full, I/O error): nobody is acknowledged
            execute("ROLLBACK TO one")
            execute("RELEASE one")
            write.error = named(error)
        else:
            # Where it has swallowed the error with which SQLite rolled all back, there is nothing to release.
            execute("RELEASE one")
            write.notices, write.changes = tx.notices, tx.changes

    def _fail(self, batch: list[Write], error: BaseException) -> None:
        reason = _of_the_disk(error)
        if isinstance(reason, StoreFailed) and not self._has_room():
            # SQLite tells a quota, or a limit on the size of files, as it tells a broken disk.
            reason = StoreFull()
        for write in batch:
            write.error = write.error or reason
            write.notices = []
        is_undone = True
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                is_undone = False
        # After a failed fsync the kernel may have dropped the pages: only reopening shows what is on disk.
        if not isinstance(reason, StoreFull):
            self._failed_commits += 1
            if self._failed_commits >= 3 or not is_undone:
                self._is_broken = True
                self._loop.call_soon_threadsafe(self._on_broken)


def _of_the_disk(error: BaseException) -> StoreError:
    """Return why a batch was rolled back: the disk's own error, whatever a function made of it on its way."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sqlite3.Error):
        cause = cause.__cause__ or cause.__context__
    reason = named(cause or error)
    if isinstance(reason, StoreError):
        return reason
    failed = StoreFailed()
    failed.__cause__ = error
    return failed


def _deliver(batch: list[Write]) -> None:
    # Notices first: a caller that hears of its write must find every cache already up to date.
    for write in batch:
        for notice in write.notices:
            try:
                notice()
            except BaseException as error:
                # The others, and whoever waits, are told all the same: what they wait for is on the disk.
                context = {"message": "a notice after a commit failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
    for write in batch:
        if write.future.cancelled():
            continue
        if write.error is None:
            write.future.set_result(write.result)
        else:
            write.future.set_exception(write.error)
