"""Live values: for whom, where, and on or off."""

import pytest

from core import access, attribute_values, groups, listing, sets, tokens, types
from core.errors import (
    AttributeNotFound,
    AttributeNotReadable,
    AttributeNotWritable,
    ChecksumMismatch,
    NotWritable,
    ScriptNotFound,
    TokenInUse,
    TokenNotFound,
)
from tests.core.world import World


def a_stage(world: World) -> tuple[str, str, str]:
    """Return a public set of anna's, a token in it with a secret and a note, and the group that reads the secret."""
    group = world.do("anna", groups.create, "staff")
    name = world.do("anna", types.create, "safe")
    world.do("anna", types.declare, name, "secret", "string", read_groups=[group], write_groups=[group])
    world.do("anna", types.declare, name, "note", "string", default="nothing")
    place = world.do("anna", sets.create, "hall", world.home("anna"), is_public=True)
    token = world.do("anna", tokens.create, name, "safe", {"secret": "1234"})
    world.do("anna", sets.add_tokens, place, [token])
    return place, token, group


def values(world: World, user: str, place: str) -> dict[str, object]:
    """Return what a user sees of the one token there."""
    entries = world.do(user, listing.read, place, kind="token").entries
    assert len(entries) == 1
    return entries[0].attributes


def test_unreadable_attributes_are_silently_left_out(world: World) -> None:
    """Who is not in the group does not learn that there is a secret; in the group, he reads it. Defaults are shown."""
    place, token, group = a_stage(world)
    assert values(world, "anna", place) == {"secret": "1234", "note": "nothing"}
    assert values(world, "bob", place) == {"note": "nothing"}
    assert "secret" not in world.do("bob", listing.read_one, token, place).attributes
    with pytest.raises(AttributeNotFound):
        attribute_values.readable(world.scene("bob"), access.readable_token(world.scene("bob"), token), "secret", place)
    world.do("anna", groups.add, group, world.users["bob"].id)
    assert values(world, "bob", place)["secret"] == "1234"


def test_writing_goes_by_group_or_by_the_token(world: World) -> None:
    """With write groups its members write, whoever owns the token; without, who may write the token."""
    place, token, group = a_stage(world)
    world.do("anna", groups.add, group, world.users["bob"].id)
    world.do("bob", attribute_values.edit, token, "secret", "5678")
    assert values(world, "anna", place)["secret"] == "5678"
    with pytest.raises(AttributeNotWritable):
        world.do("bob", attribute_values.edit, token, "note", "mine")
    assert world.do("bob", attribute_values.permissions, token, "note", place).can_write is False
    world.do("anna", tokens.grant, token, world.users["bob"].id, "write")
    world.do("bob", attribute_values.edit, token, "note", "mine")
    assert world.do("bob", attribute_values.permissions, token, "note", place).can_write is True


def test_a_value_holds_in_one_set_alone(world: World) -> None:
    """A value for a set hides the one everywhere there, and only there."""
    place, token, _ = a_stage(world)
    other = world.do("anna", sets.create, "cellar", world.home("anna"), is_public=True)
    world.do("anna", sets.add_tokens, other, [token])
    world.do("anna", attribute_values.edit, token, "note", "here", place)
    assert values(world, "bob", place)["note"] == "here"
    assert values(world, "bob", other)["note"] == "nothing"
    world.do("anna", attribute_values.edit, token, "note", None, place)
    assert values(world, "bob", place)["note"] == "nothing"


def test_an_attribute_is_turned_off_and_on(world: World) -> None:
    """Off, nobody reads or writes it, the owner included; on again, its value is what it was."""
    place, token, _ = a_stage(world)
    world.do("anna", attribute_values.edit, token, "note", "kept")
    world.do("anna", attribute_values.turn, token, "note", False)
    assert "note" not in values(world, "anna", place)
    with pytest.raises(AttributeNotWritable):
        world.do("anna", attribute_values.edit, token, "note", "x")
    with pytest.raises(AttributeNotReadable):
        attribute_values.readable(world.scene("anna"), access.readable_token(world.scene("anna"), token), "note", place)
    with pytest.raises(NotWritable):
        world.do("bob", attribute_values.turn, token, "note", True)
    world.do("anna", attribute_values.turn, token, "note", True)
    assert values(world, "anna", place)["note"] == "kept"


def test_a_plain_token_s_attribute_is_turned_off_too(world: World) -> None:
    """A token of a standard type is listed without what is off, like any other."""
    place = world.do("anna", sets.create, "hall", world.home("anna"), is_public=True)
    token = world.do("anna", tokens.create, "note", "paper", {"text": "x", "more": 1})
    world.do("anna", sets.add_tokens, place, [token])
    world.do("anna", attribute_values.turn, token, "text", False, place)
    assert values(world, "bob", place) == {"more": 1}


def test_an_attribute_may_need_others_in_the_set(world: World) -> None:
    """A list of needs is met by any of them, an object by all; without a set none is met."""
    name = world.do("anna", types.create, "door")
    world.do("anna", types.declare, name, "code", "string", read_needs=["lamp", "torch"], write_needs={"lamp": True})
    for word in ("lamp", "torch"):
        kind = world.do("anna", types.create, word)
        world.do("anna", types.declare, kind, word, "number")
    place = world.do("anna", sets.create, "cave", world.home("anna"), is_public=True)
    door = world.do("anna", tokens.create, name, "door", {"code": "7"})
    world.do("anna", sets.add_tokens, place, [door])
    assert "code" not in values(world, "anna", place)
    torch = world.do("anna", tokens.create, "anna.torch", "torch")
    world.do("anna", sets.add_tokens, place, [torch])
    assert world.do("anna", listing.read_one, door, place).attributes == {"code": "7"}
    assert world.do("anna", listing.read_one, door).attributes == {}
    with pytest.raises(AttributeNotWritable):
        world.do("anna", attribute_values.edit, door, "code", "8", place)
    world.do("anna", sets.add_tokens, place, [world.do("anna", tokens.create, "anna.lamp", "lamp")])
    world.do("anna", attribute_values.edit, door, "code", "8", place)


def test_a_revision_grows_with_the_token(world: World) -> None:
    """A write that names the revision it saw is refused once somebody else has written."""
    _, token, _ = a_stage(world)
    seen = world.do("anna", listing.read_one, token).revision
    after = world.do("anna", attribute_values.edit, token, "note", "a", if_match=seen).revision
    assert after != seen and world.do("anna", listing.read_one, token).revision == after
    with pytest.raises(ChecksumMismatch):
        world.do("anna", attribute_values.edit, token, "note", "b", if_match=seen)


def test_a_token_is_given_away(world: World) -> None:
    """The new owner may all, the old one nothing more; the set it defines goes along."""
    place, token, _ = a_stage(world)
    world.do("anna", tokens.give, token, world.users["bob"].id)
    world.do("bob", attribute_values.edit, token, "note", "his")
    with pytest.raises(AttributeNotWritable):
        world.do("anna", attribute_values.edit, token, "note", "hers")
    definer = world.do("anna", sets.show, place).token_id
    with pytest.raises(NotWritable):
        world.do("bob", tokens.give, definer, world.users["bob"].id)
    world.do("anna", tokens.give, definer, world.users["bob"].id)
    assert world.do("bob", sets.show, place).rights.is_owner
    assert not world.do("anna", sets.show, place).rights.can_write


def test_what_makes_a_user_is_not_given_away(world: World) -> None:
    """A user keeps his token and his home."""
    anna, bob = world.users["anna"], world.users["bob"].id
    for token_id in (anna.token_id, world.do("anna", sets.show, anna.home_set_id).token_id):
        with pytest.raises(TokenInUse):
            world.do("anna", tokens.give, token_id, bob)
    with pytest.raises(TokenNotFound):
        world.do("bob", tokens.give, world.do("anna", tokens.create, "note", "private"), bob)


def test_a_script_of_somebody_else_answers_for_nobody(world: World) -> None:
    """An attribute names only scripts and remotes that the writer may use."""
    from core import scripts

    mine = world.do("anna", scripts.create, "mine", "1")
    shared = world.do("anna", scripts.create, "shared", "2", is_shared=True)
    with pytest.raises(ScriptNotFound):
        world.do("bob", tokens.create, "command", "steal", {"read": {"script": mine}})
    world.do("bob", tokens.create, "command", "borrow", {"read": {"script": shared}})
