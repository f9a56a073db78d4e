"""Rows of contexts: what a user's sessions share.

Source: seeds.md P6, P7; heroscript.md 10.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from core.errors import QuotaExceeded
from heroscript import OurTime, Params
from store import Clock, Tx


def read(given: dict[str, Any] | str | None) -> dict[str, Any]:
    """Return the object; of heroscript, each argument stands under its own name with the value ''.

    Raises ParseError.
    """
    if not isinstance(given, str):
        return given or {}
    params = Params.parse(given)
    return {**dict.fromkeys(params.args, ""), **params.get_map()}


def moment(text: str, clock: Clock) -> int | None:
    """Return an absolute or relative time as UTC milliseconds; None for an empty text. Raises MalformedTime."""
    return OurTime.parse(text, OurTime(clock.now_ms() // 1000)).unix * 1000 if text.strip() else None


_COLUMNS = "user_id, name, number, coderoot, params, params_by, is_interactive, created_at"


@dataclass(frozen=True, slots=True)
class Context:
    """A row of `contexts`; `params` is JSON text."""

    user_id: str
    name: str
    number: int
    coderoot: str | None
    params: str
    params_by: str
    is_interactive: int
    created_at: int

    @property
    def id(self) -> str:
        """What a page of contexts goes on after."""
        return self.name


def count(tx: Tx, user_id: str) -> int:
    """Return how many contexts a user has."""
    row = tx.one("SELECT count(*) FROM contexts WHERE user_id = ?", user_id)
    return int(row[0]) if row else 0


def ensure(tx: Tx, user_id: str, name: str, most: int) -> Context:
    """Return the user's context, making it when it is not there and there are not `most`. Raises QuotaExceeded."""
    found = find(tx, user_id, name)
    if found is not None:
        return found
    used = count(tx, user_id)
    if used >= most:
        raise QuotaExceeded("max_contexts_per_user", most, used, "take one of those that contexts.list shows")
    (number,) = tx.one("SELECT coalesce(max(number), -1) + 1 FROM contexts WHERE user_id = ?", user_id) or (0,)
    made = Context(user_id, name, number, None, "{}", "[]", 1, tx.clock.now_ms())
    tx.run(
        f"INSERT INTO contexts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
        *(getattr(made, column) for column in Context.__slots__),
    )
    return made


def find(tx: Tx, user_id: str, name: str) -> Context | None:
    """Return the user's context, or None."""
    row = tx.one(f"SELECT {_COLUMNS} FROM contexts WHERE user_id = ? AND name = ?", user_id, name)  # noqa: S608
    return Context(*row) if row else None


def page(tx: Tx, user_id: str, limit: int, after: str | None) -> list[Context]:
    """Return up to `limit` contexts of a user, by name."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM contexts WHERE user_id = ? AND (? IS NULL OR name > ?) ORDER BY name LIMIT ?",  # noqa: S608
        user_id,
        after,
        after,
        limit,
    )
    return [Context(*row) for row in rows]


def update(tx: Tx, user_id: str, name: str, changes: dict[str, Any], most: int) -> Context:
    """Change coderoot, params with params_by, or is_interactive, and return the context."""
    current = ensure(tx, user_id, name, most)
    tx.run(
        "UPDATE contexts SET coderoot = ?, params = ?, params_by = ?, is_interactive = ?"
        " WHERE user_id = ? AND name = ?",
        changes.get("coderoot", current.coderoot),
        orjson.dumps(changes["params"]).decode() if "params" in changes else current.params,
        changes.get("params_by", current.params_by),
        int(changes.get("is_interactive", current.is_interactive)),
        user_id,
        name,
    )
    return ensure(tx, user_id, name, most)


def shown(context: Context) -> dict[str, Any]:
    """Return a context as it goes over the wire."""
    return {
        "id": context.number,
        "name": context.name,
        "coderoot": context.coderoot,
        "params": orjson.Fragment(context.params),
        "interactive": bool(context.is_interactive),
        "created_at": context.created_at,
    }
