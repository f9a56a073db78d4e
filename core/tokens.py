"""Tokens: things with a name, a type, an owner and attributes."""

import json
from typing import Any

from core import members, quota, types
from core.access import TOKEN_COLUMNS, Access, allow, readable_token, writable_place, writable_token
from core.calls import Scene, core_call
from core.errors import AttributeNotFound, NotWritable, TokenInUse, UserNotFound
from core.limits import source_of
from core.names import checked_name
from core.quota import PIECE, are_many
from core.rules import guard_making, guard_set, guard_token
from store import Tx, new_id

# What there may be many rows of for one token, and what tells them apart.
_HANGS = {
    "known_values": "attribute, user_id",
    "script_states": "script_id",
    "live_values": "attribute, set_id",
    "grants": "user_id",
    "members": "set_id",
}


@core_call("core.token.create")
def create(
    scene: Scene,
    type: str,
    name: str,
    attributes: dict[str, Any] | None = None,
    is_public: bool = True,
    is_human: bool = True,
    set_id: str | None = None,
) -> str:
    """Make a token owned by the caller and return its id; without `set_id` it stands in no set yet.

    Args:
        is_public: whoever can read a set it stands in can read it; False: only the owner and those granted.
        is_human: False hides it from listings for people (never a permission).
        set_id: a set the caller can write, to put it into.
    """
    place = writable_place(scene, set_id) if set_id is not None else None
    values = attributes or {}
    check_values(scene, type, values)
    guard_making(scene, type, name, values, set_id)
    quota.require(scene.tx, scene.quota, scene.user_id, 1, 1)
    types.freeze(scene, type)
    token_id = insert(scene.tx, type, scene.user_id, name, values, is_public=is_public, is_human=is_human)
    scene.say("token_created", set_id=set_id, token_id=token_id)
    if place is not None:
        guard_set(scene, "token_adding", place, token_id)
        members.put(scene.tx, place.id, token_id, "member")
    return token_id


def _delete_some(scene: Scene, token_id: str) -> bool:
    token = writable_token(scene, token_id)
    guard_token(scene, "token_destroying", token)
    return _is_free(scene.tx, token_id) and thin(scene, token_id)


@core_call("core.token.delete", before=_delete_some)
def delete(scene: Scene, token_id: str) -> None:
    """Delete a token the caller may write, and take it out of every set. A token that defines a set is in use."""
    token = writable_token(scene, token_id)
    guard_token(scene, "token_destroying", token)
    scene.say("token_destroyed", token_id=token_id)
    erase(scene.tx, token_id)


@core_call("core.token.give")
def give(scene: Scene, token_id: str, user_id: str) -> None:
    """Make another user the owner of a token of the caller's; what a defining token's set holds goes along.

    Raises TokenInUse for the token and the home of a user: these stay theirs.
    """
    token = readable_token(scene, token_id)
    if token.owner_id != scene.user_id:
        raise NotWritable(token_id, token.name)
    if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
        raise UserNotFound(user_id)
    kept = scene.tx.one(
        "SELECT 1 FROM users u JOIN sets s ON s.id = u.home_set_id WHERE u.id = ? AND ? IN (u.token_id, s.token_id)",
        *(scene.user_id, token_id),
    )
    if kept is not None:
        raise TokenInUse(token_id)
    size = size_of(scene.tx, token_id)[1]
    quota.require(scene.tx, scene.quota, user_id, 1, size)
    quota.note(scene.tx, token.owner_id, -1, -size)
    quota.note(scene.tx, user_id, 1, size)
    scene.tx.run("UPDATE tokens SET owner_id = ?, revision = revision + 1 WHERE id = ?", user_id, token_id)
    # What the new owner was granted before they own outright now.
    scene.tx.run("DELETE FROM grants WHERE token_id = ? AND user_id = ?", token_id, user_id)


@core_call("core.token.grant")
def grant(scene: Scene, token_id: str, user_id: str, access: Access | None) -> None:
    """Let a user read or write a token of the caller's (for a defining token: its set); None takes the right back.

    Raises:
        TokenNotFound, UserNotFound: unknown, or not the caller's to see.
        NotWritable: readable, but only the owner shares it.
    """
    token = readable_token(scene, token_id)
    if token.owner_id != scene.user_id:
        raise NotWritable(token_id, token.name)
    if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
        raise UserNotFound(user_id)
    allow(scene.tx, token_id, user_id, access)


def check_values(scene: Scene, type: str, values: dict[str, Any]) -> None:
    """Raise unless the caller may make a token of the type that holds these values.

    Raises:
        TypeNotFound, TypeClosed: of the type. AttributeNotFound, BadValue, ScriptNotFound, RemoteNotFound: of a value.
    """
    types.check_creator(scene, type)
    declared = types.attributes_of(scene.tx, type)
    for attribute, value in values.items():
        source = source_of(value)
        if source is not None:
            types.require_source(scene, *source)
        if attribute not in declared and "." in type and attribute not in types.STANDARD:
            raise AttributeNotFound(attribute)
        types.check_value(scene.tx, attribute, declared.get(attribute), value)


def insert(
    tx: Tx,
    type: str,
    owner_id: str,
    name: str,
    attributes: dict[str, Any],
    *,
    is_public: bool = True,
    is_human: bool = True,
) -> str:
    """Add the row and return the new id."""
    token_id, values = new_id("t_"), json.dumps(attributes)
    tx.run(
        f"INSERT INTO tokens ({TOKEN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)",  # noqa: S608 (a constant)
        token_id,
        type,
        owner_id,
        checked_name(name),
        values,
        int(is_public),
        int(is_human),
        tx.clock.now_ms(),
    )
    quota.note(tx, owner_id, 1, len(name) + len(values))
    return token_id


def erase(tx: Tx, token_id: str) -> None:
    """Delete the row, its memberships and its grants. Raises TokenInUse when a set or user needs it."""
    if not _is_free(tx, token_id):
        raise TokenInUse(token_id)
    tx.run("DELETE FROM members WHERE token_id = ?", token_id)
    tx.run("DELETE FROM grants WHERE token_id = ?", token_id)
    owner_id, size = size_of(tx, token_id)
    if tx.run("DELETE FROM tokens WHERE id = ?", token_id):
        quota.note(tx, owner_id, -1, -size)


def thin(scene: Scene, token_id: str) -> bool:
    """Delete some of what hangs on a token that is about to go, where that is much; False: it was not.

    The caller's own right stays: the rest goes by it.
    """
    tx = scene.tx
    owner_id, size = size_of(tx, token_id)
    for table, key in _HANGS.items():
        if not are_many(tx, table, "token_id", token_id):
            continue
        tx.run(
            f"DELETE FROM {table} WHERE token_id = ? AND ({key}) IN"  # noqa: S608 (constants)
            f" (SELECT {key} FROM {table} WHERE token_id = ? AND ? <> {key.split(', ')[-1]} LIMIT ?)",
            *(token_id, token_id, scene.user_id, PIECE),
        )
        quota.note(tx, owner_id, 0, size_of(tx, token_id)[1] - size)
        return True
    return False


def _is_free(tx: Tx, token_id: str) -> bool:
    """Tell whether neither a set nor a user needs a token."""
    row = tx.one(
        "SELECT 1 FROM sets WHERE token_id = ? UNION ALL SELECT 1 FROM users WHERE token_id = ? LIMIT 1",
        *(token_id, token_id),
    )
    return row is None


def size_of(tx: Tx, token_id: str) -> tuple[str, int]:
    """Return whose a token is, and how much it counts for: its name and values, those held in single sets too."""
    row = tx.one(
        "SELECT owner_id, length(name) + length(attributes) + (SELECT coalesce(sum(length(value)), 0) FROM live_values"
        " WHERE token_id = tokens.id) FROM tokens WHERE id = ?",
        token_id,
    )
    return (row[0], row[1]) if row else ("", 0)


def store_values(tx: Tx, token_id: str, values: dict[str, Any]) -> None:
    """Keep what the token's attributes hold everywhere."""
    tx.run("UPDATE tokens SET attributes = ? WHERE id = ?", json.dumps(values), token_id)


def touch(tx: Tx, token_id: str) -> int:
    """Note that the token changed and return its revision."""
    row = tx.one("UPDATE tokens SET revision = revision + 1 WHERE id = ? RETURNING revision", token_id)
    return int(row[0]) if row else 0
