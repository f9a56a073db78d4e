"""An engine with the functions of the contract, and what it told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.authority import SERVER
from jobs.model import JobEvent, Limits, Request
from jobs.runner import EmbeddedRunner
from rpcserver.rpc.errors import describe_for_job
from store import Clock, Store, Tx
from tests.jobs.contract import World

ANNA = Request("u_anna", SERVER)
ENGINES = (EmbeddedRunner,)  # what is held to the contract


class Engine:
    """A started engine on a store, its world, and the events of committed transactions."""

    def __init__(self, store: Store, world: World, limits: Limits, kind: type[EmbeddedRunner] = EmbeddedRunner) -> None:
        self.store = store
        self.world = world
        self.told: list[JobEvent] = []
        self.changed = asyncio.Event()
        self.runner = kind(store, world.specs(), self._announce, describe_for_job, limits)

    def _announce(self, tx: Tx, event: JobEvent) -> None:
        def keep() -> None:
            self.told.append(event)
            self.changed.set()

        tx.after_commit(keep)

    def topics(self, job_id: str) -> list[str]:
        """Return what was told of a job."""
        return [event.topic for event in self.told if event.job_id == job_id]

    async def until(self, fits: Callable[[JobEvent], bool]) -> JobEvent:
        """Wait for an event that fits."""
        async with asyncio.timeout(20):
            while True:
                for event in self.told:
                    if fits(event):
                        return event
                self.changed.clear()
                await self.changed.wait()


Start = Callable[..., AbstractAsyncContextManager[Engine]]


@pytest.fixture(params=ENGINES)
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    """Start engines on the same folder, one after another."""

    @asynccontextmanager
    async def begin(
        world: World | None = None, clock: Clock | None = None, was_killed: bool = True, **limits: Any
    ) -> AsyncIterator[Engine]:
        store = await Store.open(tmp_path / "data", clock=clock)
        engine = Engine(store, world or World(), Limits(**limits), request.param)
        await engine.runner.start(was_killed=was_killed)
        try:
            yield engine
        finally:
            await engine.runner.stop()
            await store.close()

    return begin


@pytest.fixture
async def engine(start: Start) -> AsyncIterator[Engine]:
    """A started engine."""
    async with start() as started:
        yield started
