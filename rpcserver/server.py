"""The sockets: who may connect, the hello, the time to authenticate, the end. GET pages stand on the same port.

Source: protocol.md 1, 7 and 9.
"""

import asyncio
import hmac
import http
import socket
from collections import Counter
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import structlog
from websockets.asyncio.server import Server as SocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from rpcserver import __version__, auth, jsonrpc
from rpcserver.auth import SUBPROTOCOL, Principal
from rpcserver.connection import Connection
from rpcserver.methods.auth import too_many
from rpcserver.pages import PROBES, Asker, Page, Pages

if TYPE_CHECKING:
    from rpcserver.app import App

log = structlog.get_logger("server")

BAD_CREDENTIAL = 4501
AUTHENTICATION_LATE = 4408
RESTART = 1012
TURNS_TO_REGISTER = 3


class Server:
    """Listens, and keeps the connections."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._sockets: SocketServer | None = None
        self._connections: set[Connection] = set()
        self._pages = Pages(app)
        self._per_user: Counter[str] = Counter()
        self.url = ""
        settings = app.settings
        self.limits = {
            "max_message_bytes": settings.max_message_bytes,
            "max_response_bytes": settings.max_response_bytes,
            "max_batch_items": settings.max_batch_items,
            "max_depth": settings.max_depth,
            "max_in_flight": settings.max_in_flight,
            "max_connections_per_user": settings.max_connections_per_user,
            "max_subscriptions": settings.max_subscriptions,
            "max_sessions_per_user": settings.max_sessions_per_user,
            "call_timeout_s": settings.call_timeout_s,
        }

    async def start(self, listening: socket.socket | None = None) -> None:
        """Accept connections on the settings' address, or on a socket that listens already.

        Port 0 takes a free one; `url` tells which.
        """
        settings = self._app.settings
        where: dict[str, Any] = {"host": settings.host, "port": settings.port}
        self._sockets = await serve(
            self._serve,
            **({"sock": listening} if listening is not None else where),
            create_connection=self._connection,  # type: ignore[arg-type]
            compression=None,  # deflate halves throughput and quadruples memory per connection
            max_size=settings.max_message_bytes,
            open_timeout=settings.open_timeout_s,
            ping_interval=settings.heartbeat_s,
            ping_timeout=settings.heartbeat_s,
            process_request=self._process_request,
            select_subprotocol=_select_subprotocol,
            server_header=None,
        )
        bound = next(iter(self._sockets.sockets))
        host, port = bound.getsockname()[:2]
        self.port: int = port
        shown = f"[{host}]" if bound.family == socket.AF_INET6 else host
        self.url = f"ws://{shown}:{port}/"

    async def admit(self, connection: Connection, principal: Principal) -> None:
        """Make the connection a user's. Raises RpcError when the user has too many."""
        if connection.principal is not None:
            connection.principal = principal
            return
        if connection not in self._connections:
            return  # gone while we looked the credential up: what is counted now would never be given back
        limit = self._app.settings.max_connections_per_user
        if self._per_user[principal.user.id] >= limit:
            raise too_many(limit)
        self._per_user[principal.user.id] += 1
        connection.principal = principal
        await self._app.sessions.know_default(principal.user.id)
        connection.authenticated.set()

    async def stop(self) -> None:
        """Accept no more, let running calls end, tell the clients when to come back, and close."""
        if self._sockets is None:
            return
        self._app.dispatcher.is_draining = True
        await self._accept_no_more(self._sockets)
        await self._wait_until_idle()
        self._app.dispatcher.stop()
        await self._wait_until_idle()
        closing = [
            connection.end(RESTART, "the server restarts", retry_after_ms=1000) for connection in self._connections
        ]
        await asyncio.gather(*closing, return_exceptions=True)
        await self._sockets.wait_closed()

    async def _accept_no_more(self, sockets: SocketServer) -> None:
        # A connection accepted in this very turn has no transport yet: a server closed now would drop it without a
        # word (before Python 3.12). So first only stop to look for more, until what came has reached its handshake,
        # which the closed server waits for.
        loop = asyncio.get_running_loop()
        for listening in sockets.sockets:
            loop.remove_reader(listening.fileno())
        for _ in range(TURNS_TO_REGISTER):
            await asyncio.sleep(0)
        sockets.close(close_connections=False)

    async def _wait_until_idle(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._app.settings.shutdown_grace_s):
                await self._app.dispatcher.idle.wait()

    def _connection(self, *args: Any, **options: Any) -> Connection:
        settings = self._app.settings
        return Connection(
            *args,
            receive=self._app.dispatcher.receive,
            max_outbox_bytes=settings.max_outbox_bytes,
            max_outbox_age_s=settings.max_outbox_age_s,
            **options,
        )

    async def _serve(self, socket_connection: ServerConnection) -> None:
        connection = socket_connection
        assert isinstance(connection, Connection)  # made by _connection
        self._connections.add(connection)
        self._app.metrics.connections += 1
        if connection.principal is not None:
            # Counted from here on, and not in the handshake: one that fails has no end to be uncounted at.
            self._per_user[connection.principal.user.id] += 1
        try:
            if self._app.dispatcher.is_draining:
                # Connected while we were closing: the next server is there in a moment.
                await connection.end(RESTART, "the server restarts", retry_after_ms=1000)
                return
            connection.send_soon(jsonrpc.encode_notification("$/hello", self._hello(connection)))
            connection.start()
            if connection.principal is None and not connection.is_operator:
                await self._await_authentication(connection)
            await connection.wait_closed()
        except ConnectionClosed:
            pass  # gone while we spoke: nothing is lost, its calls finish and their replies are dropped
        finally:
            self._forget(connection)

    async def _await_authentication(self, connection: Connection) -> None:
        timeout_s = self._app.settings.authenticate_timeout_s
        waits = {
            asyncio.ensure_future(connection.authenticated.wait()),
            asyncio.ensure_future(connection.wait_closed()),
        }
        try:
            done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not done:
            await connection.end(AUTHENTICATION_LATE, f"not authenticated within {timeout_s:g} s")

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        for subscription in connection.subscriptions.values():
            self._app.events.close(subscription)
        connection.subscriptions.clear()
        if connection.principal is not None:
            user_id = connection.principal.user.id
            self._per_user[user_id] -= 1
            if self._per_user[user_id] <= 0:
                del self._per_user[user_id]

    def _hello(self, connection: Connection) -> dict[str, Any]:
        return {
            "protocol": SUBPROTOCOL,
            "server": {"name": "rpcserver", "version": __version__},
            "limits": self.limits,
            "heartbeat_s": self._app.settings.heartbeat_s,
            "auth_required": connection.principal is None,
            "epoch": self._app.events.epoch,
        }

    async def _process_request(self, socket_connection: ServerConnection, request: Request) -> Response | None:
        respond = partial(_refuse, socket_connection)
        for name in ("Host", "Origin", "Authorization"):
            if len(request.headers.get_all(name)) > 1:
                return respond(400, f"The header {name} stands twice.")
        path, settings = request.path.partition("?")[0], self._app.settings
        is_page = request.headers.get("Upgrade", "").lower() != "websocket"
        if is_page and path in PROBES:
            return await self._probe(socket_connection, request, path)
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if not self._is_ours(host):
            return respond(403, f"Host {host!r} is not served here. Operator: add it to `hosts`.")
        if not auth.is_origin_allowed(origin, (*settings.origins, *self._own_origins())):
            return respond(403, f"Pages of {origin!r} may not connect. Operator: add it to `origins`.")
        if is_page:
            return await self._page(socket_connection, request, path)
        if len(self._connections) >= settings.max_connections:
            return respond(503, "The server has as many connections as it may have: try again later.")
        offered = auth.offered(request.headers.get("Authorization"), _subprotocols(request))
        if offered is None:
            return None
        connection = socket_connection
        assert isinstance(connection, Connection)  # made by _connection
        if hmac.compare_digest(offered.encode(), self._app.operator_secret.encode()):
            connection.is_operator = True
            return None
        principal = await self._app.store.read(lambda tx: auth.find(tx, offered))
        if principal is None:
            return respond(401, "The credential is unknown, revoked or expired: ask the operator for another.")
        limit = settings.max_connections_per_user
        if self._per_user[principal.user.id] >= limit:
            return respond(429, f"You have {limit} connections, the most allowed: close one first.")
        await self._app.sessions.know_default(principal.user.id)
        connection.principal = principal
        return None

    async def _probe(self, connection: ServerConnection, request: Request, path: str) -> Response:
        # Balancers and containers probe by whatever address they know: by a strange one they learn one word only.
        is_local = self._is_ours(request.headers.get("Host")) and _is_local(connection, request)
        return _answer(connection, await self._pages.page(path, Asker(is_local)))

    async def _page(self, connection: ServerConnection, request: Request, path: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _answer(connection, Page(405, "Pages are read with GET.\n"))
        offered = auth.offered(request.headers.get("Authorization"), [])
        principal = None
        if offered is not None:
            principal = await self._app.store.read(lambda tx: auth.find(tx, offered))
            if principal is None:
                return _refuse(connection, 401, "The credential is unknown, revoked or expired.")
        return _answer(connection, await self._pages.page(path, Asker(_is_local(connection, request), principal)))

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait for clients to read, on all connections."""
        return sum(connection.queue_bytes for connection in self._connections)

    def _is_ours(self, host: str | None) -> bool:
        return auth.is_host_allowed(host, (*self._app.settings.hosts, self._app.settings.host))

    def _own_origins(self) -> tuple[str, ...]:
        names = {"127.0.0.1", "localhost", "[::1]", self._app.settings.host}
        return tuple(f"http://{name}:{self.port}" for name in names)


def _refuse(connection: ServerConnection, status: int, text: str) -> Response:
    log.info("connection_refused", status=status, reason=text)
    return _answer(connection, Page(status, text + "\n"))


def _answer(connection: ServerConnection, page: Page) -> Response:
    response = connection.respond(http.HTTPStatus(page.status), page.body)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = page.content_type
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


def _is_local(connection: ServerConnection, request: Request) -> bool:
    # Behind a proxy on this machine everybody comes from here: what it passes on says that it is one.
    if any(name in request.headers for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded")):
        return False
    peer = connection.remote_address
    return isinstance(peer, tuple) and ip_address(str(peer[0]).partition("%")[0]).is_loopback


def _subprotocols(request: Request) -> list[str]:
    offered = request.headers.get_all("Sec-WebSocket-Protocol")
    return [name.strip() for line in offered for name in line.split(",")]


def _select_subprotocol(connection: ServerConnection, offered: Any) -> Any:
    # Never the one that carries the credential: what is selected is echoed.
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
