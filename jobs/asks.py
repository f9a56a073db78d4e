"""Questions of jobs to people: a row first, then whoever can answer is told; the first valid answer wins.

A question survives the asker: a job run again after a crash finds, by its number, the question it had asked and the
answer it got. A secret answer is handed over in memory and never stored. Source: protocol.md 5.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobs import rows
from jobs.errors import AskDeclined, AskNotFound, BadAnswer
from jobs.model import Form, JobEvent
from store import Clock, Store, Tx, new_id

_COLUMNS = (
    "id, job_id, number, user_id, session_id, text, form, is_secret, state, answer, expires_at, created_at, resolved_at"
)
Announce = Callable[[Tx, JobEvent], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """A row of `asks`; `form` and `answer` are JSON text, `expires_at` is on the steady scale."""

    id: str
    job_id: str
    number: int
    user_id: str
    session_id: str | None
    text: str
    form: str
    is_secret: int
    state: str
    answer: str | None
    expires_at: int | None
    created_at: int
    resolved_at: int | None

    def is_open(self, now: int) -> bool:
        """Tell whether it can be answered at a time of the steady scale."""
        return self.state == "open" and (self.expires_at is None or now < self.expires_at)

    def shown(self, clock: Clock) -> dict[str, Any]:
        """Return the question as whoever may answer sees it: times are moments."""
        form = json.loads(self.form)
        return {
            "ask_id": self.id,
            "job_id": self.job_id,
            "session_id": self.session_id,
            "text": self.text,
            "schema": form["schema"],
            "choices": form["choices"],
            "default": form["default"],
            "secret": bool(self.is_secret),
            "expires_at": None if self.expires_at is None else clock.moment(self.expires_at),
            "created_at": self.created_at,
        }


class Asks:
    """The open questions of this process, and the rows of all."""

    def __init__(self, store: Store, announce: Announce) -> None:
        self._store = store
        self._announce = announce
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    async def ask(self, text: str, form: Form, number: int, event: JobEvent) -> Any:
        """Put a question and wait for its answer; while one is open its job is in state waiting_input.

        Args:
            number: which of the job's questions it is.
            event: whose job asks, in which session.

        Raises AskDeclined when nobody answers and there is no default.
        """
        assert event.job_id is not None  # only a job asks
        return await self._wait(lambda tx: self._open(tx, text, form, number, event))

    def put(self, tx: Tx, text: str, form: Form, job_id: str, user_id: str) -> str:
        """Open a question to a person that a job is going to wait for, and return its id; `posted` tells them."""
        ask = self._new(tx, text, form, 1, JobEvent("", user_id, job_id, "", None, {}))
        _insert(tx, ask)
        return ask.id

    async def posted(self, job_id: str) -> Any:
        """Wait for the answer to the question that was put for a job. Raises AskDeclined, AskNotFound."""

        def look(tx: Tx) -> Ask:
            row = tx.one(f"SELECT {_COLUMNS} FROM asks WHERE job_id = ? AND number = 1", job_id)  # noqa: S608
            if row is None:
                raise AskNotFound(job_id)
            ask = Ask(*row)
            if ask.state == "open":
                rows.wait_for_input(tx, job_id)
                self._tell(tx, ask, "ask.opened")
            return ask

        return await self._wait(look)

    async def _wait(self, find: Callable[[Tx], Ask]) -> Any:
        """Wait for the answer to the question that `find` opens, or finds, in a transaction."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def found(tx: Tx) -> Ask:
            ask = find(tx)
            # Known from the commit on: an answer may come before we hear of it ourselves.
            tx.after_commit(lambda: self._expect(ask, future))
            return ask

        try:
            ask = await self._store.write(found)
            if ask.state == "answered" and ask.answer is not None:
                return json.loads(ask.answer)
            if ask.state == "open":
                is_done = await self._store.clock.wait(future, ask.expires_at)
                if is_done or not await self._store.write(lambda tx: self._resolve(tx, ask, "expired", None)):
                    return await future  # or answered in the very moment
        finally:
            future.cancel()  # nobody waits for it any more
        form = _form(ask)
        if form.has_default:
            return form.default
        if ask.state == "declined":
            raise AskDeclined(ask.text, "it was declined")
        raise AskDeclined(ask.text, "nobody answered in time", is_late=True)

    def _expect(self, ask: Ask, future: asyncio.Future[Any]) -> None:
        if ask.state == "open" and not future.done():
            self._waiting[ask.id] = future
            future.add_done_callback(lambda done: self._forget(ask.id, done))

    def _forget(self, ask_id: str, future: asyncio.Future[Any]) -> None:
        if self._waiting.get(ask_id) is future:
            del self._waiting[ask_id]

    async def answer(self, ask_id: str, user_id: str, answer: Any, *, is_declined: bool = False) -> None:
        """Answer, or decline, a question. Raises AskNotFound (unknown, not yours, or no longer open) or BadAnswer."""

        def settle(tx: Tx) -> None:
            ask = find(tx, ask_id)
            if ask is None or ask.user_id != user_id or not ask.is_open(tx.clock.steady_ms()):
                raise AskNotFound(ask_id)
            form = _form(ask)
            if not is_declined and (fault := form.fault(answer)) is not None:
                raise BadAnswer(ask_id, fault)
            if ask.is_secret and ask_id not in self._waiting:
                raise BadAnswer(ask_id, "its job is not running yet: answer again in a moment")
            text = None if ask.is_secret or is_declined else json.dumps(answer)
            self._resolve(tx, ask, "declined" if is_declined else "answered", text)
            tx.after_commit(lambda: self._hand_over(ask, form, answer, is_declined))

        await self._store.write(settle)

    def cancel(self, tx: Tx, job_id: str) -> None:
        """Close the open questions of a job that is over."""
        for row in tx.all(f"SELECT {_COLUMNS} FROM asks WHERE job_id = ? AND state = 'open'", job_id):  # noqa: S608
            self._resolve(tx, Ask(*row), "cancelled", None)

    def _open(self, tx: Tx, text: str, form: Form, number: int, event: JobEvent) -> Ask:
        new = self._new(tx, text, form, number, event)
        ask = self._earlier(tx, new) or new
        if ask is new:
            _insert(tx, ask)
        if ask.state == "open":
            rows.wait_for_input(tx, ask.job_id)
            self._tell(tx, ask, "ask.opened")
        return ask

    def _earlier(self, tx: Tx, new: Ask) -> Ask | None:
        """Return the question as an earlier attempt of the job put it, if it did."""
        row = tx.one(
            f"SELECT {_COLUMNS} FROM asks WHERE job_id = ? AND number = ?",  # noqa: S608 (a constant)
            new.job_id,
            new.number,
        )
        if row is None:
            return None
        ask = Ask(*row)
        if (ask.text, ask.form, ask.is_secret) != (new.text, new.form, new.is_secret):
            # The job went another way this time: what was answered then is no answer to this.
            self._resolve(tx, ask, "cancelled", None)
            tx.run("DELETE FROM asks WHERE id = ?", ask.id)
            return None
        if ask.state == "answered" and ask.answer is None:
            # A secret answer went down with the server that held it: ask again.
            tx.run("UPDATE asks SET state = 'open', resolved_at = NULL WHERE id = ?", ask.id)
            ask = replace(ask, state="open")
        return ask

    def _new(self, tx: Tx, text: str, form: Form, number: int, event: JobEvent) -> Ask:
        expires_at = None if form.timeout_s is None else tx.clock.steady_ms() + int(form.timeout_s * 1000)
        kept = {
            "schema": form.schema,
            "choices": form.choices,
            "default": form.default,
            "has_default": form.has_default,
            "max_bytes": form.max_bytes,
        }
        return Ask(
            new_id("a_"),
            event.job_id or "",
            number,
            event.owner_id,
            event.session_id,
            text,
            json.dumps(kept),
            int(form.is_secret),
            "open",
            None,
            expires_at,
            tx.clock.now_ms(),
            None,
        )

    def _resolve(self, tx: Tx, ask: Ask, state: str, answer: str | None) -> bool:
        changed = tx.run(
            "UPDATE asks SET state = ?, answer = ?, resolved_at = ? WHERE id = ? AND state = 'open'",
            state,
            answer,
            tx.clock.now_ms(),
            ask.id,
        )
        if changed:
            rows.go_on(tx, ask.job_id)
            self._tell(tx, ask, "ask.resolved", state)
        return bool(changed)

    def _tell(self, tx: Tx, ask: Ask, topic: str, state: str | None = None) -> None:
        details = ask.shown(tx.clock) if state is None else {"ask_id": ask.id, "state": state}
        self._announce(tx, JobEvent(topic, ask.user_id, ask.job_id, "", ask.session_id, details))

    def _hand_over(self, ask: Ask, form: Form, answer: Any, is_declined: bool) -> None:
        future = self._waiting.get(ask.id)
        if future is None or future.done():
            return
        if not is_declined:
            future.set_result(answer)
        elif form.has_default:
            future.set_result(form.default)
        else:
            future.set_exception(AskDeclined(ask.text, "it was declined"))


def find(tx: Tx, ask_id: str) -> Ask | None:
    """Return the question whoever asks."""
    row = tx.one(f"SELECT {_COLUMNS} FROM asks WHERE id = ?", ask_id)  # noqa: S608 (a constant)
    return Ask(*row) if row else None


def page(
    tx: Tx, user_id: str, limit: int, after: str | None, session_id: str | None, *, with_own: bool = False
) -> list[Ask]:
    """Return up to `limit` open questions to a user, the oldest first.

    Args:
        session_id: only those of this session; with_own: and those of none, put to the users themselves.
    """
    found = tx.all(
        f"SELECT {_COLUMNS} FROM asks WHERE user_id = ? AND state = 'open'"  # noqa: S608 (a constant)
        " AND (expires_at IS NULL OR expires_at > ?) AND (? IS NULL OR id > ?)"
        " AND (? IS NULL OR session_id = ? OR (? AND session_id IS NULL)) ORDER BY id LIMIT ?",
        *(user_id, tx.clock.steady_ms(), after, after, session_id, session_id, with_own, limit),
    )
    return [Ask(*row) for row in found]


def _insert(tx: Tx, ask: Ask) -> None:
    tx.run(
        f"INSERT INTO asks ({_COLUMNS}) VALUES ({', '.join('?' * 13)})",  # noqa: S608 (constants)
        *(getattr(ask, name) for name in Ask.__slots__),
    )


def forget(tx: Tx, job_ids: list[str]) -> None:
    """Delete the questions of jobs that are forgotten."""
    tx.many("DELETE FROM asks WHERE job_id = ?", [(id,) for id in job_ids])


def _form(ask: Ask) -> Form:
    kept = json.loads(ask.form)
    choices = tuple(kept["choices"]) if kept["choices"] is not None else None
    return Form(
        kept["schema"],
        choices,
        kept["default"],
        kept["has_default"],
        bool(ask.is_secret),
        max_bytes=kept.get("max_bytes"),
    )
