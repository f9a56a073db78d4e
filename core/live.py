"""Live values: what the attributes of tokens hold, everywhere or in one set, and who may read and write it.

A value everywhere stands with the token; a value in one set, and whether an attribute is on, in `live_values`.
Permission is decided per user, token, attribute and set. Source: sessions.md 1.1.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core import attributes, groups, quota, sets, tokens
from core.attributes import STANDARD, Attribute
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
from core.tokens import Token
from store import Tx


@dataclass(frozen=True, slots=True)
class Held:
    """What one attribute of one token holds in one set. It is off where itself or a parent of it is turned off."""

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
    seen = look(scene.tx, token, attribute, set_id)
    if user_id is not None and user_id != scene.user_id:
        tokens.writable(scene, token_id)
        if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
            raise UserNotFound(user_id)
        scene = Scene(scene.tx, user_id)
        try:
            tokens.readable(scene, token_id)
        except TokenNotFound:
            return Permission(False, False, "the token cannot be read")
    unread = unreadable(scene, token, seen, set_id)
    unwritten = unwritable(scene, token, seen, set_id)
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
    seen = look(scene.tx, token, attribute, set_id)
    reason = unwritable(scene, token, seen, set_id)
    if reason is not None:
        raise AttributeNotWritable(attribute, reason)
    source = source_of(value)
    if source is not None:
        require(scene, *source)
    attributes.check_value(scene.tx, attribute, seen.declared, value)
    if set_id is not None:
        sets.show(scene, set_id)
    guard_change(scene, token, attribute, {**token.values, attribute: value}, set_id)
    before = tokens.size_of(scene.tx, token_id)[1]
    _put(scene.tx, token, attribute, value, set_id)
    grown = tokens.size_of(scene.tx, token_id)[1] - before
    quota.require(scene.tx, scene.quota, token.owner_id, 0, grown)
    quota.note(scene.tx, token.owner_id, 0, grown)
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
    is_asked = source is not None
    return Edited(tokens.touch(scene.tx, token_id), None if is_asked else value, "unknown" if is_asked else "ok")


@core_call("core.token.turn_attribute")
def turn(scene: Scene, token_id: str, attribute: str, is_on: bool, set_id: str | None = None) -> None:
    """Turn an attribute of a token on or off: off, nobody reads or writes it and nothing behind it is called."""
    token = tokens.writable(scene, token_id)
    look(scene.tx, token, attribute, set_id)
    guard_change(scene, token, attribute, token.values, set_id)
    _switch(scene.tx, token_id, attribute, is_on, set_id)
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
    tokens.touch(scene.tx, token_id)


def look(tx: Tx, token: Token, attribute: str, set_id: str | None) -> Held:
    """Return what the attribute holds there. Raises AttributeNotFound for one its type does not have."""
    declared = attributes.of_type(tx, token.type)
    # A token of a standard type carries what it likes; one of a user's type what its type and every token has.
    if attribute not in declared and "." in token.type and attribute not in STANDARD:
        raise AttributeNotFound(attribute)
    found = declared.get(attribute)
    value = token.values.get(attribute, found.default if found else None)
    off: set[str] = set()
    for name, place, text, on in _rows(tx, token.id, _relevant(tx, declared, attribute), set_id):
        if name == attribute and place and text is not None:
            value = json.loads(text)
        if not on:
            off.add(name)
    return Held(attribute, value, not off, found)


def unreadable(
    scene: Scene, token: Token, seen: Held, set_id: str | None, found: list[Rule] | None = None
) -> str | None:
    """Return why the caller, who can read the token, cannot read the attribute; None when he can.

    Args:
        found: the token's rules for reading; None: looked up here.
    """
    if not seen.is_on:
        return "it is turned off"
    if found is None:
        found = applying(scene.tx, token.id, token.type, READING)
    if hides(scene, found, token, seen.name, set_id):
        return "a rule keeps it from you"
    if seen.declared is not None and not _may_read(scene, token, seen.declared):
        return "only certain groups read it"
    if not all(_are_met(scene.tx, declared.read_needs, set_id) for declared in _lineage(scene.tx, seen)):
        return "it is readable only where certain attributes are present"
    return None


def unwritable(scene: Scene, token: Token, seen: Held, set_id: str | None) -> str | None:
    """Return why the caller, who can read the token, cannot write the attribute; None when he can."""
    if not seen.is_on:
        return "it is turned off"
    if not all(_are_met(scene.tx, declared.write_needs, set_id) for declared in _lineage(scene.tx, seen)):
        return "it is writable only where certain attributes are present"
    if _may_write(scene, token, seen.declared):
        return None
    has_groups = seen.declared is not None and seen.declared.write_groups
    return "only certain groups write it" if has_groups else "only the owner, and whom he lets, write it"


def is_writable(scene: Scene, token: Token, attribute: str, set_id: str | None) -> bool:
    """Tell whether the caller, who can read the token, can write the attribute there."""
    return unwritable(scene, token, look(scene.tx, token, attribute, set_id), set_id) is None


def shown(
    scene: Scene, token: Token, set_id: str | None, is_human: bool = False, is_ruled: bool = True
) -> dict[str, Any]:
    """Return the values the caller may read there, by name; the others are silently left out.

    Args:
        is_human: leave out what is not for people.
        is_ruled: False when it is known that there are no rules for reading.
    """
    found = applying(scene.tx, token.id, token.type, READING) if is_ruled else []
    seen = {}
    for one in _everything(scene.tx, token, set_id):
        if is_human and one.declared is not None and not one.declared.is_human:
            continue
        if unreadable(scene, token, one, set_id, found) is None:
            seen[one.name] = one.value
    return seen


def readable(scene: Scene, token: Token, attribute: str, set_id: str | None) -> Any:
    """Return what the attribute holds for the caller. Raises AttributeNotFound or AttributeNotReadable."""
    seen = look(scene.tx, token, attribute, set_id)
    reason = unreadable(scene, token, seen, set_id)
    if reason is not None and seen.is_on:
        raise AttributeNotFound(attribute)
    if reason is not None:
        raise AttributeNotReadable(attribute, reason, is_owner=token.owner_id == scene.user_id)
    return seen.value


def _everything(tx: Tx, token: Token, set_id: str | None) -> list[Held]:
    """Return all that the token holds there, as it holds it: defaults first, then what it was given."""
    declared = attributes.of_type(tx, token.type)
    values = {**attributes.defaults(declared), **token.values}
    off: set[str] = set()
    rows = tx.all(
        "SELECT attribute, set_id, value, is_on FROM live_values WHERE token_id = ? AND set_id IN ('', ?)",
        *(token.id, set_id or ""),
    )
    for name, place, text, on in rows:
        if place and text is not None:
            values[name] = json.loads(text)
        if not on:
            off.add(name)
    return [
        Held(name, value, not off or off.isdisjoint(_relevant(tx, declared, name)), declared.get(name))
        for name, value in values.items()
    ]


def _put(tx: Tx, token: Token, attribute: str, value: Any, set_id: str | None) -> None:
    if set_id is None:
        values = {name: held for name, held in {**token.values, attribute: value}.items() if held is not None}
        tokens.store_values(tx, token.id, values)
        return
    tx.run(
        "INSERT INTO live_values (token_id, attribute, set_id, value, is_on, updated_at) VALUES (?, ?, ?, ?, 1, ?)"
        " ON CONFLICT (token_id, attribute, set_id) DO UPDATE SET value = excluded.value,"
        " updated_at = excluded.updated_at",
        *(token.id, attribute, set_id, None if value is None else json.dumps(value), tx.clock.now_ms()),
    )


def _switch(tx: Tx, token_id: str, attribute: str, is_on: bool, set_id: str | None) -> None:
    tx.run(
        "INSERT INTO live_values (token_id, attribute, set_id, value, is_on, updated_at) VALUES (?, ?, ?, NULL, ?, ?)"
        " ON CONFLICT (token_id, attribute, set_id) DO UPDATE SET is_on = excluded.is_on,"
        " updated_at = excluded.updated_at",
        *(token_id, attribute, set_id or "", int(is_on), tx.clock.now_ms()),
    )


def _lineage(tx: Tx, seen: Held) -> list[Attribute]:
    return attributes.lineage(tx, seen.declared) if seen.declared is not None else []


# Its own groups decide: where a parent has some, they are among them.
def _may_read(scene: Scene, token: Token, declared: Attribute) -> bool:
    return not declared.read_groups or _in_any(scene, token, declared.read_groups)


def _may_write(scene: Scene, token: Token, declared: Attribute | None) -> bool:
    if declared is None or not declared.write_groups:
        return tokens.rights_in(scene, token).can_write
    return _in_any(scene, token, declared.write_groups)


def _in_any(scene: Scene, token: Token, group_ids: Iterable[str]) -> bool:
    if token.owner_id == scene.user_id:
        return True
    return any(groups.contains(scene.tx, group_id, scene.user_id) for group_id in group_ids)


def _are_met(tx: Tx, needs: attributes.Needs | None, set_id: str | None) -> bool:
    if not needs:
        return True
    if set_id is None:
        return False
    present = (attributes.is_present(tx, set_id, name) for name in needs)
    return any(present) if isinstance(needs, list) else all(present)


def _relevant(tx: Tx, declared: dict[str, Attribute], name: str) -> list[str]:
    """Return the attribute and those of its parents that the same token carries."""
    found = declared.get(name)
    if found is None or found.parent_id is None:
        return [name]
    parents = attributes.lineage(tx, found)[1:]
    return [name, *(one.name for one in parents if one.name in declared and declared[one.name].id == one.id)]


def _rows(tx: Tx, token_id: str, names: Iterable[str], set_id: str | None) -> list[tuple[Any, ...]]:
    return [
        row
        for name in names
        for row in tx.all(
            "SELECT attribute, set_id, value, is_on FROM live_values"
            " WHERE token_id = ? AND attribute = ? AND set_id IN ('', ?)",
            *(token_id, name, set_id or ""),
        )
    ]
