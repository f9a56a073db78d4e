"""Live values: what a token's attributes hold, everywhere or in one set, and who may read and write them there.

A value everywhere stands with the token; a value in one set, and whether an attribute is on, in `live_values`.
Permission is decided per user, token, attribute and set. Source: sessions.md 1.1.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core import attributes, groups, sets, tokens
from core.access import Rights, rights
from core.attributes import Attribute
from core.calls import Scene, core_call
from core.errors import (
    AttributeNotFound,
    AttributeNotReadable,
    AttributeNotWritable,
    ChecksumMismatch,
    TokenNotFound,
    UserNotFound,
)
from core.guards import READING, Rule, applying, guard_change, hides
from core.limits import source_of
from core.sources import require
from core.standard import NAMES, check_free
from core.tokens import Token
from store import Tx, now_ms


@dataclass(frozen=True, slots=True)
class Held:
    """What one attribute of one token holds in one set."""

    name: str
    value: Any
    is_on: bool
    declared: Attribute | None


@dataclass(frozen=True, slots=True)
class Permission:
    """What the caller may do with an attribute, and why not more."""

    can_read: bool
    can_write: bool
    why: str


@dataclass(frozen=True, slots=True)
class Edited:
    """What came of writing an attribute: the token's new revision, and what is read there now.

    `state` is `unknown` when a script or remote answers from now on, which nobody has asked yet.
    """

    revision: int
    value: Any
    state: str


@core_call("core.attribute.permissions", is_reading=True)
def permissions(
    scene: Scene, token_id: str, attribute: str, set_id: str | None = None, user_id: str | None = None
) -> Permission:
    """Return what the caller may do with a token's attribute in a set, and why not more.

    Args:
        user_id: what this user may do instead; asked by who may write the token. Raises UserNotFound.
    """
    token = tokens.readable(scene, token_id)
    held = look(scene.tx, token, attribute, set_id)
    if user_id is not None and user_id != scene.user_id:
        tokens.writable(scene, token_id)
        if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
            raise UserNotFound(user_id)
        scene = Scene(scene.tx, user_id)
        try:
            tokens.readable(scene, token_id)
        except TokenNotFound:
            return Permission(False, False, "the token cannot be read")
    unread = unreadable(scene, token, held, set_id)
    unwritten = unwritable(scene, token, held, set_id)
    return Permission(unread is None, unwritten is None, unread or unwritten or "it may be read and written")


@core_call("core.token.edit_attribute")
def edit(
    scene: Scene, token_id: str, attribute: str, value: Any, set_id: str | None = None, if_match: int | None = None
) -> Edited:
    """Write one attribute of a token, everywhere or for one set.

    Args:
        value: None takes it away; `{"script": id}` or `{"remote": id}` has one of these answer for it.
        set_id: the value holds in this set alone.
        if_match: the revision the token must still have.
    """
    token = tokens.readable(scene, token_id)
    if if_match is not None and if_match != token.revision:
        raise ChecksumMismatch(token.revision)
    held = look(scene.tx, token, attribute, set_id)
    reason = unwritable(scene, token, held, set_id)
    if reason is not None:
        raise AttributeNotWritable(attribute, reason)
    source = source_of(value)
    if source is not None:
        require(scene, *source)
    if held.declared is not None:
        attributes.checked(scene.tx, {attribute: held.declared}, attribute, value)
    else:
        check_free(scene.tx, attribute, value)
    values = {name: held for name, held in {**token.values, attribute: value}.items() if held is not None}
    if set_id is not None:
        sets.show(scene, set_id)
    guard_change(scene, token, attribute, values, set_id)
    if set_id is None:
        tokens.store_values(scene.tx, token_id, values)
    else:
        _store_here(scene.tx, token_id, attribute, set_id, value)
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
    is_asked = source is not None
    return Edited(tokens.touch(scene.tx, token_id), None if is_asked else value, "unknown" if is_asked else "ok")


@core_call("core.token.turn_attribute")
def turn(scene: Scene, token_id: str, attribute: str, is_on: bool, set_id: str | None = None) -> None:
    """Turn an attribute of a token on or off: off, nobody reads or writes it and nothing behind it is called."""
    token = tokens.writable(scene, token_id)
    look(scene.tx, token, attribute, set_id)
    guard_change(scene, token, attribute, token.values, set_id)
    changed = scene.tx.run(
        "UPDATE live_values SET is_on = ?, updated_at = ? WHERE token_id = ? AND attribute = ? AND set_id = ?",
        *(int(is_on), now_ms(), token_id, attribute, set_id or ""),
    )
    if not changed:
        scene.tx.run(
            "INSERT INTO live_values (token_id, attribute, set_id, value, is_on, updated_at)"
            " VALUES (?, ?, ?, NULL, ?, ?)",
            *(token_id, attribute, set_id or "", int(is_on), now_ms()),
        )
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
    tokens.touch(scene.tx, token_id)


def look(tx: Tx, token: Token, attribute: str, set_id: str | None) -> Held:
    """Return what the attribute holds there, whoever asks. Raises AttributeNotFound for one its type does not have."""
    declared = attributes.of_type(tx, token.type)
    if attribute not in declared and not _is_free(token, attribute):
        raise AttributeNotFound(attribute)
    found = declared.get(attribute)
    value = token.values.get(attribute, found.default if found else None)
    is_on = True
    for place, text, on in _rows(tx, token.id, attribute, set_id):
        if place and text is not None:
            value = json.loads(text)
        is_on = is_on and bool(on)
    return Held(attribute, value, is_on, found)


def unreadable(
    scene: Scene, token: Token, held: Held, set_id: str | None, found: list[Rule] | None = None
) -> str | None:
    """Return why the caller, who can read the token, cannot read the attribute; None when he can.

    Args:
        found: the token's rules for reading; None: looked up here.
    """
    if not held.is_on:
        return "it is turned off"
    if found is None:
        found = applying(scene.tx, token.id, token.type, READING)
    if hides(scene, found, token, held.name, set_id):
        return "a rule keeps it from you"
    if held.declared is None:
        return None
    if held.declared.read_groups and not _in_any(scene, token, held.declared.read_groups):
        return "only certain groups read it"
    if not _are_met(scene.tx, held.declared.read_needs, set_id):
        return "it is readable only where certain attributes are present"
    return None


def unwritable(scene: Scene, token: Token, held: Held, set_id: str | None) -> str | None:
    """Return why the caller, who can read the token, cannot write the attribute; None when he can."""
    if not held.is_on:
        return "it is turned off"
    declared = held.declared
    if declared is not None and not _are_met(scene.tx, declared.write_needs, set_id):
        return "it is writable only where certain attributes are present"
    if declared is not None and declared.write_groups:
        return None if _in_any(scene, token, declared.write_groups) else "only certain groups write it"
    return None if _rights(scene, token).can_write else "only the owner, and whom he lets, write it"


def shown(
    scene: Scene, token: Token, set_id: str | None, is_human: bool = False, is_ruled: bool = True
) -> dict[str, Any]:
    """Return the values the caller may read there, by name; the others are silently left out.

    Args:
        is_human: leave out what is not for people.
        is_ruled: False when it is known that there are no rules for reading.
    """
    found = applying(scene.tx, token.id, token.type, READING) if is_ruled else []
    declared = attributes.of_type(scene.tx, token.type)
    values = {name: attribute.default for name, attribute in declared.items() if attribute.default is not None}
    values.update(token.values)
    off: set[str] = set()
    for name, place, text, on in _all_rows(scene.tx, token.id, set_id):
        if place and text is not None:
            values[name] = json.loads(text)
        if not on:
            off.add(name)
    seen = {}
    for name, value in values.items():
        held = Held(name, value, name not in off, declared.get(name))
        if is_human and held.declared is not None and not held.declared.is_human:
            continue
        if unreadable(scene, token, held, set_id, found) is None:
            seen[name] = value
    return seen


def readable(scene: Scene, token: Token, attribute: str, set_id: str | None) -> Any:
    """Return what the attribute holds for the caller. Raises AttributeNotFound or AttributeNotReadable."""
    held = look(scene.tx, token, attribute, set_id)
    reason = unreadable(scene, token, held, set_id)
    if reason is not None and held.is_on:
        raise AttributeNotFound(attribute)
    if reason is not None:
        raise AttributeNotReadable(attribute, reason)
    return held.value


def _is_free(token: Token, attribute: str) -> bool:
    # A token of a standard type carries what it likes; one of a user's type what its type and every token has.
    return "." not in token.type or attribute in NAMES


def _store_here(tx: Tx, token_id: str, attribute: str, set_id: str, value: Any) -> None:
    text = None if value is None else json.dumps(value)
    tx.run(
        "INSERT INTO live_values (token_id, attribute, set_id, value, is_on, updated_at) VALUES (?, ?, ?, ?, 1, ?)"
        " ON CONFLICT (token_id, attribute, set_id) DO UPDATE SET value = excluded.value,"
        " updated_at = excluded.updated_at",
        *(token_id, attribute, set_id, text, now_ms()),
    )


def _rows(tx: Tx, token_id: str, attribute: str, set_id: str | None) -> list[tuple[Any, ...]]:
    return tx.all(
        "SELECT set_id, value, is_on FROM live_values WHERE token_id = ? AND attribute = ? AND set_id IN ('', ?)",
        *(token_id, attribute, set_id or ""),
    )


def _all_rows(tx: Tx, token_id: str, set_id: str | None) -> list[tuple[Any, ...]]:
    return tx.all(
        "SELECT attribute, set_id, value, is_on FROM live_values WHERE token_id = ? AND set_id IN ('', ?)",
        *(token_id, set_id or ""),
    )


def _rights(scene: Scene, token: Token) -> Rights:
    return rights(scene.tx, scene.user_id, token.id, token.owner_id, token.is_public)


def _in_any(scene: Scene, token: Token, group_ids: Iterable[str]) -> bool:
    if token.owner_id == scene.user_id:
        return True
    return any(groups.contains(scene.tx, group_id, scene.user_id) for group_id in group_ids)


def _are_met(tx: Tx, needs: attributes.Needs | None, set_id: str | None) -> bool:
    if not needs:
        return True
    if set_id is None:
        return False
    present = (_is_present(tx, set_id, name) for name in needs)
    return any(present) if isinstance(needs, list) else all(present)


def _is_present(tx: Tx, set_id: str, attribute: str) -> bool:
    row = tx.one(
        "SELECT 1 FROM members m JOIN tokens t ON t.id = m.token_id JOIN type_ancestors y ON y.type = t.type"
        " JOIN attributes a ON a.type = y.ancestor WHERE m.set_id = ? AND a.name = ? LIMIT 1",
        *(set_id, attribute),
    )
    return row is not None
