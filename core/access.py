"""Who may read, write and enter what. A set is read and written by whoever reads and writes its defining token."""

from dataclasses import dataclass
from typing import Literal

from core.calls import Scene, core_call
from core.errors import NotWritable, UserNotFound
from core.tokens import readable
from store import Tx

Access = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Rights:
    """What one user may do with one token, and with the set it defines."""

    is_owner: bool
    can_read: bool
    can_write: bool


OWNER = Rights(True, True, True)


def rights(tx: Tx, user_id: str, token_id: str, owner_id: str, is_public: int) -> Rights:
    """Decide from the owner, the public flag and the user's grant, in that order."""
    if owner_id == user_id:
        return OWNER
    grant = tx.one("SELECT access FROM grants WHERE token_id = ? AND user_id = ?", token_id, user_id)
    if grant is None:
        return Rights(False, bool(is_public), False)
    return Rights(False, True, grant[0] == "write")


@core_call("core.token.grant")
def grant(scene: Scene, token_id: str, user_id: str, access: Access | None) -> None:
    """Let a user read or write a token of the caller's (for a defining token: its set); None takes the right back.

    Raises:
        TokenNotFound, UserNotFound: unknown, or not the caller's to see.
        NotWritable: readable, but only the owner shares it.
    """
    token = readable(scene, token_id)
    if token.owner_id != scene.user_id:
        raise NotWritable(token_id, token.name)
    if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
        raise UserNotFound(user_id)
    allow(scene.tx, token_id, user_id, access)


def allow(tx: Tx, token_id: str, user_id: str, access: Access | None) -> None:
    """Keep what a user may do with a token beyond what everybody may; None: nothing."""
    tx.run("DELETE FROM grants WHERE token_id = ? AND user_id = ?", token_id, user_id)
    if access is not None:
        tx.run("INSERT INTO grants (token_id, user_id, access) VALUES (?, ?, ?)", token_id, user_id, access)
