"""The table of sessions.md 3.4, row by row over a real socket: arguments, result and errors of every core call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from rpcserver.methods import METHODS
from tests.builders import dump, make_place
from tests.conftest import Running
from tests.rpcserver.test_places import a_rule

NEVER: dict[str, Any] = {"deny": {"not": {"about": "nothing"}}}
TRIED = {"remote_activity"}  # a call that came to nothing is recorded all the same
PARAMS = {method.name: set(method.params.model_fields) for method in METHODS}


class Stage:
    """A world to make every call in: anna's room, closed and full of things, and bob, who looks at it."""

    def __init__(self, server: Running, anna: Client, bob: Client, operator: Client) -> None:
        self.server = server
        self.clients = {"anna": anna, "bob": bob, "operator": operator}
        self.ids: dict[str, str] = {}

    def __getattr__(self, name: str) -> str:
        return self.ids[name]

    async def make(self, key: str, method: str, /, **params: Any) -> None:
        """Make something of anna's, and know its id by a name."""
        self.ids[key] = await self.clients["anna"].call(method, **params)

    async def build(self) -> None:
        """Make what the rows speak of."""
        anna, bob, ids = self.clients["anna"], self.clients["bob"], self.ids
        me, him = await anna.call("core.user.read"), await bob.call("auth.whoami")
        ids |= {"home": me["home_set_id"], "me": me["token_id"]}
        ids |= {"bob": him["user_id"], "bobs": await make_place(bob, is_public=True)}
        watts = {"watts": {"value_type": "number", "default": 40, "maximum": 100}}
        await self.make("group", "core.group.create", name="friends")
        await self.make("kind", "core.type.create", name="lamp", attributes=watts)
        await self.make("closed", "core.type.create", name="closed", creators_group_id=self.group)
        await self.make("old", "core.type.create", name="old")
        await anna.call("core.type.retire", name=self.old)
        await self.make("room", "core.set.create", name="room", parent_id=self.home, is_public=True)
        await self.make("inner", "core.set.create", name="inner", parent_id=self.room, is_public=True)
        await self.make("hidden", "core.set.create", name="hidden", links=[self.room])
        await self.make("guarded", "core.set.create", name="guarded", is_public=True, links=[self.room])
        for name in ("room", "guarded"):
            ids[f"{name}_door"] = (await anna.call("core.set.show", set_id=ids[name]))["token_id"]
        await self.make("script", "core.script.create", name="double", text="value * 2")
        await self.make("remote", "core.remote.create", name="help", kind="manual", definition={"question": "Well?"})
        await self.make("url", "core.remote.create", name="out", definition={"url": "https://api.example.com/"})
        await self.fill()

    async def fill(self) -> None:
        """Make tokens and rules."""
        anna = self.clients["anna"]
        await self.make("lamp", "core.token.create", type=self.kind, name="lamp", set_id=self.room)
        for name in ("note", "other", "ward", "off"):
            await self.make(name, "core.token.create", type="note", name=name, attributes={"text": 1})
        await anna.call("core.token.turn_attribute", token_id=self.off, attribute="text", is_on=False)
        await anna.call("core.set.tokens.add", set_id=self.room, token_ids=[self.off])
        await anna.call("core.set.tokens.add", set_id=self.guarded, token_ids=[self.ward], is_sticky=True)
        desk = {"write": {"remote": self.remote}, "read": {"script": self.script}}
        await self.make("desk", "core.token.create", type="command", name="ask", set_id=self.room, attributes=desk)
        for event in ("token_adding", "child_adding", "link_creating", "link_destroying", "set_destroying"):
            await a_rule(anna, self.guarded_door, NEVER, event)
        for event in ("value_changing", "token_destroying", "custom.ring"):
            self.ids["rule"] = await a_rule(anna, self.ward, NEVER, event)
        await anna.call("core.rule.create", event="token_creating", decision=NEVER, type=self.closed)


Make = Callable[[Stage], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One call: params that succeed, what the answer holds, and for each error params (and a caller) that meet it."""

    call: str
    params: Make = lambda s: {}
    holds: Any = None
    errors: list[tuple[str, Make]] = field(default_factory=list)
    by: str = "anna"
    wrongly_by: str = "anna"


def is_id(prefix: str) -> Callable[[Any], bool]:
    """Return a check that an answer is an id of a kind."""
    return lambda answer: isinstance(answer, str) and answer.startswith(prefix)


def is_page(answer: Any) -> bool:
    """Tell whether an answer is a page."""
    return isinstance(answer["items"], list) and "next_cursor" in answer


NOWHERE = {"set_id": "set_none"}
BAD_CURSOR = {"cursor": "forged"}
ROWS = [
    Row("core.user.create", lambda s: {"name": "dora"}, {"user", "credential"},
        [("NAME_TAKEN", lambda s: {"name": "anna"}), ("BAD_NAME", lambda s: {"name": "a b"})], "operator", "operator"),
    Row("core.user.read", lambda s: {"wide": True, "editable": True},
        {"id", "guid", "token_type", "token_id", "group_id", "attributes", "home_set_id"},
        [("USER_NOT_FOUND", lambda s: {"user_id": s.bob})]),
    Row("core.type.create",
        lambda s: {"name": "torch", "parents": [s.kind], "is_human": False,
                   "attributes": {"colour": {"value_type": "color"}}}, is_id("anna.torch"),
        [("NAME_TAKEN", lambda s: {"name": "lamp"}), ("TYPE_CLOSED", lambda s: {"name": "x", "parents": [s.old]}),
         ("TYPE_CLOSED", lambda s: {"name": "x", "parents": ["user"]}),
         ("BAD_VALUE", lambda s: {"name": "x", "attributes": {
             "a": {"value_type": "number", "minimum": 2, "maximum": 1}}})]),
    Row("core.type.read", lambda s: {"name": s.kind}, {"name", "parents", "is_human", "is_retired"},
        [("TYPE_NOT_FOUND", lambda s: {"name": "anna.none"})]),
    Row("core.type.list", holds=is_page, errors=[("INVALID_CURSOR", lambda s: BAD_CURSOR)]),
    Row("core.attribute.create",
        lambda s: {"type": s.closed, "name": "size", "value_type": "number", "minimum": 1, "maximum": 2,
                   "read_groups": [s.group], "write_groups": [s.group], "is_human": False}, is_id("a_"),
        [("TYPE_CLOSED", lambda s: {"type": s.kind, "name": "x", "value_type": "number"}),
         ("BAD_VALUE", lambda s: {"type": s.closed, "name": "x", "value_type": "string", "default": 5})]),
    Row("core.attribute.read", lambda s: {"token_id": s.lamp, "attribute": "watts", "set_id": s.room},
        lambda answer: (answer["value"], answer["state"]) == (40, "ok") and answer["as_of"] > 10**12,
        [("ATTRIBUTE_NOT_FOUND", lambda s: {"token_id": s.lamp, "attribute": "none"}),
         ("TOKEN_NOT_FOUND", lambda s: {"token_id": "t_none", "attribute": "x"})]),
    Row("core.attribute.read", lambda s: {"token_id": s.off, "attribute": "text"},
        lambda answer: (answer["value"], answer["state"]) == (None, "off"),
        [("ATTRIBUTE_NOT_READABLE", lambda s: {"token_id": s.off, "attribute": "text"})], wrongly_by="bob"),
    Row("core.attribute.permissions",
        lambda s: {"token_id": s.lamp, "attribute": "watts", "set_id": s.room, "user_id": s.bob},
        {"can_read": True, "can_write": False, "why": "only the owner, and whom they let, write it"},
        [("USER_NOT_FOUND", lambda s: {"token_id": s.lamp, "attribute": "watts", "user_id": "u_none"})]),
    Row("core.token.create",
        lambda s: {"type": s.kind, "name": "new", "attributes": {"watts": 60}, "set_id": s.room}, is_id("t_"),
        [("TYPE_CLOSED", lambda s: {"type": s.old, "name": "x"}),
         ("EVENT_REFUSED", lambda s: {"type": s.closed, "name": "x"}),
         ("EVENT_REFUSED", lambda s: {"type": "note", "name": "x", "set_id": s.guarded}),
         ("BAD_VALUE", lambda s: {"type": s.kind, "name": "x", "attributes": {"watts": 101}})]),
    Row("core.token.create", lambda s: {"type": s.kind, "name": "bob's"}, is_id("t_"),
        [("TYPE_CLOSED", lambda s: {"type": s.closed, "name": "x"}),
         ("FORBIDDEN", lambda s: {"type": "note", "name": "x", "set_id": s.room})], "bob", "bob"),
    Row("core.token.read", lambda s: {"token_id": s.room_door, "set_id": s.home, "wide": True, "is_human": True},
        {"id", "attributes", "set_id", "kind", "revision", "details"},
        [("TOKEN_NOT_FOUND", lambda s: {"token_id": "t_none"})]),
    Row("core.token.edit_attribute",
        lambda s: {"token_id": s.lamp, "attribute": "watts", "value": 60, "set_id": s.room, "if_match": 1},
        {"revision": 2, "value": 60, "state": "ok"},
        [("BAD_VALUE", lambda s: {"token_id": s.lamp, "attribute": "watts", "value": 101}),
         ("CHECKSUM_MISMATCH", lambda s: {"token_id": s.lamp, "attribute": "watts", "value": 1, "if_match": 9}),
         ("EVENT_REFUSED", lambda s: {"token_id": s.ward, "attribute": "text", "value": 2}),
         ("ATTRIBUTE_NOT_WRITABLE", lambda s: {"token_id": s.off, "attribute": "text", "value": 2})]),
    Row("core.token.turn_attribute", lambda s: {"token_id": s.note, "attribute": "text", "is_on": False},
        errors=[("EVENT_REFUSED", lambda s: {"token_id": s.ward, "attribute": "text", "is_on": False}),
                ("ATTRIBUTE_NOT_FOUND", lambda s: {"token_id": s.lamp, "attribute": "none", "is_on": True})]),
    Row("core.token.delete", lambda s: {"token_id": s.other},
        errors=[("TOKEN_IN_USE", lambda s: {"token_id": s.room_door}),
                ("EVENT_REFUSED", lambda s: {"token_id": s.ward})]),
    Row("core.set.create",
        lambda s: {"token_id": s.note, "parent_id": s.room, "links": [s.home, s.guarded], "enter_policy": "owner"},
        is_id("set_"),
        [("TOKEN_IN_USE", lambda s: {"token_id": s.room_door}),
         ("FORBIDDEN", lambda s: {"name": "x", "parent_id": s.bobs}),
         ("EVENT_REFUSED", lambda s: {"name": "x", "parent_id": s.guarded})]),
    Row("core.set.show", lambda s: {"set_id": s.room, "wide": True},
        {"id", "name", "owner_id", "parent_id", "counts", "rights", "can_enter"},
        [("SET_NOT_FOUND", lambda s: NOWHERE), ("SET_NOT_FOUND", lambda s: {"set_id": s.hidden})], "bob", "bob"),
    Row("core.set.read",
        lambda s: {"set_id": s.room, "limit": 1, "kind": "token", "filter": "l*", "order": "-name", "is_human": True,
                   "wide": True}, is_page,
        [("SET_NOT_FOUND", lambda s: {"set_id": s.hidden}),
         ("INVALID_CURSOR", lambda s: {"set_id": s.room, **BAD_CURSOR})],
        "bob", "bob"),
    Row("core.set.list",
        lambda s: {"parent_id": s.home, "type": "set", "attribute": "description", "value": "x", "is_writable": True},
        is_page, [("INVALID_CURSOR", lambda s: BAD_CURSOR)]),
    Row("core.set.parent", lambda s: {"set_id": s.hidden, "parent_id": s.room},
        errors=[("SET_CYCLE", lambda s: {"set_id": s.room, "parent_id": s.inner}),
                ("EVENT_REFUSED", lambda s: {"set_id": s.inner, "parent_id": s.guarded})]),
    Row("core.set.link.add", lambda s: {"set_id": s.inner, "target_id": s.home},
        errors=[("EVENT_REFUSED", lambda s: {"set_id": s.guarded, "target_id": s.home}),
                ("SET_NOT_FOUND", lambda s: {"set_id": s.room, "target_id": "set_none"})]),
    Row("core.set.link.remove", lambda s: {"set_id": s.hidden, "target_id": s.room},
        errors=[("EVENT_REFUSED", lambda s: {"set_id": s.guarded, "target_id": s.room}),
                ("SET_NOT_FOUND", lambda s: {"set_id": s.room, "target_id": "set_none"})]),
    Row("core.set.links", lambda s: {"set_id": s.home, "limit": 1}, is_page,
        [("INVALID_CURSOR", lambda s: {"set_id": s.home, **BAD_CURSOR})]),
    Row("core.set.tokens.add",
        lambda s: {"set_id": s.room, "token_ids": [s.note], "kind": "gift", "is_sticky": True}, lambda a: len(a) == 1,
        [("EVENT_REFUSED", lambda s: {"set_id": s.guarded, "token_ids": [s.note]}),
         ("ALREADY_MEMBER", lambda s: {"set_id": s.room, "token_ids": [s.lamp]})]),
    Row("core.set.tokens.remove",
        lambda s: {"set_id": s.guarded, "token_ids": [s.ward], "is_forced": True}, lambda answer: len(answer) == 1,
        [("NOT_MEMBER", lambda s: {"set_id": s.guarded, "token_ids": [s.ward]}),
         ("NOT_MEMBER", lambda s: {"set_id": s.home, "token_ids": [s.me], "is_forced": True})]),
    Row("core.set.truncate", lambda s: {"set_id": s.inner},
        errors=[("SET_NOT_EMPTY", lambda s: {"set_id": s.room}), ("SET_NOT_FOUND", lambda s: NOWHERE)]),
    Row("core.set.delete", lambda s: {"set_id": s.inner},
        errors=[("SET_NOT_EMPTY", lambda s: {"set_id": s.room}), ("EVENT_REFUSED", lambda s: {"set_id": s.guarded}),
                ("HOME_STAYS", lambda s: {"set_id": s.home})]),
    Row("core.remote.create", lambda s: {"name": "more", "definition": {"url": "https://a.example/"}}, is_id("rm_"),
        [("BAD_REMOTE", lambda s: {"name": "x", "definition": {"url": "ftp://a.example/"}})]),
    Row("core.remote.edit", lambda s: {"remote_id": s.url, "is_on": False}, {"id"},
        [("REMOTE_NOT_FOUND", lambda s: {"remote_id": "rm_none"})]),
    Row("core.remote.get", lambda s: {"remote_id": s.url}, {"id", "name", "definition"},
        [("REMOTE_NOT_FOUND", lambda s: {"remote_id": "rm_none"})]),
    Row("core.remote.list", holds=is_page, errors=[("INVALID_CURSOR", lambda s: BAD_CURSOR)]),
    Row("core.remote.test", holds="not called", errors=[("REMOTE_UNAVAILABLE", lambda s: {"remote_id": s.url})]),
    Row("core.remote.delete", lambda s: {"remote_id": s.url},
        errors=[("STILL_USED", lambda s: {"remote_id": s.remote})]),
    Row("core.remote.activity.list", lambda s: {"remote_id": s.remote}, is_page),
    Row("core.remote.activity.get", lambda s: {"activity_id": s.activity}, {"id", "state"},
        [("ACTIVITY_NOT_FOUND", lambda s: {"activity_id": "ac_none"})]),
    Row("core.script.create", lambda s: {"name": "more", "text": "1"}, is_id("sc_"),
        [("BAD_SCRIPT", lambda s: {"name": "x", "text": "x = ("}),
         ("BAD_SCRIPT", lambda s: {"name": "x", "text": "1\n" * 100_000})]),
    Row("core.script.edit", lambda s: {"script_id": s.script, "text": "2"}, {"id"},
        [("BAD_SCRIPT", lambda s: {"script_id": s.script, "text": "x = ("})]),
    Row("core.script.get", lambda s: {"script_id": s.script}, {"id", "text"},
        [("SCRIPT_NOT_FOUND", lambda s: {"script_id": "sc_none"})]),
    Row("core.script.list", holds=is_page, errors=[("INVALID_CURSOR", lambda s: BAD_CURSOR)]),
    Row("core.script.run", lambda s: {"script_id": s.script, "value": 4}, {"value"},
        [("SCRIPT_NOT_FOUND", lambda s: {"script_id": s.script})], wrongly_by="bob"),
    Row("core.script.delete", holds="not called", errors=[("STILL_USED", lambda s: {"script_id": s.script})]),
    Row("core.rule.create", lambda s: {"event": "set_entering", "decision": NEVER, "token_id": s.room_door},
        is_id("rl_"), [("BAD_RULE", lambda s: {"event": "set_exploding", "decision": NEVER, "token_id": s.note})]),
    Row("core.rule.create", lambda s: {"event": "value_changing", "decision": NEVER, "type": s.kind}, is_id("rl_"),
        [("BAD_RULE", lambda s: {"event": "set_entering", "decision": {}, "type": s.kind})]),
    Row("core.rule.list", lambda s: {"token_id": s.ward}, lambda answer: len(answer) == 3,
        [("TOKEN_NOT_FOUND", lambda s: {"token_id": "t_none"})]),
    Row("core.rule.delete", lambda s: {"rule_id": s.rule},
        errors=[("RULE_NOT_FOUND", lambda s: {"rule_id": "rl_none"})]),
    Row("core.event.list", holds={"set_entering", "value_changed"}),
    Row("core.event.send", lambda s: {"event": "custom.ring", "token_id": s.note}, {"allowed": True},
        [("EVENT_REFUSED", lambda s: {"event": "custom.ring", "token_id": s.ward}),
         ("BAD_RULE", lambda s: {"event": "set_entering", "token_id": s.note})]),
]  # fmt: skip


@pytest.fixture
async def stage(server: Running, anna: Client, bob: Client) -> Stage:
    """Everything the rows speak of."""
    made = Stage(server, anna, bob, await server.operator())
    await made.build()
    return made


async def ask_the_desk(stage: Stage) -> None:
    """Have bob ask a person by the desk in the room."""
    session = await stage.clients["bob"].create_session("asking", set_id=stage.room)
    pressed = await stage.clients["bob"].action(stage.desk, session, value="where?")
    stage.ids["activity"] = pressed.response["activity_id"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.call)
async def test_a_row_of_the_table(stage: Stage, row: Row) -> None:
    """Its errors first, which change nothing; then the call with all its arguments, and what it answers."""
    if row.call.startswith("core.remote.activity."):
        await ask_the_desk(stage)
    before = await dump(stage.server.services.store)
    for kind, make in row.errors:
        with pytest.raises(CallError) as caught:
            await stage.clients[row.wrongly_by].call(row.call, **make(stage))
        assert caught.value.kind == kind, caught.value
    after = await dump(stage.server.services.store)
    assert {name: rows for name, rows in after.items() if rows != before[name] and name not in TRIED} == {}
    if row.holds == "not called":
        return
    answer = await stage.clients[row.by].call(row.call, **row.params(stage))
    if callable(row.holds):
        assert row.holds(answer), answer
    elif isinstance(row.holds, set):
        assert row.holds <= set(answer)
    else:
        assert answer == row.holds


ARGUMENTS = """
core.user.read: user_id wide editable
core.type.create: name parents attributes is_human
core.attribute.read: token_id attribute set_id
core.attribute.permissions: attribute user_id set_id
core.token.create: type attributes set_id
core.token.read: token_id set_id wide is_human
core.token.edit_attribute: token_id attribute value set_id if_match
core.token.turn_attribute: token_id attribute is_on
core.set.create: token_id parent_id links enter_policy
core.set.read: set_id cursor limit order filter kind is_human wide
core.set.list: parent_id type attribute is_writable cursor
core.set.parent: set_id parent_id
core.set.links: set_id cursor
core.set.tokens.add: set_id token_ids kind is_sticky
core.set.tokens.remove: set_id token_ids is_forced
core.rule.create: event token_id type decision
core.event.send: event token_id
""".strip().splitlines()


@pytest.mark.parametrize("line", ARGUMENTS, ids=lambda line: line.partition(":")[0])
def test_a_call_takes_what_its_row_names(line: str) -> None:
    """No argument of the table is missing, by the names they have here."""
    call, _, names = line.partition(": ")
    assert set(names.split()) <= PARAMS[call]


def test_every_core_method_of_the_table_is_walked() -> None:
    """No row of the table of calls is left out of the table above."""
    from tests.rpcserver.test_core_methods import CALLS_OF_THE_DESIGN

    assert set(CALLS_OF_THE_DESIGN) <= {row.call for row in ROWS}


async def test_wide_tells_more(stage: Stage) -> None:
    """Whose a token is, what one may do with it, and the set it defines, in a listing and alone."""
    page = await stage.clients["bob"].call("core.set.read", set_id=stage.room, wide=True, kind="child")
    details = page["items"][0]["details"]
    assert (details["owner_name"], details["can_write"], details["is_public"]) == ("anna", False, True)
    assert details["place"]["id"] == stage.inner and details["place"]["counts"] == {}
    alone = await stage.clients["anna"].call("core.token.read", token_id=stage.lamp, wide=True)
    assert alone["details"]["can_write"] and alone["details"]["place"] is None
    plain = await stage.clients["anna"].call("core.token.read", token_id=stage.lamp)
    assert plain["details"] is None


async def test_sets_are_found_by_what_their_tokens_hold(stage: Stage) -> None:
    """By an attribute, by its value, by a default of its type; never by one that the caller cannot read."""
    anna, bob = stage.clients["anna"], stage.clients["bob"]
    await anna.call("core.token.edit_attribute", token_id=stage.room_door, attribute="colour", value="red")
    lit = await anna.call("core.set.create", token_id=stage.lamp)
    await anna.call("core.token.turn_attribute", token_id=stage.guarded_door, attribute="colour", is_on=True)

    async def found(client: Client, **wanted: Any) -> list[str]:
        return [item["id"] for item in (await client.call("core.set.list", **wanted))["items"]]

    assert await found(bob, attribute="colour") == await found(bob, attribute="colour", value="red") == [stage.room]
    assert await found(bob, attribute="colour", value="blue") == []
    assert await found(bob, attribute="watts", value=40) == [lit]
    await a_rule(anna, stage.room_door, {"deny": {"about": "colour"}}, "attribute_reading")
    assert await found(bob, attribute="colour") == []
