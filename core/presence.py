"""Presence: where each session stands, and what a set gives to whoever enters it, for as long as they stay.

A user's token visits a set while one of their sessions is there.

Source: sessions.md 1.2 (entering and leaving), 6 rows 19-21: several sessions in one set, counted; home is permanent.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from core import members, rules, sets, tokens
from core.access import Place, allow, find_place, readable_place, writable_place
from core.calls import Scene, core_call
from core.errors import EnterRefused, GiftNotFound, LeaveRefused, SetNotFound, TooMany
from core.names import checked_name
from core.quota import PIECE, are_many
from core.rules import Answers, Passer, Refusal, guard_making, sources
from core.sets import Visitor
from store import Tx, new_id

_STANDING = (
    "SELECT p.set_id, p.token_id, u.is_frozen = 0 AND EXISTS (SELECT 1 FROM rules WHERE event = 'set_leaving')"
    " FROM presence p JOIN users u ON u.token_id = p.token_id WHERE p.session_id = ?"
)


@dataclass(frozen=True, slots=True)
class Question:
    """A script or remote that a rule of a place asks before a session may pass; `owner_id` is the rule's maker."""

    kind: str
    id: str
    event: str
    set_id: str
    token_id: str
    owner_id: str


@core_call("core.set.enter")
def enter(scene: Scene, session_id: str, set_id: str, answers: Answers | None = None) -> bool:
    """Stand the session in the set, and tell whether the caller's token was not there before.

    Args:
        answers: what the scripts and remotes of the set's rules said; see `core.set.passage`.

    Raises:
        SetNotFound: unknown or unreadable.
        EnterRefused: the set says no.
        PassageChanged: a rule asks a script or remote that was not asked.
    """
    tx = scene.tx
    place = readable_place(scene, set_id)
    user = _visitor(scene)
    token_id = user.token_id
    refused = _refusal(scene, place, user, session_id, answers or {})
    if refused:
        raise refused
    tx.run("INSERT INTO presence (session_id, set_id, token_id) VALUES (?, ?, ?)", session_id, set_id, token_id)
    tx.run("INSERT INTO visits (session_id, set_id) VALUES (?, ?) ON CONFLICT DO NOTHING", session_id, set_id)
    give(tx, set_id, scene.user_id, session_id)
    return members.put_if_new(tx, set_id, token_id, "visitor")


def _forget_some(scene: Scene, session_id: str, *, is_last: bool = False) -> bool:
    is_long = is_last and are_many(scene.tx, "visits", "session_id", session_id)
    if is_long:
        scene.tx.run(
            "DELETE FROM visits WHERE session_id = ?"
            " AND set_id IN (SELECT set_id FROM visits WHERE session_id = ? LIMIT ?)",
            *(session_id, session_id, PIECE),
        )
    return is_long


@core_call("core.set.leave", before=_forget_some)
def leave(
    scene: Scene, session_id: str, *, answers: Answers | None = None, is_asked: bool = False, is_last: bool = False
) -> tuple[str, bool] | None:
    """Take the session out of where it stands; the caller's token goes with the last of their sessions there.

    Returns the set left and whether the token went with it; None when the session stood nowhere.

    Args:
        is_asked: the rules of the set may refuse; they never may when a session ends, when its place is gone, or when
            its user is frozen.
        is_last: the session ends: where it has been is forgotten.

    Raises:
        LeaveRefused, PassageChanged: as for entering.
    """
    tx = scene.tx
    if is_last:
        tx.run("DELETE FROM visits WHERE session_id = ?", session_id)
    row = tx.one(_STANDING, session_id)
    if row is None:
        return None
    set_id, token_id, is_ruled = row
    place = find_place(tx, scene.user_id, set_id) if is_asked and is_ruled else None
    if place is not None:
        passer = Passer(scene.user_id, token_id, set_id, session_id, answers or {})
        refused = _ruled(scene, place, "set_leaving", passer)
        if refused is not None:
            raise LeaveRefused(set_id, place.name, refused.rule, refused.message, refused.count)
    tx.run("DELETE FROM presence WHERE session_id = ?", session_id)
    take_back(tx, set_id, session_id)
    gone = tx.run(
        "DELETE FROM members WHERE set_id = ? AND token_id = ? AND kind = 'visitor' AND NOT EXISTS"
        " (SELECT 1 FROM presence p WHERE p.set_id = members.set_id AND p.token_id = members.token_id)",
        *(set_id, token_id),
    )
    return set_id, bool(gone)


@core_call("core.set.passage", is_reading=True)
def passage(scene: Scene, from_set_id: str | None, to_set_id: str) -> list[Question]:
    """Return which scripts and remotes have to be asked before a session may go from one set to another.

    None of a set that the caller cannot read, or may not enter whatever is answered; and none of their home.
    """
    if from_set_id == to_set_id:
        return []
    left = find_place(scene.tx, scene.user_id, from_set_id) if from_set_id is not None else None
    questions = _questions(scene, "set_leaving", left) if left is not None else []
    entered = find_place(scene.tx, scene.user_id, to_set_id)
    if entered is None or not entered.rights.can_read or to_set_id == (user := _visitor(scene)).home_set_id:
        return questions
    if sets.refusal(scene.tx, user, entered) is not None:
        return questions
    return questions + _questions(scene, "set_entering", entered)


@core_call("core.set.may_pass", is_reading=True)
def may_pass(scene: Scene, session_id: str, set_id: str) -> bool:
    """Tell whether a session can stand in a set without asking anybody: it falls back there when its place is gone."""
    place = find_place(scene.tx, scene.user_id, set_id)
    if place is None or not place.rights.can_read:
        return False
    user = _visitor(scene)
    if set_id == user.home_set_id:
        return True
    if any(sources(rule.decision) for rule in rules.of_set(scene, "set_entering", place)):
        return False
    return _refusal(scene, place, user, session_id, {}) is None


def _refusal(scene: Scene, place: Place, user: Visitor, session_id: str, answers: Answers) -> EnterRefused | None:
    """Return why the set does not let the caller's session in, None when it does. A user's home always does."""
    refused = sets.refusal(scene.tx, user, place)
    if refused is not None or place.id == user.home_set_id:
        return refused
    passer = Passer(scene.user_id, user.token_id, place.id, session_id, answers)
    ruled = _ruled(scene, place, "set_entering", passer)
    return EnterRefused(place.id, place.name, ruled.rule, ruled.message, ruled.count) if ruled else None


def _questions(scene: Scene, event: str, place: Place) -> list[Question]:
    return [
        Question(kind, id, event, place.id, place.token_id, rule.owner_id)
        for rule in rules.of_set(scene, event, place)
        for kind, id in sources(rule.decision)
    ]


def _ruled(scene: Scene, place: Place, event: str, passer: Passer) -> Refusal | None:
    found = rules.of_set(scene, event, place)
    if found:
        return rules.first_refusal(scene.tx, found, passer)
    if event == "set_entering" and place.enter_policy == "rule" and not place.rights.is_owner:
        return Refusal("rule", "it lets in by rule, and has none yet.", 1)
    return None


def users_in(tx: Tx, set_id: str) -> list[str]:
    """Return the users who stand in a set and are told what happens there."""
    rows = tx.all(
        "SELECT DISTINCT u.id FROM presence p JOIN users u ON u.token_id = p.token_id WHERE p.set_id = ?", set_id
    )
    return [row[0] for row in rows]


def _visitor(scene: Scene) -> Visitor:
    user = sets.visitor(scene.tx, scene.user_id)
    if user is None:
        raise SetNotFound(scene.user_id)
    return user


MAX_GIFTS = 50  # each visitor is given them all, inside the transaction that lets them in


@dataclass(frozen=True, slots=True)
class Gift:
    """What a set gives: a token of this type and name with these attributes, and what the visitor may do with it."""

    id: str
    set_id: str
    type: str
    name: str
    attributes: dict[str, Any]
    access: str


@core_call("core.gift.create")
def create_gift(
    scene: Scene,
    set_id: str,
    type: str,
    name: str,
    attributes: dict[str, Any] | None = None,
    access: Literal["read", "write"] = "read",
) -> str:
    """Have a set the caller may write give each visitor a token, and return the gift's id."""
    writable_place(scene, set_id)
    if len(_of(scene.tx, set_id)) >= MAX_GIFTS:
        raise TooMany("gifts of a set", MAX_GIFTS)
    tokens.check_values(scene, type, attributes or {})
    # Asked now, of who gives, and for all that will be given: whoever enters or leaves makes nothing.
    guard_making(scene, type, name, attributes or {}, set_id)
    gift_id = new_id("gf_")
    scene.tx.run(
        "INSERT INTO gifts (id, set_id, type, name, attributes, access, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        *(gift_id, set_id, type, checked_name(name), json.dumps(attributes or {}), access, scene.tx.clock.now_ms()),
    )
    return gift_id


@core_call("core.gift.list", is_reading=True)
def list_gifts(scene: Scene, set_id: str) -> list[Gift]:
    """Return what a set the caller may write gives, the oldest first."""
    writable_place(scene, set_id)
    return _of(scene.tx, set_id)


@core_call("core.gift.delete")
def delete_gift(scene: Scene, gift_id: str) -> None:
    """Have a set give something no longer; what was given stays until its visitor leaves."""
    row = scene.tx.one("SELECT set_id FROM gifts WHERE id = ?", gift_id)
    place = find_place(scene.tx, scene.user_id, row[0]) if row else None
    if place is None or not place.rights.can_read:
        raise GiftNotFound(gift_id)
    writable_place(scene, place.id)
    scene.tx.run("DELETE FROM gifts WHERE id = ?", gift_id)


def give(tx: Tx, set_id: str, user_id: str, session_id: str) -> None:
    """Give a visitor what the set gives: private tokens of the set's owner, in the set, for this session."""
    found = _of(tx, set_id)
    if not found:
        return
    row = tx.one("SELECT t.owner_id FROM sets s JOIN tokens t ON t.id = s.token_id WHERE s.id = ?", set_id)
    owner_id = row[0] if row else user_id
    for gift in found:
        token_id = tokens.insert(tx, gift.type, owner_id, gift.name, gift.attributes, is_public=False)
        members.put(tx, set_id, token_id, "gift", session_id=session_id)
        if user_id != owner_id:
            allow(tx, token_id, user_id, "write" if gift.access == "write" else "read")


def take_back(tx: Tx, set_id: str, session_id: str) -> None:
    """Delete what was given to a session there."""
    for token_id in members.gifts(tx, set_id, session_id):
        tokens.erase(tx, token_id)


def _of(tx: Tx, set_id: str) -> list[Gift]:
    rows = tx.all("SELECT id, set_id, type, name, attributes, access FROM gifts WHERE set_id = ? ORDER BY id", set_id)
    return [Gift(id, place, type, name, json.loads(held), access) for id, place, type, name, held, access in rows]
