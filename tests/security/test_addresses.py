"""Names and addresses of settings have one form, or are refused with it; a Host header is a host and nothing else."""

import asyncio
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rpcserver.addresses import address_key, forwarded_address
from rpcserver.auth import authenticator
from rpcserver.settings import Settings
from tests.conftest import run_server

GOOD = [
    ("origins", "https://app.example.org/", "https://app.example.org"),
    ("origins", "HTTPS://App.Example.ORG:443", "https://app.example.org"),
    ("origins", "http://localhost:80/", "http://localhost"),
    ("origins", "https://app.example.org.:8443", "https://app.example.org:8443"),
    ("origins", "https://[2001:DB8:0::1]:443", "https://[2001:db8::1]"),
    ("origins", "none", "none"),
    ("hosts", "App.Example.org.", "app.example.org"),
    ("hosts", "app.example.org:443", "app.example.org"),
    ("hosts", "app.example.org:8443", "app.example.org:8443"),
    ("hosts", "2001:DB8::1", "[2001:db8::1]"),
    ("trusted_proxies", "10.0.0.7", "10.0.0.7"),
    ("trusted_proxies", "172.16.0.1/12", "172.16.0.0/12"),
    ("trusted_proxies", "2001:DB8:0::1", "2001:db8::1"),
    ("remote_networks", "10.1.2.3/16", "10.1.0.0/16"),
    ("remote_hosts", "API.example.com", "https://api.example.com"),
    ("remote_hosts", "https://api.example.com:443/V1/", "https://api.example.com/V1"),
    ("remote_hosts", "http://[::1]:8080/", "http://[::1]:8080"),
    ("fetch_hosts", "https://GitHub.com/", "github.com"),
    ("fetch_hosts", "*.Example.org:443", "*.example.org"),
    ("fetch_hosts", "::1", "[::1]"),
    ("fetch_private_hosts", "git.example.org:8443", "git.example.org:8443"),
]
BAD = [
    ("origins", "app.example.org", "https://app.example.org"),
    ("origins", "App.example.org:8443/x", "https://app.example.org:8443"),
    ("origins", "*", "https://app.example.org"),
    ("origins", "https://*.example.org", "https://app.example.org"),
    ("origins", "null", "https://"),
    ("origins", "https://app.example.org/page?x", "https://app.example.org,"),
    ("origins", "https://anna@app.example.org", "https://app.example.org,"),
    ("origins", "ws://app.example.org", "https://app.example.org"),
    ("origins", "https://app.example.org:99999", "https://"),
    ("origins", "https://bücher.example", "https://"),
    ("hosts", "https://app.example.org/", "write app.example.org,"),
    ("hosts", "*", "app.example.org"),
    ("hosts", "app.example.org/x", "write app.example.org,"),
    ("hosts", "a b", "app.example.org"),
    ("trusted_proxies", "proxy", "10.1.0.0/16"),
    ("trusted_proxies", "*", "10.1.0.0/16"),
    ("remote_networks", "10.1.0.0/99", "10.1.0.0/16"),
    ("remote_hosts", "ftp://api.example.com", "https://api.example.com"),
    ("remote_hosts", "https://*.example.com", "https://"),
    ("remote_hosts", "https://api.example.com/a/../b", "https://api.example.com"),
    ("remote_hosts", "https://u:p@api.example.com", "https://api.example.com"),
    ("fetch_hosts", "http://github.com", "write github.com"),
    ("fetch_hosts", "github.com/acme", "write github.com"),
    ("fetch_hosts", "git*.example.org", "*.example.org"),
    ("fetch_private_hosts", "*.*.org", "*.example.org"),
]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RPCSERVER_DATA", str(tmp_path / "data"))


def test_every_way_of_writing_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a flag, in the environment (alone, in a row, as JSON) and in rpcserver.toml."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "rpcserver.toml"
    for name, given, expected in GOOD:
        assert getattr(Settings.load(**{name: (given,)}), name) == (expected,), given
        for text in (given, f"{given}, {given}", f'["{given}"]', f" {given} {given} "):
            monkeypatch.setenv(f"RPCSERVER_{name.upper()}", text)
            assert set(getattr(Settings.load(), name)) == {expected}, text
        monkeypatch.delenv(f"RPCSERVER_{name.upper()}")
        for text in (f"{name} = ['{given}']", f"{name} = '{given}'"):
            file.write_text(text, "utf-8")
            assert getattr(Settings.load(), name) == (expected,), text
        file.unlink()


def test_what_could_never_match_is_refused_with_the_right_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, by the name of the setting."""
    for name, given, form in BAD:
        with pytest.raises(ValidationError) as caught:
            Settings.load(**{name: (given,)})
        (error,) = caught.value.errors()
        assert error["loc"][0] == name and form in error["msg"], error
        monkeypatch.setenv(f"RPCSERVER_{name.upper()}", f'["{given}"]')
        with pytest.raises(ValidationError):
            Settings.load()
        monkeypatch.delenv(f"RPCSERVER_{name.upper()}")
    for host in ("https://api.example.com", "api.example.com:443", "*"):
        with pytest.raises(ValidationError, match="write (api|app).example"):
            Settings.load(remote_secrets={"key": {"text": "x", "hosts": [host]}})
    monkeypatch.setenv("RPCSERVER_ORIGINS", '["https://a.example"')
    with pytest.raises(ValidationError, match="no list in JSON"):
        Settings.load()


def test_paths_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, in a row as in PATH, or as JSON; a space is a part of one."""
    for text in ("/srv/a b:/srv/c", '["/srv/a b", "/srv/c"]'):
        monkeypatch.setenv("RPCSERVER_PLAYBOOK_ROOTS", text)
        assert Settings.load().playbook_roots == (Path("/srv/a b"), Path("/srv/c"))


STRANGE = (
    *("evil.example@localhost", "localhost:evil", "localhost:", "localhost:0", "localhost:99999", "localhost:80:80"),
    *(
        "[::1",
        "::1",
        "[::1]x",
        "[localhost]",
        "localhost/",
        "localhost?",
        "localhost#",
        "local\thost",
        "evil.localhost",
    ),
    *(
        "user:password@127.0.0.1",
        "127.0.0.1.evil.example",
        "127.0.0.1, evil.example",
        "0x7f.1",
        "",
        " ",
        "localh\u00f6st",
    ),
    *("evil.example:80@localhost:80", "localhost\\@evil.example", "localhost evil.example", "localhost\n", "[::1%lo]"),
    "evil.localhost",
)


def test_a_host_that_is_none_of_ours() -> None:
    """Nothing is cut off, added or guessed."""
    assert [host for host in STRANGE if authenticator.is_host_allowed(host, ("app.example.org:443", "127.0.0.1"))] == []


def test_a_host_of_ours() -> None:
    """This machine by any of its names and ports; the names of the settings, with their port where they have one."""
    for host in ("localhost", "LOCALHOST:7717", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "[0::1]", "localhost.:7717"):
        assert authenticator.is_host_allowed(host, ())
    allowed = Settings.load(hosts=("rpc.example.org", "APP.example.org:8443", "2001:db8::1")).hosts
    for host in ("rpc.example.org", "Rpc.Example.org.:99", "app.example.org:8443", "[2001:DB8::1]:7717"):
        assert authenticator.is_host_allowed(host, allowed), host
    assert not authenticator.is_host_allowed("app.example.org", allowed)


async def test_normalised_names_open_the_door(tmp_path: Path) -> None:
    """Over the wire: a page of an origin that was written in another way, by names alike."""
    settings: dict[str, Any] = {"behind_proxy": True, "origins": ("HTTPS://App.Example.org:443/",)}
    async with run_server(tmp_path / "data", hosts=("RPC.example.org:443",), **settings) as server:
        for host in ("app.example.org", "rpc.example.org:443", "rpc.example.org"):
            page = f"GET /openrpc.json HTTP/1.1\r\nHost: {host}\r\nOrigin: https://app.example.org\r\n\r\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", server.app.server.port)
            writer.write(page.encode())
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()
            await writer.wait_closed()


def test_a_proxy_is_known_by_its_own_address() -> None:
    """A network holds its members, of both families, and mapped ones; an address is counted only afterwards."""
    trusted = [ip_network(one) for one in Settings.load(trusted_proxies=("10.0.0.0/8", "2001:db8::7")).trusted_proxies]
    for peer in ("10.9.9.9", "::ffff:10.9.9.9", "2001:db8::7"):
        assert forwarded_address(peer, ["203.0.113.9, 10.1.1.1"], trusted) == "203.0.113.9"
    for peer in ("2001:db8::8", address_key("2001:db8::7"), "11.0.0.1", "no address"):
        assert forwarded_address(peer, ["203.0.113.9"], trusted) == peer
