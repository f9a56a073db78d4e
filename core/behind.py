"""What stands behind an attribute: its value, or the script or remote that is asked, with all it may know.

Source: sessions.md 4.1, 4.4.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from core import known, live, tokens, types
from core.calls import Scene, core_call
from core.errors import AttributeNotWritable, TokenNotFound
from core.sources import Source
from core.tokens import Token
from core.types import COMMAND


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
def look(
    scene: Scene, token_id: str, attribute: str, set_id: str | None = None, purpose: Literal["read", "write"] = "read"
) -> Behind:
    """Return what stands behind an attribute that the caller may read, or write.

    Raises AttributeNotFound, AttributeNotReadable or AttributeNotWritable.
    """
    token = tokens.readable(scene, token_id)
    if purpose == "read":
        value = live.readable(scene, token, attribute, set_id)
    else:
        held = live.look(scene.tx, token, attribute, set_id)
        reason = live.unwritable(scene, token, held, set_id)
        value = held.value
        if reason is not None and not (held.is_on and _is_pressed(scene, token.type, held)):
            raise AttributeNotWritable(attribute, reason)
    return _behind(scene, token, set_id, attribute, Source.of(value), token.owner_id)


@core_call("core.command.look", is_reading=True)
def command(scene: Scene, token_id: str, set_id: str) -> tuple[int, dict[str, Any]]:
    """Return the revision of a command the caller can read, and its attributes as he sees them there."""
    token = tokens.readable(scene, token_id)
    if not types.is_a(scene.tx, token.type, COMMAND):
        raise TokenNotFound(token_id)
    return token.revision, live.shown(scene, token, set_id)


@core_call("core.rule.look", is_reading=True)
def look_at_rule(scene: Scene, token_id: str, set_id: str | None, kind: str, id: str, owner_id: str) -> Behind:
    """Return what a rule on a token asks of a script or remote, in its maker's name, about the caller."""
    token = tokens.find(scene.tx, token_id)
    if token is None:
        raise TokenNotFound(token_id)
    source = Source("script" if kind == "script" else "remote", id)
    return _behind(scene, token, set_id, "rule", source, owner_id)


@core_call("core.attribute.try", is_reading=True)
def look_tried(scene: Scene, token_id: str | None, kind: Literal["script", "remote"], id: str) -> Behind:
    """Return what a script or remote would be told of a token of the caller's, or of none, were it to answer for it."""
    if token_id is not None:
        token = tokens.writable(scene, token_id)
        return _behind(scene, token, None, "", Source(kind, id), token.owner_id)
    name = _name(scene, scene.user_id)
    return Behind("", "", scene.user_id, None, "", Source(kind, id), {}, None, scene.user_id, name, owner_name=name)


def _behind(scene: Scene, token: Token, set_id: str | None, attribute: str, source: Source, owner_id: str) -> Behind:
    values = live.shown(Scene(scene.tx, owner_id), token, set_id)
    seen = values if owner_id == scene.user_id else live.shown(scene, token, set_id)
    last = known.find(scene.tx, token.id, source.kept_as(attribute), scene.user_id)
    caller_name = _name(scene, scene.user_id)
    return Behind(
        token.id,
        token.name,
        owner_id,
        set_id,
        attribute,
        source,
        _passed_on(scene, token, values, attribute),
        last[0] if last else None,
        scene.user_id,
        caller_name,
        token.type,
        caller_name if owner_id == scene.user_id else _name(scene, owner_id),
        _passed_on(scene, token, seen, attribute),
        last[1] if last else None,
    )


def _passed_on(scene: Scene, token: Token, values: dict[str, Any], asked: str) -> dict[str, Any]:
    """Return values with the last answers in place of what would have to be asked: so nothing asks in a circle."""
    passed = {}
    for name, value in values.items():
        source = Source.of(value)
        if source.kind == "value":
            passed[name] = source.value
        elif (
            name != asked and (last := known.find(scene.tx, token.id, source.kept_as(name), scene.user_id)) is not None
        ):
            passed[name] = last[0]
    return passed


def _name(scene: Scene, user_id: str) -> str:
    row = scene.tx.one("SELECT name FROM users WHERE id = ?", user_id)
    return row[0] if row else ""


def _is_pressed(scene: Scene, type: str, held: live.Held) -> bool:
    # Who sees a command may press it: its script or remote decides what comes of it. A declared attribute decides
    # by its own groups.
    is_asked = Source.of(held.value).kind != "value"
    return is_asked and held.declared is None and held.name == "write" and types.is_a(scene.tx, type, COMMAND)
