"""The last answer of the script or remote behind an attribute, by caller: what a listing shows without asking.

The value that an attribute holds here beside its remote, one for everybody, stands among them without a user.
Source: sessions.md 4.1 (cached, direction).
"""

import json
from typing import Any

from core.calls import Scene, core_call
from store import Tx, now_ms

EVERYBODY = ""


@core_call("core.attribute.know")
def know(
    scene: Scene, token_id: str, attribute: str, value: Any, *, is_for_all: bool = False, changed: str | None = None
) -> None:
    """Keep what the attribute answered the caller, or everybody.

    Args:
        changed: the attribute that everybody reads another value of from now on.
    """
    if scene.tx.one("SELECT 1 FROM tokens WHERE id = ?", token_id) is None:
        return
    scene.tx.run(
        "INSERT INTO known_values (token_id, attribute, user_id, value, known_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (token_id, attribute, user_id)"
        " DO UPDATE SET value = excluded.value, known_at = excluded.known_at",
        *(token_id, attribute, EVERYBODY if is_for_all else scene.user_id, json.dumps(value), now_ms()),
    )
    if changed is not None:
        scene.say("value_changed", token_id=token_id, attribute=changed)


@core_call("core.attribute.touch")
def touch(scene: Scene, token_id: str, attribute: str) -> None:
    """Note that the attribute was asked just now and did not answer the caller: what it said before still counts."""
    scene.tx.run(
        "INSERT INTO known_values (token_id, attribute, user_id, value, known_at) VALUES (?, ?, ?, 'null', ?)"
        " ON CONFLICT (token_id, attribute, user_id) DO UPDATE SET known_at = excluded.known_at",
        *(token_id, attribute, scene.user_id, now_ms()),
    )


@core_call("core.attribute.held", is_reading=True)
def held(scene: Scene, token_id: str, attribute: str) -> tuple[Any, int] | None:
    """Return the value the attribute holds here for everybody, and since when; None when it holds none."""
    return find(scene.tx, token_id, attribute, EVERYBODY)


@core_call("core.attribute.forget")
def forget_answers(scene: Scene, token_id: str, attribute: str) -> None:
    """Forget what the attribute answered anybody: it was written, and has to be asked anew."""
    scene.tx.run(
        "DELETE FROM known_values WHERE token_id = ? AND attribute = ? AND user_id <> ?",
        *(token_id, attribute, EVERYBODY),
    )


def forget(scene: Scene, token_id: str, attribute: str) -> None:
    """Forget what the attribute answered the caller: he asks anew."""
    scene.tx.run(
        "DELETE FROM known_values WHERE token_id = ? AND attribute = ? AND user_id = ?",
        *(token_id, attribute, scene.user_id),
    )


def find(tx: Tx, token_id: str, attribute: str, user_id: str) -> tuple[Any, int] | None:
    """Return what the attribute answered the user last, and when; None when it never did."""
    row = tx.one(
        "SELECT value, known_at FROM known_values WHERE token_id = ? AND attribute = ? AND user_id = ?",
        *(token_id, attribute, user_id),
    )
    return (json.loads(row[0]), row[1]) if row else None
