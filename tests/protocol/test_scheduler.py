"""Turns on the loop: time is shared by user, whatever each one asks for; who asks for little does not wait."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rpcserver.rpc import scheduler
from rpcserver.rpc.scheduler import ALLOWED_S, WINDOW_S, Paced, Scheduler, Share


class Clock:
    """A clock that goes on by work alone."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the shares."""
    clock = Clock()
    monkeypatch.setattr(scheduler, "now_s", clock)
    return clock


class Load:
    """Work of units that take a time each.

    Args:
        done: called with the name for each unit.
    """

    cost_s = 0.0

    def __init__(self, name: str, units: int, unit_s: float, clock: Clock, done: Callable[[str], None]) -> None:
        self.name, self.units, self.unit_s = name, units, unit_s
        self._clock, self._done = clock, done
        self.owed_s = 0.0

    def go(self, until: float) -> bool:
        """Do units until the time is over."""
        while self.units:
            self.units -= 1
            self._clock.now += self.unit_s
            self._done(self.name)
            if self._clock.now >= until:
                break
        return self.units > 0


async def rounds(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_users_get_the_same_time_whatever_they_ask_for(clock: Clock) -> None:
    """One with fifty connections of heavy units and one with a light one: half of the time each."""
    whole, spent = Scheduler(), {"many": 0.0, "one": 0.0}

    def took(name: str) -> None:
        spent[name] += {"many": 0.001, "one": 0.0001}[name]

    for _ in range(50):
        whole.of_user("u1").line_up(Load("many", 10_000, 0.001, clock, took))
    share = whole.of_user("u2")
    share.line_up(Load("one", 10_000, 0.0001, clock, took))
    await rounds(400)
    assert spent["many"] + spent["one"] > 0.1
    assert spent["one"] / spent["many"] == pytest.approx(1, rel=0.2)


async def test_connections_of_a_user_take_turns(clock: Clock) -> None:
    """None of a user's connections waits for another to come to its end."""
    whole, done = Scheduler(), []
    share = whole.of_user("u")
    for name in "abc":
        share.line_up(Load(name, 1000, 0.0001, clock, done.append))
    await rounds(30)
    counts = [done.count(name) for name in "abc"]
    assert min(counts) > 0 and max(counts) - min(counts) <= 3


async def test_strangers_together_are_one(clock: Clock) -> None:
    """However many addresses strangers come from, a user gets as much as all of them."""
    whole, spent = Scheduler(), {"stranger": 0, "user": 0}

    def took(name: str) -> None:
        spent[name] += 1

    shares = [whole.of_stranger(f"192.0.2.{n}") for n in range(100)]
    for share in shares:
        share.line_up(Load("stranger", 10_000, 0.0001, clock, took))
    user = whole.of_user("u")
    user.line_up(Load("user", 10_000, 0.0001, clock, took))
    await rounds(300)
    assert spent["user"] == pytest.approx(spent["stranger"], rel=0.1)


async def test_a_turn_of_the_loop_is_short(clock: Clock) -> None:
    """However much stands in line, the loop looks at its sockets every fraction of a millisecond."""
    whole = Scheduler()
    shares = [whole.of_user(f"u{n}") for n in range(200)]
    for share in shares:
        share.line_up(Load("x", 1000, 0.0001, clock, lambda name: None))
    for _ in range(100):
        before = clock.now
        await asyncio.sleep(0)
        assert clock.now - before <= 0.0005


async def test_little_is_served_at_once_and_much_stands_in_line(clock: Clock) -> None:
    """A share is spent for the rest of its window, strangers' with what all of them took."""
    whole = Scheduler()
    share, other = whole.of_user("u"), whole.of_user("v")
    assert not share.is_spent(clock.now)
    share.spend(ALLOWED_S * 1.1)
    assert share.is_spent(clock.now) and not other.is_spent(clock.now)
    clock.now += WINDOW_S * 1.1
    assert not share.is_spent(clock.now)
    first, second = whole.of_stranger("a"), whole.of_stranger("b")
    first.is_spent(clock.now)
    first.spend(ALLOWED_S * 1.1)
    assert second.is_spent(clock.now) and not whole.of_user("u").is_spent(clock.now)


async def test_who_stands_in_line_is_not_overtaken(clock: Clock) -> None:
    """While something of a share waits, what comes later waits behind it, also in a new window."""
    whole = Scheduler()
    share = whole.of_user("u")
    share.line_up(Load("x", 10, 0.0001, clock, lambda name: None))
    clock.now += 10 * WINDOW_S
    assert share.is_spent(clock.now)
    await rounds(10)
    assert not share.is_spent(clock.now)


async def test_work_that_fails_stops_nobody(clock: Clock) -> None:
    """A fault is told to the loop once; what was behind it goes on, and so do the others."""
    whole, done, told = Scheduler(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))

    class Faulty(Load):
        def go(self, until: float) -> bool:
            if self.units == 5:
                self.units = 3
                raise ZeroDivisionError
            return super().go(until)

    share, other = whole.of_user("u"), whole.of_user("v")
    share.line_up(Faulty("faulty", 5, 0.001, clock, done.append))
    share.line_up(Load("sister", 2, 0.001, clock, done.append))
    other.line_up(Load("other", 2, 0.001, clock, done.append))
    await rounds(30)
    assert (len(told), done.count("faulty"), done.count("sister"), done.count("other")) == (1, 3, 2, 2)


async def test_shares_are_forgotten(clock: Clock) -> None:
    """A share nobody holds costs nothing."""
    whole = Scheduler()
    for number in range(1000):
        whole.of_user(str(number)).spend(1)
        whole.of_stranger(str(number)).spend(1)
    assert len(whole._shares) < 5


class Spent(Share):
    """A share that is always spent, or never."""

    def __init__(self, is_always: bool) -> None:
        super().__init__(Scheduler())
        self.is_always = is_always

    def is_spent(self, now: float) -> bool:
        """Tell which of the two."""
        return self.is_always


@pytest.fixture(params=[True, False], ids=["in line", "at once"])
def share(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make a share of either kind."""
    return lambda: Spent(request.param)


async def test_a_paced_coroutine_is_as_any(share: Any) -> None:
    """Results, errors, time-outs and cancelling go through, whether its steps wait or not."""

    async def answer() -> int:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        later = loop.create_future()
        loop.call_later(0.001, later.set_result, 7)
        return await later + 1

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("as it was")

    async def catch() -> str:
        try:
            async with asyncio.timeout(0.005):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0)
            return "in time"
        return "never"

    assert await Paced(share(), answer()) == 8
    with pytest.raises(ValueError, match="as it was"):
        await Paced(share(), fail())
    assert await Paced(share(), catch()) == "in time"


async def test_a_paced_coroutine_is_cancelled(share: Any) -> None:
    """At its first step, in the middle, and while it waits for its turn; it may clean up, and wait for that."""
    for turns in range(8):
        cleaned = []

        async def work(cleaned: list[str] = cleaned) -> None:
            try:
                for _ in range(100):
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
                cleaned.append("up")

        async def paced(inner: Any) -> None:
            await Paced(share(), inner)

        inner = work()
        task = asyncio.ensure_future(paced(inner))
        await rounds(turns)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        inner.close()
        assert cleaned in ([], ["up"]) and (turns < 4 or cleaned == ["up"])


async def test_one_users_tasks_leave_the_loop_to_others() -> None:
    """Two thousand calls of one user that are ready at once: another's comes in between, not behind them."""
    whole = Scheduler()
    loud, quiet = whole.of_user("loud"), whole.of_user("quiet")
    gate, finished = asyncio.Event(), []

    async def call(name: str) -> None:
        await gate.wait()
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass
        finished.append(name)

    async def paced(share: Share, name: str) -> None:
        await Paced(share, call(name))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2000):
            tasks.create_task(paced(loud, "loud"))
        last = tasks.create_task(paced(quiet, "quiet"))
        await rounds(3)
        gate.set()
        await last
        assert finished.count("loud") < 50
