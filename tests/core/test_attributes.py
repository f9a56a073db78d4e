"""Parents of attributes, and what attributes want beside them on a token and in a set."""

from typing import Any

import pytest

from core import attributes, groups, listing, live, presence, sets, tokens, types
from core.errors import AttributeNotFound, AttributeNotWritable, BadAttribute, BadValue, EnterRefused, EventRefused
from core.relations import Relations
from tests.core.world import World


def a_group(world: World, name: str, *members: str) -> str:
    """Return a group of anna's with these members."""
    group = world.do("anna", groups.create, name)
    for member in members:
        world.do("anna", groups.add, group, world.users[member].id)
    return group


def a_type(world: World, name: str, user: str = "anna", **declared: dict[str, Any]) -> str:
    """Return a type with these attributes; each is a number if nothing else is said."""
    full = world.do(user, types.create, name)
    for word, options in declared.items():
        world.do(user, attributes.create, full, word, **{"value_type": "number", **options})
    return full


def test_a_child_only_narrows(world: World) -> None:
    """Some of the parent's groups, or, naming none, the parent's; where all read, some may; written by all is none."""
    staff, guards, others = (a_group(world, name) for name in ("staff", "guards", "others"))
    base = a_type(world, "base", open={}, closed={"read_groups": [staff, guards], "write_groups": [staff]})
    child = world.do("anna", types.create, "child")

    def declared(name: str, parent: str, **options: Any) -> attributes.Attribute:
        world.do("anna", attributes.create, child, name, "number", parent=parent, **options)
        return next(one for one in world.do("anna", attributes.list_, child) if one.name == name)

    inherits = declared("inherits", f"{base}.closed")
    assert (inherits.read_groups, inherits.write_groups) == ([staff, guards], [staff])
    assert declared("fewer", inherits.id, read_groups=[guards]).read_groups == [guards]
    assert declared("some", f"{base}.open", read_groups=[others]).read_groups == [others]
    for wrong in (
        {"parent": f"{base}.closed", "read_groups": [staff, others]},
        {"parent": f"{base}.closed", "write_groups": [guards]},
        {"parent": f"{base}.open", "write_groups": [staff]},
    ):
        with pytest.raises(BadAttribute, match=r"its parent anna\.base\."):
            declared("wrong", **wrong)  # type: ignore[arg-type]
    for unknown in (f"{base}.nothing", "a_none", "wrong", f"{child}.wrong"):
        with pytest.raises(AttributeNotFound):
            declared("wrong", unknown)


def test_parent_and_child_both_count(world: World) -> None:
    """What the parent needs in the set, the child needs too; turned off, it takes the child along."""
    base = a_type(world, "base", level={"read_needs": ["lamp"], "write_needs": ["lamp"]})
    lamp = a_type(world, "lamp", lamp={})
    child = world.do("anna", types.create, "child", [base])
    world.do("anna", attributes.create, child, "fine", "number", parent=f"{base}.level", read_needs=["fine"])
    place = world.do("anna", sets.create, "hall")
    token = world.do("anna", tokens.create, child, "thing", {"fine": 1})
    world.do("anna", sets.add_tokens, place, [token])

    def shown() -> dict[str, Any]:
        return dict(world.do("anna", listing.read_one, token, place).attributes)

    assert shown() == {} and not world.do("anna", live.permissions, token, "fine", place).can_read
    with pytest.raises(AttributeNotWritable):
        world.do("anna", live.edit, token, "fine", 2, place)
    world.do("anna", sets.add_tokens, place, [world.do("anna", tokens.create, lamp, "lamp")])
    assert shown() == {"fine": 1}
    world.do("anna", live.edit, token, "fine", 2, place)
    world.do("anna", live.turn, token, "level", False)
    assert shown() == {} and world.do("anna", live.permissions, token, "fine", place).why == "it is turned off"
    world.do("anna", live.turn, token, "level", True)
    assert shown() == {"fine": 2}


def test_siblings_are_required_and_forbidden(world: World) -> None:
    """On creation and on every write, everywhere and in one set; a default is held, too."""
    lens = a_type(
        world,
        "lens",
        frame={},
        scratched={},
        glass={"relations": Relations(required_siblings=["frame"], forbidden_siblings=["scratched"])},
    )
    for values in ({"glass": 1}, {"glass": 1, "frame": 1, "scratched": 1}):
        with pytest.raises(BadValue, match="beside"):
            world.do("anna", tokens.create, lens, "x", values)
    token = world.do("anna", tokens.create, lens, "x", {"glass": 1, "frame": 1})
    for name, value in (("frame", None), ("scratched", 1)):
        with pytest.raises(BadValue, match="'glass'"):
            world.do("anna", live.edit, token, name, value)
    world.do("anna", live.edit, token, "glass", None)
    world.do("anna", live.edit, token, "frame", None)
    place = world.do("anna", sets.create, "hall")
    with pytest.raises(BadValue):
        world.do("anna", live.edit, token, "glass", 1, place)
    world.do("anna", live.edit, token, "frame", 1)
    world.do("anna", live.edit, token, "glass", 1, place)
    with pytest.raises(BadValue):
        world.do("anna", live.edit, token, "frame", None)  # in the hall the glass would be left alone
    world.do("anna", live.edit, token, "glass", None, place)
    world.do("anna", live.edit, token, "frame", None)
    kept = a_type(world, "kept", frame={"default": 1}, glass={"relations": Relations(required_siblings=["frame"])})
    world.do("anna", tokens.create, kept, "x", {"glass": 1})


@pytest.mark.parametrize(
    "relations",
    [
        Relations(required_siblings=["it"]),
        Relations(required_siblings=["a"], forbidden_siblings=["a"]),
        Relations(allergies=["a"], affinities=["b", "a"]),
        Relations(allergies=[f"a{number}" for number in range(33)]),
    ],
)
def test_relations_make_sense(world: World, relations: Relations) -> None:
    """No attribute wants itself beside it, nor what it does not want, nor half the world."""
    with pytest.raises(BadAttribute):
        a_type(world, "t", it={"relations": relations})


def a_cat_and_a_garden(world: World) -> tuple[str, str]:
    """Return a cat, which keeps away from dogs unless there is fish, and a public set."""
    for name in ("dog", "fish"):
        a_type(world, name, **{name: {}})
    cat = a_type(world, "cat", fur={"relations": Relations(allergies=["dog", "wolf"], affinities=["fish"])})
    garden = world.do("anna", sets.create, "garden", is_public=True)
    return world.do("anna", tokens.create, cat, "cat"), garden


def put(world: World, place: str, type: str) -> str:
    """Put a new token of anna's into a set."""
    token = world.do("anna", tokens.create, type, "x")
    world.do("anna", sets.add_tokens, place, [token])
    return token


def test_an_allergy_keeps_a_token_out_unless_something_attracts_it(world: World) -> None:
    """The message names both; nothing repels, it comes in; something attracts, it comes in; inside, it stays."""
    cat, garden = a_cat_and_a_garden(world)
    dog = put(world, garden, "anna.dog")
    with pytest.raises(EventRefused, match="'fur' is allergic to 'dog', and nothing attracts it") as caught:
        world.do("anna", sets.add_tokens, garden, [cat])
    assert caught.value.rule == "allergies"
    put(world, garden, "anna.fish")
    world.do("anna", sets.add_tokens, garden, [cat])
    world.do("anna", sets.remove_tokens, garden, [cat, dog])
    other = world.do("anna", sets.create, "other")
    world.do("anna", sets.add_tokens, other, [cat])
    put(world, other, "anna.dog")
    assert len(world.do("anna", listing.read, other).entries) == 2


def test_all_is_refused_when_one_token_is(world: World) -> None:
    """Of several tokens put in together, none comes in when one is kept out."""
    cat, garden = a_cat_and_a_garden(world)
    put(world, garden, "anna.dog")
    stone = world.do("anna", tokens.create, "thing", "stone")
    with pytest.raises(EventRefused):
        world.do("anna", sets.add_tokens, garden, [stone, cat])
    assert len(world.do("anna", listing.read, garden).entries) == 1


def test_a_set_comes_into_another_by_its_defining_token(world: World) -> None:
    """Children and links are kept out as any token is; the token that defines the place is present in it."""
    cat, garden = a_cat_and_a_garden(world)
    basket = world.do("anna", sets.create, token_id=cat)
    kennel = world.do("anna", sets.create, token_id=world.do("anna", tokens.create, "anna.dog", "kennel"))
    with pytest.raises(EventRefused):
        world.do("anna", sets.change_parent, basket, kennel)
    with pytest.raises(EventRefused):
        world.do("anna", sets.link, kennel, basket)
    with pytest.raises(EventRefused):
        kitten = world.do("anna", tokens.create, "anna.cat", "kitten")
        world.do("anna", sets.create, None, kennel, token_id=kitten)
    world.do("anna", sets.change_parent, basket, garden)


def test_a_place_is_allergic_to_visitors(world: World) -> None:
    """The attributes of the defining token speak of who comes: by what his token carries; his home always lets in."""
    room = a_type(world, "room", air={"relations": Relations(allergies=["smoker"], affinities=["invited"])})
    place = world.do("anna", sets.create, token_id=world.do("anna", tokens.create, room, "clean room"))
    him = world.users["bob"].token_id
    world.do("bob", presence.enter, "s_0", place)
    world.do("bob", live.edit, him, "smoker", True)
    with pytest.raises(EnterRefused, match="'air' is allergic to 'smoker'") as caught:
        world.do("bob", presence.enter, "s_1", place)
    assert caught.value.rule == "allergies"
    assert not world.do("bob", presence.may_pass, "s_1", place)
    world.do("bob", presence.enter, "s_1", world.home("bob"))
    world.do("bob", live.edit, him, "invited", True)
    world.do("bob", presence.enter, "s_2", place)


def test_plain_tokens_in_plain_sets_cost_no_look(world: World) -> None:
    """Where neither type declares anything, no statement is spent on allergies or actions."""
    from core import acting, attraction
    from core.calls import Scene

    class Mute:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    assert attraction.repulsion(Mute(), "set_1", ("t_1", "set"), ("t_2", "user")) is None  # type: ignore[arg-type]
    acting.act(Scene(Mute(), "u_1"), "set_entered", "t_1", "set")  # type: ignore[arg-type]
