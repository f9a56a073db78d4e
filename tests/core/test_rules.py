"""Rules: who is let in and out, by what, and what he is told."""

from typing import Any

import pytest

from core import attribute_values, groups, members, presence, remember, rules, scripts, sets, tokens, types
from core.errors import (
    BadRule,
    EnterRefused,
    EventRefused,
    GroupNotFound,
    LeaveRefused,
    PassageChanged,
    RuleNotFound,
    ScriptNotFound,
    SetNotFound,
    TooMany,
    TypeNotFound,
)
from core.rules import Verdict
from tests.core.world import World


def a_set(world: World, name: str = "vault", **options: Any) -> tuple[str, str]:
    """Return a public set of anna's and its defining token."""
    set_id = world.do("anna", sets.create, name, world.home("anna"), is_public=True, **options)
    return set_id, world.do("anna", sets.show, set_id).token_id


def forbid(world: World, token_id: str, decision: dict[str, Any], event: str = "set_entering", **said: str) -> str:
    """Put a rule of anna's on a token."""
    return world.do("anna", rules.create, event, decision, token_id=token_id, **said)


def is_let_in(world: World, user: str, set_id: str, session: str = "s_1") -> bool:
    """Tell whether a session of the user gets in; it is out again afterwards."""
    try:
        world.do(user, presence.enter, session, set_id)
    except EnterRefused:
        return False
    world.do(user, presence.leave, session)
    return True


def test_by_group(world: World) -> None:
    """Members pass, others hear the rule and its message."""
    vault, token = a_set(world)
    staff = world.do("anna", groups.create, "staff")
    forbid(world, token, {"allow": {"group": staff}}, name="staff only", message="ask anna for a badge.")
    with pytest.raises(EnterRefused) as caught:
        world.do("bob", presence.enter, "s_1", vault)
    assert (caught.value.rule, caught.value.message) == ("staff only", "ask anna for a badge.")
    world.do("anna", groups.add, staff, world.users["bob"].id)
    assert is_let_in(world, "bob", vault)


def test_by_value_of_visitor_and_set(world: World) -> None:
    """An attribute of the visitor's token or of the defining token decides, by equality, choice and size."""
    vault, token = a_set(world)
    forbid(world, token, {"deny": {"attribute": {"name": "closed", "of": "set", "is": True}}})
    forbid(world, token, {"allow": {"attribute": {"name": "level", "minimum": 3, "maximum": 9}}})
    world.do("bob", attribute_values.edit, world.users["bob"].token_id, "level", 3)
    assert is_let_in(world, "bob", vault)
    assert not is_let_in(world, "carl", vault)
    world.do("bob", attribute_values.edit, world.users["bob"].token_id, "level", 10)
    assert not is_let_in(world, "bob", vault)
    world.do("bob", attribute_values.edit, world.users["bob"].token_id, "level", 4)
    world.do("anna", attribute_values.edit, token, "closed", True)
    assert not is_let_in(world, "bob", vault)


def test_by_visits(world: World) -> None:
    """Certain sets must have been visited in this session; another session of the user has not been there."""
    hall, _ = a_set(world, "hall")
    vault, token = a_set(world)
    forbid(world, token, {"allow": {"visited": [hall]}})
    assert not is_let_in(world, "bob", vault)
    assert is_let_in(world, "bob", hall)
    assert is_let_in(world, "bob", vault)
    assert not is_let_in(world, "bob", vault, "s_2")
    world.do("bob", presence.leave, "s_1", is_last=True)
    assert world.all("SELECT * FROM visits") == []


def test_by_types_and_counts(world: World) -> None:
    """What is in the visitor's home, or in the set, counts; a child type counts as its parent."""
    ticket = world.do("anna", types.create, "ticket")
    gold = world.do("anna", types.create, "gold", [ticket])
    vault, token = a_set(world)
    forbid(world, token, {"allow": {"count": {"type": ticket, "where": "home", "minimum": 1}}})
    forbid(world, token, {"deny": {"count": {"type": "user", "minimum": 1}}}, name="one at a time")
    assert not is_let_in(world, "bob", vault)
    mine = world.do("bob", tokens.create, gold, "golden ticket")
    world.do("bob", sets.add_tokens, world.home("bob"), [mine])
    assert is_let_in(world, "bob", vault)
    world.do("bob", presence.enter, "s_1", vault)
    with pytest.raises(EnterRefused, match="rules"):
        world.do("carl", presence.enter, "s_9", vault)


def test_conditions_combine(world: World) -> None:
    """all, any and not mean what they say, at any depth."""
    vault, token = a_set(world)
    bobs = {"type": "user"}
    forbid(world, token, {"allow": {"all": [bobs, {"any": [{"not": bobs}, {"not": {"not": bobs}}]}]}})
    assert is_let_in(world, "bob", vault)
    forbid(world, token, {"deny": {"any": [{"not": bobs}, bobs]}})
    assert not is_let_in(world, "bob", vault)


def test_rules_of_a_type_are_inherited(world: World) -> None:
    """From the remotest ancestor to the token: the first refusal is the one told, and all of them count."""
    far = world.do("anna", types.create, "far")
    near = world.do("anna", types.create, "near", [far])
    token = world.do("anna", tokens.create, near, "place")
    place = world.do("anna", sets.create, token_id=token)
    never = {"deny": {"type": "user"}}
    own = forbid(world, token, never, name="own")
    assert world.do("anna", rules.create, "set_entering", never, type=near, name="near")
    assert world.do("anna", rules.create, "set_entering", never, type=far, name="far")
    for expected in ("far", "near", "own"):
        with pytest.raises(EnterRefused) as caught:
            world.do("bob", presence.enter, "s_1", place)
        assert caught.value.rule == expected
        found = [rule for rule in world.do("anna", rules.list_) if rule.name == expected]
        world.do("anna", rules.delete, found[0].id)
    assert is_let_in(world, "bob", place)
    with pytest.raises(RuleNotFound):
        world.do("anna", rules.delete, own)


def test_leaving_is_refused_only_when_asked(world: World) -> None:
    """A rule holds a session that walks; one that ends, or whose set goes, is let out."""
    vault, token = a_set(world)
    forbid(world, token, {"deny": {"type": "user"}}, "set_leaving", message="stay a while.")
    world.do("bob", presence.enter, "s_1", vault)
    with pytest.raises(LeaveRefused, match="stay a while"):
        world.do("bob", presence.leave, "s_1", is_asked=True)
    assert members.holds(world.tx, vault, world.users["bob"].token_id)
    assert world.do("bob", presence.leave, "s_1") == (vault, True)
    world.do("bob", presence.enter, "s_1", vault)
    world.do("anna", sets.delete, vault)
    assert world.do("bob", presence.leave, "s_1") is None


def test_home_always_lets_its_owner_in(world: World) -> None:
    """No rule shuts a user out of his own home, from which every session can begin."""
    home = world.home("bob")
    token = world.do("bob", sets.show, home).token_id
    world.do("bob", rules.create, "set_entering", {"deny": {"type": "user"}}, token_id=token)
    assert is_let_in(world, "bob", home)


def test_a_script_is_asked_before_and_checked_inside(world: World) -> None:
    """Without its answer nothing moves; with it, it decides, and its message is told."""
    vault, token = a_set(world)
    script = world.do("anna", scripts.create, "riddle", "True")
    forbid(world, token, {"allow": {"script": script}}, message="wrong.")
    asked = world.do("bob", presence.passage, world.home("bob"), vault)
    assert [(one.kind, one.id, one.event, one.set_id) for one in asked] == [("script", script, "set_entering", vault)]
    with pytest.raises(PassageChanged):
        world.do("bob", presence.enter, "s_1", vault)
    with pytest.raises(EnterRefused, match="think again"):
        world.do("bob", presence.enter, "s_1", vault, {script: Verdict(False, "think again")})
    assert world.do("bob", presence.enter, "s_1", vault, {script: Verdict(True)})
    assert not world.do("carl", presence.may_pass, "s_2", vault)


def test_a_set_that_lets_in_by_rule_needs_one(world: World) -> None:
    """With the policy `rule` nobody enters until a rule allows it."""
    vault, token = a_set(world, enter_policy="rule")
    assert not is_let_in(world, "bob", vault)
    forbid(world, token, {"allow": {"type": "user"}})
    assert is_let_in(world, "bob", vault)


def test_what_may_stand_in_a_set(world: World) -> None:
    """Tokens, children and links are let in by rules too."""
    place, token = a_set(world)
    forbid(world, token, {"allow": {"type": "coin"}}, "token_adding", name="coins only")
    forbid(world, token, {"deny": {"type": "coin"}}, "token_removing")
    forbid(world, token, {"deny": {"type": "set"}}, "child_adding")
    forbid(world, token, {"deny": {"type": "set"}}, "link_creating")
    coin = world.do("anna", tokens.create, "coin", "coin")
    stone = world.do("anna", tokens.create, "stone", "stone")
    world.do("anna", sets.add_tokens, place, [coin])
    with pytest.raises(EventRefused, match="rules"):
        world.do("anna", sets.add_tokens, place, [stone])
    with pytest.raises(EventRefused):
        world.do("anna", sets.remove_tokens, place, [coin])
    with pytest.raises(EventRefused):
        world.do("anna", sets.create, "below", place)
    with pytest.raises(EventRefused):
        world.do("anna", sets.link, place, world.home("anna"))


@pytest.mark.parametrize(
    ("decision", "place"),
    [
        ({}, "a decision"),
        ({"allow": {"group": 1}}, "allow.group"),
        ({"allow": {"nonsense": 1}}, "allow: 'nonsense'"),
        ({"deny": {"all": [{"type": "x"}, {"count": {"type": "x"}}]}}, "deny.all.1.count"),
        ({"deny": {"not": {"attribute": {"name": "a"}}}}, "deny.not.attribute"),
        ({"allow": {"script": "nothing"}}, "allow.script"),
        ({"allow": {"visited": []}}, "allow.visited"),
        ({"allow": {"attribute": {"name": "a", "is": 1, "extra": 2}}}, "'extra'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_its_place(world: World, decision: Any, place: str) -> None:
    """The message says where inside the decision the fault is."""
    _, token = a_set(world)
    with pytest.raises(BadRule) as caught:
        forbid(world, token, decision)
    assert place in str(caught.value)


def test_a_rule_names_only_what_is_there(world: World) -> None:
    """Groups, types, sets and scripts of a rule exist, and its event is known; scripts decide no inner event."""
    _, token = a_set(world)
    missing: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"group": "g_x"}, GroupNotFound),
        ({"type": "anna.x"}, TypeNotFound),
        ({"visited": ["set_x"]}, SetNotFound),
        ({"visited": [world.home("bob")]}, SetNotFound),
        ({"script": "sc_x"}, ScriptNotFound),
    ]
    for condition, error in missing:
        with pytest.raises(error):
            forbid(world, token, {"allow": condition})
    with pytest.raises(BadRule):
        forbid(world, token, {"allow": {"type": "user"}}, "set_exploding")
    script = world.do("anna", scripts.create, "one", "1")
    with pytest.raises(BadRule):
        forbid(world, token, {"allow": {"script": script}}, "token_adding")


def test_gifts_come_and_go_with_the_visitor(world: World) -> None:
    """Each session gets its own, nobody else sees it, and leaving takes it back; writable when the set says so."""
    shop, _ = a_set(world, "shop")
    world.do("anna", presence.create_gift, shop, "basket", "basket", {"items": []}, "write")
    world.do("anna", presence.create_gift, shop, "command", "buy")
    world.do("bob", presence.enter, "s_1", shop)
    world.do("carl", presence.enter, "s_2", shop)
    from core import commands, listing

    seen = {entry.name: entry for entry in world.do("bob", listing.read, shop).entries if entry.kind == "gift"}
    assert set(seen) == {"basket", "buy"}
    world.do("bob", attribute_values.edit, seen["basket"].id, "items", ["tea"])
    others = [entry for entry in world.do("carl", listing.read, shop).entries if entry.kind == "gift"]
    assert seen["basket"].id not in [entry.id for entry in others] and len(others) == 2
    assert [command.name for command in world.do("bob", commands.offered, shop, session_id="s_1")] == ["buy"]
    assert world.do("bob", commands.offered, shop, session_id="s_9") == []
    world.do("bob", presence.leave, "s_1")
    assert len(world.all("SELECT * FROM members WHERE kind = 'gift'")) == 2
    world.do("anna", sets.delete, shop)
    assert world.all("SELECT id FROM tokens WHERE name IN ('basket', 'buy')") == []


def test_a_session_remembers_for_a_set_and_everywhere(world: World) -> None:
    """What belongs to a set is there on return; what expired is not; None forgets."""
    book = world.do("bob", sets.create, "data", world.home("bob"))
    shop, _ = a_set(world, "shop")
    world.do("bob", remember.remember, book, "name", "bob")
    world.do("bob", remember.remember, book, "basket", ["tea"], shop)
    world.do("bob", remember.remember, book, "basket", ["tea", "milk"], shop)
    world.do("bob", remember.remember, book, "offer", 5, shop, 60)

    def recalled(set_id: str) -> dict[str, Any]:
        return {entry.name: entry.value for entry in world.do("bob", remember.recall, book, set_id)}

    assert recalled(shop) == {"name": "bob", "basket": ["tea", "milk"], "offer": 5}
    assert recalled(world.home("bob")) == {"name": "bob"}
    world.clock.sleep_for(61)
    assert recalled(shop) == {"name": "bob", "basket": ["tea", "milk"]}
    world.do("bob", remember.remember, book, "basket", None, shop)
    assert [row[0] for row in world.all("SELECT name FROM tokens WHERE type = 'memory'")] == ["name"]
    with pytest.raises(SetNotFound):
        world.do("carl", remember.recall, book)


def test_a_grant_lets_a_friend_put_rules(world: World) -> None:
    """Who may write a token may rule it; who may not, may not."""
    _, token = a_set(world)
    with pytest.raises(Exception, match="not change it"):
        world.do("bob", rules.create, "set_entering", {"deny": {"type": "user"}}, token_id=token)
    world.do("anna", tokens.grant, token, world.users["bob"].id, "write")
    rule = world.do("bob", rules.create, "set_entering", {"deny": {"type": "user"}}, token_id=token)
    world.do("anna", rules.delete, rule)


def test_what_a_move_has_to_look_at_is_bounded(world: World) -> None:
    """Rules of one thing, gifts of a set, counts of a rule, parents of a type: so many and no more."""
    place, token = a_set(world)
    for _ in range(rules.MAX_RULES):
        forbid(world, token, {"allow": {"type": "user"}})
    with pytest.raises(TooMany):
        forbid(world, token, {"allow": {"type": "user"}})
    for _ in range(presence.MAX_GIFTS):
        world.do("anna", presence.create_gift, place, "thing", "gift")
    with pytest.raises(TooMany):
        world.do("anna", presence.create_gift, place, "thing", "gift")
    count = {"count": {"type": "user", "minimum": 1}}
    with pytest.raises(BadRule, match="counts more than"):
        forbid(world, a_set(world, "other")[1], {"allow": {"all": [count] * 6}})
    with pytest.raises(TooMany):
        world.do("anna", types.create, "heir", ["thing"] * 17)


def test_sets_are_listed_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set one can read once, however few rows are looked at together; by parent, name, and right to write."""
    from core import listing

    monkeypatch.setattr(listing, "CHUNK", 3)
    made = [world.do("anna", sets.create, f"room {number % 2}", is_public=True) for number in range(10)]
    hidden = world.do("anna", sets.create, "room 0")
    found: list[str] = []
    after = None
    while True:
        page, after = world.do("bob", listing.list_sets, None, "ROOM 0", limit=2, after=after)
        found += [place.id for place in page]
        if after is None:
            break
    assert found == made[::2] and hidden not in found
    assert world.do("bob", listing.list_sets, name="room 1", is_writable=True)[0] == []
    world.do("bob", sets.create, "shelf", world.home("bob"))
    assert [place.name for place in world.do("bob", listing.list_sets, world.home("bob"))[0]] == ["shelf"]
