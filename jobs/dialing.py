"""The HTTP client of remotes: through the guard, bounded, and with nothing of its own accord.

Straight to the transport, and not by the package's client: no redirects are followed, no cookies kept, nothing is
read from the environment. Source: sessions.md 4.4; libraries.md 1.6.
"""

import asyncio
import ssl
from functools import partial
from typing import Any

from jobs.errors import RemoteUnavailable
from jobs.mapping import Letter, Response
from store import Pool

MAX_CONNECTIONS = 100
KEEPALIVE_S = 30
# Of a page that says itself how it is written; others could make of a few bytes a lot of work.
CHARSETS = frozenset({"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"})


class Unreached(RemoteUnavailable):
    """The connection failed on the way: it may work the next time."""


class HttpClient:
    """Sends letters and reads what comes back.

    Args:
        networks: which addresses may be dialled although they are not public.
        ca_file: certificates it trusts instead of this machine's.
        answer_bytes: how long an answer may be.
        names, answers: threads that look names up, and that load what is needed.
    """

    def __init__(
        self, networks: tuple[str, ...], ca_file: str | None, answer_bytes: int, names: Pool, answers: Pool
    ) -> None:
        self._names, self._answers = names, answers
        self._networks, self._ca_file, self._answer_bytes = networks, ca_file, answer_bytes
        self._transport: Any = None
        self._opening = asyncio.Lock()

    async def exchange(self, to_send: Letter) -> Response:
        """Send a letter and return what comes back, whatever its status. Raises RemoteUnavailable."""
        transport = await self.open()
        import httpcore2
        import httpx2

        from jobs.guard import Unreachable

        try:
            url = httpx2.URL(to_send.url).copy_merge_params(to_send.query)
            request = httpx2.Request(to_send.method, url, headers=to_send.headers, content=to_send.body)
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise RemoteUnavailable("its address, or a header, holds what cannot be sent") from error
        try:
            response = await transport.handle_async_request(request)
            try:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status_code, headers, await self._read(response))
            finally:
                await response.aclose()
        except Unreachable as error:
            raise RemoteUnavailable("it could not be reached: its address is not one to call") from error
        except (httpx2.HTTPError, httpcore2.NetworkError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise Unreached("it could not be reached") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def _read(self, response: Any) -> str:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise RemoteUnavailable("it answered packed, which was not asked for")
        found = bytearray()
        async for chunk in response.aiter_raw():
            found += chunk
            if len(found) > self._answer_bytes:
                raise RemoteUnavailable(f"it answered with more than {self._answer_bytes} bytes")
        return _decoded(bytes(found), response.charset_encoding)

    async def open(self) -> Any:
        """Load what is needed, the first time, and return the transport."""
        async with self._opening:
            if self._transport is None:
                # Not on the loop: packages and certificates take longer to load than others should wait.
                make = partial(_guarded_transport, self._networks, self._ca_file, self._names)
                self._transport = await self._answers.run(make)
        return self._transport


def _decoded(found: bytes, charset: str | None) -> str:
    charset = (charset or "utf-8").lower()
    if charset not in CHARSETS:
        raise RemoteUnavailable(f"it answered in the character set {charset[:40]!r}, which is not read")
    return found.decode(charset, "replace")


def _guarded_transport(networks: tuple[str, ...], ca_file: str | None, names: Pool) -> Any:
    import httpcore2
    import httpx2

    from jobs.guard import GuardedBackend

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
