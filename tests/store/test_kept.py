"""What is kept of reads, and what drops it: commits, also those that fail; and how much there may be."""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from store import Store, StoreFull, Told, Tx
from store.kept import MAX_WEIGHT, Kept

ADD = "INSERT INTO server_values (name, value) VALUES (?, ?)"
TOLD = {"server_values": Told(("told(ROW.name)",))}


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Store]:
    """A store of which one table tells its changes."""
    store = await Store.open(tmp_path / "watched", told=TOLD)
    await store.write(lambda tx: tx.run(ADD, "a", "1"))
    yield store
    await store.close()


asked: list[str] = []


def value(tx: Tx, name: str) -> str | None:
    """Read one value, and note that it was read."""
    asked.append(name)
    row = tx.one("SELECT value FROM server_values WHERE name = ?", name)
    return row[0] if row else None


def unwatched(tx: Tx, name: str) -> int:
    """Read a table of which nothing is told."""
    asked.append(name)
    return len(tx.all("SELECT 1 FROM usage WHERE user_id = ?", name))


def moment(tx: Tx, name: str) -> int:
    """Look at the clock."""
    asked.append(name)
    return tx.clock.now_ms()


async def times(store: Store, fn: Any, name: str, reads: int = 5) -> int:
    """Return how often something is really read when it is asked for so often."""
    asked.clear()
    for _ in range(reads):
        await store.read(lambda tx: tx.kept(fn, name))
    return len(asked)


def change(tx: Tx, name: str = "a") -> int:
    """Change a value."""
    return tx.run("UPDATE server_values SET value = value + 1 WHERE name = ?", name)


async def test_a_read_is_kept_until_its_id_changes(watched: Store) -> None:
    """Asked twice it is kept; another's change leaves it, its own has it read again."""
    assert await times(watched, value, "a") == 2
    assert await times(watched, value, "a") == 0
    await watched.write(lambda tx: tx.run(ADD, "b", "1"))
    assert await times(watched, value, "a") == 0
    await watched.write(change)
    assert await watched.read(lambda tx: tx.kept(value, "a")) == "2"
    await watched.write(lambda tx: tx.run("DELETE FROM server_values WHERE name = 'a'"))
    assert await watched.read(lambda tx: tx.kept(value, "a")) is None


async def test_what_is_not_told_is_not_kept(watched: Store) -> None:
    """A table without triggers, and the clock, are looked at each time, inside a kept read too."""
    assert await times(watched, unwatched, "a") == 5
    assert await times(watched, moment, "a") == 5

    def outer(tx: Tx, name: str) -> int:
        return tx.kept(moment, name)

    assert await times(watched, outer, "a") == 5


async def test_a_write_uses_nothing_kept(watched: Store) -> None:
    """It sees its own changes, and what it finds is not kept."""
    await times(watched, value, "a")

    def changing(tx: Tx) -> str | None:
        change(tx)
        return tx.kept(value, "a")

    assert await watched.write(changing) == "2"
    assert await watched.read(lambda tx: tx.kept(value, "a")) == "2"


async def test_what_is_undone_leaves_the_truth(watched: Store) -> None:
    """After a savepoint that is undone, beside one that is not, the old value is read again, and kept again."""
    await times(watched, value, "a")

    def failing(tx: Tx) -> None:
        change(tx)
        raise ValueError

    undone, done = watched.write(failing), watched.write(lambda tx: tx.run(ADD, "b", "1"))
    with pytest.raises(ValueError):
        await undone
    await done
    assert await watched.read(lambda tx: tx.kept(value, "a")) == "1"
    assert await times(watched, value, "a") <= 2
    assert await times(watched, value, "a") == 0


async def test_a_commit_that_fails_leaves_the_truth(watched: Store) -> None:
    """No room for the commit: nothing of it is ever seen, and the read is kept again."""
    await times(watched, value, "a")
    pages = watched._connection.execute("PRAGMA page_count").fetchone()[0]
    watched._connection.execute(f"PRAGMA max_page_count = {pages}")

    def much(tx: Tx) -> None:
        change(tx)
        tx.run(ADD, "much", "x" * 1_000_000)

    with pytest.raises(StoreFull):
        await watched.write(much)
    assert await watched.read(lambda tx: tx.kept(value, "a")) == "1"
    await times(watched, value, "a")
    assert await times(watched, value, "a") == 0


async def test_a_read_sees_no_change_that_comes_while_it_looks(watched: Store) -> None:
    """What was taken from memory changes before the snapshot: the read begins anew. After it: the old one is told."""
    await watched.write(lambda tx: tx.run(ADD, "b", "1"))
    await times(watched, value, "a")
    writing: list[Any] = []

    def interrupted(tx: Tx, is_first: bool) -> tuple[str | None, ...]:
        before = None if is_first else value(tx, "b")
        taken = tx.kept(value, "a")
        if not writing:
            writing.append(commit(watched))
        return before, taken, value(tx, "b"), tx.kept(value, "a")

    assert watched._near.read(lambda tx: interrupted(tx, True)) == (None, "2", "2", "2")
    writing.clear()
    await times(watched, value, "a")
    assert watched._near.read(lambda tx: interrupted(tx, False)) == ("2", "2", "2", "2")
    assert await watched.read(lambda tx: (tx.kept(value, "a"), tx.kept(value, "b"))) == ("3", "3")


def commit(store: Store) -> None:
    """Commit as the writer does, at once."""
    store._connection.execute("BEGIN IMMEDIATE")
    store._connection.execute("UPDATE server_values SET value = value + 1")
    store.kept.begin()
    store._connection.execute("COMMIT")
    store.kept.end()


def test_memory_is_bounded() -> None:
    """Ten thousand different answers of many kilobytes, asked for twice, and ones made of nothing but brackets."""
    kept = Kept(TOLD)
    gc.collect()
    tracemalloc.start()
    for number in range(10_000):
        answer: Any = [{"id": f"{number} {n}", "attributes": {"text": "x" * 1000, "n": n}} for n in range(5)]
        if number % 2:
            answer = [[{}] for _ in range(80)]
        for is_noted in (False, True):
            kept.keep(("page", str(number)), answer, {f"id {number}"}, 0, is_noted=is_noted)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.6 * MAX_WEIGHT < taken < 1.2 * MAX_WEIGHT < 64 * 1024 * 1024
    assert kept.find(("page", "9999"), 0) is not None
    assert kept.find(("page", "0"), 0) is None
