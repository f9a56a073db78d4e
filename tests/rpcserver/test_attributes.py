"""Parents, relations and actions of attributes, over a real socket."""

from typing import Any

from rpcserver.client import Client
from tests.builders import dump
from tests.conftest import Running
from tests.rpcserver.test_places import refused


async def a_room(anna: Client, **attributes: dict[str, Any]) -> tuple[str, str]:
    """Return a public set of anna's whose defining token is of a type with these attributes, and that token."""
    kind = await anna.call("core.type.create", name="room")
    for name, options in attributes.items():
        await anna.call("core.attribute.create", type=kind, name=name, **options)
    token = await anna.call("core.token.create", type=kind, name="room")
    return await anna.call("core.set.create", token_id=token), token


async def test_an_allergic_place_refuses_a_visitor_and_nothing_changes(
    server: Running, anna: Client, bob: Client
) -> None:
    """The rule and what is allergic to what are told; without it, or where something attracts, he comes in."""
    relations = {"allergies": ["smoker"], "affinities": ["invited"]}
    place, _ = await a_room(anna, air={"value_type": "string", "relations": relations})
    him = (await bob.call("core.user.read"))["token_id"]
    await bob.call("core.token.edit_attribute", token_id=him, attribute="smoker", value=True)
    await bob.ls()
    before = await dump(server.app.store)
    error = await refused(bob, set_id=place)
    assert (error.kind, error.data["rule"], error.data["set_id"]) == ("ENTER_REFUSED", "allergies", place)
    assert "'air' is allergic to 'smoker'" in error.message
    assert await dump(server.app.store) == before
    await bob.call("core.token.edit_attribute", token_id=him, attribute="invited", value=True)
    assert (await bob.cd(set_id=place)).current_set.id == place


async def test_a_place_says_that_somebody_is_inside(anna: Client, bob: Client) -> None:
    """An action runs with the move: whoever hears of the one sees the other."""
    busy, free = (
        {"event": event, "target": "state", "change": {"value": state}}
        for event, state in (("set_entered", "busy"), ("set_left", "free"))
    )
    place, token = await a_room(
        anna,
        state={"value_type": "string", "default": "free"},
        come={"value_type": "action", "default": busy},
        go={"value_type": "action", "default": free},
    )

    async def state() -> Any:
        return (await anna.call("core.token.read", token_id=token))["attributes"]["state"]

    await bob.cd(set_id=place)
    assert await state() == "busy"
    await bob.cd(to="home")
    assert await state() == "free"
    session = await bob.create_session("inside", set_id=place)
    assert await state() == "busy"
    await bob.destroy_session(session)
    assert await state() == "free"


async def test_what_makes_no_sense_is_refused(anna: Client) -> None:
    """Each with its kind: unknown members, a parent that is not there or read by others, a sibling that is missing."""
    group = await anna.call("core.group.create", name="staff")
    kind = await anna.call("core.type.create", name="ware")
    await anna.call("core.attribute.create", type=kind, name="price", value_type="number", read_groups=[group])
    own = (await anna.call("core.user.read"))["group_id"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"relations": {"alergies": ["dog"]}}, "INVALID_PARAMS"),
        ({"relations": {"allergies": "dog"}}, "INVALID_PARAMS"),
        ({"relations": {"allergies": ["dog"], "affinities": ["dog"]}}, "BAD_ATTRIBUTE"),
        ({"parent": f"{kind}.nothing"}, "ATTRIBUTE_NOT_FOUND"),
        ({"parent": f"{kind}.price", "read_groups": [own]}, "BAD_ATTRIBUTE"),
        ({"value_type": "action", "default": {"event": "set_entered"}}, "BAD_VALUE"),
        ({"pattern": "(?=x)", "value_type": "string"}, "BAD_VALUE"),
    ]
    for options, expected in wrong:
        params = {"type": kind, "name": "more", "value_type": "number", **options}
        assert (await refused(anna, "core.attribute.create", **params)).kind == expected
    siblings = {"required_siblings": ["price"]}
    await anna.call("core.attribute.create", type=kind, name="tax", value_type="number", relations=siblings)
    error = await refused(anna, "core.token.create", type=kind, name="x", attributes={"tax": 1})
    assert (error.kind, error.data["attribute"]) == ("BAD_VALUE", "tax")
    listed = await anna.call("core.attribute.list", type=kind)
    assert listed[1]["relations"]["required_siblings"] == ["price"] and listed[1]["parent_id"] is None
