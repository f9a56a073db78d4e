"""From a checked item to its reply: permission, the session's order, params, deadline, cancel, one map of errors.

A call that needs no wait is answered in the same turn of the loop; everything else gets a task. Both go the same way.
Source: house.md 2; protocol.md 2 and 3.
"""

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import structlog
from jsonrpcserver import Success
from pydantic import BaseModel, ValidationError

from rpcserver import jsonrpc, replies, tracing
from rpcserver.auth import Principal
from rpcserver.connection import Connection
from rpcserver.errors import (
    BUSY,
    SHUTTING_DOWN,
    TIMED_OUT,
    ErrorObject,
    Forbidden,
    InvalidParams,
    RpcError,
    Unauthenticated,
    describe,
)
from rpcserver.examples import Example
from rpcserver.jsonrpc import Id, Invalid, Request, Response
from rpcserver.metrics import INVALID, UNKNOWN
from rpcserver.replies import Reply

if TYPE_CHECKING:
    from rpcserver.app import App

log = structlog.get_logger("rpc")

Handler = Callable[["Call", Any], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the API.

    Args:
        params: the model that checks the call; its fields are the parameters, by name or in this order.
        handler: `handler(call, params)`, plain or async; what it returns is the result.
        is_ordered: calls on one session run one after another, in the order sent.
        needs_auth: False for the few that anybody may call.
        is_operator: only the operator of the data folder may call it; to others it does not exist.
        timeout_s: seconds it may take; None: the server's limit.
        result: the model or type of what is answered.
        errors: the kinds of error it can be answered with, besides those any call can.
        examples: calls that a test makes.
    """

    name: str
    params: type[BaseModel]
    handler: Handler
    is_ordered: bool = False
    needs_auth: bool = True
    is_operator: bool = False
    timeout_s: float | None = None
    result: Any = Any
    errors: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def doc(self) -> str:
        """The handler's own words."""
        return inspect.cleandoc(self.handler.__doc__ or "")


def method(
    name: str,
    params: type[BaseModel],
    *,
    is_ordered: bool = False,
    needs_auth: bool = True,
    is_operator: bool = False,
    timeout_s: float | None = None,
    result: Any = Any,
    errors: tuple[str, ...] = (),
    examples: tuple[Example, ...] = (),
) -> Callable[[Handler], Method]:
    """Make a handler the method `name`."""
    return lambda handler: Method(
        name, params, handler, is_ordered, needs_auth, is_operator, timeout_s, result, errors, examples
    )


class Call:
    """One call on its way: what a handler may know besides its params."""

    __slots__ = (
        "_after_reply",
        "_task",
        "app",
        "connection",
        "deadline_s",
        "id",
        "is_cancelled",
        "key",
        "meta",
        "method",
        "reply",
        "request",
        "span",
        "started",
    )

    def __init__(self, app: "App", connection: Connection, method: Method, request: Request, reply: Reply) -> None:
        self.app = app
        self.connection = connection
        self.method = method
        self.request = request
        self.id: Id = request.id
        self.reply = reply
        self.meta: dict[str, Any] = {}
        self.key: str | None = None
        self.deadline_s = method.timeout_s or app.settings.call_timeout_s
        self.is_cancelled = False
        self.started = 0.0
        self.span: tracing.Span | None = None
        self._task: asyncio.Task[None] | None = None
        self._after_reply: list[Callable[[], None]] = []

    @property
    def principal(self) -> Principal:
        """Who calls. Raises Unauthenticated."""
        if self.connection.principal is None:
            raise Unauthenticated
        return self.connection.principal

    @property
    def user_id(self) -> str:
        """The calling user's id."""
        return self.principal.user.id

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell the caller how far the call is, if he gave a `_meta.progress_token`."""
        token = self.meta.get("progress_token")
        if isinstance(token, str | int) and not isinstance(token, bool):
            value: dict[str, Any] = {"kind": "report", "done": done, "total": total, "message": message}
            if total:
                value["percentage"] = round(100 * done / total, 1)
            self.connection.send_soon(jsonrpc.encode_notification("$/progress", {"token": token, "value": value}))

    def after_reply(self, notice: Callable[[], None]) -> None:
        """Have `notice` called once the reply is queued: nothing it sends can overtake the reply."""
        self._after_reply.append(notice)

    def cancel(self) -> None:
        """Stop the call: one that waits its turn never starts, one that runs is interrupted."""
        self.is_cancelled = True
        if self._task is not None:
            self._task.cancel()


class Dispatcher:
    """Takes messages from connections and answers them.

    Args:
        spawn: starts a task that outlives the connection and ends with the server.
    """

    def __init__(self, app: "App", methods: Iterable[Method], spawn: Callable[[Any], asyncio.Task[None]]) -> None:
        self._app = app
        self._spawn = spawn
        self.methods: dict[str, Method] = {method.name: method for method in methods}
        self._entries: dict[str, Any] = {name: _entry(method) for name, method in self.methods.items()}
        self._public = [method.name for method in self.methods.values() if not method.is_operator]
        self._waiting: dict[str, deque[Call]] = {}
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.is_draining = False
        self._is_stopped = False
        self._running: set[asyncio.Task[None]] = set()

    def receive(self, connection: Connection, frame: bytes) -> None:
        """Take one message; every reply it asks for is sent sooner or later, a batch's in one message."""
        limits = self._app.settings
        if connection.principal is None and len(frame) > limits.max_unauthenticated_bytes:
            error = jsonrpc.too_large(limits.max_unauthenticated_bytes, len(frame))
            connection.send_soon(jsonrpc.encode_error(None, error))
            return
        items, is_batch = jsonrpc.parse(frame, limits.max_batch_items, limits.max_depth)
        reply = (
            replies.Batch(len(items), connection.send_soon).add if is_batch else replies.sender(connection.send_soon)
        )
        for item in items:
            self._take(connection, item, reply)

    def stop(self) -> None:
        """Stop the calls that are left, waiting or running; each is answered."""
        self._is_stopped = True
        for task in self._running:
            task.cancel()

    def _take(self, connection: Connection, item: jsonrpc.Item, reply: Reply) -> None:
        if isinstance(item, Invalid):
            self._app.metrics.called(INVALID, item.error.code, 0)
            reply(jsonrpc.encode_error(item.id, item.error))
        elif isinstance(item, Response):
            reply(None)
        elif item.method.startswith("$/"):
            self._protocol_message(connection, item, reply)
        else:
            method = self.methods.get(item.method)
            if method is None or (method.is_operator and not connection.is_operator):
                error = jsonrpc.method_not_found(item.method, self._public)
                self._app.metrics.called(UNKNOWN, error.code, 0)
                reply(jsonrpc.encode_error(item.id, error) if item.has_id else None)
                return
            self._admit(Call(self._app, connection, method, item, reply))

    def _protocol_message(self, connection: Connection, item: Request, reply: Reply) -> None:
        if item.has_id:
            reply(jsonrpc.encode_error(item.id, jsonrpc.method_not_found(item.method, self._public)))
            return
        reply(None)
        if item.method == "$/cancelRequest" and isinstance(item.params, dict):
            id = item.params.get("id")
            # `true` equals 1 in Python, but not in JSON.
            call = connection.calls.get(id) if isinstance(id, str | int | float) and not isinstance(id, bool) else None
            if call is not None:
                call.cancel()

    def _admit(self, call: Call) -> None:
        connection = call.connection
        connection.last_method = call.method.name
        try:
            self._check(call)
        except RpcError as error:
            call.reply(replies.encoded(call, describe(error)))
            return
        call.started = time.monotonic()
        connection.in_flight += 1
        self.in_flight += 1
        self.idle.clear()
        if call.request.has_id:
            connection.calls[call.id] = call
        if call.key is None:
            self._run(call)
        elif call.key in self._waiting:
            self._waiting[call.key].append(call)
        else:
            # Taken before the first await: forty pipelined calls on one session keep their order.
            self._waiting[call.key] = deque()
            if not self._run(call):
                self._release(call.key)

    def _check(self, call: Call) -> None:
        connection, limits = call.connection, self._app.settings
        if self.is_draining:
            message = "The server is restarting: connect again in a moment."
            raise RpcError(SHUTTING_DOWN, "SHUTTING_DOWN", message, is_retryable=True)
        if call.method.needs_auth and not call.method.is_operator and not call.principal.may(call.method.name):
            raise Forbidden(call.method.name)
        if connection.in_flight >= limits.max_in_flight:
            raise RpcError(
                BUSY,
                "BUSY",
                f"{limits.max_in_flight} calls of this connection are under way: wait for an answer before the next.",
                is_retryable=True,
                retry_after_ms=100,
            )
        params = call.request.params
        if isinstance(params, dict):
            meta = params.pop("_meta", None)
            if meta is not None:
                self._read_meta(call, meta)
        if call.method.is_ordered:
            call.key = self._order_key(call, params)

    def _read_meta(self, call: Call, meta: Any) -> None:
        if not isinstance(meta, dict):
            raise InvalidParams("_meta must be an object")
        call.meta = meta
        call.span = tracing.begin(call.method.name, meta)
        deadline_ms = meta.get("deadline_ms")
        if deadline_ms is not None:
            if not isinstance(deadline_ms, int | float) or isinstance(deadline_ms, bool) or deadline_ms <= 0:
                raise InvalidParams("_meta.deadline_ms must be a number of milliseconds above 0")
            call.deadline_s = min(call.deadline_s, deadline_ms / 1000)

    def _order_key(self, call: Call, params: dict[str, Any] | list[Any]) -> str | None:
        if isinstance(params, list):
            named = params[0] if params and next(iter(call.method.params.model_fields)) == "session_id" else None
        else:
            named = params.get("session_id")
        if isinstance(named, str):
            return named
        # No default session yet: calls that name none keep their order while the first of them makes it.
        making = f"default:{call.user_id}"
        return making if making in self._waiting else (self._app.sessions.default_of(call.user_id) or making)

    def _run(self, call: Call) -> bool:
        """Start a call and tell whether it goes on in a task of its own."""
        if call.is_cancelled or self._is_stopped:
            self._finish(call, replies.cancelled() if call.is_cancelled else replies.server_cancelled())
            return False
        return self._start(call) if call.span is None else call.span.run(self._start, call)

    def _start(self, call: Call) -> bool:
        outcome = jsonrpc.call(self._entries, call, call.request)
        if not inspect.isawaitable(outcome):
            self._finish(call, outcome)
            return False
        self._spawn(self._wait(call, cast(Coroutine[Any, Any, Any], outcome)))
        return True

    async def _wait(self, call: Call, outcome: Coroutine[Any, Any, Any]) -> None:
        # Known only from here on: a task cancelled before its first step would never come to answer.
        call._task = task = cast("asyncio.Task[None]", asyncio.current_task())
        self._running.add(task)
        try:
            if call.is_cancelled or self._is_stopped:
                outcome.close()
                raise asyncio.CancelledError
            async with asyncio.timeout(call.deadline_s) as limit:
                result = await outcome
        except TimeoutError as error:
            if limit.expired():
                message = f"{call.method.name} took longer than {call.deadline_s:g} s and was stopped."
                result = describe(RpcError(TIMED_OUT, "TIMED_OUT", message, is_retryable=True))
            else:
                result = describe(error)
        except asyncio.CancelledError:
            result = replies.cancelled() if call.is_cancelled else replies.server_cancelled()
        except Exception as error:
            result = describe(error)
        self._running.discard(task)
        self._finish(call, result)
        if call.key is not None:
            self._release(call.key)

    def _finish(self, call: Call, outcome: Any) -> None:
        connection = call.connection
        connection.in_flight -= 1
        self.in_flight -= 1
        if self.in_flight == 0:
            self.idle.set()
        if connection.calls.get(call.id) is call:
            del connection.calls[call.id]
        took_s = time.monotonic() - call.started
        if took_s > self._app.settings.slow_call_s:
            log.warning("slow_call", method=call.method.name, ms=round(took_s * 1000), connection=connection.label)
        call.reply(replies.encoded(call, outcome))
        for notice in call._after_reply:
            notice()

    def _release(self, key: str) -> None:
        waiting = self._waiting[key]
        while waiting:
            if self._run(waiting.popleft()):
                return
        del self._waiting[key]


def _entry(method: Method) -> Callable[..., Any]:
    """Return the function that jsonrpcserver's table holds: its signature is the params model's."""
    names = tuple(method.params.model_fields)
    validate = method.params.model_validate

    def entry(call: Call, /, *args: Any, **kwargs: Any) -> Any:
        try:
            params = validate(dict(zip(names, args, strict=False)) if args else kwargs)
            return Success(method.handler(call, params))
        except ValidationError as error:
            return Success(_invalid_params(error))
        except Exception as error:
            return Success(describe(error))

    # None is required here: which are, the model knows, and says it better.
    entry.__signature__ = jsonrpc.Names(names)  # type: ignore[attr-defined]
    return entry


def _invalid_params(error: ValidationError) -> ErrorObject:
    errors = [
        {"param": ".".join(str(part) for part in item["loc"]), "reason": item["msg"]}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    reason = "; ".join(f"{item['param'] or 'params'}: {item['reason']}" for item in errors[:3])
    return describe(InvalidParams(reason, errors))
