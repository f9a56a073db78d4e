"""Transactions, as everybody uses them."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from store import DATABASE, Store, StoreClosed, StoreFull, Tx, new_id
from store.sqlite import WAL_KEPT_BYTES
from tests.conftest import settle

LONG = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT count(*) FROM n"  # 0.1 s
)
ADD = "INSERT INTO server_values (name, value) VALUES (?, '')"


def adding(name: str) -> "object":
    """Return a transaction that adds one row."""
    return lambda tx: tx.run(ADD, name)


async def names(store: Store) -> list[str]:
    """Return the rows that are committed."""
    return [row[0] for row in await store.read(lambda tx: tx.all("SELECT name FROM server_values ORDER BY name"))]


async def test_what_is_written_can_be_read(store: Store) -> None:
    """An awaited write is there for every read that begins after it."""
    assert await store.write(lambda tx: tx.run(ADD, "a")) == 1
    assert await names(store) == ["a"]


async def test_a_failing_write_leaves_nothing_and_its_neighbours_alone(store: Store) -> None:
    """Writes committed together fail one by one."""

    def fails(tx: Tx) -> None:
        tx.run(ADD, "half")
        raise ValueError("no")

    first, second, third = store.write(adding("a")), store.write(fails), store.write(adding("b"))
    await asyncio.gather(first, third)
    with pytest.raises(ValueError, match="no"):
        await second
    assert await names(store) == ["a", "b"]


async def test_a_statement_that_breaks_a_rule_fails_its_write_only(store: Store) -> None:
    """A constraint refuses the write that breaks it."""
    await store.write(adding("a"))
    again, other = store.write(adding("a")), store.write(adding("b"))
    with pytest.raises(sqlite3.IntegrityError):
        await again
    await other
    assert await names(store) == ["a", "b"]


async def test_many_waiting_writes_share_commits(store: Store) -> None:
    """What arrives while a commit is on its way to the disk is the next commit."""
    before = store.commits
    await asyncio.gather(*[store.write(adding(f"{number}")) for number in range(500)])
    assert store.writes >= 500
    assert store.commits - before < 100


async def test_notices_come_before_the_writer_hears(store: Store) -> None:
    """A caller that hears of its write finds every copy in memory up to date."""
    heard: list[str] = []

    def write(tx: Tx) -> None:
        tx.run(ADD, "a")
        tx.after_commit(lambda: heard.append("notice"))

    waiting = store.write(write)
    waiting.add_done_callback(lambda _: heard.append("waiter"))
    await waiting
    await settle()
    assert heard == ["notice", "waiter"]


async def test_a_write_that_fails_tells_nobody(store: Store) -> None:
    """Only what is committed is announced."""
    heard: list[str] = []

    def write(tx: Tx) -> None:
        tx.after_commit(lambda: heard.append("notice"))
        raise ValueError

    with pytest.raises(ValueError):
        await store.write(write)
    await store.write(adding("later"))
    assert heard == []


async def test_a_cancelled_wait_does_not_undo_the_write(store: Store) -> None:
    """Whoever stops waiting has still written."""
    waiting = store.write(adding("a"))
    waiting.cancel()
    await store.write(adding("b"))
    assert await names(store) == ["a", "b"]


async def test_a_read_cannot_write(store: Store) -> None:
    """The reading connections refuse changes."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store.read(adding("a"))
    assert await names(store) == []


async def test_a_read_sees_one_moment(store: Store) -> None:
    """All statements of a read see the same commit, whatever is written meanwhile."""
    loop = asyncio.get_running_loop()

    def twice(tx: Tx) -> tuple[int, int]:
        count = "SELECT count(*) FROM server_values"
        tx.one(LONG)
        first = tx.one(count)
        asyncio.run_coroutine_threadsafe(_written(store), loop).result(10)
        second = tx.one(count)
        assert first and second
        return first[0], second[0]

    assert await store.read(twice) == (0, 0)
    assert await names(store) == ["meanwhile"]


async def test_a_short_read_is_over_at_once_and_a_long_one_leaves_the_loop(store: Store) -> None:
    """A short read runs on the caller's thread; a long one is stopped there and run again on another."""
    threads: list[int] = []

    def short(tx: Tx) -> None:
        threads.append(threading.get_ident())
        tx.one("SELECT 1")

    def long(tx: Tx) -> int:
        threads.append(threading.get_ident())
        row = tx.one(LONG)
        assert row
        return int(row[0])

    here = threading.get_ident()
    await store.read(short)
    assert threads == [here]
    assert await store.read(long) == 1_000_000
    assert threads[1] == here and threads[2] != here and len(threads) == 3
    await store.read(short)
    assert threads[3] == here


async def test_many_small_steps_of_one_read_count_together(store: Store) -> None:
    """What is long by the number of its statements leaves the loop too."""
    threads: set[int] = set()

    def many(tx: Tx) -> None:
        threads.add(threading.get_ident())
        for _ in range(20_000):
            tx.one("SELECT count(*) FROM server_values")

    await store.read(many)
    assert len(threads) == 2


async def test_a_read_that_fails_does_so_once(store: Store) -> None:
    """What a read raises reaches its caller, and the next read begins anew."""
    runs = 0

    def fails(tx: Tx) -> None:
        nonlocal runs
        runs += 1
        tx.one("SELECT 1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.read(fails)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store.read(lambda tx: tx.run(ADD, "a"))
    assert runs == 1
    assert await names(store) == []


async def _written(store: Store) -> None:
    await store.write(adding("meanwhile"))


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Closing keeps what was promised, and refuses what comes later; closing twice is harmless."""
    store = await Store.open(tmp_path / "data")
    promised = store.write(adding("a"))
    await store.close()
    await store.close()
    assert await promised == 1
    with pytest.raises(StoreClosed):
        await store.write(adding("b"))
    with pytest.raises(StoreClosed):
        await store.read(lambda tx: None)
    again = await Store.open(tmp_path / "data")
    assert await names(again) == ["a"]
    await again.close()


async def test_a_full_disk_is_an_error_and_not_an_outage(store: Store) -> None:
    """While there is no space writes fail, reads go on, and with space again writes work without a restart."""
    await store.write(lambda tx: tx.run(ADD, "before"))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull):
        await store.write(lambda tx: tx.run(ADD, "x" * 500_000))
    assert await names(store) == ["before"]
    store._connection.execute("PRAGMA max_page_count = 1000000")
    await store.write(adding("after"))
    assert await names(store) == ["after", "before"]
    assert not store.is_broken


async def test_the_log_shrinks_after_a_long_reader(store: Store) -> None:
    """While a read keeps its snapshot the log grows; soon after its end the disk has all but a little back."""
    log = store.folder / f"{DATABASE}-wal"
    is_reading, may_end = threading.Event(), threading.Event()

    def long(tx: Tx) -> None:
        tx.one(LONG)  # too long for the loop
        tx.one("SELECT count(*) FROM server_values")
        is_reading.set()
        may_end.wait(60)

    reading = asyncio.ensure_future(store.read(long))
    await asyncio.to_thread(is_reading.wait, 60)
    for number in range(24):
        await store.write(lambda tx, number=number: tx.run(ADD, f"{number}" + "x" * 1_000_000))
    grown = log.stat().st_size
    may_end.set()
    await reading
    for number in range(2):
        await store.write(adding(f"after {number}"))
    assert grown > 3 * WAL_KEPT_BYTES
    assert log.stat().st_size <= WAL_KEPT_BYTES


async def test_ids_sort_by_age() -> None:
    """Each id sorts after every one made before it, also within a millisecond."""
    ids = [new_id("x_") for _ in range(10_000)]
    assert ids == sorted(set(ids))
