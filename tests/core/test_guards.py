"""Rules for every event: asked before anything is written, and nobody is told more than that it was refused."""

from collections.abc import Callable
from typing import Any

import pytest

from core import access, attribute_values, commands, groups, listing, presence, rules, sets, tokens, types
from core.errors import AttributeNotFound, BadRule, EventRefused, NotMember, NotWritable, SetNotEmpty, SetNotFound
from core.rules import EVENTS
from tests.core.world import World

NEVER: dict[str, Any] = {"deny": {"not": {"about": "nothing"}}}
ALWAYS: dict[str, Any] = {"allow": {"not": {"about": "nothing"}}}


def a_set(world: World, name: str = "vault", **options: Any) -> tuple[str, str]:
    """Return a public set of anna's and its defining token."""
    set_id = world.do("anna", sets.create, name, world.home("anna"), is_public=True, **options)
    return set_id, world.do("anna", sets.show, set_id).token_id


def a_kind(world: World) -> str:
    """Return a type of anna's, a heir of another, whose tokens have a price."""
    far = world.do("anna", types.create, "goods")
    world.do("anna", types.declare, far, "price", "number", default=1)
    return world.do("anna", types.create, "lamp", [far])


def a_rule(world: World, event: str, decision: dict[str, Any], **on: Any) -> str:
    """Make a rule of anna's."""
    return world.do("anna", rules.create, event, decision, **on)


def everything(world: World) -> dict[str, list[Any]]:
    """Return every row."""
    tables = [row[0] for row in world.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: world.all(f"SELECT * FROM {table}") for table in tables}  # noqa: S608


def build(world: World) -> dict[str, tuple[dict[str, str], Callable[[], Any]]]:
    """Return, by event, what its rule stands on, and what makes it happen."""
    kind = a_kind(world)
    vault, door = a_set(world)
    other, _ = a_set(world, "other")
    lamp = world.do("anna", tokens.create, kind, "lamp", {"price": 5})
    spare = world.do("anna", tokens.create, kind, "spare")
    world.do("anna", sets.add_tokens, vault, [lamp])
    world.do("anna", sets.link, vault, world.home("anna"))
    on_door, on_lamp = {"token_id": door}, {"token_id": lamp}
    made = {"type": kind}

    def anna(call: Any, *arguments: Any, **options: Any) -> Callable[[], Any]:
        # Without a savepoint around it: what was written before a refusal would stay.
        return lambda: call(world.scene("anna"), *arguments, **options)

    return {
        "set_creating": ({"token_id": spare}, anna(sets.create, token_id=spare)),
        "set_destroying": (on_door, anna(sets.delete, vault)),
        "token_adding": (on_door, anna(sets.add_tokens, vault, [spare])),
        "token_removing": (on_door, anna(sets.remove_tokens, vault, [lamp])),
        "child_adding": (on_door, anna(sets.change_parent, other, vault)),
        "link_creating": (on_door, anna(sets.link, vault, other)),
        "link_destroying": (on_door, anna(sets.unlink, vault, world.home("anna"))),
        "token_creating": (made, anna(tokens.create, kind, "more", {"price": 2})),
        "token_destroying": (on_lamp, anna(tokens.delete, lamp)),
        "value_changing": (on_lamp, anna(attribute_values.edit, lamp, "price", 7)),
    }


@pytest.mark.parametrize("event", sorted(set(EVENTS) - {"set_entering", "set_leaving", "attribute_reading"}))
def test_a_rule_refuses_before_anything_is_written(world: World, event: str) -> None:
    """The event, its place, the rule and the number of refusals are told, no row has changed; without rules it goes."""
    on, happen = build(world)[event]
    first = a_rule(world, event, NEVER, name="first", message="not today.", **on)
    second = a_rule(world, event, NEVER, name="second", **on)
    a_rule(world, event, ALWAYS, **on)
    before = everything(world)
    with pytest.raises(EventRefused, match="not today") as caught:
        happen()
    assert everything(world) == before
    told = caught.value
    assert (told.event, told.rule, told.refusals) == (event, "first", 2)
    assert (told.set_id is None) != (told.token_id is None) or event == "token_creating"
    for rule in (first, second):
        world.do("anna", rules.delete, rule)
    happen()
    assert everything(world) != before


def test_rules_of_a_type_hold_for_its_heirs(world: World) -> None:
    """Making, changing and deleting a token asks the rules of all its ancestors, of another user's type too."""
    kind = a_kind(world)
    mine = world.do("bob", types.create, "torch", [kind])
    torch = world.do("bob", tokens.create, mine, "torch", {"price": 3})
    cheap = {"allow": {"attribute": {"name": "price", "maximum": 10}}}
    for event in ("token_creating", "value_changing"):
        a_rule(world, event, cheap, type="anna.goods", message="too dear.")
    a_rule(world, "token_destroying", NEVER, type="anna.goods")
    with pytest.raises(EventRefused, match="too dear"):
        world.do("bob", attribute_values.edit, torch, "price", 11)
    with pytest.raises(EventRefused, match="too dear"):
        world.do("bob", tokens.create, mine, "golden", {"price": 99})
    with pytest.raises(EventRefused):
        world.do("bob", tokens.delete, torch)
    place, _ = a_set(world)
    with pytest.raises(EventRefused, match="too dear"):
        world.do("anna", presence.create_gift, place, kind, "gift", {"price": 99})
    world.do("bob", attribute_values.edit, torch, "price", 10)
    world.do("bob", tokens.create, mine, "plain")  # the default counts
    a_rule(world, "token_creating", {"deny": {"attribute": {"name": "price", "is": 1}}}, type="anna.goods")
    with pytest.raises(EventRefused):
        world.do("bob", tokens.create, mine, "plain")


def test_a_rule_says_which_attribute_and_whose(world: World) -> None:
    """By the attribute in question, by the token as it is and as it would be, and by the caller's own token."""
    kind = a_kind(world)
    lamp = world.do("anna", tokens.create, kind, "lamp", {"price": 5, "description": "old"})
    growing = {"attribute": {"name": "price", "of": "visitor", "minimum": 5}}
    a_rule(world, "value_changing", {"allow": {"any": [{"not": {"about": "price"}}, growing]}}, token_id=lamp)
    world.do("anna", attribute_values.edit, lamp, "description", "new")
    world.do("anna", attribute_values.edit, lamp, "price", 6)
    with pytest.raises(EventRefused):
        world.do("anna", attribute_values.edit, lamp, "price", 4)
    with pytest.raises(EventRefused):
        world.do("anna", attribute_values.edit, lamp, "price", None)
    a_rule(
        world,
        "value_changing",
        {"deny": {"attribute": {"name": "description", "of": "token", "is": "sealed"}}},
        token_id=lamp,
    )
    world.do("anna", attribute_values.edit, lamp, "description", "sealed")
    with pytest.raises(EventRefused):
        world.do("anna", attribute_values.edit, lamp, "description", "opened")
    desk = world.do("anna", tokens.create, kind, "desk")
    a_rule(
        world,
        "value_changing",
        {"allow": {"attribute": {"name": "level", "of": "caller", "minimum": 3}}},
        token_id=desk,
    )
    with pytest.raises(EventRefused):
        world.do("anna", attribute_values.turn, desk, "price", False)
    world.do("anna", attribute_values.edit, world.users["anna"].token_id, "level", 3)
    world.do("anna", attribute_values.turn, desk, "price", False)
    with pytest.raises(BadRule, match="'of' must be"):
        a_rule(world, "value_changing", {"allow": {"attribute": {"name": "a", "of": "me", "is": 1}}}, token_id=desk)


def test_what_a_rule_keeps_from_a_reader_is_left_out(world: World) -> None:
    """In listings, single reads and pallets as if it were not there; asked for by name it is unknown."""
    room, _ = a_set(world)
    friends = world.do("anna", groups.create, "friends")
    kind = a_kind(world)
    plain = world.do("anna", tokens.create, "note", "plain", {"secret": 1, "open": 2})
    typed = world.do("anna", tokens.create, kind, "typed", {"price": 9})
    bell = world.do("anna", tokens.create, "command", "bell", {"description": "hush", "read": 1})
    other = world.do("anna", tokens.create, "note", "other", {"secret": 3})
    world.do("anna", sets.add_tokens, room, [plain, typed, bell, other])
    for about, on in (
        ("secret", {"token_id": plain}),
        ("price", {"type": "anna.goods"}),
        ("description", {"token_id": bell}),
    ):
        a_rule(world, "attribute_reading", {"allow": {"any": [{"not": {"about": about}}, {"group": friends}]}}, **on)

    def seen(user: str) -> dict[str, Any]:
        return {entry.name: entry.attributes for entry in world.do(user, listing.read, room).entries}

    assert seen("bob") == {"plain": {"open": 2}, "typed": {}, "bell": {"read": 1}, "other": {"secret": 3}}
    assert world.do("bob", listing.read_one, plain).attributes == {"open": 2}
    assert world.do("bob", listing.read_one, typed, room).attributes == {}
    assert [command.description for command in world.do("bob", commands.offered, room)] == [""]
    assert not world.do("bob", attribute_values.permissions, plain, "secret").can_read
    with pytest.raises(AttributeNotFound):
        world.do(
            "bob", lambda scene: attribute_values.readable(scene, access.readable_token(scene, plain), "secret", room)
        )
    world.do("anna", groups.add, friends, world.users["bob"].id)
    assert seen("bob") == {
        "plain": {"open": 2, "secret": 1},
        "typed": {"price": 9},
        "bell": {"read": 1, "description": "hush"},
        "other": {"secret": 3},
    }


def test_a_listing_without_such_rules_asks_nothing(world: World) -> None:
    """No statement more for a page, however many tokens, and one for a page when rules of others exist."""
    room, _ = a_set(world)
    for number in range(20):
        token = world.do("anna", tokens.create, "note", f"note {number}", {"a": 1})
        world.do("anna", sets.add_tokens, room, [token])

    def statements() -> int:
        seen: list[str] = []
        world.connection.set_trace_callback(seen.append)
        world.do("bob", listing.read, room)
        world.connection.set_trace_callback(None)
        return len([one for one in seen if one.startswith("SELECT")])

    before = statements()
    elsewhere = world.do("anna", tokens.create, "note", "elsewhere")
    a_rule(world, "attribute_reading", NEVER, token_id=elsewhere)
    assert statements() == before + 1


def test_none_is_put_in_when_one_is_refused(world: World) -> None:
    """Of several tokens put in together, none comes in when a rule keeps one out."""
    room, door = a_set(world)
    a_rule(world, "token_adding", {"deny": {"type": "cat"}}, token_id=door)
    names = ("thing", "cat")
    with pytest.raises(EventRefused):
        world.do("anna", sets.add_tokens, room, [world.do("anna", tokens.create, name, name) for name in names])
    assert world.do("anna", listing.read, room).entries == []


def test_a_set_is_made_with_links_and_rules_are_asked_for_each(world: World) -> None:
    """What is linked at once is linked as one by one, and refused as a whole."""
    hall, _ = a_set(world, "hall")
    mine = world.home("anna")
    made = world.do("anna", sets.create, "linked", links=[hall, mine])
    assert [entry.set_id for entry in world.do("anna", listing.links, made).entries] == [mine, hall]
    token = world.do("anna", tokens.create, "note", "door")
    a_rule(world, "link_creating", NEVER, token_id=token)
    before = everything(world)
    with pytest.raises(EventRefused):
        world.do("anna", sets.create, token_id=token, links=[hall])
    with pytest.raises(SetNotFound):
        world.do("anna", sets.create, "linked", links=["set_none"])
    assert everything(world) == before


def test_a_token_is_made_where_it_is_to_stand(world: World) -> None:
    """In a set one can write, and only if the set takes it, as it will be."""
    room, door = a_set(world)
    a_rule(world, "token_adding", {"allow": {"attribute": {"name": "size", "maximum": 3}}}, token_id=door)
    world.do("anna", tokens.create, "box", "small", {"size": 2}, set_id=room)
    before = everything(world)
    with pytest.raises(EventRefused):
        world.do("anna", tokens.create, "box", "large", {"size": 4}, set_id=room)
    with pytest.raises(NotWritable):
        world.do("bob", tokens.create, "box", "bob's", {"size": 1}, set_id=room)
    assert everything(world) == before
    assert [entry.name for entry in world.do("bob", listing.read, room).entries] == ["small"]


def test_permanent_places_are_given_up_by_force_alone(world: World) -> None:
    """Only by the set's owner, whatever its rules say; and a user's place in his home never."""
    room, door = a_set(world)
    pillar = world.do("anna", tokens.create, "thing", "pillar")
    assert world.do("anna", sets.add_tokens, room, [pillar], is_sticky=True) == [pillar]
    a_rule(world, "token_removing", NEVER, token_id=door)
    with pytest.raises(EventRefused):
        world.do("anna", sets.remove_tokens, room, [pillar])
    with pytest.raises(NotWritable):
        world.do("bob", sets.remove_tokens, room, [pillar], is_forced=True)
    assert world.do("anna", sets.remove_tokens, room, [pillar], is_forced=True) == [pillar]
    for is_forced in (False, True):
        with pytest.raises(NotMember):
            world.do(
                "anna", sets.remove_tokens, world.home("anna"), [world.users["anna"].token_id], is_forced=is_forced
            )


def test_truncating_leaves_visitors_children_and_what_is_anothers(world: World) -> None:
    """One's own tokens that stand nowhere else go; visitors, their gifts and permanent places stay; rules are asked."""
    room, door = a_set(world)
    own = world.do("anna", tokens.create, "note", "own", set_id=room)
    theirs = world.do("bob", tokens.create, "note", "bob's")
    world.do("bob", tokens.grant, theirs, world.users["anna"].id, "read")
    world.do("anna", sets.add_tokens, room, [theirs])
    pillar = world.do("anna", tokens.create, "thing", "pillar")
    world.do("anna", sets.add_tokens, room, [pillar], is_sticky=True)
    world.do("anna", presence.create_gift, room, "note", "flower")
    world.do("bob", presence.enter, "s_1", room)
    child = world.do("anna", sets.create, "child", room)
    with pytest.raises(SetNotEmpty):
        world.do("anna", sets.truncate, room)
    world.do("anna", sets.delete, child)
    guard = a_rule(world, "token_destroying", NEVER, token_id=own)
    before = everything(world)
    with pytest.raises(EventRefused):
        world.do("anna", sets.truncate, room)
    assert everything(world) == before
    world.do("anna", rules.delete, guard)
    world.do("anna", sets.truncate, room)
    assert sorted(entry.name for entry in world.do("bob", listing.read, room).entries) == ["bob", "flower", "pillar"]
    assert access.find_token(world.tx, own) is None and access.find_token(world.tx, theirs) is not None
    assert world.do("bob", presence.leave, "s_1") == (room, True)


def test_a_session_s_sets_are_discarded_whatever_stands_on_them(world: World) -> None:
    """No rule and no set below keeps a session alive; only its owner discards a set."""
    shelf, door = a_set(world, "data")
    a_rule(world, "set_destroying", NEVER, token_id=door)
    note = world.do("anna", tokens.create, "note", "note", set_id=shelf)
    a_rule(world, "token_destroying", NEVER, token_id=note)
    child = world.do("anna", sets.create, "child", shelf)
    with pytest.raises(NotWritable):
        world.do("bob", sets.discard, shelf)
    world.do("anna", sets.discard, shelf)
    assert world.do("anna", sets.show, child).parent_id is None
    assert access.find_token(world.tx, note) is None
    with pytest.raises(SetNotFound):
        world.do("anna", sets.show, shelf)
    assert world.all("PRAGMA foreign_key_check") == []


def test_token_creating_stands_on_types_alone(world: World) -> None:
    """A rule on a token would never be asked: it is refused at once."""
    _, door = a_set(world)
    with pytest.raises(BadRule, match="stands on a type"):
        a_rule(world, "token_creating", NEVER, token_id=door)
