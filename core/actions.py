"""Actions: what an attribute of the type `action` holds, and what it does to its own token after an event.

    {"event": "set_entered", "target": "state", "change": {"value": "busy"}}       gives the target a value
    {"event": "value_changed", "of": "price", "target": "shown", "change": {"attribute": "price"}}   that of another
    {"event": "token_removed", "target": "alarm", "switch": true}                  turns the target on or off
    {"event": "set_left", "void": true}                                            does nothing

It is run after its event, in the same transaction; so no script or remote can give the value. Source: sessions.md 1.1.
"""

import json
from dataclasses import dataclass
from typing import Any

# event -> what has happened
EVENTS: dict[str, str] = {
    "set_entered": "A session has entered the set that the token defines.",
    "set_left": "A session has left the set that the token defines.",
    "token_added": "A token was put into the set that the token defines.",
    "token_removed": "A token was taken out of the set that the token defines.",
    "child_added": "A set was put below the set that the token defines.",
    "link_created": "A link from the set that the token defines was made.",
    "token_entered": "The token itself was put into a set.",
    "token_left": "The token itself was taken out of a set.",
    "value_changed": "A value of the token was written: of any attribute but the target, or of the one named by `of`.",
}
_EFFECTS = ("change", "switch", "void")
_MEMBERS = frozenset(("event", "of", "target", *_EFFECTS))


@dataclass(frozen=True, slots=True)
class Action:
    """An action.

    `change` is `{"value": constant}` or `{"attribute": name}`, `switch` on or off; with neither it does nothing.
    """

    event: str
    of: str | None = None
    target: str | None = None
    change: dict[str, Any] | None = None
    switch: bool | None = None

    @property
    def copied(self) -> str | None:
        """The attribute whose value the target is given."""
        return self.change.get("attribute") if self.change else None

    def listens_to(self, event: str, changed: str | None) -> bool:
        """Tell whether it is run after an event, when `changed` is the attribute whose value was written."""
        if self.event != event:
            return False
        return changed is None or (changed != self.target if self.of is None else changed == self.of)


def parsed(value: Any) -> Action:
    """Return the action that a value of the type `action` stands for."""
    return Action(**{name: part for name, part in value.items() if name != "void"})


def fault(value: Any) -> str | None:
    """Return what is wrong with a value that is to be an action; None when nothing is."""
    if not isinstance(value, dict):
        return "an action is an object with `event`, `target`, and one of `change`, `switch` and `void`"
    unknown = sorted(set(value) - _MEMBERS)
    if unknown:
        return f"{unknown[0]!r} is no member of an action: those are {', '.join(sorted(_MEMBERS))}"
    if value.get("event") not in EVENTS:
        return f"no action listens to {json.dumps(value.get('event'))[:80]}: only to {', '.join(EVENTS)}"
    effects = [name for name in _EFFECTS if name in value]
    if len(effects) != 1:
        return f"an action has exactly one of {', '.join(_EFFECTS)}"
    return _wrong_names(value, effects[0]) or _wrong_effect(effects[0], value[effects[0]])


def _wrong_names(value: dict[str, Any], effect: str) -> str | None:
    if ("target" in value) != (effect != "void"):
        return "`target` names the attribute it changes or switches; a void action has none"
    if "of" in value and value["event"] != "value_changed":
        return "`of` names the attribute that changes: for value_changed alone"
    wrong = [name for name in ("target", "of") if name in value and not isinstance(value[name], str)]
    return f"`{wrong[0]}` is the name of an attribute of the same token" if wrong else None


def _wrong_effect(effect: str, value: Any) -> str | None:
    if effect == "void":
        return None if value is True else "`void` is true"
    if effect == "switch":
        return None if isinstance(value, bool) else "`switch` is true for on, false for off"
    if not isinstance(value, dict) or len(value) != 1:
        return '`change` is {"value": ...} or {"attribute": name}'
    kind, given = next(iter(value.items()))
    if kind in ("script", "remote"):
        return f"a {kind} cannot give an action its value: it would have to be asked inside a transaction"
    if kind == "attribute":
        return None if isinstance(given, str) else "`change.attribute` is the name of an attribute of the same token"
    return None if kind == "value" else f"{kind!r} is neither `value` nor `attribute`"
