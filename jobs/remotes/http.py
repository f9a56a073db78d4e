"""Calls to other hosts, and the guard before them: https only, to hosts the operator named, checked where they lie.

The address is checked when the connection is made, on the very address that is dialled: a check of the name alone
would lose to redirects and to names that resolve elsewhere the second time. Source: libraries.md 1.6.
"""

import fnmatch
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.poolmanager import PoolManager
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, Timeout, create_urllib3_context

from jobs.errors import JobError
from store import Pool

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What `is_global` lets through although nobody outside is there, or although it only wraps another address.
NEVER = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "100.64.0.0/10",
        "168.63.129.16/32",  # a cloud's machines ask it about themselves, by a public address
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
# All the global unicast there is (RFC 4291, 2.4): outside lie loopback, mapped, translated (NAT64, SIIT), local,
# multicast, and what nobody was given yet.
GLOBAL_6 = IPv6Network("2000::/3")
ISATAP = 0x5EFE  # RFC 5214: an IPv4 address behind these, in the lower half of an IPv6 one


def is_public(address: Address, allowed: tuple[Network, ...] = ()) -> bool:
    """Tell whether an address may be dialled: a public one, or one of the networks the operator allowed."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed):
        return True
    if any(address in network for network in NEVER):
        return False
    if isinstance(address, IPv6Address) and (address not in GLOBAL_6 or _is_isatap(address)):
        return False
    return address.is_global and not address.is_multicast


def _is_isatap(address: IPv6Address) -> bool:
    # The bit left out tells whether the wrapped address is a global one.
    return (int(address) >> 32) & 0xFDFFFFFF == ISATAP


class Unreachable(OSError):
    """The address is not one that remotes may dial."""


HTTPS_PORT = 443
MAX_REDIRECTS = 3
CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 64 * 1024


class HostRefused(JobError):
    """The host may not be called from here."""


class Stopped(Exception):
    """Whoever waited for a call to another host does so no more."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """What may be called.

    Args:
        names: `example.org`, `*.example.org`, `example.org:8443`; a name without a port means 443.
        private_names: those of them that may lie on this machine or in a private network.
        ca: a file of further certificate authorities.
        timeout_s: seconds another host may leave a call without a byte.
        max_bytes: what one fetch may bring.
        max_checkout_bytes: what it may come to when it is unpacked: one object, and the files of a checkout.
        threads: those that wait for other hosts.
    """

    names: tuple[str, ...] = ()
    private_names: tuple[str, ...] = ()
    ca: Path | None = None
    timeout_s: float = 60.0
    max_bytes: int = 256 * 1024 * 1024
    max_checkout_bytes: int = 1024 * 1024 * 1024
    threads: Pool = field(default_factory=lambda: Pool("git", 1, timeout_s=None))

    def check(self, host: str, port: int | None) -> None:
        """Raise HostRefused unless the operator named the host."""
        if not _is_named(host, port or HTTPS_PORT, self.names):
            raise HostRefused(
                f"The host {host!r} may not be called from here: its operator can allow it (setting fetch_hosts)."
            )

    def pool(self) -> PoolManager:
        """Return what connections are made with: each one is checked, redirects too, and no proxy is asked."""
        return _GuardedManager(self)

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to a host. Raises HostRefused when it is not named or does not lie where it may."""
        self.check(host, port)
        may_be_private = _is_named(host, port, self.private_names)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise HostRefused(f"The host {host!r} cannot be found.") from None
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        # One address that is not public refuses them all: who answers so is playing with names.
        if not may_be_private and not all(map(is_public, addresses)):
            raise HostRefused(f"The host {host!r} does not lie in the public network: it may not be called.")
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(CONNECT_TIMEOUT_S)
            try:
                connection.connect(address)
            except OSError:
                connection.close()
                continue
            connection.settimeout(self.timeout_s)
            return connection
        raise HostRefused(f"The host {host!r} does not answer.")


class Meter:
    """Counts what one fetch brings, and ends it when that is too much or nobody waits any more.

    Args:
        beat: called whenever something has come.
    """

    def __init__(self, max_bytes: int, stopped: threading.Event, beat: Callable[[], None]) -> None:
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._stopped = stopped
        self._beat = beat

    def check(self) -> None:
        """Raise Stopped when nobody waits any more."""
        if self._stopped.is_set():
            raise Stopped

    def note(self, count: int) -> None:
        """Take account of some bytes. Raises JobError or Stopped."""
        self.check()
        self._beat()
        self._left -= count
        if self._left < 0:
            raise JobError(f"The other host sent more than {self._max_bytes} bytes, the most a fetch may take.")


def download(hosts: Hosts, url: str, meter: Meter) -> bytes:
    """Return what an https address holds. Raises JobError."""
    pool = hosts.pool()
    try:
        answer = pool.request("GET", url, preload_content=False, headers={"User-Agent": "rpcserver"})
        try:
            if answer.status != 200:
                raise JobError(f"The other host answered {answer.status} for the file.")
            parts = []
            for part in answer.stream(_CHUNK_BYTES):
                meter.note(len(part))
                parts.append(part)
            return b"".join(parts)
        finally:
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise told(error) from None
    finally:
        pool.clear()


def told(error: BaseException) -> JobError:
    """Return what a caller may know of a failed call: the guard's refusal if it was that, else the kind of failure."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, JobError):
            return cause
        if isinstance(cause, Stopped):
            raise cause
        inner = getattr(cause, "reason", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__ or cause.__context__
    return JobError(f"The other host cannot be called: {type(error).__name__}.")


def _is_named(host: str, port: int, names: tuple[str, ...]) -> bool:
    wanted = host.lower().strip("[]").rstrip(".")
    for name in names:
        pattern, colon, number = name.lower().rpartition(":")
        if not colon or not number.isdecimal():
            pattern, number = name.lower(), str(HTTPS_PORT)
        # An address of IPv6 stands in brackets, which would be a pattern's own sign.
        if int(number) == port and fnmatch.fnmatchcase(wanted, pattern.strip("[]")):
            return True
    return False


class _GuardedManager(PoolManager):
    def __init__(self, hosts: Hosts) -> None:
        context = create_urllib3_context()
        context.load_default_certs()
        if hosts.ca is not None:
            context.load_verify_locations(hosts.ca)
        retries = Retry(connect=0, read=0, other=0, redirect=MAX_REDIRECTS)
        timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=hosts.timeout_s)
        super().__init__(ssl_context=context, retries=retries, timeout=timeout)
        # Only https: an address of any other scheme, in a redirect too, has no pool.
        self.pool_classes_by_scheme = {"https": _pool_class(hosts.connect)}
        self.key_fn_by_scheme = {"https": self.key_fn_by_scheme["https"]}
        self._answers: list[BaseHTTPResponse] = []

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> BaseHTTPResponse:
        answer = super().urlopen(method, url, redirect, **options)
        self._answers.append(answer)
        return answer

    def clear(self) -> None:
        # An answer that nobody read to its end still holds its connection.
        for answer in self._answers:
            answer.close()
        self._answers.clear()
        super().clear()


def _pool_class(dial: Callable[[str, int], socket.socket]) -> type[HTTPSConnectionPool]:
    class Connection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return dial(self.host, self.port or HTTPS_PORT)

    class Pool(HTTPSConnectionPool):
        ConnectionCls: Any = Connection

    return Pool
