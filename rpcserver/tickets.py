"""Tickets: one-shot, short-lived, for browsers, which cannot send a header. Source: protocol.md 1.

Written by this module only: tickets.
"""

import secrets

import orjson

from core import users
from rpcserver import auth
from rpcserver.auth import Principal, Secret, hash_of
from store import Tx

TICKET_PREFIX = "rpct_"


def issue(tx: Tx, principal: Principal, life_s: float) -> tuple[Secret, int]:
    """Make a ticket that reaches as far as the principal, and return its text and when it ends by the wall clock."""
    text = Secret(TICKET_PREFIX + secrets.token_urlsafe(32))
    now = tx.clock.steady_ms()
    tx.run("DELETE FROM tickets WHERE expires_at <= ?", now)
    expires_at = now + int(life_s * 1000)
    tx.run(
        "INSERT INTO tickets (hash, credential_id, user_id, label, scopes, principal_expires_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        hash_of(text),
        principal.credential_id or None,
        principal.user.id,
        principal.label,
        orjson.dumps(principal.scopes).decode(),
        principal.expires_at,
        expires_at,
    )
    return text, tx.clock.moment(expires_at)


def redeem(tx: Tx, text: str) -> Principal | None:
    """Take a ticket and return whose it is; None when it is unknown, used, too old, or its credential is gone."""
    row = tx.one(
        "DELETE FROM tickets WHERE hash = ? RETURNING credential_id, user_id, label, scopes, principal_expires_at,"
        " expires_at",
        hash_of(text),
    )
    if row is None or row[5] <= tx.clock.steady_ms():
        return None
    if row[0] is not None:
        return auth.find_by_id(tx, row[0])
    user = users.find(tx, row[1])
    if user is None or user.is_frozen or (row[4] is not None and row[4] <= tx.clock.now_ms()):
        return None
    return Principal(user, "", row[2], tuple(orjson.loads(row[3])), row[4])
