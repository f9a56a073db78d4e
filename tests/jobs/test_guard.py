"""The guard: which addresses remotes may dial, in whatever form they come."""

import socket
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore2
import pytest

from jobs.remotes import guard
from jobs.remotes.client import is_allowed
from jobs.remotes.guard import GuardedBackend
from jobs.remotes.http import Unreachable, is_public
from store import Pool


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.0.0.8",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "fec0::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1",
        "2001:db8::1", "2001::1", "100::1", "::ffff:0:127.0.0.1", "fe80::1%eth0", "64:ff9b:1::7f00:1", "fd00:ec2::254",
        "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:7f00:1", "4000::1", "::2", "5f00::1", "168.63.129.16",
        "100.100.100.200", "169.254.170.2", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_addresses_that_are_never_dialled(text: str) -> None:
    """This machine, its networks, metadata services, multicast, and public forms that wrap one of these."""
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_dialled(text: str) -> None:
    """What anybody can reach."""
    assert is_public(ip_address(text))


def test_an_allowed_network_is_dialled_and_no_other() -> None:
    """The operator opens one network; its neighbour stays shut."""
    allowed = (ip_network("10.1.0.0/16"),)
    assert is_public(ip_address("10.1.2.3"), allowed) and is_public(ip_address("::ffff:10.1.2.3"), allowed)
    assert not is_public(ip_address("10.2.0.1"), allowed)


@pytest.mark.parametrize(
    "host",
    ["localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]", "[fe80::1%lo]", "a" * 70],
)
async def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    """Decimal, octal, hexadecimal and short forms are looked at as what they mean."""
    with pytest.raises(OSError) as caught:
        await GuardedBackend((), Pool("names", 1)).connect_tcp(host.strip("[]"), 80, 1)
    assert isinstance(caught.value, Unreachable | socket.gaierror)


async def test_the_address_checked_is_the_address_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is resolved once: one that answers otherwise the second time gains nothing."""
    answers = iter([["1.1.1.1"], ["127.0.0.1"]])
    asked: list[str] = []

    async def resolve(host: str, port: int, names: Pool) -> list[Any]:
        asked.append(host)
        return [ip_address(text) for text in next(answers)]

    dialled: list[str] = []

    class Inner:
        async def connect_tcp(self, host: str, *_: Any) -> Any:
            dialled.append(host)

    monkeypatch.setattr(guard, "resolve", resolve)
    backend = GuardedBackend((), Pool("names", 1))
    backend._inner = Inner()  # type: ignore[assignment]
    await backend.connect_tcp("rebind.example", 443)
    assert (asked, dialled) == (["rebind.example"], ["1.1.1.1"])
    with pytest.raises(Unreachable):
        await backend.connect_tcp("rebind.example", 443)


async def test_each_address_checked_may_be_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first of a name does not answer, the next is tried, and the last one's failure is told."""

    async def resolve(host: str, port: int, names: Pool) -> list[Any]:
        return [ip_address("2606:4700::1111"), ip_address("1.1.1.1")]

    dialled: list[str] = []
    working = {"1.1.1.1"}

    class Inner:
        async def connect_tcp(self, host: str, *_: Any) -> str:
            dialled.append(host)
            if host not in working:
                raise httpcore2.ConnectError(f"no way to {host}")
            return f"stream to {host}"

    monkeypatch.setattr(guard, "resolve", resolve)
    backend = GuardedBackend((), Pool("names", 1))
    backend._inner = Inner()  # type: ignore[assignment]
    assert await backend.connect_tcp("both.example", 443) == "stream to 1.1.1.1"  # type: ignore[comparison-overlap]
    working.clear()
    with pytest.raises(httpcore2.ConnectError, match=r"1\.1\.1\.1"):
        await backend.connect_tcp("both.example", 443)
    assert dialled == ["2606:4700::1111", "1.1.1.1"] * 2


async def test_one_bad_answer_of_many_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is refused."""

    async def resolve(host: str, port: int, names: Pool) -> list[Any]:
        return [ip_address("1.1.1.1"), ip_address("10.0.0.1")]

    monkeypatch.setattr(guard, "resolve", resolve)
    with pytest.raises(Unreachable):
        await GuardedBackend((), Pool("names", 1)).connect_tcp("both.example", 443)


async def test_sockets_of_this_machine_are_not_dialled() -> None:
    """Nor is a path."""
    with pytest.raises(Unreachable):
        await GuardedBackend((), Pool("names", 1)).connect_unix_socket("/var/run/something.sock")


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://api.example.com/v1/x", True),
        ("https://API.example.com./v1", True),
        ("https://api.example.com/v1", True),
        ("https://api.example.com/v10", False),
        ("https://api.example.com/v1/../admin", False),
        ("https://api.example.com/v1/%2e%2e/admin", False),
        ("https://api.example.com/v1/..\\admin", False),
        ("http://api.example.com/v1/x", False),
        ("https://api.example.com:8443/v1/x", False),
        ("https://api.example.com.evil.example/v1/x", False),
        ("https://evil.example/api.example.com/v1", False),
        ("https://open.example/anything", True),
        ("http://open.example/", False),
        ("http://plain.example/x", True),
        ("https://plain.example/x", False),
        ("https://api.example.com/v1%2f..%2fadmin", False),
        ("https://[::ffff:127.0.0.1]/v1", False),
        ("https://api.example.com@evil.example/v1", False),
        ("https://api.example.com:443/v1", True),
    ],
)
def test_the_operators_list_is_exact(url: str, is_good: bool) -> None:
    """Scheme, host and port are equal, the path lies beneath; nothing climbs out."""
    assert is_allowed(url, ("https://api.example.com/v1", "open.example", "http://plain.example")) is is_good


def test_nothing_is_allowed_by_default() -> None:
    """Without a list remotes are off."""
    assert not is_allowed("https://api.example.com/", ())
