"""Guards: the rules that decide whether something may happen, asked inside its transaction before anything is written.

One indexed statement finds the rules that apply, and mostly finds none. Source: sessions.md 1.2, 3.4.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core import conditions
from core.calls import Scene
from core.conditions import Coming, Passer
from core.errors import EventRefused
from store import Tx

if TYPE_CHECKING:
    from core.sets import Place
    from core.tokens import Token

# event -> (whether scripts and remotes may decide it, what happens)
EVENTS: dict[str, tuple[bool, str]] = {
    "set_entering": (True, "A session is about to enter the set that the token defines."),
    "set_leaving": (True, "A session is about to leave the set that the token defines."),
    "set_creating": (False, "A set is about to be made that the token is to define."),
    "set_destroying": (False, "The set that the token defines is about to be deleted."),
    "token_adding": (False, "A token is about to be put into the set that the token defines."),
    "token_removing": (False, "A token is about to be taken out of the set that the token defines."),
    "child_adding": (False, "A set is about to be put below the set that the token defines."),
    "link_creating": (False, "A link from the set that the token defines is about to be made."),
    "link_destroying": (False, "A link from the set that the token defines is about to be taken away."),
    "token_creating": (False, "A token of the type is about to be made: rules of types alone decide it."),
    "token_destroying": (False, "The token is about to be deleted."),
    "value_changing": (False, "An attribute of the token is about to be written, or turned on or off."),
    "attribute_reading": (False, "An attribute of the token is about to be shown: refused, it is left out."),
}
READING = "attribute_reading"
COLUMNS = "id, owner_id, token_id, type, event, name, decision, message"
_OF_TYPE = (
    f"SELECT {', '.join(f'r.{name}' for name in COLUMNS.split(', '))}, a.rank AS distance"  # noqa: S608 (constants)
    " FROM type_ancestors a JOIN rules r ON r.type = a.ancestor WHERE a.type = ? AND r.event = ?"
)
_OF_TOKEN = f"SELECT {COLUMNS}, -1 AS distance FROM rules WHERE token_id = ? AND event = ?"  # noqa: S608 (constants)
_OF_BOTH = f"{_OF_TYPE} UNION ALL {_OF_TOKEN} ORDER BY distance DESC, id"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; `token_id` or `type` says what it stands on."""

    id: str
    owner_id: str
    token_id: str | None
    type: str | None
    event: str
    name: str
    decision: dict[str, Any]
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first refusal, and how many there were."""

    rule: str
    message: str
    count: int


def applying(tx: Tx, token_id: str, type: str, event: str) -> list[Rule]:
    """Return the rules that decide the event for a token, from the remotest ancestor of its type to itself."""
    if "." in type:
        rows = tx.all(_OF_BOTH, type, event, token_id, event)
    else:
        rows = tx.all(f"{_OF_TOKEN} ORDER BY id", token_id, event)  # a standard type has no rules
    return [rule(row[:-1]) for row in rows]


def first_refusal(tx: Tx, found: list[Rule], passer: Passer) -> Refusal | None:
    """Ask every rule and return the first refusal, None when all let the passer through."""
    refusals = []
    for one in found:
        is_allowed, said = conditions.decide(tx, one.decision, passer)
        if not is_allowed:
            refusals.append((one.name, said or one.message))
    return Refusal(*refusals[0], len(refusals)) if refusals else None


def of_set(scene: Scene, event: str, place: "Place") -> list[Rule]:
    """Return the rules that decide what is done to a set: those of its defining token."""
    return applying(scene.tx, place.token_id, place.type, event)


def ask_set(scene: Scene, place: "Place", found: list[Rule], token_id: str, coming: Coming | None = None) -> None:
    """Have rules of a set decide about one token. Raises EventRefused.

    Args:
        coming: the token, when it is still to be made.
    """
    refused = (
        first_refusal(scene.tx, found, Passer(scene.user_id, token_id, place.id, coming=coming)) if found else None
    )
    if refused is not None:
        raise EventRefused(found[0].event, place.name, *_told(refused), set_id=place.id)


def guard_set(scene: Scene, event: str, place: "Place", token_id: str, coming: Coming | None = None) -> None:
    """Have the rules of a set decide what is about to be done to it with a token; see `ask_set`."""
    ask_set(scene, place, of_set(scene, event, place), token_id, coming)


def guard_token(scene: Scene, event: str, token: "Token") -> None:
    """Have a token's rules decide what is done to it. Raises EventRefused."""
    found = applying(scene.tx, token.id, token.type, event)
    if found:
        _refuse(scene, found, token.name, Passer(scene.user_id, token.id, ""))


def guard_making(scene: Scene, type: str, name: str, values: dict[str, Any], set_id: str | None = None) -> None:
    """Have the rules of a type decide whether a token of it with these values is made. Raises EventRefused."""
    if "." not in type:
        return
    found = applying(scene.tx, "", type, "token_creating")
    if found:
        _refuse(scene, found, name, Passer(scene.user_id, "", set_id or "", coming=Coming(type, values)))


def guard_change(
    scene: Scene, token: "Token", attribute: str, values: dict[str, Any], set_id: str | None = None
) -> None:
    """Have a token's rules decide whether an attribute changes, and its values become these. Raises EventRefused."""
    found = applying(scene.tx, token.id, token.type, "value_changing")
    if found:
        coming = Coming(token.type, values)
        _refuse(scene, found, token.name, Passer(scene.user_id, token.id, set_id or "", coming=coming, about=attribute))


def hides(scene: Scene, found: list[Rule], token: "Token", attribute: str, set_id: str | None) -> bool:
    """Tell whether one of the rules for reading a token keeps an attribute from the caller."""
    if not found:
        return False
    return first_refusal(scene.tx, found, Passer(scene.user_id, token.id, set_id or "", about=attribute)) is not None


def any_asks(tx: Tx) -> bool:
    """Tell whether any rule for entering or leaving asks a script or remote."""
    row = tx.one(
        "SELECT 1 FROM rules WHERE event IN ('set_entering', 'set_leaving')"
        " AND (instr(decision, '\"script\"') > 0 OR instr(decision, '\"remote\"') > 0) LIMIT 1"
    )
    return row is not None


def any_for(tx: Tx, event: str) -> bool:
    """Tell whether there is any rule for an event."""
    return tx.one("SELECT 1 FROM rules WHERE event = ? LIMIT 1", event) is not None


def rule(row: tuple[Any, ...]) -> Rule:
    """Return a row of `rules`."""
    id, owner_id, token_id, type, event, name, decision, message = row
    return Rule(id, owner_id, token_id, type, event, name, json.loads(decision), message)


def _refuse(scene: Scene, found: list[Rule], name: str, passer: Passer) -> None:
    refused = first_refusal(scene.tx, found, passer)
    if refused is not None:
        raise EventRefused(found[0].event, name, *_told(refused), token_id=passer.token_id or None)


def _told(refused: Refusal) -> tuple[str, str, int]:
    return refused.rule, refused.message, refused.count
