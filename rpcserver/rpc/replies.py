"""What goes back to the caller: one reply, a batch of them, or nothing."""

import time
from typing import Any

import orjson
import structlog

from rpcserver.errors import Cancelled, ResponseTooLarge, ServerCancelled, TimedOut, WaitingInput
from rpcserver.rpc import jsonrpc
from rpcserver.rpc.calls import Call, Connection
from rpcserver.rpc.errors import Code, ErrorObject, describe
from rpcserver.telemetry.metrics import Metrics

log = structlog.get_logger("rpc")


class Batch:
    """Gathers the replies of a batch and sends them as one message; notifications have none.

    Args:
        max_bytes: how long they may be together; what is over becomes an error.
    """

    def __init__(self, items: int, max_bytes: int, connection: Connection) -> None:
        self._left = items
        self._max_bytes = max_bytes
        self._connection = connection
        self._bytes = 0
        self._replies: list[bytes] = []

    def add(self, reply: bytes | None) -> None:
        """Take one reply; the last one sends them all."""
        self._left -= 1
        if not self._connection.is_open:
            self._replies.clear()
            return
        if reply is not None:
            if self._bytes + len(reply) > self._max_bytes:
                id = orjson.Fragment(reply.rpartition(b'"id":')[2][:-1])
                reply = orjson.dumps({"jsonrpc": "2.0", "error": _too_large(self._max_bytes).as_dict(), "id": id})
            self._bytes += len(reply)
            self._replies.append(reply)
            self._connection.hold_back(len(reply))
        if self._left == 0 and self._replies:
            self._connection.hold_back(-self._bytes)
            self._connection.reply(jsonrpc.encode_batch(self._replies))


def encoded(call: Call, outcome: Any, metrics: Metrics) -> bytes | None:
    """Return the reply for a result or an ErrorObject, None for a notification; count it and end its span."""
    if not isinstance(outcome, ErrorObject):
        outcome = _result(call, outcome)
    code = outcome.code if isinstance(outcome, ErrorObject) else 0
    metrics.called(call.method.name, code, time.monotonic() - call.started if call.started else 0.0)
    if call.span is not None:
        call.span.end(code)
    if not call.request.has_id:
        if isinstance(outcome, ErrorObject) and outcome.code != Code.INVALID_PARAMS:
            log.info("notification_failed", method=call.method.name, kind=outcome.data.get("kind"))
        return None
    return jsonrpc.encode_error(call.id, outcome) if isinstance(outcome, ErrorObject) else outcome


def _result(call: Call, outcome: Any) -> bytes | ErrorObject | None:
    if not call.request.has_id:
        return None
    try:
        reply = jsonrpc.encode_result(call.id, outcome)
    except orjson.JSONEncodeError as error:
        return describe(error)
    limit = call.settings.max_response_bytes
    return reply if len(reply) <= limit else _too_large(limit, len(reply))


def _too_large(limit: int, size: int | None = None) -> ErrorObject:
    has = "The answer would make the batch's too long" if size is None else f"The answer has {size} bytes"
    message = f"{has}, the limit is {limit}: ask for less at a time."
    return describe(ResponseTooLarge(message))


def unfinished(call: Call, job_id: str, state: str) -> Any:
    """Return the answer to a call whose time is over while a job of it asks a person, or did; the job goes on."""
    if call.method.unfinished is not None:
        return call.method.unfinished(job_id, state)
    message = (
        f"A job of {call.method.name} asked a person and goes on by itself: asks.list shows what is asked, "
        f"ask.answer answers, and job.wait with this job_id waits for its end."
    )
    return describe(WaitingInput(message, job_id=job_id, state=state, next=wait_for(job_id)))


def wait_for(job_id: str) -> dict[str, Any]:
    """Return the call that leads on from an answer that came before its job's end."""
    return {"method": "job.wait", "params": {"job_id": job_id}}


def interrupted(call: Call) -> ErrorObject:
    """Return the error for a call that was stopped by its caller, its deadline, or the server."""
    if call.is_cancelled:
        return cancelled(call)
    return timed_out(call) if call.clock is not None and call.clock.is_up else server_cancelled(call)


def timed_out(call: Call) -> ErrorObject:
    """Return the error for a call whose time is over."""
    message = f"{call.method.name} took longer than {call.deadline_s:g} s and was stopped."
    return describe(TimedOut(message, **_stopped(call)))


def cancelled(call: Call) -> ErrorObject:
    """Return the error for a call its caller cancelled."""
    return describe(Cancelled("Request cancelled", **_stopped(call)))


def server_cancelled(call: Call) -> ErrorObject:
    """Return the error for a call the server stopped."""
    return describe(ServerCancelled("Server cancelled", **_stopped(call)))


def _stopped(call: Call) -> dict[str, Any]:
    """Return what is told of a stopped call: what may have had an effect is not to be made again unseen."""
    if not (call.has_begun and call.method.is_change):
        return {"is_retryable": True}
    if call.job_id is None:
        return {"reason": "What it had done until then stays: look what became of it before you call again."}
    if call.is_cancelled or call.job_id not in call.jobs:
        return {"job_id": call.job_id, "reason": "job.get tells what became of its job."}
    return {"job_id": call.job_id, "next": wait_for(call.job_id), "reason": "Its job goes on."}
