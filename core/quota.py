"""How much each user keeps in the core: counted where it changes, in the same transaction, and bounded.

A set counts with the token that defines it. Bytes are those of names and values, as they are stored.
"""

from dataclasses import dataclass

from core.errors import QuotaExceeded
from store import Tx

PIECE = 200  # rows, or things with a few rows each: some milliseconds


def are_many(tx: Tx, table: str, column: str, value: str) -> bool:
    """Tell whether there are more rows of this value than are taken away at once."""
    found = tx.one(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1 OFFSET ?", value, PIECE)  # noqa: S608 (constants)
    return found is not None


_ADVICE = "delete tokens or sets first (core.token.delete, core.set.delete)"


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a user may keep; None: any number."""

    tokens: int | None = None
    token_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much a user keeps."""

    tokens: int = 0
    token_bytes: int = 0


def used(tx: Tx, user_id: str) -> Usage:
    """Return how much a user keeps."""
    row = tx.one("SELECT tokens, token_bytes FROM usage WHERE user_id = ?", user_id)
    return Usage(*row) if row else Usage()


def note(tx: Tx, user_id: str, tokens: int, size: int) -> None:
    """Count that a user keeps so many more tokens and bytes, or, below zero, less."""
    tx.run(
        "INSERT INTO usage (user_id, tokens, token_bytes) VALUES (?, ?, ?) ON CONFLICT (user_id)"
        " DO UPDATE SET tokens = tokens + excluded.tokens, token_bytes = token_bytes + excluded.token_bytes",
        user_id,
        tokens,
        size,
    )


def require(tx: Tx, quota: Quota, owner_id: str, tokens: int, size: int) -> None:
    """Require that a user may keep so much more; less they always may. Raises QuotaExceeded."""
    if quota.tokens is None and quota.token_bytes is None:
        return
    now = used(tx, owner_id)
    if quota.tokens is not None and tokens > 0 and now.tokens + tokens > quota.tokens:
        raise QuotaExceeded("max_tokens_per_user", quota.tokens, now.tokens, _ADVICE)
    if quota.token_bytes is not None and size > 0 and now.token_bytes + size > quota.token_bytes:
        raise QuotaExceeded("max_token_bytes_per_user", quota.token_bytes, now.token_bytes, _ADVICE)
