"""Session rows as functions over a transaction, and the copy in memory that only a commit changes.

Source: seeds.md S1 to S5, P1 to P6; sessions.md 2.14 (states).
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import orjson

from heroscript import OurTime
from heroscript.session import named_by_time
from rpcserver.errors import RevisionConflict, SessionLimit, SessionNameTaken, SessionNotFound, SessionNotReady
from store import Store, Tx, new_id

_COLUMNS = (
    "id, core_user_id, layer_user_id, context_name, name, state, is_default, working_set_id, pallet_set_id,"
    " data_set_id, is_interactive, params, params_by, options, coderoot, start_at, end_at, relocated_from, revision,"
    " created_at, last_used_at"
)
_CACHED = 50_000


@dataclass(frozen=True, slots=True)
class Session:
    """A row of `sessions` with its history: `back` and `forward` are set ids, the nearest last."""

    id: str
    core_user_id: str
    layer_user_id: str
    context_name: str
    name: str
    state: str
    is_default: int
    working_set_id: str | None
    pallet_set_id: str | None
    data_set_id: str | None
    is_interactive: int
    params: str
    params_by: str
    options: str
    coderoot: str | None
    start_at: int
    end_at: int | None
    relocated_from: str | None
    revision: int
    created_at: int
    last_used_at: int
    back: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The working set's id. Raises SessionNotReady when the session is not in use."""
        if self.state != "active" or self.working_set_id is None:
            raise SessionNotReady(self.id, self.state)
        return self.working_set_id


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a caller may say of the session he creates; an empty name means one by the time."""

    user_id: str
    name: str
    context_name: str = "default"
    is_interactive: bool = True
    params: Any = None
    params_by: str = "[]"
    options: dict[str, Any] | None = None
    coderoot: str | None = None
    start_at: int = 0
    end_at: int | None = None


def count(tx: Tx, user_id: str) -> int:
    """Return how many sessions a user has."""
    row = tx.one("SELECT count(*) FROM sessions WHERE core_user_id = ?", user_id)
    return int(row[0]) if row else 0


def insert(tx: Tx, new: NewSession, limit: int) -> str:
    """Add a row in state `creating` and return its id: the row is there before the job.

    Raises SessionNameTaken or SessionLimit.
    """
    if count(tx, new.user_id) >= limit:
        raise SessionLimit(limit)
    if new.name and _is_named(tx, new.user_id, new.context_name, new.name):
        raise SessionNameTaken(new.name)
    session_id = new_id("s_")
    now = tx.clock.now_ms()
    # The seed: "default will be based on a date when run".
    name = new.name or named_by_time(
        OurTime(now // 1000), lambda name: _is_named(tx, new.user_id, new.context_name, name)
    )
    tx.run(
        f"INSERT INTO sessions ({_COLUMNS}) VALUES ({', '.join('?' * 21)})",  # noqa: S608 (constants)
        session_id,
        new.user_id,
        new.user_id,
        new.context_name,
        name,
        "creating",
        0,
        None,
        None,
        None,
        int(new.is_interactive),
        orjson.dumps(new.params or {}).decode(),
        new.params_by,
        orjson.dumps(new.options or {}).decode(),
        new.coderoot,
        new.start_at or now,
        new.end_at,
        None,
        1,
        now,
        now,
    )
    return session_id


def fill(tx: Tx, session_id: str, working_set_id: str, pallet_set_id: str, data_set_id: str) -> Session:
    """Fill the row in with the job's output: the session is active, and the user's default one if he has none."""
    tx.run(
        "UPDATE sessions SET state = 'active', working_set_id = ?, pallet_set_id = ?, data_set_id = ?, is_default ="
        " NOT EXISTS (SELECT 1 FROM sessions d WHERE d.core_user_id = sessions.core_user_id AND d.is_default = 1)"
        " WHERE id = ?",
        working_set_id,
        pallet_set_id,
        data_set_id,
        session_id,
    )
    return _existing(tx, session_id)


def set_state(tx: Tx, session_id: str, state: str) -> Session:
    """Change the state and return the session."""
    tx.run("UPDATE sessions SET state = ?, revision = revision + 1 WHERE id = ?", state, session_id)
    return _existing(tx, session_id)


def remove(tx: Tx, session_id: str) -> None:
    """Delete the row with its history."""
    tx.run("DELETE FROM session_history WHERE session_id = ?", session_id)
    tx.run("DELETE FROM sessions WHERE id = ?", session_id)


def move(
    tx: Tx, session: Session, set_id: str, way: str, max_history: int, relocated_from: str | None = None
) -> Session:
    """Stand the session in another set and return it.

    Args:
        way: `back` and `forward` walk along the history and drop what they skip; anything else pushes the set left
            on the history and forgets the way forward.
    """
    here = session.working_set_id or set_id
    if way == "back":
        back, forward = _walk(session.back, set_id), (*session.forward, here)
    elif way == "forward":
        forward, back = _walk(session.forward, set_id), (*session.back, here)
    else:
        back, forward = (*session.back, here)[-max_history:], ()
    _store_history(tx, session, "back", session.back, back)
    _store_history(tx, session, "forward", session.forward, forward)
    moved = replace(
        session,
        working_set_id=set_id,
        back=back,
        forward=forward,
        revision=session.revision + 1,
        last_used_at=tx.clock.now_ms(),
        relocated_from=relocated_from,
    )
    tx.run(
        "UPDATE sessions SET working_set_id = ?, revision = ?, last_used_at = ?, relocated_from = ? WHERE id = ?",
        moved.working_set_id,
        moved.revision,
        moved.last_used_at,
        relocated_from,
        session.id,
    )
    return moved


def update(tx: Tx, session: Session, changes: dict[str, Any], if_revision: int | None) -> Session:
    """Change name, context_name, is_interactive, options, params with params_by, coderoot, start_at or end_at.

    Raises RevisionConflict or SessionNameTaken.
    """
    current = _existing(tx, session.id)
    if if_revision is not None and current.revision != if_revision:
        raise RevisionConflict(current.revision)
    name, context_name = changes.get("name", current.name), changes.get("context_name", current.context_name)
    is_same = (name, context_name) == (current.name, current.context_name)
    if not is_same and _is_named(tx, current.core_user_id, context_name, name):
        raise SessionNameTaken(name)
    tx.run(
        "UPDATE sessions SET name = ?, context_name = ?, is_interactive = ?, options = ?, params = ?, params_by = ?,"
        " coderoot = ?, start_at = ?, end_at = ?, revision = revision + 1 WHERE id = ?",
        name,
        context_name,
        int(changes.get("is_interactive", current.is_interactive)),
        orjson.dumps(changes["options"]).decode() if "options" in changes else current.options,
        orjson.dumps(changes["params"]).decode() if "params" in changes else current.params,
        changes.get("params_by", current.params_by),
        changes.get("coderoot", current.coderoot),
        changes.get("start_at", current.start_at),
        changes.get("end_at", current.end_at),
        session.id,
    )
    return _existing(tx, session.id)


def find(tx: Tx, session_id: str) -> Session | None:
    """Return the session with its history, whoever asks."""
    row = tx.one(f"SELECT {_COLUMNS} FROM sessions WHERE id = ?", session_id)  # noqa: S608 (constants)
    if row is None:
        return None
    history = tx.all(
        "SELECT direction, set_id FROM session_history WHERE session_id = ? ORDER BY direction, position", session_id
    )
    back = tuple(set_id for direction, set_id in history if direction == "back")
    forward = tuple(set_id for direction, set_id in history if direction == "forward")
    return replace(Session(*row), back=back, forward=forward)


def default_id(tx: Tx, user_id: str) -> str | None:
    """Return the user's default session, None when it was destroyed or never made."""
    row = tx.one("SELECT id FROM sessions WHERE core_user_id = ? AND is_default = 1", user_id)
    return row[0] if row else None


def page(
    tx: Tx, user_id: str, limit: int, after: str | None, context_name: str | None, state: str | None
) -> list[Session]:
    """Return up to `limit` sessions of a user, the oldest first."""
    conditions = ["core_user_id = ?"]
    values: list[Any] = [user_id]
    for condition, value in (("id > ?", after), ("context_name = ?", context_name), ("state = ?", state)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    statement = f"SELECT id FROM sessions WHERE {' AND '.join(conditions)} ORDER BY id LIMIT ?"  # noqa: S608
    return [_existing(tx, row[0]) for row in tx.all(statement, *values, limit)]


def places(tx: Tx, user_id: str) -> list[str]:
    """Return the sets in which the user's sessions stand."""
    rows = tx.all(
        "SELECT DISTINCT working_set_id FROM sessions WHERE core_user_id = ? AND working_set_id IS NOT NULL", user_id
    )
    return [row[0] for row in rows]


def next_end(tx: Tx) -> int | None:
    """Return when the next session ends, in UTC milliseconds; None when none does."""
    row = tx.one("SELECT min(end_at) FROM sessions WHERE end_at IS NOT NULL")
    return row[0] if row else None


def ended(tx: Tx, now: int, limit: int) -> list[tuple[str, str]]:
    """Return some sessions that are past their end, each as (id, whose it is)."""
    rows = tx.all(
        "SELECT id, core_user_id FROM sessions WHERE end_at <= ? AND state = 'active' ORDER BY end_at LIMIT ?",
        now,
        limit,
    )
    return [(session_id, user_id) for session_id, user_id in rows]


def half_made(tx: Tx) -> list[Session]:
    """Return the sessions a killed server left `creating` or `destroying`."""
    rows = tx.all("SELECT id FROM sessions WHERE state IN ('creating', 'destroying')")
    return [_existing(tx, row[0]) for row in rows]


def among(tx: Tx, session_ids: list[str]) -> set[str]:
    """Return those of the sessions that there are."""
    return {id for id in session_ids if tx.one("SELECT 1 FROM sessions WHERE id = ?", id) is not None}


class Sessions:
    """The sessions in use, in memory. A transaction that changes one says so with `changed` or `gone`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # None stands for one that is gone, so that a read begun before the commit cannot bring it back.
        self._by_id: OrderedDict[str, Session | None] = OrderedDict()
        self._defaults: dict[str, str | None] = {}

    def cached(self, session_id: str) -> Session | None:
        """Return the session if it is in memory."""
        return self._by_id.get(session_id)

    def default_of(self, user_id: str) -> str | None:
        """Return the id of the user's default session; it is known from the moment he authenticates."""
        return self._defaults.get(user_id)

    async def know_default(self, user_id: str) -> None:
        """Look the default session up, so that calls that name no session can be put in order at once."""
        if user_id not in self._defaults:
            found = await self._store.read(lambda tx: default_id(tx, user_id))
            self._defaults.setdefault(user_id, found)

    async def get(self, session_id: str, user_id: str) -> Session:
        """Return the user's session. Raises SessionNotFound for one that is unknown or another's."""
        session = self._by_id.get(session_id)
        if session is None and session_id not in self._by_id:
            session = await self._store.read(lambda tx: find(tx, session_id))
            if session is not None:
                # A commit may have put a newer one there while the read was on its way.
                session = self._by_id.setdefault(session_id, session)
                self._trim()
        if session is None or session.core_user_id != user_id:
            raise SessionNotFound(session_id)
        return session

    def changed(self, tx: Tx, session: Session) -> Session:
        """Have the copy in memory follow once the transaction is committed."""
        tx.after_commit(lambda: self._remember(session))
        return session

    def gone(self, tx: Tx, session: Session) -> None:
        """Have the copy in memory dropped once the transaction is committed."""
        tx.after_commit(lambda: self._forget(session))

    def _remember(self, session: Session) -> None:
        self._by_id[session.id] = session
        self._trim()
        if session.is_default:
            self._defaults[session.core_user_id] = session.id

    def _trim(self) -> None:
        while len(self._by_id) > _CACHED:
            self._by_id.popitem(last=False)

    def _forget(self, session: Session) -> None:
        self._by_id[session.id] = None
        self._trim()
        if self._defaults.get(session.core_user_id) == session.id:
            self._defaults[session.core_user_id] = None


def _existing(tx: Tx, session_id: str) -> Session:
    session = find(tx, session_id)
    if session is None:
        raise SessionNotFound(session_id)
    return session


def _is_named(tx: Tx, user_id: str, context_name: str, name: str) -> bool:
    row = tx.one(
        "SELECT 1 FROM sessions WHERE core_user_id = ? AND context_name = ? AND name = ?", user_id, context_name, name
    )
    return row is not None


def _walk(history: tuple[str, ...], set_id: str) -> tuple[str, ...]:
    for index in range(len(history) - 1, -1, -1):
        if history[index] == set_id:
            return history[:index]
    return history


def _store_history(tx: Tx, session: Session, direction: str, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    if old == new:
        return
    if new and new[:-1] in (old, old[1:]):
        if new[:-1] != old:  # full: the oldest makes room
            tx.run(
                "DELETE FROM session_history WHERE session_id = ? AND direction = ? AND position ="
                " (SELECT min(position) FROM session_history WHERE session_id = ? AND direction = ?)",
                *(session.id, direction) * 2,
            )
        row = tx.one(
            "SELECT coalesce(max(position), 0) + 1 FROM session_history WHERE session_id = ? AND direction = ?",
            session.id,
            direction,
        )
        tx.run(
            "INSERT INTO session_history (session_id, direction, position, set_id) VALUES (?, ?, ?, ?)",
            session.id,
            direction,
            row[0] if row else 1,
            new[-1],
        )
        return
    tx.run("DELETE FROM session_history WHERE session_id = ? AND direction = ?", session.id, direction)
    tx.many(
        "INSERT INTO session_history (session_id, direction, position, set_id) VALUES (?, ?, ?, ?)",
        [(session.id, direction, position, set_id) for position, set_id in enumerate(new, 1)],
    )
