"""Calls to other hosts: only those the operator named, and only where they may lie."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from jobs.remotes.http import HostRefused, Hosts, is_public

TRICKS = [
    "127.0.0.1",
    "127.8.9.1",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "fe80::1%eth0",
    "fc00::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", TRICKS)
def test_an_address_that_is_not_public_is_known(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback, private, shared, link-local, reserved and wrapped ones: an allowed name that lies there is refused."""
    assert not is_public(ip_address(address.partition("%")[0]))
    dialled = _resolve(monkeypatch, ["93.184.216.34", address])
    with pytest.raises(HostRefused, match="public network"):
        Hosts(("good.example",)).connect("good.example", 443)
    assert dialled == []


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111"])
def test_a_public_address_is_dialled(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one that is dialled: the name is not looked up a second time."""
    dialled = _resolve(monkeypatch, [address])
    with pytest.raises(HostRefused, match="does not answer"):
        Hosts(("good.example",)).connect("good.example", 443)
    assert dialled == [address]


@pytest.mark.parametrize(
    ("host", "port", "is_allowed"),
    [
        ("example.org", 443, True),
        ("EXAMPLE.org.", 443, True),
        ("example.org", 80, False),
        ("example.org.evil.test", 443, False),
        ("evil-example.org", 443, False),
        ("a.wild.test", 443, True),
        ("wild.test", 443, False),
        ("ported.test", 8443, True),
        ("ported.test", 443, False),
    ],
)
def test_only_named_hosts_are_called(host: str, port: int, is_allowed: bool) -> None:
    """A name is itself, or what its pattern says, at its port."""
    hosts = Hosts(("example.org", "*.wild.test", "ported.test:8443"))
    if is_allowed:
        hosts.check(host, port)
    else:
        with pytest.raises(HostRefused, match="fetch_hosts"):
            hosts.check(host, port)


def _resolve(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> list[str]:
    """Have every name lie at these addresses, which nobody answers; return those that are dialled."""
    dialled: list[str] = []

    def found(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))
            for address in addresses
        ]

    def dial(self: socket.socket, address: Any) -> None:
        dialled.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr("jobs.remotes.http.socket.socket", type("Deaf", (socket.socket,), {"connect": dial}))
    return dialled
