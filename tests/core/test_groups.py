"""A user's own group: what its people may do, and that it stays."""

import pytest

from core import access, attribute_values, groups, listing, sets, tokens, users
from core.errors import BadName, NotWritable, OwnGroup, TokenNotFound, UserNotFound
from tests.core.world import World


def test_a_public_token_in_a_private_set_is_read_by_whoever_reads_the_set(world: World) -> None:
    """By a grant on the set, or in the group of its owner; whose token it is makes no difference."""
    token = world.do("anna", tokens.create, "thing", "flag")
    shared = world.do("anna", sets.create, "shared", is_public=True)
    world.do("anna", sets.add_tokens, shared, [token])
    place = world.do("bob", sets.create, "cellar")
    definer = world.do("bob", sets.show, place).token_id
    world.do("bob", sets.add_tokens, place, [token])
    world.do("anna", sets.remove_tokens, shared, [token])
    carl, group = world.users["carl"].id, world.users["bob"].group_id
    ways = (
        ((tokens.grant, definer, carl, "read"), (tokens.grant, definer, carl, None)),
        ((groups.add, group, carl), (groups.remove, group, carl)),
    )
    for let, unlet in ways:
        with pytest.raises(TokenNotFound):
            world.do("carl", listing.read_one, token)
        world.do("bob", *let)  # type: ignore[arg-type]
        assert world.do("carl", listing.read_one, token).name == "flag"
        world.do("bob", *unlet)  # type: ignore[arg-type]


def test_the_own_group_stays_and_its_user_in_it(world: World) -> None:
    """It is not deleted, its user is neither taken out nor made a plain member, by whoever administers it."""
    anna = world.users["anna"]
    world.do("anna", groups.add, anna.group_id, world.users["bob"].id, True)
    for user in ("anna", "bob"):
        for call, arguments in ((groups.delete, ()), (groups.remove, (anna.id,)), (groups.add, (anna.id, False))):
            with pytest.raises(OwnGroup):
                world.do(user, call, anna.group_id, *arguments)  # type: ignore[arg-type]
    world.do("bob", groups.remove, anna.group_id, world.users["bob"].id)
    assert world.do("anna", groups.read, anna.group_id).members == [groups.Membership(anna.id, True)]


def test_no_group_takes_the_name_of_a_user_s(world: World) -> None:
    """Names that begin with @ are the users' own groups', also of users to come."""
    with pytest.raises(BadName):
        world.do("bob", groups.create, "@dora")
    users.create(world.scene("anna"), "dora")


def test_members_read_and_admins_write_but_do_not_share(world: World) -> None:
    """Only the owner grants; what he gives away goes to the group of its new owner."""
    anna, bob = world.users["anna"], world.users["bob"]
    token = world.do("anna", tokens.create, "note", "diary", {"text": "x"}, False)
    world.do("anna", groups.add, anna.group_id, bob.id)
    assert world.do("bob", users.read, anna.id).name == "anna"
    with pytest.raises(NotWritable):
        world.do("bob", tokens.delete, token)
    world.do("anna", groups.add, anna.group_id, bob.id, True)
    world.do("bob", attribute_values.edit, token, "text", "y")
    with pytest.raises(NotWritable):
        world.do("bob", tokens.grant, token, world.users["carl"].id, "read")
    world.do("anna", tokens.give, token, world.users["carl"].id)
    with pytest.raises(TokenNotFound):
        world.do("bob", access.readable_token, token)  # type: ignore[arg-type]
    with pytest.raises(UserNotFound):
        world.do("carl", users.read, anna.id)
