"""The door: how often one may be wrong, and who else may vouch for a user."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jwt
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from plugins.builtin.jwt_users import JwtUsers
from plugins.errors import BadPlugin
from rpcserver.auth import authenticator, credentials
from rpcserver.auth.authenticator import BEARER_SUBPROTOCOL
from rpcserver.client import CallError, Client
from rpcserver.plugin import Identity, hookimpl
from store import Tx
from tests.builders import Wire, write_guest
from tests.conftest import Running, run_server


async def attempt(url: str, credential: str) -> str:
    """Try to connect and return how it ended: `in`, or the kind of refusal."""
    try:
        async with Client(url, credential):
            return "in"
    except CallError as error:
        return str(error.kind)


async def come(server: Running, address: str, credential: str) -> str:
    """Come through the proxy from an address; return the status, or `in`."""
    headers = {"Authorization": f"Bearer {credential}", "X-Forwarded-For": f"6.6.6.6, {address}"}
    try:
        wire = await Wire.open(server.url, additional_headers=headers)
    except InvalidStatus as refused:
        return str(refused.response.status_code)
    await wire.close()
    return "in"


async def test_an_address_that_brings_many_wrong_ones_has_to_wait(tmp_path: Path) -> None:
    """Ten different wrong credentials in a minute: the eleventh is told to wait. Good ones get in from anywhere."""
    async with run_server(tmp_path / "data", behind_proxy=True, origins=("none",)) as server:
        good = await server.credential("anna")
        here = "203.0.113.7"
        assert [await come(server, here, f"wrong{n}") for n in range(11)] == ["401"] * 10 + ["429"]
        assert await come(server, here, good) == "in"
        assert await come(server, "203.0.113.8", "wrong") == "401"
        assert await come(server, "2001:db8:1:2::1", good) == "in"
        assert [await come(server, f"2001:db8:1:2::{n}", f"wrong{n}") for n in range(1, 12)][-1] == "429"


async def test_a_wrong_one_repeated_is_one(tmp_path: Path) -> None:
    """What a forgotten page brings again and again is no guessing: it is told each time that it is wrong."""
    async with run_server(tmp_path / "data", behind_proxy=True, origins=("none",)) as server:
        await server.credential("anna")
        assert {await come(server, "203.0.113.7", f"wrong{n % 3}") for n in range(60)} == {"401"}
        assert await come(server, "203.0.113.7", "another") == "401"


async def over(server: Running) -> dict[str, str]:
    """Return secrets that were good once, by what has become of them."""
    anna = await server.client("anna")
    made = await anna.call("credential.create", label="revoked", scopes=["*"])
    await anna.call("credential.revoke", credential_id=made["credential_id"])
    store = server.services.store
    row = await store.read(lambda tx: tx.one("SELECT id FROM users WHERE name = 'anna'"))
    assert row is not None
    expired = await store.write(lambda tx: authenticator.issue(tx, row[0], "old", expires_at=1))
    forgotten = await store.write(lambda tx: authenticator.issue(tx, row[0], "older", expires_at=1))

    def forget(tx: Tx) -> None:
        tx.run("UPDATE credentials SET is_over = 1 WHERE label = 'older'")
        credentials.forget(tx, 0.001)

    await store.write(forget)
    used = (await anna.call("auth.ticket"))["ticket"]
    wire = await Wire.open(server.url)
    assert "result" in await wire.call("auth.authenticate", {"ticket": used})
    await wire.close()
    return {"revoked": made["credential"], "expired": expired, "forgotten": forgotten, "used": used}


async def test_what_was_good_once_is_never_a_guess(tmp_path: Path) -> None:
    """Revoked, expired, deleted or used, a hundred times, also after a restart: each is told what became of it."""
    settings: dict[str, Any] = {"max_failed_logins_per_minute": 2, "calls_per_s_per_connection": 0.0}
    async with run_server(tmp_path / "data", **settings) as server:
        good, secrets = await server.credential("anna"), await over(server)
    kinds = {
        "revoked": "CREDENTIAL_REVOKED",
        "expired": "CREDENTIAL_EXPIRED",
        "forgotten": "CREDENTIAL_EXPIRED",
        "used": "TICKET_SPENT",
    }
    async with run_server(tmp_path / "data", **settings) as server:
        for _ in range(5):
            for name, text in secrets.items():
                assert (name, await attempt(server.url, text)) == (name, kinds[name])
                wire = await Wire.open(server.url)
                param = "ticket" if name == "used" else "credential"
                answer = await wire.call("auth.authenticate", {param: text})
                assert (name, answer["error"]["data"]["kind"]) == (name, kinds[name])
                await wire.close()
        assert await attempt(server.url, "rpc_wrong") == "UNAUTHENTICATED"
        assert await attempt(server.url, good) == "in"


@pytest.mark.parametrize("headers", [{}, {"Origin": "own"}])
async def test_a_page_is_told_by_a_close_code(tmp_path: Path, headers: dict[str, str]) -> None:
    """A page hears no status of HTTP: it is let in, told why by `$/closing`, and shown out with 4501 or 4429."""
    async with run_server(tmp_path / "data", max_failed_logins_per_minute=1) as server:
        secrets = {**await over(server), "unknown": "rpc_wrong"}
        if headers:
            headers = {"Origin": server.url.replace("ws://", "http://").rstrip("/")}
        for name, text in [*secrets.items(), ("another", "rpc_other")]:
            socket = await connect(
                server.url, subprotocols=subprotocols(text), additional_headers=headers, proxy=None, compression=None
            )
            closing = json.loads(await socket.recv())
            await socket.wait_closed()
            assert (closing["method"], closing["params"]["code"]) == ("$/closing", socket.close_code)
            if name == "another":
                assert socket.close_code == 4429 and closing["params"]["retry_after_ms"] > 0
                assert closing["params"]["reconnect"] is True
            else:
                assert socket.close_code == 4501 and closing["params"]["reconnect"] is False
                assert socket.close_reason.startswith("log in again") and closing["params"]["retry_after_ms"] == 0


def subprotocols(credential: str) -> list[Any]:
    """Return what a page offers."""
    encoded = base64.urlsafe_b64encode(credential.encode()).decode().rstrip("=")
    return ["rpcserver.v1", BEARER_SUBPROTOCOL + encoded]


async def test_a_program_is_told_by_an_error_object(tmp_path: Path) -> None:
    """The status has the error a call would have got in its body: the documented kind, and when to come again."""
    async with run_server(tmp_path / "data", max_failed_logins_per_minute=1, max_connections_per_user=1) as server:
        good = await server.credential("anna")
        answers = []
        held = await Wire.open(server.url, good)
        for credential in ("wrong", "other", good):
            with pytest.raises(InvalidStatus) as refused:
                await Wire.open(server.url, credential)
            response = refused.value.response
            error = json.loads(bytes(response.body))["error"]
            answers.append((response.status_code, error["code"], error["data"]["kind"]))
            if error["data"]["kind"] == "RATE_LIMITED":
                wait_ms = error["data"]["retry_after_ms"]
                assert 0 < wait_ms <= 60_000 and int(response.headers["Retry-After"]) * 1000 >= wait_ms
        assert answers == [
            (401, -32002, "UNAUTHENTICATED"),
            (429, -32012, "RATE_LIMITED"),
            (429, -32009, "TOO_MANY_CONNECTIONS"),
        ]
        await held.close()
        with pytest.raises(CallError) as told:
            await Client(server.url, "a third").connect()
        assert (told.value.kind, told.value.data["retry_after_ms"] > 0) == ("RATE_LIMITED", True)


async def test_of_many_attempts_at_once_few_learn_anything(server: Running) -> None:
    """A hundred wrong credentials side by side: at most ten hear that they are wrong."""
    outcomes = await asyncio.gather(*(attempt(server.url, f"wrong{n}") for n in range(100)))
    assert outcomes.count("UNAUTHENTICATED") == 10 and outcomes.count("RATE_LIMITED") == 90


async def test_wrong_credentials_on_an_open_socket_count_alike(tmp_path: Path) -> None:
    """auth.authenticate is the same door, for credentials and tickets."""
    async with run_server(tmp_path / "data", max_failed_logins_per_minute=3) as server:
        good = await server.credential("anna")
        wire = await Wire.open(server.url)
        kinds = []
        for params in ({"credential": "a"}, {"ticket": "rpct_b"}, {"credential": "c"}, {"ticket": "rpct_d"}):
            answer = await wire.call("auth.authenticate", params)
            kinds.append((answer["error"]["code"], answer["error"]["data"].get("retry_after_ms", 0) > 0))
        assert kinds == [(-32002, False)] * 3 + [(-32012, True)]
        assert "result" in await wire.call("auth.authenticate", {"credential": good})
        await wire.close()


async def test_no_secret_reaches_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A credential in a header, a subprotocol, a message, or a guest's exception stands in no log line."""
    canary = "rpc_canary" + "x" * 30
    guest = write_guest(
        tmp_path,
        "leaky",
        """
        @hookimpl
        def authenticate(credential):
            raise ValueError(credential)
        """,
    )
    caplog.set_level("DEBUG")
    async with run_server(tmp_path / "data", plugins=(guest,), is_log_debug=True) as server:
        await attempt(server.url, canary)
        page = await connect(server.url, subprotocols=subprotocols(canary), proxy=None)
        assert canary not in str(await page.recv())
        await page.wait_closed()
        wire = await Wire.open(server.url)
        foreign = "foreign-" + canary
        answer = await wire.call("auth.authenticate", {"credential": foreign})
        assert canary not in json.dumps(answer)
        await wire.call("auth.authenticate", {"credential": canary})
        await wire.close()
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("rpcserver", "plugins"))]
    assert canary not in "".join(capfd.readouterr()) and canary not in "".join(ours)


class Elsewhere:
    """An identity system of the test's."""

    def __init__(self, known: dict[str, Identity]) -> None:
        self.known = known
        self.asked: list[str] = []

    @hookimpl
    def authenticate(self, credential: str) -> Identity | None:
        """Look it up."""
        self.asked.append(credential)
        return self.known.get(credential)


async def test_another_identity_system_vouches_for_a_user(server: Running) -> None:
    """The first guest that knows a credential says whose it is, how far it reaches and how long it lasts."""
    await server.credential("anna")
    in_an_hour = int(time.time() * 1000) + 3_600_000
    elsewhere = Elsewhere(
        {
            "t1": Identity("anna", ("session.ls", "auth.*"), in_an_hour, label="the other system"),
            "t2": Identity("nobody"),
            "t3": Identity("newcomer", may_be_made=True),
            "t4": Identity("anna", expires_at=1),
            "t5": Identity("No Such Name!", may_be_made=True),
        }
    )
    server.services.bus.register(elsewhere, "elsewhere")
    client = await server.connect("t1")
    identity = await client.call("auth.whoami")
    assert (identity["name"], identity["label"], identity["credential_id"]) == ("anna", "the other system", None)
    assert identity["expires_at"] == in_an_hour
    with pytest.raises(CallError, match="may not call"):
        await client.call("session.create")
    assert await attempt(server.url, "t2") == "UNAUTHENTICATED"
    assert (await (await server.connect("t3")).call("auth.whoami"))["name"] == "newcomer"
    assert await attempt(server.url, "t4") == "UNAUTHENTICATED"
    assert await attempt(server.url, "t5") == "UNAUTHENTICATED"
    assert all(not text.startswith("rpc_") for text in elsewhere.asked)
    ticket = (await client.call("auth.ticket"))["ticket"]
    page = await Wire.open(server.url)
    opened = (await page.call("auth.authenticate", {"ticket": ticket}))["result"]
    assert (opened["name"], opened["scopes"], opened["expires_at"]) == ("anna", ["session.ls", "auth.*"], in_an_hour)
    await page.close()


KEY = jwk.OKPKey.generate_key("Ed25519", {"kid": "one"})


def token(key: Any = KEY, algorithm: str = "Ed25519", **claims: Any) -> str:
    """Return a signed token of the identity provider."""
    fresh = {"sub": "anna", "iss": "https://id.example.org", "aud": "rpc", "exp": int(time.time()) + 600, **claims}
    known = {name: value for name, value in fresh.items() if value is not None}
    return str(jwt.encode({"alg": algorithm, "kid": "one"}, known, key, algorithms=[algorithm]))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The provider's public keys, in a file."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}))
    return path


async def test_a_json_web_token_lets_its_user_in(tmp_path: Path, keys: Path) -> None:
    """A token of the provider is good; anything forged, stale or for somebody else is not."""
    stranger = jwk.OKPKey.generate_key("Ed25519", {"kid": "one"})
    shared = jwk.OctKey.import_key(json.dumps(KEY.as_dict(private=False)).encode())
    options = {"jwt_keys": keys, "jwt_issuer": "https://id.example.org", "jwt_audience": "rpc"}
    async with run_server(tmp_path / "data", max_failed_logins_per_minute=100, **options) as server:
        await server.credential("anna")
        client = await server.connect(token(rpcserver_scopes=["auth.*"]))
        identity = await client.call("auth.whoami")
        assert (identity["name"], identity["scopes"]) == ("anna", ["auth.*"])
        assert identity["expires_at"] == pytest.approx((time.time() + 600) * 1000, abs=5000)
        for bad in (
            token(stranger),
            token(shared, "HS256"),
            token(exp=int(time.time()) - 1),
            token(exp=None),
            token(iss="https://evil.example.org"),
            token(aud="another"),
            token(sub=None),
            token(sub=7),
            token(sub="nobody"),
            token(rpcserver_scopes="*"),
            token()[:-4] + "AAAA",
            "a.b.c",
        ):
            assert await attempt(server.url, bad) == "UNAUTHENTICATED", bad


async def test_a_token_can_make_its_user(tmp_path: Path, keys: Path) -> None:
    """With `jwt_makes_users` the provider's users need no operator."""
    async with run_server(tmp_path / "data", jwt_keys=keys, jwt_makes_users=True) as server:
        client = await server.connect(token(sub="carla"))
        assert (await client.call("auth.whoami"))["name"] == "carla"


def test_keys_that_are_none_stop_the_start(tmp_path: Path) -> None:
    """A missing or wrong key file is named."""
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    for path in (wrong, tmp_path / "missing.json"):
        with pytest.raises(BadPlugin, match=path.name):
            JwtUsers(path, issuer="", audience="", algorithms=["RS256"], user_claim="sub", may_make_users=False)
