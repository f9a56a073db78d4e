"""A method of the API, and one call of it on its way: what a handler may know besides its params."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from types import FrameType
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel

from jobs import model as jobs
from jobs.authority import SERVER, Authority, End
from jobs.clock import Clock, Stoppable
from jobs.engine import JobRunner
from rpcserver.auth.authenticator import Principal
from rpcserver.errors import NotFromInside, Unauthenticated
from rpcserver.ratelimit import Meter
from rpcserver.rpc.jsonrpc import Id, Invalid, Request, Response, encode_notification
from rpcserver.rpc.scheduler import Share
from rpcserver.settings import Settings
from rpcserver.telemetry.tracing import Span
from store import Tx, new_id

Reply = Callable[[bytes | None], None]


class Connection(Protocol):
    """What calls come over: a client's connection, or what stands in its place for a call from inside."""

    label: str
    principal: Principal | None
    is_operator: bool
    share: Share  # in whose turns its calls go on
    loop: asyncio.AbstractEventLoop
    calls: "dict[Any, Call]"  # under way, by their ids
    in_flight: int
    in_line: int  # of those in flight: behind others on their session
    last_method: str
    meters: tuple[Meter, ...]
    around: Stoppable | None  # what waits for its calls; None: a client

    @property
    def is_known(self) -> bool:
        """It is clear who calls."""

    @property
    def is_open(self) -> bool:
        """Messages can still be sent."""

    @property
    def client(self) -> "Client | None":
        """The client's connection; None for a call from inside."""

    def reply(self, message: bytes | None) -> None:
        """Send an answer."""

    def send_soon(self, message: bytes) -> None:
        """Send a message with this turn's others."""

    def hold_back(self, size: int) -> None:
        """Count bytes of answers that wait for others."""


class Client(Connection, Protocol):
    """A client's connection, as the rooms below `transport` see it."""

    id: UUID
    address: str
    opened_at: int
    about: dict[str, Any]  # what it says it is, with `server.identify`
    sessions: set[str]  # those it has used
    paused: bool  # it does not read

    def answered(self, response: Response | Invalid) -> None:
        """Take the client's answer to a request of the server."""

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request and return what the client answers. Raises ClientDeclined or ClientGone."""

    async def become(self, principal: Principal) -> None:
        """Make it a user's. Raises TooManyConnections or CredentialEnded."""

    def log_out(self) -> None:
        """Close it at its user's wish."""

    def shut(self, end: End) -> None:
        """Close it, for its credential has ended so."""

    def owe(self, size: int) -> None:
        """Count what is read from the log for it later."""

    async def writable(self) -> None:
        """Wait until the client has read enough for more to be sent."""


class Progress:
    """Sends `$/progress` for one token: the first report at once, then the latest of each interval.

    Args:
        token: as the caller gave it.
        interval_s: seconds between two notifications at least.
    """

    def __init__(self, token: str | int, interval_s: float, send: Callable[[bytes], None]) -> None:
        self._token = token
        self._interval_s = interval_s
        self._send = send
        self._done = float("-inf")
        self._percentage = 0.0
        self._latest: dict[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def report(self, done: float, total: float | None, message: str) -> None:
        """Take a report; one that goes back is left out, and so is one that comes after the end."""
        if done < self._done or self._is_over:
            return
        self._done = done
        value: dict[str, Any] = {"kind": "report", "done": done, "total": total, "message": message}
        if total:
            # A total that grows must not make the bar go back.
            self._percentage = max(self._percentage, min(100.0, round(100 * done / total, 1)))
            value["percentage"] = self._percentage
        self._latest = value
        if self._timer is None:
            self._flush()

    def end(self) -> None:
        """Send what is left: the response comes next, and nothing after it."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._write()

    def _flush(self) -> None:
        self._timer = None
        if self._latest is not None:
            self._write()
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._flush)

    def _write(self) -> None:
        value, self._latest = self._latest, None
        if value is not None:
            self._send(encode_notification("$/progress", {"token": self._token, "value": value}))


Handler = Callable[[Any, Any], Any]  # a `services.Call`, and the params' model

MARGIN_S = 0.5  # an answer that says that a job goes on comes this long before the call's deadline


@dataclass(frozen=True, slots=True)
class Example:
    """One call and what it answers."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    result: Any = None


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the API.

    Args:
        params: the model that checks the call; its fields are the parameters, by name or in the order of `positions`.
        handler: `handler(call, params)`, plain or async; what it returns is the result.
        is_ordered: calls on one session, or about one connection, run one after another, in the order sent.
        needs_auth: False for the few that anybody may call.
        is_open: every credential reaches it, whatever its scopes.
        is_own: it is about the client's own connection or credential: plays and plugins cannot call it.
        is_operator: only the operator of the data folder may call it; to others it does not exist.
        timeout_s: seconds it may take; None: the server's limit.
        is_change: it changes what outlives the connection, so that an idempotency key counts; others ignore it.
        has_secret: its result is shown once and never kept, also not for a repeated key.
        unfinished: `unfinished(job_id, state)` is the result of a call whose time is over while a person is asked, or
            was, and whose job goes on; None: that is told as the error WAITING_INPUT.
        secret_params: params of which nothing is kept, not even a hash: a repeated key is not compared by them.
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
    is_change: bool = True
    has_secret: bool = False
    result: Any = Any
    errors: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    secret_params: frozenset[str] = frozenset()
    unfinished: Callable[[str, str], Any] | None = None
    is_open: bool = False
    is_own: bool = False

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of the parameters as a list gives them: the required ones first, else in the model's order."""
        return _positions(self.params)

    def is_for(self, principal: Principal | None, is_operator: bool) -> bool:
        """Tell whether a caller may call it; for None: before authentication."""
        if self.is_operator:
            return is_operator
        if not self.needs_auth:
            return True
        return principal is not None and (self.is_open or principal.may(self.name))

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
    is_change: bool = True,
    has_secret: bool = False,
    result: Any = Any,
    errors: tuple[str, ...] = (),
    examples: tuple[Example, ...] = (),
    secret_params: Iterable[str] = (),
    unfinished: Callable[[str, str], Any] | None = None,
    is_open: bool = False,
    is_own: bool = False,
) -> Callable[[Handler], Method]:
    """Make a handler the method `name`."""
    return lambda handler: Method(
        name,
        params,
        handler,
        is_ordered,
        needs_auth,
        is_operator,
        timeout_s,
        is_change,
        has_secret,
        result,
        errors,
        examples,
        frozenset(secret_params),
        unfinished,
        is_open,
        is_own,
    )


@cache
def _positions(params: type[BaseModel]) -> tuple[str, ...]:
    fields = params.model_fields
    return tuple(sorted(fields, key=lambda name: not fields[name].is_required()))


class Call:
    """One call on its way.

    Args:
        reply: takes what is answered.
    """

    __slots__ = (
        "_after_reply",
        "_progress",
        "clock",
        "connection",
        "deadline_s",
        "has_asked",
        "has_begun",
        "has_turn",
        "id",
        "idempotency_key",
        "is_cancelled",
        "is_over",
        "job_id",
        "jobs",
        "key",
        "meta",
        "method",
        "reply",
        "request",
        "returning",
        "runner",
        "settings",
        "span",
        "started",
        "task",
        "timer",
    )

    def __init__(
        self,
        settings: Settings,
        runner: JobRunner,
        connection: Connection,
        method: Method,
        request: Request,
        reply: Reply,
    ) -> None:
        self.settings = settings
        self.runner = runner
        self.connection = connection
        self.method = method
        self.request = request
        self.id: Id = request.id
        self.reply = reply
        self.meta: dict[str, Any] = {}
        self.key: str | None = None
        self.idempotency_key: str | None = None
        self.deadline_s = method.timeout_s or settings.call_timeout_s
        self.is_cancelled = False
        self.is_over = False
        self.has_turn = False
        self.has_begun = False
        self.has_asked = False
        self.job_id: str | None = None  # the job it began last, or in which it asked a person: answers name it
        self.jobs: list[str] = []  # of the long lane, which it has begun: they go on without it
        self.started = 0.0
        self.span: Span | None = None
        self.task: asyncio.Task[None] | None = None
        self.clock: Clock | None = None  # of a call that has a task
        self.returning: asyncio.Future[None] | None = None  # while it waits for the turn it gave away
        self.timer: asyncio.TimerHandle | None = None
        self._progress: Progress | None = None
        self._after_reply: list[Callable[[], None]] | None = None

    @property
    def principal(self) -> Principal:
        """Who calls. Raises Unauthenticated."""
        if self.connection.principal is None:
            raise Unauthenticated
        return self.connection.principal

    @property
    def client(self) -> Client:
        """The client's own connection. Raises NotFromInside."""
        if self.connection.client is None:
            raise NotFromInside(self.method.name)
        return self.connection.client

    @property
    def authority(self) -> Authority:
        """By whose credentials the call is made; of the operator's, the server itself."""
        return SERVER if self.connection.is_operator else self.principal.authority

    def job_request(self, session_id: str | None = None, *, is_interactive: bool = True) -> jobs.Request:
        """Return a request for a job that is what this call does, or a part of it."""
        return jobs.Request(
            self.user_id,
            self.principal.authority,
            session_id,
            is_interactive=is_interactive,
            admitted=self.method.name,
        )

    @property
    def user_id(self) -> str:
        """The calling user's id."""
        return self.principal.user.id

    @property
    def patience_s(self) -> float:
        """How long, from its beginning, it waits for a job that goes on without it."""
        return max(0.05, self.deadline_s - MARGIN_S)

    def is_long(self, function: str) -> bool:
        """Tell whether a job function is of the long lane."""
        spec = self.runner.spec(function)
        return spec is not None and spec.lane == "long"

    async def submit(
        self,
        function: str,
        data: BaseModel | dict[str, Any],
        request: jobs.Request,
        *,
        along: Callable[[Tx], Any] | None = None,
    ) -> str:
        """Queue a job that this call begins, and return its id, or that of an earlier one of the same dedup key.

        However the call ends, its answer names the job; cancelled by its caller, it takes the job with it.

        Args:
            along: what is to be stored with its row, or not at all.
        """
        request = replace(request, job_id=request.job_id or new_id("j_"))
        submitting = asyncio.ensure_future(self.runner.submit(function, data, request, along=along))
        assert request.job_id is not None
        try:
            with self.runner.audience.watched(request.job_id, self.progress):  # it may report before this goes on
                job_id = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # Its row is on its way, and cannot be called back.
            await asyncio.wait([submitting])
            if submitting.exception() is None:
                self._began(submitting.result(), request)
            raise
        self._began(job_id, request)
        return job_id

    def _began(self, job_id: str, request: jobs.Request) -> None:
        self.job_id = job_id
        if job_id == request.job_id:
            self.jobs.append(job_id)

    async def result(self, job_id: str) -> Any:
        """Wait for a job that this call has begun, telling its caller how far it is, and return its result."""
        with self.runner.audience.watched(job_id, self.progress):
            return await self.runner.result(job_id)

    async def run(self, function: str, data: BaseModel | dict[str, Any], request: jobs.Request) -> Any:
        """Run a job as a part of this call and return its result."""
        if not self.is_long(function):
            return await self.runner.run(function, data, request)
        return await self.result(await self.submit(function, data, request))

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell the caller how far the call is, if they gave a `_meta.progress_token`."""
        if self._progress is None:
            token = self.meta.get("progress_token")
            if not isinstance(token, str | int) or isinstance(token, bool):
                return
            interval_s = self.settings.progress_interval_s
            self._progress = Progress(token, interval_s, self.connection.send_soon)
        self._progress.report(done, total, message)

    def after_reply(self, notice: Callable[[], None]) -> None:
        """Have `notice` called once the reply is queued: nothing it sends can overtake the reply."""
        if self._after_reply is None:
            self._after_reply = []
        self._after_reply.append(notice)

    def answer(self, reply: bytes | None) -> None:
        """Send the reply: what progress is left before it, what had to wait for it after it."""
        self.is_over = True
        if self.timer is not None:
            self.timer.cancel()
        if self._progress is not None:
            self._progress.end()
        self.reply(reply)
        if self._after_reply is not None:
            for notice in self._after_reply:
                notice()


def method_in(frame: FrameType) -> str | None:
    """Return the name of the method whose call is worked on in a frame of the stack, None where none is."""
    call = frame.f_locals.get("call")
    return call.method.name if isinstance(call, Call) else None
