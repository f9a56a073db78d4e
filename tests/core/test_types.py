"""Types and attributes: parents, the nearest declaration, limits, freezing and retiring."""

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest

from core import attribute_values, groups, listing, remotes, rules, scripts, tokens, types
from core.errors import (
    AttributeNotFound,
    BadName,
    BadValue,
    CoreError,
    GroupNotFound,
    NameTaken,
    NotWritable,
    ScriptNotFound,
    TypeClosed,
    TypeNotFound,
    UserNotFound,
)
from core.remotes import Definition
from tests.core.world import World


def test_the_nearest_ancestor_wins(world: World) -> None:
    """A declaration on a parent hides the grandparent's; of two parents the first given wins."""
    far = world.do("anna", types.create, "far")
    world.do("anna", types.declare, far, "color", "string", default="far")
    world.do("anna", types.declare, far, "weight", "number", default=1)
    left = world.do("anna", types.create, "left", [far])
    world.do("anna", types.declare, left, "color", "string", default="left")
    right = world.do("anna", types.create, "right", [far])
    world.do("anna", types.declare, right, "color", "string", default="right")
    world.do("anna", types.declare, right, "weight", "number", default=2)
    child = world.do("anna", types.create, "child", [left, right])
    defaults = {one.name: one.default for one in world.do("anna", types.list_attributes, child)}
    assert defaults == {"color": "left", "weight": 2}  # right is nearer than far, though far is left's parent
    assert world.do("anna", types.read, child).line == [child, left, right, far]


def test_a_type_is_named_after_its_user_and_unique(world: World) -> None:
    """Two users may use one word; one user may not use it twice; a word has no dot."""
    assert world.do("anna", types.create, "ticket") == "anna.ticket"
    assert world.do("bob", types.create, "ticket") == "bob.ticket"
    with pytest.raises(NameTaken):
        world.do("anna", types.create, "ticket")
    with pytest.raises(BadName):
        world.do("anna", types.create, "a.b")


def test_a_type_is_frozen_once_its_owner_made_something_of_it(world: World) -> None:
    """After the owner's first token or child type no attribute is declared any more; others' types are not changed."""
    used = world.do("anna", types.create, "used")
    inherited = world.do("anna", types.create, "inherited")
    world.do("anna", tokens.create, used, "one")
    world.do("anna", types.create, "heir", [inherited])
    for name in (used, inherited):
        with pytest.raises(TypeClosed):
            world.do("anna", types.declare, name, "late", "string")
    with pytest.raises(NotWritable):
        world.do("bob", types.declare, world.do("anna", types.create, "hers"), "mine", "string")


def test_nobody_else_freezes_a_type(world: World) -> None:
    """Others' tokens and child types of it hold its owner up in nothing; what is declared later is theirs too."""
    name = world.do("anna", types.create, "lamp")
    token = world.do("bob", tokens.create, name, "his")
    world.do("bob", types.create, "heir", [name])
    assert not world.do("anna", types.read, name).is_frozen
    world.do("anna", types.declare, name, "watts", "number", default=40)
    assert world.do("bob", listing.read_one, token).attributes["watts"] == 40
    world.do("anna", tokens.create, name, "hers")
    assert world.do("bob", types.read, name).is_frozen


def test_whether_a_strangers_group_exists_does_not_show(world: World) -> None:
    """A group one is not in is named nowhere: the answer is that of one that never was."""
    group = world.do("anna", groups.create, "hers")
    name = world.do("bob", types.create, "coin")
    decision = {"allow": {"group": group}}
    token = world.do("bob", tokens.create, "note", "his")
    tries: list[Callable[[str], Any]] = [
        lambda id: world.do("bob", types.create, "closed", creators_group_id=id),
        lambda id: world.do("bob", types.change_creators, name, id),
        lambda id: world.do("bob", types.declare, name, "a", "string", read_groups=[id]),
        lambda id: world.do("bob", types.declare, name, "a", "string", write_groups=[id]),
        lambda id: world.do("bob", rules.create, "value_changing", {"allow": {"group": id}}, token_id=token),
        lambda id: world.do("bob", remotes.create, "r", Definition(question="Well?"), "manual", group_id=id),
        lambda id: world.do("bob", groups.read, id),
        lambda id: world.do("bob", groups.add, id, world.users["bob"].id),
        lambda id: world.do("bob", groups.remove, id, world.users["bob"].id),
        lambda id: world.do("bob", groups.delete, id),
    ]
    for attempt in tries:
        with pytest.raises(CoreError) as hers:
            attempt(group)
        with pytest.raises(CoreError) as nobodys:
            attempt("g_none")
        assert type(hers.value) is type(nobodys.value)
        assert str(hers.value).replace(group, "g_none") == str(nobodys.value)
    world.do("bob", groups.create, "hers")  # nor does a name tell: each has their own
    with pytest.raises(NameTaken):
        world.do("bob", groups.create, "hers")
    world.do("anna", groups.add, group, world.users["bob"].id)
    world.do("bob", rules.create, "value_changing", decision, token_id=token)


def test_a_retired_type_makes_nothing_new(world: World) -> None:
    """No tokens and no child types; brought back, it does again."""
    name = world.do("anna", types.create, "old")
    kept = world.do("anna", tokens.create, name, "kept")
    world.do("anna", types.retire, name)
    with pytest.raises(TypeClosed):
        world.do("anna", tokens.create, name, "new")
    with pytest.raises(TypeClosed):
        world.do("anna", types.create, "heir", [name])
    assert world.do("anna", attribute_values.permissions, kept, "description").can_read
    world.do("anna", types.retire, name, False)
    world.do("anna", tokens.create, name, "new")


def test_only_allowed_creators_make_tokens(world: World) -> None:
    """A type with a creators' group lets its members and its owner make tokens."""
    group = world.do("anna", groups.create, "makers")
    name = world.do("anna", types.create, "coin", creators_group_id=group)
    world.do("anna", tokens.create, name, "hers")
    with pytest.raises(TypeClosed):
        world.do("bob", tokens.create, name, "his")
    world.do("anna", groups.add, group, world.users["bob"].id)
    world.do("bob", tokens.create, name, "his")


def test_a_closed_type_stays_closed_below(world: World) -> None:
    """Nobody makes tokens of a closed type by way of a type of his own that descends from it."""
    group = world.do("anna", groups.create, "makers")
    coin = world.do("anna", types.create, "coin", creators_group_id=group)
    fake = world.do("bob", types.create, "fake", [coin])
    with pytest.raises(TypeClosed, match=r"anna\.coin"):
        world.do("bob", tokens.create, fake, "counterfeit")
    world.do("anna", groups.add, group, world.users["bob"].id)
    world.do("bob", tokens.create, fake, "licensed")


def test_who_may_make_tokens_changes_even_of_a_frozen_type(world: World) -> None:
    """Its owner alone says so; a group that is not there is none."""
    group = world.do("anna", groups.create, "makers")
    name = world.do("anna", types.create, "coin")
    world.do("anna", tokens.create, name, "first")
    assert world.do("anna", types.read, name).is_frozen
    world.do("anna", types.change_creators, name, group)
    with pytest.raises(TypeClosed):
        world.do("bob", tokens.create, name, "second")
    with pytest.raises(NotWritable):
        world.do("bob", types.change_creators, name, None)
    with pytest.raises(GroupNotFound):
        world.do("anna", types.change_creators, name, "g_none")
    world.do("anna", types.change_creators, name, None)
    world.do("bob", tokens.create, name, "second")


def test_unknown_types_and_the_servers_own_are_refused(world: World) -> None:
    """A type with a dot must exist; users and sets are not made as plain tokens."""
    with pytest.raises(TypeNotFound):
        world.do("anna", tokens.create, "anna.nothing", "x")
    with pytest.raises(TypeNotFound):
        world.do("anna", types.create, "heir", ["bob.nothing"])
    for name in ("user", "set"):
        with pytest.raises(TypeClosed):
            world.do("anna", tokens.create, name, "x")
        with pytest.raises(TypeClosed):
            world.do("anna", types.create, f"my-{name}", [name])


@pytest.mark.parametrize(
    ("value_type", "good", "bad"),
    [
        ("number", [0, -1.5], ["1", True, None, [1]]),
        ("string", ["", "x"], [1, {"a": 1}]),
        ("markdown", ["# x"], [1]),
        ("datetime", ["2026-01-02T03:04:05+00:00", "2026-01-02"], ["yesterday", 5]),
        ("color", ["#fff", "#a0b1c2"], ["red", "#ff"]),
        ("url", ["https://a.example/x"], ["ftp://a", "javascript:x", "https://", 1]),
        ("email", ["a@b.example"], ["a", "a@b", "a b@c.d"]),
        ("json", [{"a": [1]}, 1, "x"], []),
        ("binary", ["aGVsbG8="], ["?", 1]),
        ("coordinates", [{"latitude": 1, "longitude": -3.5}], [{"latitude": 91, "longitude": 0}, [1, 2], {}]),
    ],
)
def test_a_value_is_of_its_type(world: World, value_type: Any, good: list[Any], bad: list[Any]) -> None:
    """Each value type takes what it names and nothing else."""
    name = world.do("anna", types.create, "thing")
    world.do("anna", types.declare, name, "held", value_type, allow_null=False, default=(good or [1])[0])
    for value in good:
        world.do("anna", tokens.create, name, "x", {"held": value})
    for value in bad:
        with pytest.raises(BadValue):
            world.do("anna", tokens.create, name, "x", {"held": value})


def test_references_name_something_that_is_there(world: World) -> None:
    """A user, a token or an attribute is referred to by an id that exists."""
    name = world.do("anna", types.create, "thing")
    world.do("anna", types.declare, name, "who", "user")
    world.do("anna", types.declare, name, "what", "token")
    world.do("anna", tokens.create, name, "x", {"who": world.users["bob"].id, "what": world.users["bob"].token_id})
    for values in ({"who": "u_nobody"}, {"what": "t_nothing"}):
        with pytest.raises(BadValue):
            world.do("anna", tokens.create, name, "x", values)


def test_limits_hold(world: World) -> None:
    """Size, length, pattern and choices; and a default must keep them."""
    name = world.do("anna", types.create, "thing")
    world.do("anna", types.declare, name, "level", "number", minimum=1, maximum=5)
    world.do("anna", types.declare, name, "code", "string", pattern="[a-z]{2}-[0-9]+", maximum=6)
    world.do("anna", types.declare, name, "size", "string", choices=["s", "m"], default="m")
    world.do("anna", tokens.create, name, "x", {"level": 5, "code": "ab-12", "size": "s"})
    for values in ({"level": 0}, {"level": 6}, {"code": "ab12"}, {"code": "ab-12345"}, {"size": "l"}):
        with pytest.raises(BadValue):
            world.do("anna", tokens.create, name, "x", values)
    with pytest.raises(AttributeNotFound):
        world.do("anna", tokens.create, name, "x", {"undeclared": 1})
    bad: list[dict[str, Any]] = [
        {"minimum": 2, "maximum": 1},
        {"minimum": 2, "default": 1},
        {"allow_null": False},
        {"pattern": "("},
    ]
    for number, limits in enumerate(bad):
        with pytest.raises(BadValue):
            world.do("anna", types.declare, world.do("anna", types.create, f"t{number}"), "n", "number", **limits)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+b", "a" * 256),
        ("(a|aa)" * 33, "a" * 256),
        ("a*a*a*a*b", "a" * 256),
        ("[ab]*[ab]*[ab]*[ab]*c", "ab" * 128),
        ("(?:(?:a?){150}){150}b", "a" * 256),
    ],
)
def test_no_pattern_runs_away(world: World, pattern: str, text: str) -> None:
    """Whatever the pattern, matching takes time in proportion to the text: nobody holds the writer."""
    name = world.do("anna", types.create, "t")
    world.do("anna", types.declare, name, "n", "string", pattern=pattern)
    started = time.process_time()
    with pytest.raises(BadValue):
        world.do("anna", tokens.create, name, "x", {"n": text})
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "backreferences are not supported"),
        ("(?=a)", "look-around"),
        ("x{1000}{1000}", "too large: repeat less often"),
        ("(?:(?:a?){200}){200}b", "too large: repeat less often"),
        (r"\w{100}", "too large: repeat less often"),
        ("[z-a]", "invalid character class range"),
        ("(?:x", "unclosed group"),
        ("a)(b", "unopened group"),
        ("x" * 201, "longer than 200"),
    ],
)
def test_what_cannot_be_matched_so_is_refused(world: World, pattern: str, reason: str) -> None:
    """The reason is told when the attribute is declared."""
    with pytest.raises(BadValue, match=reason):
        world.do("anna", types.declare, world.do("anna", types.create, "t"), "n", "string", pattern=pattern)


@pytest.mark.parametrize("pattern", [r"\w{1,64}", "[A-Za-z0-9._-]{1,256}", r"(?i)[a-z]{2}-\d{4}|\pL+", "x" * 200])
def test_what_people_write_can_be_matched(world: World, pattern: str) -> None:
    """Names, codes and words of any alphabet fit."""
    world.do("anna", types.declare, world.do("anna", types.create, "t"), "n", "string", pattern=pattern)


@pytest.mark.parametrize(
    ("value_type", "limits"),
    [
        ("number", {"pattern": "x"}),
        ("coordinates", {"minimum": 1}),
        ("string", {"choices": []}),
        ("string", {"choices": ["a", 1]}),
        ("string", {"choices": ["abc"], "maximum": 2}),
        ("number", {"default": {"script": "sc_none"}}),
    ],
)
def test_limits_make_sense(world: World, value_type: Any, limits: dict[str, Any]) -> None:
    """What no value could keep, or nobody could match, is refused when the attribute is declared."""
    with pytest.raises((BadValue, ScriptNotFound)):
        world.do("anna", types.declare, world.do("anna", types.create, "t"), "n", value_type, **limits)


def test_binary_is_measured_in_bytes(world: World) -> None:
    """The limits of a binary are those of what is encoded, not of its text."""
    name = world.do("anna", types.create, "t")
    world.do("anna", types.declare, name, "n", "binary", maximum=3)
    world.do("anna", tokens.create, name, "x", {"n": base64.b64encode(b"abc").decode()})
    with pytest.raises(BadValue, match="bytes"):
        world.do("anna", tokens.create, name, "x", {"n": base64.b64encode(b"abcd").decode()})


def test_a_script_is_no_remote(world: World) -> None:
    """An attribute for scripts takes no remote, and the other way round."""
    name = world.do("anna", types.create, "t")
    world.do("anna", types.declare, name, "program", "script")
    script = world.do("anna", scripts.create, "one", "1")
    remote = world.do("anna", remotes.create, "two", Definition(url="https://a.example/"))
    world.do("anna", tokens.create, name, "x", {"program": {"script": script}})
    for wrong in ({"remote": remote}, script, 1):
        with pytest.raises(BadValue):
            world.do("anna", tokens.create, name, "x", {"program": wrong})


def test_groups_have_members_and_admins(world: World) -> None:
    """Admins say who is in; members only look; the last admin stays; strangers see nothing."""
    group = world.do("anna", groups.create, "staff")
    bob, carl = world.users["bob"].id, world.users["carl"].id
    world.do("anna", groups.add, group, bob)
    assert [one.id for one in world.do("bob", groups.list_)][-1:] == [group]
    with pytest.raises(NotWritable):
        world.do("bob", groups.add, group, carl)
    with pytest.raises(Exception, match="No group"):
        world.do("carl", groups.read, group)
    with pytest.raises(Exception, match="admin"):
        world.do("anna", groups.remove, group, world.users["anna"].id)
    world.do("anna", groups.add, group, bob, True)
    world.do("anna", groups.remove, group, world.users["anna"].id)
    assert world.do("bob", groups.read, group).members == [groups.Membership(bob, is_admin=True)]
    with pytest.raises(UserNotFound):
        world.do("bob", groups.add, group, "u_nobody")
