"""The rows of a session's playbook: its actions, their priorities, and the words that stand for `{NAME}`.

An action is kept as the heroscript it is; reading it again gives the same. Source: seeds.md P2.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from heroscript import Action, PlayBook, parse
from rpcserver.errors import PlaybookTooLarge, ResponseTooLarge
from rpcserver.playbooks.sources import Written
from store import Places, Store, Tx

TOLD_BYTES = 16 * 1024  # of a result, in a notice
MAX_PRIORITIES = 500  # filters of one playbook, which are written anew together
_COLUMNS = (
    "session_id, number, actor, name, text, priority, file, line, state, handled_by, result, error, job_id, asked,"
    " started_at, finished_at, authority"
)
SCANNED = 500  # rows looked at in one turn of the loop
SHOWN = 200  # actions told at once; playbook_find tells them all
SHOWN_BYTES = 512 * 1024  # and of those only as many as are not longer than this
_OVER = "('done', 'withdrawn')"


_THERE = "(SELECT actions FROM playbooks WHERE session_id = ?)"
_ALL = (
    "SELECT number, actor, name FROM playbook_actions WHERE session_id = ? AND number > ?"  # noqa: S608 (a constant)
    f" AND number <= {_THERE} ORDER BY number LIMIT ?"
)
_LEFT = _ALL.replace("ORDER BY", f"AND state NOT IN {_OVER} ORDER BY")


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
    def size(self) -> int:
        """The bytes of what was written and what came of it, and a little less."""
        return len(self.text) + len(self.result or "") + len(self.error or "")

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


def size(tx: Tx, session_id: str) -> tuple[int, int]:
    """Return how many actions there are, and their bytes."""
    row = tx.one("SELECT actions, bytes FROM playbooks WHERE session_id = ?", session_id)
    return (row[0], row[1]) if row else (0, 0)


def bytes_of(tx: Tx, user_id: str) -> int:
    """Return the bytes of all playbooks of a user."""
    row = tx.one(
        "SELECT coalesce(sum(p.bytes), 0) FROM sessions s JOIN playbooks p ON p.session_id = s.id"
        " WHERE s.core_user_id = ?",
        user_id,
    )
    return int(row[0]) if row else 0


def stage(tx: Tx, session_id: str, first: int, written: Sequence[Written], authority: str) -> None:
    """Put actions behind those there are, numbered from `first` on; they count once `settle` says so.

    Args:
        authority: by whose credentials they are brought, as rows have it.
    """
    tx.many(
        "INSERT INTO playbook_actions (session_id, number, actor, name, text, priority, file, line, state,"
        " authority) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (session_id, number, *one[:6], "done" if one.is_done else "waiting", authority)
            for number, one in enumerate(written, first)
        ],
    )


def settle(tx: Tx, session_id: str, actions: int, size: int) -> None:
    """Have so many more actions, of so many bytes, be there: those that were staged."""
    tx.run(
        "INSERT INTO playbooks (session_id, actions, bytes) VALUES (?, ?, ?) ON CONFLICT (session_id)"
        " DO UPDATE SET actions = actions + excluded.actions, bytes = bytes + excluded.bytes",
        session_id,
        actions,
        size,
    )


def is_littered(tx: Tx, session_id: str) -> bool:
    """Tell whether there are actions that do not count: somebody gave up adding them."""
    row = tx.one(
        f"SELECT 1 FROM playbook_actions WHERE session_id = ? AND number > coalesce({_THERE}, 0) LIMIT 1",  # noqa: S608 (a constant)
        session_id,
        session_id,
    )
    return row is not None


def clear(tx: Tx, session_id: str, after: int, limit: int) -> int:
    """Delete some of the actions behind a number, for good, and return how many."""
    return tx.run(
        "DELETE FROM playbook_actions WHERE session_id = ? AND number IN"
        " (SELECT number FROM playbook_actions WHERE session_id = ? AND number > ? ORDER BY number DESC LIMIT ?)",
        session_id,
        session_id,
        after,
        limit,
    )


def forget_words(tx: Tx, session_id: str, limit: int) -> int:
    """Delete some of a session's words, and return how many."""
    return tx.run(
        "DELETE FROM session_env WHERE session_id = ?"
        " AND name IN (SELECT name FROM session_env WHERE session_id = ? LIMIT ?)",
        *(session_id, session_id, limit),
    )


def planned(number: int, session_id: str, one: Written) -> Step:
    """Return what the row of an action that is not stored would be."""
    state = "done" if one.is_done else "waiting"
    return Step(session_id, number, *one[:6], state, None, None, None, None, 0, None, None, "[]")


def count(tx: Tx, session_id: str) -> dict[str, int]:
    """Return how many actions there are in each state."""
    rows = tx.all(
        f"SELECT state, count(*) FROM playbook_actions WHERE session_id = ? AND number <= {_THERE} GROUP BY state",  # noqa: S608
        session_id,
        session_id,
    )
    found: dict[str, int] = dict.fromkeys(("waiting", "running", "done", "failed"), 0)
    return found | dict(rows)


def summary(tx: Tx, session_id: str) -> dict[str, Any]:
    """Return how many actions there are in each state, and the priorities in force."""
    numbered = {str(number): filters for number, filters in priorities(tx, session_id).items()}
    return {**count(tx, session_id), "priorities": numbered}


def page(tx: Tx, session_id: str, after: int, limit: int, include_done: bool) -> list[tuple[int, str, str]]:
    """Return number, actor and name of up to `limit` actions behind a number."""
    rows = tx.all(_ALL if include_done else _LEFT, session_id, after, session_id, limit)
    return [(number, actor, name) for number, actor, name in rows]


def first_of(tx: Tx, session_id: str, after: int, limit: int) -> list[Step]:
    """Return the first actions behind a number."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM playbook_actions WHERE session_id = ? AND number > ? ORDER BY number LIMIT ?",  # noqa: S608 (a constant)
        session_id,
        after,
        limit,
    )
    return [Step(*row) for row in rows]


def texts(tx: Tx, session_id: str, after: int, limit: int, include_done: bool) -> list[tuple[int, str]]:
    """Return number and heroscript of up to `limit` actions behind a number."""
    statement = (_ALL if include_done else _LEFT).replace("actor, name", "text")
    return [(number, text) for number, text in tx.all(statement, session_id, after, session_id, limit)]


def read(tx: Tx, session_id: str, number: int) -> Step | None:
    """Return one action."""
    row = tx.one(
        f"SELECT {_COLUMNS} FROM playbook_actions WHERE session_id = ? AND number = ?",  # noqa: S608 (a constant)
        session_id,
        number,
    )
    return Step(*row) if row else None


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


def end(tx: Tx, session_id: str, number: int, outcome: Outcome) -> None:
    """Mark an action done, failed or withdrawn."""
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
    """Register comma lists of filters by number, and return what is in force; a filter that is registered stays.

    Raises PlaybookTooLarge when there would be too many.
    """
    book = PlayBook()
    book.priorities_add(priorities(tx, session_id))
    book.priorities_add(added)
    rows = [(session_id, text, number) for number, filters in book.priorities.items() for text in filters]
    if len(rows) > MAX_PRIORITIES:
        message = f"The playbook would have priorities of more than {MAX_PRIORITIES} filters, the most allowed."
        raise PlaybookTooLarge(message, limit=MAX_PRIORITIES)
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


def words_by(tx: Tx, session_id: str) -> dict[str, str]:
    """Return by whose credentials the session's words were set, by name."""
    return dict(tx.all("SELECT name, authority FROM session_env WHERE session_id = ?", session_id))


def set_env(tx: Tx, session_id: str, words: Mapping[str, str], authority: str) -> None:
    """Replace the session's words; those that stay are not touched.

    Args:
        authority: by whose credentials, as rows have it.
    """
    before = env(tx, session_id)
    tx.many(
        "DELETE FROM session_env WHERE session_id = ? AND name = ?",
        [(session_id, name) for name in before if name not in words],
    )
    tx.many(
        "INSERT INTO session_env (session_id, name, value, authority) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (session_id, name) DO UPDATE SET value = excluded.value, authority = excluded.authority",
        [(session_id, name, value, authority) for name, value in words.items() if before.get(name) != value],
    )


def forget(tx: Tx, session_id: str) -> None:
    """Delete everything of a session that goes; a long playbook and many words are to be cleared before, in pieces."""
    tx.run("DELETE FROM playbook_actions WHERE session_id = ?", session_id)
    tx.run("DELETE FROM playbooks WHERE session_id = ?", session_id)
    tx.run("DELETE FROM playbook_priorities WHERE session_id = ?", session_id)
    tx.run("DELETE FROM session_env WHERE session_id = ?", session_id)


def shown(step: Step) -> dict[str, Any]:
    """Return an action as it goes over the wire; a parameter that refers to a secret shows the reference."""
    action = step.action
    wanted = {
        "type": str(action.type),
        "params": action.params.get_map(),
        "args": list(action.params.args),
        "priority": step.priority,
    }
    return {**_outcome(step), **wanted}


def told(step: Step, most: int = TOLD_BYTES) -> dict[str, Any]:
    """Return an action as a notice and a play's results tell it: without its params, nor a result longer than this."""
    is_cut = len(step.result or "") > most
    return {**_outcome(replace(step, result=None) if is_cut else step), "is_cut": is_cut}


def _outcome(step: Step) -> dict[str, Any]:
    took = None if step.started_at is None or step.finished_at is None else step.finished_at - step.started_at
    return {
        "number": step.number,
        "action": step.title,
        "file": step.file,
        "line": step.line,
        "state": step.state,
        "handled_by": step.handled_by,
        "result": None if step.result is None else json.loads(step.result),
        "error": None if step.error is None else json.loads(step.error),
        "ms": took,
    }


class Scanner:
    """Reads playbooks as long as they may be.

    Args:
        places: for those that are long: so many users' go on at once.
    """

    def __init__(self, store: Store, places: Places) -> None:
        self._store = store
        self._places = places

    async def actions(
        self, session_id: str, *, include_done: bool = False, after: int = 0
    ) -> AsyncGenerator[list[tuple[int, str, str]], None]:
        """Yield number, actor and name of a playbook's actions, some in each turn of the loop."""

        async def behind(after: int) -> list[tuple[int, str, str]]:
            return await self._store.read(lambda tx: page(tx, session_id, after, SCANNED, include_done))

        found = await behind(after)
        yield found
        if len(found) < SCANNED:
            return
        async with self._places.place():
            while len(found) == SCANNED:
                await asyncio.sleep(0)
                found = await behind(found[-1][0])
                yield found

    async def text(self, session_id: str, include_done: bool, most: int) -> str:
        """Return a playbook as heroscript. Raises ResponseTooLarge when it has more than `most` bytes."""
        parts: list[str] = []
        size = after = 0
        async with self._places.place():
            while found := await self._store.read(partial(_texts, session_id, after, include_done)):
                await asyncio.sleep(0)
                after = found[-1][0]
                parts += [text for _, text in found]
                size += sum(len(text) for _, text in found)
                if size > most:
                    message = (
                        f"The playbook has more than {most} bytes, the most of an answer: see session.playbook_find."
                    )
                    raise ResponseTooLarge(message)
        return "\n".join(parts)


def first_shown(tx: Tx, session_id: str, after: int) -> list[dict[str, Any]]:
    """Return the first actions behind a number, as they are told to whoever added them."""
    found: list[dict[str, Any]] = []
    size = 0
    for step in first_of(tx, session_id, after, SHOWN):
        size += step.size
        if found and size > SHOWN_BYTES:
            break
        found.append(shown(step))
    return found


def _texts(session_id: str, after: int, include_done: bool, tx: Tx) -> list[tuple[int, str]]:
    return texts(tx, session_id, after, SCANNED, include_done)
