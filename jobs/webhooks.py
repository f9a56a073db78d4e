"""Tells an address on the network that a job has ended: signed, tried again with back-off, visible in the record.

A job names an https address and, by name, a secret of the operator's. Its end and the duty to tell it are one
transaction; the telling goes through the guard of everything outside. What is sent is what `job.get` answers: never
what the job was given.

    POST <url>
    Content-Type: application/json
    X-Rpcserver-Delivery: <job id>.<try>
    X-Rpcserver-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>" with the secret>
"""

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog

from jobs import rows
from jobs.authority import Authority, Ledger, NoLedger
from jobs.errors import CredentialEnded, CredentialExpired, CredentialRevoked, RemoteUnavailable
from jobs.model import JobRow
from jobs.resilience import at_last, backoff_s, fenced
from store import Clock, Store, StoreError, Tx, pause

log = structlog.get_logger("jobs")

Post = Callable[[str, dict[str, str], bytes], Awaitable[int]]
Secret = Callable[[str, str, str], Awaitable[str]]
Show = Callable[[JobRow], dict[str, Any]]
FIRST_RETRY_S = 2.0
MAX_TRIES = 10  # the last about a quarter of an hour after the first
AT_ONCE = 16
AT_ONCE_PER_ORIGIN = 4  # one that does not answer holds up nobody else's
STORE_RETRY_S = 1.0
_COLUMNS = "job_id, url, secret, state, tries, status, problem, next_at"


@dataclass(frozen=True, slots=True)
class Callback:
    """A row of `callbacks`.

    `state`: pending, delivered or failed; `status`: what the address answered last; `next_at` is on the steady scale.
    """

    job_id: str
    url: str
    secret: str
    state: str
    tries: int
    status: int | None
    problem: str | None
    next_at: int | None

    @property
    def origin(self) -> str:
        """Whose address it is: `https://host:port`."""
        return "https://" + urlsplit(self.url).netloc


class Callbacks:
    """Delivers what is due.

    Args:
        post: sends a body to an address and returns the status. Raises RemoteUnavailable.
        secret: the text of the operator's secret of a name, for an address and a user's id. Raises RemoteUnavailable.
        show: a job as it is told.
        ledger: keeps the credentials that brought jobs, and with them the wish to have their ends told.
    """

    def __init__(self, store: Store, post: Post, secret: Secret, show: Show, ledger: Ledger | None = None) -> None:
        self._store = store
        self._post = post
        self._secret = secret
        self._show = show
        self._ledger = ledger or NoLedger()
        self._wake = asyncio.Event()
        self._under_way: dict[str, str] = {}  # job id -> origin

    def due(self, tx: Tx, job_id: str, callback: str) -> None:
        """Have a job's end told once it is stored; `callback` is the JSON `{url, secret}` of its row."""
        wanted = json.loads(callback)
        tx.run(
            f"INSERT INTO callbacks ({_COLUMNS}) VALUES (?, ?, ?, 'pending', 0, NULL, NULL, ?)",  # noqa: S608
            job_id,
            wanted["url"],
            wanted["secret"],
            tx.clock.steady_ms(),
        )
        tx.after_commit(self._wake.set)

    async def run(self) -> None:
        """Deliver what falls due, until cancelled."""
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self._wake.clear()
                now = self._store.clock.steady_ms()
                try:
                    while due := await self._store.read(partial(self._due, now=now)):
                        for callback in due:
                            self._under_way[callback.job_id] = callback.origin
                            deliveries.create_task(self._deliver(callback))
                    next_at = await self._store.read(partial(_next_after, now=now))
                except StoreError as error:
                    log.warning("callbacks_wait", reason=str(error))
                    await asyncio.sleep(STORE_RETRY_S)
                    continue
                await pause(self._wake, None if next_at is None else (next_at - now) / 1000)

    def _due(self, tx: Tx, now: int) -> list[Callback]:
        """Return some of what can be told now: at most so many at once in all, and so many of one origin."""
        counts = Counter(self._under_way.values())
        busy = [origin for origin, count in counts.items() if count >= AT_ONCE_PER_ORIGIN]
        rows = tx.all(
            f"SELECT {_COLUMNS} FROM callbacks WHERE next_at <= ?{' AND substr(url, 1, ?) <> ?' * len(busy)}"  # noqa: S608
            " ORDER BY next_at LIMIT ?",
            now,
            *(value for origin in busy for value in (len(origin), origin)),
            AT_ONCE,
        )
        due: list[Callback] = []
        for callback in (Callback(*row) for row in rows):
            is_free = counts[callback.origin] < AT_ONCE_PER_ORIGIN and counts.total() < AT_ONCE
            if is_free and callback.job_id not in self._under_way:
                counts[callback.origin] += 1
                due.append(callback)
        return due

    async def _deliver(self, callback: Callback) -> None:
        try:
            is_noted = await fenced("callback_broke", self._tell(callback), job_id=callback.job_id)
            if is_noted is None:
                await at_last(self._store, lambda tx: _note(tx, callback, None, "The server failed to send it.", False))
        except StoreError as error:
            log.warning("callback_not_noted", job_id=callback.job_id, reason=str(error))
            await asyncio.sleep(STORE_RETRY_S)
        finally:
            del self._under_way[callback.job_id]
            self._wake.set()

    async def _tell(self, callback: Callback) -> bool:
        job = await self._store.read(lambda tx: rows.find(tx, callback.job_id))
        if job is None:
            return False
        authority = await self._store.write(lambda tx: self._begin(tx, job))
        body = orjson.dumps(self._show(job))
        status, problem, is_over = None, None, False
        try:
            authority.require()
            secret = await self._secret(callback.secret, callback.url, job.owner_id)
            headers = _headers(callback, secret, body, self._store.clock)
            status = await self._post(callback.url, headers, body)
        except (RemoteUnavailable, CredentialEnded) as error:
            problem, is_over = str(error), isinstance(error, CredentialRevoked | CredentialExpired)
        is_told = status is not None and 200 <= status < 300
        await at_last(self._store, lambda tx: _note(tx, callback, status, problem, is_told, is_over))
        if not is_told:
            log.info("callback_failed", job_id=callback.job_id, tries=callback.tries + 1, status=status, reason=problem)
        return True

    def _begin(self, tx: Tx, job: JobRow) -> Authority:
        tx.run("UPDATE callbacks SET is_begun = 1 WHERE job_id = ?", job.id)
        return self._ledger.load(tx, job.authority)


def no_callbacks() -> tuple[Post, Secret, Show]:
    """Return what a runner without a way outside tells callbacks with: every delivery says so."""

    async def post(url: str, headers: dict[str, str], body: bytes) -> int:
        raise RemoteUnavailable("this server calls nothing outside")

    async def secret(name: str, url: str, user_id: str) -> str:
        return ""

    return post, secret, lambda row: {"job_id": row.id, "state": row.state}


def recover(tx: Tx, was_killed: bool, max_crashes: int) -> None:
    """Give up what was being told whenever the server was killed; what else was interrupted is told again.

    There are never more of them than are told at once.
    """
    if was_killed:
        tx.run("UPDATE callbacks SET crashes = crashes + 1 WHERE is_begun = 1")
    tx.run(
        "UPDATE callbacks SET state = 'failed', next_at = NULL, problem = ? WHERE is_begun = 1 AND crashes >= ?",
        *("The server went down more than once while it was sent.", max_crashes),
    )
    tx.run("UPDATE callbacks SET is_begun = 0 WHERE is_begun = 1")


def find(tx: Tx, job_id: str) -> Callback | None:
    """Return how the telling of a job's end fares, None when nobody is to be told, or not yet."""
    row = tx.one(f"SELECT {_COLUMNS} FROM callbacks WHERE job_id = ?", job_id)  # noqa: S608 (a constant)
    return Callback(*row) if row else None


def forget(tx: Tx, job_ids: list[str]) -> None:
    """Delete the callbacks of jobs that are forgotten."""
    tx.many("DELETE FROM callbacks WHERE job_id = ?", [(id,) for id in job_ids])


def _headers(callback: Callback, secret: str, body: bytes, clock: Clock) -> dict[str, str]:
    at = clock.now_ms() // 1000
    signature = hmac.digest(secret.encode(), b"%d." % at + body, hashlib.sha256).hex()
    return {
        "content-type": "application/json",
        "x-rpcserver-delivery": f"{callback.job_id}.{callback.tries + 1}",
        "x-rpcserver-signature": f"t={at},v1={signature}",
    }


def _next_after(tx: Tx, now: int) -> int | None:
    # What is due, and not begun, waits for one that is under way: its end wakes us.
    row = tx.one("SELECT min(next_at) FROM callbacks WHERE next_at > ?", now)
    return None if row is None else row[0]


def _note(
    tx: Tx, callback: Callback, status: int | None, problem: str | None, is_told: bool, is_over: bool = False
) -> None:
    tries = callback.tries + 1
    state, next_at = "delivered", None
    if not is_told:
        state = "failed" if is_over or tries >= MAX_TRIES else "pending"
        next_at = None if state == "failed" else tx.clock.steady_ms() + int(backoff_s(FIRST_RETRY_S, tries) * 1000)
    tx.run(
        "UPDATE callbacks SET state = ?, tries = ?, status = ?, problem = ?, next_at = ?, is_begun = 0, crashes = 0"
        " WHERE job_id = ?",
        state,
        tries,
        status,
        problem,
        next_at,
        callback.job_id,
    )
