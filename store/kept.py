"""Reads kept in memory until something that they used changes.

A kept read depends on every id bound into its statements, and on those of the kept reads inside it. A commit changes
every id in the rows that it writes, and what temporary triggers of the writing connection tell beyond them: neither
reader nor writer declares anything. A read of a table without triggers, or one that looks at the clock, is not kept.
Tables that change often have a prefix to their ids: what does not read them is not dropped when they change.

No function sees two states. Before a commit begins, what it changes is taken out of use; after it, or once it is
undone, that has a new age. A read takes what was true when it began, and still is; where its snapshot turns out to be
later than a change of something that it took, it is run again. Transactions that write use nothing kept.
"""

import gc
import math
import sqlite3
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from store.clock import Clock
from store.tx import Row, SqliteTx

T = TypeVar("T")

ALL = "*"  # told for every id: what changes rarely and reaches far
MAX_WEIGHT = 32 * 1024 * 1024  # bytes of all that is kept
MAX_CHANGED = 50_000  # ids of which it is known when they changed; beyond that, all that was kept goes
OVERHEAD = 500  # bytes of an answer's place among the others
_UNKEPT = object()  # among the ids of a read that is not to be kept


@dataclass(frozen=True, slots=True)
class Told:
    """What a write of a row tells: parts of SELECTs, each over `told(ids)`, in which `ROW` is the row before or after.

    `is_first(id)` holds once for an id in a transaction: many rows of one thing need not look round for it each.
    `columns`: those whose update counts; empty: all. `prefix`: which the ids have that are told.
    """

    selects: tuple[str, ...]
    columns: tuple[str, ...] = ()
    prefix: str = ""


def triggers(tables: Mapping[str, Told]) -> Iterator[str]:
    """Return the statements that make the triggers, for a connection that knows `told` and `is_first`."""
    for table, told in tables.items():
        update = f"UPDATE OF {', '.join(told.columns)}" if told.columns else "UPDATE"
        for event, rows in (("INSERT", ("NEW",)), (update, ("OLD", "NEW")), ("DELETE", ("OLD",))):
            body = " ".join(f"SELECT {one.replace('ROW', row)};" for row in rows for one in told.selects)
            name = f"told_{table}_{event.split()[0].lower()}"
            yield f"CREATE TEMP TRIGGER {name} AFTER {event} ON main.{table} BEGIN {body} END"


class _Answer:
    """What a read found in a snapshot of some age, and what it depends on; `turn`: when it was last seen to hold.

    The first time it is only noted that it was asked: what changes before it is asked again is not worth weighing.
    """

    __slots__ = ("age", "has_value", "ids", "turn", "value", "weight")

    def __init__(self, value: Any, has_value: bool, ids: frozenset[str], age: int, weight: int) -> None:
        self.value = value
        self.has_value = has_value
        self.ids = ids
        self.age = age
        self.turn = -1
        self.weight = weight


class Kept:
    """The kept reads, up to a weight; the least lately used go first.

    Answers belong to the event loop's thread; what has changed is told by the writer's.

    Args:
        tables: those whose changes are told.
    """

    def __init__(self, tables: Mapping[str, Told], max_weight: int = MAX_WEIGHT) -> None:
        self._tables = tables
        self._max_weight = max_weight
        self._answers: OrderedDict[Any, _Answer] = OrderedDict()
        self.weight = 0
        self._lock = threading.Lock()
        self._told: set[str] = set()  # by the transaction that is being made: the writer's own
        self._looked_round: set[str] = set()  # in it, for these ids
        self._changed: dict[str, float] = {}  # id -> age since when it is as it is now; infinite during a commit
        self._floor: float = 0  # of all ids
        self.age = 0  # grows when a commit that changes something has ended
        self.turn = 0  # grows then, and when one begins
        self._prefixes: dict[str, frozenset[str] | None] = {}  # of statements; the code has so many
        self._looked_at: set[str] = set()

    def __len__(self) -> int:
        return len(self._answers)

    def watch(self, connection: sqlite3.Connection) -> None:
        """Have the writing connection tell what it changes."""
        connection.create_function("told", -1, self._tell)
        connection.create_function("is_first", 1, self._is_first)
        for statement in triggers(self._tables):
            connection.execute(statement)

    def _tell(self, *ids: str | None) -> None:
        self._told.update(id for id in ids if id is not None)

    def _is_first(self, id: str) -> bool:
        if id in self._looked_round:
            return False
        self._looked_round.add(id)
        return True

    def begin(self) -> None:
        """Take out of use what depends on ids that the commit about to begin changes."""
        if not self._told:
            return
        with self._lock:
            if ALL in self._told:
                self._floor = math.inf
            self._changed.update(dict.fromkeys(self._told, math.inf))
            self.turn += 1

    def end(self) -> None:
        """Have these ids used again as they are from now on: the commit is done, or undone."""
        self._looked_round = set()
        if not self._told:
            return
        with self._lock:
            self.age += 1
            self._changed.update(dict.fromkeys(self._told, self.age))
            if ALL in self._told or len(self._changed) > MAX_CHANGED:
                self._floor = self.age
                self._changed = {}
            self.turn += 1
        self._told = set()

    def holds(self, ids: Iterable[str], age: int) -> bool:
        """Tell whether none of these ids has changed since, or is being changed."""
        with self._lock:
            return self._holds(ids, age)

    def _holds(self, ids: Iterable[str], age: int) -> bool:
        if self._floor > age:
            return False
        changed = self._changed
        return not any(id in changed and changed[id] > age for id in ids)

    def find(self, key: Any, since: int) -> _Answer | None:
        """Return the answer that was true when the commit of this age had ended, and still is."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        with self._lock:
            if answer.turn != self.turn:
                if not self._holds(answer.ids, answer.age):
                    self._drop(key)
                    return None
                if not self._holds(answer.ids, since):
                    return None
                answer.turn = self.turn
        self._answers.move_to_end(key)
        return answer

    def keep(self, key: Any, value: Any, ids: set[Any], age: int, *, is_noted: bool) -> None:
        """Keep what a read found that began when the commit of this age had ended; `is_noted`: it was asked before."""
        if _UNKEPT in ids:
            return
        weight = OVERHEAD + (weigh(key, value, ids) if is_noted else sum(map(sys.getsizeof, ids)))
        self._drop(key)
        self._answers[key] = _Answer(value if is_noted else None, is_noted, frozenset(ids), age, weight)
        self.weight += weight
        while self.weight > self._max_weight:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: Any) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self.weight -= answer.weight

    def look_at(self, action: int, table: str | None, *_: str | None) -> int:
        """Note which tables a statement that is being prepared reads: an authorizer of SQLite's."""
        if action == sqlite3.SQLITE_READ:
            self._looked_at.add(table or "")
        return sqlite3.SQLITE_OK

    def prefixes(self, connection: sqlite3.Connection, sql: str, values: Row) -> frozenset[str] | None:
        """Return what a statement depends on, each before the values bound; None when not all it reads is told."""
        if sql not in self._prefixes:
            self._looked_at = set()
            connection.execute(f"EXPLAIN {sql}", values).fetchall()  # prepared, for `look_at`
            is_told = bool(self._looked_at) and self._looked_at <= self._tables.keys()
            found = frozenset(self._tables[table].prefix for table in self._looked_at) if is_told else None
            self._prefixes[sql] = found
        return self._prefixes[sql]


class Stale(BaseException):
    """A commit changed something between a read's taking it and its snapshot: the read is run again."""


class Reading(SqliteTx):
    """A read that uses what is kept. Its snapshot is taken by its first statement: one that finds all needs none."""

    __slots__ = ("_age", "_clock", "_ids", "_kept", "_taken", "is_open")
    is_keeping = True

    def __init__(self, connection: sqlite3.Connection, clock: Clock, kept: Kept) -> None:
        super().__init__(connection, clock)
        self._kept = kept
        self._age = kept.age
        self._ids: set[Any] | None = None  # of the read under way, when it may be kept
        self._taken: list[frozenset[str]] = []  # what was used before there was a snapshot depends on these
        self.is_open = False

    @property
    def clock(self) -> Clock:
        """The clock; whoever looks at it would find something else later."""
        if self._ids is not None:
            self._ids.add(_UNKEPT)
        return self._clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._clock = clock

    def all(self, sql: str, *values: Any) -> list[Row]:
        self._look(sql, values)
        return super().all(sql, *values)

    def one(self, sql: str, *values: Any) -> Row | None:
        self._look(sql, values)
        return super().one(sql, *values)

    def kept(self, fn: Callable[..., T], *args: Any) -> T:
        key, outer = (fn, args), self._ids
        answer = self._kept.find(key, self._age)
        if answer is not None and answer.has_value:
            if outer is not None:
                outer |= answer.ids
            if not self.is_open:
                self._taken.append(answer.ids)
            found: T = answer.value
            return found
        ids: set[Any] = set()
        self._ids = ids
        try:
            value = fn(self, *args)
        finally:
            self._ids = outer
            if outer is not None:
                outer |= ids
        self._kept.keep(key, value, ids, self._age, is_noted=answer is not None)
        return value

    def _look(self, sql: str, values: Row) -> None:
        if not self.is_open:
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # the snapshot is of this moment
            self.is_open = True
            if self._taken and not all(self._kept.holds(ids, self._age) for ids in self._taken):
                raise Stale
        if self._ids is not None:
            prefixes = self._kept.prefixes(self._connection, sql, values)
            if prefixes is None:
                self._ids.add(_UNKEPT)
                return
            for prefix in prefixes:
                self._ids.update([prefix + value for value in values if type(value) is str])


def weigh(*values: Any) -> int:
    """Return how many bytes values take with all that is in them; what several share counts for each."""
    weight, level = 0, list(values)
    while level:
        weight += sum(map(sys.getsizeof, level))
        inside = [one for one in gc.get_referents(*level) if not callable(one)]  # types and functions are everybody's
        for one in level:
            if type(one) is dict:
                inside += one  # of its keys the collector knows nothing
        level = inside
    return weight
