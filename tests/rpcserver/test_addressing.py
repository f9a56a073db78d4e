"""Every address a person types: it is used, or the message says what is wrong with it and what to write."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import rpcserver.client
from rpcserver.client import CallError, Client, Unreachable
from tests.conftest import Running, run_cli, run_server


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:7717", "write ws://127.0.0.1:7717/"),
        ("localhost:7717/", "write ws://localhost:7717/"),
        ("", "write ws://127.0.0.1:7717/"),
        ("http://127.0.0.1:7717/", "WebSocket, at ws://127.0.0.1:7717/"),
        ("https://app.example.org", "WebSocket, at wss://app.example.org"),
        ("tcp://127.0.0.1:7717", "write ws:// or wss://"),
        ("ws://", "names no host"),
        ("ws:///path", "names no host"),
        ("ws://127.0.0.1:77170/", "Port out of range"),
        ("ws://127.0.0.1:abc/", "write ws://HOST:PORT/"),
        ("ws://[::1/", "write ws://HOST:PORT/"),
        ("ws://no-such-host.invalid:7717/", "no-such-host.invalid' is not known here"),
        ("wss://no-such-host.invalid/", "no-such-host.invalid' is not known here"),
    ],
)
async def test_an_address_that_cannot_be_used(url: str, words: str) -> None:
    """Named, with the right form; nothing is tried that cannot work."""
    with pytest.raises(Unreachable) as told:
        await Client(url).connect()
    assert words in str(told.value)


async def test_nobody_listens() -> None:
    """That is the one case in which the question is whether the server runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(Unreachable, match=f"nobody listens at {host}:{port}: is the server running there?"):
            await Client(f"ws://{host}:{port}/").connect()


@asynccontextmanager
async def speaking(answer: bytes) -> AsyncIterator[str]:
    """Run another program that answers everybody the same."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


NO_SERVER = "is no rpcserver: if it speaks TLS write wss://, else another program does"


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"220 mail.example.org ESMTP\r\n", b"\x15\x03\x01"]
)
async def test_another_program_listens(answer: bytes) -> None:
    """What answers there is no rpcserver, and that is what is said."""
    async with speaking(answer) as where:
        with pytest.raises(Unreachable, match=NO_SERVER):
            await Client(f"ws://{where}/").connect()


async def test_a_web_server_listens() -> None:
    """What it says of itself is told."""
    async with speaking(b"HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\nno such thing\r\n") as where:
        with pytest.raises(CallError, match="no such thing") as told:
            await Client(f"ws://{where}/").connect()
    assert told.value.kind == "REFUSED"


async def test_another_program_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes the connection and says nothing is given up, with that as the reason."""
    real = rpcserver.client.connect
    monkeypatch.setattr(
        rpcserver.client, "connect", lambda *given, **options: real(*given, open_timeout=0.1, **options)
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(Unreachable, match="said nothing: another program may listen there"):
            await Client(f"ws://127.0.0.1:{silent.getsockname()[1]}/").connect()


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[Running, Path]]:
    """A server that speaks TLS, and the file of the authority that signed its certificate."""
    authority = trustme.CA()
    files = authority.issue_cert("localhost")
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    files.cert_chain_pems[0].write_to_path(cert)
    files.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    key.chmod(0o600)
    async with run_server(tmp_path / "tls", tls_cert=cert, tls_key=key, origins=("none",)) as server:
        yield server, ca


async def test_tls_with_the_systems_trust(tls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wss://` needs no more than that: what the machine trusts is trusted, the client's context goes before."""
    server, ca = tls
    url = server.url.replace("127.0.0.1", "localhost")
    credential = await server.credential("anna")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    async with Client(url, credential) as client:
        assert await client.call("server.ping") == "pong"
    called = await asyncio.to_thread(run_cli, "call", "server.ping", "--url", url, "--credential", credential)
    assert (called.returncode, json.loads(called.stdout)) == (0, "pong")
    monkeypatch.delenv("SSL_CERT_FILE")
    trust = ssl.create_default_context(cafile=str(ca))
    async with Client(url, credential, tls=trust) as client:
        assert await client.call("server.ping") == "pong"


async def test_tls_that_goes_wrong(tls: Any, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown authority, another name, TLS where there is none, and none where there is: each is named."""
    secure, ca = tls
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(Unreachable, match="certificate of localhost:.* is not trusted here"):
        await Client(secure.url.replace("127.0.0.1", "localhost")).connect()
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with pytest.raises(Unreachable, match="use the name it was made for"):
        await Client(secure.url).connect()
    with pytest.raises(Unreachable, match="does not speak TLS"):
        await Client(server.url.replace("ws://", "wss://")).connect()
    with pytest.raises(Unreachable, match="wss://"):
        await Client(secure.url.replace("wss://", "ws://")).connect()


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        ('{"name": "\\ud83d"}', "INVALID_PARAMS", "half of a character"),
        ("{'a': 1}", "INVALID_PARAMS", "quote them"),
        ("[1]", "INVALID_PARAMS", "JSON object"),
        ('{"a": NaN}', "INVALID_PARAMS", "no number"),
    ],
)
async def test_params_are_not_the_servers_fault(server: Running, params: str, kind: str, words: str) -> None:
    """What is wrong with the params is said, and not asked whether the server runs."""
    given = ("call", "session.create", params, "--url", server.url, "--credential", await server.credential("anna"))
    called = await asyncio.to_thread(run_cli, *given)
    error = json.loads(called.stderr)
    assert (called.returncode, error["data"]["kind"]) == (1, kind)
    assert words in error["message"] and "running there" not in error["message"]


@pytest.mark.parametrize("which", ["revoked", "unknown", "none"])
async def test_the_command_line_says_what_is_wrong_with_a_credential(server: Running, which: str) -> None:
    """Revoked, unknown, or not given: the documented kind, and what to do."""
    anna = await server.client("anna")
    made = await anna.call("credential.create", label="agent")
    await anna.call("credential.revoke", credential_id=made["credential_id"])
    credential = {"revoked": ("--credential", made["credential"]), "unknown": ("--credential", "rpc_x"), "none": ()}[
        which
    ]
    called = await asyncio.to_thread(run_cli, "call", "session.ls", "--url", server.url, *credential)
    error = json.loads(called.stderr)
    assert error["data"]["kind"] == ("CREDENTIAL_REVOKED" if which == "revoked" else "UNAUTHENTICATED")
    assert which != "none" or "--credential" in error["data"]["reason"]
