"""The end of a session: it is closed when that has come, and told; it lies after the start, and can be taken back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rpcserver.client import CallError, Client
from tests.clocks import HOUR_S, SetClock
from tests.conftest import Running, run_server
from tests.rpcserver.working import kind_of


@pytest.fixture
async def server(clock: SetClock, tmp_path: Path) -> AsyncIterator[Running]:
    """A server with a clock to be set."""
    async with run_server(tmp_path / "data", clock) as running:
        yield running


async def names(client: Client) -> set[str]:
    """Return the names of the user's sessions."""
    return {session.name for session in await client.list_sessions()}


async def until_closed(client: Client, name: str) -> None:
    """Wait until there is no session of that name."""
    async with asyncio.timeout(20):
        while name in await names(client):
            pass


async def test_a_session_is_closed_at_its_end(server: Running, anna: Client, clock: SetClock) -> None:
    """Those that end are closed, and told with the reason; the others stay, the default one too."""
    await anna.ls()
    heard = await anna.subscribe("session.destroyed")
    short = await anna.create_session("short", end="+1h")
    changed = await anna.create_session("changed")
    await anna.create_session("lasting", end="+3h")
    await anna.call("session.update", session_id=changed, end="+1h")
    for session_id in (short, changed):
        assert (await anna.get_session(session_id)).end == pytest.approx(clock.now_ms() + HOUR_S * 1000, abs=5000)
    clock.sleep_for(HOUR_S - 60)
    await clock.looked_at()
    assert {"short", "changed", "lasting"} < await names(anna)
    clock.sleep_for(61)
    await until_closed(anna, "short")
    await until_closed(anna, "changed")
    told = [(await heard.next()).data for _ in range(2)]
    assert sorted(data["session_id"] for data in told) == sorted((short, changed))
    assert {data["reason"] for data in told} == {"ended"}
    assert "lasting" in await names(anna) and len(await names(anna)) == 2
    assert await kind_of(anna.ls(short)) == "SESSION_NOT_FOUND"


async def test_an_end_can_be_moved_and_cleared(server: Running, anna: Client, clock: SetClock) -> None:
    """Before it has come; an empty text clears it, and the start."""
    sessions = [await anna.create_session(name, end="+1h") for name in ("moved", "cleared")]
    await anna.call("session.update", session_id=sessions[0], end="+5h")
    record = await anna.call("session.update", session_id=sessions[1], end="", start="")
    assert (record["end"], record["start"]) == (None, record["created_at"])
    clock.sleep_for(2 * HOUR_S)
    await clock.looked_at()
    assert {"moved", "cleared"} <= await names(anna)
    clock.sleep_for(4 * HOUR_S)
    await until_closed(anna, "moved")
    assert "cleared" in await names(anna)


@pytest.mark.parametrize(
    ("start", "end"), [("+2h", "+1h"), ("2026-05-01 10:00", "2026-05-01 10:00"), (None, "-1h"), (None, "2001-01-01")]
)
async def test_an_end_before_the_start_is_refused(anna: Client, start: str | None, end: str) -> None:
    """Also one before now where the session starts now; nothing is made or changed."""
    given = {"end": end, **({} if start is None else {"start": start})}
    before = await names(anna)
    with pytest.raises(CallError, match="end: a session ends after its start") as caught:
        await anna.create_session("backwards", **given)
    assert caught.value.code == -32602
    session_id = (await anna.get_session()).session_id
    with pytest.raises(CallError, match="end: a session ends after its start"):
        await anna.call("session.update", session_id=session_id, **given)
    assert "backwards" not in await names(anna) and (await anna.get_session(session_id)).end is None
    assert before <= await names(anna)


async def test_a_clock_set_past_it_closes_it_when_it_stays_so(server: Running, anna: Client, clock: SetClock) -> None:
    """A wall clock that is a day ahead for a moment closes nothing; one that was set for good does, in a minute."""
    await anna.create_session("short", end="+1h")
    for _ in range(2):
        clock.set_by(24 * HOUR_S)
        await clock.looked_at()
        assert "short" in await names(anna)
        clock.set_by(-24 * HOUR_S)
        await clock.looked_at()
    clock.set_by(24 * HOUR_S)
    await clock.looked_at()
    clock.sleep_for(61)
    await until_closed(anna, "short")
