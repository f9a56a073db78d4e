"""Rules: what may not happen to a token or a type of tokens, made, listed and deleted; `core.guards` asks them.

All that apply are asked, from the remotest ancestor of the type to the token itself; every refusal counts, and the
first is told. Source: sessions.md 1.2, 2.14.
"""

import json
from typing import Any

from core import conditions, groups, tokens, types
from core.access import rights
from core.attributes import require
from core.calls import Scene, core_call
from core.conditions import Answers, Passer
from core.errors import BadRule, EventRefused, RuleNotFound, SetNotFound, TooMany, TypeNotFound
from core.guards import COLUMNS, EVENTS, Rule, applying, first_refusal, rule
from core.names import checked_name
from core.notices import NOTICES
from store import new_id

CUSTOM = "custom."
MAX_RULES = 50  # all are asked, inside the transaction that moves


@core_call("core.rule.create")
def create(
    scene: Scene,
    event: str,
    decision: dict[str, Any],
    *,
    token_id: str | None = None,
    type: str | None = None,
    name: str = "",
    message: str = "",
) -> str:
    """Make a rule on a token the caller may write, or on a type of his, and return its id.

    Args:
        event: one of core.event.list, or `custom.WORD`.
        decision: `{"allow": condition}` or `{"deny": condition}`; see core.conditions.
        name, message: what whoever is refused is told.
    """
    if (token_id is None) == (type is None):
        raise BadRule("it stands on a token_id or on a type, one of them")
    if token_id is not None and event == "token_creating":
        raise BadRule("a token that is there was made before: token_creating stands on a type")
    checked = conditions.checked(decision, _check_event(event))
    if token_id is not None:
        tokens.writable(scene, token_id)
    elif type is not None:
        types.owned(scene, type)
    _check_references(scene, checked)
    column = "type" if token_id is None else "token_id"
    row = scene.tx.one(f"SELECT count(*) FROM rules WHERE {column} = ?", token_id or type)  # noqa: S608 (constants)
    if row and row[0] >= MAX_RULES:
        raise TooMany("rules of one thing", MAX_RULES)
    rule_id = new_id("rl_")
    scene.tx.run(
        f"INSERT INTO rules ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
        *(rule_id, scene.user_id, token_id, type, event, checked_name(name or event), json.dumps(checked)),
        *(message or "its rules do not let you.", scene.tx.clock.now_ms()),
    )
    scene.say("rule_created", token_id=token_id)
    return rule_id


@core_call("core.rule.list", is_reading=True)
def list_(scene: Scene, token_id: str | None = None, type: str | None = None) -> list[Rule]:
    """Return the rules of a token the caller may write, of a type of his, or all he made, the oldest first."""
    if token_id is not None:
        tokens.writable(scene, token_id)
    elif type is not None:
        types.owned(scene, type)
    column = "token_id" if token_id is not None else "type" if type is not None else "owner_id"
    rows = scene.tx.all(
        f"SELECT {COLUMNS} FROM rules WHERE {column} = ? ORDER BY id LIMIT 1000",  # noqa: S608 (constants)
        token_id or type or scene.user_id,
    )
    return [rule(row) for row in rows]


@core_call("core.rule.delete")
def delete(scene: Scene, rule_id: str) -> None:
    """Delete a rule the caller made, or one on a token of his."""
    row = scene.tx.one(
        "SELECT r.owner_id, coalesce(t.owner_id, '') FROM rules r LEFT JOIN tokens t ON t.id = r.token_id"
        " WHERE r.id = ?",
        rule_id,
    )
    if row is None or scene.user_id not in row:
        raise RuleNotFound(rule_id)
    scene.tx.run("DELETE FROM rules WHERE id = ?", rule_id)


@core_call("core.event.list", is_reading=True)
def events(scene: Scene) -> dict[str, str]:
    """Return every event with what happens at each; `custom.WORD` is yours to send.

    Those that end in `ing` are decided by rules before they happen; the others are told afterwards.
    """
    return {**{name: doc for name, (_, doc) in EVENTS.items()}, **NOTICES}


@core_call("core.event.rules", is_reading=True)
def deciding(scene: Scene, event: str, token_id: str) -> list[Rule]:
    """Return the rules that decide an event of a user's own at a token the caller can read."""
    if not event.startswith(CUSTOM):
        raise BadRule(f"{event[:80]!r} is not an event to send: those are `custom.WORD`")
    _check_event(event)
    token = tokens.readable(scene, token_id)
    return applying(scene.tx, token.id, token.type, event)


@core_call("core.event.ask", is_reading=True)
def ask(scene: Scene, event: str, token_id: str, answers: Answers) -> None:
    """Have the rules of a token decide a custom event. Raises EventRefused."""
    token = tokens.readable(scene, token_id)
    passer = Passer(scene.user_id, token_id, "", None, answers)
    refused = first_refusal(scene.tx, applying(scene.tx, token.id, token.type, event), passer)
    if refused is not None:
        raise EventRefused(event, token.name, refused.rule, refused.message, refused.count, token_id=token_id)


def _check_event(event: str) -> bool:
    if event in EVENTS:
        return EVENTS[event][0]
    if event.startswith(CUSTOM) and types.WORD.fullmatch(event.removeprefix(CUSTOM)):
        return True
    raise BadRule(f"there is no event {event[:80]!r}: core.event.list names them, and `custom.WORD` is free")


def _check_references(scene: Scene, decision: dict[str, Any]) -> None:
    mode = next(iter(decision))
    for kind, value in conditions.parts(decision[mode]):
        if kind in ("script", "remote"):
            require(scene, kind, value)
        elif kind == "group":
            groups.require(scene, value)
        elif kind in ("type", "count"):
            name = value if kind == "type" else value["type"]
            if not types.is_standard(name) and types.find(scene.tx, name) is None:
                raise TypeNotFound(name)
        elif kind == "visited":
            for set_id in value:
                _check_readable(scene, set_id)


def _check_readable(scene: Scene, set_id: str) -> None:
    row = scene.tx.one(
        "SELECT t.id, t.owner_id, t.is_public FROM sets s JOIN tokens t ON t.id = s.token_id WHERE s.id = ?", set_id
    )
    if row is None or not rights(scene.tx, scene.user_id, *row).can_read:
        raise SetNotFound(set_id)
