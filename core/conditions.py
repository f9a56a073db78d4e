"""What a rule decides by: `{"allow": condition}` or `{"deny": condition}`, and conditions made of one key each.

    {"attribute": {"name": "level", "of": "visitor", "minimum": 3}}   by value (`is`, `in`, `minimum`, `maximum`)
    {"about": "price"}                                                by the attribute to be changed or read
    {"type": "anna.ticket"}                                           by type of the token that comes
    {"group": "g_..."}                                                by group
    {"visited": ["set_...", ...]}                                     by sets the session was in before, all of them
    {"count": {"type": "anna.ticket", "where": "home", "minimum": 1}}   by what is there: `here` or `home`
    {"script": "sc_..."}, {"remote": "rm_..."}                        by what one of them answers
    {"all": [...]}, {"any": [...]}, {"not": condition}                by conditions

An attribute is `of` the `visitor`: the token that comes or goes, as it would be after what is about to happen; of the
same `token` as it is now; of the `set`: the token that defines the place; or of the `caller`: his user's token.

Source: sessions.md 1.2 (who may refuse).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from core import groups, types
from core.errors import BadRule, PassageChanged
from core.limits import source_of
from core.names import sort_key
from store import Tx

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
        from core import attributes

        declared = attributes.of_type(tx, found.type).get(wanted["name"])
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
