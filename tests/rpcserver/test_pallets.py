"""Gifts, session data and the command pallet over a real socket, sentence by sentence."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import Client
from tests.conftest import Running, run_server
from tests.rpcserver.test_places import a_command, a_place, names, refused
from tests.webserver import Web, reply


async def test_a_gift_is_its_session_s_alone(server: Running, anna: Client, bob: Client) -> None:
    """Not the giver's, not another session's of the same user; gone when he leaves, is destroyed, or the set is."""
    shop, _ = await a_place(anna, "shop")
    await anna.call("core.gift.create", set_id=shop, type="command", name="Add", attributes={"read": 1})
    await anna.call("core.gift.create", set_id=shop, type="note", name="voucher")
    sessions = [(client, await client.create_session("visit", set_id=shop)) for client in (anna, bob)]
    sessions.append((bob, await bob.create_session("again", set_id=shop)))
    seen = set()
    for client, session in sessions:
        listing = await client.ls(session)
        assert names(listing.commands) == ["Add"]
        gifts = [token.id for token in listing.contents.tokens if token.name in ("Add", "voucher")]
        assert len(gifts) == 2
        seen |= set(gifts)
    assert len(seen) == 6
    await bob.cd(sessions[1][1], to="home")
    await bob.destroy_session(sessions[2][1])

    async def left() -> int:
        rows = await server.services.store.read(
            lambda tx: tx.all("SELECT 1 FROM tokens WHERE name IN ('Add', 'voucher')")
        )
        return len(rows)

    assert await left() == 2
    await anna.call("core.set.delete", set_id=shop)
    assert await left() == 0


async def test_a_given_command_is_run_by_its_session_alone(anna: Client, bob: Client) -> None:
    """Another session of the same user, there or elsewhere, has no such command; who left has none either."""
    shop, _ = await a_place(anna, "shop")
    await anna.call("core.gift.create", set_id=shop, type="command", name="Add", attributes={"read": "added"})
    one, two = [await bob.create_session(name, set_id=shop) for name in ("one", "two")]
    mine = next(command for command in (await bob.ls(one)).commands or [] if command.name == "Add")
    assert (await bob.action(mine.id, one)).response["value"] == "added"
    assert (await refused(bob, "session.action", session_id=two, token_id=mine.id)).kind == "NOT_IN_PALLET"
    await bob.cd(one, to="home")
    stale = await refused(bob, "session.action", session_id=one, token_id=mine.id)
    assert stale.kind == "NOT_IN_PALLET" and mine.id not in [item["id"] for item in stale.data["commands"]]
    assert stale.data["pallet_version"] == (await bob.ls(one)).pallet_version


async def test_session_data_is_stashed_and_comes_back(server: Running, anna: Client, bob: Client) -> None:
    """Remembered in a set, it is out of sight elsewhere and back on return, in that session; what is old is gone."""
    shop, _ = await a_place(anna, "shop")
    home = (await bob.call("auth.whoami"))["home_set"]
    session = await bob.create_session("shopping", set_id=shop)
    data = (await bob.get_session(session)).session_data
    for name, value, params in (
        ("basket", ["tea"], {"set_id": shop}),
        ("offer", 5, {"set_id": shop, "seconds": 60}),
        ("name", "bob", {}),
    ):
        await bob.call("core.session.remember", data_set_id=data, name=name, value=value, **params)
    for number in range(205):
        await bob.call("core.session.remember", data_set_id=data, name=f"a{number}", value=number, set_id=home)

    async def remembered(id: str = session) -> list[str]:
        return sorted(token["name"] for token in (await bob.get_session(id, include=["data"])).data or [])

    assert await remembered() == ["basket", "name", "offer"]
    await bob.cd(session, to="home")
    assert len(await remembered()) == 206
    other = await bob.create_session("other", set_id=shop)
    assert await remembered(other) == []
    await bob.cd(session, set_id=shop)
    assert await remembered() == ["basket", "name", "offer"]
    server.clock.sleep_for(61)
    assert await remembered() == ["basket", "name"]


async def test_a_session_remembers_only_so_much(bob: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thing too many is refused; what is there can still be changed, and forgotten."""
    from core import remember

    monkeypatch.setattr(remember, "MAX_ENTRIES", 3)
    data = (await bob.get_session()).session_data
    for number in range(3):
        await bob.call("core.session.remember", data_set_id=data, name=f"n{number}", value=1)
    params = {"data_set_id": data, "name": "more", "value": 1}
    assert (await refused(bob, "core.session.remember", **params)).kind == "TOO_MANY"
    await bob.call("core.session.remember", data_set_id=data, name="n0", value=2)
    await bob.call("core.session.remember", data_set_id=data, name="n1", value=None)
    await bob.call("core.session.remember", **params)


async def test_the_nearest_command_wins(anna: Client, bob: Client) -> None:
    """Pinned before the set's, the set's before its parents', through parents one cannot read; by name in any case."""
    top, _ = await a_place(anna, "top")
    middle = await anna.call("core.set.create", name="middle", parent_id=top)
    low = await anna.call("core.set.create", name="low", parent_id=middle, is_public=True)
    for place, name, read in (
        (top, "Look", "top"),
        (top, "Climb", "top"),
        (middle, "Look", "middle"),
        (middle, "Hide", "middle"),
        (low, "look", "low"),
    ):
        await a_command(anna, place, name, read=read)
    session = await bob.create_session("visit", set_id=low)
    listing = await bob.ls(session)
    assert names(listing.commands) == ["Climb", "look"]  # the middle set is not bob's to see
    assert names((await anna.ls(await anna.create_session("own", set_id=low))).commands) == ["Climb", "Hide", "look"]
    pinned = await bob.call("core.token.create", type="command", name="LOOK", attributes={"read": "mine", "sort": 1})
    pallet = (await bob.get_session(session)).command_pallet
    await bob.call("core.set.tokens.add", set_id=pallet, token_ids=[pinned])
    again = await bob.ls(session)
    assert names(again.commands) == ["LOOK", "Climb"] and (again.pallet_version or 0) > (listing.pallet_version or 0)
    assert (await bob.action(pinned, session)).response["value"] == "mine"
    away = await bob.cd(session, to="home")
    assert names(away.commands) == ["LOOK"]
    assert {"bookmarks.add"} <= {command.id for command in away.commands or []}


async def test_a_version_of_the_pallet_is_never_told_twice(tmp_path: Path) -> None:
    """Also over a restart: other commands, another and greater number."""
    async with run_server(tmp_path / "data") as server:
        anna = await server.client("anna")
        credential = server.credentials["anna"]
        session = await anna.create_session("work")
        home = (await anna.call("auth.whoami"))["home_set"]
        first = (await anna.ls(session)).pallet_version
        await a_command(anna, home, "One", read=1)
        second = (await anna.ls(session)).pallet_version
        assert (await anna.ls(session)).pallet_version == second
    async with run_server(tmp_path / "data") as server:
        anna = await server.connect(credential)
        await a_command(anna, home, "Two", read=1)
        third = (await anna.ls(session)).pallet_version
    assert first is not None and second is not None and third is not None
    assert first < second and third not in (first, second)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A web server on this machine."""
    made = await Web().start()
    yield made
    made.server.close()


async def test_a_listing_waits_for_no_remote(tmp_path: Path, web: Web) -> None:
    """Its sort remote is asked behind, its read remote not at all; the last known place stands meanwhile."""
    options: dict[str, Any] = {
        "remote_hosts": (f"http://127.0.0.1:{web.port}",),
        "remote_networks": ("127.0.0.0/8",),
        "remote_read_timeout_s": 10,
    }
    async with run_server(tmp_path / "data", **options) as server:
        anna = await server.client("anna")
        hall, _ = await a_place(anna, "hall")
        made = {}
        for name, path in (("place", "sort"), ("answer", "read")):
            definition = {"url": f"http://127.0.0.1:{web.port}/{path}"}
            made[name] = await anna.call("core.remote.create", name=name, definition=definition)
        command = await a_command(anna, hall, "Far", sort={"remote": made["place"]}, read={"remote": made["answer"]})
        await a_command(anna, hall, "Near", sort=5, read=1)
        session = await anna.create_session("visit", set_id=hall)
        heard = await anna.subscribe("session.pallet_changed")
        web.answer = lambda request: reply(b"1")
        web.delay.clear()
        first = await anna.ls(session)
        assert names(first.commands) == ["Near", "Far"]  # unknown: last
        async with asyncio.timeout(10):
            await web.arrived.wait()
        assert names((await anna.ls(session)).commands) == ["Near", "Far"]
        assert server.services.navigation.pallets._sorting == {session}  # still being asked, by one job
        web.delay.set()
        await heard.next()
        assert names((await anna.ls(session)).commands) == ["Far", "Near"]
        assert [request.split(" ")[1] for request in web.seen] == ["/sort"]
        assert (await anna.action(command, session)).response["value"] == 1
        assert [request.split(" ")[1] for request in web.seen] == ["/sort", "/read"]


async def test_an_action_writes_before_it_reads(anna: Client) -> None:
    """What was written is what is read; without a value nothing is written; who may not write hears it, and reads."""
    hall, _ = await a_place(anna, "hall")
    sign = await anna.call("core.script.create", name="sign", text="local['text'] = value\nvalue")
    show = await anna.call("core.script.create", name="show", text="token['write']")
    plain = await a_command(anna, hall, "Plain", write="old", read={"script": show})
    scripted = await a_command(anna, hall, "Scripted", write={"script": sign}, read="same")
    session = await anna.create_session("visit", set_id=hall)
    assert (await anna.action(plain, session, value="new")).response["value"] == "new"
    assert (await anna.action(plain, session)).response["value"] == "new"
    written = (await anna.action(scripted, session, value=3)).response
    assert (written["written"], written["value"]) == (3, "same")


async def test_a_filter_and_human_mode_hide_and_never_permit(anna: Client, bob: Client) -> None:
    """A session's filter and mode hold for ls and cd, an argument overrides them, and rights are what they were."""
    hall, _ = await a_place(anna, "hall")
    secret = await anna.call("core.token.create", type="note", name="plan", is_public=False, set_id=hall)
    gears = await anna.call("core.token.create", type="note", name="gears", is_human=False, set_id=hall)
    for name in ("lamp", "table"):
        await anna.call("core.token.create", type="note", name=name, set_id=hall)
    session = await bob.create_session("visit", set_id=hall, human=True, filter="la*")

    def seen(listing: Any) -> list[str]:
        return [token.name for token in listing.contents.tokens]

    assert seen(await bob.ls(session)) == ["lamp"]
    assert seen(await bob.ls(session, filter="*", human=False)) == ["bob", "gears", "lamp", "table"]
    await bob.cd(session, to="home")
    assert seen(await bob.cd(session, set_id=hall)) == ["lamp"]
    assert (await bob.call("core.token.read", token_id=gears, set_id=hall))["name"] == "gears"
    for client, kind in ((bob, "TOKEN_NOT_FOUND"), (anna, None)):
        if kind is None:
            assert (await client.call("core.token.read", token_id=secret, set_id=hall))["name"] == "plan"
        else:
            error = await refused(client, "core.token.read", token_id=secret, set_id=hall, is_human=False)
            assert error.kind == kind
    await bob.call("session.update", session_id=session, options={"human": False})
    assert seen(await bob.ls(session)) == ["bob", "gears", "lamp", "table"]
