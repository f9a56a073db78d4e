"""Calls of our own methods from inside: what a script does goes through the same door as what a client sends.

Permission, the session's order, params and errors are the dispatcher's, so that a script can do everything its user
can, and nothing else.
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import orjson

from jobs.clock import CURRENT, Stoppable
from rpcserver.auth.authenticator import Principal
from rpcserver.rpc.errors import SHUTTING_DOWN, RpcError
from rpcserver.transport.connection import Connection
from rpcserver.transport.scheduler import Share
from store import new_id

if TYPE_CHECKING:
    from rpcserver.app import App
    from rpcserver.events.subscriptions import Subscription
    from rpcserver.rpc.calls import Call
    from rpcserver.transport.ratelimit import Meter

_CANCEL = orjson.dumps({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}})


class Inside:
    """Stands where a connection stands: who calls, what is under way, and where the answer goes."""

    def __init__(
        self,
        principal: Principal,
        share: Share,
        answered: asyncio.Future[dict[str, Any]],
        around: Stoppable | None,
    ) -> None:
        self.label = new_id("i_")
        self.principal = principal
        self.share = share
        self.is_known = True
        self.is_operator = False
        self.is_inside = True
        self.is_open = True
        self.address = ""
        self.loop = asyncio.get_running_loop()
        self.client: dict[str, Any] = {"client": "playbook", "version": "", "type": "service"}
        self.calls: dict[Any, Call] = {}
        self.in_flight = 0
        self.in_line = 0
        self.last_method = ""
        self.meters: tuple[Meter, ...] = ()  # a script's pace is its job's, not its caller's
        self.subscriptions: dict[str, Subscription] = {}
        self.sessions: set[str] = set()
        self.around = around
        self._answered = answered

    def reply(self, message: bytes | None) -> None:
        """Take the answer to a call."""
        if message is not None:
            self.send_soon(message)

    def send_soon(self, message: bytes) -> None:
        """Take the answer; notices that come before it are for clients."""
        answer = orjson.loads(message)
        if "method" not in answer and not self._answered.done():
            self._answered.set_result(answer)


async def call(app: "App", principal: Principal, method: str, params: dict[str, Any]) -> Any:
    """Call a method and return its result. Raises RpcError with what a client would have been told.

    When the server is stopping, it waits to be stopped with it: the next start decides what becomes of the caller.
    While the call asks a person, whoever waits for it stands still.
    """
    answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    around, share = CURRENT.get(), app.server.scheduler.of_user(principal.user.id)
    connection = Inside(principal, share, answered, around)
    frame = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    _receive(app, connection, frame)
    try:
        answer = await answered
        if "error" in answer and answer["error"]["code"] == SHUTTING_DOWN:
            await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        _receive(app, connection, _CANCEL)
        raise
    finally:
        if around is not None:
            await around.back()
    if "error" in answer:
        error = answer["error"]
        details = dict(error["data"])
        kind, is_retryable = details.pop("kind"), details.pop("retryable")
        raise RpcError(error["code"], kind, error["message"], is_retryable=is_retryable, **details)
    return answer["result"]


def _receive(app: "App", connection: Inside, frame: bytes) -> None:
    for _ in app.dispatcher.receive(cast(Connection, connection), frame) or ():
        pass
