"""Session data: what a session remembers, as tokens in its data set, for itself or for one set it visits.

What belongs to a set is out of sight while the session is elsewhere and there again on its return: nothing moves, so
leaving and returning cost nothing. Source: sessions.md 1.2 (session data set), 6 row 32.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from core import members, quota, tokens
from core.access import readable_place, writable_place
from core.calls import Scene, core_call
from core.durations import Duration
from core.errors import TokenNotFound, TooMany
from store import Clock, Tx

TYPE = "memory"
MAX_ENTRIES = 1000  # all are looked through whenever one is changed


@dataclass(frozen=True, slots=True)
class Remembered:
    """Something remembered. `set_id` is where it counts, None everywhere; `expires_at` UTC milliseconds."""

    name: str
    value: Any
    set_id: str | None
    expires_at: int | None


@core_call("core.session.remember")
def remember(
    scene: Scene, data_set_id: str, name: str, value: Any, set_id: str | None = None, seconds: Duration | None = None
) -> None:
    """Have a session remember something; None forgets it.

    Args:
        data_set_id: the session's data set, as session.get tells it.
        set_id: remember it for visits to this set alone.
        seconds: forget it after that.
    """
    writable_place(scene, data_set_id)
    kept = 0
    for token_id, entry in _all(scene.tx, data_set_id):
        if (entry.name == name and entry.set_id == set_id) or not _is_current(entry, scene.tx.clock):
            tokens.erase(scene.tx, token_id)
        else:
            kept += 1
    if value is None:
        return
    if kept >= MAX_ENTRIES:
        raise TooMany("things a session remembers", MAX_ENTRIES)
    quota.require(scene.tx, scene.quota, scene.user_id, 1, 1)
    held: dict[str, Any] = {"value": value}
    if set_id is not None:
        held["set_id"] = readable_place(scene, set_id).id
    if seconds is not None:
        held["expires_at"] = scene.tx.clock.steady_ms() + int(seconds * 1000)
    token_id = tokens.insert(scene.tx, TYPE, scene.user_id, name, held, is_public=False, is_human=False)
    members.put(scene.tx, data_set_id, token_id, "member")


@core_call("core.session.recall", is_reading=True)
def recall(scene: Scene, data_set_id: str, set_id: str | None = None) -> list[Remembered]:
    """Return what a session remembers in a set, and everywhere, by name; what expired is forgotten."""
    if readable_place(scene, data_set_id).owner_id != scene.user_id:
        raise TokenNotFound(data_set_id)
    clock = scene.tx.clock
    found = [
        replace(entry, expires_at=None if entry.expires_at is None else clock.moment(entry.expires_at))
        for _, entry in _all(scene.tx, data_set_id)
        if entry.set_id in (None, set_id) and _is_current(entry, clock)
    ]
    return sorted(found, key=lambda entry: (entry.name, entry.set_id or ""))


def _all(tx: Tx, data_set_id: str) -> list[tuple[str, Remembered]]:
    rows = tx.all(
        "SELECT t.id, t.name, t.attributes FROM members m JOIN tokens t ON t.id = m.token_id"
        " WHERE m.set_id = ? AND t.type = ?",
        *(data_set_id, TYPE),
    )
    found = []
    for token_id, name, text in rows:
        held = json.loads(text)
        found.append((token_id, Remembered(name, held.get("value"), held.get("set_id"), held.get("expires_at"))))
    return found


def _is_current(entry: Remembered, clock: Clock) -> bool:
    # In the rows it is a time of the steady scale.
    return entry.expires_at is None or entry.expires_at > clock.steady_ms()
