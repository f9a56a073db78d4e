"""Places that refuse, greet, give commands and take them back, over a real socket."""

import asyncio
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.builders import dump
from tests.conftest import Running


async def a_place(client: Client, name: str = "vault", **options: Any) -> tuple[str, str]:
    """Return a public set of the client's and its defining token."""
    home = (await client.call("core.user.read"))["home_set_id"]
    set_id = await client.call("core.set.create", name=name, parent_id=home, is_public=True, **options)
    return set_id, (await client.call("core.set.show", set_id=set_id))["token_id"]


async def a_rule(
    client: Client, token_id: str, decision: dict[str, Any], event: str = "set_entering", **said: Any
) -> str:
    """Put a rule on a token."""
    rule = await client.call("core.rule.create", event=event, decision=decision, token_id=token_id, **said)
    return str(rule)


async def a_command(client: Client, set_id: str, name: str, **attributes: Any) -> str:
    """Put a command into a set."""
    token = await client.call("core.token.create", type="command", name=name, attributes=attributes)
    await client.call("core.set.tokens.add", set_id=set_id, token_ids=[token])
    return str(token)


async def refused(client: Client, method: str = "session.cd", **params: Any) -> CallError:
    """Return the error a call ends in."""
    with pytest.raises(CallError) as caught:
        await client.call(method, **params)
    return caught.value


def names(commands: Any) -> list[str]:
    """Return the names of those commands that are tokens, in the pallet's order."""
    return [command.name for command in commands if command.source.startswith("set_")]


async def test_a_refused_cd_changes_nothing(server: Running, anna: Client, bob: Client) -> None:
    """The rule and its message are told, and the database holds what it held."""
    vault, token = await a_place(anna)
    await a_rule(anna, token, {"deny": {"type": "user"}}, name="closed", message="come back tomorrow.")
    await bob.ls()
    before = await dump(server.services.store)
    error = await refused(bob, set_id=vault)
    assert (error.kind, error.data["rule"], error.data["set_id"]) == ("ENTER_REFUSED", "closed", vault)
    assert "come back tomorrow" in error.message
    assert await dump(server.services.store) == before


async def test_a_script_decides_who_enters(server: Running, anna: Client, bob: Client) -> None:
    """Asked before the write; its message is told; one that fails is a failed cd, which changes nothing either."""
    vault, token = await a_place(anna)
    text = "{'allow': caller['name'] == 'bob', 'message': 'only bob, ' + caller['name']}"
    script = await anna.call("core.script.create", name="door", text=text)
    await a_rule(anna, token, {"allow": {"script": script}}, message="no.")
    assert (await bob.cd(set_id=vault)).current_set.id == vault
    before = await dump(server.services.store)
    error = await refused(anna, set_id=vault)
    assert (error.kind, error.data["rule"]) == ("ENTER_REFUSED", "set_entering") and "only bob, anna" in error.message
    await anna.call("core.script.edit", script_id=script, text="1 / 0")
    before = await dump(server.services.store)
    assert (await refused(anna, set_id=vault)).kind == "SCRIPT_FAILED"
    assert await dump(server.services.store) == before
    assert (await refused(anna, "session.create", set_id=vault)).kind == "SCRIPT_FAILED"
    assert await dump(server.services.store) == before


async def test_a_rule_made_while_another_is_asked_is_not_passed_by(anna: Client, bob: Client) -> None:
    """What was not asked before the write is noticed inside it, asked, and only then the move is made."""
    vault, token = await a_place(anna)
    await bob.ls()
    script = await anna.call("core.script.create", name="door", text="False")
    await a_rule(anna, token, {"allow": {"script": script}})
    assert (await refused(bob, set_id=vault)).kind == "ENTER_REFUSED"


async def test_a_set_is_left_only_if_it_lets(server: Running, anna: Client, bob: Client) -> None:
    """cd is refused with everything unchanged; destroying the session and deleting the set go through."""
    vault, token = await a_place(anna)
    session = await bob.create_session("first", set_id=vault)
    await a_rule(anna, token, {"deny": {"type": "user"}}, "set_leaving", message="stay.")
    before = await dump(server.services.store)
    assert (await refused(bob, session_id=session, to="home")).kind == "LEAVE_REFUSED"
    assert await dump(server.services.store) == before
    await bob.destroy_session(session)
    second = await bob.create_session("second", set_id=vault)
    await anna.call("core.set.delete", set_id=vault)
    listing = await bob.ls(second)
    assert listing.relocated_from is not None and listing.relocated_from.set_id == vault


async def test_a_frozen_user_is_not_trapped(server: Running, anna: Client, bob: Client) -> None:
    """A session of a frozen user in a set that lets nobody go is destroyed all the same."""
    vault, token = await a_place(anna)
    session = await bob.create_session("inside", set_id=vault)
    await a_rule(anna, token, {"deny": {"type": "user"}}, "set_leaving")
    await server.services.store.write(lambda tx: tx.run("UPDATE users SET is_frozen = 1 WHERE name = 'bob'"))
    await bob.destroy_session(session)
    shown = await anna.call("core.set.show", set_id=vault, wide=True)
    assert shown["counts"] == {}


async def test_presence_is_counted_by_session(anna: Client, bob: Client) -> None:
    """Two sessions of one user in a set: one leaves, the user is still there; home is never left."""
    vault, _ = await a_place(anna)
    first = await bob.create_session("first", set_id=vault)
    second = await bob.create_session("second", set_id=vault)

    async def visitors() -> int:
        return int((await anna.call("core.set.show", set_id=vault, wide=True))["counts"].get("visitor", 0))

    assert await visitors() == 1
    await bob.cd(first, to="home")
    assert await visitors() == 1
    await bob.cd(second, to="home")
    assert await visitors() == 0
    home = await bob.call("core.user.read")
    await bob.cd(first, path="sessions")
    entry = await bob.call("core.token.read", token_id=home["token_id"], set_id=home["home_set_id"])
    assert entry["kind"] == "member"


async def test_commands_of_a_place_and_of_those_above(anna: Client, bob: Client) -> None:
    """Nearest wins by name; pinned ones come along everywhere; out of the place its commands are gone."""
    town, _ = await a_place(anna, "town")
    house = await anna.call("core.set.create", name="house", parent_id=town, is_public=True)
    await a_command(anna, town, "Look", sort=1, read="the town")
    await a_command(anna, town, "Ring", sort=2, read="dong")
    await a_command(anna, house, "Look", sort=3, read="the house")
    session = (await bob.get_session()).session_id
    pinned = (await bob.get_session()).command_pallet
    mine = await bob.call("core.token.create", type="command", name="Mine", attributes={"sort": 0, "read": 1})
    await bob.call("core.set.tokens.add", set_id=pinned, token_ids=[mine])
    listing = await bob.cd(session, set_id=house)
    assert names(listing.commands) == ["Mine", "Ring", "Look"]
    look = next(command for command in listing.commands or [] if command.name == "Look")
    answer = await bob.action(look.id)
    assert (answer.handled_by, answer.response) == ("default", {"value": "the house", "state": "ok"})
    home = await bob.cd(to="home")
    assert names(home.commands) == ["Mine"]
    stale = await refused(bob, "session.action", token_id=look.id)
    assert stale.kind == "NOT_IN_PALLET"
    assert "Mine" in [command["name"] for command in stale.data["commands"]]


async def test_an_action_writes_then_reads(anna: Client, bob: Client) -> None:
    """What is written is what is read after it; a script keeps its own state of the token and of all."""
    shop, _ = await a_place(anna, "shop")
    text = "state['sold'] = state.get('sold', 0) + 1\nlocal['last'] = value\n[value, token['price'], caller['name']]"
    writes = await anna.call("core.script.create", name="sell", text=text)
    reads = await anna.call("core.script.create", name="tell", text="earlier")
    await a_command(anna, shop, "Buy", write={"script": writes}, read={"script": reads}, price=7, accepts="string")
    session = await bob.create_session("shopping", set_id=shop)
    listing = await bob.ls(session)
    buy = next(command for command in listing.commands or [] if command.name == "Buy")
    assert buy.accepts == "string"
    answer = await bob.action(buy.id, session, value="tea")
    assert answer.response == {"value": None, "state": "ok", "written": ["tea", 7, "bob"]}
    await bob.action(buy.id, session, value="milk")
    kept = await anna.call("core.script.get", script_id=writes)
    assert kept["state"] == {"sold": 2}


async def test_a_value_command_is_written_by_its_owner_alone(anna: Client, bob: Client) -> None:
    """A plain write attribute belongs to who may write the token; a command without one takes no value."""
    hall, _ = await a_place(anna, "hall")
    sign = await a_command(anna, hall, "Sign", write="", read="x")
    bell = await a_command(anna, hall, "Bell", read="dong")
    session = await bob.create_session("visit", set_id=hall)
    for command in (sign, bell):
        error = await refused(bob, "session.action", session_id=session, token_id=command, value="bob was here")
        assert error.kind == "ATTRIBUTE_NOT_WRITABLE"
    mine = await anna.create_session("mine", set_id=hall)
    await anna.action(sign, mine, value="open")
    assert (await anna.call("core.token.read", token_id=sign))["attributes"]["write"] == "open"


async def test_an_action_may_name_the_revision_it_saw(anna: Client) -> None:
    """A command changed meanwhile is not run."""
    hall, _ = await a_place(anna, "hall")
    bell = await a_command(anna, hall, "Bell", read="dong")
    session = await anna.create_session("visit", set_id=hall)
    assert (await anna.action(bell, session, if_match=1)).response["value"] == "dong"
    await anna.call("core.token.edit_attribute", token_id=bell, attribute="read", value="ding")
    assert (await refused(anna, "session.action", session_id=session, token_id=bell, if_match=1)).kind == (
        "CHECKSUM_MISMATCH"
    )


async def test_an_action_that_changes_the_pallet_tells_it(anna: Client) -> None:
    """A script cannot change the pallet, but what it stands for can: the answer brings the new commands."""
    hall, _ = await a_place(anna, "hall")
    await a_command(anna, hall, "Bell", read="dong")
    session = await anna.create_session("visit", set_id=hall)
    first = await anna.ls(session)
    await a_command(anna, hall, "Second", read="x")
    bell = next(command for command in first.commands or [] if command.name == "Bell")
    answer = await anna.action(bell.id, session)
    assert answer.commands is None  # it was offered already when the action began
    again = await anna.ls(session)
    assert again.pallet_version == answer.pallet_version != first.pallet_version


async def test_a_sort_script_is_asked_behind_the_listing(server: Running, anna: Client) -> None:
    """Unknown, a command stands last; once known, in its place; the listing itself runs nothing."""
    hall, _ = await a_place(anna, "hall")
    script = await anna.call("core.script.create", name="place", text="state['runs'] = state.get('runs', 0) + 1\n-5")
    broken = await anna.call("core.script.create", name="broken", text="1 / 0")
    await a_command(anna, hall, "Scripted", sort={"script": script}, read=1)
    await a_command(anna, hall, "Broken", sort={"script": broken}, read=1)
    await a_command(anna, hall, "Plain", sort=1, read=1)
    session = await anna.create_session("visit")
    heard = await anna.subscribe("session.pallet_changed")
    first = await anna.cd(session, set_id=hall)
    assert names(first.commands) == ["Plain", "Broken", "Scripted"]
    assert [command.sort for command in first.commands or [] if command.name == "Scripted"] == [None]
    await heard.next()
    second = await anna.ls(session)
    assert names(second.commands) == ["Scripted", "Plain", "Broken"]
    assert second.pallet_version > first.pallet_version
    for _ in range(3):
        await anna.ls(session)
    assert (await anna.call("core.script.get", script_id=script))["state"] == {"runs": 1}


async def test_a_listing_runs_no_read_attribute(anna: Client) -> None:
    """However often a set is listed, the script behind a read attribute has not run."""
    hall, _ = await a_place(anna, "hall")
    script = await anna.call("core.script.create", name="count", text="state['runs'] = 1\n1")
    await a_command(anna, hall, "Read", read={"script": script})
    session = await anna.create_session("visit", set_id=hall)
    await anna.ls(session)
    assert (await anna.call("core.script.get", script_id=script))["state"] == {}


async def test_gifts_and_session_data_over_the_wire(anna: Client, bob: Client) -> None:
    """A gift is there while one is; what a script keeps for the session in a set is there on return."""
    shop, _ = await a_place(anna, "shop")
    text = "data['basket'] = data.get('basket', []) + [value]\ndata['basket']"
    script = await anna.call("core.script.create", name="add", text=text)
    gift = {"type": "command", "name": "Add", "attributes": {"write": {"script": script}}}
    await anna.call("core.gift.create", set_id=shop, **gift)
    session = (await bob.get_session()).session_id

    async def add(value: str) -> Any:
        listing = await bob.cd(session, set_id=shop)
        command = next(command for command in listing.commands or [] if command.name == "Add")
        return (await bob.action(command.id, session, value=value)).response["value"]

    assert await add("tea") == ["tea"]
    away = await bob.cd(session, to="home")
    assert names(away.commands) == []
    assert (await bob.get_session(session, include=["data"])).data == []
    assert await add("milk") == ["tea", "milk"]
    data = (await bob.get_session(session, include=["data"])).data or []
    assert [token["name"] for token in data] == ["basket"]
    other = await bob.create_session("other", set_id=shop)
    command = next(command for command in (await bob.ls(other)).commands or [] if command.name == "Add")
    assert (await bob.action(command.id, other, value="jam")).response["value"] == ["jam"]


async def test_a_manual_remote_is_answered_by_a_person(server: Running, anna: Client, bob: Client) -> None:
    """The asker goes on; the person hears of it and answers; the asker hears and reads the answer, nobody else."""
    desk, _ = await a_place(anna, "desk")
    remote = await anna.call("core.remote.create", name="help", kind="manual", definition={"question": "Can you help?"})
    command = await a_command(anna, desk, "Ask", write={"remote": remote}, read={"remote": remote}, accepts="string")
    asked, answered = await anna.subscribe("remote.asked"), await bob.subscribe("remote.answered")
    session = await bob.create_session("visit", set_id=desk)
    pressed = await bob.action(command, session, value="my lamp is dark")
    assert pressed.response["state"] == "pending"
    question = await asked.next()
    assert (question.data["value"], question.data["caller"]) == ("my lamp is dark", "bob")
    waiting = (await anna.call("core.remote.activity.list"))["items"]
    assert [item["id"] for item in waiting] == [pressed.response["activity_id"]]
    params = {"token_id": command, "attribute": "read", "set_id": desk}
    assert (await refused(bob, "core.attribute.read", token_id=command, attribute="write")).kind == "ATTRIBUTE_PENDING"
    which = {"ask_id": waiting[0]["ask_id"]}
    assert (await refused(bob, "ask.answer", **which, answer="mine")).kind == "ASK_NOT_FOUND"
    await anna.call("ask.answer", **which, answer="plug it in")
    assert (await answered.next()).data["activity_id"] == waiting[0]["id"]
    assert (await bob.action(command, session)).response["value"] == "plug it in"
    read = await bob.call("core.attribute.read", token_id=command, attribute="write")
    assert (read["value"], read["state"], read["activity_id"]) == ("plug it in", "ok", None)
    assert (await anna.call("core.attribute.read", **params))["state"] == "unknown"
    assert (await refused(anna, "ask.answer", **which, answer="twice")).kind == "ASK_NOT_FOUND"
    rows = await server.services.store.read(lambda tx: tx.all("SELECT question FROM remote_activity"))
    assert rows == [(None,)]


async def test_a_custom_event_is_decided_by_rules(anna: Client, bob: Client) -> None:
    """The rules of the token allow or refuse, a script among them."""
    _, token = await a_place(anna)
    script = await anna.call("core.script.create", name="judge", text="caller['name'] == 'anna'")
    await a_rule(anna, token, {"allow": {"script": script}}, "custom.open", message="not you.")
    assert await anna.call("core.event.send", event="custom.open", token_id=token) == {"allowed": True}
    assert (await refused(bob, "core.event.send", event="custom.open", token_id=token)).kind == "EVENT_REFUSED"
    assert (await refused(bob, "core.event.send", event="set_entering", token_id=token)).kind == "BAD_RULE"


async def test_scripts_and_remotes_are_tried_out(anna: Client, bob: Client) -> None:
    """A trial tells answer, print and state, and changes nothing; only the owner tries; remotes are off by default."""
    script = await anna.call("core.script.create", name="try", text="print('hi')\nstate['n'] = 1\nvalue * 2")
    tried = await anna.call("core.script.run", script_id=script, value=21)
    assert (tried["value"], tried["printed"], tried["kept"]["state"]) == (42, "hi\n", {"n": 1})
    assert (await anna.call("core.script.get", script_id=script))["state"] == {}
    assert (await refused(bob, "core.script.run", script_id=script)).kind == "SCRIPT_NOT_FOUND"
    remote = await anna.call("core.remote.create", name="out", definition={"url": "https://api.example.com/"})
    error = await refused(anna, "core.remote.test", remote_id=remote)
    assert error.kind == "REMOTE_UNAVAILABLE" and "does not allow" in error.message
    assert (await refused(anna, "core.script.create", name="bad", text="x = (")).kind == "BAD_SCRIPT"


async def test_human_mode_hides_and_permits_nothing(anna: Client) -> None:
    """Not-human tokens, types and attributes are left out; naming them, one reads them as before."""
    hall, _ = await a_place(anna, "hall")
    machine = await anna.call("core.type.create", name="gauge", is_human=False)
    lamp = await anna.call("core.type.create", name="lamp")
    await anna.call("core.attribute.create", type=lamp, name="serial", value_type="string", is_human=False, default="7")
    await anna.call("core.attribute.create", type=lamp, name="watts", value_type="number", default=40)
    made = []
    for kind, name in ((machine, "gauge"), (lamp, "lamp")):
        made.append(await anna.call("core.token.create", type=kind, name=name))
    made.append(await anna.call("core.token.create", type="note", name="plumbing", is_human=False))
    made.append(await a_command(anna, hall, "Press", read=1))
    await anna.call("core.set.tokens.add", set_id=hall, token_ids=made[:3])
    session = await anna.create_session("visit", set_id=hall)
    seen = {token.name: token.attributes for token in (await anna.ls(session, human=True)).contents.tokens}
    assert seen == {"anna": {}, "lamp": {"watts": 40}, "Press": {"read": 1}}
    everything = {token.name for token in (await anna.ls(session)).contents.tokens}
    assert everything == {"anna", "lamp", "gauge", "plumbing", "Press"}
    read = await anna.call("core.token.read", token_id=made[1], set_id=hall)
    assert read["attributes"] == {"serial": "7", "watts": 40}
    assert (await anna.call("core.attribute.permissions", token_id=made[1], attribute="serial"))["can_write"]


async def test_human_mode_hides_commands_as_the_session_is_set(anna: Client) -> None:
    """A command not for people is left out of a human session's pallet, and one call's `human` changes no pallet."""
    hall, _ = await a_place(anna, "hall")
    await a_command(anna, hall, "Press", read=1)
    plumbing = {"type": "command", "name": "Plumbing", "attributes": {"read": 2}, "is_human": False}
    token = await anna.call("core.token.create", **plumbing)
    await anna.call("core.set.tokens.add", set_id=hall, token_ids=[token])
    people = await anna.create_session("people", set_id=hall, human=True)
    first = await anna.ls(people)
    assert names(first.commands) == ["Press"]
    assert (await anna.ls(people, human=False)).pallet_version == first.pallet_version
    press = next(command.id for command in first.commands or [] if command.name == "Press")
    assert (await anna.action(press, people)).pallet_version == first.pallet_version
    programs = await anna.create_session("programs", set_id=hall)
    assert names((await anna.ls(programs, human=True)).commands) == ["Plumbing", "Press"]


async def test_twenty_endless_scripts_leave_the_others_alone(server: Running, anna: Client, bob: Client) -> None:
    """While they run, a call that needs no script is answered; each of them ends as one that took too long."""
    script = await anna.call("core.script.create", name="loop", text="while True: pass")
    loops = [anna.send("core.script.run", {"script_id": script}) for _ in range(20)]
    for _ in range(50):
        await bob.call("session.get")
    assert not all(loop.done() for loop in loops)
    ended = await asyncio.gather(*loops, return_exceptions=True)
    assert {getattr(one, "kind", None) for one in ended} == {"SCRIPT_LIMIT"}
