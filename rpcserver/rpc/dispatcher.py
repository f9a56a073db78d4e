"""From a checked item to its reply: permission, the session's order, params, deadline, cancel, one map of errors.

A call that needs no wait is answered in the same turn of the loop; everything else gets a task. Both go the same way.
Source: house.md 2; protocol.md 2 and 3.
"""

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from typing import Any, cast

import orjson
import structlog
from jsonrpcserver import Success
from pydantic import ValidationError

from core.durations import LONGEST_S
from jobs.clock import CURRENT, Clock
from jobs.engine import JobRunner
from jobs.errors import JobsError
from jobs.model import problems
from jobs.nearest import nearest
from jobs.progress import OnProgress
from jobs.remotes.mapping import fitted
from rpcserver.auth.authenticator import Principal
from rpcserver.auth.credentials import Credentials
from rpcserver.errors import Busy, InvalidParams, NotFromInside, RateLimited, RpcError, ShuttingDown
from rpcserver.rpc import jsonrpc, replies
from rpcserver.rpc.calls import Call, Connection, Method, Reply
from rpcserver.rpc.errors import Answered, Code, ErrorObject, describe
from rpcserver.rpc.idempotency import Answers
from rpcserver.rpc.inside import Inside
from rpcserver.rpc.jsonrpc import Invalid, Request, Response
from rpcserver.rpc.scheduler import Paced, Scheduler
from rpcserver.settings import Settings
from rpcserver.telemetry import tracing
from rpcserver.telemetry.metrics import INVALID, UNKNOWN, Metrics
from store import OWNER, StoreError

MakeCall = Callable[[Connection, Method, Request, Reply], Call]


class Turns:
    """The queues, one for each key in use; a key whose turn is taken is in the table."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Call]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    def take(self, call: Call, key: str) -> bool:
        """Take the turn, or stand in line and return False."""
        # Before the first await: forty pipelined calls on one session keep their order.
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(call)
            return False
        self._waiting[key] = deque()
        call.has_turn = True
        return True

    def next(self, key: str) -> Call | None:
        """End a turn and return the call whose turn begins; None when a call came back, or nobody waits."""
        waiting = self._waiting[key]
        if not waiting:
            del self._waiting[key]
            return None
        call = waiting.popleft()
        call.has_turn = True
        if call.returning is None:
            return call
        call.returning.set_result(None)
        call.returning = None
        return None

    def leave(self, call: Call, key: str) -> None:
        """Stand in line no more."""
        waiting = self._waiting.get(key)
        if waiting is not None and call in waiting:
            waiting.remove(call)

    async def take_back(self, call: Call, key: str) -> None:
        """Wait for the turn before all who have not begun; whoever else waits for the same call waits along."""
        if call.returning is None:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque()
                call.has_turn = True
                return
            call.returning = asyncio.get_running_loop().create_future()
            waiting.appendleft(call)
        await asyncio.shield(call.returning)


log = structlog.get_logger("rpc")

MAX_KEY_CHARACTERS = 200
NOBODY = "nobody"  # whose turn it is for all who have not said who they are
AT_ONCE_BYTES = 2 * 1024  # of a message that is read without a stop
STRANGER_BATCH_BYTES = 64 * 1024  # that the answers to a batch may have before authentication


class Dispatcher:
    """Takes messages from connections and answers them.

    Args:
        default_session: names a user's default session, None when it is not known to have one.
        spawn: starts a task that outlives the connection and ends with the server.

    Attributes:
        make_call: makes a call with what handlers get besides its params; set before the first message.
    """

    make_call: MakeCall

    def __init__(
        self,
        methods: Iterable[Method],
        *,
        settings: Settings,
        metrics: Metrics,
        scheduler: Scheduler,
        runner: JobRunner,
        credentials: Credentials,
        answers: Answers,
        default_session: Callable[[str], str | None],
        spawn: Callable[[Any], asyncio.Task[None]],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._scheduler = scheduler
        self._runner = runner
        self._credentials = credentials
        self.answers = answers
        self._default_session = default_session
        self._spawn = spawn
        self.methods: dict[str, Method] = {method.name: method for method in methods}
        self._entries: dict[str, Any] = {name: _entry(method) for name, method in self.methods.items()}
        self._public = [method.name for method in self.methods.values() if not method.is_operator]
        self._turns = Turns()
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.is_draining = False
        self.maintenance: RpcError | None = None
        self._is_stopped = False
        self._running: set[asyncio.Task[None]] = set()

    def receive(self, connection: Connection, frame: bytes) -> Iterator[None] | None:
        """Take one message; every reply it asks for is sent sooner or later, a batch's in one message.

        A short call is begun at once; of a long message or a batch the steps that are left are returned.
        """
        limits = self._settings
        size = len(frame)
        if size > limits.max_unauthenticated_bytes and not connection.is_known:
            error = jsonrpc.too_large(limits.max_unauthenticated_bytes, size)
            connection.send_soon(jsonrpc.encode_error(None, error))
            return None
        if size <= AT_ONCE_BYTES and (item := jsonrpc.plain(frame, limits.max_depth)) is not None:
            self._take(connection, item, connection.reply)
            return None
        steps = jsonrpc.parsing(frame, limits.max_batch_items, limits.max_depth, limits.max_message_values)
        return self._take_all(connection, steps)

    def _take_all(self, connection: Connection, steps: jsonrpc.Steps) -> Iterator[None]:
        items, is_batch = yield from steps
        if not is_batch:
            self._take(connection, items[0], connection.reply)
            return
        max_bytes = self._settings.max_response_bytes if connection.is_known else STRANGER_BATCH_BYTES
        reply = replies.Batch(len(items), max_bytes, connection).add
        for item in items:
            self._take(connection, item, reply)
            yield

    async def call(
        self, principal: Principal | None, method: str, params: dict[str, Any], on_progress: OnProgress | None = None
    ) -> Any:
        """Call a method from inside, as a client of the principal would (None: the operator), and return its result.

        Permission, the session's order, params and errors are the same, so that a script can do everything its user
        can, and nothing else. While the call asks a person, whoever waits for it stands still. When the server is
        stopping, it waits to be stopped with it: the next start decides what becomes of the caller. Raises RpcError
        with what a client would have been told.
        """
        around, share = CURRENT.get(), self._scheduler.of_user("operator" if principal is None else principal.user.id)
        inside = Inside(principal, share, around, on_progress)
        if on_progress is not None:
            params = {**params, "_meta": {"progress_token": method}}
        frame = _framed(method, params)
        for _ in self.receive(inside, frame) or ():
            pass
        try:
            answer = await inside.answer
            if "error" in answer and answer["error"]["code"] == Code.SHUTTING_DOWN:
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            for call in tuple(inside.calls.values()):
                self._cancel(call)
            raise
        finally:
            if around is not None:
                await around.back()
        if "error" in answer:
            raise Answered(answer["error"])
        return answer["result"]

    def stop(self) -> None:
        """Stop the calls that are left, waiting or running; each is answered."""
        self._is_stopped = True
        for task in self._running:
            task.cancel()

    def _take(self, connection: Connection, item: jsonrpc.Item, reply: Reply) -> None:
        if isinstance(item, Invalid) and not item.is_answer:
            self._metrics.called(INVALID, item.error.code, 0)
            reply(jsonrpc.encode_error(item.id, item.error))
        elif isinstance(item, Invalid | Response):
            # An answer is never answered, whatever is wrong with it: whoever asked hears of that.
            if connection.client is not None:
                connection.client.answered(item)
            reply(None)
        elif item.method.startswith("$/"):
            self._protocol_message(connection, item, reply)
        else:
            method = self.methods.get(item.method)
            if method is None or (method.is_operator and not connection.is_operator):
                self._metrics.called(UNKNOWN, Code.METHOD_NOT_FOUND.value, 0)
                reply(self._not_found(connection, item) if item.has_id else None)
                return
            self._admit(self.make_call(connection, method, item, reply))

    def _not_found(self, connection: Connection, item: Request) -> bytes:
        # What is near is looked for only for those we know.
        near = nearest(item.method, self._public) if connection.is_known else ()
        return jsonrpc.encode_error(item.id, jsonrpc.method_not_found(item.method, near))

    def _protocol_message(self, connection: Connection, item: Request, reply: Reply) -> None:
        if item.has_id:
            reply(jsonrpc.encode_error(item.id, jsonrpc.method_not_found(item.method)))
            return
        reply(None)
        if item.method == "$/cancelRequest" and isinstance(item.params, dict):
            id = item.params.get("id")
            # `true` equals 1 in Python, but not in JSON.
            call = connection.calls.get(id) if isinstance(id, str | int | float) and not isinstance(id, bool) else None
            if call is not None:
                self._cancel(call)

    def _admit(self, call: Call) -> None:
        connection = call.connection
        connection.last_method = call.method.name
        try:
            self._check(call)
        except (RpcError, JobsError) as error:
            call.reply(replies.encoded(call, describe(error), self._metrics))
            return
        call.started = time.monotonic()
        connection.in_flight += 1
        self.in_flight += 1
        self.idle.clear()
        if call.request.has_id:
            connection.calls[call.id] = call
        if call.key is None:
            self._run(call)
        elif not self._turns.take(call, call.key):
            connection.in_line += 1
            call.timer = connection.loop.call_later(call.deadline_s, self._expire, call)
        elif not self._run(call):
            self._release(call.key)

    def _check(self, call: Call) -> None:
        connection, limits = call.connection, self._settings
        method = call.method
        if self.is_draining:
            raise ShuttingDown
        _permit(call)
        if method.is_own and connection.client is None:
            raise NotFromInside(method.name)
        if self.maintenance is not None and method.needs_auth and not connection.is_operator:
            raise self.maintenance
        # Calls that stand in line for their session cost no more than their bytes: they are counted apart.
        if connection.in_flight - connection.in_line >= limits.max_in_flight:
            raise Busy(limits.max_in_flight)
        if connection.in_line >= limits.max_in_line:
            raise Busy(limits.max_in_line)
        for meter in connection.meters:
            wait_s = meter.take()
            if wait_s:
                raise RateLimited(wait_s)
        params = call.request.params
        if isinstance(params, dict):
            meta = params.pop("_meta", None)
            if meta is not None:
                _read_meta(call, meta)
        if method.is_ordered:
            call.key = self._order_key(call, params)

    def _order_key(self, call: Call, params: dict[str, Any] | list[Any]) -> str | None:
        if call.method.is_own:
            return f"connection:{call.client.id}"
        if isinstance(params, list):
            named = dict(zip(call.method.positions, params, strict=False)).get("session_id")
        else:
            named = params.get("session_id")
        if isinstance(named, str):
            return named
        # No default session yet: calls that name none keep their order while the first of them makes it.
        making = f"default:{call.user_id}"
        return making if making in self._turns else (self._default_session(call.user_id) or making)

    def _run(self, call: Call) -> bool:
        """Start a call and tell whether it goes on in a task of its own."""
        if call.is_cancelled or self._is_stopped:
            self._finish(call, replies.interrupted(call))
            return False
        if call.timer is not None:
            try:
                _permit(call)  # it stood in line: what allowed it may have ended
            except JobsError as error:
                self._finish(call, describe(error))
                return False
        return self._start(call) if call.span is None else call.span.run(self._start, call)

    def _start(self, call: Call) -> bool:
        principal = call.connection.principal
        owner = OWNER.set(NOBODY if principal is None else principal.user.id)
        try:
            return self._begin(call, principal)
        finally:
            OWNER.reset(owner)

    def _begin(self, call: Call, principal: Principal | None) -> bool:
        if call.idempotency_key is None and (principal is None or not principal.is_metered):
            outcome = jsonrpc.call(self._entries, call, call.request)
        else:
            outcome = self._fenced(call)
        if not inspect.isawaitable(outcome):
            self._finish(call, outcome)
            return False
        self._spawn(self._wait(call, cast(Coroutine[Any, Any, Any], outcome)))
        return True

    async def _fenced(self, call: Call) -> Any:
        """Run a call that is counted against its credential, or whose key may have been answered before."""
        principal = call.connection.principal
        entries: Collection[str] = ()
        if principal is not None and principal.is_metered and call.method.needs_auth:
            entries = await self._credentials.admit(principal.authority, call.method.name)
            principal.authority.require()  # it waited for that
        kind = "CANCELLED"
        try:
            if call.idempotency_key is None:
                outcome = await self._settled(call)
            else:
                outcome = await self.answers.once(call, call.idempotency_key, self._settled)
            kind = outcome.data["kind"] if isinstance(outcome, ErrorObject) else "ok"
        finally:
            self._credentials.note(entries, kind)
        return outcome

    async def _settled(self, call: Call) -> Any:
        try:
            outcome = jsonrpc.call(self._entries, call, call.request)
            return await outcome if inspect.isawaitable(outcome) else outcome
        except Exception as error:
            return describe(error)

    async def _wait(self, call: Call, outcome: Coroutine[Any, Any, Any]) -> None:
        # Known only from here on: a task cancelled before its first step would never come to answer.
        call.task = task = cast("asyncio.Task[None]", asyncio.current_task())
        self._running.add(task)
        left_s = call.deadline_s if call.timer is None else call.deadline_s - (time.monotonic() - call.started)
        clock = call.clock = Clock(left_s, _Asking(self, call))
        CURRENT.set(clock)
        try:
            if call.is_cancelled or self._is_stopped:
                outcome.close()
                raise asyncio.CancelledError
            call.has_begun = True
            async with clock.start():
                result = await Paced(call.connection.share, outcome)
        except TimeoutError as error:
            result = replies.timed_out(call) if clock.is_up else describe(error)
        except asyncio.CancelledError:
            if call.is_cancelled:
                await self._cancel_jobs(call)
            result = replies.interrupted(call)
        except Exception as error:
            result = describe(error)
        clock.end()
        # Task and clock hold the call: a ring of them would wait for the collector, which stops everybody.
        call.task = call.clock = None
        self._running.discard(task)
        if not call.is_over:
            self._finish(call, result)
        else:
            call.connection.in_flight -= 1
            kind = result.data["kind"] if isinstance(result, ErrorObject) else "ok"
            log.info("answered_call_ended", method=call.method.name, job_id=call.job_id, kind=kind)
        if call.key is not None and call.has_turn:
            self._release(call.key)
        elif call.key is not None:
            self._turns.leave(call, call.key)

    def _cancel(self, call: Call) -> None:
        if call.is_cancelled:
            return  # once: a second interruption would hit what the first one has to clean up
        call.is_cancelled = True
        if call.task is not None:
            call.task.cancel()
        elif call.key is not None and not call.has_turn:
            self._leave_line(call, call.key)
            self._finish(call, replies.cancelled(call))

    async def _cancel_jobs(self, call: Call) -> None:
        """Stop the jobs that a cancelled call has begun; one of an earlier call's dedup key is not its own."""
        for job_id in call.jobs:
            try:
                await asyncio.shield(self._runner.cancel(job_id))
            except StoreError as error:
                log.warning("job_not_cancelled", job_id=job_id, reason=str(error))
            except asyncio.CancelledError:
                return  # the server stops, and the jobs with it

    def _expire(self, call: Call) -> None:
        # For a call that still stands in line, or that asked a person; any other has its own clock.
        if call.is_over:
            return
        if call.task is not None and call.has_asked and call.job_id is not None:
            self._spawn(self._answer_unfinished(call, call.job_id))
        elif call.key is not None and not call.has_turn and call.task is None:
            self._leave_line(call, call.key)
            self._finish(call, replies.timed_out(call))

    async def _answer_unfinished(self, call: Call, job_id: str) -> None:
        """Answer a call with the job that asked a person; it goes on, and so does what waits for it here."""
        state = "waiting_input" if call.clock is not None and call.clock.is_stopped else "running"
        outcome = replies.unfinished(call, job_id, state)
        if call.idempotency_key is not None:
            await self.answers.settle(call, call.idempotency_key, outcome)
        if not call.is_over:
            self._answer(call, outcome)

    def _finish(self, call: Call, outcome: Any) -> None:
        call.connection.in_flight -= 1
        self._answer(call, outcome)

    def _answer(self, call: Call, outcome: Any) -> None:
        connection = call.connection
        self.in_flight -= 1
        if self.in_flight == 0:
            self.idle.set()
        if connection.calls.get(call.id) is call:
            del connection.calls[call.id]
        took_s = time.monotonic() - call.started
        if took_s > self._settings.slow_call_s and not call.has_asked:
            log.warning("slow_call", method=call.method.name, ms=round(took_s * 1000), connection=connection.label)
        call.answer(replies.encoded(call, outcome, self._metrics))

    def _release(self, key: str) -> None:
        while (call := self._turns.next(key)) is not None:
            call.connection.in_line -= 1
            if self._run(call):
                return

    def _leave_line(self, call: Call, key: str) -> None:
        self._turns.leave(call, key)
        call.connection.in_line -= 1

    def asks(self, call: Call) -> None:
        """Note that a job of a call asks a person: the other calls on its session go on meanwhile."""
        if call.timer is None and call.connection.around is None:
            left_s = call.patience_s - (time.monotonic() - call.started)
            call.timer = call.connection.loop.call_later(max(0.0, left_s), self._expire, call)
        self._give_turn(call)

    def _give_turn(self, call: Call) -> None:
        if call.has_turn and call.key is not None:
            call.has_turn = False
            self._release(call.key)

    async def take_turn_back(self, call: Call) -> None:
        """Wait until no other call on the session is under way, and go on before those that have not begun.

        Not for a call that asks somebody else still, or one that is stopped and only has to end.
        """
        if call.key is None or call.clock is None:
            return
        while not (call.has_turn or call.clock.is_stopped or call.is_cancelled or self._is_stopped):
            await self._turns.take_back(call, call.key)
            if call.clock.is_stopped:
                self._give_turn(call)  # asked again meanwhile


class _Asking:
    """What stands still with a call while a job of it asks a person: the calls behind it go on, its time does not.

    That is the time its work may take. When its caller's patience is over, the job's id is the answer.
    """

    __slots__ = ("_call", "_dispatcher")

    def __init__(self, dispatcher: Dispatcher, call: Call) -> None:
        self._dispatcher = dispatcher
        self._call = call

    def stop(self, job_id: str) -> None:
        """Note that a job asks a person."""
        self._call.job_id, self._call.has_asked = job_id, True
        self._dispatcher.asks(self._call)
        if self._call.connection.around is not None:
            self._call.connection.around.stop(job_id)

    def go_on(self) -> None:
        """Note that the question is over."""
        if self._call.connection.around is not None:
            self._call.connection.around.go_on()

    def leave(self) -> None:
        """Let others have the slot of the job that makes this call, if one does."""
        if self._call.connection.around is not None:
            self._call.connection.around.leave()

    def come_back(self) -> None:
        """Want that slot again."""
        if self._call.connection.around is not None:
            self._call.connection.around.come_back()

    async def back(self) -> None:
        """Wait for the turn that was given away: it comes before all calls that have not begun."""
        await self._dispatcher.take_turn_back(self._call)


def _permit(call: Call) -> None:
    """Raise Unauthenticated, or what the caller's authority raises, unless they may make this call now."""
    method = call.method
    if method.needs_auth and not method.is_operator:
        call.principal.authority.require(*(() if method.is_open else (method.name,)))


def _read_meta(call: Call, meta: Any) -> None:
    if not isinstance(meta, dict):
        raise InvalidParams("_meta must be an object")
    call.meta = meta
    call.span = tracing.begin(call.method.name, meta)
    deadline_ms = meta.get("deadline_ms")
    if deadline_ms is not None:
        is_number = isinstance(deadline_ms, int | float) and not isinstance(deadline_ms, bool)
        if not is_number or not 1 <= deadline_ms <= LONGEST_S * 1000:
            raise InvalidParams(f"_meta.deadline_ms must be a number of milliseconds, from 1 to {LONGEST_S:.0f}000")
        call.deadline_s = min(call.deadline_s, deadline_ms / 1000)
    key = meta.get("idempotency_key")
    if key is not None:
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARACTERS or "\x00" in key:
            raise InvalidParams(f"_meta.idempotency_key must be a text of 1 to {MAX_KEY_CHARACTERS} characters")
        if call.method.is_change:
            call.idempotency_key = key


def _framed(method: str, params: dict[str, Any]) -> bytes:
    """Return the message of a call from inside. Raises InvalidParams, naming what no JSON can hold."""
    try:
        return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    except TypeError:
        errors = [error for name, value in params.items() for error in _unfit(name, value)]
        raise _misfit(errors) from None


def _unfit(name: str, value: Any) -> Iterator[dict[str, Any]]:
    try:
        orjson.dumps(value)
    except TypeError as error:
        yield {"param": name, "reason": str(error)}


def _entry(method: Method) -> Callable[..., Any]:
    """Return the function that jsonrpcserver's table holds: its signature is the params model's."""
    names = method.positions
    model = method.params

    def checked(call: Call, /, *args: Any, **kwargs: Any) -> Any:
        try:
            params = fitted(model, dict(zip(names, args, strict=False)) if args else kwargs)
            return Success(method.handler(call, params))
        except ValidationError as error:
            return Success(_invalid_params(error))
        except Exception as error:
            return Success(describe(error))

    # None is required here: which are, the model knows, and says it better.
    checked.__signature__ = jsonrpc.Names(names)  # type: ignore[attr-defined]
    return checked


def _invalid_params(error: ValidationError) -> ErrorObject:
    found = ((".".join(str(part) for part in item["loc"]), item["msg"]) for item in problems(error))
    return describe(_misfit([{"param": param, "reason": reason} for param, reason in found]))


def _misfit(errors: list[dict[str, Any]]) -> InvalidParams:
    reason = "; ".join(f"{item['param'] or 'params'}: {item['reason']}" for item in errors[:3])
    return InvalidParams(reason, errors)
