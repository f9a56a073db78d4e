"""Live values: who may read and write what a token's attributes hold, everywhere or in one set.

Permission is decided per user, token, attribute and set. Source: sessions.md 1.1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core import acting, actions, attributes, groups, held, sets, tokens
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
from core.held import Held as Held
from core.held import look as look
from core.limits import source_of
from core.sources import require
from core.standard import check_free
from core.tokens import Token
from store import Tx


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
        require(scene, *source, owner_id=token.owner_id)
    _check_value(scene, token, seen, value)
    if set_id is not None:
        sets.show(scene, set_id)
    held.check_siblings(scene.tx, token, attribute, value, set_id)
    guard_change(scene, token, attribute, {**token.values, attribute: value}, set_id)
    held.put(scene.tx, token, attribute, value, set_id)
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
    if value != seen.value:
        acting.act(scene, "value_changed", token_id, token.type, attribute, set_id)
    is_asked = source is not None
    return Edited(tokens.touch(scene.tx, token_id), None if is_asked else value, "unknown" if is_asked else "ok")


@core_call("core.token.turn_attribute")
def turn(scene: Scene, token_id: str, attribute: str, is_on: bool, set_id: str | None = None) -> None:
    """Turn an attribute of a token on or off: off, nobody reads or writes it and nothing behind it is called."""
    token = tokens.writable(scene, token_id)
    look(scene.tx, token, attribute, set_id)
    guard_change(scene, token, attribute, token.values, set_id)
    held.switch(scene.tx, token_id, attribute, is_on, set_id)
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
    tokens.touch(scene.tx, token_id)


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
    for one in held.everything(scene.tx, token, set_id):
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


def _check_value(scene: Scene, token: Token, seen: Held, value: Any) -> None:
    if seen.declared is None:
        check_free(scene.tx, seen.name, value)
        return
    declared = attributes.of_type(scene.tx, token.type)
    attributes.checked(scene.tx, declared, seen.name, value)
    if seen.declared.value_type == attributes.ACTION and value is not None:
        _check_author(scene, token, declared, seen.name, actions.parsed(value))


def _check_author(
    scene: Scene, token: Token, declared: dict[str, Attribute], name: str, action: actions.Action
) -> None:
    # It will do what its author could do himself, and show nobody what is kept from its author.
    copied = declared.get(action.copied or "")
    if copied is not None and not _may_read(scene, token, copied):
        raise AttributeNotWritable(name, f"{action.copied!r}, which it copies, is not yours to read")
    if action.change is not None and not _may_write(scene, token, declared.get(action.target or "")):
        raise AttributeNotWritable(name, f"{action.target!r}, which it changes, is not yours to write")
    if action.switch is not None and not _rights(scene, token).can_write:
        raise AttributeNotWritable(name, f"{action.target!r} is not yours to turn on and off")


def _lineage(tx: Tx, seen: Held) -> list[Attribute]:
    return attributes.lineage(tx, seen.declared) if seen.declared is not None else []


# Its own groups decide: where a parent has some, they are among them.
def _may_read(scene: Scene, token: Token, declared: Attribute) -> bool:
    return not declared.read_groups or _in_any(scene, token, declared.read_groups)


def _may_write(scene: Scene, token: Token, declared: Attribute | None) -> bool:
    if declared is None or not declared.write_groups:
        return _rights(scene, token).can_write
    return _in_any(scene, token, declared.write_groups)


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
    present = (attributes.is_present(tx, set_id, name) for name in needs)
    return any(present) if isinstance(needs, list) else all(present)
