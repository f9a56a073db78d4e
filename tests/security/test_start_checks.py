"""A server that would not be safe does not start, and says what to do."""

import asyncio
import errno
import socket
import ssl
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme

from rpcserver.addresses import address_key, forwarded_address
from rpcserver.app import running
from rpcserver.client import Client
from rpcserver.settings import Settings
from rpcserver.transport import start_checks
from rpcserver.transport.start_checks import CannotListen, UnsafeStart
from tests.builders import Wire
from tests.conftest import run_cli, run_server


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"host": "0.0.0.0"}, "--behind-proxy"),
        ({"host": "::"}, "--tls-cert"),
        ({"host": "192.0.2.1", "origins": ("https://a.example",)}, "127.0.0.1"),
        ({"host": "server.example.org"}, "--tls-cert"),
        ({"behind_proxy": True}, "--origin https://"),
        ({"host": "0.0.0.0", "behind_proxy": True}, "--origin none"),
        ({"host": "0.0.0.0", "tls_cert": Path("c"), "tls_key": Path("k")}, "--origin"),
        ({"tls_cert": Path("c")}, "--tls-key"),
        ({"tls_key": Path("k")}, "--tls-cert"),
    ],
)
def test_unsafe_settings_are_refused(tmp_path: Path, given: dict[str, Any], remedy: str) -> None:
    """Without TLS, or without origins, a server is not let out of this machine."""
    with pytest.raises(UnsafeStart, match=remedy):
        start_checks.check(Settings.load(data=tmp_path / "data", **given))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"host": "localhost"},
        {"host": "::1"},
        {"host": "127.1.2.3"},
        {"host": "0.0.0.0", "behind_proxy": True, "origins": ("https://a.example",)},
        {"behind_proxy": True, "origins": ("none",)},
    ],
)
def test_safe_settings_are_let_through(tmp_path: Path, given: dict[str, Any]) -> None:
    """What cannot be reached, or is protected, starts."""
    start_checks.check(Settings.load(data=tmp_path / "data", **given))


@pytest.mark.parametrize(("mode", "is_refused"), [(0o700, False), (0o750, False), (0o755, True), (0o701, True)])
def test_data_open_to_all_is_refused(tmp_path: Path, mode: int, is_refused: bool) -> None:
    """A data folder that other users of the machine can look into stops the start, with the command that closes it."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    if is_refused:
        with pytest.raises(UnsafeStart, match=f"chmod 700 {data}"):
            start_checks.check(Settings.load(data=data))
    else:
        start_checks.check(Settings.load(data=data))


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    """`serve` on an open address ends with status 1 and one line that names the remedy."""
    done = run_cli("serve", "--host", "0.0.0.0", "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "--behind-proxy" in done.stderr
    assert not (tmp_path / "data").exists()


async def test_the_server_speaks_tls(tmp_path: Path) -> None:
    """With a certificate and key the url is wss://, and a client that trusts it calls."""
    authority = trustme.CA()
    files = authority.issue_cert("127.0.0.1", "localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    files.cert_chain_pems[0].write_to_path(cert)
    files.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with run_server(tmp_path / "data", tls_cert=cert, tls_key=key, origins=("none",)) as server:
        assert server.url.startswith("wss://")
        async with Client(server.url, await server.credential("anna"), tls=trust) as client:
            assert await client.call("server.ping") == "pong"
        page = await Wire.open(server.url, ssl=trust, origin=f"https://127.0.0.1:{server.app.server.port}")
        await page.close()


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, mode: int) -> None:
    """A key open to all is refused by its mode, a file that is none by what it holds."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("no certificate")
    key.write_text("no key")
    key.chmod(mode)
    settings = Settings.load(data=tmp_path / "data", tls_cert=cert, tls_key=key)
    with pytest.raises(UnsafeStart, match="PEM files" if mode == 0o600 else f"chmod 600 {key}"):
        start_checks.check(settings)
        start_checks.tls_context(settings)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("app.example.org", "https://app.example.org", 101),
        ("app.example.org", None, 101),
        ("app.example.org", "https://app.example.org.evil.com", 403),
        ("app.example.org", "http://app.example.org", 403),
        ("app.example.org", "https://app.example.org:8443", 403),
        ("app.example.org", "https://APP.example.org", 403),
        ("app.example.org", "null", 403),
        ("app.example.org", "https://user@app.example.org", 403),
        ("evil.example", "https://app.example.org", 403),
    ],
)
async def test_only_the_listed_pages_connect(tmp_path: Path, host: str, origin: str | None, status: int) -> None:
    """The Origin is compared whole; the host of a listed origin is served, another is not."""
    async with run_server(tmp_path / "data", behind_proxy=True, origins=("https://app.example.org",)) as server:
        headers = {"Host": host, **({"Origin": origin} if origin else {})}
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.server.port)
        lines = ["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        writer.write("\r\n".join(lines).encode())
        answer = await asyncio.wait_for(reader.readline(), 5)
        assert int(answer.split()[1]) == status
        writer.close()
        await writer.wait_closed()


async def test_a_place_that_cannot_be_listened_on_says_what_to_do(tmp_path: Path) -> None:
    """A port in use, an unknown name and another machine's address each have their remedy."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{taken} is taken by another program.* --port"):
            async with running(Settings(data=tmp_path / "a", port=taken)):
                pass
    settings = Settings(data=tmp_path / "b", host="192.0.2.1", port=0, behind_proxy=True, origins=("none",))
    with pytest.raises(CannotListen, match="no address of this machine: give --host"):
        async with running(settings):
            pass


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "is not known here: give --host"),
        (PermissionError(errno.EACCES, "Permission denied"), "give --port a number from 1024 on"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error.*give --host and --port"),
    ],
)
def test_every_reason_not_to_listen_has_its_remedy(error: OSError, remedy: str) -> None:
    """What the system says in its own words comes with what to do about it."""
    with pytest.raises(CannotListen, match=remedy):
        raise start_checks.cannot_listen(error, Settings(host="server.example.org", port=80))


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9", "10.0.0.2"], "203.0.113.9"),
        ("203.0.113.5", ["1.1.1.1"], "203.0.113.5"),
    ],
)
def test_only_a_trusted_proxy_is_believed(peer: str, forwarded: list[str], seen: str) -> None:
    """The address is the last one that no trusted proxy is; nobody else can claim another's."""
    assert forwarded_address(peer, forwarded, [ip_network("10.0.0.1"), ip_network("10.0.0.2/32")]) == seen


def test_addresses_are_counted_as_whose_they_are() -> None:
    """All of an IPv6 /64 is one, a mapped IPv4 address is itself."""
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") != address_key("2001:db8:0:1::1")
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("192.0.2.1") != address_key("192.0.2.2")
    assert address_key("::1") == "::1" and address_key("not an address") == "not an address"
