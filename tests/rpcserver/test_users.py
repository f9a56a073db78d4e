"""Users over the wire: their own groups, what is told of them, and freezing."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.errors import AccountFrozen
from rpcserver.auth import authenticator
from rpcserver.client import CallError, Client
from tests.builders import Wire
from tests.conftest import Process, Running, run_cli, settle
from tests.rpcserver.test_places import a_place, a_rule, refused
from tests.security.test_credentials import ending


async def test_a_user_is_told_of_himself(anna: Client) -> None:
    """His ids, his group, the type of his token; with `wide` his profile, with `editable` what he may change of it."""
    told = await anna.call("core.user.read")
    assert told["guid"] == told["id"] and told["token_type"] == "user" and told["attributes"] is None
    group = await anna.call("core.group.read", group_id=told["group_id"])
    assert (group["name"], group["members"]) == ("@anna", [{"user_id": told["id"], "is_admin": True}])
    await anna.call(
        "core.token.edit_attribute", token_id=told["token_id"], attribute="description", value="likes lamps"
    )
    wide = await anna.call("core.user.read", wide=True)
    assert wide["attributes"] == {"description": "likes lamps"}
    assert (await anna.call("core.user.read", editable=True))["attributes"] == wide["attributes"]
    await anna.call("core.token.turn_attribute", token_id=told["token_id"], attribute="description", is_on=False)
    assert (await anna.call("core.user.read", editable=True))["attributes"] == {}


async def test_the_own_group_stays(anna: Client, bob: Client) -> None:
    """It is not deleted, and its user stays in it, as an admin."""
    own, me = (await anna.call("core.user.read"))["group_id"], (await anna.call("core.user.read"))["id"]
    await anna.call(
        "core.group.member.add", group_id=own, user_id=(await bob.call("core.user.read"))["id"], is_admin=True
    )
    member = {"group_id": own, "user_id": me}
    for by, method, params in (
        (anna, "core.group.delete", {"group_id": own}),
        (bob, "core.group.member.remove", member),
        (bob, "core.group.member.add", {**member, "is_admin": False}),
    ):
        assert (await refused(by, method, **params)).kind == "OWN_GROUP"


async def test_whoever_is_in_the_own_group_reads_what_is_private(anna: Client, bob: Client) -> None:
    """Members read home and tokens, admins write them; taken out again, nothing is there."""
    told, him = await anna.call("core.user.read"), (await bob.call("core.user.read"))["id"]
    home, group = told["home_set_id"], told["group_id"]
    note = await anna.call("core.token.create", type="note", name="diary", attributes={"text": "x"}, is_public=False)
    assert (await refused(bob, "core.user.read", user_id=told["id"])).kind == "USER_NOT_FOUND"
    assert (await refused(bob, "core.token.read", token_id=note)).kind == "TOKEN_NOT_FOUND"
    assert (await refused(bob, set_id=home)).kind == "SET_NOT_FOUND"
    await anna.call("core.group.member.add", group_id=group, user_id=him)
    assert (await bob.call("core.user.read", user_id=told["id"], wide=True))["home_set_id"] == home
    assert (await bob.call("core.token.read", token_id=note))["attributes"] == {"text": "x"}
    assert (await bob.cd(set_id=home)).current_set.id == home
    edit = {"token_id": note, "attribute": "text", "value": "y"}
    assert (await refused(bob, "core.token.edit_attribute", **edit)).kind == "ATTRIBUTE_NOT_WRITABLE"
    await anna.call("core.group.member.add", group_id=group, user_id=him, is_admin=True)
    await bob.call("core.token.edit_attribute", **edit)
    assert (await bob.call("core.set.show", set_id=home))["rights"]["can_write"]
    await bob.call("core.group.member.remove", group_id=group, user_id=him)
    assert (await refused(bob, "core.token.read", token_id=note)).kind == "TOKEN_NOT_FOUND"
    assert (await bob.ls()).relocated_from is not None


async def test_the_operator_looks_through_the_users(server: Running, anna: Client, bob: Client) -> None:
    """Page by page, and only the frozen ones where he asks for these; nobody else can."""
    operator = await server.operator()
    first = await operator.call("core.user.list", limit=1)
    second = await operator.call("core.user.list", limit=1, cursor=first["next_cursor"])
    assert [page["items"][0]["name"] for page in (first, second)] == ["anna", "bob"]
    assert second["next_cursor"] is None
    await operator.call("core.user.freeze", name="bob")
    found = await operator.call("core.user.list", is_frozen=True)
    assert [(user["name"], user["is_frozen"]) for user in found["items"]] == [("bob", 1)]
    for method in ("core.user.list", "core.user.freeze"):
        assert (await refused(anna, method)).kind == "METHOD_NOT_FOUND"
        assert (await refused(anna, "job.run", function=method, data={})).kind == "FUNCTION_NOT_FOUND"


async def test_a_frozen_user_s_connections_are_closed(server: Running, anna: Client) -> None:
    """4503, and no way back in by credential or ticket, until the operator lets him in again."""
    operator = await server.operator()
    ticket = (await anna.call("auth.ticket"))["ticket"]
    wires = [await Wire.open(server.url, await server.credential("anna")) for _ in range(2)]
    other = await Wire.open(server.url, await server.credential("bob"))
    user_id = (await anna.call("core.user.read"))["id"]
    assert (await operator.call("core.user.freeze", user_id=user_id))["is_frozen"] == 1
    for wire in wires:
        heard, code = await ending(wire)
        assert code == 4503
        assert heard[-1]["method"] == "$/closing" and heard[-1]["params"]["reconnect"] is False
    assert (await other.call("server.ping"))["result"] == "pong"
    with pytest.raises(CallError, match="frozen"):
        await server.connect(await server.credential("anna"))
    answer = await other.call("auth.authenticate", {"ticket": ticket})
    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32002, "ACCOUNT_FROZEN")
    await operator.call("core.user.freeze", user_id=user_id, is_frozen=False)
    again = await server.connect(await server.credential("anna"))
    assert (await again.call("auth.whoami"))["name"] == "anna"
    for params in ({}, {"user_id": user_id, "name": "anna"}):
        assert (await refused(operator, "core.user.freeze", **params)).kind == "BAD_VALUE"
    assert (await refused(operator, "core.user.freeze", name="nobody")).kind == "USER_NOT_FOUND"
    await other.close()


async def test_one_who_authenticates_while_he_is_frozen_is_not_let_in(server: Running) -> None:
    """A connection whose credential was looked up just before the freeze is not made theirs."""
    text = await server.credential("anna")
    principal = await server.services.store.read(lambda tx: authenticator.find(tx, text))
    assert principal is not None
    found = asyncio.get_running_loop().create_future()
    looking = asyncio.ensure_future(server.services.credentials.looked_up(found))
    await settle()
    frozen = replace(principal.user, is_frozen=1)
    await server.services.store.write(lambda tx: server.services.withdrawal.froze(tx, frozen))
    found.set_result(principal)
    assert (await looking) is principal and principal.authority.over == "frozen"
    with pytest.raises(AccountFrozen):
        principal.authority.require()


async def test_a_frozen_user_goes_home_and_ends_his_sessions(server: Running, anna: Client, bob: Client) -> None:
    """No rule of the place keeps him, no other place lets him in; what is under way is all he can still do."""
    vault, token = await a_place(anna)
    other, _ = await a_place(anna, "other")
    first = await bob.create_session("first", set_id=vault)
    second = await bob.create_session("second", set_id=vault)
    await a_rule(anna, token, {"deny": {"type": "user"}}, "set_leaving")
    assert (await refused(bob, session_id=first, to="home")).kind == "LEAVE_REFUSED"
    await server.services.store.write(lambda tx: tx.run("UPDATE users SET is_frozen = 1 WHERE name = 'bob'"))
    error = await refused(bob, session_id=first, set_id=other)
    assert (error.kind, error.data["rule"]) == ("ENTER_REFUSED", "frozen")
    assert (await bob.cd(first, to="home")).current_set.set_name == "bob's home"
    await bob.destroy_session(second)
    assert (await anna.call("core.set.show", set_id=vault, wide=True))["counts"] == {}


def test_the_command_line_freezes(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Directly on the folder, and through the server that has it open."""
    data = tmp_path / "data"
    for name in ("anna", "bob"):
        assert run_cli("user", "add", name, "--data", str(data)).returncode == 0

    def frozen() -> list[str]:
        lines = run_cli("user", "list", "--data", str(data)).stdout.splitlines()
        users = [json.loads(line) for line in lines]
        assert [user["name"] for user in users] == ["anna", "bob"]
        return [user["name"] for user in users if user["is_frozen"]]

    assert run_cli("user", "freeze", "anna", "--data", str(data)).returncode == 0
    assert frozen() == ["anna"]
    serve(data)
    assert run_cli("user", "unfreeze", "anna", "--data", str(data)).returncode == 0
    assert run_cli("user", "freeze", "bob", "--data", str(data)).returncode == 0
    assert frozen() == ["bob"]
    missing = run_cli("user", "freeze", "nobody", "--data", str(data))
    assert missing.returncode == 1 and "nobody" in missing.stderr and "Traceback" not in missing.stderr
