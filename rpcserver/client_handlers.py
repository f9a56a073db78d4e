"""What a client answers when the server asks: handlers by method, each in a task, so that the reader goes on."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

Handler = Callable[[dict[str, Any]], Any]


class CallError(Exception):
    """The server answered with an error.

    Attributes:
        code: the JSON-RPC code; kind: its name, such as `ENTER_REFUSED`; data: everything else the server said.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error.get("data") or {}
        self.kind: str | None = self.data.get("kind")
        reason = self.data.get("reason")
        super().__init__(f"{self.message}: {reason}" if reason else self.message)

    def as_dict(self) -> dict[str, Any]:
        """Return the error object as it came."""
        return {"code": self.code, "message": self.message, "data": self.data}


class Handlers:
    """The handlers of one client, and the answers they work on.

    Args:
        write: sends a message.
    """

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self.by_method: dict[str, Handler] = {}
        self._write = write
        self._answering: dict[Any, asyncio.Task[Any]] = {}
        self._is_stopped = False

    def take(self, message: dict[str, Any]) -> None:
        """Take a request or a notification of the server."""
        method, params = message["method"], message.get("params", {})
        handler = self.by_method.get(method)
        if method == "$/cancelRequest":
            if task := self._answering.get(params["id"]):
                task.cancel()
        elif "id" not in message:
            if handler is not None:
                handler(params)
        elif handler is None:
            error = {"code": -32601, "message": "Method not found", "data": {"kind": "METHOD_NOT_FOUND"}}
            self._write({"jsonrpc": "2.0", "id": message["id"], "error": error})
        else:
            task = asyncio.ensure_future(_answer(handler, params))
            self._answering[message["id"]] = task
            task.add_done_callback(lambda done: self._answered(message["id"], done))

    def stop(self) -> None:
        """Answer nothing more."""
        self._is_stopped = True
        for task in self._answering.values():
            task.cancel()

    def _answered(self, id: Any, done: "asyncio.Task[Any]") -> None:
        del self._answering[id]
        if done.cancelled() or self._is_stopped:
            return
        error = done.exception()
        if error is None:
            answer = {"result": done.result()}
        elif isinstance(error, CallError):
            answer = {"error": error.as_dict()}
        else:
            answer = {"error": {"code": -32603, "message": "Internal error", "data": {"kind": type(error).__name__}}}
        self._write({"jsonrpc": "2.0", "id": id, **answer})


async def _answer(handler: Handler, params: dict[str, Any]) -> Any:
    answer = handler(params)
    return await answer if inspect.isawaitable(answer) else answer
