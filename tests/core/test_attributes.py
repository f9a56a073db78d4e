"""Parents of attributes."""

from typing import Any

import pytest

from core import attribute_values, groups, listing, sets, tokens, types
from core.errors import AttributeNotFound, AttributeNotWritable, BadAttribute
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
        world.do(user, types.declare, full, word, **{"value_type": "number", **options})
    return full


def test_a_child_only_narrows(world: World) -> None:
    """Some of the parent's groups, or, naming none, the parent's; where all read, some may; written by all is none."""
    staff, guards, others = (a_group(world, name) for name in ("staff", "guards", "others"))
    base = a_type(world, "base", open={}, closed={"read_groups": [staff, guards], "write_groups": [staff]})
    child = world.do("anna", types.create, "child")

    def declared(name: str, parent: str, **options: Any) -> types.Attribute:
        world.do("anna", types.declare, child, name, "number", parent=parent, **options)
        return next(one for one in world.do("anna", types.list_attributes, child) if one.name == name)

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
    world.do("anna", types.declare, child, "fine", "number", parent=f"{base}.level", read_needs=["fine"])
    place = world.do("anna", sets.create, "hall")
    token = world.do("anna", tokens.create, child, "thing", {"fine": 1})
    world.do("anna", sets.add_tokens, place, [token])

    def shown() -> dict[str, Any]:
        return dict(world.do("anna", listing.read_one, token, place).attributes)

    assert shown() == {} and not world.do("anna", attribute_values.permissions, token, "fine", place).can_read
    with pytest.raises(AttributeNotWritable):
        world.do("anna", attribute_values.edit, token, "fine", 2, place)
    world.do("anna", sets.add_tokens, place, [world.do("anna", tokens.create, lamp, "lamp")])
    assert shown() == {"fine": 1}
    world.do("anna", attribute_values.edit, token, "fine", 2, place)
    world.do("anna", attribute_values.turn, token, "level", False)
    assert (
        shown() == {} and world.do("anna", attribute_values.permissions, token, "fine", place).why == "it is turned off"
    )
    world.do("anna", attribute_values.turn, token, "level", True)
    assert shown() == {"fine": 2}
