"""Who gets in: origins, hosts, credentials, and what may be said before."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rpcserver.auth import authenticator
from rpcserver.client import CallError, Client
from tests.builders import Wire
from tests.conftest import Running, run_server


async def status(server: Running, headers: dict[str, str] | None = None, **options: Any) -> int:
    """Return the HTTP status an upgrade is answered with."""
    given = {**(headers or {})}
    try:
        async with connect(server.url, additional_headers=given, compression=None, proxy=None, **options):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def raw_status(server: Running, *lines: str, path: str = "/") -> int:
    """Send a request of exactly these header lines and return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.app.server.port)
    key = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "A" * 22 + "==",
    )
    writer.write("\r\n".join([f"GET {path} HTTP/1.1", *key, *lines, "", ""]).encode("latin-1"))
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1])


def own(server: Running) -> str:
    """Return the server's Host."""
    return f"Host: 127.0.0.1:{server.app.server.port}"


ORIGINS = [
    ("http://127.0.0.1:{port}", 101),
    ("http://localhost:{port}", 101),
    ("https://app.example.org", 101),
    ("null", 403),
    ("", 403),
    ("https://evil.example", 403),
    ("http://app.example.org", 403),
    ("https://app.example.org:8443", 403),
    ("https://app.example.org.evil.example", 403),
    ("https://evilapp.example.org", 403),
    ("https://APP.example.org", 403),
    ("https://app.example.org/", 403),
    ("https://user@app.example.org", 403),
    ("http://127.0.0.1", 403),
    ("http://127.0.0.1:1", 403),
    ("https://127.0.0.1:{port}", 403),
]


async def test_only_listed_origins_may_connect(tmp_path: Path) -> None:
    """An Origin equals a listed one exactly, scheme, host and port; the server's own pages are listed."""
    async with run_server(tmp_path, origins=("https://app.example.org",)) as server:
        port = server.app.server.port
        found = [(origin, await status(server, {"Origin": origin.format(port=port)})) for origin, _ in ORIGINS]
        assert found == ORIGINS
        assert await status(server) == 101  # a script has no origin: it is asked for a credential as anybody


HOSTS = [
    ("127.0.0.1:7", 200),
    ("localhost", 200),
    ("LOCALHOST:7717", 200),
    ("[::1]:7717", 200),
    ("rpc.example.org", 200),
    ("evil.example", 403),
    ("rpc.example.org.evil.example", 403),
    ("localhost.evil.example", 403),
    ("127.0.0.1.evil.example", 403),
    ("[::1", 403),
    ("evil.example@localhost", 403),
    ("localhost:evil", 403),
    ("", 403),
]


async def test_a_foreign_name_for_our_address_opens_nothing(tmp_path: Path) -> None:
    """DNS rebinding: the Host header must name this server, for everything that tells more than that it lives."""
    async with run_server(tmp_path, hosts=("rpc.example.org",)) as server:

        async def page(host: str) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.app.server.port)
            writer.write(f"GET /openrpc.json HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return int(answer.split()[1])

        assert [(host, await page(host)) for host, _ in HOSTS] == HOSTS


@pytest.mark.parametrize(
    ("lines", "path", "expected"),
    [
        (["{own}", "Host: evil.example"], "/", 400),
        (["{own}", "Origin: http://a", "Origin: http://b"], "/", 400),
        (["{own}", "Authorization: Bearer a", "Authorization: Bearer b"], "/", 400),
        (["{own}", "Authorization: Bearer \xff\xfe"], "/", 401),
        (["{own}"], "//[", 101),
    ],
)
async def test_a_strange_request_is_refused_and_not_a_bug(
    server: Running, capfd: pytest.CaptureFixture[str], lines: list[str], path: str, expected: int
) -> None:
    """A header that stands twice, or bytes no header has, get the status of a refusal, and no traceback is logged."""
    assert await raw_status(server, *[line.format(own=own(server)) for line in lines], path=path) == expected
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_a_credential_in_the_header(server: Running) -> None:
    """`Authorization: Bearer` authenticates the upgrade."""
    wire = await Wire.open(server.url, await server.credential("anna"))
    assert (await wire.call("auth.whoami"))["result"]["name"] == "anna"
    await wire.close()


async def test_a_credential_as_subprotocol_is_not_echoed(server: Running) -> None:
    """A browser offers it as a second value; the server selects `rpcserver.v1`."""
    text = base64.urlsafe_b64encode((await server.credential("anna")).encode()).decode().rstrip("=")
    offered = ["rpcserver.v1", authenticator.BEARER_SUBPROTOCOL + text]
    wire = await Wire.open(server.url, subprotocols=offered)
    assert wire.socket.subprotocol == "rpcserver.v1"
    assert (await wire.call("auth.whoami"))["result"]["name"] == "anna"
    await wire.close()


async def test_a_credential_in_the_first_call(server: Running) -> None:
    """`auth.authenticate` does it on an open socket, once for the connection."""
    wire = await Wire.open(server.url)
    answer = await wire.call("auth.authenticate", {"credential": await server.credential("anna")})
    assert answer["result"]["name"] == "anna"
    again = await wire.call("auth.authenticate", {"credential": await server.credential("anna")})
    assert again["result"]["name"] == "anna"
    other = await wire.call("auth.authenticate", {"credential": await server.credential("bob")})
    assert other["error"]["code"] == -32002
    assert (await wire.call("auth.whoami"))["result"]["name"] == "anna"
    await wire.close()


@pytest.mark.parametrize("credential", ["rpc_" + "x" * 43, "x", "é"])
async def test_a_wrong_credential(server: Running, credential: str) -> None:
    """Wrong is wrong, on each of the three ways in."""
    await server.credential("anna")
    text = base64.urlsafe_b64encode(credential.encode()).decode().rstrip("=")
    page = await connect(
        server.url, subprotocols=["rpcserver.v1", authenticator.BEARER_SUBPROTOCOL + text], compression=None, proxy=None
    )
    await page.wait_closed()
    assert page.close_code == 4501
    if credential.isascii():
        assert await status(server, {"Authorization": f"Bearer {credential}"}) == 401
    wire = await Wire.open(server.url)
    assert (await wire.call("auth.authenticate", {"credential": credential}))["error"]["code"] == -32002
    assert (await wire.call("sessions.list"))["error"]["code"] == -32002
    await wire.close()


async def test_the_client_hears_that_its_credential_is_wrong(server: Running) -> None:
    """A refusal at the door is a CallError like others."""
    with pytest.raises(CallError) as caught:
        await Client(server.url, "wrong").connect()
    assert caught.value.kind == "UNAUTHENTICATED"


async def test_no_credential_is_stored(server: Running, tmp_path: Path) -> None:
    """The data folder holds hashes only."""
    credential = await server.credential("anna")
    held = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert credential.encode() not in held and credential.removeprefix("rpc_").encode() not in held


@pytest.mark.parametrize(
    ("scopes", "allowed", "refused"),
    [
        (("session.*",), ["session.ls", "session.get", "auth.whoami"], ["sessions.list", "auth.ticket"]),
        (("sessions.list",), ["sessions.list"], ["session.ls", "session.create"]),
        ((), ["auth.whoami"], ["session.ls", "server.info"]),
    ],
)
async def test_scopes_bound_a_credential(
    server: Running, scopes: tuple[str, ...], allowed: list[str], refused: list[str]
) -> None:
    """A credential reaches the methods its scopes name, item by item in a batch too."""
    await server.credential("anna")
    text = await server.services.store.write(
        lambda tx: authenticator.issue(tx, tx.one("SELECT id FROM users WHERE name = 'anna'")[0], "narrow", scopes)  # type: ignore[index]
    )
    wire = await Wire.open(server.url, text)
    answers = await wire.ask([{"jsonrpc": "2.0", "method": name, "id": name} for name in (*allowed, *refused)])
    assert {answer["id"] for answer in answers if "result" in answer} == set(allowed)
    assert {answer["error"]["code"] for answer in answers if "error" in answer} == {-32003}
    assert (await wire.call("server.ping"))["result"] == "pong"
    await wire.close()


async def test_an_expired_or_frozen_one_is_refused(server: Running) -> None:
    """A credential past its time, and one of a frozen user, open nothing."""
    anna = await server.credential("anna")
    expired = await server.services.store.write(
        lambda tx: authenticator.issue(tx, tx.one("SELECT id FROM users")[0], "old", expires_at=1)  # type: ignore[index]
    )
    assert await status(server, {"Authorization": f"Bearer {expired}"}) == 401
    await server.services.store.write(lambda tx: tx.run("UPDATE users SET is_frozen = 1"))
    assert await status(server, {"Authorization": f"Bearer {anna}"}) == 401


async def test_operator_methods_do_not_exist_for_users(server: Running, anna: Client) -> None:
    """They answer as an unknown method, and no hint names them."""
    for name in ("operator.user_add", "operator.import", "operator.user_ad"):
        with pytest.raises(CallError) as caught:
            await anna.call(name, name="eve")
        assert caught.value.code == -32601
        assert "operator.user_add" not in caught.value.data["reason"].replace(f"'{name}'", "")


async def test_before_authentication_a_message_has_four_kibibytes(server: Running) -> None:
    """More is an error, and the connection stays; afterwards the limit is the full one."""
    wire = await Wire.open(server.url)
    long = {"jsonrpc": "2.0", "method": "server.ping", "id": "x" * 5000}
    assert (await wire.ask(long))["error"]["code"] == -32007
    await wire.call("auth.authenticate", {"credential": await server.credential("anna")})
    assert (await wire.ask(long))["result"] == "pong"
    await wire.close()


async def test_who_does_not_authenticate_in_time_is_cut_off(tmp_path: Path) -> None:
    """4408, announced by `$/closing`; one who does stays."""
    async with run_server(tmp_path, authenticate_timeout_s=0.05) as server:
        wire = await Wire.open(server.url)
        closing = await wire.receive()
        assert (closing["method"], closing["params"]["code"]) == ("$/closing", 4408)
        with pytest.raises(ConnectionClosed):
            await wire.receive()
        assert wire.socket.close_code == 4408
        client = await server.client("anna")
        assert await client.call("server.ping") == "pong"


async def test_connections_of_a_user_are_counted_and_given_back(tmp_path: Path) -> None:
    """One too many is refused at either door; a closed one, and a handshake that failed, free their place."""
    async with run_server(tmp_path, max_connections_per_user=1) as server:
        credential = await server.credential("anna")
        bearer = f"Authorization: Bearer {credential}"
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.app.server.port)
            bad = ["GET / HTTP/1.1", own(server), bearer, "Upgrade: websocket", "Connection: Upgrade", "", ""]
            writer.write("\r\n".join(bad).encode())
            assert b"400" in await reader.readline()
            writer.close()
            await writer.wait_closed()
        wire = await Wire.open(server.url, credential)
        assert await status(server, {"Authorization": f"Bearer {credential}"}) == 429
        second = await Wire.open(server.url)
        refused = await second.call("auth.authenticate", {"credential": credential})
        assert refused["error"]["data"]["kind"] == "TOO_MANY_CONNECTIONS"
        await wire.close()
        while "error" in (answer := await second.call("auth.authenticate", {"credential": credential})):
            assert answer["error"]["data"]["kind"] == "TOO_MANY_CONNECTIONS"
        assert answer["result"]["name"] == "anna"
        await second.close()


async def test_who_has_authenticated_by_a_call_may_say_as_much_as_others(server: Running) -> None:
    """What is bounded before authentication is not bounded after it: neither bytes nor frames."""
    async with Client(server.url) as client:
        await client.call("auth.authenticate", credential=await server.credential("anna"))
        for number in range(300):
            await client.call("session.db.set", key=f"key {number % 3}", value="x" * 4000)
        assert await client.call("server.ping") == "pong"
