"""The one writing connection: a thread that commits what waits for it in one transaction.

No timer collects a batch: what arrives while a commit is on its way to the disk is the next batch (group commit).
Owners share its time, and whoever comes while a batch is made comes into it; a batch of several is short.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from store.clock import Clock
from store.errors import StoreClosed, StoreError, StoreFailed, StoreFull, named
from store.kept import Kept
from store.roundrobin import OWNER, RoundRobin
from store.tx import SqliteTx, Tx

# How long functions are run for one batch: of one owner alone, which ends when another comes, and of several, who wait
# for each other.
ALONE_S = 0.01
TOGETHER_S = 0.0005
FLUSHES = 4  # a batch may take so many times as long as its way to the disk: else a slow disk would do nothing else
DELIVERED_AT_ONCE = 16  # whoever waited goes on at once, so more of them would be a long turn of the loop


MAX_FAILED_COMMITS = 3  # one after another; then only opening the database again shows what is on the disk


class Write:
    """One function waiting for its transaction, and what became of it."""

    __slots__ = ("changes", "error", "fn", "future", "notices", "owner", "result")

    def __init__(self, fn: Callable[[Tx], Any], future: asyncio.Future[Any]) -> None:
        self.owner = OWNER.get()
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
        are_files_there: Callable[[], bool],
        kept: Kept,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._max_batch = max_batch
        self._on_broken = on_broken
        self._has_room = has_room
        self._are_files_there = are_files_there
        self._kept = kept
        self._fresh: list[Write] = []
        self._queue: SimpleQueue[list[Write] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._is_broken = False
        self._failed_commits = 0
        self._submitted = 0  # counted by the loop's thread alone
        self._taken = 0  # counted by the writer's
        self._waiting: RoundRobin[Write] = RoundRobin()  # the writer's own
        self._is_last = False
        self._is_awake = False
        self._flush_s = 0.0
        self._ended = asyncio.Event()
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
        self._submitted += 1
        if self._is_awake and not self._fresh:
            self._queue.put([Write(fn, future)])
            return future
        if not self._fresh:
            # What one turn of the loop submits goes to a sleeping thread together: waking it for the first would have
            # it pay a whole commit for that one, and leave the others to the next.
            self._loop.call_soon(self._hand_over)
        self._fresh.append(Write(fn, future))
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
        await self._ended.wait()

    def _run(self) -> None:
        try:
            while self._receive():
                self._commit()
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)  # behind the last delivery

    def _receive(self) -> bool:
        """Wait until there is something to write; False when the last was written."""
        if not self._waiting and not self._is_last:
            self._is_awake = False
            self._take_in(self._queue.get())
            self._is_awake = True
        self._take_in_more()
        return bool(self._waiting)

    def _take_in_more(self) -> None:
        while not self._queue.empty():
            self._take_in(self._queue.get())

    def _take_in(self, some: list[Write] | None) -> None:
        if some is None:
            self._is_last = True
            return
        for write in some:
            self._waiting.put(write.owner, write)

    def _commit(self) -> None:
        execute = self._connection.execute
        batch: list[Write] = []
        try:
            execute("BEGIN IMMEDIATE")
            self._fill(batch)
            self._kept.begin()
            began = time.perf_counter()
            execute("COMMIT")
            self._flush_s = time.perf_counter() - began
            if not self._are_files_there():
                # SQLite would go on writing into files that nobody will find again.
                self._failed_commits = MAX_FAILED_COMMITS
                raise StoreFailed("The data folder was moved or deleted. Start the server again where it is.")
        except BaseException as error:  # also what a function made of SQLite's error
            while not batch and (write := self._waiting.take(cost=0.0)) is not None:
                batch.append(write)  # it could not even begin: the first in line hears why
                self._taken += 1
            self._fail(batch, error)
        else:
            self._failed_commits = 0
            self.commits += 1
            self.writes += len(batch)
            for write in batch:
                for change in write.changes:
                    change()
        self._kept.end()
        self._loop.call_soon_threadsafe(self._deliver, batch)

    def _fill(self, batch: list[Write]) -> None:
        began, is_alone = time.perf_counter(), True
        alone_s = max(ALONE_S, FLUSHES * self._flush_s)
        together_s = max(TOGETHER_S, self._flush_s / 2)
        at = began
        while (write := self._waiting.take(cost=0.0)) is not None:
            batch.append(write)
            self._taken += 1
            self._apply(write)
            before, at = at, time.perf_counter()
            self._waiting.charge(write.owner, at - before)
            self._take_in_more()
            is_alone = is_alone and write.owner == batch[0].owner and self._waiting.owners <= 1
            took_s = at - began
            if len(batch) >= self._max_batch or took_s > (alone_s if is_alone else together_s):
                return

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
            if self._failed_commits >= MAX_FAILED_COMMITS or not is_undone:
                self._is_broken = True
                self._loop.call_soon_threadsafe(self._on_broken)

    def _deliver(self, batch: list[Write]) -> None:
        # Notices first: a caller that hears of its write must find every cache already up to date.
        for write in batch:
            for notice in write.notices:
                try:
                    notice()
                except BaseException as error:
                    # The others, and whoever waits, are told all the same: what they wait for is on the disk.
                    context = {"message": "a notice after a commit failed", "exception": error}
                    self._loop.call_exception_handler(context)
        self._tell(batch, 0)

    def _tell(self, batch: list[Write], first: int) -> None:
        """Let whoever waited for a write go on, some in each turn of the loop; all, when there may be no more turn."""
        behind = len(batch) if self._closed else first + DELIVERED_AT_ONCE
        if behind < len(batch):
            self._loop.call_soon(self._tell, batch, behind)
        for write in batch[first:behind]:
            future, error = write.future, write.error
            del write.future, write.error  # the error's frames hold the write: a ring would wait for the collector
            if future.cancelled():
                continue
            if error is None:
                future.set_result(write.result)
            else:
                future.set_exception(error)
            del future, error


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
