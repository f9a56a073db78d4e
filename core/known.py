"""The last answer of the script or remote behind an attribute, by caller: what a listing shows without asking.

Source: sessions.md 4.1 (cached), 4.4 (a listing previews read attributes from the cache alone).
"""

import json
from collections.abc import Iterable
from typing import Any

from core.calls import Scene, core_call
from core.pieces import PIECE
from core.sources import Source
from store import Tx

NESTED = ': {"'  # in the JSON text of attributes: without it none of them names a script or remote


@core_call("core.attribute.know")
def know(scene: Scene, token_id: str, attribute: str, value: Any) -> None:
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
def touch(scene: Scene, token_id: str, attribute: str) -> None:
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


def answers(scene: Scene, shown: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
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
