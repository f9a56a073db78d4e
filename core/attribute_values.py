"""What the attributes of tokens hold, and who may read and write it.

A value everywhere stands with the token; a value in one set, and whether an attribute is on, in `live_values`.
Permission is decided per user, token, attribute and set. Source: sessions.md 1.1, 4.1, 4.4.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from core import groups, quota, tokens, types
from core.access import Token, find_token, readable_place, readable_token, rights_in, writable_token
from core.calls import Scene, core_call
from core.errors import (
    AttributeNotFound,
    AttributeNotReadable,
    AttributeNotWritable,
    ChecksumMismatch,
    TokenNotFound,
    UserNotFound,
)
from core.limits import source_of
from core.quota import PIECE
from core.rules import READING, Rule, applying, guard_change, hides
from core.types import COMMAND, STANDARD, Attribute, Needs, Source, require_source
from store import Tx

NESTED = ': {"'  # in the JSON text of attributes: without it none of them names a script or remote


@core_call("core.attribute.know")
def keep_answer(scene: Scene, token_id: str, attribute: str, value: Any) -> None:
    """Keep what the attribute answered the caller."""
    if scene.tx.one("SELECT 1 FROM tokens WHERE id = ?", token_id) is None:
        return
    scene.tx.run(
        "INSERT INTO known_values (token_id, attribute, user_id, value, known_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (token_id, attribute, user_id)"
        " DO UPDATE SET value = excluded.value, known_at = excluded.known_at",
        *(token_id, attribute, scene.user_id, json.dumps(value), scene.tx.clock.now_ms()),
    )


@core_call("core.attribute.touch")
def note_no_answer(scene: Scene, token_id: str, attribute: str) -> None:
    """Note that the attribute was asked just now and did not answer the caller: what it said before still counts."""
    scene.tx.run(
        "INSERT INTO known_values (token_id, attribute, user_id, value, known_at) VALUES (?, ?, ?, 'null', ?)"
        " ON CONFLICT (token_id, attribute, user_id) DO UPDATE SET known_at = excluded.known_at",
        *(token_id, attribute, scene.user_id, scene.tx.clock.now_ms()),
    )


@core_call("core.attribute.forget")
def forget_answers(scene: Scene, token_id: str, attribute: str) -> bool:
    """Forget what the attribute answered some: it was written, and has to be asked anew. Tells if there may be more."""
    gone = scene.tx.run(
        "DELETE FROM known_values WHERE token_id = ? AND attribute = ? AND user_id IN"
        " (SELECT user_id FROM known_values WHERE token_id = ? AND attribute = ? LIMIT ?)",
        *(token_id, attribute, token_id, attribute, PIECE),
    )
    return gone >= PIECE


def forget_answer(scene: Scene, token_id: str, attribute: str) -> None:
    """Forget what the attribute answered the caller: they ask anew."""
    scene.tx.run(
        "DELETE FROM known_values WHERE token_id = ? AND attribute = ? AND user_id = ?",
        *(token_id, attribute, scene.user_id),
    )


def last_answer(tx: Tx, token_id: str, attribute: str, user_id: str) -> tuple[Any, int] | None:
    """Return what the attribute answered the user last, and when; None when it never did."""
    row = tx.one(
        "SELECT value, known_at FROM known_values WHERE token_id = ? AND attribute = ? AND user_id = ?",
        *(token_id, attribute, user_id),
    )
    return (json.loads(row[0]), row[1]) if row else None


def last_answers(scene: Scene, shown: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return, by token, what its attributes answered the caller last.

    Args:
        shown: tokens, each with the attributes the caller may read.
    """
    wanted = {token_id: {name: source.kept_as(name) for name, source in _sources(values)} for token_id, values in shown}
    asked = [token_id for token_id, names in wanted.items() if names]
    if not asked:
        return {}
    rows = scene.tx.all(
        "SELECT token_id, attribute, value FROM known_values WHERE user_id = ?"  # noqa: S608 (question marks)
        f" AND token_id IN ({', '.join('?' * len(asked))})",
        *(scene.user_id, *asked),
    )
    known = {(token_id, name): value for token_id, name, value in rows}
    found: dict[str, dict[str, Any]] = {}
    for token_id in asked:
        kept = wanted[token_id].items()
        last = {name: json.loads(known[token_id, key]) for name, key in kept if (token_id, key) in known}
        if last:
            found[token_id] = last
    return found


def _sources(values: dict[str, Any]) -> Iterable[tuple[str, Source]]:
    for name, value in values.items():
        if isinstance(value, dict) and (source := Source.of(value)).kind != "value":
            yield name, source


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
    token = readable_token(scene, token_id)
    seen = look(scene.tx, token, attribute, set_id)
    if user_id is not None and user_id != scene.user_id:
        writable_token(scene, token_id)
        if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
            raise UserNotFound(user_id)
        scene = Scene(scene.tx, user_id)
        try:
            readable_token(scene, token_id)
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
    token = readable_token(scene, token_id)
    if if_match is not None and if_match != token.revision:
        raise ChecksumMismatch(token.revision)
    seen = look(scene.tx, token, attribute, set_id)
    reason = unwritable(scene, token, seen, set_id)
    if reason is not None:
        raise AttributeNotWritable(attribute, reason)
    source = source_of(value)
    if source is not None:
        require_source(scene, *source)
    types.check_value(scene.tx, attribute, seen.declared, value)
    if set_id is not None:
        readable_place(scene, set_id)
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
    token = writable_token(scene, token_id)
    look(scene.tx, token, attribute, set_id)
    guard_change(scene, token, attribute, token.values, set_id)
    _switch(scene.tx, token_id, attribute, is_on, set_id)
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
    tokens.touch(scene.tx, token_id)


def look(tx: Tx, token: Token, attribute: str, set_id: str | None) -> Held:
    """Return what the attribute holds there. Raises AttributeNotFound for one its type does not have."""
    declared = types.attributes_of(tx, token.type)
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
    """Return why the caller, who can read the token, cannot read the attribute; None when they can.

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
    """Return why the caller, who can read the token, cannot write the attribute; None when they can."""
    if not seen.is_on:
        return "it is turned off"
    if not all(_are_met(scene.tx, declared.write_needs, set_id) for declared in _lineage(scene.tx, seen)):
        return "it is writable only where certain attributes are present"
    if _may_write(scene, token, seen.declared):
        return None
    has_groups = seen.declared is not None and seen.declared.write_groups
    return "only certain groups write it" if has_groups else "only the owner, and whom they let, write it"


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
    declared = types.attributes_of(tx, token.type)
    values = {**types.defaults(declared), **token.values}
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
    return types.lineage(tx, seen.declared) if seen.declared is not None else []


# Its own groups decide: where a parent has some, they are among them.
def _may_read(scene: Scene, token: Token, declared: Attribute) -> bool:
    return not declared.read_groups or _in_any(scene, token, declared.read_groups)


def _may_write(scene: Scene, token: Token, declared: Attribute | None) -> bool:
    if declared is None or not declared.write_groups:
        return rights_in(scene, token).can_write
    return _in_any(scene, token, declared.write_groups)


def _in_any(scene: Scene, token: Token, group_ids: Iterable[str]) -> bool:
    if token.owner_id == scene.user_id:
        return True
    return any(groups.contains(scene.tx, group_id, scene.user_id) for group_id in group_ids)


def _are_met(tx: Tx, needs: Needs | None, set_id: str | None) -> bool:
    if not needs:
        return True
    if set_id is None:
        return False
    present = (types.is_present(tx, set_id, name) for name in needs)
    return any(present) if isinstance(needs, list) else all(present)


def _relevant(tx: Tx, declared: dict[str, Attribute], name: str) -> list[str]:
    """Return the attribute and those of its parents that the same token carries."""
    found = declared.get(name)
    if found is None or found.parent_id is None:
        return [name]
    parents = types.lineage(tx, found)[1:]
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


@dataclass(frozen=True, slots=True)
class Behind:
    """An attribute about to be read or written by the caller.

    `attributes` are all the token holds there, as its owner sees them, and `seen` those the caller may read: for one
    that a script or remote answers, what it answered last, if anything; nothing is asked for it. `earlier` is what
    the attribute answered the caller last, `earlier_at` when, UTC milliseconds.
    """

    token_id: str
    name: str
    owner_id: str
    set_id: str | None
    attribute: str
    source: Source
    attributes: dict[str, Any]
    earlier: Any
    caller_id: str
    caller_name: str
    type: str = ""
    owner_name: str = ""
    seen: dict[str, Any] = field(default_factory=dict)
    earlier_at: int | None = None


@core_call("core.attribute.look", is_reading=True)
def look_behind(
    scene: Scene, token_id: str, attribute: str, set_id: str | None = None, purpose: Literal["read", "write"] = "read"
) -> Behind:
    """Return what stands behind an attribute that the caller may read, or write.

    Raises AttributeNotFound, AttributeNotReadable or AttributeNotWritable.
    """
    token = readable_token(scene, token_id)
    if purpose == "read":
        value = readable(scene, token, attribute, set_id)
    else:
        held = look(scene.tx, token, attribute, set_id)
        reason = unwritable(scene, token, held, set_id)
        value = held.value
        if reason is not None and not (held.is_on and _is_pressed(scene, token.type, held)):
            raise AttributeNotWritable(attribute, reason)
    return _behind(scene, token, set_id, attribute, Source.of(value), token.owner_id)


@core_call("core.command.look", is_reading=True)
def command(scene: Scene, token_id: str, set_id: str) -> tuple[int, dict[str, Any]]:
    """Return the revision of a command the caller can read, and its attributes as they see them there."""
    token = readable_token(scene, token_id)
    if not types.is_a(scene.tx, token.type, COMMAND):
        raise TokenNotFound(token_id)
    return token.revision, shown(scene, token, set_id)


@core_call("core.rule.look", is_reading=True)
def look_at_rule(scene: Scene, token_id: str, set_id: str | None, kind: str, id: str, owner_id: str) -> Behind:
    """Return what a rule on a token asks of a script or remote, in its maker's name, about the caller."""
    token = find_token(scene.tx, token_id)
    if token is None:
        raise TokenNotFound(token_id)
    source = Source("script" if kind == "script" else "remote", id)
    return _behind(scene, token, set_id, "rule", source, owner_id)


@core_call("core.attribute.try", is_reading=True)
def look_tried(scene: Scene, token_id: str | None, kind: Literal["script", "remote"], id: str) -> Behind:
    """Return what a script or remote would be told of a token of the caller's, or of none, were it to answer for it."""
    if token_id is not None:
        token = writable_token(scene, token_id)
        return _behind(scene, token, None, "", Source(kind, id), token.owner_id)
    name = _name(scene, scene.user_id)
    return Behind("", "", scene.user_id, None, "", Source(kind, id), {}, None, scene.user_id, name, owner_name=name)


def _behind(scene: Scene, token: Token, set_id: str | None, attribute: str, source: Source, owner_id: str) -> Behind:
    values = shown(Scene(scene.tx, owner_id), token, set_id)
    seen = values if owner_id == scene.user_id else shown(scene, token, set_id)
    last = last_answer(scene.tx, token.id, source.kept_as(attribute), scene.user_id)
    caller_name = _name(scene, scene.user_id)
    return Behind(
        token_id=token.id,
        name=token.name,
        owner_id=owner_id,
        set_id=set_id,
        attribute=attribute,
        source=source,
        attributes=_passed_on(scene, token, values, attribute),
        earlier=last[0] if last else None,
        caller_id=scene.user_id,
        caller_name=caller_name,
        type=token.type,
        owner_name=caller_name if owner_id == scene.user_id else _name(scene, owner_id),
        seen=_passed_on(scene, token, seen, attribute),
        earlier_at=last[1] if last else None,
    )


def _passed_on(scene: Scene, token: Token, values: dict[str, Any], asked: str) -> dict[str, Any]:
    """Return values with the last answers in place of what would have to be asked: so nothing asks in a circle."""
    passed = {}
    for name, value in values.items():
        source = Source.of(value)
        if source.kind == "value":
            passed[name] = source.value
        elif (
            name != asked and (last := last_answer(scene.tx, token.id, source.kept_as(name), scene.user_id)) is not None
        ):
            passed[name] = last[0]
    return passed


def _name(scene: Scene, user_id: str) -> str:
    row = scene.tx.one("SELECT name FROM users WHERE id = ?", user_id)
    return row[0] if row else ""


def _is_pressed(scene: Scene, type: str, held: Held) -> bool:
    # Who sees a command may press it: its script or remote decides what comes of it. A declared attribute decides
    # by its own groups.
    is_asked = Source.of(held.value).kind != "value"
    return is_asked and held.declared is None and held.name == "write" and types.is_a(scene.tx, type, COMMAND)
