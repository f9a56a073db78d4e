"""Users, sets, tokens: who may do what, and what stands where."""

from typing import Any

import pytest

from core import access, attribute_values, listing, members, presence, rules, sets, tokens, tree, users
from core.calls import Core, Scene
from core.errors import (
    AlreadyMember,
    AttributeNotWritable,
    BadName,
    EnterRefused,
    HomeStays,
    LeaveRefused,
    NameTaken,
    NotMember,
    NotWritable,
    SetCycle,
    SetNotEmpty,
    SetNotFound,
    TokenInUse,
    TokenNotFound,
    UndeclaredCall,
    UserNotFound,
)
from core.names import sort_key
from core.users import User
from store import Store
from tests.builders import as_user, dump, make_user


@pytest.fixture
async def anna(store: Store) -> User:
    """A user."""
    return await make_user(store, "anna")


@pytest.fixture
async def bob(store: Store) -> User:
    """Another user."""
    return await make_user(store, "bob")


async def make_set(store: Store, owner: User, name: str = "room", **options: Any) -> str:
    """Make a set at the top of the world, or below `parent_id`."""
    return await as_user(store, owner, lambda scene: sets.create(scene, name, **options))


async def names_in(store: Store, user: User, set_id: str) -> list[str]:
    """Return what the user sees in a set."""
    page = await as_user(store, user, lambda scene: listing.read(scene, set_id, limit=200))
    return [entry.name for entry in page.entries]


async def refused(store: Store, user: User, error: type[Exception], call: Any, *args: Any, **options: Any) -> Any:
    """Make a core call that must fail, leaving every row as it was, and return the error."""
    before = await dump(store)
    with pytest.raises(error) as caught:
        await as_user(store, user, lambda scene: call(scene, *args, **options))
    assert await dump(store) == before
    return caught.value


async def test_a_user_has_a_private_home(store: Store, anna: User, bob: User) -> None:
    """His token stands there, and nobody else looks in."""
    assert await names_in(store, anna, anna.home_set_id) == ["anna"]
    await refused(store, bob, SetNotFound, sets.show, anna.home_set_id)


@pytest.mark.parametrize("name", ["", "a", "Anna", "an na", "-anna", "a" * 65, "anna\n", "ännä"])
async def test_user_names_that_cannot_be(store: Store, anna: User, name: str) -> None:
    """A user name is 2 to 64 plain characters."""
    await refused(store, anna, BadName, users.create, name)


async def test_a_user_name_is_taken_once(store: Store, anna: User) -> None:
    """Two users of one name cannot be."""
    assert (await refused(store, anna, NameTaken, users.create, "anna")).name == "anna"


@pytest.mark.parametrize("name", ["", "   ", "x" * 1001, "a\0b", "\ud800"])
async def test_set_names_that_cannot_be(store: Store, anna: User, name: str) -> None:
    """A name no row or terminal can hold is refused."""
    await refused(store, anna, BadName, sets.create, name)


async def test_what_one_cannot_read_is_not_there(store: Store, anna: User, bob: User) -> None:
    """An unreadable set and an unknown one give the same answer, for every call that takes one."""
    private = await make_set(store, anna)
    for call in (sets.show, sets.delete, sets.truncate, access.writable_place):
        mine = await refused(store, bob, SetNotFound, call, private)
        unknown = await refused(store, bob, SetNotFound, call, "set_none")
        assert str(mine).replace(private, "") == str(unknown).replace("set_none", "")
    assert await as_user(store, bob, lambda scene: sets.can_enter(scene, private)) is False


async def test_public_is_readable_but_not_writable(store: Store, anna: User, bob: User) -> None:
    """Everybody reads a public set; its owner changes it."""
    public = await make_set(store, anna, is_public=True)
    place = await as_user(store, bob, lambda scene: sets.show(scene, public))
    assert (place.owner_name, place.rights.can_read, place.rights.can_write) == ("anna", True, False)
    for call in (sets.delete, sets.truncate):
        await refused(store, bob, NotWritable, call, public)
    await refused(store, bob, NotWritable, sets.create, "mine", public)


async def test_a_grant_opens_and_its_end_closes(store: Store, anna: User, bob: User) -> None:
    """Read lets see, write lets change, None takes both back; only the owner shares."""
    room = await make_set(store, anna)
    token_id = (await as_user(store, anna, lambda scene: sets.show(scene, room))).token_id
    await as_user(store, anna, lambda scene: tokens.grant(scene, token_id, bob.id, "read"))
    await refused(store, bob, NotWritable, sets.create, "below", room)
    await refused(store, bob, NotWritable, tokens.grant, token_id, bob.id, "write")
    await as_user(store, anna, lambda scene: tokens.grant(scene, token_id, bob.id, "write"))
    await as_user(store, bob, lambda scene: sets.create(scene, "below", room, is_public=True))
    assert await names_in(store, anna, room) == ["below"]
    await as_user(store, anna, lambda scene: tokens.grant(scene, token_id, bob.id, None))
    await refused(store, bob, SetNotFound, sets.show, room)
    await refused(store, bob, TokenNotFound, tokens.grant, token_id, bob.id, "read")
    await refused(store, anna, UserNotFound, tokens.grant, token_id, "u_none", "read")


@pytest.mark.parametrize("policy", ["members", "owner"])
async def test_a_set_refuses_with_its_rule_and_says_whom_to_ask(
    store: Store, anna: User, bob: User, policy: Any
) -> None:
    """Reading a set does not mean entering it."""
    room = await make_set(store, anna, is_public=True, enter_policy=policy)
    error = await refused(store, bob, EnterRefused, presence.enter, "s_1", room)
    assert (error.set_id, error.set_name, error.rule) == (room, "room", policy)
    assert "anna" in error.message
    assert await as_user(store, bob, lambda scene: sets.can_enter(scene, room)) is False
    assert await as_user(store, anna, lambda scene: presence.enter(scene, "s_1", room)) is True


async def test_a_member_may_enter_and_a_visitor_is_none(store: Store, anna: User, bob: User) -> None:
    """The policy `members` asks for the user's token among the members; a stay as visitor earns nothing."""
    room = await make_set(store, anna, is_public=True)
    await as_user(store, bob, lambda scene: presence.enter(scene, "s_1", room))
    await as_user(store, anna, lambda scene: sets.change_policy(scene, room, "members"))
    await refused(store, bob, EnterRefused, presence.enter, "s_2", room)
    await as_user(store, bob, lambda scene: presence.leave(scene, "s_1"))
    await store.write(lambda tx: members.put(tx, room, bob.token_id, "member"))
    assert await as_user(store, bob, lambda scene: presence.enter(scene, "s_2", room)) is False


async def test_a_frozen_user_enters_nothing_but_his_home(store: Store, anna: User) -> None:
    """No set of his own either; he is not asked whether he may leave where he stands."""
    room = await make_set(store, anna)
    definer = (await as_user(store, anna, lambda scene: sets.show(scene, room))).token_id
    deny = {"deny": {"type": "user"}}
    await as_user(store, anna, lambda scene: rules.create(scene, "set_leaving", deny, token_id=definer))
    await as_user(store, anna, lambda scene: presence.enter(scene, "s_1", room))
    await refused(store, anna, LeaveRefused, presence.leave, "s_1", is_asked=True)
    frozen = await as_user(store, anna, lambda scene: users.freeze(scene, name="anna"))
    assert frozen.is_frozen
    error = await refused(store, anna, EnterRefused, presence.enter, "s_2", room)
    assert error.rule == "frozen"
    assert not await as_user(store, anna, lambda scene: sets.can_enter(scene, room))
    assert await as_user(store, anna, lambda scene: sets.can_enter(scene, anna.home_set_id))
    await as_user(store, anna, lambda scene: presence.leave(scene, "s_1", is_asked=True))
    await as_user(store, anna, lambda scene: presence.enter(scene, "s_1", anna.home_set_id))
    await as_user(store, anna, lambda scene: users.freeze(scene, user_id=anna.id, is_frozen=False))
    await as_user(store, anna, lambda scene: presence.enter(scene, "s_2", room))


async def test_presence_is_counted_by_session(store: Store, anna: User, bob: User) -> None:
    """The token comes with the first session and goes with the last."""
    room = await make_set(store, anna, is_public=True)
    came = [await as_user(store, bob, lambda scene, s=s: presence.enter(scene, s, room)) for s in ("s_1", "s_2")]
    assert came == [True, False]
    assert await names_in(store, anna, room) == ["bob"]
    assert await store.read(lambda tx: presence.users_in(tx, room)) == [bob.id]
    left = [await as_user(store, bob, lambda scene, s=s: presence.leave(scene, s)) for s in ("s_1", "s_2", "s_2")]
    assert left == [(room, False), (room, True), None]
    assert await names_in(store, anna, room) == []


async def test_home_keeps_its_user(store: Store, anna: User) -> None:
    """A token is always in at least one set: leaving home does not take it away."""
    await as_user(store, anna, lambda scene: presence.enter(scene, "s_1", anna.home_set_id))
    assert await as_user(store, anna, lambda scene: presence.leave(scene, "s_1")) == (anna.home_set_id, False)
    await refused(store, anna, NotMember, sets.remove_tokens, anna.home_set_id, [anna.token_id])
    assert "anna" in await names_in(store, anna, anna.home_set_id)


async def test_a_set_cannot_stand_below_itself(store: Store, anna: User) -> None:
    """However long the way round is."""
    top = await make_set(store, anna, "top")
    middle = await make_set(store, anna, "middle", parent_id=top)
    low = await make_set(store, anna, "low", parent_id=middle)
    for below in (top, middle, low):
        await refused(store, anna, SetCycle, sets.change_parent, top, below)
    await as_user(store, anna, lambda scene: sets.change_parent(scene, low, top))
    assert await names_in(store, anna, top) == ["low", "middle"]
    assert await names_in(store, anna, middle) == []
    await as_user(store, anna, lambda scene: sets.change_parent(scene, low, None))
    assert await names_in(store, anna, top) == ["middle"]


async def test_links_go_one_way_and_may_go_round(store: Store, anna: User, bob: User) -> None:
    """A link is the target's token; links may form a circle; one cannot link to what one cannot read."""
    one, other = await make_set(store, anna, "one"), await make_set(store, anna, "other")
    for source, target in ((one, other), (other, one)):
        await as_user(store, anna, lambda scene, a=source, b=target: sets.link(scene, a, b))
    assert await names_in(store, anna, one) == ["other"]
    await refused(store, anna, AlreadyMember, sets.link, one, other)
    await refused(store, anna, SetNotFound, sets.link, one, bob.home_set_id)
    await as_user(store, anna, lambda scene: sets.unlink(scene, one, other))
    await refused(store, anna, NotMember, sets.unlink, one, other)
    assert await as_user(store, anna, lambda scene: listing.ways(scene, other)[1]) is True
    assert await as_user(store, anna, lambda scene: listing.ways(scene, one)[1]) is False


async def test_a_token_in_two_sets_is_one_token(store: Store, anna: User) -> None:
    """Deleting shows in both; taking it out of one leaves the other."""
    one, other = await make_set(store, anna, "one"), await make_set(store, anna, "other")

    def build(scene: Scene) -> list[str]:
        made = [tokens.create(scene, "thing", name) for name in ("pen", "ink")]
        for place in (one, other):
            sets.add_tokens(scene, place, made)
        return made

    pen, ink = await as_user(store, anna, build)
    assert await names_in(store, anna, one) == await names_in(store, anna, other) == ["ink", "pen"]
    await as_user(store, anna, lambda scene: sets.remove_tokens(scene, one, [ink]))
    assert await names_in(store, anna, one) == ["pen"]
    await as_user(store, anna, lambda scene: sets.truncate(scene, one))
    assert await names_in(store, anna, other) == ["ink", "pen"]
    await as_user(store, anna, lambda scene: tokens.delete(scene, pen))
    await as_user(store, anna, lambda scene: sets.truncate(scene, other))
    assert await store.read(lambda tx: tx.one("SELECT count(*) FROM tokens WHERE type = 'thing'")) == (0,)


async def test_an_attribute_is_written_by_those_who_may(store: Store, anna: User, bob: User) -> None:
    """A readable token is not a writable one; None takes the attribute away."""
    room = await make_set(store, anna, is_public=True)
    pen = await as_user(store, anna, lambda scene: tokens.create(scene, "thing", "pen", {"ink": 3}))
    await refused(store, bob, TokenNotFound, attribute_values.edit, pen, "ink", 0)
    await as_user(store, anna, lambda scene: sets.add_tokens(scene, room, [pen]))
    await refused(store, bob, AttributeNotWritable, attribute_values.edit, pen, "ink", 0)
    await refused(store, bob, NotWritable, tokens.delete, pen)
    await as_user(store, anna, lambda scene: attribute_values.edit(scene, pen, "ink", None))
    await as_user(store, anna, lambda scene: attribute_values.edit(scene, pen, "tip", "broad"))
    entry = await as_user(store, bob, lambda scene: listing.read_one(scene, pen, room))
    assert entry.attributes == {"tip": "broad"}


async def test_what_is_in_use_stays(store: Store, anna: User) -> None:
    """A set with children, a home, a token that defines a set, a user's token: none is deleted from below."""
    await refused(store, anna, HomeStays, sets.delete, anna.home_set_id)
    top = await make_set(store, anna, "top")
    low = await make_set(store, anna, "low", parent_id=top)
    await refused(store, anna, SetNotEmpty, sets.delete, top)
    token_id = (await as_user(store, anna, lambda scene: sets.show(scene, low))).token_id
    await refused(store, anna, TokenInUse, tokens.delete, token_id)
    await refused(store, anna, TokenInUse, tokens.delete, anna.token_id)
    await as_user(store, anna, lambda scene: sets.delete(scene, low))
    await as_user(store, anna, lambda scene: sets.delete(scene, top))
    await refused(store, anna, SetNotFound, sets.show, top)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("low", "low"),
        ("./low/", "low"),
        ("LOW/..", "middle"),
        ("/", "top"),
        ("/Middle/low", "low"),
        ("~", "home"),
        ("~/shelf", "shelf"),
        ("..", "top"),
        ("", "middle"),
    ],
)
async def test_a_path_leads_somewhere(store: Store, anna: User, path: str, leads_to: str) -> None:
    """Names by `/`, `..` up, `.` here, `~` home, a leading `/` from the top."""
    top = await make_set(store, anna, "top")
    middle = await make_set(store, anna, "middle", parent_id=top)
    low = await make_set(store, anna, "low", parent_id=middle)
    shelf = await make_set(store, anna, "shelf", parent_id=anna.home_set_id)
    known = {"top": top, "middle": middle, "low": low, "home": anna.home_set_id, "shelf": shelf}
    assert await as_user(store, anna, lambda s: sets.resolve(s, middle, path, anna.home_set_id)) == known[leads_to]


@pytest.mark.parametrize(("path", "part"), [("low/none/x", "none"), ("../..", ".."), ("~bob", "~bob")])
async def test_a_path_that_leads_nowhere_says_where_it_broke(store: Store, anna: User, path: str, part: str) -> None:
    """The error names the part there is no set for."""
    top = await make_set(store, anna, "top")
    middle = await make_set(store, anna, "middle", parent_id=top)
    await make_set(store, anna, "low", parent_id=middle)
    assert (await refused(store, anna, SetNotFound, sets.resolve, middle, path, anna.home_set_id)).id == part


async def test_an_undeclared_core_call_is_refused(store: Store, anna: User) -> None:
    """The error names the job and the call; by name or by function makes no difference."""

    def calls(scene: Scene) -> None:
        core = Core(scene, "my.job", frozenset(["core.set.show"]))
        assert core(sets.show, anna.home_set_id).name == core.named("core.set.show", set_id=anna.home_set_id).name
        for attempt in (lambda: core(sets.delete, "x"), lambda: core.named("core.set.delete", set_id="x")):
            with pytest.raises(UndeclaredCall) as caught:
                attempt()
            assert "my.job" in str(caught.value) and "core.set.delete" in str(caught.value)

    await as_user(store, anna, calls)


async def test_a_tree_is_deleted_in_bounded_steps(store: Store, anna: User) -> None:
    """An import that failed is taken away from its leaves, some at a time, and nothing of it is left."""
    before = await dump(store)
    nodes = [tree.Node("t_0", None, 0, "set", "root", "{}", "set_0")]
    for depth in range(1, 5):
        nodes.append(tree.Node(f"t_{depth}", f"set_{depth - 1}", 1, "set", f"d{depth}", "{}", f"set_{depth}"))
        nodes += [tree.Node(f"t_{depth}_{n}", f"set_{depth}", n + 2, "file", f"f{n}", "{}") for n in range(7)]
    await as_user(store, anna, lambda scene: tree.add(scene, nodes, False, {}))
    steps = 1
    while not await as_user(store, anna, lambda scene: tree.delete(scene, "set_0", 5)):
        steps += 1
    assert steps >= 6
    assert await dump(store) == before


def test_sorting_ignores_case_and_spelling() -> None:
    """The same word in another case, or composed in another way, sorts alike."""
    assert sort_key("Ä") == sort_key("A\u0308") == sort_key("ä")
