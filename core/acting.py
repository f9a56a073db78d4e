"""Runs the actions of a token after an event, in the transaction of what happened. Source: sessions.md 1.1 (action).

An action cannot undo its event: one whose value does not fit, whose target is off or kept as it is by a rule, or that
would have to ask a script or remote does nothing. One that would set itself off again is stopped silently.
"""

from typing import Any

from core import attributes, held, tokens
from core.actions import Action, parsed
from core.attributes import ACTION, Attribute
from core.calls import Scene
from core.errors import BadValue, EventRefused
from core.guards import guard_change
from core.limits import source_of
from core.standard import check_free
from core.tokens import Token


def act(
    scene: Scene,
    event: str,
    token_id: str,
    type: str,
    changed: str | None = None,
    set_id: str | None = None,
    running: frozenset[str] = frozenset(),
) -> None:
    """Run what the token's attributes hold as actions for an event, in the order of their names.

    Args:
        changed: the attribute whose value was written.
        set_id: where that value holds; the actions' targets change there, too.
        running: the actions that led to the event, each of which is run once.
    """
    # A plain word's tokens, users' and most sets' among them, have no actions: nothing is looked up for these.
    declared = attributes.of_type(scene.tx, type)
    if not any(attribute.value_type == ACTION for attribute in declared.values()):
        return
    token = tokens.find(scene.tx, token_id)
    if token is None:
        return
    due = [
        (one.name, parsed(one.value))
        for one in held.everything(scene.tx, token, set_id)
        if one.declared is not None and one.declared.value_type == ACTION and one.is_on and one.value is not None
    ]
    due = [(name, action) for name, action in due if name != changed and action.listens_to(event, changed)]
    for name, action in sorted(due, key=lambda pair: pair[0]):
        if name not in running:
            _run(scene, token_id, declared, action, set_id, running | {name})


def _run(
    scene: Scene,
    token_id: str,
    declared: dict[str, Attribute],
    action: Action,
    set_id: str | None,
    running: frozenset[str],
) -> None:
    tx = scene.tx
    token = tokens.find(tx, token_id)
    if token is None or action.target is None:
        return
    if action.switch is not None:
        if _is_let(scene, token, action.target, token.values, set_id):
            held.switch(tx, token_id, action.target, action.switch, set_id)
            _changed(scene, token_id, action.target, set_id)
    elif _change(scene, token, declared, action, set_id):
        _changed(scene, token_id, action.target, set_id)
        act(scene, "value_changed", token_id, token.type, action.target, set_id, running)


def _change(scene: Scene, token: Token, declared: dict[str, Attribute], action: Action, set_id: str | None) -> bool:
    tx = scene.tx
    target = held.look(tx, token, action.target or "", set_id)
    value = (action.change or {}).get("value")
    if action.copied is not None:
        copied = held.look(tx, token, action.copied, set_id)
        value = copied.value if copied.is_on else target.value
    if not target.is_on or value == target.value or source_of(value) or source_of(target.value):
        return False
    try:
        if target.declared is not None:
            attributes.checked(tx, declared, target.name, value)
        else:
            check_free(tx, target.name, value)
        held.check_siblings(tx, token, target.name, value, set_id)
    except BadValue:
        return False  # what the target held before is as good as it gets: the event has happened all the same
    if not _is_let(scene, token, target.name, {**token.values, target.name: value}, set_id):
        return False
    held.put(tx, token, target.name, value, set_id)
    return True


def _is_let(scene: Scene, token: Token, attribute: str, values: dict[str, Any], set_id: str | None) -> bool:
    try:
        guard_change(scene, token, attribute, values, set_id)
    except EventRefused:
        return False  # a rule keeps the value as it is: an action cannot undo its event
    return True


def _changed(scene: Scene, token_id: str, attribute: str, set_id: str | None) -> None:
    tokens.touch(scene.tx, token_id)
    scene.say("value_changed", set_id=set_id, token_id=token_id, attribute=attribute)
