"""Requests of the server to a client, in an id space of their own. Source: protocol.md 5."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from rpcserver.rpc.jsonrpc import Invalid, Response, encode_notification, encode_request

log = structlog.get_logger("wire")


class ClientDeclined(Exception):
    """The client answered a request of the server with an error."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        self.error = error
        super().__init__(f"The client declined {method}.")


class ClientGone(Exception):
    """The connection was closed before the client answered a request of the server."""

    def __init__(self, method: str) -> None:
        super().__init__(f"The connection was closed before the client answered {method}.")


class Requests:
    """What one connection was asked and has not answered yet."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._ids = itertools.count(1)
        self._waiting: dict[str, tuple[str, asyncio.Future[Any]]] = {}
        self._is_gone = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request and return the client's result. When the wait is cancelled, the client is told.

        Raises:
            ClientDeclined: the client answered with an error.
            ClientGone: the connection was closed first.
        """
        if self._is_gone:
            raise ClientGone(method)
        id = f"s{next(self._ids)}"
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[id] = (method, answer)
        self._send(encode_request(id, method, params))
        try:
            return await answer
        finally:
            if self._waiting.pop(id, None) is not None:
                self._send(encode_notification("$/cancelRequest", {"id": id}))

    def take(self, response: Response | Invalid) -> None:
        """Take the client's answer; one to a question nobody asks any more is left alone."""
        id = response.id
        method, answer = self._waiting.pop(id, ("", None)) if isinstance(id, str) else ("", None)
        if isinstance(response, Invalid):
            log.warning("wrong_answer", method=method, id=id, reason=response.error.data.get("reason"))
        if answer is None or answer.done():
            return
        if isinstance(response, Invalid):
            answer.set_exception(ClientDeclined(method, response.error.as_dict()))
        elif response.error is not None:
            answer.set_exception(ClientDeclined(method, response.error))
        else:
            answer.set_result(response.result)

    def fail(self) -> None:
        """Tell all who wait, or come to ask, that the connection is gone."""
        self._is_gone = True
        for method, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ClientGone(method))
        self._waiting.clear()
