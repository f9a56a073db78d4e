"""Who may read and write what: one predicate, asked of one token or, as SQL, of all that a statement looks at.

A token is read by everybody when it is public, by its owner, by those granted to, and by the people of its owner's
own group; it is written by its owner, by those granted that, and by the admins of that group. A set is read and
written by whoever reads and writes its defining token. Source: sessions.md 1.3.
"""

from dataclasses import dataclass
from typing import Literal

from store import Tx

Access = Literal["read", "write"]

_GRANT = "SELECT g.access FROM grants g WHERE g.token_id = {token} AND g.user_id = ?"
_GROUP = (
    "SELECT p.is_admin FROM users o JOIN user_group_members p ON p.group_id = o.group_id"
    " WHERE o.id = {owner} AND p.user_id = ?"
)
_HELD = f"SELECT ({_GRANT.format(token='?')}), ({_GROUP.format(owner='?')})"


def readable_by(alias: str) -> str:
    """Return the condition that a token may be read; its values are those of `asker`.

    Args:
        alias: of `tokens` in the statement.
    """
    grant, group = _GRANT.format(token=f"{alias}.id"), _GROUP.format(owner=f"{alias}.owner_id")
    return f"({alias}.is_public = 1 OR {alias}.owner_id = ? OR EXISTS ({grant}) OR EXISTS ({group}))"


def asker(user_id: str) -> tuple[str, str, str]:
    """Return the values of `readable_by` for a user."""
    return user_id, user_id, user_id


@dataclass(frozen=True, slots=True)
class Rights:
    """What one user may do with one token, and with the set it defines."""

    is_owner: bool
    can_read: bool
    can_write: bool


OWNER = Rights(True, True, True)


def rights(tx: Tx, user_id: str, token_id: str, owner_id: str, is_public: int) -> Rights:
    """Decide from the owner, the public flag, the user's grant and the owner's own group."""
    if owner_id == user_id:
        return OWNER
    grant, is_admin = tx.one(_HELD, token_id, user_id, owner_id, user_id) or (None, None)
    can_read = bool(is_public) or grant is not None or is_admin is not None
    return Rights(False, can_read, grant == "write" or is_admin == 1)


def allow(tx: Tx, token_id: str, user_id: str, access: Access | None) -> None:
    """Keep what a user may do with a token beyond what everybody may; None: nothing."""
    tx.run("DELETE FROM grants WHERE token_id = ? AND user_id = ?", token_id, user_id)
    if access is not None:
        tx.run("INSERT INTO grants (token_id, user_id, access) VALUES (?, ?, ?)", token_id, user_id, access)
