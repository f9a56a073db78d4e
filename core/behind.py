"""What stands behind an attribute: its value, or the script or remote that is asked, with all it may know.

Source: sessions.md 4.1, 4.4.
"""

from dataclasses import dataclass
from typing import Any, Literal

from core import known, live, tokens, types
from core.calls import Scene, core_call
from core.errors import AttributeNotWritable, TokenNotFound
from core.sources import Source
from core.types import COMMAND


@dataclass(frozen=True, slots=True)
class Behind:
    """An attribute about to be read or written by the caller.

    `attributes` are all the token holds there, as its owner sees them; `earlier` what the attribute answered last.
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
    source = Source.of(value)
    seen = live.shown(Scene(scene.tx, token.owner_id), token, set_id)
    last = known.find(scene.tx, token_id, source.kept_as(attribute), scene.user_id)
    row = scene.tx.one("SELECT name FROM users WHERE id = ?", scene.user_id)
    return Behind(
        token_id,
        token.name,
        token.owner_id,
        set_id,
        attribute,
        source,
        seen,
        last[0] if last else None,
        scene.user_id,
        row[0] if row else "",
    )


def _is_pressed(scene: Scene, type: str, held: live.Held) -> bool:
    # Who sees a command may press it: its script or remote decides what comes of it. A declared attribute decides
    # by its own groups.
    is_asked = Source.of(held.value).kind != "value"
    return is_asked and held.declared is None and held.name == "write" and types.is_a(scene.tx, type, COMMAND)


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
    last = known.find(scene.tx, token_id, source.kept_as("rule"), scene.user_id)
    row = scene.tx.one("SELECT name FROM users WHERE id = ?", scene.user_id)
    return Behind(
        token_id,
        token.name,
        owner_id,
        set_id,
        "rule",
        source,
        live.shown(Scene(scene.tx, owner_id), token, set_id),
        last[0] if last else None,
        scene.user_id,
        row[0] if row else "",
    )
