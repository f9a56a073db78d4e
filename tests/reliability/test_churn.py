"""Coming and going leaves nothing behind: what a server holds after many rounds is what it held after few."""

import asyncio
import gc
from collections import Counter
from pathlib import Path

import pytest

from tests.builders import Wire
from tests.conftest import Running, run_server
from tests.protocol.test_events import until

AT_ONCE = 4


async def one_round(server: Running, number: int) -> None:
    """Come, subscribe, make and unmake a session with a job, a walk and a value, fail, and go in one of four ways."""
    wire = await Wire.open(server.url, await server.credential(f"user{number % AT_ONCE}"))
    name = f"round {number}"
    session = (await wire.call("session.create", {"name": name}))["result"]["session_id"]
    await wire.call("events.subscribe", {"topics": ["*"]})
    for method, params in (
        ("session.db.set", {"key": "k", "value": "v"}),
        ("session.ls", {}),
        ("session.playbook_add", {"text": "!!db.set key:a value:b"}),
        ("session.play", {}),
    ):
        assert "result" in await wire.call(method, {"session_id": session, **params})
    await wire.call("session.cd", {"session_id": session, "path": "nowhere"})
    await wire.call("no.such.method")
    await wire.call("session.destroy", {"session_id": session})
    stranger = await Wire.open(server.url)
    await stranger.call("auth.authenticate", {"credential": f"wrong {number}"})
    if number % 4 == 0:
        stranger.socket.transport.abort()
        wire.socket.transport.abort()
    elif number % 4 == 1:
        await wire.send(b"\x00")
    elif number % 4 == 2:
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "session.create", "params": {"name": name}})
        wire.socket.transport.abort()
    await wire.close()
    await stranger.close()


def held() -> Counter[str]:
    """Return how many objects of each type there are of ours, of asyncio's, and of sockets'."""
    gc.collect()
    rooms = ("rpcserver", "jobs", "plugins", "core", "store", "heroscript")
    ours = (*rooms, "asyncio", "_asyncio", "websockets", "socket")
    # asyncio takes cancelled timers away when they are many.
    kinds = (type(one) for one in gc.get_objects() if not (isinstance(one, asyncio.TimerHandle) and one.cancelled()))
    return Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if kind.__module__.split(".")[0] in ours)


async def churn(server: Running, rounds: int) -> None:
    """Make rounds, some side by side."""
    for begin in range(0, rounds, AT_ONCE):
        await asyncio.gather(*(one_round(server, begin + number) for number in range(AT_ONCE)))
        # A call of one that went may still be made: what it made goes, too.
        await until(lambda: not server.app.server.connection_count and not server.services.dispatcher.in_flight)
        for number in range(AT_ONCE):
            wire = await Wire.open(server.url, await server.credential(f"user{number}"))
            for kept in (await wire.call("sessions.list"))["result"]["items"]:
                await wire.call("session.destroy", {"session_id": kept["session_id"]})
            await wire.close()


@pytest.mark.parametrize("rounds", [20, pytest.param(4000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
async def test_churn_leaves_nothing(tmp_path: Path, rounds: int) -> None:
    """The same objects, strangers, tasks and rows of sessions as before; ten minutes of it in the slow run."""
    settings = {"max_failed_logins_per_minute": 10**6, "max_events": 200, "keep_succeeded_jobs_s": 0.001}
    async with run_server(tmp_path / "data", **settings) as server:
        server.services.store.kept._max_weight = 0  # what is kept is bounded by its weight, whatever the rounds
        await churn(server, 8)
        await until(lambda: server.app.server.connection_count == 0)
        before = held()
        await churn(server, rounds)

        def grown() -> dict[str, int]:
            # The last few are held by what they began, such as a timer; one more a round is a leak.
            return {name: count - before[name] for name, count in held().items() if count - before[name] >= 20}

        try:
            await until(lambda: not grown(), 10)  # what is on its way out goes
        except TimeoutError:
            assert grown() == {}
        await until(lambda: server.app.server._strangers == {} and server.app.server._connections == set())
        assert await server.services.store.read(
            lambda tx: tx.one("SELECT count(*) FROM sessions WHERE name LIKE 'round%'")
        ) == (0,)
