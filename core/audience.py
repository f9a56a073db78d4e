"""Who may hear of what happens in the world: those who stand where it happens, and may read what it happens to.

Nothing of a token reaches anybody who could not read it there, not even that it changed.
"""

from collections.abc import Container
from dataclasses import dataclass, replace

from core import attribute_values, presence, rules
from core.access import Token, find_token, readable_among, rights
from core.calls import Notice, Scene
from core.errors import AttributeNotFound
from store import Tx

_NOBODY = ""  # no user's id: what they may read, everybody may


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom to tell: all who stand in these sets and can read them, and these users."""

    set_ids: list[str]
    user_ids: list[str]


def of(tx: Tx, notice: Notice, listeners: Container[str]) -> Audience:
    """Return who hears of a notice.

    What everybody may know who reads the set is told in the set; what only some may know, to each of them; what
    happens in no set, to the owner of the token.

    Args:
        listeners: users who could come to hear of anything at all.
    """
    token = find_token(tx, notice.token_id) if notice.token_id is not None else None
    if token is None:
        return Audience([], [])
    if notice.event in ("set_created", "set_destroyed"):
        return _of_set(tx, notice, token, listeners)
    set_ids = [notice.set_id] if notice.set_id is not None else _places(tx, token)
    if set_ids is None:
        return Audience([], [token.owner_id])
    if not any(user_id in listeners for set_id in set_ids for user_id in presence.users_in(tx, set_id)):
        return Audience([], [])
    if _is_open(tx, token, notice.attribute):
        return Audience(set_ids, [])
    found = {
        user_id: None
        for set_id in set_ids
        for user_id in _readers(tx, set_id, listeners)
        if _may_read(tx, user_id, token, notice.attribute, set_id)
    }
    return Audience([], list(found))


def _of_set(tx: Tx, notice: Notice, token: Token, listeners: Container[str]) -> Audience:
    """A set's beginning and end are told where it stands, else to its owner; its end also to those inside."""
    set_id, around = notice.set_id or "", notice.place_id
    inside = _readers(tx, set_id, listeners) if notice.event == "set_destroyed" else []
    if around is None:
        return Audience([], list(dict.fromkeys([token.owner_id, *inside])))
    outside = [user_id for user_id in _readers(tx, around, listeners) if _may_read(tx, user_id, token, None, around)]
    if token.is_public:
        return Audience([around], [user_id for user_id in inside if user_id not in outside])
    return Audience([], list(dict.fromkeys([*outside, *inside])))


def _places(tx: Tx, token: Token) -> list[str] | None:
    """Return the sets the token stands in where somebody could hear of it; None when it stands nowhere."""
    rows = tx.all(
        "SELECT m.set_id, EXISTS (SELECT 1 FROM presence p WHERE p.set_id = m.set_id) FROM members m"
        " WHERE m.token_id = ?",
        token.id,
    )
    return [set_id for set_id, is_heard in rows if is_heard] if rows else None


def _readers(tx: Tx, set_id: str, listeners: Container[str]) -> list[str]:
    found = [user_id for user_id in presence.users_in(tx, set_id) if user_id in listeners]
    return [user_id for user_id in found if readable_among(tx, user_id, [set_id])]


def _is_open(tx: Tx, token: Token, attribute: str | None) -> bool:
    """Tell whether everybody who reads a set where the token stands may read it, and that attribute of it."""
    if attribute is not None and rules.applying(tx, token.id, token.type, rules.READING):
        return False
    return _may_read(tx, _NOBODY, token, attribute, None)


def _may_read(tx: Tx, user_id: str, token: Token, attribute: str | None, set_id: str | None) -> bool:
    if not rights(tx, user_id, token.id, token.owner_id, token.is_public).can_read:
        return False
    if attribute is None:
        return True
    try:
        # Turning it off is news to whoever could read it while it was on.
        held = replace(attribute_values.look(tx, token, attribute, set_id), is_on=True)
    except AttributeNotFound:
        return False
    return attribute_values.unreadable(Scene(tx, user_id), token, held, set_id) is None
