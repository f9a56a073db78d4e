"""Calls remotes over HTTP: to hosts the operator allowed, through the guard, within limits, with secrets unseen.

Nothing of what is sent or answered is logged or stored. Source: sessions.md 4.2, 4.4; libraries.md 1.6.
"""

import asyncio
import hashlib
import json
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from core.activity import Try
from core.attribute_values import Behind
from core.remotes import Definition, Remote
from jobs.breaker import Breaker
from jobs.errors import RemoteCooling, RemoteUnavailable
from jobs.remotes.http import Unreachable
from jobs.remotes.mapping import Letter, Response, letter, taken
from jobs.resilience import backoff_s
from store import Clock, Pool


class Bucket:
    """So many calls in so many seconds: it fills evenly, up to all of them."""

    def __init__(self, calls: float, per_s: float, clock: Callable[[], float]) -> None:
        self.calls, self.per_s, self._clock = calls, per_s, clock
        self._left, self._at = calls, clock()

    def wait_s(self) -> float:
        """Return how long until the next call may be made; 0 when one may be made now."""
        now = self._clock()
        self._left = min(self.calls, self._left + (now - self._at) * self.calls / self.per_s)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) * self.per_s / self.calls

    def take(self) -> None:
        """Count a call."""
        self._left -= 1


class Rates:
    """What is counted of every remote, and of every caller over all remotes.

    Args:
        calls_per_user: of one caller in a minute.
    """

    def __init__(self, calls_per_user: int, clock: Callable[[], float]) -> None:
        self._calls_per_user, self._clock = calls_per_user, clock
        self._remotes: dict[str, Bucket] = {}
        self._users: dict[str, Bucket] = {}
        self._busy: defaultdict[str, int] = defaultdict(int)
        self._began: dict[str, float] = {}

    @contextmanager
    def call(self, remote: Remote, caller_id: str) -> Iterator[None]:
        """Make room for one call with all its tries. Raises RemoteUnavailable, RemoteCooling."""
        definition = remote.definition
        if self._busy[remote.id] >= definition.concurrent:
            raise RemoteUnavailable("it is answering as many calls as it may")
        left_s = self._began.get(remote.id, float("-inf")) + definition.cool_down_s - self._clock()
        if definition.cool_down_s and left_s > 0:
            raise RemoteCooling(f"it was called a moment ago: wait {left_s:.3g} s", retry_after_s=left_s)
        self.take(remote, caller_id)
        self._began[remote.id] = self._clock()
        self._busy[remote.id] += 1
        try:
            yield
        finally:
            self._busy[remote.id] -= 1
            if not self._busy[remote.id]:
                del self._busy[remote.id]

    def take(self, remote: Remote, caller_id: str) -> None:
        """Count one try. Raises RemoteUnavailable when there were too many, of the remote or of the caller."""
        buckets = (self._of_remote(remote.id, remote.definition), self._of_user(caller_id))
        wait_s = max(bucket.wait_s() for bucket in buckets)
        if wait_s > 0:
            raise RemoteUnavailable(f"it was called too often: wait {wait_s:.3g} s", retry_after_s=wait_s)
        for bucket in buckets:
            bucket.take()

    def _of_remote(self, remote_id: str, definition: Definition) -> Bucket:
        bucket = self._remotes.get(remote_id)
        if bucket is None or (bucket.calls, bucket.per_s) != (definition.calls, definition.per_s):
            bucket = self._remotes[remote_id] = Bucket(definition.calls, definition.per_s, self._clock)
        return bucket

    def _of_user(self, caller_id: str) -> Bucket:
        return self._users.setdefault(caller_id, Bucket(self._calls_per_user, 60, self._clock))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a remote answered: the HTTP status, how long it took, whether it was remembered, and when it came.

    `as_of` is in UTC milliseconds.
    """

    value: Any
    code: int
    duration_ms: int
    is_cached: bool = False
    as_of: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    reply: Reply
    until: float
    remote_id: str
    token_id: str | None
    size: int


class Remembered:
    """Replies by key; the ones not looked at for the longest time make room.

    Args:
        entries, size: how many, and how many characters of answers together.
    """

    def __init__(self, entries: int, size: int, clock: Callable[[], float]) -> None:
        self._entries, self._size, self._clock = entries, size, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._used = 0

    def fresh(self, key: str) -> Reply | None:
        """Return a reply that is still good."""
        found = self._kept.get(key)
        return self.any(key) if found is not None and found.until > self._clock() else None

    def any(self, key: str) -> Reply | None:
        """Return a reply however old it is."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return replace(found.reply, duration_ms=0, is_cached=True)

    def keep(self, key: str, reply: Reply, remote: Remote, token_id: str) -> None:
        """Keep a reply for as long as the remote says; old ones may be asked for after that."""
        size = len(json.dumps(reply.value))
        if size > self._size:
            return
        self._drop(key)
        by_token = token_id if "token" in remote.definition.cache_by else None
        until = self._clock() + remote.definition.cache_s
        self._kept[key] = _Kept(reply, until, remote.id, by_token, size)
        self._used += size
        while len(self._kept) > self._entries or self._used > self._size:
            self._drop(next(iter(self._kept)))

    def forget(self, remote_id: str, token_id: str) -> None:
        """Forget what a remote answered about a token, whoever asked: it was written."""
        stale = [
            key for key, kept in self._kept.items() if kept.remote_id == remote_id and kept.token_id in (None, token_id)
        ]
        for key in stale:
            self._drop(key)

    def _drop(self, key: str) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._used -= gone.size


def key_of(remote: Remote, asked: Behind, to_send: Letter) -> str:
    """Return what an answer is kept under: the remote, what parts its answers, and all that is sent."""
    by = {"caller": asked.caller_id, "token": asked.token_id, "type": asked.type, "attribute": asked.attribute}
    parts = [by[name] if name in remote.definition.cache_by else "" for name in by]
    text = json.dumps([remote.id, *parts, to_send.url, to_send.method, to_send.query, to_send.headers])
    return hashlib.sha256(text.encode() + (to_send.body or b"")).hexdigest()


REPEATABLE_CODES = (408, 425, 429, 500, 502, 503, 504)
LATE_TIMES = 3  # for one caller, before a remote is left out
REST_S = 10.0
MAX_HEAD_CHARACTERS = 16 * 1024  # of address and headers: what servers usually take
LONG_TEXT = 16 * 1024  # characters: reading more would keep the loop, so it is done in a thread
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
        read_timeout_s: of a call on the reading path, write_timeout_s: on the writing path, with all its tries.
        answer_bytes, sent_bytes: how long a body may be that comes, or goes.
        calls_per_user: by one caller in a minute, over all remotes.
        cached, cached_size: answers remembered, and their characters together.
        backoff_s: the pause before a write is tried again; doubled each time, give or take a half.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    secrets: Mapping[str, RemoteSecret] = field(default_factory=dict)
    ca_file: str | None = None
    read_timeout_s: float = 0.3
    write_timeout_s: float = 10.0
    answer_bytes: int = 256 * 1024
    sent_bytes: int = 256 * 1024
    calls_per_user: int = 120
    cached: int = 1000
    cached_size: int = 16 * 1024 * 1024
    backoff_s: float = 0.2


class Remotes:
    """Calls remotes, and remembers answers for as long as their definitions say.

    Args:
        clock: what tells the time.
        names, answers: threads that look names up, and that read long answers; None: some of its own.
    """

    def __init__(
        self,
        limits: RemoteLimits,
        clock: Clock,
        *,
        names: Pool | None = None,
        answers: Pool | None = None,
    ) -> None:
        self._answers = answers or Pool("answers", 1)
        self.breaker = Breaker(LATE_TIMES, REST_S, lambda: self._clock())
        self._limits = limits
        self._now_ms, self._clock = clock.now_ms, clock.monotonic
        self._client = HttpClient(
            limits.networks, limits.ca_file, limits.answer_bytes, names or Pool("names", 1), self._answers
        )
        self._remembered = Remembered(limits.cached, limits.cached_size, lambda: self._clock())
        self._rates = Rates(limits.calls_per_user, lambda: self._clock())

    async def call(
        self,
        remote: Remote,
        owner_name: str,
        asked: Behind,
        value: Any,
        *,
        is_write: bool,
        tries: list[Try] | None = None,
        may_repeat: bool = True,
    ) -> Reply:
        """Ask a remote and return its answer. Raises RemoteUnavailable.

        Args:
            is_write: what is remembered is forgotten, there is more time, and what may be is tried again.
            tries: what was tried is added to it.
        """
        tries = [] if tries is None else tries
        began_at = self._now_ms()
        try:
            return await self._call(remote, owner_name, asked, value, is_write and may_repeat, is_write, tries)
        except RemoteUnavailable as error:
            if not tries:
                tries.append(Try("failed", error.status, 0, began_at, is_sent=False))
            raise

    def check(self, url: str) -> None:
        """Raise RemoteUnavailable for an address that the operator does not allow."""
        if not is_allowed(url, self._limits.hosts):
            raise RemoteUnavailable("the operator does not allow its address")

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Send a body to an allowed address and return the status it answers. Raises RemoteUnavailable."""
        self.check(url)
        await self._client.open()
        limit_s = self._limits.write_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return (await self._client.exchange(Letter("POST", url, headers, {}, body, ()))).code
        except TimeoutError as error:
            raise RemoteUnavailable(f"it took longer than {limit_s:g} s") from error

    def secret(self, name: str, url: str, user_name: str) -> str:
        """Return the text of a secret for an address and a user. Raises RemoteUnavailable."""
        secret = self._limits.secrets.get(name)
        host = urlsplit(url).hostname or ""
        if secret is None or host not in secret.hosts or (secret.users and user_name not in secret.users):
            raise RemoteUnavailable(f"there is no secret {name!r} for it")
        return secret.text

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(
        self,
        remote: Remote,
        owner_name: str,
        asked: Behind,
        value: Any,
        may_repeat: bool,
        is_write: bool,
        tries: list[Try],
    ) -> Reply:
        definition = remote.definition
        if not remote.is_on:
            raise RemoteUnavailable("it is turned off")
        to_send = letter(definition, asked, value, lambda name: self.secret(name, definition.url, owner_name))
        self.check(to_send.url)
        self._check_size(to_send)
        key = key_of(remote, asked, to_send)
        if is_write:
            self._remembered.forget(remote.id, asked.token_id)
        elif (known := self._remembered.fresh(key)) is not None:
            return self._cached(known, tries)
        try:
            reply = await self._send(remote, asked.caller_id, to_send, is_write, may_repeat, tries)
        except RemoteUnavailable as error:
            stale = None if is_write else self._remembered.any(key)
            is_enough = definition.is_cache_used_on_failure or (
                definition.is_cache_used_in_cool_down and isinstance(error, RemoteCooling)
            )
            if stale is None or not is_enough:
                raise
            return self._cached(stale, tries)
        is_kept = definition.cache_s or definition.is_cache_used_on_failure or definition.is_cache_used_in_cool_down
        if is_kept and not is_write:
            self._remembered.keep(key, reply, remote, asked.token_id)
        return reply

    def _check_size(self, to_send: Letter) -> None:
        head = [to_send.url, *to_send.query.values(), *to_send.headers.values()]
        if len(to_send.body or b"") > self._limits.sent_bytes or sum(map(len, head)) > MAX_HEAD_CHARACTERS:
            raise RemoteUnavailable(
                f"it would be sent more than {self._limits.sent_bytes} bytes, or {MAX_HEAD_CHARACTERS} in its head"
            )

    async def _send(
        self, remote: Remote, caller_id: str, to_send: Letter, is_write: bool, may_repeat: bool, tries: list[Try]
    ) -> Reply:
        thing = ("remote", remote.id)
        wait_s = self.breaker.wait_s(thing, caller_id)
        if wait_s:
            message = f"it took too long, and is left out for another {wait_s:.0f} s"
            raise RemoteUnavailable(message, retry_after_s=wait_s)
        limit_s = self._limits.write_timeout_s if is_write else self._limits.read_timeout_s
        most = remote.definition.tries if may_repeat else 1
        await self._client.open()  # not in the remote's time
        with self._rates.call(remote, caller_id):
            began, began_at = self._clock(), self._now_ms()
            try:
                async with asyncio.timeout(limit_s) as limit:
                    for number in range(most):
                        began, began_at = self._clock(), self._now_ms()
                        try:
                            reply = await self._try(remote, to_send, tries, began, began_at)
                            self.breaker.answered(thing, caller_id)
                            return reply
                        except RemoteUnavailable as error:
                            if not isinstance(error, Unreached):
                                self.breaker.answered(thing, caller_id)
                            pause_s = self._pause(error, number)
                            left_s = (limit.when() or 0) - asyncio.get_running_loop().time()
                            if number + 1 == most or pause_s is None or pause_s >= left_s:
                                raise
                        await asyncio.sleep(pause_s)
                        self._rates.take(remote, caller_id)
            except TimeoutError as error:
                tries.append(Try("failed", None, round((self._clock() - began) * 1000), began_at))
                self.breaker.late(thing, caller_id)
                raise RemoteUnavailable(f"it took longer than {limit_s:g} s") from error
        raise AssertionError("the last try answers or raises")

    async def _try(self, remote: Remote, to_send: Letter, tries: list[Try], began: float, began_at: int) -> Reply:
        code = None
        try:
            response = await self._client.exchange(to_send)
            code = response.code
            if not (200 <= code < 300 or code in remote.definition.good_codes):
                raise _refusal(response, self._now_ms())
            if len(response.text) > LONG_TEXT:
                value = await self._answers.run(taken, remote.definition, to_send, response)
            else:
                value = taken(remote.definition, to_send, response)
        except RemoteUnavailable as error:
            error.status = code
            tries.append(Try("failed", code, round((self._clock() - began) * 1000), began_at))
            raise
        duration_ms = round((self._clock() - began) * 1000)
        tries.append(Try("succeeded", code, duration_ms, began_at))
        return Reply(value, code, duration_ms, as_of=self._now_ms())

    def _cached(self, reply: Reply, tries: list[Try]) -> Reply:
        tries.append(Try("cached", reply.code, 0, self._now_ms(), is_sent=False))
        return reply

    def _pause(self, error: RemoteUnavailable, number: int) -> float | None:
        """Return the seconds to wait before the next try; None when another one would not help."""
        if error.retry_after_ms is not None:
            return error.retry_after_ms / 1000
        if not isinstance(error, Unreached) and error.status not in REPEATABLE_CODES:
            return None
        return backoff_s(self._limits.backoff_s, number + 1, jitter=0.5)


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


def _refusal(response: Response, now_ms: int) -> RemoteUnavailable:
    wait_s = _retry_after(response, now_ms) if response.code in REPEATABLE_CODES else None
    asks = "" if wait_s is None else f" and wants to be left alone for {wait_s:g} s"
    return RemoteUnavailable(f"it answered with status {response.code}{asks}", response.code, wait_s)


def _retry_after(response: Response, now_ms: int) -> float | None:
    """Return the seconds of the header Retry-After, which is a number or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, round(parsedate_to_datetime(text).timestamp() - now_ms / 1000, 3))
    except (ValueError, TypeError, OverflowError):
        return None


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
                self._transport = await self._answers.run(self._load)
        return self._transport

    def _load(self) -> Any:
        from jobs.remotes.guard import guarded_transport

        return guarded_transport(self._networks, self._ca_file, self._names)


def _decoded(found: bytes, charset: str | None) -> str:
    charset = (charset or "utf-8").lower()
    if charset not in CHARSETS:
        raise RemoteUnavailable(f"it answered in the character set {charset[:40]!r}, which is not read")
    return found.decode(charset, "replace")
