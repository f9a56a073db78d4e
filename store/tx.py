"""A transaction, as plain functions see it: `fn(tx) -> result`, never awaiting."""

import re
import sqlite3
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Protocol, TypeVar

from store.clock import Clock

T = TypeVar("T")
Row = tuple[Any, ...]

AT_ONCE = 64  # rows of one statement
_INSERT = re.compile(r"(INSERT INTO .* VALUES )(\((?:\?, )*\?\))")


class Tx(Protocol):
    """One transaction. Values are bound as `?` parameters; rows come back as tuples in column order."""

    clock: Clock
    is_keeping: bool  # a read that uses what is kept: asking what makes answers the same for many is worth its while

    def all(self, sql: str, *values: Any) -> list[Row]:
        """Return every row."""

    def one(self, sql: str, *values: Any) -> Row | None:
        """Return the first row, or None."""

    def run(self, sql: str, *values: Any) -> int:
        """Change rows and return how many."""

    def many(self, sql: str, rows: Iterable[Row]) -> int:
        """Run one statement for each tuple of values and return how many rows changed."""

    def after_commit(self, notice: Callable[[], None]) -> None:
        """Have `notice` called on the event loop once the change is durable, before the writer hears of it.

        It is not called when the transaction fails. A read-only transaction has no commit to wait for.
        """

    def at_commit(self, change: Callable[[], None]) -> None:
        """Have `change` called on the writer's thread right after the commit, before the next transaction begins.

        For memory that later transactions look at. Like `after_commit` it is not called when the transaction fails.
        """

    def kept(self, fn: Callable[..., T], *args: Any) -> T:
        """Return `fn(tx, *args)`, which in a read may have been kept in memory; see `store.kept`.

        Args:
            fn: each of its statements is bounded by ids. Its arguments can be hashed, and nobody changes its result.
        """

    def looking(self) -> "Tx":
        """Return the same transaction for whoever looks around in it and changes nothing more.

        What is asked of `kept` twice there is read once.
        """


class SqliteTx:
    """`Tx` over one sqlite3 connection that the caller has put into a transaction."""

    __slots__ = ("_connection", "changes", "clock", "notices")
    is_keeping = False

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self.clock = clock
        self.notices: list[Callable[[], None]] = []
        self.changes: list[Callable[[], None]] = []

    def all(self, sql: str, *values: Any) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Row | None:
        row: Row | None = self._connection.execute(sql, values).fetchone()
        return row

    def run(self, sql: str, *values: Any) -> int:
        return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[Row]) -> int:
        found = _INSERT.fullmatch(sql)
        if found is None:
            return self._connection.executemany(sql, rows).rowcount
        # Many rows in one statement: for each statement the thread gives the interpreter away, and then has to get it
        # back from a loop that may be busy.
        beginning, places = found.groups()
        left, changed = list(rows), 0
        while left:
            count = min(AT_ONCE, 1 << len(left).bit_length() - 1)  # a few sizes: statements are kept prepared
            some, left = left[:count], left[count:]
            values = list(chain.from_iterable(some))
            changed += self._connection.execute(beginning + ", ".join([places] * count), values).rowcount
        return changed

    def after_commit(self, notice: Callable[[], None]) -> None:
        self.notices.append(notice)

    def at_commit(self, change: Callable[[], None]) -> None:
        self.changes.append(change)

    def kept(self, fn: Callable[..., T], *args: Any) -> T:
        return fn(self, *args)

    def looking(self) -> "Looking":
        return Looking(self._connection, self.clock)


class Looking(SqliteTx):
    """A transaction in which nothing changes any more."""

    __slots__ = ("_seen",)

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        super().__init__(connection, clock)
        self._seen: dict[Any, Any] = {}

    def kept(self, fn: Callable[..., T], *args: Any) -> T:
        key = fn, args
        if key not in self._seen:
            self._seen[key] = fn(self, *args)
        found: T = self._seen[key]
        return found
