"""Owners take turns, at the writer, at the readers' threads and in every pool: one's flood is not another's wait."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from store import OWNER, Pool, PoolBusy, PoolLate, RoundRobin, Store, StoreClosed, Tx
from store.pools import Places


def test_owners_take_turns_and_each_keeps_its_order() -> None:
    """Whatever one owner has put in before, the next one's first comes second."""
    line: RoundRobin[str] = RoundRobin()
    for number in range(3):
        line.put("loud", f"loud {number}")
    line.put("quiet", "quiet 0")
    assert (len(line), line.owners, line.waiting_of("loud")) == (4, 2, 3)
    assert [line.take() for _ in range(5)] == ["loud 0", "quiet 0", "loud 1", "loud 2", None]
    assert (len(line), line.owners) == (0, 0)


def test_time_is_shared_when_items_cost_time() -> None:
    """Of who comes late the short ones go first, as far as the long one's time; nobody has saved up anything."""
    line: RoundRobin[str] = RoundRobin()
    order = []

    def serve(count: int) -> None:
        for _ in range(count):
            item = line.take(cost=0.0)
            assert item is not None
            order.append(item)
            line.charge(item.split()[0], 1.0 if item.startswith("long") else 0.25)

    for number in range(4):
        line.put("long", f"long {number}")
    serve(2)
    for number in range(8):
        line.put("short", f"short {number}")
    serve(10)
    short = [f"short {number}" for number in range(8)]
    assert order == ["long 0", "long 1", *short[:4], "long 2", *short[4:], "long 3"]
    assert line.take(cost=0.0) is None


def test_who_may_not_is_passed_over_and_keeps_the_turn() -> None:
    """An owner without a place does not hold up the others, nor lose what waits."""
    line: RoundRobin[str] = RoundRobin()
    line.put("full", "a")
    line.put("free", "b")
    assert line.take(lambda owner: owner == "free") == "b"
    assert line.take(lambda owner: False) is None
    assert line.take() == "a"


async def test_a_flood_of_writes_delays_another_by_a_small_batch(tmp_path: Path) -> None:
    """Of 2,000 writes that wait, some are done before the one of another owner that came last; most are not."""
    store = await Store.open(tmp_path / "data")
    order: list[str] = []

    def slow(tx: Tx) -> None:
        tx.one("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT sum(i) FROM n")
        order.append("loud")

    OWNER.set("loud")
    flood = [store.write(slow) for _ in range(2000)]
    await flood[0]  # it is under way
    OWNER.set("quiet")
    await store.write(lambda tx: order.append("quiet"))
    assert order.count("loud") < 1500, "the quiet one waited for the whole flood"
    await asyncio.gather(*flood)
    assert order.count("loud") == 2000
    await store.close()


async def test_one_owners_writes_stay_in_order(store: Store) -> None:
    """However batches are made, what one owner submits first is written first."""
    order: list[int] = []
    done = [store.write(lambda tx, number=number: order.append(number)) for number in range(500)]
    await asyncio.gather(*done)
    assert order == sorted(order)


async def test_long_reads_of_one_leave_a_reader_to_another(tmp_path: Path) -> None:
    """Ten reads that take their time do not stand before the one of another owner."""
    store = await Store.open(tmp_path / "data", readers=2)
    ended: list[str] = []

    def long(tx: Tx) -> None:
        tx.one("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT sum(i) FROM n")

    async def read(owner: str) -> None:
        OWNER.set(owner)
        await store.read(long)
        ended.append(owner)

    loud = [asyncio.create_task(read("loud")) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.create_task(read("quiet"))
    assert ended.count("loud") < 8
    await asyncio.gather(*loud)
    await store.close()


class Blocked:
    """Functions that hang until they are let go."""

    def __init__(self) -> None:
        self._gate = threading.Event()

    def __call__(self) -> str:
        """Hang."""
        assert self._gate.wait(20)
        return "done"

    def let_go(self) -> None:
        """Let all of them go, also those to come."""
        self._gate.set()


@pytest.fixture
async def hang() -> AsyncIterator[Blocked]:
    """What hangs; let go with the test."""
    blocked = Blocked()
    yield blocked
    blocked.let_go()


async def test_one_owner_takes_as_many_threads_as_it_leaves(hang: Blocked) -> None:
    """Of four threads one who floods has two, the next one; there is room for another still."""
    pool = Pool("test", 4)
    loud = [asyncio.create_task(pool.run_for("loud", hang)) for _ in range(20)]
    next_one = [asyncio.create_task(pool.run_for("next", hang)) for _ in range(20)]
    await asyncio.sleep(0)
    assert pool.state == {"ok": True, "places": 4, "taken": 3, "waiting": 37}
    assert await pool.run_for("quiet", lambda: "at once") == "at once"
    hang.let_go()
    assert await asyncio.gather(*loud, *next_one) == ["done"] * 40
    assert pool.state == {"ok": True, "places": 4, "taken": 0, "waiting": 0}
    await pool.close()


async def test_too_much_of_one_owner_is_refused_and_only_his(hang: Blocked) -> None:
    """The refusal says when to come again; another is let in."""
    pool = Pool("test", 2, waiting_per_owner=3)
    waiting = [asyncio.create_task(pool.run_for("loud", hang)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(PoolBusy, match="try again") as caught:
        await pool.run_for("loud", hang)
    assert caught.value.retry_after_ms > 0
    assert await pool.run_for("quiet", lambda: 1) == 1
    hang.let_go()
    await asyncio.gather(*waiting)
    await pool.close()


async def test_what_hangs_is_not_waited_for(hang: Blocked) -> None:
    """A caller's time is over; the thread is still taken, readiness names the pool, and closing does not hang."""
    pool = Pool("test", 1, timeout_s=0.05, stuck_s=0.01)
    with pytest.raises(PoolLate, match="goes on"):
        await pool.run_for("loud", hang)
    with pytest.raises(PoolBusy):
        await pool.run_for("quiet", lambda: 1)
    assert pool.is_stuck and not pool.state["ok"]
    pool.beat()
    assert not pool.is_stuck
    began = time.monotonic()
    await pool.close(within_s=0.05)
    assert time.monotonic() - began < 5
    with pytest.raises(StoreClosed):
        await pool.run_for("quiet", lambda: 1)


async def test_a_thread_that_comes_back_serves_again(hang: Blocked) -> None:
    """After a late function has ended, its thread is there for the next one, and the pool is not stuck."""
    pool = Pool("test", 1, timeout_s=0.05, stuck_s=5)
    with pytest.raises(PoolLate):
        await pool.run_for("loud", hang)
    hang.let_go()
    async with asyncio.timeout(10):
        await pool.enter("quiet")
    pool.leave("quiet")
    assert await pool.run_for("quiet", lambda: 1) == 1 and not pool.is_stuck
    await pool.close()


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("its own"), StopIteration("odd")])
async def test_what_a_function_raises_reaches_its_caller(error: Exception) -> None:
    """Its own TimeoutError is not taken for the pool's, and StopIteration, which no future takes, is told as well."""

    def fail() -> None:
        raise error

    pool = Pool("test", 1)
    with pytest.raises((type(error), RuntimeError), match=str(error)):
        await pool.run(fail)
    assert pool.state["taken"] == 0
    await pool.close()


@pytest.mark.parametrize("moment", [lambda task: task.cancel(), lambda task: None])
async def test_a_place_is_not_lost_with_whoever_waited(moment: Callable[[asyncio.Task[None]], object]) -> None:
    """Cancelled in the very turn in which its place comes, or served: the place is there for the next."""
    places = Places("test", 1)
    await places.enter("one")
    waiter = asyncio.create_task(places.enter("two"))
    await asyncio.sleep(0)
    places.leave("one")  # it is the waiter's now, who has not run yet
    moment(waiter)
    await asyncio.wait({waiter})
    if not waiter.cancelled():
        places.leave("two")
    await asyncio.wait_for(places.enter("three"), 1)
    assert places.state["taken"] == 1
