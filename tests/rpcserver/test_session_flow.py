"""The seven methods of the seed, over a real socket."""

import re

import pytest

from rpcserver.client import CallError, Client


async def test_create_returns_only_the_id_and_names_by_date(anna: Client) -> None:
    """`session.create` returns the session id; a session without a name is called by the time."""
    answer = await anna.call("session.create")
    assert set(answer) == {"session_id"}
    record = await anna.get_session(answer["session_id"])
    assert re.fullmatch(r"\d{4}(_\d\d){5}(_\d+)?", record.name)
    assert record.state == "active"


async def test_walk_there_and_back(anna: Client, shelf: str) -> None:
    """cd moves the session, back pops, and going back twice does not ping-pong."""
    home = await anna.ls()
    await anna.cd(path="shelf")
    assert (await anna.ls()).current_set.id == shelf
    back = await anna.cd(to="back")
    assert back.current_set.id == home.current_set.id
    with pytest.raises(CallError) as caught:
        await anna.cd(to="back")
    assert caught.value.kind == "SET_NOT_FOUND"


async def test_forty_pipelined_cd_leave_forty_entries_in_order(anna: Client, shelf: str) -> None:
    """Calls on one session run in the order sent, however fast they come."""
    home = await anna.ls()
    places = [shelf, home.current_set.id] * 20
    session_id = home.session_id
    answers = [anna.send("session.cd", {"session_id": session_id, "set_id": place}) for place in places]
    for answer in answers:
        await answer
    record = await anna.get_session(session_id, include=["history"])
    assert record.history_depth == 40
    assert record.history == [home.current_set.id, *places[:-1]]


async def test_another_users_session_is_not_found(anna: Client, bob: Client) -> None:
    """A session of somebody else does not exist, for every method that takes one."""
    session_id = await anna.create_session("private")
    for method in ("session.get", "session.ls", "session.destroy"):
        with pytest.raises(CallError) as caught:
            await bob.call(method, session_id=session_id)
        assert caught.value.kind == "SESSION_NOT_FOUND"


async def test_ls_of_contents_only_is_a_listing(anna: Client) -> None:
    """A listing asked for without commands has neither commands nor a pallet version."""
    listing = await anna.ls(sections=["contents"])
    assert listing.contents is not None
    assert (listing.commands, listing.pallet_version) == (None, None)
