"""Credentials: rows, what each may still do, and what the limited ones did. Source: protocol.md 1.

Written by this module only: credential_terms, credential_calls.
"""

from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import orjson
import structlog

from core import users
from jobs.authority import EVERYTHING, Authority, End, Grant, Spent
from jobs.errors import CallsSpent, CallsSpentForNow, CredentialExpired, CredentialRevoked
from rpcserver.auth import authenticator
from rpcserver.auth.authenticator import Principal, Secret
from rpcserver.auth.ended import keep_ended
from rpcserver.errors import CredentialNotFound, NotRenewable
from store import Store, Tx, new_id

log = structlog.get_logger("auth")

AT_ONCE = 500  # rows that one transaction forgets


@dataclass(frozen=True, slots=True)
class Terms:
    """What a credential is good for.

    Args:
        expires_in_s: seconds of life; None: until revoked.
        is_renewable: `auth.refresh` begins its life anew.
        max_calls: calls in all. calls_per_interval: calls in each `interval_s` seconds.
        holder_id: the user it is made for, who acts in the owner's name; None: the owner himself.
        is_logged: its calls are kept for the owner to read; limited calls always are.
        made_by: the narrow credential that makes it, with which it is revoked.
    """

    label: str
    scopes: tuple[str, ...] = EVERYTHING
    expires_in_s: float | None = None
    is_renewable: bool = False
    max_calls: int | None = None
    calls_per_interval: int | None = None
    interval_s: int | None = None
    holder_id: str | None = None
    is_logged: bool = False
    made_by: str | None = None

    @property
    def is_metered(self) -> bool:
        """Each call has to be written down."""
        return self.is_logged or self.max_calls is not None or self.calls_per_interval is not None


def issue(tx: Tx, user_id: str, terms: Terms) -> tuple[str, Secret]:
    """Make a credential in a user's name and return its id and its text, which is nowhere kept."""
    life_ms = None if terms.expires_in_s is None else int(terms.expires_in_s * 1000)
    expires_at = None if life_ms is None else tx.clock.now_ms() + life_ms
    text = authenticator.issue(tx, user_id, terms.label, terms.scopes, expires_at, terms.made_by)
    credential_id = authenticator.id_of(tx, text)
    if terms.is_metered or terms.is_renewable or terms.holder_id is not None:
        tx.run(
            "INSERT INTO credential_terms (credential_id, holder_id, is_metered, renewal_ms, max_calls,"
            " interval_calls, interval_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            credential_id,
            terms.holder_id,
            int(terms.is_metered),
            life_ms if terms.is_renewable else None,
            terms.max_calls,
            terms.calls_per_interval,
            None if terms.interval_s is None else terms.interval_s * 1000,
        )
    return credential_id, text


def page(tx: Tx, user_id: str | None, limit: int, after: str | None) -> list[dict[str, Any]]:
    """Return up to `limit` credentials in a user's name (None: in anybody's), the oldest first."""
    whose = "" if user_id is None else "c.user_id = ? AND "
    rows = tx.all(
        "SELECT c.id, u.name, c.label, c.scopes, c.expires_at, c.created_at, h.name, coalesce(t.is_metered, 0),"  # noqa: S608
        " t.renewal_ms, t.max_calls, t.interval_calls, t.interval_ms, coalesce(t.calls_made, 0),"
        " coalesce(t.calls_refused, 0) FROM credentials c JOIN users u ON u.id = c.user_id"
        " LEFT JOIN credential_terms t ON t.credential_id = c.id LEFT JOIN users h ON h.id = t.holder_id"
        f" WHERE {whose}c.id > ? AND c.hash <> c.id ORDER BY c.id LIMIT ?",
        *(() if user_id is None else (user_id,)),
        after or "",
        limit,
    )
    return [_record(row) for row in rows]


def revoke(tx: Tx, credential_id: str, user_id: str | None) -> list[Grant]:
    """End a credential in the user's name (None: in anybody's), and those a narrow one has made; return them all.

    What is kept of them is deleted by `forget`. Raises CredentialNotFound.
    """
    row = tx.one("SELECT user_id FROM credentials WHERE id = ? AND hash <> id", credential_id)
    if row is None or user_id not in (None, row[0]):
        raise CredentialNotFound(credential_id)
    ids = tx.all(
        "WITH RECURSIVE made (id) AS (SELECT ? UNION SELECT c.id FROM credentials c JOIN made m ON c.made_by = m.id)"
        " SELECT id FROM made",
        credential_id,
    )
    grants = [authenticator.grant_of(tx, id) for (id,) in ids]
    keep_ended(tx, [hash for (id,) in ids for hash in authenticator.hashes(tx, id)], "revoked")
    authenticator.end(tx, [id for (id,) in ids])
    tx.many("DELETE FROM credential_terms WHERE credential_id = ?", ids)
    return grants


def count(tx: Tx, user_id: str) -> int:
    """Return how many credentials there are in a user's name."""
    row = tx.one("SELECT count(*) FROM credentials WHERE user_id = ? AND hash <> id", user_id)
    return int(row[0]) if row else 0


def is_any_expired(tx: Tx) -> bool:
    """Tell whether a credential has expired since anybody looked."""
    return (
        tx.one("SELECT 1 FROM credentials WHERE expires_at <= ? AND is_over = 0 LIMIT 1", tx.clock.now_ms()) is not None
    )


def forget(tx: Tx, until: int) -> bool:
    """Delete some of those that expired before a time, and revoked ones, with their logs; tell if there may be more."""
    rows = tx.all(
        "SELECT id, hash FROM credentials WHERE expires_at <= ? AND is_over = 1 LIMIT ?",
        *(until, AT_ONCE),
    )
    left = AT_ONCE
    for id, hash in rows:
        left -= tx.run(
            "DELETE FROM credential_calls WHERE id IN (SELECT id FROM credential_calls WHERE credential_id = ?"
            " ORDER BY id LIMIT ?)",
            *(id, left),
        )
        if left <= 0:
            return True
        if hash != id:
            keep_ended(tx, [hash], "expired")
        left -= tx.run("DELETE FROM credentials WHERE id = ?", id)
    return bool(rows)


def renew(tx: Tx, credential_id: str) -> int:
    """Begin a renewable credential's life anew and return when it ends. Raises NotRenewable."""
    row = tx.one(
        "SELECT t.renewal_ms, c.expires_at FROM credential_terms t JOIN credentials c ON c.id = t.credential_id"
        " WHERE t.credential_id = ? AND t.renewal_ms IS NOT NULL",
        credential_id,
    )
    if row is None:
        raise NotRenewable
    now = tx.clock.now_ms()
    if row[1] <= now:
        raise CredentialExpired
    expires_at: int = now + row[0]
    authenticator.renew(tx, credential_id, expires_at)
    return expires_at


def calls_of(tx: Tx, credential_id: str, user_id: str, limit: int, before: str | None) -> list[dict[str, Any]]:
    """Return up to `limit` calls of a credential in the user's name, the newest first. Raises CredentialNotFound."""
    if tx.one("SELECT 1 FROM credentials WHERE id = ? AND user_id = ?", credential_id, user_id) is None:
        raise CredentialNotFound(credential_id)
    condition = "" if before is None else " AND id < ?"
    rows = tx.all(
        "SELECT id, method, outcome, at FROM credential_calls WHERE credential_id = ?"  # noqa: S608 (constants)
        f"{condition} ORDER BY id DESC LIMIT ?",
        credential_id,
        *(() if before is None else (before,)),
        limit,
    )
    return [{"id": row[0], "method": row[1], "outcome": row[2], "at": row[3]} for row in rows]


class Credentials:
    """Keeps the credentials in use, and counts the calls of limited ones: on disk before the call begins.

    So no restart gives a call back; and what ends a credential is seen by all that is done with it from the moment it
    is stored, before anybody hears of it.
    """

    def __init__(self, store: Store, max_logged_calls: int) -> None:
        self._store = store
        self._max_logged_calls = max_logged_calls
        self._grants: WeakSet[Grant] = WeakSet()
        self._lookups = 0
        self._ended: dict[str, End] = {}  # credentials and users, while anybody looks one up

    async def looked_up(self, found: Awaitable[Principal | None]) -> Principal | None:
        """Return whose a credential is, once it is found; what ends it meanwhile is not missed."""
        self._lookups += 1
        try:
            principal = await found
            if principal is not None:
                self._track(principal.authority.grants)
            return principal
        finally:
            self._lookups -= 1
            if not self._lookups:
                self._ended.clear()

    def ended(self, id: str, end: End) -> None:
        """Have all that is done by a credential, or by those of a user who is frozen, refused from now on."""
        if self._lookups:
            self._ended[id] = end
        for grant in self._grants:
            if id in (grant.id, grant.user_id, grant.holder_id):
                grant.end = end

    def let_go(self, user_id: str) -> None:
        """Have what is begun in a user's name from now on allowed again."""
        self._ended.pop(user_id, None)

    def renewed(self, credential_id: str, expires_at: int) -> None:
        """Let all that is done by a credential go on until then."""
        for grant in self._grants:
            if grant.id == credential_id:
                grant.expires_at = expires_at

    def load(self, tx: Tx, stored: str) -> Authority:
        """Return who brought something, as they are in this transaction, which is one of the writer's."""
        grants = tuple(_loaded(tx, item) for item in orjson.loads(stored))
        tx.after_commit(lambda: self._track(grants))
        return Authority(grants)

    async def admit(self, authority: Authority, name: str) -> Collection[str]:
        """Count what is about to be done, and return the entries in the logs. Raises CallsSpent for one too many."""
        spent: Spent = await self._store.write(lambda tx: self.spend(tx, authority, name), is_record=True)
        if spent.refusal is not None:
            raise spent.refusal
        return spent.entries

    def spend(self, tx: Tx, authority: Authority, name: str) -> Spent:
        """Count a call against every limited credential, or, when one has none left, against none."""
        counts = [_Count.of(tx, grant.id) for grant in authority.grants if grant.is_metered]
        refused = next((count for count in counts if count.refusal is not None), None)
        if refused is not None:
            log.info("calls_spent", credential_id=refused.credential_id, name=name)
            refused.note_refusal(tx)
            return Spent(refusal=refused.refusal)
        return Spent(tuple(self._count(tx, count, name) for count in counts))

    def note(self, entries: Collection[str], outcome: str) -> None:
        """Write down what became of a call; the answer does not wait for it."""
        if entries:
            rows = [(outcome, entry_id) for entry_id in entries]
            noted = self._store.write(lambda tx: tx.many("UPDATE credential_calls SET outcome = ? WHERE id = ?", rows))
            noted.add_done_callback(_note_unwritten)

    def _track(self, grants: Collection[Grant]) -> None:
        for grant in grants:
            known = [self._ended[id] for id in (grant.id, grant.user_id, grant.holder_id) if id in self._ended]
            grant.end = grant.end or next(iter(known), None)
            self._grants.add(grant)

    def _count(self, tx: Tx, count: "_Count", name: str) -> str:
        count.store(tx)
        entry_id = new_id("k_")
        tx.run(
            "INSERT INTO credential_calls (id, credential_id, method, outcome, at) VALUES (?, ?, ?, NULL, ?)",
            entry_id,
            count.credential_id,
            name,
            tx.clock.now_ms(),
        )
        if count.made % 100 == 99:
            tx.run(
                "DELETE FROM credential_calls WHERE credential_id = ? AND id <= (SELECT id FROM credential_calls"
                " WHERE credential_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                count.credential_id,
                count.credential_id,
                self._max_logged_calls,
            )
        return entry_id


@dataclass(slots=True)
class _Count:
    """What was used of a limited credential, and why no more of it may be."""

    credential_id: str
    made: int = 0
    began_at: int = 0
    made_now: int = 0
    refusal: CallsSpent | CredentialRevoked | None = None

    @classmethod
    def of(cls, tx: Tx, credential_id: str) -> "_Count":
        row = tx.one(
            "SELECT max_calls, interval_calls, interval_ms, calls_made, interval_began_at, interval_made"
            " FROM credential_terms WHERE credential_id = ?",
            credential_id,
        )
        if row is None:
            return cls(credential_id, refusal=CredentialRevoked(credential_id))
        max_calls, interval_calls, interval_ms, made, began_at, made_now = row
        now = tx.clock.steady_ms()
        if interval_ms is not None and not began_at <= now < began_at + interval_ms:
            began_at, made_now = now, 0
        count = cls(credential_id, made, began_at, made_now)
        if max_calls is not None and made >= max_calls:
            count.refusal = CallsSpent(max_calls)
        elif interval_calls is not None and made_now >= interval_calls:
            count.refusal = CallsSpentForNow(interval_calls, began_at + interval_ms - now)
        return count

    def store(self, tx: Tx) -> None:
        tx.run(
            "UPDATE credential_terms SET calls_made = ?, interval_began_at = ?, interval_made = ?"
            " WHERE credential_id = ?",
            self.made + 1,
            self.began_at,
            self.made_now + 1,
            self.credential_id,
        )

    def note_refusal(self, tx: Tx) -> None:
        tx.run(
            "UPDATE credential_terms SET calls_refused = calls_refused + 1 WHERE credential_id = ?", self.credential_id
        )


def _loaded(tx: Tx, item: str | dict[str, Any]) -> Grant:
    if isinstance(item, str):
        return authenticator.grant_of(tx, item)
    user = users.find(tx, item["user_id"])
    end: End | None = "frozen" if user is None or user.is_frozen else None
    return Grant("", item["user_id"], item["label"], tuple(item["scopes"]), tx.clock, item["expires_at"], end=end)


def _record(row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "credential_id": row[0],
        "user": row[1],
        "label": row[2],
        "scopes": orjson.Fragment(row[3]),
        "expires_at": row[4],
        "created_at": row[5],
        "holder": row[6],
        "is_logged": bool(row[7]),
        "is_renewable": row[8] is not None,
        "max_calls": row[9],
        "calls_per_interval": row[10],
        "interval_s": None if row[11] is None else row[11] // 1000,
        "calls_made": row[12],
        "calls_refused": row[13],
    }


def _note_unwritten(written: Any) -> None:
    if not written.cancelled() and (error := written.exception()):
        log.error("call_outcome_not_stored", error=str(error))
