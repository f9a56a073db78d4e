"""The last answers of what scripts, remotes and people answer for, as a listing shows them: nobody is asked.

Source: sessions.md 4.4 (read attributes are not executed by a listing, only previewed from cache).
"""

import json
from collections.abc import Iterable
from typing import Any

from core.calls import Scene
from core.known import EVERYBODY
from core.sources import Source

NESTED = ': {"'  # in the JSON text of attributes: without it none of them names a script or remote


def answers(scene: Scene, shown: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return, by token, what its attributes answered the caller last, or hold here for everybody.

    Args:
        shown: tokens, each with the attributes the caller may read.
    """
    wanted = {token_id: {name: source.kept_as(name) for name, source in _sources(values)} for token_id, values in shown}
    asked = [token_id for token_id, names in wanted.items() if names]
    if not asked:
        return {}
    rows = scene.tx.all(
        "SELECT token_id, attribute, value FROM known_values WHERE user_id IN (?, ?)"  # noqa: S608 (question marks)
        f" AND token_id IN ({', '.join('?' * len(asked))}) ORDER BY user_id",  # one's own after everybody's
        *(EVERYBODY, scene.user_id, *asked),
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
