"""Actions: attributes that change or switch another one of their token after an event."""

from typing import Any

import pytest

from core import attributes, groups, listing, live, presence, scripts, sets, tokens, types
from core.calls import Scene
from core.errors import AttributeNotWritable, BadValue, EventRefused
from core.notices import Notice
from core.relations import Relations
from tests.core.test_attributes import a_type
from tests.core.world import World

BUSY = {"event": "set_entered", "target": "state", "change": {"value": "busy"}}
FREE = {"event": "set_left", "target": "state", "change": {"value": "free"}}


def a_place(world: World, **actions: Any) -> tuple[str, str]:
    """Return a public set with a text `state`, a number `count` and a lamp, and its defining token with actions."""
    declared: dict[str, dict[str, Any]] = {
        "state": {"value_type": "string", "default": "new"},
        "count": {"maximum": 5},
        "lamp": {"default": 1},
        **{name: {"value_type": "action"} for name in actions},
    }
    name = a_type(world, "room", **declared)
    token = world.do("anna", tokens.create, name, "room", actions)
    return world.do("anna", sets.create, token_id=token), token


def values(world: World, token: str, set_id: str | None = None) -> dict[str, Any]:
    """Return what a token of anna's holds besides its actions."""
    scene = world.scene("anna")
    found = live.shown(scene, tokens.readable(scene, token), set_id)
    return {name: value for name, value in found.items() if not isinstance(value, dict)}


def test_a_place_notes_who_comes_and_goes(world: World) -> None:
    """Entering and leaving change it, in the transaction of the move; the revision grows with it."""
    place, token = a_place(world, coming=BUSY, going=FREE)
    before = world.do("anna", listing.read_one, token).revision
    world.do("bob", presence.enter, "s_1", place)
    assert values(world, token)["state"] == "busy"
    assert world.do("anna", listing.read_one, token).revision > before
    world.do("bob", presence.leave, "s_1")
    assert values(world, token)["state"] == "free"


@pytest.mark.parametrize(
    ("event", "step"),
    [
        ("token_added", lambda world, place, thing: world.do("anna", sets.add_tokens, place, [thing])),
        (
            "token_removed",
            lambda world, place, thing: (
                world.do("anna", sets.add_tokens, place, [thing]),
                world.do("anna", sets.remove_tokens, place, [thing]),
            ),
        ),
        ("child_added", lambda world, place, thing: world.do("anna", sets.create, "x", place)),
        ("link_created", lambda world, place, thing: world.do("anna", sets.link, place, world.home("anna"))),
    ],
)
def test_a_place_notes_what_comes_and_goes(world: World, event: str, step: Any) -> None:
    """Each event runs the actions that listen to it, and no other."""
    place, token = a_place(
        world,
        it={"event": event, "target": "state", "change": {"value": "noted"}},
        other={"event": "set_left", "target": "state", "change": {"value": "wrong"}},
    )
    step(world, place, world.do("anna", tokens.create, "thing", "thing"))
    assert values(world, token)["state"] == "noted"


def test_a_token_notes_where_it_comes_and_goes(world: World) -> None:
    """The token that moves runs its own; a user's token has none."""
    _, token = a_place(
        world,
        come={"event": "token_entered", "target": "state", "change": {"value": "here"}},
        go={"event": "token_left", "target": "state", "change": {"value": "gone"}},
    )
    hall = world.do("anna", sets.create, "hall")
    world.do("anna", sets.add_tokens, hall, [token])
    assert values(world, token)["state"] == "here"
    world.do("anna", sets.remove_tokens, hall, [token])
    assert values(world, token)["state"] == "gone"
    me = world.users["anna"].token_id
    world.do("anna", live.edit, me, "act", {"event": "token_entered", "target": "state", "change": {"value": "no"}})
    world.do("anna", sets.add_tokens, hall, [me])
    assert "state" not in world.do("anna", listing.read_one, me).attributes


def test_a_value_follows_another(world: World) -> None:
    """An attribute is copied when it changes, where it changes; `of` says which; its own target is not listened to."""
    place, token = a_place(
        world,
        follow={"event": "value_changed", "of": "count", "target": "lamp", "change": {"attribute": "count"}},
        any={"event": "value_changed", "target": "state", "change": {"value": "changed"}},
    )
    world.do("anna", live.edit, token, "count", 3)
    assert values(world, token) == {"state": "changed", "count": 3, "lamp": 3}
    world.do("anna", live.edit, token, "state", "mine")
    assert values(world, token)["state"] == "mine"
    world.do("anna", live.edit, token, "count", 4, place)
    assert values(world, token, place)["lamp"] == 4 and values(world, token)["lamp"] == 3


def test_an_action_switches_another(world: World) -> None:
    """Off, the target is neither read nor written; an action that is off does not run; one can switch another."""
    place, token = a_place(
        world,
        coming=BUSY,
        dark={"event": "token_added", "target": "lamp", "switch": False},
        light={"event": "token_removed", "target": "lamp", "switch": True},
        deaf={"event": "token_added", "target": "coming", "switch": False},
    )
    thing = world.do("anna", tokens.create, "thing", "thing")
    world.do("anna", sets.add_tokens, place, [thing])
    assert "lamp" not in values(world, token)
    world.do("bob", presence.enter, "s_1", place)
    assert values(world, token)["state"] == "new"
    world.do("anna", sets.remove_tokens, place, [thing])
    assert values(world, token)["lamp"] == 1


def test_a_circle_of_actions_ends(world: World) -> None:
    """One that would set itself off again is stopped silently; each runs once."""
    _, token = a_place(
        world,
        a={"event": "value_changed", "of": "count", "target": "lamp", "change": {"attribute": "count"}},
        b={"event": "value_changed", "of": "lamp", "target": "count", "change": {"value": 5}},
    )
    world.do("anna", live.edit, token, "count", 2)
    assert values(world, token)["count"] == 5 and values(world, token)["lamp"] == 2


def test_what_does_not_fit_is_left_and_the_event_happens(world: World) -> None:
    """A copied value beyond the target's limits, a target turned off, or one a script answers for, stay as they are."""
    place, token = a_place(
        world,
        copy={"event": "set_entered", "target": "count", "change": {"attribute": "lamp"}},
        coming=BUSY,
        nothing={"event": "set_entered", "void": True},
    )
    world.do("anna", live.edit, token, "lamp", 9)
    script = world.do("anna", scripts.create, "one", "1")
    world.do("anna", live.edit, token, "state", {"script": script})
    assert world.do("bob", presence.enter, "s_1", place)
    assert "count" not in values(world, token)
    assert world.do("anna", listing.read_one, token).attributes["state"] == {"script": script}
    world.do("anna", live.edit, token, "state", "old")
    world.do("anna", live.turn, token, "state", False)
    world.do("bob", presence.enter, "s_2", place)
    world.do("anna", live.turn, token, "state", True)
    assert values(world, token)["state"] == "old"


def test_deleting_a_set_runs_no_action(world: World) -> None:
    """Neither of the token that defined it nor of those that stood there."""
    ran = {"target": "state", "change": {"value": "ran"}}
    place, token = a_place(world, a={"event": "token_removed", **ran}, b={"event": "set_left", **ran})
    a_type(world, "box", state={"value_type": "string", "default": "new"}, a={"value_type": "action"})
    inside = world.do("anna", tokens.create, "anna.box", "inside", {"a": {"event": "token_left", **ran}})
    world.do("anna", sets.add_tokens, place, [inside])
    world.do("bob", presence.enter, "s_1", place)
    world.do("anna", sets.delete, place)
    assert world.do("bob", presence.leave, "s_1") is None
    assert values(world, token)["state"] == values(world, inside)["state"] == "new"


def test_a_failed_move_leaves_no_trace_of_actions(world: World) -> None:
    """What is refused after it began is undone with all that was run."""
    place, token = a_place(world, add={"event": "token_added", "target": "state", "change": {"value": "ran"}})
    things = [world.do("anna", tokens.create, "thing", "thing"), "t_none"]
    with pytest.raises(Exception, match="No token"):
        world.do("anna", sets.add_tokens, place, things)
    assert values(world, token)["state"] == "new"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("set_entered", "an object"),
        ({"event": "sunrise", "void": True}, "no action listens to"),
        ({"event": "set_entered"}, "exactly one of"),
        ({**BUSY, "switch": True}, "exactly one of"),
        ({**BUSY, "policy": 1}, "no member"),
        ({**BUSY, "of": "count"}, "value_changed alone"),
        ({**BUSY, "target": 1}, "name of an attribute"),
        ({"event": "set_entered", "change": {"value": 1}}, "`target`"),
        ({"event": "set_entered", "target": "state", "void": True}, "`target`"),
        ({**BUSY, "change": {"script": "sc_1"}}, "script cannot give"),
        ({**BUSY, "change": {"remote": "rm_1"}}, "remote cannot give"),
        ({**BUSY, "change": {"value": {"script": "sc_1"}}}, "script or remote cannot give"),
        ({**BUSY, "change": {"attribute": "nothing"}}, "no attribute 'nothing'"),
        ({**BUSY, "target": "nothing"}, "no attribute 'nothing'"),
        ({**BUSY, "change": {"value": 1}}, "'state'"),
        ({**BUSY, "target": "act"}, "is an action itself"),
        ({"event": "set_entered", "target": "lamp", "switch": 1}, "`switch`"),
        ({"event": "set_entered", "void": False}, "`void`"),
    ],
)
def test_what_is_no_action_is_refused(world: World, action: Any, reason: str) -> None:
    """As a value and as a default, with what is wrong."""
    kind: dict[str, Any] = {"value_type": "action"}
    a_type(world, "one", state={"value_type": "string"}, lamp={}, act=kind)
    with pytest.raises(BadValue, match=reason):
        world.do("anna", attributes.create, "anna.one", "other", "action", default=action)
    with pytest.raises(BadValue, match=reason):
        world.do("anna", tokens.create, "anna.one", "x", {"act": action})


def test_a_default_is_an_action_of_every_token(world: World) -> None:
    """Declared once with its type, it runs on each token that does not hold another."""
    name = a_type(world, "one", state={"value_type": "string"}, act={"value_type": "action", "default": BUSY})
    own = world.do("anna", tokens.create, name, "own", {"act": {**BUSY, "change": {"value": "own"}}})
    for token, state in ((world.do("anna", tokens.create, name, "x"), "busy"), (own, "own")):
        place = world.do("anna", sets.create, token_id=token)
        world.do("bob", presence.enter, f"s_{state}", world.do("anna", _opened, place))
        assert values(world, token)["state"] == state


def _opened(scene: Any, set_id: str) -> str:
    scene.tx.run("UPDATE tokens SET is_public = 1 WHERE id = (SELECT token_id FROM sets WHERE id = ?)", set_id)
    return set_id


def test_an_author_reaches_no_further_by_an_action(world: World) -> None:
    """Who writes an action must be allowed to read what it copies, write what it changes, turn what it switches."""
    group = world.do("anna", groups.create, "authors")
    world.do("anna", groups.add, group, world.users["bob"].id)
    name = world.do("anna", types.create, "box")
    secret = world.do("anna", groups.create, "secret")
    for word, options in {
        "secret": {"read_groups": [secret]},
        "price": {},
        "note": {"write_groups": [group]},
        "act": {"value_type": "action", "write_groups": [group]},
    }.items():
        world.do("anna", attributes.create, name, word, **{"value_type": "number", **options})  # type: ignore[arg-type]
    token = world.do("anna", tokens.create, name, "box")
    world.do("anna", sets.create, token_id=token)
    event = {"event": "value_changed"}
    for action, reason in (
        ({**event, "target": "note", "change": {"attribute": "secret"}}, "not yours to read"),
        ({**event, "target": "price", "change": {"value": 1}}, "not yours to write"),
        ({**event, "target": "note", "switch": False}, "not yours to turn"),
    ):
        with pytest.raises(AttributeNotWritable, match=reason):
            world.do("bob", live.edit, token, "act", action)
        world.do("anna", live.edit, token, "act", action)
    world.do("bob", live.edit, token, "act", {**event, "target": "note", "change": {"attribute": "price"}})


def test_where_there_are_no_events_no_place_acts(world: World) -> None:
    """In a set without events its defining token runs nothing; the token that moves runs its own."""
    ran = {"target": "state", "change": {"value": "ran"}}
    _, token = a_place(world, a={"event": "set_entered", **ran}, b={"event": "token_added", **ran})
    mute = world.do("anna", tokens.create, "anna.room", "mute", {"a": {"event": "set_entered", **ran}})
    place = world.do("anna", sets.create, token_id=mute, has_events=False)
    world.do("bob", presence.enter, "s_1", place)
    world.do("anna", live.edit, token, "a", {"event": "token_entered", **ran})
    world.do("anna", sets.add_tokens, place, [token])
    assert values(world, mute)["state"] == "new" and values(world, token)["state"] == "ran"


def test_a_token_made_in_a_set_is_put_into_it(world: World) -> None:
    """Its place notes it, and it may be kept out, as one that was made before."""
    place, token = a_place(world, it={"event": "token_added", "target": "state", "change": {"value": "noted"}})
    world.do("anna", tokens.create, "thing", "thing", set_id=place)
    assert values(world, token)["state"] == "noted"
    shy = a_type(world, "shy", shy={"relations": Relations(allergies=["lamp"])})
    with pytest.raises(EventRefused, match="allergic to 'lamp'"):
        world.do("anna", tokens.create, shy, "x", set_id=place)


def test_what_an_action_changes_is_told(world: World) -> None:
    """Whoever listens hears of the value as of one that was written."""
    place, token = a_place(world, coming=BUSY)
    told: list[Notice] = []
    scene = Scene(world.tx, world.users["bob"].id, tell=lambda _, notice: told.append(notice))
    presence.enter(scene, "s_1", place)
    assert [(one.event, one.token_id, one.attribute) for one in told] == [("value_changed", token, "state")]


def test_emptying_a_set_takes_its_tokens_out(world: World) -> None:
    """What stands elsewhere, too, notes that it left, and the place that it went."""
    ran = {"target": "state", "change": {"value": "ran"}}
    place, token = a_place(world, it={"event": "token_removed", **ran})
    other = world.do("anna", tokens.create, "anna.room", "other", {"it": {"event": "token_left", **ran}})
    hall = world.do("anna", sets.create, "hall")
    for set_id in (place, hall):
        world.do("anna", sets.add_tokens, set_id, [other])
    world.do("anna", sets.truncate, place)
    assert values(world, token)["state"] == values(world, other)["state"] == "ran"
