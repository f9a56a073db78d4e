"""Credentials a user makes for himself, with a note on each: the core.user.auth calls.

Source: sessions.md 1.3 (bearer token): a user may have many; the last one is never deleted.
"""

from typing import Any

import orjson

from core.errors import LastCredential
from rpcserver import auth
from rpcserver.auth import Principal, Secret
from rpcserver.refusals import ScopeTooWide
from store import Tx


def check_maker(maker: Principal) -> None:
    """Raise ScopeTooWide unless the credential used may make another like itself."""
    if maker.is_metered:
        raise ScopeTooWide("is not counted")


def make(tx: Tx, maker: Principal, pass_through: Any, expires_at: int | None) -> tuple[Secret, int | None]:
    """Make a credential that reaches as far as the one used, and return its text and when it ends.

    Args:
        pass_through: written on it, for whoever calls with it.
        expires_at: UTC milliseconds; None: until destroyed.
    """
    if maker.grant.expires_at is not None:
        expires_at = min(maker.grant.expires_at, expires_at or maker.grant.expires_at)
    text = auth.issue(tx, maker.user.id, "made by its user", maker.grant.scopes, expires_at)
    tx.run(
        "INSERT INTO credential_notes (credential_id, pass_through) VALUES (?, ?)",
        *(auth.id_of(tx, text), orjson.dumps(pass_through).decode()),
    )
    return text, expires_at


def note(tx: Tx, holder: Principal) -> Any:
    """Return what was written on the credential, None for nothing."""
    row = tx.one("SELECT pass_through FROM credential_notes WHERE credential_id = ?", holder.grant.id)
    return orjson.loads(row[0]) if row else None


def destroy(tx: Tx, holder: Principal) -> None:
    """Delete the credential used. Raises LastCredential."""
    others = tx.one("SELECT 1 FROM credentials WHERE user_id = ? AND id <> ? LIMIT 1", holder.user.id, holder.grant.id)
    if others is None:
        raise LastCredential
    tx.run("DELETE FROM credentials WHERE id = ?", holder.grant.id)
