"""Reads and writes that are stopped in the middle, at any step and by any error: what comes after them is whole."""

import errno
import math
import sqlite3
from collections.abc import Callable

import pytest

from store import Store, StoreError, StoreFailed, StoreFull, Tx, sqlite
from store.errors import TooLongHere, named
from tests.store.test_store import ADD, adding, names

COUNT = "SELECT count(*) FROM server_values"
MANY = "SELECT a.name FROM server_values a, server_values b, server_values c"


def statements(tx: Tx) -> int:
    """Read by several statements, in every way there is."""
    tx.all("SELECT name FROM server_values ORDER BY value")
    tx.one(MANY)  # left in the middle of its rows
    rows = tx.all(MANY)
    counted = tx.one(COUNT)
    return len(rows) + (counted[0] if counted else 0)


async def test_a_read_stopped_at_any_step_leaves_a_whole_connection(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after one step of SQLite's machine, after two, ... to its end: each later read sees the newest commit."""
    for name in "abcd":
        await store.write(adding(name))
    near, stops = store._near, 0
    near._connection.set_progress_handler(near._tick, 1)
    while True:
        monkeypatch.setattr(sqlite, "_TICKS", stops)
        try:
            near.read(statements)
        except TooLongHere:
            stops += 1
        else:
            break
        assert not near._connection.in_transaction
        monkeypatch.setattr(sqlite, "_TICKS", math.inf)
        await store.write(adding(f"z{stops:04}"))
        assert near.read(lambda tx: tx.one("SELECT max(name) FROM server_values")) == (f"z{stops:04}",)
        await store.write(lambda tx: tx.run("DELETE FROM server_values WHERE name > 'z'"))
    assert stops > 200
    monkeypatch.undo()
    assert await store.read(statements) == 4**3 + 4


def error(code: int) -> sqlite3.OperationalError:
    """Return an error as the module raises it, with an extended code."""
    made = sqlite3.OperationalError("made up")
    made.sqlite_errorcode = code
    return made


def raising(what: BaseException) -> Callable[[Tx], None]:
    """Return a read that fails between two statements."""

    def fails(tx: Tx) -> None:
        tx.one(MANY)
        raise what

    return fails


FAILURES = [
    (error(sqlite3.SQLITE_IOERR_READ), StoreFailed),
    (error(sqlite3.SQLITE_CANTOPEN), StoreFailed),
    (error(sqlite3.SQLITE_FULL), StoreFull),
    (sqlite3.DatabaseError("without a code"), sqlite3.DatabaseError),
    (ValueError("no"), ValueError),
    (KeyboardInterrupt(), KeyboardInterrupt),
]


@pytest.mark.parametrize(("raised", "told"), FAILURES, ids=lambda value: getattr(value, "__name__", repr(value)))
async def test_a_read_that_fails_leaves_a_whole_connection(
    store: Store, raised: BaseException, told: type[BaseException]
) -> None:
    """Whatever it raises is told in the words of the store, and the next read sees what was committed since."""
    with pytest.raises(told):
        await store.read(raising(raised))
    assert not store._near._connection.in_transaction
    await store.write(adding("since"))
    assert await names(store) == ["since"]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_SNAPSHOT])
async def test_a_busy_database_is_waited_for_by_a_thread(store: Store, code: int) -> None:
    """What would make the loop wait is read again elsewhere, by whatever code SQLite says so."""
    tries = 0

    def busy_once(tx: Tx) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise error(code)
        return tries

    assert await store.read(busy_once) == 2
    assert not store._near._connection.in_transaction


async def test_a_transaction_that_sqlite_has_ended_is_not_ended_twice(store: Store) -> None:
    """After an I/O error there is none to roll back: what is told is the error, not that."""

    def ended(tx: Tx) -> None:
        tx.all("ROLLBACK")
        raise error(sqlite3.SQLITE_IOERR_READ)

    with pytest.raises(StoreFailed):
        await store.read(ended)
    await store.write(adding("since"))
    assert await names(store) == ["since"]


def wrapped(tx: Tx) -> None:
    """Make something of one's own of the error with which SQLite rolls everything back."""
    try:
        _undone(tx)
    except sqlite3.Error as problem:
        raise ValueError("no room for it") from problem


def swallowed(tx: Tx) -> None:
    """Go on after SQLite has rolled everything back."""
    try:
        _undone(tx)
    except sqlite3.Error:
        tx.run(ADD, "outside of any transaction")


def _undone(tx: Tx) -> None:
    tx.all("ROLLBACK")  # as SQLite does by itself
    raise error(sqlite3.SQLITE_IOERR_WRITE)


@pytest.mark.parametrize("fails", [wrapped, swallowed, _undone])
async def test_a_batch_that_sqlite_rolls_back_is_acknowledged_to_nobody(
    store: Store, fails: Callable[[Tx], None]
) -> None:
    """Whatever a function makes of the disk's error: who was before it hears of the disk, who is next is written."""
    *undone, after = [store.write(adding("before")), store.write(fails), store.write(adding("after"))]
    for each in undone:
        with pytest.raises(StoreError):
            await each
    await after
    assert "before" not in await names(store) and "after" in await names(store)


async def test_a_notice_that_fails_keeps_nobody_waiting(store: Store) -> None:
    """The others are told, and whoever waits is answered; the loop's handler hears of the failure."""
    heard: list[str] = []
    told: list[dict[str, object]] = []
    store._writer._loop.set_exception_handler(lambda loop, context: told.append(context))

    def write(tx: Tx) -> str:
        tx.after_commit(lambda: [].pop())  # type: ignore[func-returns-value]
        tx.after_commit(lambda: heard.append("the next"))
        return "done"

    assert await store.write(write) == "done"
    assert heard == ["the next"] and len(told) == 1


@pytest.mark.parametrize(
    ("number", "meaning"),
    [("ENOSPC", StoreFull), ("EDQUOT", StoreFull), ("EFBIG", StoreFull), ("EIO", StoreFailed), ("EROFS", StoreFailed)],
)
def test_errors_of_the_system_mean_what_those_of_sqlite_do(number: str, meaning: type[StoreError]) -> None:
    """One map for both; what says nothing of the disk is left as it is."""
    assert isinstance(named(OSError(getattr(errno, number), "so")), meaning)
    other = FileNotFoundError(errno.ENOENT, "not there")
    assert named(other) is other
