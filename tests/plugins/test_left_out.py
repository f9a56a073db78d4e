"""A plugin that hangs costs its first time-outs, and nothing more until it is tried again."""

import asyncio
import time
from pathlib import Path

import pytest

from rpcserver.client import CallError, Client
from tests.builders import write_guest
from tests.conftest import Running, run_server

PALLET = """
    import asyncio
    from rpcserver.plugin import Command, hookimpl

    class State:
        hangs = True
        asked = 0

    @hookimpl
    async def session_pallet(pallet):
        State.asked += 1
        if State.hangs:
            await asyncio.Event().wait()
        return [Command("hanging.go", "Go")]

    @hookimpl
    async def set_entering(passage):
        if State.hangs:
            await asyncio.Event().wait()
"""
TIMEOUT_S = 0.2


def hanging(server: Running) -> type:
    """Return the state of the plugin."""
    state: type = next(
        guest.State
        for name, guest in server.services.bus._manager.list_name_plugin()
        if name == "hanging"  # type: ignore[union-attr]
    )
    return state


async def is_asked(server: Running, client: Client) -> bool:
    """Tell whether a listing asks the plugin, and so waits for it."""
    before = hanging(server).asked  # type: ignore[attr-defined]
    await client.ls()
    return bool(hanging(server).asked > before)  # type: ignore[attr-defined]


async def test_a_hanging_pallet_plugin_is_left_out_told_and_tried_again(tmp_path: Path) -> None:
    """Two listings of one user wait for it, one of another; then nobody does, until it answers again."""
    guest = write_guest(tmp_path, "hanging", PALLET)
    async with run_server(tmp_path / "data", plugins=(guest,), filter_timeout_s=TIMEOUT_S) as server:
        anna, bob, carol = [await server.client(name) for name in ("anna", "bob", "carol")]
        assert [await is_asked(server, anna) for _ in range(3)] == [True, True, False]
        assert (await anna.call("server.info"))["left_out"][0]["what"] == "hanging session_pallet"
        assert (await bob.call("server.info"))["left_out"] == []
        assert [await is_asked(server, one) for one in (bob, bob, carol)] == [True, False, False]
        told = (await carol.call("server.info"))["left_out"]
        assert [one["what"] for one in told] == ["hanging session_pallet"] and 0 < told[0]["tried_again_in_s"] <= 30
        state, asked = hanging(server), hanging(server).asked  # type: ignore[attr-defined]
        await asyncio.gather(*(anna.ls() for _ in range(5)))
        assert state.asked == asked  # type: ignore[attr-defined]
        state.hangs = False  # type: ignore[attr-defined]
        for record in server.services.bus.breaker._records.values():
            for rest in record.rests.values():
                rest.until = 0.0
        assert "hanging.go" in [command.id for command in (await carol.ls()).commands or []]
        assert "hanging.go" in [command.id for command in (await anna.ls()).commands or []]
        assert (await anna.call("server.info"))["left_out"] == []


async def test_a_guard_that_is_left_out_refuses_at_once(tmp_path: Path) -> None:
    """It cannot say that somebody may enter: that is no, and not after its whole time."""
    guest = write_guest(tmp_path, "hanging", PALLET)
    async with run_server(tmp_path / "data", plugins=(guest,), filter_timeout_s=TIMEOUT_S) as server:
        anna = await server.client("anna")
        place = await anna.call("core.set.create", name="shelf")
        took = []
        for _ in range(4):
            began = time.monotonic()
            with pytest.raises(CallError) as refused:
                await anna.cd(None, set_id=place)
            took.append(time.monotonic() - began)
            assert refused.value.kind == "PLUGIN_ERROR"
        assert min(took[:2]) >= TIMEOUT_S > min(took[2:])  # a busy machine may take its time, but not twice
        assert "left out" in str(refused.value)
