"""Idempotency keys: a call made twice under one key has its effect once, and both are answered alike.

A refusal that had no effect is forgotten: the key is free again. What is kept is not called retryable.
The key is on disk before the call begins, the answer before it is sent. A call whose server was killed in between is
never run again: whoever asks hears that its outcome is not known. Source: protocol.md 2; written by this module only:
idempotency_keys.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog

from rpcserver.errors import AnswerNotKept, KeyConflict, OutcomeUnknown
from rpcserver.rpc import replies
from rpcserver.rpc.calls import Call
from rpcserver.rpc.errors import ErrorObject, describe
from store import EFFECTS, Effects, Store, Tx

log = structlog.get_logger("rpc")

OPERATOR = "operator"
AT_ONCE = 200
# What code that is not ours did before it ended so is not known: it counts as an effect.
_UNKNOWN = frozenset(
    ("INTERNAL", "JOB_FAILED", "JOB_TIMEOUT", "PLUGIN_ERROR", "RESULT_TOO_LARGE", "TIMED_OUT", "CANCELLED")
)


@dataclass(slots=True)
class _Running:
    body_hash: str
    outcome: asyncio.Future[Any]


class Answers:
    """The first answers, by owner and key."""

    def __init__(self, store: Store, age_s: float, max_keys: int) -> None:
        self._store = store
        self._age_ms = int(age_s * 1000)
        self._max_keys = max_keys
        self._running: dict[tuple[str, str], _Running] = {}

    async def load(self) -> None:
        """Mark the calls that a killed server left under way: nobody knows what became of them."""
        unknown = _row_text(describe(OutcomeUnknown()))

        def mark(tx: Tx) -> bool:
            open_ = tx.all(
                "SELECT owner_id, key FROM idempotency_keys WHERE result IS NULL AND error IS NULL LIMIT ?", AT_ONCE
            )
            tx.many(
                "UPDATE idempotency_keys SET error = ? WHERE owner_id = ? AND key = ?",
                [(unknown, *place) for place in open_],
            )
            return len(open_) == AT_ONCE

        while await self._store.write(mark):
            pass

    async def once(self, call: Call, key: str, run: Callable[[Call], Awaitable[Any]]) -> Any:
        """Run the call, unless one was made under this key: then give that one's answer, waiting for it if need be.

        Raises KeyConflict when that one was another method or had other params.
        """
        place = _place(call, key)
        body_hash = _hash(call)
        running = self._running.get(place)
        if running is not None:
            if running.body_hash != body_hash:
                raise KeyConflict
            return await asyncio.shield(running.outcome)
        # Known before the first await: a second call that comes now attaches to this one.
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._running[place] = _Running(body_hash, outcome)
        result: Any = describe(KeyConflict())
        try:
            result = await self._first(call, place, body_hash, run)
            return result
        except asyncio.CancelledError:
            # Cancelled, or out of time: that is the answer from now on, as it is this caller's.
            result = replies.interrupted(call)
            self._store.write(lambda tx: _finish(tx, place, result)).add_done_callback(_note_unwritten)
            raise
        finally:
            del self._running[place]
            if not outcome.done():
                outcome.set_result(result)

    async def settle(self, call: Call, key: str, answer: Any) -> None:
        """Keep the answer to a call that is given before the call has ended: it stays the answer."""
        place = _place(call, key)
        kept = answer if isinstance(answer, ErrorObject) else orjson.dumps(answer)
        await self._store.write(lambda tx: _finish(tx, place, kept))
        if place in self._running and not self._running[place].outcome.done():
            self._running[place].outcome.set_result(answer)

    def upkeep(self, tx: Tx) -> bool:
        """Forget some of what is older than a retry can be, and tell whether there may be more."""
        old = tx.all(
            "SELECT owner_id, key FROM idempotency_keys WHERE age_from < ? LIMIT ?",
            *(tx.clock.steady_ms() - self._age_ms, AT_ONCE),
        )
        tx.many("DELETE FROM idempotency_keys WHERE owner_id = ? AND key = ?", old)
        return len(old) == AT_ONCE

    async def _first(
        self, call: Call, place: tuple[str, str], body_hash: str, run: Callable[[Call], Awaitable[Any]]
    ) -> Any:
        row = await self._store.write(lambda tx: self._begin(tx, place, body_hash))
        if row is not None:
            known_hash, result, error = row
            if known_hash != body_hash:
                return describe(KeyConflict())
            if result is not None:
                return result.encode()
            return ErrorObject(**orjson.loads(error)) if error is not None else replies.interrupted(call)
        effects = Effects()
        outside = EFFECTS.set(effects)
        try:
            outcome = await run(call)
        finally:
            EFFECTS.reset(outside)
        answer = outcome if isinstance(outcome, ErrorObject | bytes) else _encoded(outcome)
        if isinstance(answer, ErrorObject):
            is_unknown = answer.data.get("kind") in _UNKNOWN or self._running[place].outcome.done()
            if not (effects.are_any or is_unknown):
                self._store.write(lambda tx: _forget(tx, place)).add_done_callback(_note_unwritten)
                return answer
            answer = _not_again(answer)
        kept = describe(AnswerNotKept()) if call.method.has_secret and not isinstance(answer, ErrorObject) else answer
        await self._store.write(lambda tx: _finish(tx, place, kept))
        return answer

    def _begin(self, tx: Tx, place: tuple[str, str], body_hash: str) -> tuple[Any, ...] | None:
        row = tx.one("SELECT body_hash, result, error FROM idempotency_keys WHERE owner_id = ? AND key = ?", *place)
        if row is not None:
            return row
        tx.run(
            "INSERT INTO idempotency_keys (owner_id, key, body_hash, age_from) VALUES (?, ?, ?, ?)",
            *place,
            body_hash,
            tx.clock.steady_ms(),
        )
        count = tx.one("SELECT count(*) FROM idempotency_keys WHERE owner_id = ?", place[0])
        if count and count[0] > self._max_keys:
            # Some of the oldest at once, so that the next calls do not pay for it too.
            tx.run(
                "DELETE FROM idempotency_keys WHERE owner_id = ? AND key IN (SELECT key FROM idempotency_keys"
                " WHERE owner_id = ? AND (result IS NOT NULL OR error IS NOT NULL) ORDER BY age_from LIMIT ?)",
                *(place[0], place[0], min(AT_ONCE, self._max_keys // 10 + 1)),
            )
        return None


def _place(call: Call, key: str) -> tuple[str, str]:
    # What a credential with other scopes was answered is not this one's to hear.
    principal = call.connection.principal
    return (principal.user.id, principal.authority.own(key)) if principal else (OPERATOR, key)


def _hash(call: Call) -> str:
    params = call.request.params
    if call.method.secret_params:
        # A hash of what few could be is as good as the thing itself.
        by_name = params if isinstance(params, dict) else dict(zip(call.method.positions, params, strict=False))
        params = {name: value for name, value in by_name.items() if name not in call.method.secret_params}
    body = orjson.dumps(params, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(call.method.name.encode() + b"\x00" + body).hexdigest()


def _encoded(outcome: Any) -> bytes | ErrorObject:
    try:
        return orjson.dumps(outcome)
    except orjson.JSONEncodeError as error:
        return describe(error)


def _finish(tx: Tx, place: tuple[str, str], answer: bytes | ErrorObject) -> None:
    result, error = (None, _row_text(answer)) if isinstance(answer, ErrorObject) else (answer.decode(), None)
    tx.run(
        "UPDATE idempotency_keys SET result = ?, error = ? WHERE owner_id = ? AND key = ?"
        " AND result IS NULL AND error IS NULL",
        result,
        error,
        *place,
    )


def _forget(tx: Tx, place: tuple[str, str]) -> None:
    tx.run("DELETE FROM idempotency_keys WHERE owner_id = ? AND key = ?", *place)


def _row_text(error: ErrorObject) -> str:
    return orjson.dumps(error.as_dict()).decode()


def _not_again(error: ErrorObject) -> ErrorObject:
    """Return an error as it is kept: the same key has no other answer, so that trying again is of no use."""
    data = {name: value for name, value in error.data.items() if name != "retry_after_ms"}
    return replace(error, data={**data, "retryable": False})


def _note_unwritten(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()):
        log.error("answer_not_stored", error=str(error))
