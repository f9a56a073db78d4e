"""Rules: what may not happen to a token or a type of tokens; made, listed, deleted, asked before anything is written.

All that apply are asked, inside the transaction, from the remotest ancestor of the type to the token itself; every
refusal counts, and the first is told. One indexed statement finds them, and mostly finds none.

A rule decides by `{"allow": condition}` or `{"deny": condition}`, and conditions are made of one key each:

    {"attribute": {"name": "level", "of": "visitor", "minimum": 3}}   by value (`is`, `in`, `minimum`, `maximum`)
    {"about": "price"}                                                by the attribute to be changed or read
    {"type": "anna.ticket"}                                           by type of the token that comes
    {"group": "g_..."}                                                by group
    {"visited": ["set_...", ...]}                                     by sets the session was in before, all of them
    {"count": {"type": "anna.ticket", "where": "home", "minimum": 1}}   by what is there: `here` or `home`
    {"script": "sc_..."}, {"remote": "rm_..."}                        by what one of them answers
    {"all": [...]}, {"any": [...]}, {"not": condition}                by conditions

An attribute is `of` the `visitor`: the token that comes or goes, as it would be after what is about to happen; of the
same `token` as it is now; of the `set`: the token that defines the place; or of the `caller`: their user's token.

Source: sessions.md 1.2 (who may refuse), 2.14, 3.4.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from core import groups, types
from core.access import Place, Token, readable_token, rights, writable_token
from core.calls import NOTICES, Scene, core_call
from core.errors import BadRule, EventRefused, PassageChanged, RuleNotFound, SetNotFound, TooMany, TypeNotFound
from core.limits import source_of
from core.names import checked_name, sort_key
from store import Tx, new_id

MAX_DEPTH = 10
MAX_CONDITIONS = 100
MAX_COUNTS = 5  # each looks at all that stands in a set
_WHOSE = ("visitor", "token", "set", "caller")
_COMPARED = ("is", "in", "minimum", "maximum")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a script or remote said of a passage."""

    is_true: bool
    message: str | None = None


Answers = dict[str, Verdict]


@dataclass(frozen=True, slots=True)
class Coming:
    """A token as it would be after what is about to happen."""

    type: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Passer:
    """Who wants to pass: the token it is about, in whose name, in which session, at which set.

    `coming` is how that token would be afterwards, None when it stays as it is; `about` the attribute in question.
    """

    user_id: str
    token_id: str
    set_id: str
    session_id: str | None = None
    answers: Answers = field(default_factory=dict)
    coming: Coming | None = None
    about: str | None = None


def checked(decision: Any, allows_outside: bool) -> dict[str, Any]:
    """Return the decision if it makes sense. Raises BadRule with the place inside it.

    Args:
        allows_outside: scripts and remotes may decide.
    """
    if not isinstance(decision, dict) or len(decision) != 1 or next(iter(decision)) not in ("allow", "deny"):
        raise BadRule('a decision is {"allow": condition} or {"deny": condition}')
    mode = next(iter(decision))
    found = list(_walk(decision[mode], mode, 0))
    if len(found) > MAX_CONDITIONS:
        raise BadRule(f"it holds more than {MAX_CONDITIONS} conditions")
    if sum(kind == "count" for kind, _ in found) > MAX_COUNTS:
        raise BadRule(f"it counts more than {MAX_COUNTS} times")
    if not allows_outside and any(kind in ("script", "remote") for kind, _ in found):
        raise BadRule("a script or remote cannot decide this event: it is asked inside a transaction")
    return decision


def parts(condition: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return a condition and all inside it, as (kind, value)."""
    return list(_walk(condition, "condition", 0))


def sources(decision: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the scripts and remotes of a decision, as (kind, id)."""
    return [(kind, value) for kind, value in parts(next(iter(decision.values()))) if kind in ("script", "remote")]


def decide(tx: Tx, decision: dict[str, Any], passer: Passer) -> tuple[bool, str | None]:
    """Tell whether the decision lets the passer through, and what a script or remote said of it.

    Raises PassageChanged when one of these was not asked before.
    """
    mode = next(iter(decision))
    is_true = _is_true(tx, decision[mode], passer)
    said = [passer.answers[id].message for _, id in sources(decision) if id in passer.answers]
    return is_true == (mode == "allow"), next((message for message in said if message), None)


def _walk(condition: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MAX_DEPTH:
        raise BadRule(f"{place}: nested deeper than {MAX_DEPTH}")
    if not isinstance(condition, dict) or len(condition) != 1:
        raise BadRule(f"{place}: a condition is an object with one key")
    kind, value = next(iter(condition.items()))
    if kind not in _CHECKS:
        raise BadRule(f"{place}: {kind!r} is none of {', '.join(_CHECKS)}")
    reason = _CHECKS[kind](value)
    if reason is not None:
        raise BadRule(f"{place}.{kind}: {reason}")
    yield kind, value
    inner = value if kind in ("all", "any") else [value] if kind == "not" else []
    for number, part in enumerate(inner):
        yield from _walk(part, f"{place}.{kind}.{number}" if kind != "not" else f"{place}.not", depth + 1)


def _is_true(tx: Tx, condition: dict[str, Any], passer: Passer) -> bool:
    kind, value = next(iter(condition.items()))
    if kind == "all":
        return all([_is_true(tx, part, passer) for part in value])
    if kind == "any":
        return any([_is_true(tx, part, passer) for part in value])
    if kind == "not":
        return not _is_true(tx, value, passer)
    if kind in ("script", "remote"):
        if value not in passer.answers:
            raise PassageChanged
        return passer.answers[value].is_true
    return _TESTS[kind](tx, value, passer)


def _by_value(tx: Tx, wanted: dict[str, Any], passer: Passer) -> bool:
    found = _looked_at(tx, wanted.get("of", "visitor"), passer)
    held = found.values.get(wanted["name"]) if found else None
    if found and held is None:
        declared = types.attributes_of(tx, found.type).get(wanted["name"])
        held = declared.default if declared else None
    if "is" in wanted and held != wanted["is"]:
        return False
    if "in" in wanted and held not in wanted["in"]:
        return False
    return _is_between(held, wanted) if "minimum" in wanted or "maximum" in wanted else True


def _looked_at(tx: Tx, whose: str, passer: Passer) -> Coming | None:
    if whose == "visitor" and passer.coming is not None:
        return passer.coming
    if whose in ("visitor", "token"):
        row = tx.one("SELECT type, attributes FROM tokens WHERE id = ?", passer.token_id)
    else:
        table, id = ("users", passer.user_id) if whose == "caller" else ("sets", passer.set_id)
        row = tx.one(
            f"SELECT t.type, t.attributes FROM {table} s JOIN tokens t ON t.id = s.token_id WHERE s.id = ?",  # noqa: S608
            id,
        )
    return Coming(row[0], json.loads(row[1])) if row else None


def _is_between(held: Any, wanted: dict[str, Any]) -> bool:
    if not isinstance(held, int | float) or isinstance(held, bool):
        return False
    return bool(wanted.get("minimum", held) <= held <= wanted.get("maximum", held))


def _by_attribute(tx: Tx, name: str, passer: Passer) -> bool:
    return passer.about == name


def _by_type(tx: Tx, type: str, passer: Passer) -> bool:
    if passer.coming is not None:
        return types.is_a(tx, passer.coming.type, type)
    row = tx.one("SELECT type FROM tokens WHERE id = ?", passer.token_id)
    return row is not None and types.is_a(tx, row[0], type)


def _by_group(tx: Tx, group_id: str, passer: Passer) -> bool:
    return groups.contains(tx, group_id, passer.user_id)


def _by_visits(tx: Tx, set_ids: list[str], passer: Passer) -> bool:
    return all(
        tx.one("SELECT 1 FROM visits WHERE session_id = ? AND set_id = ?", passer.session_id, set_id) is not None
        for set_id in set_ids
    )


def _by_count(tx: Tx, wanted: dict[str, Any], passer: Passer) -> bool:
    set_id: str | None = passer.set_id
    if wanted.get("where") == "home":
        row = tx.one("SELECT home_set_id FROM users WHERE id = ?", passer.user_id)
        set_id = row[0] if row else None
    row = tx.one(
        "SELECT count(*) FROM members m JOIN tokens t ON t.id = m.token_id WHERE m.set_id = ? AND (t.type = ?"
        " OR EXISTS (SELECT 1 FROM type_ancestors y WHERE y.type = t.type AND y.ancestor = ?))"
        " AND (? IS NULL OR m.sort = ?)",
        *(set_id, wanted["type"], wanted["type"]),
        *((sort_key(wanted["name"]) if "name" in wanted else None,) * 2),
    )
    return _is_between(row[0] if row else 0, {"minimum": wanted.get("minimum", 0), **wanted})


def _names(value: Any, required: tuple[str, ...], optional: dict[str, tuple[type, ...]]) -> str | None:
    if not isinstance(value, dict):
        return "it must be an object"
    for name in required:
        if not isinstance(value.get(name), str) or not value[name]:
            return f"it needs {name!r}"
    for name, held in value.items():
        if name not in required and name not in optional:
            return f"{name!r} is not known here"
        kinds = optional.get(name, (str,))
        if kinds and (not isinstance(held, kinds) or (isinstance(held, bool) and bool not in kinds)):
            return f"{name!r} is of the wrong kind"
    return None


def _check_value(value: Any) -> str | None:
    wanted: dict[str, tuple[type, ...]] = {"of": (str,), "is": (), "in": (list,)}
    reason = _names(value, ("name",), {**wanted, "minimum": (int, float), "maximum": (int, float)})
    if reason is None and value.get("of", "visitor") not in _WHOSE:
        return f"'of' must be one of {', '.join(_WHOSE)}"
    if reason is None and not any(name in value for name in _COMPARED):
        return f"it needs one of {', '.join(_COMPARED)}"
    return reason


def _check_count(value: Any) -> str | None:
    optional: dict[str, tuple[type, ...]] = {"where": (str,), "name": (str,), "minimum": (int,), "maximum": (int,)}
    reason = _names(value, ("type",), optional)
    if reason is None and value.get("where", "here") not in ("here", "home"):
        return "'where' must be here or home"
    if reason is None and "minimum" not in value and "maximum" not in value:
        return "it needs minimum or maximum"
    return reason


def _check_text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "it must be text"


def _check_texts(value: Any) -> str | None:
    is_list = isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)
    return None if is_list and len(value) <= MAX_CONDITIONS else "it must be a list of ids"


def _check_list(value: Any) -> str | None:
    return None if isinstance(value, list) and 0 < len(value) <= MAX_CONDITIONS else "it must be a list of conditions"


def _check_source(kind: str) -> Callable[[Any], str | None]:
    return lambda value: None if source_of({kind: value}) else f"it must be the id of a {kind}"


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "attribute": _check_value,
    "about": _check_text,
    "type": _check_text,
    "group": _check_text,
    "visited": _check_texts,
    "count": _check_count,
    "script": _check_source("script"),
    "remote": _check_source("remote"),
    "all": _check_list,
    "any": _check_list,
    "not": lambda value: None if isinstance(value, dict) else "it must be a condition",
}
_TESTS: dict[str, Callable[[Tx, Any, Passer], bool]] = {
    "attribute": _by_value,
    "about": _by_attribute,
    "type": _by_type,
    "group": _by_group,
    "visited": _by_visits,
    "count": _by_count,
}


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
    return [_rule(row[:-1]) for row in rows]


def first_refusal(tx: Tx, found: list[Rule], passer: Passer) -> Refusal | None:
    """Ask every rule and return the first refusal, None when all let the passer through."""
    refusals = []
    for one in found:
        is_allowed, said = decide(tx, one.decision, passer)
        if not is_allowed:
            refusals.append((one.name, said or one.message))
    return Refusal(*refusals[0], len(refusals)) if refusals else None


def of_set(scene: Scene, event: str, place: Place) -> list[Rule]:
    """Return the rules that decide what is done to a set: those of its defining token."""
    return applying(scene.tx, place.token_id, place.type, event)


def ask_set(scene: Scene, place: Place, found: list[Rule], token_id: str, coming: Coming | None = None) -> None:
    """Have rules of a set decide about one token. Raises EventRefused.

    Args:
        coming: the token, when it is still to be made.
    """
    refused = (
        first_refusal(scene.tx, found, Passer(scene.user_id, token_id, place.id, coming=coming)) if found else None
    )
    if refused is not None:
        raise EventRefused(found[0].event, place.name, *_told(refused), set_id=place.id)


def guard_set(scene: Scene, event: str, place: Place, token_id: str, coming: Coming | None = None) -> None:
    """Have the rules of a set decide what is about to be done to it with a token; see `ask_set`."""
    ask_set(scene, place, of_set(scene, event, place), token_id, coming)


def guard_token(scene: Scene, event: str, token: Token) -> None:
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


def guard_change(scene: Scene, token: Token, attribute: str, values: dict[str, Any], set_id: str | None = None) -> None:
    """Have a token's rules decide whether an attribute changes, and its values become these. Raises EventRefused."""
    found = applying(scene.tx, token.id, token.type, "value_changing")
    if found:
        coming = Coming(token.type, values)
        _refuse(scene, found, token.name, Passer(scene.user_id, token.id, set_id or "", coming=coming, about=attribute))


def hides(scene: Scene, found: list[Rule], token: Token, attribute: str, set_id: str | None) -> bool:
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


def _rule(row: tuple[Any, ...]) -> Rule:
    """Return a row of `rules`."""
    id, owner_id, token_id, type, event, name, decision, message = row
    return Rule(id, owner_id, token_id, type, event, name, json.loads(decision), message)


def _refuse(scene: Scene, found: list[Rule], name: str, passer: Passer) -> None:
    refused = first_refusal(scene.tx, found, passer)
    if refused is not None:
        raise EventRefused(found[0].event, name, *_told(refused), token_id=passer.token_id or None)


def _told(refused: Refusal) -> tuple[str, str, int]:
    return refused.rule, refused.message, refused.count


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
    """Make a rule on a token the caller may write, or on a type of theirs, and return its id.

    Args:
        event: one of core.event.list, or `custom.WORD`.
        decision: `{"allow": condition}` or `{"deny": condition}`.
        name, message: what whoever is refused is told.
    """
    if (token_id is None) == (type is None):
        raise BadRule("it stands on a token_id or on a type, one of them")
    if token_id is not None and event == "token_creating":
        raise BadRule("a token that is there was made before: token_creating stands on a type")
    decision = checked(decision, _check_event(event))
    if token_id is not None:
        writable_token(scene, token_id)
    elif type is not None:
        types.owned(scene, type)
    _check_references(scene, decision)
    column = "type" if token_id is None else "token_id"
    row = scene.tx.one(f"SELECT count(*) FROM rules WHERE {column} = ?", token_id or type)  # noqa: S608 (constants)
    if row and row[0] >= MAX_RULES:
        raise TooMany("rules of one thing", MAX_RULES)
    rule_id = new_id("rl_")
    scene.tx.run(
        f"INSERT INTO rules ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
        *(rule_id, scene.user_id, token_id, type, event, checked_name(name or event), json.dumps(decision)),
        *(message or "its rules do not let you.", scene.tx.clock.now_ms()),
    )
    scene.say("rule_created", token_id=token_id)
    return rule_id


@core_call("core.rule.list", is_reading=True)
def list_(scene: Scene, token_id: str | None = None, type: str | None = None) -> list[Rule]:
    """Return the rules of a token the caller may write, of a type of theirs, or all they made, the oldest first."""
    if token_id is not None:
        writable_token(scene, token_id)
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
    """Delete a rule the caller made, or one on a token of theirs."""
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
    token = readable_token(scene, token_id)
    return applying(scene.tx, token.id, token.type, event)


@core_call("core.event.ask", is_reading=True)
def ask(scene: Scene, event: str, token_id: str, answers: Answers) -> None:
    """Have the rules of a token decide a custom event. Raises EventRefused."""
    token = readable_token(scene, token_id)
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
    for kind, value in parts(decision[mode]):
        if kind in ("script", "remote"):
            types.require_source(scene, kind, value)
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
