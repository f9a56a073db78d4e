"""What the attributes of tokens hold, everywhere or in one set, whoever asks.

A value everywhere stands with the token; a value in one set, and whether an attribute is on, in `live_values`.
Source: sessions.md 1.1.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core import attributes, tokens
from core.attributes import Attribute
from core.errors import AttributeNotFound
from core.standard import NAMES
from core.tokens import Token
from store import Tx, now_ms


@dataclass(frozen=True, slots=True)
class Held:
    """What one attribute of one token holds in one set. It is off where itself or a parent of it is turned off."""

    name: str
    value: Any
    is_on: bool
    declared: Attribute | None


def look(tx: Tx, token: Token, attribute: str, set_id: str | None) -> Held:
    """Return what the attribute holds there. Raises AttributeNotFound for one its type does not have."""
    declared = attributes.of_type(tx, token.type)
    # A token of a standard type carries what it likes; one of a user's type what its type and every token has.
    if attribute not in declared and "." in token.type and attribute not in NAMES:
        raise AttributeNotFound(attribute)
    found = declared.get(attribute)
    value = token.values.get(attribute, found.default if found else None)
    off: set[str] = set()
    for name, place, text, on in _rows(tx, token.id, _relevant(tx, declared, attribute), set_id):
        if name == attribute and place and text is not None:
            value = json.loads(text)
        if not on:
            off.add(name)
    return Held(attribute, value, not off, found)


def everything(tx: Tx, token: Token, set_id: str | None) -> list[Held]:
    """Return all that the token holds there, as it holds it: defaults first, then what it was given."""
    declared = attributes.of_type(tx, token.type)
    values = {**attributes.defaults(declared), **token.values}
    off: set[str] = set()
    rows = tx.all(
        "SELECT attribute, set_id, value, is_on FROM live_values WHERE token_id = ? AND set_id IN ('', ?)",
        *(token.id, set_id or ""),
    )
    for name, place, text, on in rows:
        if place and text is not None:
            values[name] = json.loads(text)
        if not on:
            off.add(name)
    return [
        Held(name, value, not off or off.isdisjoint(_relevant(tx, declared, name)), declared.get(name))
        for name, value in values.items()
    ]


def put(tx: Tx, token: Token, attribute: str, value: Any, set_id: str | None) -> None:
    """Have the attribute hold a value from now on, in one set or everywhere; None takes it away."""
    if set_id is None:
        values = {name: held for name, held in {**token.values, attribute: value}.items() if held is not None}
        tokens.store_values(tx, token.id, values)
        return
    tx.run(
        "INSERT INTO live_values (token_id, attribute, set_id, value, is_on, updated_at) VALUES (?, ?, ?, ?, 1, ?)"
        " ON CONFLICT (token_id, attribute, set_id) DO UPDATE SET value = excluded.value,"
        " updated_at = excluded.updated_at",
        *(token.id, attribute, set_id, None if value is None else json.dumps(value), now_ms()),
    )


def switch(tx: Tx, token_id: str, attribute: str, is_on: bool, set_id: str | None) -> None:
    """Turn the attribute on or off, in one set or everywhere."""
    tx.run(
        "INSERT INTO live_values (token_id, attribute, set_id, value, is_on, updated_at) VALUES (?, ?, ?, NULL, ?, ?)"
        " ON CONFLICT (token_id, attribute, set_id) DO UPDATE SET is_on = excluded.is_on,"
        " updated_at = excluded.updated_at",
        *(token_id, attribute, set_id or "", int(is_on), now_ms()),
    )


def check_siblings(tx: Tx, token: Token, attribute: str, value: Any, set_id: str | None) -> None:
    """Raise BadValue unless the token's attributes still go together once this one holds the value.

    One that changes everywhere is looked at in each set that has values of its own, too.
    """
    declared = attributes.of_type(tx, token.type)
    if not any(one.relations.required_siblings or one.relations.forbidden_siblings for one in declared.values()):
        return
    everywhere, there = token.values, _own_values(tx, token.id)
    changed = everywhere if set_id is None else there.setdefault(set_id, {})
    changed[attribute] = value
    if value is None:
        del changed[attribute]
    for own in [{}, *there.values()] if set_id is None else [there[set_id]]:
        attributes.check_siblings(declared, {**attributes.defaults(declared), **everywhere, **own})


def _own_values(tx: Tx, token_id: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    rows = tx.all("SELECT set_id, attribute, value FROM live_values WHERE token_id = ? AND value IS NOT NULL", token_id)
    for set_id, name, text in rows:
        found.setdefault(set_id, {})[name] = json.loads(text)
    return found


def _relevant(tx: Tx, declared: dict[str, Attribute], name: str) -> list[str]:
    """Return the attribute and those of its parents that the same token carries."""
    found = declared.get(name)
    if found is None or found.parent_id is None:
        return [name]
    parents = attributes.lineage(tx, found)[1:]
    return [name, *(one.name for one in parents if one.name in declared and declared[one.name].id == one.id)]


def _rows(tx: Tx, token_id: str, names: Iterable[str], set_id: str | None) -> list[tuple[Any, ...]]:
    return [
        row
        for name in names
        for row in tx.all(
            "SELECT attribute, set_id, value, is_on FROM live_values"
            " WHERE token_id = ? AND attribute = ? AND set_id IN ('', ?)",
            *(token_id, name, set_id or ""),
        )
    ]
