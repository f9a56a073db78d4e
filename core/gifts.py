"""Gifts: what a set gives whoever enters, for as long as he stays. Source: sessions.md 1.2 (entering and leaving)."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from core import access, members, sets, tokens
from core.calls import Scene, core_call
from core.errors import GiftNotFound, TooMany
from core.guards import guard_making
from core.names import checked_name
from store import Tx, new_id

MAX_GIFTS = 50  # each visitor is given them all, inside the transaction that lets him in


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
def create(
    scene: Scene,
    set_id: str,
    type: str,
    name: str,
    attributes: dict[str, Any] | None = None,
    access: Literal["read", "write"] = "read",
) -> str:
    """Have a set the caller may write give each visitor a token, and return the gift's id."""
    sets.writable(scene, set_id)
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
def list_(scene: Scene, set_id: str) -> list[Gift]:
    """Return what a set the caller may write gives, the oldest first."""
    sets.writable(scene, set_id)
    return _of(scene.tx, set_id)


@core_call("core.gift.delete")
def delete(scene: Scene, gift_id: str) -> None:
    """Have a set give something no longer; what was given stays until its visitor leaves."""
    row = scene.tx.one("SELECT set_id FROM gifts WHERE id = ?", gift_id)
    place = sets.find(scene.tx, scene.user_id, row[0]) if row else None
    if place is None or not place.rights.can_read:
        raise GiftNotFound(gift_id)
    sets.writable(scene, place.id)
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
            access.allow(tx, token_id, user_id, "write" if gift.access == "write" else "read")


def take_back(tx: Tx, set_id: str, session_id: str) -> None:
    """Delete what was given to a session there."""
    for token_id in members.gifts(tx, set_id, session_id):
        tokens.erase(tx, token_id)


def _of(tx: Tx, set_id: str) -> list[Gift]:
    rows = tx.all("SELECT id, set_id, type, name, attributes, access FROM gifts WHERE set_id = ? ORDER BY id", set_id)
    return [Gift(id, place, type, name, json.loads(held), access) for id, place, type, name, held, access in rows]
