"""How a run ends: its end state, its effects and what is told of it are one transaction, or nothing is.

What takes a transaction runs on the writer's thread.
"""

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import TypeAdapter

from jobs import rows
from jobs.errors import (
    AccountFrozen,
    CredentialEnded,
    JobCancelled,
    JobFailed,
    JobOvertaken,
    JobTimeout,
    ResultTooLarge,
)
from jobs.hiding import hidden
from jobs.model import Commit
from jobs.storing import at_last
from store import StoreError, Tx

if TYPE_CHECKING:
    from jobs.run import Run

log = structlog.get_logger("jobs")

LONGEST_BACKOFF_S = 24 * 3600.0
_JSON = TypeAdapter(Any)
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


def as_json(result: Any) -> bytes:
    """Return a job's result as it is stored and answered, in every lane alike."""
    return _JSON.dump_json(result)


def well(run: "Run", tx: Tx, outcome: Any) -> Any:
    """End a run as succeeded and return what its caller gets.

    Raises JobOvertaken, ResultTooLarge, CredentialEnded, or what it did.
    """
    run.authority.require()
    result = run.context.checked(outcome.fn(run.context.core(tx)) if isinstance(outcome, Commit) else outcome)
    answer = run.then(tx, result) if run.then is not None else result
    text = "null" if result is None else _text(run, result)
    if run.is_stored or run.is_talkative:
        if not _write(run, tx, "succeeded", text, None):
            raise JobOvertaken(run.id, run.spec.name)  # rolls back: the effects are the later attempt's
    else:
        rows.insert(tx, run.values("succeeded", text, is_over=True))
    run.tell(tx, "job.completed", {})
    tx.after_commit(lambda: run.engine.audience.ended(run.id, result, None))
    return answer


def badly(run: "Run", tx: Tx, state: str, error: BaseException) -> None:
    """End a run as failed or cancelled; nothing happens when it has ended already."""
    is_cancelled = state == "cancelled"
    reason = run.withdrawn or asyncio.CancelledError() if is_cancelled else error
    described = hidden(run.engine.describe(reason), run.secrets)
    if not _write(run, tx, state, None, json.dumps(described)):
        return
    run.tell(tx, "job.cancelled" if is_cancelled else "job.failed", {"error": described})
    told = run.withdrawn or JobCancelled(run.id, run.spec.name) if is_cancelled else error
    tx.after_commit(lambda: run.engine.audience.ended(run.id, None, told))


async def badly_at_last(run: "Run", state: str, error: BaseException) -> None:
    """End a run as failed or cancelled as soon as that can be stored. Raises StoreFailed or StoreClosed."""
    await at_last(run.engine.store, lambda tx: badly(run, tx, state, error))


async def again_or_badly(run: "Run", error: BaseException) -> None:
    """Put an attempt of the long lane that did not succeed back into the queue, or end its job.

    Raises StoreFailed or StoreClosed: then the next start decides.
    """
    if isinstance(error, StoreError):
        log.error("job_not_stored", job_id=run.id, function=run.spec.name, reason=str(error))
    if isinstance(error, CredentialEnded) and run.authority.over is not None:
        run.withdrawn = error
    if run.withdrawn is not None and not run.is_cancelling:
        await _withdrawn(run, run.withdrawn)
        return
    if not run.is_cancelling and _may_be_again(run, error):
        if await _again(run, error):
            return
        run.is_cancelling = True  # somebody's wish was stored while this attempt ended
    await badly_at_last(run, "cancelled" if run.is_cancelling else "failed", error)


async def _withdrawn(run: "Run", why: CredentialEnded) -> None:
    # What may be run again is held for a frozen account, and goes on when that is let go.
    is_held = isinstance(why, AccountFrozen) and run.spec.on_crash == "retry"
    described = json.dumps(run.engine.describe(why))
    if not (is_held and await run.engine.dispatcher.requeue(run.id, run.attempt, 0, described)):
        await badly_at_last(run, "cancelled", why)


def _may_be_again(run: "Run", error: BaseException) -> bool:
    if isinstance(error, StoreError):
        # The disk stopped it, as a crash would have.
        return run.spec.on_crash == "retry" and run.attempt < run.spec.retries + run.engine.limits.max_attempts
    return isinstance(error, JobFailed | JobTimeout) and run.attempt <= run.spec.retries


async def _again(run: "Run", error: BaseException) -> bool:
    delay_s = min(run.spec.backoff_s * 2 ** (run.attempt - 1), LONGEST_BACKOFF_S)
    delay_s *= random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
    why = json.dumps(hidden(run.engine.describe(error), run.secrets))
    return await run.engine.dispatcher.requeue(run.id, run.attempt, delay_s, why)


def _text(run: "Run", result: Any) -> str:
    limit = run.engine.limits.max_result_bytes
    if isinstance(result, _SIZED) and len(result) > limit:
        # It is longer yet as JSON, and making that of something huge would hold up everybody.
        raise ResultTooLarge(run.id, run.spec.name, len(result), limit)
    text = as_json(result).decode()
    if run.secrets:
        text = json.dumps(hidden(json.loads(text), run.secrets))
    if len(text) > limit:
        raise ResultTooLarge(run.id, run.spec.name, len(text), limit)
    return text


def _write(run: "Run", tx: Tx, state: str, result: str | None, error: str | None) -> bool:
    last = None if run.said is None else run.said.last
    is_end = run.is_stored and rows.finish(tx, run.id, run.attempt, state, result, error, last)
    if not is_end and (not run.is_stored or run.spec.lane == "local"):
        # One without a row gets it here: it had to wait for nothing, or the disk was full when it began to. It may
        # have its end already, when its caller gave up twice.
        is_end = rows.insert_if_new(tx, run.values(state, result, error, last, is_over=True))
    if not is_end:
        return False
    if run.asked:
        run.engine.asks.cancel(tx, run.id)
    if run.said is not None:
        run.said.end(tx)
    if run.request.callback is not None:
        run.engine.callbacks.due(tx, run.id, run.request.callback)
    return True
