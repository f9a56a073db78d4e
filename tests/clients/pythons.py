"""Other people's Python clients, each behind the same four calls, so that one walk serves for all."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import jsonrpc_base
import jsonrpc_websocket
import websocket
from pygls.client import JsonRPCClient
from pygls.exceptions import JsonRpcException


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, code: int, data: Any) -> None:
        self.code = code
        self.data = data
        super().__init__(code)


class Peer(Protocol):
    """A client of somebody else."""

    async def call(self, method: str, params: Any) -> Any:
        """Return the result. Raises Refused."""

    async def heard(self, topic: str) -> Any:
        """Return the params of the next notification of this topic, if it has not come yet."""

    async def cancelled(self, method: str, params: Any) -> int:
        """Begin a call, cancel it, and return the code it is answered with."""


async def code_of(call: Awaitable[Any]) -> int:
    """Return the code of the error a call is answered with."""
    try:
        answer = await call
    except Refused as refusal:
        return refusal.code
    raise AssertionError(f"answered with {answer!r}")


class Heard:
    """What was told, by topic."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)

    def tell(self, topic: str, params: Any) -> None:
        """Keep a notification for whoever asks for it."""
        self._queues[topic].put_nowait(params)

    async def heard(self, topic: str) -> Any:
        """Return the next notification of this topic."""
        return await self._queues[topic].get()


class ByHand(Heard):
    """JSON-RPC by hand over a socket library that knows nothing of it."""

    def __init__(self, send: Callable[[str], Awaitable[Any]]) -> None:
        super().__init__()
        self._send = send
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    def take(self, text: str) -> None:
        """Take a message of the server."""
        message = json.loads(text)
        if "method" in message:
            self.tell(message["method"], message["params"])
        elif "error" in message:
            error = message["error"]
            self._waiting[message["id"]].set_exception(Refused(error["code"], error["data"]))
        else:
            self._waiting[message["id"]].set_result(message["result"])

    async def begin(self, method: str, params: Any) -> asyncio.Future[Any]:
        """Send a call and return its answer to come."""
        id = len(self._waiting) + 1
        self._waiting[id] = asyncio.get_running_loop().create_future()
        await self._send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
        return self._waiting[id]

    async def call(self, method: str, params: Any) -> Any:
        """See Peer."""
        return await (await self.begin(method, params))

    async def cancelled(self, method: str, params: Any) -> int:
        """See Peer."""
        begun = await self.begin(method, params)
        told = {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": len(self._waiting)}}
        await self._send(json.dumps(told))
        return await code_of(begun)


@asynccontextmanager
async def by_aiohttp(url: str) -> AsyncIterator[Peer]:
    """The WebSocket client of aiohttp."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        peer = ByHand(socket.send_str)

        async def listen() -> None:
            async for message in socket:
                peer.take(message.data)

        listening = asyncio.create_task(listen())
        yield peer
        await socket.close()
        await listening


@asynccontextmanager
async def by_websocket_client(url: str) -> AsyncIterator[Peer]:
    """The package websocket-client, which blocks: each direction has a thread."""
    loop = asyncio.get_running_loop()
    socket = await asyncio.to_thread(websocket.create_connection, url, timeout=60)

    async def send(text: str) -> None:
        await asyncio.to_thread(socket.send, text)

    def listen() -> None:
        while text := socket.recv():
            loop.call_soon_threadsafe(peer.take, text)

    peer = ByHand(send)
    listening = asyncio.create_task(asyncio.to_thread(listen))
    yield peer
    await asyncio.to_thread(socket.send_close)
    await listening
    socket.shutdown()


class _JsonrpcWebsocket(Heard):
    def __init__(self, server: jsonrpc_websocket.Server) -> None:
        super().__init__()
        self._server = server
        for topic in ("session.created", "$/hello"):
            setattr(server, topic, lambda topic=topic, **params: self.tell(topic, params))

    async def call(self, method: str, params: Any) -> Any:
        by_name, by_position = (params, ()) if isinstance(params, dict) else ({}, params)
        try:
            return await getattr(self._server, method)(*by_position, **by_name)
        except jsonrpc_base.ProtocolError as error:
            code, _, answer = error.args
            raise Refused(code, answer["error"]["data"]) from error

    async def cancelled(self, method: str, params: Any) -> int:
        call = asyncio.create_task(self.call(method, params))
        await asyncio.sleep(0)  # so that it is sent
        (id,) = self._server._pending_messages
        await getattr(self._server, "$/cancelRequest")(id=id, _notification=True)
        return await code_of(call)


@asynccontextmanager
async def by_jsonrpc_websocket(url: str) -> AsyncIterator[Peer]:
    """The package jsonrpc-websocket."""
    server = jsonrpc_websocket.Server(url)
    peer = _JsonrpcWebsocket(server)
    listening = await server.ws_connect()
    yield peer
    await server.close()
    await listening


class _Pygls(Heard):
    def __init__(self, client: JsonRPCClient) -> None:
        super().__init__()
        self._protocol = client.protocol
        for topic in ("session.created", "$/hello"):
            client.feature(topic)(lambda params, topic=topic: self.tell(topic, _plain(params)))

    async def call(self, method: str, params: Any) -> Any:
        try:
            return _plain(await self._protocol.send_request_async(method, params))
        except JsonRpcException as error:
            raise Refused(error.code, _plain(error.data)) from error

    async def cancelled(self, method: str, params: Any) -> int:
        call = asyncio.ensure_future(self._protocol.send_request_async(method, params, msg_id="long"))
        self._protocol.notify("$/cancelRequest", {"id": "long"})
        try:
            return await code_of(call)
        except JsonRpcException as error:
            return int(error.code)


@asynccontextmanager
async def by_pygls(url: str) -> AsyncIterator[Peer]:
    """The client of pygls, which sends binary frames as some language clients do."""
    client = JsonRPCClient()
    peer = _Pygls(client)
    where = urlsplit(url)
    await client.start_ws(str(where.hostname), where.port or 0)
    yield peer
    await client.protocol.writer.close()
    await asyncio.gather(*client._async_tasks)


def _plain(value: Any) -> Any:
    """Return what pygls made objects of as plain JSON."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


PYTHONS: dict[str, Callable[[str], AbstractAsyncContextManager[Peer]]] = {
    "aiohttp": by_aiohttp,
    "websocket-client": by_websocket_client,
    "jsonrpc-websocket": by_jsonrpc_websocket,
    "pygls": by_pygls,
}
