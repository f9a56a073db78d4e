"""A model of one user's events and tabs: whatever drops, stalls, restarts or is trimmed, each event comes once and in
order, or a gap says exactly which did not.

A tab reads when it likes; the position it comes back with is that of the last event it has read.
"""

import asyncio
import random
import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from websockets.exceptions import ConnectionClosed

from rpcserver.events import log as events
from rpcserver.rpc import scheduler
from rpcserver.transport.connection import Connection
from store import Tx
from tests.builders import Wire
from tests.conftest import Running, run_server

PICK = st.integers(0, 3)
POLICIES = ("close", "drop_oldest", "latest")
SETTINGS: dict[str, Any] = {
    "synchronous": "NORMAL",
    "max_outbox_bytes": 16 * 1024,
    "max_events": 400,
    "max_replay_events": 7,
    "upkeep_s": 3600.0,
}


@dataclass
class Tab:
    """A client: its socket when it has one, and how far it has read."""

    policy: str
    wire: Wire | None = None
    connection: Connection | None = None
    epoch: str = ""
    seq: int = 0
    trimmed: int = 0  # up to here the log is said to be gone


class EventModel(RuleBasedStateMachine):
    """One user, two others who make noise in the numbering, up to four tabs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.context: AbstractAsyncContextManager[Running] | None = None
        self.tabs: list[Tab] = []
        self.told: dict[int, int] = {}  # seq -> number, of every event of the user's
        self.count = 0
        self.patch = pytest.MonkeyPatch()

    def run(self, work: Any) -> Any:
        """Run something on the loop; a wait that lasts is a failure."""
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def teardown(self) -> None:
        """Read everything everywhere: what was promised comes. Then stop."""
        try:
            for pick in range(len(self.tabs)):
                if self.tabs[pick].wire is None:
                    self.resume(pick)
                self.read_all(pick)
                if self.tabs[pick].wire is None:  # cut off while it read
                    self.resume(pick)
                    self.read_all(pick)
                assert not self.tabs[pick].trimmed or self.tabs[pick].trimmed < self._oldest()
        finally:
            self._stop()
            self.patch.undo()

    def _stop(self) -> None:
        for tab in self.tabs:
            self.part(tab)
        if self.context is not None:
            self.run(self.context.__aexit__(None, None, None))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.folder.cleanup()

    @initialize(is_busy=st.booleans())
    def start(self, is_busy: bool) -> None:
        """Start the server with its users; anna listens from the beginning.

        Busy, she has used up what her share allows, and all her tabs are told in their turn.
        """
        self.patch.setattr(events, "FEW", 1 if is_busy else events.FEW)
        self.patch.setattr(scheduler, "ALLOWED_S", -1.0 if is_busy else scheduler.ALLOWED_S)
        self.run(self._start())
        self.run(self._users())
        for policy in POLICIES:
            self.come(policy)

    async def _start(self) -> None:
        self.context = run_server(Path(self.folder.name) / "data", **SETTINGS)
        self.server = await self.context.__aenter__()
        self.events = self.server.services.events

    async def _users(self) -> None:
        self.credential = await self.server.credential("anna")
        await self.server.credential("bob")
        self.anna = await self.server.user_id("anna")
        self.bob = await self.server.user_id("bob")
        await self.events.listen(self.bob)

    @rule(count=st.integers(1, 40), size=st.sampled_from([0, 0, 200, 1500]), noise=st.booleans(), fails=st.booleans())
    def announce(self, count: int, size: int, noise: bool, fails: bool) -> None:
        """Change something, several times in one batch of the writer; some changes are taken back."""
        self.run(self._announce(count, size, noise, fails))

    async def _announce(self, count: int, size: int, noise: bool, fails: bool) -> None:
        def change(tx: Tx, number: int) -> tuple[int, int]:
            if noise:
                self.events.append(tx, "test.noise", f"user:{self.bob}", {})
            self.events.append(tx, "test.told", f"user:{self.anna}", {"n": number, "filler": "x" * size})
            row = tx.one("SELECT max(seq) FROM events")
            self.events.append(tx, "other.topic", f"user:{self.anna}", {})
            return (row[0] if row else 0), number

        def fail(tx: Tx) -> None:
            change(tx, -1)
            raise LookupError

        writes: list[asyncio.Future[Any]] = []
        for _ in range(count):
            number = self.count = self.count + 1
            write = self.server.services.store.write(lambda tx, number=number: change(tx, number))  # type: ignore[misc]
            # Known before anybody can hear of it.
            write.add_done_callback(lambda done: self.told.update([done.result()]))
            writes.append(write)
            if fails:
                writes.append(self.server.services.store.write(fail))
        await asyncio.gather(*writes, return_exceptions=True)

    @rule(policy=st.sampled_from(POLICIES))
    def come(self, policy: str) -> None:
        """Open a new tab, if there are not too many: it hears from now on."""
        if len(self.tabs) < 4:
            tab = Tab(policy)
            answer = self.run(self._subscribe(tab, None))
            tab.epoch, tab.seq = answer["epoch"], answer["seq"]
            self.tabs.append(tab)

    async def _subscribe(self, tab: Tab, since: dict[str, Any] | None) -> Any:
        before = self.server.services.connections.users.of(self.anna)
        tab.wire = await Wire.open(self.server.url, self.credential)
        (tab.connection,) = self.server.services.connections.users.of(self.anna) - before
        params = {"topics": ["test.*"], "policy": tab.policy, **({"since": since} if since else {})}
        await tab.wire.send({"jsonrpc": "2.0", "id": 1, "method": "events.subscribe", "params": params})
        answer = await tab.wire.receive()
        assert "result" in answer, answer
        return answer["result"]

    # Which tab: by number, for what can be done with it depends on what the network did.
    @rule(pick=PICK)
    def drop(self, pick: int) -> None:
        """Cut a tab's connection; what it has not read is lost to it."""
        self.part(self.tabs[pick % len(self.tabs)])

    def part(self, tab: Tab) -> None:
        """End a tab's connection without a word."""
        if tab.wire is not None:
            tab.wire.socket.transport.abort()
            self.loop.run_until_complete(tab.wire.socket.wait_closed())
            if tab.connection is not None:
                tab.connection.transport.abort()  # while it is stalled, the server does not look
                self.loop.run_until_complete(tab.connection.wait_closed())
            tab.wire = tab.connection = None

    @rule(pick=PICK)
    def resume(self, pick: int) -> None:
        """Come back: all that was missed is promised, or the tab is told that it is gone, rightly."""
        tab = self.tabs[pick % len(self.tabs)]
        self.part(tab)
        before = self._oldest()
        answer = self.run(self._subscribe(tab, {"epoch": tab.epoch, "seq": tab.seq}))
        # A server that has just started forgets what is too much meanwhile.
        assert answer["recovered"] in {tab.seq >= oldest - 1 for oldest in (before, self._oldest())}
        tab.epoch = answer["epoch"]
        if not answer["recovered"]:
            tab.seq = answer["seq"]

    def _oldest(self) -> int:
        row = self.run(self.server.services.store.read(lambda tx: tx.one("SELECT coalesce(min(seq), 0) FROM events")))
        return int(row[0])

    @rule(pick=PICK)
    def stall(self, pick: int) -> None:
        """A tab stops reading."""
        connection = self.tabs[pick % len(self.tabs)].connection
        if connection is not None and connection.is_open and not connection.paused:
            connection.pause_writing()

    @rule(pick=PICK)
    def go_on(self, pick: int) -> None:
        """A tab reads again."""
        self._go_on(self.tabs[pick % len(self.tabs)])

    def _go_on(self, tab: Tab) -> None:
        if tab.connection is not None and tab.connection.paused and tab.connection.is_open:
            tab.connection.resume_writing()

    @rule(pick=PICK, count=st.integers(1, 300), share=st.floats(0, 1))
    def read_slowly(self, pick: int, count: int, share: float) -> None:
        """A tab stops reading while much happens, reads on for a while, and stops again."""
        self.stall(pick)
        self.announce(count, 100, noise=False, fails=False)
        self.go_on(pick)
        self.read_some(pick, share)
        self.stall(pick)

    @rule(pick=PICK, missed=st.integers(0, 60), more=st.integers(0, 30), size=st.sampled_from([0, 300]))
    def miss_and_resume(self, pick: int, missed: int, more: int, size: int) -> None:
        """A tab is away while something happens, and comes back while more does."""
        self.drop(pick)
        self.announce(missed, size, noise=True, fails=False)
        tab = self.tabs[pick % len(self.tabs)]
        self.run(self._resume_amid(tab, more, size))

    async def _resume_amid(self, tab: Tab, more: int, size: int) -> None:
        announcing = asyncio.ensure_future(self._announce(more, size, False, True))
        answer = await self._subscribe(tab, {"epoch": tab.epoch, "seq": tab.seq})
        tab.epoch = answer["epoch"]
        if not answer["recovered"]:
            tab.seq = answer["seq"]
        await announcing

    @rule()
    def restart(self) -> None:
        """Restart the server."""
        for tab in self.tabs:
            self.part(tab)
        assert self.context is not None
        self.run(self.context.__aexit__(None, None, None))
        self.run(self._start())

    @rule()
    def trim(self) -> None:
        """Forget what is too much."""
        self.run(self.events.upkeep())

    @rule(pick=PICK, share=st.floats(0, 1))
    def read_some(self, pick: int, share: float) -> None:
        """Read a part of what a tab should hear."""
        tab = self.tabs[pick % len(self.tabs)]
        if tab.connection is not None and not tab.connection.paused:
            self.run(self._read(tab, share))

    @rule(pick=PICK)
    def read_all(self, pick: int) -> None:
        """Read everything a tab should hear: nothing is missing but what a gap has named."""
        tab = self.tabs[pick % len(self.tabs)]
        if tab.wire is not None:
            self._go_on(tab)
            self.run(self._read(tab, 1.0))

    async def _read(self, tab: Tab, share: float) -> None:
        due = [seq for seq in sorted(self.told) if seq > tab.seq]
        target = due[max(0, int(len(due) * share) - 1)] if due and share else tab.seq
        assert tab.wire is not None
        try:
            while tab.seq < target:
                self._hear(tab, await tab.wire.receive())
        except ConnectionClosed:
            # Too slow for the policy `close`: that is what it means, and the way back is `resume`.
            assert tab.policy == "close"
            tab.wire = tab.connection = None

    def _hear(self, tab: Tab, message: dict[str, Any]) -> None:
        params = message["params"]
        expected = next(seq for seq in sorted(self.told) if seq > tab.seq)
        if message["method"] == "$/gap":
            # A policy leaves out events of the user's. The log's end may pass others' alone: the numbers are gone, and
            # what is due still comes.
            assert tab.seq < params["from"] <= params["to"]
            assert params["from"] <= expected
            if params["to"] < expected:
                tab.trimmed = max(tab.trimmed, params["to"])
            tab.seq = params["to"]
            return
        assert message["method"] == "test.told"
        assert params["seq"] == expected, f"{params['seq']} came where {expected} was due"
        assert params["data"]["n"] == self.told[expected]
        tab.seq = expected


def explore(examples: int, steps: int) -> None:
    """Run the model with a seed of its own, told in case it fails."""
    number = random.randrange(2**32)
    print(f"seed {number}")
    machine = seed(number)(EventModel)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_each_event_comes_once_and_in_order_or_a_gap_says_so() -> None:
    """The short form, with every test run."""
    explore(examples=10, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_each_event_comes_once_and_in_order_or_a_gap_says_so_for_long() -> None:
    """The long form."""
    explore(examples=600, steps=60)
