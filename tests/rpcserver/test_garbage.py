"""What a call leaves behind: nothing that only the collector can free, which stops everybody while it looks."""

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpcserver.client import CallError, Client

OURS = ("core", "heroscript", "jobs", "plugins", "rpcserver", "store", "_asyncio", "asyncio")
TIMES = 5


@pytest.fixture
def saved() -> Iterator[list[object]]:
    """Have the collector keep what it finds, instead of freeing it."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("session.get", {}),
        ("session.ls", {}),
        ("session.cd", {"to": "home"}),
        ("session.db.set", {"key": "k", "value": "v"}),
        ("session.play", {"text": "!!play.echo content:hello"}),
        ("session.play", {"text": "!!play.echo content:hello", "detach": True}),
        ("core.token.create", {"type": "file", "name": "one"}),
        ("job.run", {"function": "core.token.create", "data": {"type": "file", "name": "one"}}),
        ("jobs.list", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
async def test_a_call_leaves_no_ring(
    anna: Client, saved: list[object], method: str, params: dict[str, object], tmp_path: Path
) -> None:
    """Call, task, job and clock hold each other while it is on its way, and let go at its end."""
    session = {"session_id": await anna.create_session()} if method.startswith("session.") else {}
    await anna.call(method, **session, **params)
    gc.collect()
    saved.clear()
    for _ in range(TIMES):
        await anna.call(method, **session, **params)
    await anna.call("server.ping")
    gc.collect()
    found = Counter(type(each).__qualname__ for each in saved if type(each).__module__.split(".")[0] in OURS)
    assert not {name: count for name, count in found.items() if count >= TIMES}, found


async def test_a_refused_call_leaves_no_ring(anna: Client, saved: list[object]) -> None:
    """Neither does one that is refused."""
    for _ in range(TIMES):
        with pytest.raises(CallError):
            await anna.call("session.cd", path="nowhere")
    gc.collect()
    found = Counter(type(each).__qualname__ for each in saved)
    assert found["Call"] < TIMES and found["Run"] < TIMES, found
