"""Credentials and tickets that are over, by their hashes: who brings one is told what became of it; it is no guess.

Written by this module only: former_secrets.
"""

from collections.abc import Iterable
from typing import Literal

from store import Tx

Why = Literal["revoked", "expired", "used"]

KEEP_S = 30 * 24 * 3600.0
KEEP_TICKETS_S = 24 * 3600.0
AT_ONCE = 500


def keep_ended(tx: Tx, hashes: Iterable[str], why: Why, keep_s: float = KEEP_S) -> None:
    """Remember what has become of some."""
    forget_at = tx.clock.steady_ms() + int(keep_s * 1000)
    tx.many(
        "INSERT INTO former_secrets (hash, why, forget_at) VALUES (?, ?, ?) ON CONFLICT (hash) DO NOTHING",
        [(hash, why, forget_at) for hash in hashes],
    )


def why(tx: Tx, hash: str) -> Why | None:
    """Return what has become of one, None when it is not known to have been."""
    row = tx.one("SELECT why FROM former_secrets WHERE hash = ?", hash)
    return None if row is None else row[0]


def forget_ended(tx: Tx) -> bool:
    """Forget some that are long gone; tell whether there may be more."""
    deleted = tx.run(
        "DELETE FROM former_secrets WHERE hash IN (SELECT hash FROM former_secrets WHERE forget_at <= ? LIMIT ?)",
        tx.clock.steady_ms(),
        AT_ONCE,
    )
    return deleted == AT_ONCE
