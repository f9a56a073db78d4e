"""Who is let in and out, clause by clause over a real socket: by whatever a rule decides, and by plugins' guards."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core import rules
from core.calls import Scene
from plugins.hooks import Passage, hookimpl
from rpcserver.client import Client
from tests.builders import dump
from tests.conftest import Running
from tests.rpcserver.test_places import a_place, a_rule, refused


class Street:
    """Anna's hall and vault, and bob, who stands in the hall with a session."""

    def __init__(self, server: Running, anna: Client, bob: Client) -> None:
        self.server, self.anna, self.bob = server, anna, bob
        self.ids: dict[str, str] = {}

    def __getattr__(self, name: str) -> str:
        return self.ids[name]

    async def make(self, key: str, method: str, /, **params: Any) -> str:
        """Make something of anna's, and know its id by a name."""
        self.ids[key] = str(await self.anna.call(method, **params))
        return self.ids[key]

    async def build(self) -> None:
        """Make what the conditions speak of."""
        self.ids["hall"], self.ids["hall_door"] = await a_place(self.anna, "hall")
        self.ids["vault"], self.ids["vault_door"] = await a_place(self.anna, "vault")
        self.ids["yard"], _ = await a_place(self.anna, "yard")
        him = await self.bob.call("core.user.read")
        self.ids |= {"him": him["id"], "token": him["token_id"], "his": him["home_set_id"]}
        await self.make("group", "core.group.create", name="staff")
        await self.make("ticket", "core.type.create", name="ticket")
        await self.make("gold", "core.type.create", name="gold", parents=[self.ticket])
        await self.make("script", "core.script.create", name="door", text="token.get('open', False)")
        self.ids["session"] = await self.bob.create_session("walk", set_id=self.hall)


@pytest.fixture
async def street(server: Running, anna: Client, bob: Client) -> Street:
    """A hall, a vault, and bob in the hall."""
    made = Street(server, anna, bob)
    await made.build()
    return made


Unlock = Callable[[Street, str], Awaitable[Any]]


async def _level(s: Street, door: str) -> None:
    await s.bob.call("core.token.edit_attribute", token_id=s.token, attribute="level", value=4)


async def _open(s: Street, door: str) -> None:
    await s.anna.call("core.token.edit_attribute", token_id=door, attribute="open", value=True)


async def _join(s: Street, door: str) -> None:
    await s.anna.call("core.group.member.add", group_id=s.group, user_id=s.him)


async def _visit(s: Street, door: str) -> None:
    other = await s.bob.create_session("other", set_id=s.yard)  # another session's visit does not count
    await s.bob.destroy_session(other)
    assert (await refused(s.bob, session_id=s.session, set_id=s.vault)).kind.endswith("_REFUSED")
    await s.server.services.store.write(
        lambda tx: tx.run("INSERT INTO visits (session_id, set_id) VALUES (?, ?)", s.session, s.yard)
    )


async def _pay(s: Street, door: str) -> None:
    for kind, name in ((s.ticket, "one"), (s.gold, "two")):
        token = await s.bob.call("core.token.create", type=kind, name=name)
        await s.bob.call("core.set.tokens.add", set_id=s.his, token_ids=[token])


async def _leave_a_stone(s: Street, door: str) -> None:
    for place in (s.hall, s.vault):
        await s.anna.call("core.token.create", type="stone", name="stone", set_id=place)


DOORS: dict[str, tuple[Callable[[Street], dict[str, Any]], Unlock]] = {
    "value of the visitor": (
        lambda s: {"allow": {"attribute": {"name": "level", "minimum": 3, "maximum": 9}}},
        _level,
    ),
    "value of the set": (lambda s: {"deny": {"not": {"attribute": {"name": "open", "of": "set", "is": True}}}}, _open),
    "value of the caller": (lambda s: {"allow": {"attribute": {"name": "level", "of": "caller", "in": [4]}}}, _level),
    "group": (lambda s: {"allow": {"group": s.group}}, _join),
    "visited sets first": (lambda s: {"allow": {"visited": [s.hall, s.yard]}}, _visit),
    "types and counts at home": (
        lambda s: {"allow": {"count": {"type": s.ticket, "where": "home", "minimum": 2}}},
        _pay,
    ),
    "types and counts there": (lambda s: {"deny": {"count": {"type": "stone", "maximum": 0}}}, _leave_a_stone),
    "script": (lambda s: {"allow": {"script": s.script}}, _open),
    "conditions together": (lambda s: {"allow": {"all": [{"type": "user"}, {"any": [{"group": s.group}]}]}}, _join),
}


@pytest.mark.parametrize("event", ["set_entering", "set_leaving"])
@pytest.mark.parametrize("name", DOORS)
async def test_a_door_opens_to_who_fulfils_its_rule(street: Street, name: str, event: str) -> None:
    """Refused, the rule and its message are told and nothing has changed; fulfilled, the same call goes through."""
    decide, unlock = DOORS[name]
    door = street.vault_door if event == "set_entering" else street.hall_door
    await a_rule(street.anna, door, decide(street), event, name="the rule", message="not like this.")
    before = await dump(street.server.services.store)
    error = await refused(street.bob, session_id=street.session, set_id=street.vault)
    assert error.kind == ("ENTER_REFUSED" if event == "set_entering" else "LEAVE_REFUSED")
    place = street.vault if event == "set_entering" else street.hall
    assert (error.data["set_id"], error.data["rule"], error.data["refusals"]) == (place, "the rule", 1)
    assert "not like this." in error.message
    assert await dump(street.server.services.store) == before
    await unlock(street, door)
    assert (await street.bob.cd(street.session, set_id=street.vault)).current_set.id == street.vault


async def test_every_refusal_counts_and_the_first_is_told(street: Street) -> None:
    """From the remotest ancestor of the type to the token; one more rule that allows helps nothing."""
    kind = await street.make("far", "core.type.create", name="far")
    near = await street.make("near", "core.type.create", name="near", parents=[kind])
    token = await street.make("place", "core.token.create", type=near, name="place")
    place = await street.make("set", "core.set.create", token_id=token)
    never, always = {"deny": {"type": "user"}}, {"allow": {"type": "user"}}
    await a_rule(street.anna, token, never, name="own")
    await a_rule(street.anna, token, always, name="open")
    for name, type in (("near", near), ("far", kind)):
        params = {"event": "set_entering", "decision": never, "type": type, "name": name, "message": f"{name} no."}
        await street.anna.call("core.rule.create", **params)
    error = await refused(street.bob, session_id=street.session, set_id=place)
    assert (error.data["rule"], error.data["refusals"]) == ("far", 3) and "far no." in error.message


class Porter:
    """A guard that says what it is told to, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str]] = []
        self.says: dict[str, str | None] = {}
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None

    @hookimpl
    async def set_leaving(self, passage: Passage) -> str | None:
        """Note it."""
        self.asked.append(("set_leaving", passage.from_set_id, passage.to_set_id))
        return self.says.get("set_leaving")

    @hookimpl
    async def set_entering(self, passage: Passage) -> str | None:
        """Note it, and let something happen before the answer."""
        self.asked.append(("set_entering", passage.from_set_id, passage.to_set_id))
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.says.get("set_entering")


async def test_guards_are_asked_of_both_places_and_all_that_refuse_are_counted(street: Street) -> None:
    """First who keeps the place left, then who keeps the one entered; the first message, and how many said no."""
    one, two = Porter(), Porter()
    for number, porter in enumerate((one, two)):
        street.server.services.bus.register(porter, f"porter{number}")
    one.says, two.says = {"set_entering": "first no."}, {"set_entering": "second no."}
    before = await dump(street.server.services.store)
    error = await refused(street.bob, session_id=street.session, set_id=street.vault)
    assert error.kind == "ENTER_REFUSED" and "first no." in error.message
    assert (error.data["rule"], error.data["refusals"]) == ("porter0", 2)
    moved = (street.hall, street.vault)
    assert one.asked == two.asked == [("set_leaving", *moved), ("set_entering", *moved)]
    assert await dump(street.server.services.store) == before
    hidden = await street.make("hidden", "core.set.create", name="hidden")
    assert (await refused(street.bob, session_id=street.session, set_id=hidden)).kind == "SET_NOT_FOUND"
    assert len(one.asked) == 2  # what cannot be seen is asked nothing, and tells nothing


async def test_what_was_allowed_is_checked_again_inside(street: Street) -> None:
    """A rule that comes while the guards are asked decides all the same; so does a set that goes."""
    porter = Porter()
    street.server.services.bus.register(porter, "porter")
    me = (await street.anna.call("core.user.read"))["id"]

    async def shut() -> None:
        decision = {"deny": {"type": "user"}}
        await street.server.services.store.write(
            lambda tx: rules.create(Scene(tx, me), "set_entering", decision, token_id=street.vault_door, name="late")
        )

    porter.meanwhile = shut
    error = await refused(street.bob, session_id=street.session, set_id=street.vault)
    assert (error.kind, error.data["rule"]) == ("ENTER_REFUSED", "late")
    assert (await street.bob.get_session(street.session)).working_set == street.hall

    async def gone() -> None:
        await street.anna.call("core.set.delete", set_id=street.yard)

    porter.meanwhile = gone
    assert (await refused(street.bob, session_id=street.session, set_id=street.yard)).kind == "SET_NOT_FOUND"
    assert (await street.bob.get_session(street.session)).working_set == street.hall


async def test_a_script_of_a_set_one_may_not_enter_is_not_run(street: Street) -> None:
    """Neither of one that cannot be seen, nor of one whose policy shuts one out: the answer is as without it."""
    counting = await street.make("counting", "core.script.create", name="count", text="1 / 0")
    hidden = await street.make("hidden", "core.set.create", name="hidden")
    closed = await street.make("closed", "core.set.create", name="closed", is_public=True, enter_policy="owner")
    for set_id in (hidden, closed):
        token = (await street.anna.call("core.set.show", set_id=set_id))["token_id"]
        await a_rule(street.anna, token, {"allow": {"script": counting}})
    unknown = await refused(street.bob, session_id=street.session, set_id="set_unknown")
    unseen = await refused(street.bob, session_id=street.session, set_id=hidden)
    assert (unseen.kind, unseen.code) == (unknown.kind, unknown.code)
    error = await refused(street.bob, session_id=street.session, set_id=closed)
    assert (error.kind, error.data["rule"]) == ("ENTER_REFUSED", "owner")


async def test_no_door_traps(street: Street) -> None:
    """Whatever rules, scripts and guards say: a session is destroyed, a set is deleted, home is open."""
    porter = Porter()
    porter.says = {"set_leaving": "stay.", "set_entering": "never."}
    broken = await street.make("broken", "core.script.create", name="broken", text="1 / 0")
    inside = await street.bob.create_session("inside", set_id=street.vault)
    for door in (street.vault_door, street.hall_door):
        await a_rule(street.anna, door, {"deny": {"type": "user"}}, "set_leaving")
        await a_rule(street.anna, door, {"allow": {"script": broken}}, "set_leaving")
    home = (await street.bob.call("core.user.read"))["home_set_id"]
    own = (await street.bob.call("core.set.show", set_id=home))["token_id"]
    mine = await street.bob.call("core.script.create", name="broken", text="1 / 0")
    await street.bob.call("core.rule.create", event="set_entering", decision={"allow": {"script": mine}}, token_id=own)
    street.server.services.bus.register(porter, "porter")
    await street.bob.destroy_session(street.session)
    await street.anna.call("core.set.delete", set_id=street.vault)
    listing = await street.bob.ls(inside)
    assert listing.relocated_from is not None and listing.current_set.id == home
    assert porter.asked == []
    await street.bob.destroy_session(inside)
    fresh = await street.bob.create_session("fresh")
    assert (await street.bob.get_session(fresh)).working_set == home


async def test_a_session_ends_whatever_its_user_made_of_its_sets(street: Street) -> None:
    """Rules on its own sets, sets below them, even a set given away: destroying goes through, and nothing dangles."""
    record = await street.bob.get_session(street.session)
    assert record.session_data and record.command_pallet
    door = (await street.bob.call("core.set.show", set_id=record.session_data))["token_id"]
    for event in ("set_destroying", "token_removing"):
        await a_rule(street.bob, door, {"deny": {"not": {"about": "nothing"}}}, event)
    below = await street.bob.call("core.set.create", name="below", parent_id=record.session_data)
    pallet = (await street.bob.call("core.set.show", set_id=record.command_pallet))["token_id"]
    me = (await street.anna.call("core.user.read"))["id"]
    await street.bob.call("core.token.give", token_id=pallet, user_id=me)
    await street.bob.destroy_session(street.session)
    assert (await street.bob.call("core.set.show", set_id=below))["parent_id"] is None
    assert (await refused(street.bob, "core.set.show", set_id=record.session_data)).kind == "SET_NOT_FOUND"
    assert await street.server.services.store.read(lambda tx: tx.all("PRAGMA foreign_key_check")) == []


async def test_home_is_never_left_for_good(street: Street) -> None:
    """A user's token stands at home wherever his sessions are, and nothing takes it out."""
    me = await street.bob.call("core.user.read")
    home, token = me["home_set_id"], me["token_id"]

    async def kind() -> str:
        return str((await street.bob.call("core.token.read", token_id=token, set_id=home))["kind"])

    at_home = await street.bob.create_session("at home")
    await street.bob.cd(at_home, set_id=street.yard)
    assert await kind() == "member"
    for params in ({}, {"is_forced": True}):
        error = await refused(street.bob, "core.set.tokens.remove", set_id=home, token_ids=[token], **params)
        assert error.kind == "NOT_MEMBER"
    await street.bob.destroy_session(at_home)
    for child in (await street.bob.call("core.set.list", parent_id=home))["items"]:
        await street.bob.call("core.set.parent", set_id=child["id"], parent_id=None)
    await street.bob.call("core.set.truncate", set_id=home)
    assert await kind() == "member"


async def test_presence_is_counted_per_session(street: Street) -> None:
    """By walking, by destroying, and by many at once: the token is there while one session is."""

    async def visitors() -> int:
        shown = await street.anna.call("core.set.show", set_id=street.yard, wide=True)
        return int(shown["counts"].get("visitor", 0))

    sessions = [await street.bob.create_session(f"visit {number}", set_id=street.yard) for number in range(4)]
    assert await visitors() == 1
    await street.bob.destroy_session(sessions[0])
    await street.bob.cd(sessions[1], to="home")
    assert await visitors() == 1
    await asyncio.gather(street.bob.cd(sessions[2], to="home"), street.bob.destroy_session(sessions[3]))
    assert await visitors() == 0


async def test_a_set_s_requirement_counts_what_stands_there(street: Street) -> None:
    """At most three stones, of which none is taken below two: also when several come or go in one call."""
    few = {"deny": {"count": {"type": "stone", "minimum": 3}}}
    many = {"deny": {"count": {"type": "stone", "maximum": 2}}}
    await a_rule(street.anna, street.vault_door, few, "token_adding", message="three are enough.")
    await a_rule(street.anna, street.vault_door, many, "token_removing", message="two stay.")
    stones = [await street.anna.call("core.token.create", type="stone", name=f"stone {n}") for n in range(4)]
    before = await dump(street.server.services.store)
    error = await refused(street.anna, "core.set.tokens.add", set_id=street.vault, token_ids=stones)
    assert error.kind == "EVENT_REFUSED" and "three are enough." in error.message
    assert await dump(street.server.services.store) == before
    await street.anna.call("core.set.tokens.add", set_id=street.vault, token_ids=stones[:3])
    before = await dump(street.server.services.store)
    for method, params in (("remove", {"token_ids": stones[:2]}), ("truncate", {})):
        call = "core.set.truncate" if method == "truncate" else "core.set.tokens.remove"
        error = await refused(street.anna, call, set_id=street.vault, **params)
        assert error.kind == "EVENT_REFUSED" and "two stay." in error.message
        assert await dump(street.server.services.store) == before
    assert await street.anna.call("core.set.tokens.remove", set_id=street.vault, token_ids=stones[:1]) == stones[:1]
