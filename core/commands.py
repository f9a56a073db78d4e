"""Command tokens: what the pallet holds besides the plugins' commands.

Those pinned in the session's pallet set, those of the set it stands in, and those of the sets above, of which one
that bears the name of a nearer one is hidden. Source: sessions.md 1.2 (command pallet), 4.4.
"""

import json
from dataclasses import dataclass
from typing import Any

from core import attribute_values
from core.access import Token, asker, find_place, find_token
from core.calls import Scene, core_call, kept
from core.listing import HUMAN, VISIBLE, recipient
from core.names import sort_key
from core.rules import READING, any_for
from core.types import Source

MAX_ANCESTORS = 32
MAX_COMMANDS = 500
DEFAULT_SORT = 50.0


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """A command token as the pallet shows it.

    `sort` None is not known yet; `is_stale` asks for it to be found out, behind the listing.
    """

    id: str
    name: str
    description: str
    accepts: str | None
    sort: float | None
    set_id: str
    revision: int
    is_stale: bool


@core_call("core.set.commands", is_reading=True)
def offered(
    scene: Scene,
    set_id: str,
    pallet_set_id: str | None = None,
    *,
    is_human: bool = False,
    fresh_s: float = 60,
    session_id: str | None = None,
) -> list[TokenCommand]:
    """Return the command tokens offered in a set, of each name the nearest; unreadable ones are left out.

    Args:
        session_id: whose pallet it is: what others were given, also the user's other sessions, is not in it.
        fresh_s: how long what a sort script or remote answered is taken as it is.
    """
    places = [*([pallet_set_id] if pallet_set_id else []), *_upwards(scene, set_id)]
    found: dict[str, TokenCommand] = {}
    for place in places:
        near = _in_place(scene, place, is_human, fresh_s, recipient(scene.tx, place, session_id))
        for command in near:
            # Two of one name in one set both stand; a nearer set's hides those above.
            key = sort_key(command.name)
            if all(sort_key(other.name) != key or other.set_id == place for other in found.values()):
                found[command.id] = command
    return list(found.values())


@kept
def _in_place(scene: Scene, set_id: str, is_human: bool, fresh_s: float, session_id: str | None) -> list[TokenCommand]:
    rows = scene.tx.all(
        f"SELECT t.id FROM commands c JOIN tokens t ON t.id = c.token_id"  # noqa: S608 (constants)
        " JOIN members m ON m.set_id = c.set_id AND m.token_id = c.token_id"
        f" WHERE c.set_id = ? AND {VISIBLE} AND (? = 0 OR ({HUMAN}))"
        " AND (m.session_id IS NULL OR m.session_id = ?) ORDER BY t.id LIMIT ?",
        *(set_id, *asker(scene.user_id), int(is_human), session_id, MAX_COMMANDS),
    )
    is_ruled = bool(rows) and any_for(scene.tx, READING)
    return [_command(scene, row[0], set_id, fresh_s, is_ruled) for row in rows]


@kept
def _upwards(scene: Scene, set_id: str) -> list[str]:
    above: list[str] = []
    here: str | None = set_id
    while here is not None and len(above) < MAX_ANCESTORS:
        place = find_place(scene.tx, scene.user_id, here)
        if place is None:
            break
        if place.rights.can_read:
            above.append(here)
        here = place.parent_id
    return above


def _command(scene: Scene, token_id: str, set_id: str, fresh_s: float, is_ruled: bool) -> TokenCommand:
    token = find_token(scene.tx, token_id)
    assert token is not None  # read in the same snapshot
    values = attribute_values.shown(scene, token, set_id, is_ruled=is_ruled)
    sort, is_stale = _sort(scene, token, values, fresh_s)
    description, accepts = values.get("description"), values.get("accepts")
    return TokenCommand(
        id=token.id,
        name=token.name,
        description=description if isinstance(description, str) else "",
        accepts=accepts if isinstance(accepts, str) else None,
        sort=sort,
        set_id=set_id,
        revision=token.revision,
        is_stale=is_stale,
    )


def _sort(scene: Scene, token: Token, values: dict[str, Any], fresh_s: float) -> tuple[float | None, bool]:
    source = Source.of(values.get("sort", DEFAULT_SORT))
    if source.kind == "value":
        return _number(source.value), False
    last = attribute_values.last_answer(scene.tx, token.id, source.kept_as("sort"), scene.user_id)
    if last is None:
        return None, True
    age_ms = scene.tx.clock.now_ms() - last[1]
    return _number(last[0]), not 0 <= age_ms <= fresh_s * 1000  # below 0: the clock was set back since


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
