"""Presence: where each session stands. A user's token visits a set while one of his sessions is there.

Source: sessions.md 1.2 (entering and leaving), 6 rows 19-21: several sessions in one set, counted; home is permanent.
"""

from core import members, sets
from core.calls import Scene, core_call
from core.errors import SetNotFound
from store import Tx


@core_call("core.set.enter")
def enter(scene: Scene, session_id: str, set_id: str) -> bool:
    """Stand the session in the set, and tell whether the caller's token was not there before.

    Raises:
        SetNotFound: unknown or unreadable.
        EnterRefused: the set says no.
    """
    place = sets.show(scene, set_id)
    refused = sets.refusal(scene.tx, scene.user_id, place)
    if refused:
        raise refused
    token_id = _user_token(scene.tx, scene.user_id)
    scene.tx.run("INSERT INTO presence (session_id, set_id, token_id) VALUES (?, ?, ?)", session_id, set_id, token_id)
    if members.holds(scene.tx, set_id, token_id):
        return False
    members.put(scene.tx, set_id, token_id, "visitor")
    return True


@core_call("core.set.leave")
def leave(scene: Scene, session_id: str) -> tuple[str, bool] | None:
    """Take the session out of where it stands; the caller's token goes with the last of his sessions there.

    Returns the set left and whether the token went with it; None when the session stood nowhere.
    """
    row = scene.tx.one("SELECT set_id, token_id FROM presence WHERE session_id = ?", session_id)
    if row is None:
        return None
    set_id, token_id = row
    scene.tx.run("DELETE FROM presence WHERE session_id = ?", session_id)
    if scene.tx.one("SELECT 1 FROM presence WHERE set_id = ? AND token_id = ? LIMIT 1", set_id, token_id):
        return set_id, False
    gone = scene.tx.run("DELETE FROM members WHERE set_id = ? AND token_id = ? AND kind = 'visitor'", set_id, token_id)
    return set_id, bool(gone)


def users_in(tx: Tx, set_id: str) -> list[str]:
    """Return the users who stand in a set."""
    rows = tx.all(
        "SELECT DISTINCT u.id FROM presence p JOIN users u ON u.token_id = p.token_id WHERE p.set_id = ?", set_id
    )
    return [row[0] for row in rows]


def _user_token(tx: Tx, user_id: str) -> str:
    row = tx.one("SELECT token_id FROM users WHERE id = ?", user_id)
    if row is None:
        raise SetNotFound(user_id)
    token_id: str = row[0]
    return token_id
