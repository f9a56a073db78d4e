"""Rules: what may not happen to a token or a type of tokens, and at which event they are asked.

All that apply are asked, from the remotest ancestor of the type to the token itself; every refusal counts, and the
first is told. Source: sessions.md 1.2, 2.14.
"""

import json
from dataclasses import dataclass
from typing import Any

from core import conditions, groups, tokens, types
from core.access import rights
from core.calls import Scene, core_call
from core.conditions import Answers, Passer
from core.errors import BadRule, EventRefused, RuleNotFound, SetNotFound, TooMany, TypeNotFound
from core.names import checked_name
from core.sources import require
from store import Tx, new_id, now_ms

# event -> (whether scripts and remotes may decide it, what happens)
EVENTS: dict[str, tuple[bool, str]] = {
    "set_entering": (True, "A session is about to enter the set that the token defines."),
    "set_leaving": (True, "A session is about to leave the set that the token defines."),
    "token_adding": (False, "A token is about to be put into the set that the token defines."),
    "token_removing": (False, "A token is about to be taken out of the set that the token defines."),
    "child_adding": (False, "A set is about to be put below the set that the token defines."),
    "link_creating": (False, "A link from the set that the token defines is about to be made."),
}
CUSTOM = "custom."
MAX_RULES = 50  # all are asked, inside the transaction that moves
COLUMNS = "id, owner_id, token_id, type, event, name, decision, message"


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
        *(message or "its rules do not let you.", now_ms()),
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
    return [_rule(row) for row in rows]


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
    """Return the events that rules decide, with what happens at each; `custom.WORD` is yours to send."""
    return {name: doc for name, (_, doc) in EVENTS.items()}


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
        raise EventRefused("", token.name, refused.rule, refused.message)


def applying(tx: Tx, token_id: str, type: str, event: str) -> list[Rule]:
    """Return the rules that decide the event for a token, from the remotest ancestor of its type to itself."""
    found = []
    for ancestor in types.line(tx, type)[::-1] if "." in type else ():
        rows = tx.all(
            f"SELECT {COLUMNS} FROM rules WHERE type = ? AND event = ? ORDER BY id",  # noqa: S608 (a constant)
            *(ancestor, event),
        )
        found += [_rule(row) for row in rows]
    rows = tx.all(
        f"SELECT {COLUMNS} FROM rules WHERE token_id = ? AND event = ? ORDER BY id",  # noqa: S608 (a constant)
        *(token_id, event),
    )
    return found + [_rule(row) for row in rows]


def first_refusal(tx: Tx, found: list[Rule], passer: Passer) -> Refusal | None:
    """Ask every rule and return the first refusal, None when all let the passer through."""
    refusals = []
    for rule in found:
        is_allowed, said = conditions.decide(tx, rule.decision, passer)
        if not is_allowed:
            refusals.append((rule.name, said or rule.message))
    return Refusal(*refusals[0], len(refusals)) if refusals else None


def guard(tx: Tx, event: str, set_id: str, token_id: str, user_id: str) -> None:
    """Have the rules of a set's defining token decide what is done to the set. Raises EventRefused."""
    row = tx.one("SELECT t.id, t.type, t.name FROM sets s JOIN tokens t ON t.id = s.token_id WHERE s.id = ?", set_id)
    if row is None:
        raise SetNotFound(set_id)
    found = applying(tx, row[0], row[1], event)
    refused = first_refusal(tx, found, Passer(user_id, token_id, set_id)) if found else None
    if refused is not None:
        raise EventRefused(set_id, row[2], refused.rule, refused.message)


def any_asks(tx: Tx) -> bool:
    """Tell whether any rule for entering or leaving asks a script or remote."""
    row = tx.one(
        "SELECT 1 FROM rules WHERE event IN ('set_entering', 'set_leaving')"
        " AND (instr(decision, '\"script\"') > 0 OR instr(decision, '\"remote\"') > 0) LIMIT 1"
    )
    return row is not None


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
            groups.require(scene.tx, value)
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


def _rule(row: tuple[Any, ...]) -> Rule:
    id, owner_id, token_id, type, event, name, decision, message = row
    return Rule(id, owner_id, token_id, type, event, name, json.loads(decision), message)
