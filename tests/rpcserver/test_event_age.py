"""How long events are kept for clients that come back, and that age takes nothing from who is there."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rpcserver.events.subscriptions import Subscription
from store import StoreFull, Tx
from tests.builders import Wire
from tests.conftest import Running, run_server
from tests.protocol.test_events import announce, numbers, subscribed, until


@pytest.mark.parametrize(("max_event_age_s", "is_recovered"), [(3600.0, True), (0.0005, False)])
async def test_events_are_kept_for_their_time(tmp_path: Path, max_event_age_s: float, is_recovered: bool) -> None:
    """A client that comes back hears what it missed, or is told that it is no longer kept; never a part of it."""
    async with run_server(tmp_path / "data") as before:
        anna = await before.client("anna")
        subscription = await anna.subscribe("session.*")
        position = (subscription.epoch, subscription.seq)
        for name in ("one", "two", "three"):
            await anna.create_session(name)
        credential = await before.credential("anna")
    async with run_server(tmp_path / "data", max_event_age_s=max_event_age_s) as after:
        after.credentials["anna"] = credential
        anna = await after.client("anna")
        resumed = await anna.subscribe("session.created", since=position)
        assert resumed.recovered is is_recovered
        # Positions go on: a new event is never mistaken for an old one.
        await anna.create_session("four")
        heard = [(await resumed.next()).seq for _ in range(4 if is_recovered else 1)]
        assert heard == sorted(set(heard)) and heard[-1] > position[1] + 3


class Slow:
    """An outlet that takes a page, and then waits until it is let on."""

    paused = False

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.gate = asyncio.Event()

    def send_soon(self, message: bytes) -> None:
        """Take a message."""
        self.taken.append(message)

    async def writable(self) -> None:
        """Wait for the gate."""
        await self.gate.wait()


async def test_age_takes_nothing_from_who_is_connected(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the time is: every event comes, also to a client that is still sent what it missed."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    answer = await subscribed(wire)
    await announce(server, "anna", *range(300))
    user_id, slow = await server.user_id("anna"), Slow()
    away = Subscription("sub_slow", user_id, ["test.*"], answer["epoch"], answer["seq"] + 10, slow)
    server.services.events.open(away)
    replaying = asyncio.ensure_future(server.services.events.replay(away, 50))
    await until(lambda: len(slow.taken) == 50)
    clock, later = server.services.clock, server.services.clock.steady_ms() + 8 * 24 * 3600 * 1000
    monkeypatch.setattr(clock, "steady_ms", lambda: later)  # all there is, is too old
    for start in range(300, 500, 50):
        await server.services.events.upkeep()
        await announce(server, "anna", *range(start, start + 50))
    slow.gate.set()
    await replaying
    assert [json.loads(message)["params"]["data"]["n"] for message in slow.taken] == list(range(10, 500))
    assert await numbers(wire, 500) == list(range(500))
    server.services.events.close(away)
    await wire.close()


@pytest.mark.parametrize("days", [40, -40])
async def test_a_clock_that_is_set_silences_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """An open subscription hears all of many events while the wall clock jumps by more than events are kept."""
    async with run_server(tmp_path / "data") as server:
        wire = await Wire.open(server.url, await server.credential("anna"))
        await subscribed(wire)
        await announce(server, "anna", *range(100))
        clock, jump_ms = server.services.clock, days * 24 * 3600 * 1000
        wall, steady = clock.now_ms, clock.steady_ms
        monkeypatch.setattr(clock, "now_ms", lambda: wall() + jump_ms)
        monkeypatch.setattr(clock, "steady_ms", lambda: steady() + jump_ms)  # which it does not by itself
        await server.services.events.upkeep()
        await announce(server, "anna", *range(100, 400))
        monkeypatch.undo()
        await server.services.events.upkeep()
        await announce(server, "anna", *range(400, 600))
        assert await numbers(wire, 600) == list(range(600))
        await wire.close()


async def test_a_listener_that_was_forgotten_all_the_same_is_told_of_the_gap(server: Running) -> None:
    """Nobody is left listening to nothing: what was not kept is named, and what comes after is told."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    await subscribed(wire)
    other = await Wire.open(server.url, await server.credential("bob"))
    await subscribed(other)
    await server.services.store.write(partial(server.services.events._forget_listeners, silent_since=2**62))
    await announce(server, "anna", 1, 2)  # kept for nobody
    await server.services.events.listen(await server.user_id("bob"))
    await announce(server, "bob", 3)
    await server.services.events.upkeep()
    await announce(server, "anna", 4)
    gap = await wire.receive()
    assert gap["method"] == "$/gap" and gap["params"]["to"] >= gap["params"]["from"]
    assert await numbers(wire, 1) == [4]
    for each in (wire, other):
        await each.close()


async def test_a_transaction_that_fails_changes_nothing_in_memory(server: Running) -> None:
    """Who listens is what is on the disk: neither a beginning nor an end that was rolled back counts."""
    app = server.app
    await server.credential("anna")
    user_id = await server.user_id("anna")

    def failing(change: Callable[[Tx], object]) -> Callable[[Tx], None]:
        def write(tx: Tx) -> None:
            change(tx)
            raise LookupError

        return write

    with pytest.raises(LookupError):
        await app.services.store.write(
            failing(lambda tx: app.services.events._hear(tx, [user_id], app.services.clock.steady_ms()))
        )
    assert user_id not in app.services.events.listeners
    await app.services.events.listen(user_id)
    with pytest.raises(LookupError):
        await app.services.store.write(failing(lambda tx: app.services.events._forget_listeners(tx, 2**62)))
    assert user_id in app.services.events.listeners
    pages = app.services.store._connection.execute("PRAGMA page_count").fetchone()[0]
    app.services.store._connection.execute(f"PRAGMA max_page_count = {pages}")  # the commit itself fails
    with pytest.raises(StoreFull):
        await app.services.store.write(lambda tx: (app.services.events._forget_listeners(tx, 2**62), _fill(tx)))
    app.services.store._connection.execute("PRAGMA max_page_count = 1000000")
    assert user_id in app.services.events.listeners


def _fill(tx: Tx) -> None:
    tx.run("INSERT INTO server_values (name, value) VALUES ('big', ?)", "x" * 1_000_000)
