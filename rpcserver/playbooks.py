"""The rows of a session's playbook: its actions, their priorities, and the words that stand for `{NAME}`.

An action is kept as the heroscript it is; reading it again gives the same. Source: seeds/play-session.md.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from play import Action, PlayBook, parse
from play.action import DEFAULT_PRIORITY
from play.filters import ActionFilter
from store import Tx

_COLUMNS = (
    "session_id, number, actor, name, text, priority, file, line, state, handled_by, result, error, job_id, asked,"
    " started_at, finished_at, authority"
)
_OVER = "('done', 'withdrawn')"


@dataclass(frozen=True, slots=True)
class Step:
    """A row of `playbook_actions`; `result`, `error` and `authority` are JSON text, times UTC milliseconds."""

    session_id: str
    number: int
    actor: str
    name: str
    text: str
    priority: int
    file: str
    line: int
    state: str
    handled_by: str | None
    result: str | None
    error: str | None
    job_id: str | None
    asked: int
    started_at: int | None
    finished_at: int | None
    authority: str

    @property
    def title(self) -> str:
        """`actor.name`."""
        return f"{self.actor}.{self.name}"

    @property
    def place(self) -> str:
        """Where it was written: file and line."""
        return f"{self.file or '<text>'}:{self.line}"

    @property
    def action(self) -> Action:
        """The action itself, with its number in the playbook."""
        action = parse(self.text, file=self.file, first_id=self.number, priority=self.priority).actions[0]
        action.line = self.line
        action.done = self.state == "done"
        return action


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended: its result or its error, who handled it, and how many questions were put until then.

    `is_withdrawn`: it was not played, and never will be.
    """

    handled_by: str | None
    result: Any = None
    error: dict[str, Any] | None = None
    asked: int = 0
    is_withdrawn: bool = False

    @property
    def state(self) -> str:
        """What the action is then."""
        if self.is_withdrawn:
            return "withdrawn"
        return "done" if self.error is None else "failed"


def add(tx: Tx, session_id: str, actions: Sequence[Action], authority: str) -> int:
    """Put actions behind those there are, and return the number of the first; includes that were followed are done.

    Args:
        authority: by whose credentials they are brought, as rows have it.
    """
    first = _next(tx, session_id)
    tx.many(
        "INSERT INTO playbook_actions (session_id, number, actor, name, text, priority, file, line, state,"
        " authority) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*_written(session_id, number, action), authority) for number, action in enumerate(actions, first)],
    )
    return first


def as_added(tx: Tx, session_id: str, actions: Sequence[Action]) -> dict[int, Step]:
    """Return by number what the rows would be if these actions were added."""
    rest = (None, None, None, None, 0, None, None, "[]")
    numbered = enumerate(actions, _next(tx, session_id))
    return {number: Step(*_written(session_id, number, action), *rest) for number, action in numbered}


def _next(tx: Tx, session_id: str) -> int:
    row = tx.one("SELECT coalesce(max(number), 0) FROM playbook_actions WHERE session_id = ?", session_id)
    return (row[0] if row else 0) + 1


def _written(session_id: str, number: int, action: Action) -> tuple[str, int, str, str, str, int, str, int, str]:
    """Return the first columns of a row, down to its state."""
    state = "done" if action.done else "waiting"
    about = (action.actor, action.name, action.heroscript(), action.priority, action.file, action.line)
    return (session_id, number, *about, state)


def count(tx: Tx, session_id: str) -> dict[str, int]:
    """Return how many actions there are in each state."""
    rows = tx.all("SELECT state, count(*) FROM playbook_actions WHERE session_id = ? GROUP BY state", session_id)
    found: dict[str, int] = dict.fromkeys(("waiting", "running", "done", "failed"), 0)
    return found | dict(rows)


def summary(tx: Tx, session_id: str) -> dict[str, Any]:
    """Return how many actions there are in each state, and the priorities in force."""
    numbered = {str(number): filters for number, filters in priorities(tx, session_id).items()}
    return {**count(tx, session_id), "priorities": numbered}


def find(
    tx: Tx, session_id: str, filter: str = "", *, include_done: bool = False, after: int = 0, limit: int | None = None
) -> list[Step]:
    """Return the actions a filter matches, by number, those after one only, a bounded number of them."""
    wanted = ActionFilter(filter)
    rows = tx.all(
        "SELECT number, actor, name FROM playbook_actions WHERE session_id = ? AND number > ?"  # noqa: S608 (a constant)
        f" AND (? OR state NOT IN {_OVER}) ORDER BY number",
        session_id,
        after,
        int(include_done),
    )
    numbers = [number for number, actor, name in rows if wanted.matches(actor, name)][:limit]
    return [step for number in numbers if (step := read(tx, session_id, number)) is not None]


def read(tx: Tx, session_id: str, number: int) -> Step | None:
    """Return one action."""
    row = tx.one(
        f"SELECT {_COLUMNS} FROM playbook_actions WHERE session_id = ? AND number = ?",  # noqa: S608 (a constant)
        session_id,
        number,
    )
    return Step(*row) if row else None


def plan(
    tx: Tx, session_id: str, filter: str = "", added: Mapping[int, Step] | None = None
) -> list[tuple[int, str, str]]:
    """Return (number, actor, name) of what is left to do, in the order in which it is to be done.

    Args:
        added: what is not stored yet and counts too.
    """
    wanted = ActionFilter(filter)
    filters = [(number, ActionFilter(text)) for number, text in sorted(priorities(tx, session_id).items())]
    rows = tx.all(
        "SELECT number, actor, name FROM playbook_actions"  # noqa: S608 (a constant)
        f" WHERE session_id = ? AND state NOT IN {_OVER} ORDER BY number",
        session_id,
    )
    left: list[tuple[int, int, str, str]] = []
    unstored = [(number, step.actor, step.name) for number, step in (added or {}).items() if step.state != "done"]
    for number, actor, name in [*rows, *unstored]:
        if wanted.matches(actor, name):
            order = next((nr for nr, matching in filters if matching.matches(actor, name)), DEFAULT_PRIORITY)
            left.append((order, number, actor, name))
    return [(number, actor, name) for _, number, actor, name in sorted(left)]


def begin(tx: Tx, session_id: str, number: int, job_id: str, handled_by: str | None) -> None:
    """Note that an action is under way."""
    tx.run(
        "UPDATE playbook_actions SET state = 'running', job_id = ?, handled_by = ?, result = NULL, error = NULL,"
        " started_at = ?, finished_at = NULL WHERE session_id = ? AND number = ?",
        job_id,
        handled_by,
        tx.clock.now_ms(),
        session_id,
        number,
    )


def end(tx: Tx, session_id: str, number: int, outcome: Outcome) -> Step | None:
    """Mark an action done, failed or withdrawn, and return it."""
    tx.run(
        "UPDATE playbook_actions SET state = ?, handled_by = ?, result = ?, error = ?, asked = ?, finished_at = ?"
        " WHERE session_id = ? AND number = ?",
        outcome.state,
        outcome.handled_by,
        None if outcome.result is None else json.dumps(outcome.result, ensure_ascii=False),
        None if outcome.error is None else json.dumps(outcome.error, ensure_ascii=False),
        outcome.asked,
        tx.clock.now_ms(),
        session_id,
        number,
    )
    return read(tx, session_id, number)


def played(tx: Tx, session_id: str, job_id: str, limit: int) -> tuple[dict[str, int], list[Step]]:
    """Return how many actions a play has brought to which end, and those that failed, then the first that did not."""
    rows = tx.all(
        "SELECT state, count(*) FROM playbook_actions WHERE session_id = ? AND job_id = ? GROUP BY state",
        session_id,
        job_id,
    )
    steps = tx.all(
        f"SELECT {_COLUMNS} FROM playbook_actions WHERE session_id = ? AND job_id = ?"  # noqa: S608 (a constant)
        " AND state IN ('done', 'failed', 'withdrawn') ORDER BY state <> 'failed', started_at, number LIMIT ?",
        session_id,
        job_id,
        limit,
    )
    return dict(rows), [Step(*row) for row in steps]


def asked_by(tx: Tx, session_id: str, job_id: str) -> int:
    """Return how many questions a play had put when its last action ended."""
    row = tx.one(
        "SELECT coalesce(max(asked), 0) FROM playbook_actions WHERE session_id = ? AND job_id = ?", session_id, job_id
    )
    return row[0] if row else 0


def priorities_add(tx: Tx, session_id: str, added: Mapping[int, str]) -> dict[int, str]:
    """Register comma lists of filters by number, and return what is in force; a filter that is registered stays."""
    book = PlayBook()
    book.priorities_add(priorities(tx, session_id))
    book.priorities_add(added)
    rows = [(session_id, text, number) for number, filters in book.priorities.items() for text in filters]
    tx.run("DELETE FROM playbook_priorities WHERE session_id = ?", session_id)
    tx.many(
        "INSERT INTO playbook_priorities (session_id, filter, number, position) VALUES (?, ?, ?, ?)",
        [(*row, position) for position, row in enumerate(rows)],
    )
    return {number: ",".join(filters) for number, filters in sorted(book.priorities.items())}


def priorities(tx: Tx, session_id: str) -> dict[int, str]:
    """Return the comma lists of filters by number."""
    rows = tx.all(
        "SELECT number, filter FROM playbook_priorities WHERE session_id = ? ORDER BY number, position", session_id
    )
    found: dict[int, list[str]] = {}
    for number, text in rows:
        found.setdefault(number, []).append(text)
    return {number: ",".join(filters) for number, filters in found.items()}


def env(tx: Tx, session_id: str) -> dict[str, str]:
    """Return the session's words by name."""
    return dict(tx.all("SELECT name, value FROM session_env WHERE session_id = ? ORDER BY name", session_id))


def set_env(tx: Tx, session_id: str, words: Mapping[str, str]) -> None:
    """Replace the session's words."""
    tx.run("DELETE FROM session_env WHERE session_id = ?", session_id)
    tx.many(
        "INSERT INTO session_env (session_id, name, value) VALUES (?, ?, ?)",
        [(session_id, name, value) for name, value in words.items()],
    )


def forget(tx: Tx, session_id: str) -> None:
    """Delete everything of a session that goes."""
    tx.run("DELETE FROM playbook_actions WHERE session_id = ?", session_id)
    tx.run("DELETE FROM playbook_priorities WHERE session_id = ?", session_id)
    tx.run("DELETE FROM session_env WHERE session_id = ?", session_id)


def shown(step: Step) -> dict[str, Any]:
    """Return an action as it goes over the wire; a parameter that refers to a secret shows the reference."""
    action = step.action
    took = None if step.started_at is None or step.finished_at is None else step.finished_at - step.started_at
    return {
        "number": step.number,
        "action": step.title,
        "type": str(action.type),
        "params": action.params.get_map(),
        "args": list(action.params.args),
        "priority": step.priority,
        "file": step.file,
        "line": step.line,
        "state": step.state,
        "handled_by": step.handled_by,
        "result": None if step.result is None else json.loads(step.result),
        "error": None if step.error is None else json.loads(step.error),
        "ms": took,
    }


def told(step: Step) -> dict[str, Any]:
    """Return an action as a notice and a play's results tell it: without its params."""
    record = shown(step)
    return {name: value for name, value in record.items() if name not in ("params", "args", "type", "priority")}


def heroscript(steps: Iterable[Step]) -> str:
    """Return actions as a text that gives equal ones."""
    return "\n".join(step.text for step in steps)
