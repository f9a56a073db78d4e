"""Credentials: rows, what each may still do, and what the limited ones did. Source: protocol.md 1.

Written by this module only: credential_terms, credential_calls.
"""

from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from rpcserver import auth
from rpcserver.auth import EVERYTHING, Principal, Secret
from rpcserver.refusals import CallsSpent, CredentialExpired, CredentialNotFound, NotRenewable
from store import Store, Tx, new_id

log = structlog.get_logger("auth")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a credential is good for.

    Args:
        expires_in_s: seconds of life; None: until revoked.
        is_renewable: `auth.refresh` begins its life anew.
        max_calls: calls in all. calls_per_interval: calls in each `interval_s` seconds.
        holder_id: the user it is made for, who acts in the owner's name; None: the owner himself.
        is_logged: its calls are kept for the owner to read; limited calls always are.
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

    @property
    def is_metered(self) -> bool:
        """Each call has to be written down."""
        return self.is_logged or self.max_calls is not None or self.calls_per_interval is not None


def issue(tx: Tx, user_id: str, terms: Terms) -> tuple[str, Secret]:
    """Make a credential in a user's name and return its id and its text, which is nowhere kept."""
    life_ms = None if terms.expires_in_s is None else int(terms.expires_in_s * 1000)
    text = auth.issue(tx, user_id, terms.label, terms.scopes, None if life_ms is None else tx.clock.now_ms() + life_ms)
    made = auth.find(tx, text)
    assert made is not None  # made just now
    credential_id = made.credential_id
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
    rows = tx.all(
        "SELECT c.id, u.name, c.label, c.scopes, c.expires_at, c.created_at, h.name, coalesce(t.is_metered, 0),"
        " t.renewal_ms, t.max_calls, t.interval_calls, t.interval_ms, coalesce(t.calls_made, 0),"
        " coalesce(t.calls_refused, 0) FROM credentials c JOIN users u ON u.id = c.user_id"
        " LEFT JOIN credential_terms t ON t.credential_id = c.id LEFT JOIN users h ON h.id = t.holder_id"
        " WHERE c.user_id = coalesce(?, c.user_id) AND c.id > ? ORDER BY c.id LIMIT ?",
        user_id,
        after or "",
        limit,
    )
    return [_record(row) for row in rows]


def revoke(tx: Tx, credential_id: str, user_id: str | None) -> None:
    """Delete a credential in the user's name (None: in anybody's). Raises CredentialNotFound."""
    row = tx.one("SELECT user_id FROM credentials WHERE id = ?", credential_id)
    if row is None or user_id not in (None, row[0]):
        raise CredentialNotFound(credential_id)
    tx.run("DELETE FROM credentials WHERE id = ?", credential_id)


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
    tx.run("UPDATE credentials SET expires_at = ? WHERE id = ?", expires_at, credential_id)
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
    """Counts the calls of limited credentials: on disk before the call begins, so that no restart gives one back."""

    def __init__(self, store: Store, max_logged_calls: int) -> None:
        self._store = store
        self._max_logged_calls = max_logged_calls

    async def spend(self, principal: Principal, method: str) -> str:
        """Count a call and return the id of its entry in the log. Raises CallsSpent for one too many."""
        entry_id, refusal = await self._store.write(lambda tx: self._spend(tx, principal.credential_id, method))
        if refusal is not None:
            log.info("calls_spent", credential_id=principal.credential_id, method=method)
            raise refusal
        return entry_id

    def note_outcome(self, entry_id: str, outcome: str) -> None:
        """Write down what became of a call; the answer does not wait for it."""

        def note(tx: Tx) -> None:
            tx.run("UPDATE credential_calls SET outcome = ? WHERE id = ?", outcome, entry_id)

        self._store.write(note).add_done_callback(_note_unwritten)

    def _spend(self, tx: Tx, credential_id: str, method: str) -> tuple[str, CallsSpent | CredentialExpired | None]:
        row = tx.one(
            "SELECT max_calls, interval_calls, interval_ms, calls_made, interval_began_at, interval_made"
            " FROM credential_terms WHERE credential_id = ?",
            credential_id,
        )
        if row is None:
            return "", CredentialExpired()  # revoked in this moment
        max_calls, interval_calls, interval_ms, made, began_at, made_now = row
        now = tx.clock.steady_ms()
        if interval_ms is not None and not began_at <= now < began_at + interval_ms:
            began_at, made_now = now, 0
        refusal = None
        if max_calls is not None and made >= max_calls:
            refusal = CallsSpent(max_calls, None)
        elif interval_calls is not None and made_now >= interval_calls:
            refusal = CallsSpent(interval_calls, began_at + interval_ms - now)
        tx.run(
            "UPDATE credential_terms SET calls_made = ?, calls_refused = calls_refused + ?, interval_began_at = ?,"
            " interval_made = ? WHERE credential_id = ?",
            made + (refusal is None),
            int(refusal is not None),
            began_at,
            made_now + (refusal is None),
            credential_id,
        )
        entry_id = new_id("k_")
        if refusal is None:
            self._log(tx, entry_id, credential_id, method, made)
        return entry_id, refusal

    def _log(self, tx: Tx, entry_id: str, credential_id: str, method: str, made: int) -> None:
        tx.run(
            "INSERT INTO credential_calls (id, credential_id, method, outcome, at) VALUES (?, ?, ?, NULL, ?)",
            entry_id,
            credential_id,
            method,
            tx.clock.now_ms(),
        )
        if made % 100 == 99:
            tx.run(
                "DELETE FROM credential_calls WHERE credential_id = ? AND id <= (SELECT id FROM credential_calls"
                " WHERE credential_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                credential_id,
                credential_id,
                self._max_logged_calls,
            )


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
