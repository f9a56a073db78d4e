"""Sessions: their life, their names, their default, and what is left after a restart."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from core import sets
from core.calls import Scene
from rpcserver.client import CallError, Client
from store import Tx
from tests.builders import dump, make_place, write_guest
from tests.conftest import Running, run_server


async def whoami(client: Client) -> dict[str, Any]:
    """Return the calling user."""
    found: dict[str, Any] = await client.call("auth.whoami")
    return found


async def make_set(server: Running, client: Client, name: str, parent_id: str | None = None, **options: Any) -> str:
    """Make a set of the client's user."""
    user_id = (await whoami(client))["user_id"]
    return await server.services.store.write(lambda tx: sets.create(Scene(tx, user_id), name, parent_id, **options))


async def delete_set(server: Running, client: Client, set_id: str) -> None:
    """Delete a set of the client's user."""
    user_id = (await whoami(client))["user_id"]
    await server.services.store.write(lambda tx: sets.delete(Scene(tx, user_id), set_id))


async def refused(client: Client, kind: str, method: str, **params: Any) -> CallError:
    """Make a call that must be refused, and return the error."""
    with pytest.raises(CallError) as caught:
        await client.call(method, **params)
    assert caught.value.kind == kind
    return caught.value


async def test_a_name_is_taken_once(anna: Client, bob: Client) -> None:
    """A name is unique for a user in a context: others, and other contexts, may use it."""
    await anna.create_session("work")
    error = await refused(anna, "SESSION_NAME_TAKEN", "session.create", name="work")
    assert error.data["name"] == "work"
    await anna.create_session("work", context_name="other")
    await bob.create_session("work")
    assert len(await anna.list_sessions()) == 2


@pytest.mark.parametrize(
    "name",
    ["a/../b", "a/b", "C:\\x", "two\nlines", "a\tb", "a\x1b[31mred", "a\u202etxt.exe", "   ", "a\u2028b", "a\x00b"],
)
async def test_a_name_is_one_plain_line(anna: Client, name: str) -> None:
    """A path, and signs that break or hide the line a name is shown in, are refused wherever a name is given."""
    session_id = await anna.create_session("work")
    for method, params in (("session.create", {}), ("session.update", {"session_id": session_id})):
        with pytest.raises(CallError) as caught:
            await anna.call(method, name=name, **params)
        assert (caught.value.kind, caught.value.data["errors"][0]["param"]) == ("INVALID_PARAMS", "name")
    for method, param in (("credential.create", "label"), ("server.identify", "client")):
        if "/" not in name and "\\" not in name:
            with pytest.raises(CallError, match="Invalid params"):
                await anna.call(method, **{param: name})


async def test_a_name_may_be_of_any_language(anna: Client) -> None:
    """Letters of every script, and signs that join them, are a name's."""
    for name in ("Überblick", "日本語の部屋", "می‌خواهم", "👩‍💻 at work", "2026_11_27_19_10_00", "..."):
        assert (await anna.get_session(await anna.create_session(name))).name == name


async def test_a_destroyed_name_is_free(anna: Client) -> None:
    """A name can be used again when its session is gone."""
    await anna.destroy_session(await anna.create_session("work"))
    await anna.create_session("work")


async def test_names_by_date_in_one_second(anna: Client) -> None:
    """Sessions without a name made in the same second are told apart."""
    await asyncio.gather(*[anna.create_session() for _ in range(20)])
    names = [session.name for session in await anna.list_sessions()]
    assert len(set(names)) == 20
    assert all(re.fullmatch(r"\d{4}(_\d\d){5}(_\d+)?", name) for name in names)


async def test_as_many_sessions_as_one_may_have(tmp_path: Path) -> None:
    """One more is refused with the limit, and destroying one makes room."""
    async with run_server(tmp_path, max_sessions_per_user=3) as server:
        anna, bob = await server.client("anna"), await server.client("bob")
        made = [await anna.create_session() for _ in range(3)]
        assert (await refused(anna, "SESSION_LIMIT", "session.create")).data["limit"] == 3
        await bob.create_session()
        await anna.destroy_session(made[0])
        await anna.create_session()


async def test_a_session_that_cannot_start_leaves_nothing(server: Running, anna: Client, bob: Client) -> None:
    """A start set that is missing, unreadable or refuses: no row, no name, no place taken."""
    await anna.ls()
    closed = await make_set(server, bob, "closed", is_public=True, enter_policy="owner")
    before = await dump(server.services.store)
    for set_id, kind in (
        ("set_none", "SET_NOT_FOUND"),
        ((await whoami(bob))["home_set"], "SET_NOT_FOUND"),
        (closed, "ENTER_REFUSED"),
    ):
        await refused(anna, kind, "session.create", name="work", set_id=set_id)
    assert await dump(server.services.store) == before
    await anna.create_session("work")


async def test_a_create_that_is_cancelled_leaves_a_session_or_nothing(server: Running, anna: Client) -> None:
    """Whenever the caller gives up, there is no half session: none in state `creating`, none that blocks its name."""
    for turns in range(12):
        waiting = anna.send("session.create", {"name": f"work {turns}"})
        for _ in range(turns):
            await asyncio.sleep(0)
        anna._cancel(waiting)
        await anna.call("server.ping")
        await server.services.dispatcher.idle.wait()
    assert {session.state for session in await anna.list_sessions()} <= {"active"}
    first = (await anna.ls()).session_id
    assert (await anna.ls()).session_id == first
    assert [session.session_id for session in await anna.list_sessions() if session.is_default] == [first]


async def test_destroy_takes_everything_along(server: Running, anna: Client, shelf: str) -> None:
    """The row, its sets, its history and its place are gone; a second destroy says there is no such session."""
    await anna.ls()
    before = await dump(server.services.store)
    session_id = await anna.create_session("short")
    await anna.cd(session_id, path="shelf")
    assert await anna.destroy_session(session_id) == session_id
    after = await dump(server.services.store)
    for table in ("sessions", "session_history", "presence", "members", "tokens"):
        assert after[table] == before[table], table
    await refused(anna, "SESSION_NOT_FOUND", "session.destroy", session_id=session_id)
    await refused(anna, "SESSION_NOT_FOUND", "session.get", session_id=session_id)


async def test_no_place_can_keep_a_session_alive(tmp_path: Path) -> None:
    """A guard asked about leaving is not asked about the end."""
    guard = write_guest(tmp_path, "porter", "@hookimpl\ndef set_leaving(passage):\n    return 'Stay.'\n")
    async with run_server(tmp_path / "data", plugins=(guard,)) as server:
        anna = await server.client("anna")
        session_id = await anna.create_session()
        await refused(anna, "LEAVE_REFUSED", "session.cd", session_id=session_id, path="sessions")
        await anna.destroy_session(session_id)


async def test_the_default_session_comes_back_on_demand(anna: Client, shelf: str) -> None:
    """Destroying the default session is allowed; the next call that names none makes another, at home."""
    first = (await anna.ls()).session_id
    await anna.cd(path="shelf")
    await anna.destroy_session(first)
    listing = await anna.ls()
    assert listing.session_id != first
    assert listing.current_set.id == (await whoami(anna))["home_set"]
    assert (await anna.get_session()).session_id == listing.session_id


async def test_many_calls_at_once_make_one_default_session(server: Running, anna: Client) -> None:
    """However many calls name no session before there is one, and on however many connections."""
    other = await server.client("anna")
    answers = [client.send(method, params) for client in (anna, other) for method, params in DEFAULT_CALLS]
    found = {(await answer)["session_id"] for answer in answers}
    assert len(found) == 1
    assert [session.session_id for session in await anna.list_sessions()] == list(found)


DEFAULT_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("session.get", {}),
    ("session.ls", {}),
    ("session.cd", {"to": "home"}),
    ("session.ls", {"limit": 1}),
] * 4


async def test_staying_where_one_is(server: Running, anna: Client, bob: Client) -> None:
    """cd to the same set is no move: no history, no new revision, and no door to pass."""
    room = await make_set(server, anna, "room", is_public=True)
    there = await bob.cd(set_id=room)
    await server.services.store.write(lambda tx: tx.run("UPDATE sets SET enter_policy = 'owner' WHERE id = ?", room))
    before = await dump(server.services.store)
    again = await bob.cd(set_id=room)
    assert (again.revision, again.current_set) == (there.revision, there.current_set)
    assert await dump(server.services.store) == before


async def test_two_sessions_of_one_user_in_one_set(server: Running, anna: Client, bob: Client) -> None:
    """Others see the user's token until his last session has left."""
    room = await make_set(server, anna, "room", is_public=True)
    first, second = await bob.create_session("one", set_id=room), await bob.create_session("two", set_id=room)

    async def visitors() -> list[str]:
        contents = (await anna.ls(set_id=room, kind="user")).contents
        return [token.name for token in contents.tokens] if contents else []

    assert await visitors() == ["bob"]
    await bob.cd(first, to="home")
    assert await visitors() == ["bob"]
    await bob.destroy_session(second)
    assert await visitors() == []


@pytest.mark.parametrize("policy", ["members", "owner"])
async def test_a_set_that_refuses_leaves_everything_as_it_was(
    server: Running, anna: Client, bob: Client, policy: Any
) -> None:
    """The error says which set, which rule and whom to ask; working set, history, members and data are unchanged."""
    closed = await make_set(server, anna, "closed", is_public=True, enter_policy=policy)
    await bob.cd(path="sessions")
    before = await dump(server.services.store)
    error = await refused(bob, "ENTER_REFUSED", "session.cd", set_id=closed)
    assert (error.data["set_id"], error.data["set_name"], error.data["rule"]) == (closed, "closed", policy)
    assert "anna" in error.message
    assert await dump(server.services.store) == before


async def test_back_forward_up_and_home(server: Running, anna: Client) -> None:
    """Back pops and feeds forward; a new way forgets forward; there is nothing beyond the ends."""
    home = (await whoami(anna))["home_set"]
    one = await make_set(server, anna, "one", home)
    two = await make_set(server, anna, "two", one)
    await anna.cd(path="one/two")
    assert (await anna.cd(to="up")).current_set.id == one
    assert (await anna.cd(to="back")).current_set.id == two
    assert (await anna.cd(to="back")).current_set.id == home
    await refused(anna, "SET_NOT_FOUND", "session.cd", to="back")
    assert (await anna.cd(to="forward")).current_set.id == two
    assert (await anna.cd(to="forward")).current_set.id == one
    await refused(anna, "SET_NOT_FOUND", "session.cd", to="forward")
    await anna.cd(to="back")
    await anna.cd(to="home")
    await refused(anna, "SET_NOT_FOUND", "session.cd", to="forward")
    await refused(anna, "SET_NOT_FOUND", "session.cd", to="up")


async def test_the_way_back_steps_over_what_is_gone(server: Running, anna: Client, shelf: str) -> None:
    """A set of the history that was deleted is skipped and dropped."""
    home = (await whoami(anna))["home_set"]
    gone = await make_set(server, anna, "gone", home)
    await anna.cd(set_id=gone)
    await anna.cd(path="../shelf")
    await delete_set(server, anna, gone)
    assert (await anna.cd(to="back")).current_set.id == home
    assert (await anna.get_session()).history_depth == 0


async def test_history_has_an_end(tmp_path: Path) -> None:
    """The oldest entry makes room for the newest, in memory and on disk."""
    async with run_server(tmp_path, max_history=3) as server:
        anna = await server.client("anna")
        shelf = await make_place(anna)
        for _ in range(4):
            await anna.cd(set_id=shelf)
            await anna.cd(to="home")
        record = await anna.get_session(include=["history"])
        assert record.history is not None and len(record.history) == 3
    async with run_server(tmp_path, max_history=3) as server:
        server.credentials["anna"] = await _new_credential(server)
        again = await (await server.client("anna")).get_session(include=["history"])
        assert again.history == record.history


async def _new_credential(server: Running) -> str:
    from rpcserver.auth import authenticator

    def issue(tx: Tx) -> str:
        row = tx.one("SELECT id FROM users WHERE name = 'anna'")
        assert row
        return authenticator.issue(tx, row[0], "again")

    return str(await server.services.store.write(issue))


async def test_a_session_whose_set_is_deleted_is_relocated(server: Running, anna: Client, shelf: str) -> None:
    """It finds itself at the newest place of its history, is told from where, and then goes on as ever."""
    home = (await whoami(anna))["home_set"]
    gone = await make_set(server, anna, "gone", home)
    await anna.cd(set_id=shelf)
    await anna.cd(set_id=gone)
    listening = await anna.subscribe("session.relocated")
    await delete_set(server, anna, gone)
    listing = await anna.ls()
    assert listing.current_set.id == shelf
    assert listing.relocated_from is not None and listing.relocated_from.set_id == gone
    event = await listening.next()
    assert event.data["relocated_from"] == gone
    assert (await anna.cd(to="home")).relocated_from is None


async def test_if_revision_guards_against_another_tab(anna: Client, shelf: str) -> None:
    """A move made on an old picture is refused with the new revision, and nothing moves."""
    listing = await anna.ls()
    await anna.cd(set_id=shelf, if_revision=listing.revision)
    error = await refused(anna, "REVISION_CONFLICT", "session.cd", to="home", if_revision=listing.revision)
    assert error.data["revision"] == listing.revision + 1
    assert (await anna.ls()).current_set.id == shelf


async def test_update_changes_what_it_is_given(anna: Client) -> None:
    """Name, options, params and interactivity; the rest stays; a taken name is refused."""
    session_id, _ = await anna.create_session("one"), await anna.create_session("two")
    await refused(anna, "SESSION_NAME_TAKEN", "session.update", session_id=session_id, name="two")
    record = await anna.call("session.update", session_id=session_id, name="three", options={"human": True})
    assert (record["name"], record["options"], record["interactive"]) == ("three", {"human": True}, True)
    record = await anna.call("session.update", session_id=session_id, interactive=False, params={"a": [1]})
    assert (record["name"], record["interactive"], record["params"]) == ("three", False, {"a": [1]})
    await refused(anna, "REVISION_CONFLICT", "session.update", session_id=session_id, name="four", if_revision=1)


@pytest.mark.parametrize("options", [{"filter": 5}, {"human": "yes"}, {"filter": "a\0"}])
async def test_options_that_would_break_the_listing_are_refused(anna: Client, options: dict[str, Any]) -> None:
    """A session cannot be made unusable by its own options."""
    session_id = await anna.create_session()
    await refused(anna, "INVALID_PARAMS", "session.update", session_id=session_id, options=options)
    await anna.ls(session_id)


async def test_a_session_for_people_hides_the_machinery_wherever_it_goes(anna: Client, shelf: str) -> None:
    """`human` holds for ls and for the listing cd answers with; it changes no right."""
    plain, human = await anna.create_session("plain"), await anna.create_session("human", human=True)

    async def seen(listing: Any) -> set[str]:
        return {token.name for token in listing.contents.tokens}

    assert "sessions" in await seen(await anna.ls(plain))
    assert "sessions" not in await seen(await anna.ls(human))
    assert "sessions" in await seen(await anna.ls(human, human=False))
    await anna.cd(human, set_id=shelf)
    assert "sessions" not in await seen(await anna.cd(human, to="home"))
    assert (await anna.cd(human, path="sessions")).current_set.set_name == "sessions"


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Sessions, their places, history and default, and the events that were missed."""
    async with run_server(tmp_path) as server:
        anna = await server.client("anna")
        credential = await server.credential("anna")
        work, shelf = await anna.create_session("work"), await make_place(anna)
        for where in ("shelf", "..", "shelf"):
            await anna.cd(work, path=where)
        listening = await anna.subscribe("session.*")
        seen = (listening.epoch, listening.seq)
        await anna.cd(work, to="back")
        before = [session.model_dump() for session in await anna.list_sessions()]
        record = await anna.get_session(work, include=["history"])
    async with run_server(tmp_path) as server:
        server.credentials["anna"] = credential
        anna = await server.client("anna")
        assert [session.model_dump() for session in await anna.list_sessions()] == before
        assert await anna.get_session(work, include=["history"]) == record
        assert (await anna.cd(work, to="forward")).current_set.id == shelf
        replay = await anna.subscribe("session.left", "session.entered", since=seen)
        assert replay.recovered is True
        assert [(await replay.next()).topic for _ in range(4)] == ["session.left", "session.entered"] * 2
