"""Credentials over a real socket: tickets, limits, expiry, renewal, revocation, and what their owner sees."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from rpcserver.client import CallError, Client, Disconnected
from tests.builders import Wire
from tests.conftest import Running, run_cli, run_server


async def refusal(client: Client, method: str, **params: Any) -> CallError:
    """Call and return the error."""
    with pytest.raises(CallError) as caught:
        await client.call(method, **params)
    return caught.value


async def ending(wire: Wire, within_s: float = 5.0) -> tuple[list[dict[str, Any]], int | None]:
    """Return what a socket hears until it is closed, and the close code."""
    heard = []
    async with asyncio.timeout(within_s):
        try:
            while True:
                heard.append(await wire.receive())
        except ConnectionClosed:
            return heard, wire.socket.close_code


async def made(client: Client, **terms: Any) -> dict[str, Any]:
    """Make a credential in the client's name."""
    answer: dict[str, Any] = await client.call("credential.create", **{"label": "bot", **terms})
    return answer


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Running]:
    """A server that looks at clocks often."""
    async with run_server(tmp_path / "data", expiry_check_s=0.02) as server:
        yield server


async def test_a_ticket_opens_once(server: Running, anna: Client) -> None:
    """A ticket stands for the connection that made it, for one other connection."""
    ticket = (await anna.call("auth.ticket"))["ticket"]
    page = await Wire.open(server.url)
    assert page.hello["params"]["auth_required"] is True
    answer = await page.call("auth.authenticate", {"ticket": ticket})
    assert answer["result"]["name"] == "anna"
    assert answer["result"]["credential_id"] == (await anna.call("auth.whoami"))["credential_id"]
    second = await Wire.open(server.url)
    answer = await second.call("auth.authenticate", {"ticket": ticket})
    assert answer["error"]["data"]["kind"] == "TICKET_SPENT"
    await page.close()
    await second.close()


async def test_of_many_at_once_one_opens(server: Running, anna: Client) -> None:
    """Twenty-five with the same ticket at the same moment, ten times: one winner, always."""
    for _ in range(10):
        ticket = (await anna.call("auth.ticket"))["ticket"]
        pages = [await Wire.open(server.url) for _ in range(25)]
        answers = await asyncio.gather(*(page.call("auth.authenticate", {"ticket": ticket}) for page in pages))
        kinds = [answer["error"]["data"]["kind"] if "error" in answer else "in" for answer in answers]
        assert (kinds.count("in"), kinds.count("TICKET_SPENT")) == (1, 24)
        for page in pages:
            await page.close()


async def test_a_ticket_is_good_for_its_time_only(tmp_path: Path) -> None:
    """A ticket that is not used in time opens nothing."""
    async with run_server(tmp_path / "data", ticket_life_s=0.000001) as server:
        ticket = (await (await server.client()).call("auth.ticket"))["ticket"]
        page = await Wire.open(server.url)
        answer = await page.call("auth.authenticate", {"ticket": ticket})
        assert answer["error"]["data"]["kind"] == "TICKET_SPENT"
        await page.close()


async def test_neither_credentials_nor_tickets_are_stored(server: Running, anna: Client) -> None:
    """The database holds hashes: no text of a credential, a ticket, or an answer that showed one."""
    first = await made(anna)
    meta = {"idempotency_key": "k"}
    keyed = await anna.call("credential.create", label="keyed", _meta=meta)
    ticket = (await anna.call("auth.ticket"))["ticket"]
    await server.services.store.write(lambda tx: tx.one("SELECT 1"))
    raw = b"".join(path.read_bytes() for path in server.services.settings.data.iterdir() if path.is_file())
    for text in (first["credential"], keyed["credential"], ticket, await server.credential("anna")):
        assert text.encode() not in raw
    again = await refusal(anna, "credential.create", label="keyed", _meta=meta)
    assert again.kind == "ANSWER_NOT_KEPT"
    assert len([item for item in (await anna.call("credentials.list"))["items"] if item["label"] == "keyed"]) == 1


async def test_revoking_closes_its_sockets_and_only_those(server: Running, anna: Client) -> None:
    """Every connection of the credential ends with 4501, also one that came by its ticket; the others go on."""
    bot = await made(anna)
    direct = await Wire.open(server.url, bot["credential"])
    ticket = (await direct.call("auth.ticket"))["result"]["ticket"]
    by_ticket = await Wire.open(server.url)
    await by_ticket.call("auth.authenticate", {"ticket": ticket})
    assert await anna.call("credential.revoke", credential_id=bot["credential_id"])
    for wire in (direct, by_ticket):
        heard, code = await ending(wire)
        assert code == 4501
        assert heard[-1]["params"] | {"retry_after_ms": 0} == heard[-1]["params"]
        assert heard[-1]["method"] == "$/closing" and heard[-1]["params"]["reconnect"] is False
    assert (await anna.call("auth.whoami"))["name"] == "anna"
    with pytest.raises(CallError):
        await server.connect(bot["credential"])


async def test_who_revokes_his_own_hears_the_answer_first(server: Running, anna: Client) -> None:
    """The answer to a revocation of the credential in use comes before the end."""
    own = (await anna.call("auth.whoami"))["credential_id"]
    wire = await Wire.open(server.url, await server.credential("anna"))
    await wire.send({"jsonrpc": "2.0", "id": 7, "method": "credential.revoke", "params": {"credential_id": own}})
    heard, code = await ending(wire)
    assert heard[0] == {"jsonrpc": "2.0", "id": 7, "result": True} and code == 4501


async def test_anothers_credential_is_not_found(anna: Client, bob: Client) -> None:
    """Bob can neither revoke nor read the log of anna's credential, nor see it listed."""
    bot = await made(anna, max_calls=1)
    for method in ("credential.revoke", "credential.log"):
        assert (await refusal(bob, method, credential_id=bot["credential_id"])).kind == "CREDENTIAL_NOT_FOUND"
    assert bot["credential_id"] not in str(await bob.call("credentials.list"))


async def test_logout_ends_this_connection(server: Running, anna: Client) -> None:
    """auth.logout answers, then closes with 1000; the credential opens again."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    heard_first = await wire.call("auth.logout")
    assert heard_first["result"] is True
    _, code = await ending(wire)
    assert code == 1000
    assert (await anna.call("auth.whoami"))["name"] == "anna"


async def test_logout_with_revoke_ends_the_credential(server: Running, anna: Client) -> None:
    """auth.logout with `revoke` closes all of its connections for good."""
    other = await Wire.open(server.url, await server.credential("anna"))
    assert await anna.call("auth.logout", revoke=True)
    assert (await ending(other))[1] == 4501
    with pytest.raises(CallError):
        await server.connect(await server.credential("anna"))


async def test_expiry_warns_and_closes_within_a_second(quick: Running) -> None:
    """$/authExpiring comes first, then 4401, at most a second after the end."""
    anna = await quick.client()
    bot = await made(anna, expires_in_s=0.6)
    ends_at = time.time() + 0.6
    wire = await Wire.open(quick.url, bot["credential"])
    heard, code = await ending(wire)
    closed_at = time.time()
    assert code == 4401 and 0 <= closed_at - heard[0]["params"]["expires_at"] / 1000 < 1
    assert [message["method"] for message in heard] == ["$/authExpiring", "$/closing"]
    assert heard[0]["params"]["expires_at"] == pytest.approx(ends_at * 1000, abs=200)
    assert heard[1]["params"]["reconnect"] is True
    with pytest.raises(CallError):
        await quick.connect(bot["credential"])


async def test_a_call_after_the_end_is_refused_before_the_close(tmp_path: Path) -> None:
    """The end is looked at with every call, not only when the clock is."""
    async with run_server(tmp_path / "data", expiry_check_s=60.0) as server:
        anna = await server.client()
        bot = await made(anna, expires_in_s=0.3)
        client = await server.connect(bot["credential"])
        assert (await client.call("auth.whoami"))["name"] == "anna"
        async with asyncio.timeout(5):
            while True:
                try:
                    await client.call("auth.whoami")
                except CallError as error:
                    assert error.kind == "CREDENTIAL_EXPIRED"
                    break


async def test_refresh_extends_a_renewable_credential_in_place(quick: Running) -> None:
    """A connection that renews in time lives on past the first end, and so does its sister."""
    anna = await quick.client()
    bot = await made(anna, expires_in_s=1.0, renewable=True)
    client, sister = await quick.connect(bot["credential"]), await quick.connect(bot["credential"])
    first = (await client.call("auth.whoami"))["expires_at"]
    renewed = await client.call("auth.refresh")
    assert renewed["expires_at"] > first
    assert (await sister.call("auth.whoami"))["expires_at"] == renewed["expires_at"]


async def test_refresh_takes_another_credential_of_the_same_user(server: Running, anna: Client, bob: Client) -> None:
    """A new credential takes the place of the old one; another user's does not."""
    short = await made(anna, expires_in_s=30)
    client = await server.connect(short["credential"])
    assert (await refusal(client, "auth.refresh")).kind == "NOT_RENEWABLE"
    identity = await client.call("auth.refresh", credential=await server.credential("anna"))
    assert identity["expires_at"] is None
    error = await refusal(client, "auth.refresh", credential=await server.credential("bob"))
    assert error.kind == "UNAUTHENTICATED"
    assert (await client.call("auth.whoami"))["name"] == "anna"


async def test_scopes_are_method_globs(server: Running, anna: Client) -> None:
    """A credential reaches the methods its scopes name, and those anybody may call."""
    bot = await server.connect((await made(anna, scopes=["session.ls", "auth.who*"]))["credential"])
    assert (await bot.ls()).current_set
    assert await bot.call("auth.whoami") and await bot.call("server.ping") == "pong"
    assert (await refusal(bot, "session.create")).kind == "FORBIDDEN"


@pytest.mark.parametrize(
    ("held", "wanted", "is_given"),
    [
        ({"scopes": ["session.*", "credential.create"]}, {"scopes": ["session.ls"]}, True),
        ({"scopes": ["session.*", "credential.create"]}, {"scopes": ["session.*"]}, True),
        ({"scopes": ["session.*", "credential.create"]}, {"scopes": ["session.l*"]}, False),
        ({"scopes": ["session.*", "credential.create"]}, {"scopes": ["*"]}, False),
        ({"scopes": ["session.*", "credential.create"]}, {"scopes": ["job.run"]}, False),
        ({"expires_in_s": 100}, {"expires_in_s": 50}, True),
        ({"expires_in_s": 100}, {"expires_in_s": 200}, False),
        ({"expires_in_s": 100}, {}, False),
        ({"expires_in_s": 100}, {"expires_in_s": 50, "renewable": True}, False),
        ({"max_calls": 10}, {"max_calls": 1}, False),
    ],
)
async def test_a_credential_makes_none_that_reaches_further(
    server: Running, anna: Client, held: dict[str, Any], wanted: dict[str, Any], is_given: bool
) -> None:
    """What a credential makes is at most as wide, as long-lived and as free as itself."""
    maker = await server.connect((await made(anna, **held))["credential"])
    if is_given:
        assert (await made(maker, **wanted))["credential"].startswith("rpc_")
    else:
        assert (await refusal(maker, "credential.create", label="x", **wanted)).kind == "SCOPE_TOO_WIDE"


async def test_the_call_after_the_last_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    """A credential for three calls makes three, whoever restarts the server; each ticket counts on the same."""
    async with run_server(tmp_path / "data") as server:
        anna = await server.client()
        bot = await made(anna, max_calls=3)
        client = await server.connect(bot["credential"])
        await client.call("auth.whoami")
        await client.call("auth.whoami")
        credential = await server.credential("anna")
    async with run_server(tmp_path / "data") as server:
        client = await server.connect(bot["credential"])
        assert await client.call("auth.whoami")
        error = await refusal(client, "auth.whoami")
        assert (error.code, error.kind, error.data["retryable"]) == (-32003, "CALLS_SPENT", False)
        anna = await server.connect(credential)
        listed = next(i for i in (await anna.call("credentials.list"))["items"] if i["label"] == "bot")
        assert (listed["calls_made"], listed["calls_refused"]) == (3, 1)


async def test_calls_side_by_side_are_counted_one_by_one(server: Running, anna: Client) -> None:
    """Of ten calls at once, in single messages and in a batch, exactly the allowed five are made."""
    bot = await made(anna, max_calls=5)
    wire = await Wire.open(server.url, bot["credential"])
    calls = [{"jsonrpc": "2.0", "id": id, "method": "auth.whoami"} for id in range(10)]
    await wire.send(calls[:6])
    for call in calls[6:]:
        await wire.send(call)
    answers: list[Any] = []
    while len(answers) < 10:
        message = await wire.receive()
        answers += message if isinstance(message, list) else [message]
    assert sum("result" in answer for answer in answers) == 5
    await wire.close()


async def test_calls_per_interval_come_back(server: Running, anna: Client) -> None:
    """After so many calls the credential waits for the next interval; the error says how long."""
    bot = await made(anna, calls_per_interval=2, interval_s=3600)
    client = await server.connect(bot["credential"])
    await client.call("auth.whoami")
    await client.call("auth.whoami")
    error = await refusal(client, "auth.whoami")
    assert (error.code, error.kind, error.data["retryable"]) == (-32012, "CALLS_SPENT_FOR_NOW", True)
    assert 3_500_000 < error.data["retry_after_ms"] <= 3_600_000
    # An hour later: the interval is over.
    await server.services.store.write(
        lambda tx: tx.run("UPDATE credential_terms SET interval_began_at = interval_began_at - 3600000")
    )
    assert await client.call("auth.whoami")


async def test_the_owner_sees_what_his_agent_did(server: Running, anna: Client, bob: Client) -> None:
    """An agent acts in its owner's name, says so, and leaves a log that the owner reads."""
    bot = await made(anna, label="tidy up", holder="bob", max_calls=4)
    agent = await server.connect(bot["credential"], name="broom", type="agent")
    identity = await agent.call("auth.whoami")
    assert (identity["name"], identity["holder"]) == ("anna", "bob")
    await refusal(agent, "session.get", session_id="s_none")
    await agent.ls()
    await refusal(agent, "session.ls")
    items = (await anna.call("credential.log", credential_id=bot["credential_id"]))["items"]
    assert [(item["method"], item["outcome"]) for item in items] == [
        ("session.ls", "ok"),
        ("session.get", "SESSION_NOT_FOUND"),
        ("auth.whoami", "ok"),
        ("server.identify", "ok"),
    ]


async def test_the_log_comes_in_pages(server: Running, anna: Client) -> None:
    """The log of a credential is read page by page, the newest first, nothing twice."""
    bot = await made(anna, logged=True)
    client = await server.connect(bot["credential"])
    for _ in range(5):
        await client.call("auth.whoami")
    seen: list[str] = []
    cursor = None
    while True:
        params = {"credential_id": bot["credential_id"], "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = await anna.call("credential.log", **params)
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == 5 and seen == sorted(seen, reverse=True)


async def test_terms_that_make_no_sense_are_refused(anna: Client) -> None:
    """Half of an interval, or a renewable credential that does not end, is no credential."""
    for terms in ({"calls_per_interval": 3}, {"interval_s": 3}, {"renewable": True}, {"max_calls": 0}, {"scopes": []}):
        assert (await refusal(anna, "credential.create", label="x", **terms)).code == -32602


async def test_the_operator_makes_lists_and_revokes(server: Running) -> None:
    """What the command line does to a running server: a credential, its entry in the list, its end."""
    await server.credential("anna")
    operator = await server.operator()
    bot = await operator.call("operator.credential_create", user="anna", label="bot", scopes=["session.*"])
    client = await server.connect(bot["credential"])
    listed = (await operator.call("operator.credentials_list", user="anna"))["items"]
    assert [item["label"] for item in listed] == ["first credential", "bot"]
    await operator.call("operator.credential_revoke", credential_id=bot["credential_id"])
    with pytest.raises((Disconnected, CallError)):
        await client.ls()


async def test_the_operators_ticket_opens_a_page(server: Running) -> None:
    """A ticket from the command line opens one connection, with a credential of its own that can be revoked."""
    await server.credential("anna")
    operator = await server.operator()
    made = await operator.call("operator.ticket", user="anna")
    page = await Wire.open(server.url)
    answer = await page.call("auth.authenticate", {"ticket": made["ticket"]})
    assert answer["result"]["credential_id"] == made["credential_id"]
    await operator.call("operator.credential_revoke", credential_id=made["credential_id"])
    assert (await ending(page))[1] == 4501


def test_the_command_line_without_a_server(tmp_path: Path) -> None:
    """create prints one line, list shows no secret, revoke ends it; all of it while no server runs."""
    data = ("--data", str(tmp_path / "data"))
    run_cli("user", "add", "anna", *data)
    done = run_cli("credential", "create", "anna", "--label", "bot", "--scope", "session.*", "--max-calls", "2", *data)
    text = done.stdout.strip()
    assert done.returncode == 0 and text.startswith("rpc_") and "\n" not in text
    listed = run_cli("credential", "list", "anna", *data)
    assert text not in listed.stdout and listed.stdout.count("\n") == 2
    credential_id = listed.stdout.splitlines()[1].split('"credential_id": "')[1].split('"')[0]
    assert run_cli("credential", "revoke", credential_id, *data).returncode == 0
    again = run_cli("credential", "revoke", credential_id, *data)
    assert again.returncode == 1 and "No credential" in again.stderr
