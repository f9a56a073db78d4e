"""The sockets: who is connected, the hello, the time to authenticate, the end of credentials and of the server.

Source: protocol.md 1 and 7.
"""

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from websockets.asyncio.server import Server as SocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from jobs.errors import CredentialEnded
from rpcserver import __version__, jsonrpc, start_checks, visibility
from rpcserver.auth import SUBPROTOCOL, Principal
from rpcserver.connection import Connection
from rpcserver.crowds import Crowds
from rpcserver.meters import Meter
from rpcserver.refusals import TooManyConnections
from rpcserver.settings import Settings
from rpcserver.upgrade import Upgrade, select_subprotocol

if TYPE_CHECKING:
    from rpcserver.app import App

log = structlog.get_logger("server")

EXPIRED = 4401
AUTHENTICATION_LATE = 4408
REVOKED = 4501
FROZEN = 4503
TOO_MANY = 4504
RESTART = 1012
TURNS_TO_REGISTER = 3
_SHUT: dict[str | None, tuple[int, str]] = {
    "revoked": (REVOKED, "the credential was revoked"),
    "frozen": (FROZEN, "the account is frozen"),
}


class Server:
    """Listens, and keeps the connections."""

    def __init__(self, app: "App") -> None:
        settings = app.settings
        self._app = app
        self._sockets: SocketServer | None = None
        self._connections: set[Connection] = set()
        self.users = Crowds(settings.max_connections_per_user, settings.calls_per_s_per_user)
        self.addresses = Crowds(settings.connections_per_address, settings.calls_per_s_per_address)
        self._mortal: set[Connection] = set()
        self._shut: set[Connection] = set()  # being closed
        self._sweep: asyncio.Handle | None = None
        self.url = ""
        self.limits = limits(settings)

    async def start(self, listening: socket.socket | None = None) -> None:
        """Accept connections on the settings' address, or on a socket that listens already.

        Port 0 takes a free one; `url` tells which.
        """
        settings = self._app.settings
        where: dict[str, Any] = {"host": settings.host, "port": settings.port}
        tls = start_checks.tls_context(settings)
        try:
            self._sockets = await serve(
                self._serve,
                **({"sock": listening} if listening is not None else where),
                create_connection=self._connection,  # type: ignore[arg-type]
                compression=None,  # deflate halves throughput and quadruples memory per connection
                max_size=settings.max_message_bytes,
                open_timeout=settings.open_timeout_s,
                ping_interval=settings.heartbeat_s,
                ping_timeout=settings.heartbeat_s,
                process_request=Upgrade(self._app, self).process,
                select_subprotocol=select_subprotocol,
                server_header=None,
                ssl=tls,
            )
        except OSError as error:
            raise start_checks.cannot_listen(error, settings) from error
        bound = next(iter(self._sockets.sockets))
        host, port = bound.getsockname()[:2]
        self.port: int = port
        shown = f"[{host}]" if bound.family == socket.AF_INET6 else host
        self.url = f"{'wss' if tls else 'ws'}://{shown}:{port}/"

    @property
    def is_full(self) -> bool:
        """There are as many connections as there may be."""
        return len(self._connections) >= self._app.settings.max_connections

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait for clients to read, on all connections."""
        return sum(connection.queue_bytes for connection in self._connections)

    def own_origins(self) -> tuple[str, ...]:
        """Return the origins of pages this server itself could have sent."""
        names = {"127.0.0.1", "localhost", "[::1]", self._app.settings.host}
        scheme = "http" if self._app.settings.tls_cert is None else "https"
        return tuple(f"{scheme}://{name}:{self.port}" for name in names)

    async def admit(self, connection: Connection, principal: Principal) -> None:
        """Make the connection a user's, or its credential another one of his.

        Raises TooManyConnections, or CredentialEnded when it has ended meanwhile.
        """
        await self._app.sessions.know_default(principal.user.id)
        if connection not in self._connections:
            return  # gone while we looked the credential up: what is counted now would never be given back
        principal.authority.require()  # ended, or frozen, while we looked
        if connection.principal is None or not connection.authenticated.is_set():
            if self.users.is_full(principal.user.id):
                raise TooManyConnections("yours", self.users.limit)
            self.users.join(principal.user.id, connection)
        self._become(connection, principal)
        connection.authenticated.set()
        self._app.asking.admit(connection, principal.user.id)

    def attached(self, user_id: str, session_id: str | None) -> list[Connection]:
        """Return the user's connections that have used the session, for None all: to those go its jobs' questions."""
        found = self.users.of(user_id)
        return [connection for connection in found if session_id is None or session_id in connection.sessions]

    def detach(self, user_id: str, session_id: str) -> None:
        """Forget who was attached to a session that is gone."""
        for connection in self.users.of(user_id):
            connection.sessions.discard(session_id)

    def close_ended(self) -> None:
        """Close the connections whose credential was revoked or whose user frozen; calls under way finish unheard."""
        for connection in tuple(self._connections):
            end = connection.principal.grant.end if connection.principal is not None else None
            if end in _SHUT and connection not in self._shut:
                self._shut.add(connection)
                self._end_soon(connection, *_SHUT[end], reconnect=False)

    def log_out(self, connection: Connection) -> None:
        """Close a connection at its user's wish."""
        self._end_soon(connection, 1000, "logged out", reconnect=False)

    async def stop(self) -> None:
        """Accept no more, let running calls end, tell the clients when to come back, and close."""
        if self._sockets is None:
            return
        self._app.dispatcher.is_draining = True
        await self._accept_no_more(self._sockets)
        settings = self._app.settings
        await self._wait_until_idle(settings.shutdown_grace_s)
        self._app.dispatcher.stop()
        await self._wait_until_idle(settings.stop_margin_s / 4)
        if self._sweep is not None:
            self._sweep.cancel()
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

    async def _wait_until_idle(self, within_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._app.dispatcher.idle.wait()

    def _connection(self, *args: Any, **options: Any) -> Connection:
        settings = self._app.settings
        connection = Connection(
            *args,
            receive=self._app.dispatcher.receive,
            clock=self._app.clock,
            max_outbox_bytes=settings.max_outbox_bytes,
            max_outbox_age_s=settings.max_outbox_age_s,
            max_reply_bytes=settings.max_response_bytes,
            **options,
        )
        if settings.calls_per_s_per_connection:
            connection.meters = (Meter(settings.calls_per_s_per_connection),)
        return connection

    async def _serve(self, socket_connection: ServerConnection) -> None:
        connection = socket_connection
        assert isinstance(connection, Connection)  # made by _connection
        self._connections.add(connection)
        self._app.metrics.connections += 1
        self.addresses.join(connection.address, connection)
        try:
            if self._app.dispatcher.is_draining:
                # Connected while we were closing: the next server is there in a moment.
                await connection.end(RESTART, "the server restarts", retry_after_ms=1000)
                return
            if connection.principal is not None:
                await self.admit(connection, connection.principal)
            connection.send_soon(jsonrpc.encode_notification("$/hello", self._hello(connection)))
            connection.start()
            if connection.principal is None and not connection.is_operator:
                await self._await_authentication(connection)
            await connection.wait_closed()
        except TooManyConnections as error:
            await connection.end(TOO_MANY, error.message[:120], reconnect=False)
        except CredentialEnded:
            end = connection.principal.grant.over if connection.principal is not None else None
            await connection.end(*_SHUT.get(end, (EXPIRED, "the credential has expired")), reconnect=end not in _SHUT)
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
        self._mortal.discard(connection)
        self._shut.discard(connection)
        self.addresses.leave(connection.address, connection)
        for subscription in connection.subscriptions.values():
            self._app.events.close(subscription)
        connection.subscriptions.clear()
        if connection.principal is not None:
            self.users.leave(connection.principal.user.id, connection)

    def _become(self, connection: Connection, principal: Principal) -> None:
        connection.principal = principal
        for subscription in connection.subscriptions.values():
            subscription.sees = visibility.events_of(principal.authority)
        if principal.grant.expires_at is None:
            self._mortal.discard(connection)
            return
        self._mortal.add(connection)
        if self._sweep is None:
            # Not at once: a notice must not come before the hello.
            self._sweep = asyncio.get_running_loop().call_soon(self._look_at_clocks)

    def _look_at_clocks(self) -> None:
        # A credential ends by the clock on the wall, which can be set; so it is looked at, not counted down to.
        self._sweep = None
        now, settings = self._app.clock.now_ms(), self._app.settings
        for connection in tuple(self._mortal):
            expires_at = connection.principal.grant.expires_at if connection.principal else None
            if expires_at is None:
                self._mortal.discard(connection)
            elif expires_at <= now:
                self._mortal.discard(connection)
                self._end_soon(connection, EXPIRED, "the credential has expired", reconnect=True)
            elif expires_at - now <= settings.expiry_notice_s * 1000 and connection.warned_of != expires_at:
                connection.warned_of = expires_at
                notice = {"expires_at": expires_at, "in_s": round((expires_at - now) / 1000, 3)}
                connection.send_soon(jsonrpc.encode_notification("$/authExpiring", notice))
        if self._mortal:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(settings.expiry_check_s, self._look_at_clocks)

    def _end_soon(self, connection: Connection, code: int, reason: str, *, reconnect: bool) -> None:
        log.info("connection_ended", connection=connection.label, code=code, reason=reason)
        self._app.spawn(connection.end(code, reason, reconnect=reconnect))

    def _hello(self, connection: Connection) -> dict[str, Any]:
        return {
            "protocol": SUBPROTOCOL,
            "server": {"name": "rpcserver", "version": __version__},
            "limits": self.limits,
            "heartbeat_s": self._app.settings.heartbeat_s,
            "auth_required": connection.principal is None,
            "epoch": self._app.events.epoch,
        }


def limits(settings: Settings) -> dict[str, float]:
    """Return every limit a client can run into, as `$/hello` and `server.info` tell them; 0 stands for none."""
    names = (
        "max_message_bytes",
        "max_unauthenticated_bytes",
        "max_response_bytes",
        "max_batch_items",
        "max_depth",
        "max_message_values",
        "max_in_flight",
        "max_in_line",
        "max_connections",
        "max_connections_per_user",
        "calls_per_s_per_connection",
        "calls_per_s_per_user",
        "calls_per_s_per_address",
        "max_subscriptions",
        "max_subscriptions_per_user",
        "max_outbox_bytes",
        "max_outbox_age_s",
        "max_sessions_per_user",
        "authenticate_timeout_s",
        "call_timeout_s",
    )
    told = {name: getattr(settings, name) for name in names}
    return {**told, "max_connections_per_address": settings.connections_per_address}
