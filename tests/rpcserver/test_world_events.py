"""core.event: what happens in the world, told after the commit to who stands there and may read it."""

from typing import Any

import pytest

from rpcserver.client import CallError, Client, Subscription
from tests.conftest import Running
from tests.rpcserver.test_places import a_place, a_rule, refused

ALWAYS_NO: dict[str, Any] = {"deny": {"not": {"about": "nothing"}}}


async def heard(listening: Subscription, by: Client) -> list[dict[str, Any]]:
    """Return what a subscription has heard by now: a set made by its own client closes the list."""
    mark = await by.call("core.set.create", name="mark")
    told = []
    while (event := await listening.next()).data.get("set_id") != mark:
        assert event.topic == "core.event"
        told.append(event.data)
    return told


async def test_whoever_stands_there_hears_it(anna: Client, bob: Client) -> None:
    """Every change of the place and its tokens, by its name, with ids and never a value, once."""
    room, _ = await a_place(anna, "room")
    await bob.create_session("visit", set_id=room)
    listening = await bob.subscribe("core.event")
    token = await anna.call("core.token.create", type="note", name="note", attributes={"text": "a"}, set_id=room)
    await anna.call("core.token.edit_attribute", token_id=token, attribute="text", value="secret words")
    await anna.call("core.token.edit_attribute", token_id=token, attribute="text", value="here", set_id=room)
    await anna.call("core.token.turn_attribute", token_id=token, attribute="text", is_on=False)
    child = await anna.call("core.set.create", name="child", parent_id=room, is_public=True)
    definer = (await anna.call("core.set.show", set_id=child))["token_id"]
    yard, link = await a_place(anna, "yard")
    await anna.call("core.set.link.add", set_id=room, target_id=yard)
    await anna.call("core.set.link.remove", set_id=room, target_id=yard)
    other = await anna.call("core.token.create", type="note", name="other")
    await anna.call("core.set.tokens.add", set_id=room, token_ids=[other])
    await anna.call("core.set.tokens.remove", set_id=room, token_ids=[other])
    await anna.call("core.token.delete", token_id=token)
    await anna.call("core.set.delete", set_id=child)
    assert await heard(listening, bob) == [
        {"event": "token_created", "set_id": room, "token_id": token},
        {"event": "value_changed", "token_id": token, "attribute": "text"},
        {"event": "value_changed", "set_id": room, "token_id": token, "attribute": "text"},
        {"event": "value_changed", "token_id": token, "attribute": "text"},
        {"event": "set_created", "set_id": child, "token_id": definer},
        {"event": "child_added", "set_id": room, "token_id": definer},
        {"event": "link_created", "set_id": room, "token_id": link},
        {"event": "link_destroyed", "set_id": room, "token_id": link},
        {"event": "token_added", "set_id": room, "token_id": other},
        {"event": "token_removed", "set_id": room, "token_id": other},
        {"event": "token_destroyed", "token_id": token},
        {"event": "set_destroyed", "set_id": child, "token_id": definer},
    ]


async def test_what_one_may_not_read_one_does_not_hear_of(server: Running, anna: Client, bob: Client) -> None:
    """A private token, an attribute for a group, one that a rule keeps back: told to those who may, there, alone."""
    carl = await server.client("carl")
    room, _ = await a_place(anna, "room")
    group = await anna.call("core.group.create", name="friends")
    await anna.call("core.group.member.add", group_id=group, user_id=(await carl.call("auth.whoami"))["user_id"])
    kind = await anna.call("core.type.create", name="lamp")
    for name, groups in (("open", None), ("closed", [group])):
        await anna.call("core.attribute.create", type=kind, name=name, value_type="number", read_groups=groups)
    lamp = await anna.call("core.token.create", type=kind, name="lamp", set_id=room)
    ruled = await anna.call("core.token.create", type="note", name="ruled", set_id=room)
    await a_rule(anna, ruled, {"allow": {"group": group}}, "attribute_reading")
    for client in (bob, carl):
        await client.create_session("visit", set_id=room)
    bobs, carls = await bob.subscribe("core.event"), await carl.subscribe("core.event")
    private = await anna.call("core.token.create", type="note", name="private", is_public=False, set_id=room)
    await anna.call("core.token.edit_attribute", token_id=private, attribute="text", value=1)
    for name in ("closed", "open"):
        await anna.call("core.token.edit_attribute", token_id=lamp, attribute=name, value=1)
    await anna.call("core.token.turn_attribute", token_id=lamp, attribute="closed", is_on=False)
    await anna.call("core.token.edit_attribute", token_id=ruled, attribute="text", value=1)
    await anna.call("core.set.create", name="hidden", parent_id=room)
    assert await heard(bobs, bob) == [{"event": "value_changed", "token_id": lamp, "attribute": "open"}]
    assert [(told["token_id"], told["attribute"]) for told in await heard(carls, carl)] == [
        (lamp, "closed"),
        (lamp, "open"),
        (lamp, "closed"),
        (ruled, "text"),
    ]


async def test_entering_and_leaving_are_told_once(anna: Client, bob: Client) -> None:
    """As session.contents_changed to those who stand there, and as nothing else."""
    room, _ = await a_place(anna, "room")
    await anna.create_session("host", set_id=room)
    listening = await anna.subscribe("core.*", "session.*")
    session = await bob.create_session("visit", set_id=room)
    await bob.cd(session, to="home")
    told = [await listening.next() for _ in range(2)]
    assert [(event.topic, event.data["change"]) for event in told] == [
        ("session.contents_changed", "entered"),
        ("session.contents_changed", "left"),
    ]
    assert "set_entered" in await anna.call("core.event.list")


async def test_the_end_of_a_set_reaches_those_inside_and_around_once(
    server: Running, anna: Client, bob: Client
) -> None:
    """Who stands in it, who stands where it stood, and its owner where it stood nowhere."""
    hall, _ = await a_place(anna, "hall")
    room = await anna.call("core.set.create", name="room", parent_id=hall, is_public=True)
    carl = await server.client("carl")
    await carl.create_session("around", set_id=hall)
    await bob.create_session("inside", set_id=room)
    await bob.create_session("around", set_id=hall)
    listening = [await client.subscribe("core.event") for client in (anna, bob, carl)]
    await anna.call("core.set.delete", set_id=room)
    told = [await heard(one, client) for one, client in zip(listening, (anna, bob, carl), strict=True)]
    assert [[one["event"] for one in each] for each in told] == [[], ["set_destroyed"], ["set_destroyed"]]


async def test_what_nobody_hears_is_no_row(server: Running, anna: Client, bob: Client) -> None:
    """Without a listener nothing is kept; nor of a place where no listener stands; nor of what was refused."""
    room, door = await a_place(anna, "room")

    async def rows() -> list[Any]:
        return await server.services.store.read(lambda tx: tx.all("SELECT data FROM events WHERE topic = 'core.event'"))

    await bob.create_session("visit", set_id=room)
    await anna.call("core.token.create", type="note", name="note", set_id=room)
    assert await rows() == []
    listening = await anna.subscribe("core.event")
    await anna.call("core.token.create", type="note", name="note", set_id=room)
    assert await rows() == []
    await anna.create_session("host", set_id=room)
    await a_rule(anna, door, ALWAYS_NO, "token_adding")
    assert (await refused(anna, "core.token.create", type="note", name="n", set_id=room)).kind == "EVENT_REFUSED"
    assert await heard(listening, anna) == []


async def test_a_client_that_comes_back_hears_what_it_missed(anna: Client, bob: Client, server: Running) -> None:
    """The rows outlive the connection; what happened is told once, in order."""
    room, _ = await a_place(anna, "room")
    await bob.create_session("visit", set_id=room)
    listening = await bob.subscribe("core.event")
    position = (listening.epoch, listening.seq)
    await bob.close()
    tokens = [
        await anna.call("core.token.create", type="note", name=f"note {number}", set_id=room) for number in range(3)
    ]
    again = await server.client("bob")
    resumed = await again.subscribe("core.event", since=position)
    assert resumed.recovered
    assert [told["token_id"] for told in await heard(resumed, again)] == tokens


@pytest.mark.parametrize("event", ["token_adding", "link_creating", "child_adding", "set_destroying"])
async def test_a_refusal_tells_the_event_the_rule_and_how_many(anna: Client, event: str) -> None:
    """Over the wire: kind, event, place, first rule with its message, and the number of refusals."""
    room, door = await a_place(anna, "room")
    for name in ("first", "second", "third"):
        await a_rule(anna, door, ALWAYS_NO, event, name=name, message=f"{name} says no.")
    note = await anna.call("core.token.create", type="note", name="note")
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "token_adding": ("core.set.tokens.add", {"set_id": room, "token_ids": [note]}),
        "link_creating": (
            "core.set.link.add",
            {"set_id": room, "target_id": (await anna.call("auth.whoami"))["home_set"]},
        ),
        "child_adding": ("core.set.create", {"name": "below", "parent_id": room}),
        "set_destroying": ("core.set.delete", {"set_id": room}),
    }
    method, params = calls[event]
    with pytest.raises(CallError) as caught:
        await anna.call(method, **params)
    error = caught.value
    assert error.kind == "EVENT_REFUSED" and "first says no." in error.message
    expected = {"event": event, "set_id": room, "rule": "first", "refusals": 3}
    assert {name: error.data[name] for name in expected} == expected
