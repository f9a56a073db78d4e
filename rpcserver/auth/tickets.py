"""Tickets: one-shot, short-lived, for browsers, which cannot send a header. Source: protocol.md 1.

Written by this module only: tickets.
"""

import secrets

import orjson

from core import users
from rpcserver.auth import authenticator, ended
from rpcserver.auth.authenticator import Principal, Secret, hash_of
from store import Tx

TICKET_PREFIX = "rpct_"
AT_ONCE = 500


def issue(tx: Tx, principal: Principal, life_s: float) -> tuple[Secret, int]:
    """Make a ticket that reaches as far as the principal's credential.

    Returns its text, and when it ends by the wall clock.
    """
    grant = principal.grant
    text = Secret(TICKET_PREFIX + secrets.token_urlsafe(32))
    now = tx.clock.steady_ms()
    expires_at = now + int(life_s * 1000)
    tx.run(
        "INSERT INTO tickets (hash, credential_id, user_id, label, scopes, principal_expires_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        hash_of(text),
        grant.id or None,
        principal.user.id,
        grant.label,
        orjson.dumps(grant.scopes).decode(),
        grant.expires_at,
        expires_at,
    )
    return text, tx.clock.moment(expires_at)


def forget(tx: Tx) -> bool:
    """Delete some tickets that are too old; tell whether there may be more."""
    rows = tx.all("SELECT hash FROM tickets WHERE expires_at <= ? LIMIT ?", tx.clock.steady_ms(), AT_ONCE)
    ended.keep_ended(tx, [hash for (hash,) in rows], "expired", ended.KEEP_TICKETS_S)
    tx.many("DELETE FROM tickets WHERE hash = ?", rows)
    return len(rows) == AT_ONCE


def is_there(tx: Tx, text: str) -> bool:
    """Tell whether there is such a ticket, used or too old as it may be in a moment."""
    return tx.one("SELECT 1 FROM tickets WHERE hash = ?", hash_of(text)) is not None


def redeem(tx: Tx, text: str) -> Principal | None:
    """Take a ticket and return whose it is; None when it is unknown, used, too old, or its credential is gone.

    Raises AccountFrozen: then the ticket is not taken.
    """
    row = tx.one(
        "DELETE FROM tickets WHERE hash = ? RETURNING credential_id, user_id, label, scopes, principal_expires_at,"
        " expires_at",
        hash_of(text),
    )
    if row is None:
        return None
    is_late = row[5] <= tx.clock.steady_ms()
    ended.keep_ended(tx, [hash_of(text)], "expired" if is_late else "used", ended.KEEP_TICKETS_S)
    if is_late:
        return None
    if row[0] is not None:
        return authenticator.find_by_id(tx, row[0])
    user = users.find(tx, row[1])
    if user is None or (row[4] is not None and row[4] <= tx.clock.now_ms()):
        return None
    return authenticator.vouched(user, row[2], tuple(orjson.loads(row[3])), tx.clock, row[4])
