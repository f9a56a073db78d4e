"""What stands in a connection's place for a call from inside: a script's, a plugin's, the server's own."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from jobs.clock import Stoppable
from rpcserver.auth.authenticator import Principal
from rpcserver.ratelimit import Meter
from rpcserver.rpc.calls import Call
from rpcserver.rpc.scheduler import Share
from store import new_id


class Inside:
    """Makes one call and takes its answer.

    Args:
        principal: who calls; None: the operator.
        around: what waits for the call, and stands still while it asks a person.
        on_progress: hears how far the call is.
    """

    is_known = True
    is_open = True
    client = None
    last_method = ""
    meters: tuple[Meter, ...] = ()  # a script's pace is its job's, not its caller's

    def __init__(
        self,
        principal: Principal | None,
        share: Share,
        around: Stoppable | None,
        on_progress: Callable[[float, float | None, str], None] | None = None,
    ) -> None:
        self.label = new_id("i_")
        self.principal = principal
        self.is_operator = principal is None
        self.share = share
        self.around = around
        self.loop = asyncio.get_running_loop()
        self.calls: dict[Any, Call] = {}
        self.in_flight = 0
        self.in_line = 0
        self.answer: asyncio.Future[dict[str, Any]] = self.loop.create_future()
        self._on_progress = on_progress

    def reply(self, message: bytes | None) -> None:
        """Take the answer to the call."""
        if message is not None and not self.answer.done():
            self.answer.set_result(orjson.loads(message))

    def send_soon(self, message: bytes) -> None:
        """Take a notice: how far the call is; others are for clients."""
        notice = orjson.loads(message)
        if self._on_progress is not None and notice["method"] == "$/progress":
            value = notice["params"]["value"]
            self._on_progress(value["done"], value["total"], value["message"])

    def hold_back(self, size: int) -> None:
        """Count nothing: what is answered is taken at once."""
