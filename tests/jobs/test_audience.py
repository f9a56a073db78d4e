"""Who waits for a job hears of its end, whenever it is looked at and whenever it is told."""

import asyncio
from types import SimpleNamespace
from typing import Any

from jobs.progress import Audience
from tests.conftest import settle


def looking(is_over: bool) -> Any:
    """Return a look at a job's row."""

    async def look() -> Any:
        return SimpleNamespace(is_over=is_over)

    return look


async def test_a_look_between_an_end_and_its_telling_loses_nobody() -> None:
    """The end is on disk and not told yet: who looks has the row, and so has who waited before."""
    audience = Audience()
    waiting = asyncio.create_task(audience.end("j", looking(False)))
    await settle()
    looked = await audience.end("j", looking(True))
    assert looked.is_over  # type: ignore[union-attr]
    audience.ended("j", "result", None)
    async with asyncio.timeout(5):
        assert await waiting is looked


async def test_an_end_that_was_told_long_ago_is_looked_up() -> None:
    """Nothing is kept of jobs that nobody waits for."""
    audience = Audience()
    audience.ended("j", "result", None)
    assert (await audience.end("j", looking(True))).is_over  # type: ignore[union-attr]
    assert audience._waiters == {}
