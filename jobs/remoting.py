"""Calls remotes over HTTP: to hosts the operator allowed, through the guard, within limits, with secrets unseen.

Nothing of what is sent or answered is logged or stored. Source: sessions.md 4.2, 4.4; libraries.md 1.6.
"""

import asyncio
import hashlib
import json
import re
import ssl
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from core.behind import Behind
from core.remotes import Remote
from jobs.errors import RemoteUnavailable
from jobs.mapping import Letter, letter, taken

_HIDDEN = re.compile(r"%(?:2e|2f|5c)|[\\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RemoteSecret:
    """A secret that remotes name: its text, the hosts it is sent to, and whose remotes may (none: everybody's)."""

    text: str = field(repr=False)
    hosts: tuple[str, ...]
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteLimits:
    """Where remotes may go and what they may use.

    Args:
        hosts: `https://host[:port][/path]` each; none: remotes are off. networks: not public, but allowed.
        read_timeout_s: of a call on the reading path, write_timeout_s: on the writing path.
        calls_per_user: by one caller in a minute, over all remotes.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    secrets: Mapping[str, RemoteSecret] = field(default_factory=dict)
    ca_file: str | None = None
    read_timeout_s: float = 0.3
    write_timeout_s: float = 10.0
    answer_bytes: int = 256 * 1024
    calls_per_user: int = 120
    cached: int = 1000


@dataclass(frozen=True, slots=True)
class Reply:
    """What a remote answered: the HTTP status, how long it took, and whether it was remembered."""

    value: Any
    code: int
    duration_ms: int
    is_cached: bool = False


class Bucket:
    """So many calls in so many seconds: it fills evenly, up to all of them."""

    def __init__(self, calls: float, per_s: float, clock: Callable[[], float]) -> None:
        self._calls, self._rate, self._clock = calls, calls / per_s, clock
        self._left, self._at = calls, clock()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = self._clock()
        self._left = min(self._calls, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Remotes:
    """Calls remotes, and remembers answers for as long as their definitions say."""

    def __init__(self, limits: RemoteLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._transport: Any = None
        self._cache: OrderedDict[str, tuple[Reply, float]] = OrderedDict()
        self._rates: dict[str, Bucket] = {}
        self._users: dict[str, Bucket] = {}
        self._busy: defaultdict[str, int] = defaultdict(int)

    async def call(self, remote: Remote, owner_name: str, asked: Behind, value: Any, *, is_write: bool) -> Reply:
        """Ask a remote and return its answer. Raises RemoteUnavailable.

        Args:
            is_write: what is remembered does not count, and there is more time.
        """
        if not remote.is_on:
            raise RemoteUnavailable("it is turned off")
        to_send = letter(remote.definition, asked, value, self._secret(remote, owner_name))
        self.check(to_send.url)
        key = _key(remote, asked, to_send)
        known = self._known(key)
        if known is not None and not is_write:
            return known
        try:
            reply = await self._send(remote, asked.caller_id, to_send, is_write)
        except RemoteUnavailable:
            stale = self._cache.get(key)
            if stale is not None and remote.definition.is_cache_used_on_failure and not is_write:
                return Reply(stale[0].value, stale[0].code, 0, True)
            raise
        if remote.definition.cache_s > 0:
            self._remember(key, reply, remote.definition.cache_s)
        return reply

    def check(self, url: str) -> None:
        """Raise RemoteUnavailable for an address that the operator does not allow."""
        if not is_allowed(url, self._limits.hosts):
            raise RemoteUnavailable("the operator does not allow its address")

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Send a body to an allowed address and return the status it answers. Raises RemoteUnavailable."""
        self.check(url)
        limit_s = self._limits.write_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                code, _ = await self._exchange(Letter("POST", url, headers, {}, body, ()))
        except TimeoutError as error:
            raise RemoteUnavailable(f"it took longer than {limit_s:g} s") from error
        return code

    def secret(self, name: str, url: str, user_name: str) -> str:
        """Return the text of a secret for an address and a user. Raises RemoteUnavailable."""
        secret = self._limits.secrets.get(name)
        host = urlsplit(url).hostname or ""
        if secret is None or host not in secret.hosts or (secret.users and user_name not in secret.users):
            raise RemoteUnavailable(f"there is no secret {name!r} for it")
        return secret.text

    async def close(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def _send(self, remote: Remote, caller_id: str, to_send: Letter, is_write: bool) -> Reply:
        definition = remote.definition
        clock = self._clock
        rate = self._rates.setdefault(remote.id, Bucket(definition.calls, definition.per_s, clock))
        own = self._users.setdefault(caller_id, Bucket(self._limits.calls_per_user, 60, clock))
        if self._busy[remote.id] >= definition.concurrent:
            raise RemoteUnavailable("it is answering as many calls as it may")
        if not rate.take() or not own.take():
            raise RemoteUnavailable("it was called too often: wait a while")
        self._busy[remote.id] += 1
        started = clock()
        limit_s = self._limits.write_timeout_s if is_write else self._limits.read_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                code, text = await self._exchange(to_send)
        except TimeoutError as error:
            raise RemoteUnavailable(f"it took longer than {limit_s:g} s") from error
        finally:
            self._busy[remote.id] -= 1
        if not 200 <= code < 300:
            raise RemoteUnavailable(f"it answered with status {code}", code)
        return Reply(taken(definition, to_send.hide(text)), code, round((clock() - started) * 1000))

    async def _exchange(self, to_send: Letter) -> tuple[int, str]:
        import httpcore2
        import httpx2

        transport = self._open()
        # Straight to the transport: no redirects are followed, no cookies kept, nothing is read from the environment.
        url = httpx2.URL(to_send.url).copy_merge_params(to_send.query)
        request = httpx2.Request(to_send.method, url, headers=to_send.headers, content=to_send.body)
        try:
            response = await transport.handle_async_request(request)
            try:
                return response.status_code, await self._read(response)
            finally:
                await response.aclose()
        except (httpx2.HTTPError, httpcore2.NetworkError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise RemoteUnavailable("it could not be reached, or its address is not one to call") from error

    async def _read(self, response: Any) -> str:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise RemoteUnavailable("it answered packed, which was not asked for")
        found = bytearray()
        async for chunk in response.aiter_raw():
            found += chunk
            if len(found) > self._limits.answer_bytes:
                raise RemoteUnavailable(f"it answered with more than {self._limits.answer_bytes} bytes")
        return found.decode("utf-8", "replace")

    def _open(self) -> Any:
        if self._transport is None:
            try:
                self._transport = _guarded_transport(self._limits)
            except ImportError as error:
                message = "this server calls none: its operator installs them with `pip install rpcserver[remotes]`"
                raise RemoteUnavailable(message) from error
        return self._transport

    def _secret(self, remote: Remote, owner_name: str) -> Callable[[str], str]:
        return lambda name: self.secret(name, remote.definition.url, owner_name)

    def _known(self, key: str) -> Reply | None:
        found = self._cache.get(key)
        if found is None or found[1] <= self._clock():
            return None
        return Reply(found[0].value, found[0].code, 0, True)

    def _remember(self, key: str, reply: Reply, seconds: float) -> None:
        self._cache[key] = (reply, self._clock() + seconds)
        self._cache.move_to_end(key)
        while len(self._cache) > self._limits.cached:
            self._cache.popitem(last=False)


def is_allowed(url: str, hosts: tuple[str, ...]) -> bool:
    """Tell whether an address lies below one the operator allowed: same scheme, host and port, and path beneath."""
    wanted = urlsplit(url)
    # A path that climbs or hides its signs could leave what was allowed once the other side reads it.
    if any(part in (".", "..") for part in wanted.path.split("/")) or _HIDDEN.search(wanted.path):
        return False
    for text in hosts:
        allowed = urlsplit(text if "://" in text else f"https://{text}")
        prefix = allowed.path.rstrip("/")
        is_below = wanted.path == prefix or wanted.path.startswith(prefix + "/") or not prefix
        if _origin(wanted) == _origin(allowed) and is_below:
            return True
    return False


def _origin(parts: Any) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)


def _key(remote: Remote, asked: Behind, to_send: Letter) -> str:
    by = {"caller": asked.caller_id, "token": asked.token_id}
    parts = [by[name] if name in remote.definition.cache_by else "" for name in ("caller", "token")]
    text = json.dumps([remote.id, *parts, to_send.url, to_send.method, to_send.query, to_send.headers])
    return hashlib.sha256(text.encode() + (to_send.body or b"")).hexdigest()


def _guarded_transport(limits: RemoteLimits) -> Any:
    import httpcore2
    import httpx2

    from jobs.guard import GuardedBackend

    context = ssl.create_default_context(cafile=limits.ca_file)

    class Transport(httpx2.AsyncHTTPTransport):
        """The package's transport over a pool that dials through the guard."""

        def __init__(self) -> None:
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=context,
                max_connections=100,
                keepalive_expiry=30,
                network_backend=GuardedBackend(limits.networks),
            )

    return Transport()
