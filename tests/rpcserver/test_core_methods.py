"""core.*: every open call of the core over a real socket."""

import re
from pathlib import Path
from typing import Any

import pytest

from core.calls import CALLS
from plugins.manager import Bus
from rpcserver.app import job_specs
from rpcserver.client import CallError, Client
from rpcserver.methods import METHODS
from rpcserver.rpc.calls import Method
from tests.conftest import Running, run_server

# sessions.md 3.4, in its order; what runs scripts, remotes and events has jobs of its own.
CALLS_OF_THE_DESIGN = """
core.user.create core.user.read
core.type.create core.type.read core.type.list core.attribute.create
core.attribute.permissions core.token.create core.token.read core.token.edit_attribute
core.token.turn_attribute core.token.delete core.set.create core.set.show core.set.read core.set.list core.set.parent
core.set.link.add core.set.link.remove core.set.links core.set.tokens.add core.set.tokens.remove core.set.truncate
core.set.delete core.remote.create core.remote.edit core.remote.get core.remote.list core.remote.delete
core.remote.activity.list core.remote.activity.get
core.script.create core.script.edit core.script.get core.script.list core.script.delete
core.rule.create core.rule.list core.rule.delete core.event.list
""".split()


async def kind_of(client: Client, method: str, **params: Any) -> str | None:
    """Return the kind of error a call is answered with."""
    with pytest.raises(CallError) as caught:
        await client.call(method, **params)
    return caught.value.kind


def test_every_call_of_the_design_is_a_method() -> None:
    """Nothing of sessions.md 3.4 is missing."""
    assert set(CALLS_OF_THE_DESIGN) <= {method.name for method in METHODS}


CORE_METHODS = [method for method in METHODS if method.name.startswith("core.")]
JOBS = {spec.name: spec for spec in job_specs(Bus(1, 1), None)}


@pytest.mark.parametrize("method", CORE_METHODS, ids=lambda method: method.name)
def test_a_core_method_is_a_job_that_declares_its_calls(method: Method) -> None:
    """Each runs as a job of its name, declares exactly core calls there are, and says what it does."""
    spec = JOBS[method.name]
    assert spec.calls and spec.calls <= set(CALLS)
    assert re.match(r"[A-Z].*\.", spec.doc, re.S)


async def test_a_set_is_built_and_taken_apart_over_the_wire(anna: Client) -> None:
    """Type, attribute, set, token, link, rule and gift: made, read, changed and deleted."""
    home = (await anna.call("core.user.read"))["home_set_id"]
    kind = await anna.call("core.type.create", name="lamp")
    await anna.call("core.attribute.create", type=kind, name="watts", value_type="number", minimum=1, default=40)
    place = await anna.call("core.set.create", name="room", parent_id=home, is_public=True)
    token = await anna.call("core.token.create", type=kind, name="lamp", attributes={"watts": 60})
    await anna.call("core.set.tokens.add", set_id=place, token_ids=[token])
    page = await anna.call("core.set.read", set_id=place)
    assert [(item["name"], item["attributes"]) for item in page["items"]] == [("lamp", {"watts": 60})]
    await anna.call("core.token.edit_attribute", token_id=token, attribute="watts", value=None)
    assert (await anna.call("core.token.read", token_id=token))["attributes"] == {"watts": 40}
    assert await kind_of(anna, "core.token.edit_attribute", token_id=token, attribute="watts", value=0) == "BAD_VALUE"
    await anna.call("core.set.link.add", set_id=place, target_id=home)
    assert len((await anna.call("core.set.links", set_id=place))["items"]) == 1
    shown = await anna.call("core.set.show", set_id=place, wide=True)
    assert shown["counts"] == {"member": 1, "link": 1} and shown["can_enter"]
    await anna.call("core.set.truncate", set_id=place)
    await anna.call("core.set.delete", set_id=place)
    assert await kind_of(anna, "core.set.show", set_id=place) == "SET_NOT_FOUND"
    assert await kind_of(anna, "core.token.read", token_id=token) == "TOKEN_NOT_FOUND"


async def test_lists_are_paged_by_cursors_that_cannot_be_forged(anna: Client, bob: Client) -> None:
    """Every page once, in order; a cursor of another list or another user is refused."""
    for number in range(5):
        await anna.call("core.script.create", name=f"s{number}", text="1")
    names, cursor = [], None
    while True:
        page = await anna.call("core.script.list", limit=2, cursor=cursor)
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        first = cursor
    assert names == [f"s{number}" for number in range(5)]
    assert await kind_of(anna, "core.remote.list", cursor=first) == "INVALID_CURSOR"
    assert await kind_of(bob, "core.script.list", cursor=first) == "INVALID_CURSOR"


async def test_params_are_checked_strictly(anna: Client) -> None:
    """No unknown names, no text for numbers, at any depth."""
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("core.set.read", {"set_id": "x", "limit": "5"}),
        ("core.set.read", {"set_id": "x", "limit": 201}),
        ("core.type.create", {"name": "x", "colour": 1}),
        ("core.remote.create", {"name": "x", "definition": {"url": "https://a.example/", "method": "BREW"}}),
        ("core.remote.create", {"name": "x", "definition": {"url": "https://a.example/", "colour": 1}}),
    ]
    for method, params in wrong:
        assert await kind_of(anna, method, **params) == "INVALID_PARAMS"


async def test_the_operator_alone_makes_users(anna: Client, server: Running) -> None:
    """For everybody else core.user.create does not exist; the operator gets user and credential."""
    assert await kind_of(anna, "core.user.create", name="dora") == "METHOD_NOT_FOUND"
    operator = Client(server.url, str(server.services.operator_secret))
    async with operator:
        made = await operator.call("core.user.create", name="dora")
    async with Client(server.url, made["credential"]) as dora:
        assert (await dora.call("core.user.read"))["id"] == made["user"]["id"]


@pytest.mark.parametrize("is_quiet", [False, True])
@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("sneak.commit", "core.set.create"),
        ("sneak.write", "core.set.create"),
        ("sneak.long", "core.set.create"),
        ("sneak.read", "core.set.show"),
    ],
)
async def test_an_undeclared_call_stops_the_job_and_both_are_named(
    tmp_path: Path, function: str, call: str, is_quiet: bool
) -> None:
    """A plugin's job that makes a core call it did not declare fails, also when it hides the error."""
    async with run_server(tmp_path / "data", plugins=(Path(__file__).parent / "undeclared_guest.py",)) as server:
        anna = await server.client("anna")
        home = (await anna.call("auth.whoami"))["home_set"]
        with pytest.raises(CallError) as caught:
            await anna.call("job.run", function=function, data={"is_quiet": is_quiet})
        error = caught.value
        assert (error.kind, error.data["function"], error.data["call"]) == ("UNDECLARED_CALL", function, call)
        assert f"'{function}'" in error.message and f"'{call}'" in error.message
        assert (await anna.call("core.set.list", name="hidden"))["items"] == []
        assert (await anna.call("core.set.show", set_id=home))["enter_policy"] == "readers"
        for row in await anna.list_jobs(function=function):
            assert (row.state, row.error and row.error["kind"]) == ("failed", "UNDECLARED_CALL")


async def test_what_is_anothers_is_unknown_to_grant_and_gift(anna: Client, bob: Client) -> None:
    """Sharing a private token, or taking back a gift, of somebody else says no more than for an id that is unknown."""
    home = (await anna.call("auth.whoami"))["home_set"]
    token_id = await anna.call("core.token.create", type="note", name="private")
    await anna.call("core.set.tokens.add", set_id=home, token_ids=[token_id])
    me = (await bob.call("auth.whoami"))["user_id"]
    for id in (token_id, "t_unknown"):
        kind = await kind_of(bob, "core.token.grant", token_id=id, user_id=me, access="read")
        assert kind == "TOKEN_NOT_FOUND"
    gift_id = await anna.call("core.gift.create", set_id=home, type="note", name="hello")
    for id in (gift_id, "gift_unknown"):
        assert await kind_of(bob, "core.gift.delete", gift_id=id) == "GIFT_NOT_FOUND"
