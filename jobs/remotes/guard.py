"""The guard of remotes: it looks at the address really dialled, whatever name, redirect or spelling led there.

It needs packages that only the extra `remotes` brings, so it is imported when the first remote is called.

Source: libraries.md 1.6: checks on the text of a URL lose to redirects and to names that resolve anew.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore2
import httpx2

from jobs.remotes.http import Address, Unreachable, is_public
from store import Pool


async def resolve(host: str, port: int, names: Pool) -> list[Address]:
    """Return every address of a host, without the name of an interface. Raises Unreachable for one that is none."""
    try:
        found = await names.run(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
    except UnicodeError as error:
        raise Unreachable(f"{host!r} is no name of a host") from error
    return [ip_address(str(one[4][0]).partition("%")[0]) for one in found]


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Dials for the HTTP client: resolves once, refuses when any answer is not public, and dials those very answers.

    Args:
        names: threads that look names up.
    """

    def __init__(self, allowed: Iterable[str], names: Pool) -> None:
        self._names = names
        self._allowed = tuple(ip_network(text) for text in allowed)
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the package's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the host. Raises Unreachable."""
        addresses = await resolve(host, port, self._names)
        if not addresses or not all(is_public(address, self._allowed) for address in addresses):
            raise Unreachable(f"{host} is not a public address")
        # All of them may be dialled: where the first does not answer (IPv6 without a way out), the next may.
        for address in addresses[:-1]:
            with suppress(httpcore2.ConnectError, OSError):
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (the package's signature)
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: a remote is not on this machine."""
        raise Unreachable("sockets of this machine are not dialled")

    async def sleep(self, seconds: float) -> None:
        """Wait between retries, of which there are none."""
        await asyncio.sleep(seconds)


MAX_CONNECTIONS = 100
KEEPALIVE_S = 30


def guarded_transport(networks: tuple[str, ...], ca_file: str | None, names: Pool) -> httpx2.AsyncHTTPTransport:
    """Return what sends requests, over a pool that dials through the guard."""
    context = ssl.create_default_context(cafile=ca_file)

    class Transport(httpx2.AsyncHTTPTransport):
        """The package's transport over a pool that dials through the guard."""

        def __init__(self) -> None:
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=context,
                max_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
                network_backend=GuardedBackend(networks, names),
            )

    return Transport()
