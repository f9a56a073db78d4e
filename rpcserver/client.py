"""The Python client: calls with typed results, errors as exceptions, events as an async iterator.

    async with Client("ws://127.0.0.1:7717/", credential) as client:
        session_id = await client.create_session("work")
        listing = await client.ls(session_id)

The server may ask, too: `client.on("client.ask", handler)` says who answers, and a handler may call the server.
It imports nothing of the server, so that a script starts quickly.
"""

import asyncio
import inspect
import itertools
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.protocol import State

from rpcserver.schemas.job import JobRecord
from rpcserver.schemas.session import ActionResult, Listing, SessionRecord


class Unreachable(ConnectionError):
    """No server answers at the address; the text says why, and what to do."""


def checked(url: str) -> str:
    """Return the address of a server. Raises Unreachable, with the right form, for what is none."""
    url = url.strip()
    scheme, mark, rest = url.partition("://")
    if not mark:
        raise Unreachable(f"{url!r} is no address of a server: write ws://{url.strip('/') or '127.0.0.1:7717'}/")
    if scheme.lower() in ("http", "https"):
        right = f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}"
        raise Unreachable(f"{url!r} is the address of a page: calls are made over a WebSocket, at {right}")
    if scheme.lower() not in ("ws", "wss"):
        raise Unreachable(f"{url!r} begins with {scheme}://: write ws:// or wss://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Unreachable(f"{url!r} is no address ({error}): write ws://HOST:PORT/") from error
    if not host:
        raise Unreachable(f"{url!r} names no host: write ws://HOST:PORT/")
    return url


def explained(error: Exception, url: str) -> Unreachable:
    """Return why nobody was reached at an address."""
    parts = urlsplit(url)
    tls = parts.scheme.lower() == "wss"
    where = parts.netloc.rpartition("@")[2]
    if isinstance(error, socket.gaierror):
        return Unreachable(f"the name {parts.hostname!r} is not known here ({error.strerror}): is it written right?")
    if isinstance(error, ConnectionRefusedError) or _is_refused(error):
        return Unreachable(f"nobody listens at {where}: is the server running there?")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {where} is not trusted here ({error.verify_message}): use the name it was made for,"
            " or have this machine trust who signed it (SSL_CERT_FILE names a file of authorities)"
        )
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"{where} does not speak TLS ({error.reason or error}): write ws://, or another port")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} took the connection and said nothing: another program may listen there")
    if isinstance(error, InvalidMessage | EOFError):
        advice = (
            "another program may listen there" if tls else "if it speaks TLS write wss://, else another program does"
        )
        return Unreachable(f"what answers at {where} is no rpcserver: {advice}")
    if isinstance(error, InvalidHandshake):
        return Unreachable(f"what answers at {where} opens no WebSocket ({error})")
    return Unreachable(f"{where} cannot be reached ({error})")


def _is_refused(error: Exception) -> bool:
    # Of a name with several addresses asyncio tells all the refusals in one.
    return isinstance(error, OSError) and error.errno is None and "Connect call failed" in str(error)


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


__all__ = ["CallError", "Client", "Disconnected", "Event", "Subscription", "Unreachable"]

log = logging.getLogger("rpcserver.client")

M = TypeVar("M", bound=BaseModel)

SUBPROTOCOL = "rpcserver.v1"
OnProgress = Callable[[float, float | None, str], None]


class Disconnected(Exception):
    """The connection is gone; `unknown` calls may or may not have been carried out."""


class Event(BaseModel):
    """A notification of a subscription, at UTC milliseconds `at`."""

    topic: str
    subscription: str
    seq: int
    epoch: str
    at: int
    data: dict[str, Any]


class Subscription:
    """An open subscription: iterate over it for its events. `gaps` are the (from, to) the server has left out."""

    def __init__(self, client: "Client", answer: dict[str, Any]) -> None:
        self._client = client
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.id: str = answer["subscription"]
        self.epoch: str = answer["epoch"]
        self.seq: int = answer["seq"]
        self.recovered: bool | None = answer.get("recovered")
        self.gaps: list[tuple[int, int]] = []

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._queue.get()) is not None:
            self.epoch, self.seq = event.epoch, event.seq
            yield event
        self._queue.put_nowait(None)  # it stays closed, for whoever looks next

    async def next(self, timeout_s: float = 10.0) -> Event:
        """Return the next event. Raises TimeoutError or Disconnected."""
        async with asyncio.timeout(timeout_s):
            event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)
            raise Disconnected("the connection was closed")
        self.epoch, self.seq = event.epoch, event.seq
        return event

    async def close(self) -> bool:
        """Unsubscribe."""
        self._client._subscriptions.pop(self.id, None)
        return bool(await self._client.call("events.unsubscribe", subscription=self.id))


class Client:
    """One connection of one user.

    Args:
        url: where the server listens, `ws://` or `wss://`.
        credential: as `rpcserver user add` printed it.
        timeout_s: how long a call may take; the server is told.
        name, type: who connects (`web`, `cli`, `agent`, `service`, `other`), shown in presence and logs.
        tls: trust for `wss://`, when it is not the system's.
    """

    def __init__(
        self,
        url: str,
        credential: str | None = None,
        *,
        timeout_s: float = 60.0,
        name: str = "",
        type: str = "other",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.hello: dict[str, Any] = {}
        self._credential = credential.strip() if credential else None
        self._name = name
        self._type = type
        self._tls = tls
        self._handlers = Handlers(self._write_if_open)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._early: dict[str, list[Event]] = {}
        self._progress: dict[str, OnProgress] = {}
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._greeted = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and authenticate.

        Raises CallError when the credential is refused, Unreachable, which is an OSError, when no server answers.
        """
        url = checked(self.url)
        trust: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}  # else the system's, for wss://
        headers = {"Authorization": f"Bearer {self._credential}"} if self._credential else None
        try:
            self._socket = await connect(
                url,
                additional_headers=headers,
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
                compression=None,
                max_size=None,
                proxy=None,
                **trust,
            )
        except InvalidStatus as refused:
            raise CallError(_refusal(bytes(refused.response.body or b""))) from refused
        except (OSError, InvalidHandshake, EOFError) as error:
            raise explained(error, url) from error
        self._reader = asyncio.create_task(self._read(self._socket))
        async with asyncio.timeout(self.timeout_s):
            await self._greeted.wait()
        if not self.hello:
            raise Disconnected(_closed(self._socket))
        if self._name:
            await self.call("server.identify", client=self._name, type=self._type)

    async def close(self) -> None:
        """Close the connection; what waits for an answer gets Disconnected."""
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await self._reader

    def on(self, method: str, handler: Handler) -> None:
        """Have `handler(params)`, plain or async, answer the server's requests of that name, or hear its notices.

        What it returns is the answer. It may call the server; nothing waits for it but who asked.
        """
        self._handlers.by_method[method] = handler

    async def call(
        self,
        method: str,
        /,
        *,
        on_progress: OnProgress | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> Any:
        """Call a method with params by name and return its result. Raises CallError or Disconnected.

        Args:
            on_progress: called with (done, total or None, message) as the server reports it.
            idempotency_key: makes it safe to call again after Disconnected: the server runs it once.
        """
        meta: dict[str, Any] = {}
        if on_progress is not None:
            meta["progress_token"] = token = f"p{next(self._ids)}"
            self._progress[token] = on_progress
        if idempotency_key is not None:
            meta["idempotency_key"] = idempotency_key
        if meta:
            params["_meta"] = meta
        future = self.send(method, params)
        try:
            async with asyncio.timeout(self.timeout_s):
                return await future
        except (asyncio.CancelledError, TimeoutError):
            self._cancel(future)
            raise
        finally:
            self._progress.pop(meta.get("progress_token", ""), None)

    def send(self, method: str, params: dict[str, Any] | list[Any]) -> asyncio.Future[Any]:
        """Send a call without waiting; the future holds its result. Calls go out in the order of `send`."""
        if self._socket is None or self._reader is None:
            raise Disconnected("not connected: use `async with Client(...)`")
        if self._reader.done() or self._socket.state is not State.OPEN:
            raise Disconnected(_closed(self._socket))
        id = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.rpc_id = id  # type: ignore[attr-defined]
        self._write({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        self._waiting[id] = future
        return future

    async def subscribe(
        self, *topics: str, since: tuple[str, int] | None = None, policy: str = "close"
    ) -> Subscription:
        """Subscribe to topics.

        Args:
            since: the (epoch, seq) after which to begin; None: now.
            policy: what becomes of events while this client is too slow: `close`, `drop_oldest` or `latest`.
        """
        params: dict[str, Any] = {"topics": list(topics), "policy": policy}
        if since is not None:
            params["since"] = {"epoch": since[0], "seq": since[1]}
        subscription = Subscription(self, await self.call("events.subscribe", **params))
        self._subscriptions[subscription.id] = subscription
        for event in self._early.pop(subscription.id, []):
            subscription._queue.put_nowait(event)
        return subscription

    async def create_session(self, name: str | None = None, **params: Any) -> str:
        """session.create: return the new session's id."""
        if name is not None:
            params["name"] = name
        answer = await self.call("session.create", **params)
        session_id: str = answer["session_id"]
        return session_id

    async def destroy_session(self, session_id: str) -> str:
        """session.destroy: return the id of the session that is gone."""
        answer = await self.call("session.destroy", session_id=session_id)
        return str(answer["session_id"])

    async def get_session(self, session_id: str | None = None, **params: Any) -> SessionRecord:
        """session.get."""
        return await self._typed(SessionRecord, "session.get", session_id, params)

    async def ls(self, session_id: str | None = None, **params: Any) -> Listing:
        """session.ls: one page."""
        return await self._typed(Listing, "session.ls", session_id, params)

    async def cd(self, session_id: str | None = None, **params: Any) -> Listing:
        """session.cd: give one of `set_id`, `to` and `path`."""
        return await self._typed(Listing, "session.cd", session_id, params)

    async def action(self, token_id: str, session_id: str | None = None, **params: Any) -> ActionResult:
        """session.action: run a command of the pallet."""
        return await self._typed(ActionResult, "session.action", session_id, {"token_id": token_id, **params})

    async def list_sessions(self, **params: Any) -> list[SessionRecord]:
        """sessions.list: all of them, page after page."""
        return [SessionRecord.model_validate(item) async for item in self._items("sessions.list", params)]

    async def list_jobs(self, **params: Any) -> list[JobRecord]:
        """jobs.list: all of them, page after page."""
        return [JobRecord.model_validate(item) async for item in self._items("jobs.list", params)]

    async def _items(self, method: str, params: dict[str, Any]) -> AsyncIterator[Any]:
        cursor = None
        while True:
            page = await self.call(method, **params, **({"cursor": cursor} if cursor else {}))
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def _typed(self, model: type[M], method: str, session_id: str | None, params: dict[str, Any]) -> M:
        if session_id is not None:
            params["session_id"] = session_id
        return model.model_validate(await self.call(method, **params))

    def _write(self, message: dict[str, Any]) -> None:
        # Written in the same turn, so that the order of calls is the order of frames.
        assert self._socket is not None
        if self._socket.state is not State.OPEN:
            raise Disconnected("the connection is being closed")
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
        try:
            frame = text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "the params hold half of a character (a lone surrogate): cut texts between them"
            ) from error
        self._socket.protocol.send_text(frame)
        self._socket.send_data()

    def _write_if_open(self, message: dict[str, Any]) -> None:
        # An answer to the server that closing has overtaken is nobody's loss.
        if self._socket is not None and self._socket.state is State.OPEN:
            self._write(message)

    def _cancel(self, future: asyncio.Future[Any]) -> None:
        id = getattr(future, "rpc_id", None)
        if id in self._waiting and self._reader is not None and not self._reader.done():
            del self._waiting[id]
            with suppress(Disconnected):
                self._write({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": id}})

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for frame in socket:
                message = json.loads(frame)
                for item in message if isinstance(message, list) else [message]:
                    self._take(item)
        except ConnectionClosed:
            pass  # told to whoever waits, below
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Disconnected(_closed(socket)))
                    future.exception()  # not everybody waits; that is no fault
            self._waiting.clear()
            self._handlers.stop()
            self._greeted.set()  # nobody greets any more
            for subscription in self._subscriptions.values():
                subscription._queue.put_nowait(None)

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            id = message.get("id")
            if id is None and len(self._waiting) == 1:
                id = next(iter(self._waiting))  # a message whose id could not be read: there was only this one
            future = self._waiting.pop(id, None)  # type: ignore[arg-type]
            if future is None and id is None:
                log.warning("the server could not read a message: %s", message.get("error"))
            if future is None or future.done():
                return
            if "error" in message:
                future.set_exception(CallError(message["error"]))
            else:
                future.set_result(message["result"])
        elif message["method"] == "$/hello":
            self.hello = message["params"]
            self._greeted.set()
        elif message["method"] == "$/progress":
            value = message["params"]["value"]
            if report := self._progress.get(message["params"]["token"]):
                report(value["done"], value["total"], value["message"])
        elif message["method"] == "$/gap":
            gap = message["params"]
            if subscription := self._subscriptions.get(gap["subscription"]):
                subscription.gaps.append((gap["from"], gap["to"]))
        elif "subscription" not in message.get("params", {}):
            self._handlers.take(message)
        else:
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        event = Event(topic=message["method"], **message["params"])
        subscription = self._subscriptions.get(event.subscription)
        if subscription is not None:
            subscription._queue.put_nowait(event)
        else:
            # The answer to subscribe is read but its waiter has not run yet.
            self._early.setdefault(event.subscription, []).append(event)


def _closed(socket: ClientConnection) -> str:
    """Say that a connection is closed, and why, as far as it was told."""
    reason = f": {socket.close_reason}" if socket.close_reason else ""
    return f"the connection was closed ({socket.close_code or 'closing'}{reason})"


def _refusal(body: bytes) -> dict[str, Any]:
    """Return the error that a request was refused with: the server's, or what else was said."""
    try:
        error: dict[str, Any] = json.loads(body)["error"]
        return {"code": int(error["code"]), "message": str(error["message"]), "data": error.get("data") or {}}
    except (ValueError, KeyError, TypeError):
        return {"code": -32002, "message": body.decode(errors="replace").strip(), "data": {"kind": "REFUSED"}}
