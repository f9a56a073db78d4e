"""The sockets: who is connected, the hello, the time to authenticate, the end of credentials and of the server.

Source: protocol.md 1 and 7.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any, cast

import structlog
from websockets.exceptions import ConnectionClosed
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from jobs.errors import AccountFrozen, CredentialEnded
from rpcserver import __version__
from rpcserver.addresses import address_key, as_origin, bracketed, split_host
from rpcserver.auth.authenticator import SUBPROTOCOL, Principal
from rpcserver.errors import RateLimited, RpcError, TooManyConnections
from rpcserver.events import scopes
from rpcserver.methods.server import limits
from rpcserver.ratelimit import Meter
from rpcserver.rpc import jsonrpc
from rpcserver.rpc.errors import describe
from rpcserver.rpc.registry import Pool
from rpcserver.rpc.scheduler import Paced
from rpcserver.services import Services
from rpcserver.transport import start_checks
from rpcserver.transport.connection import EXPIRED, FROZEN, REVOKED, SHUT, TOO_MUCH, Bounds, Connection
from rpcserver.transport.handshake import Upgrade, select_subprotocol
from rpcserver.transport.listening import Listener, bound, file_room

log = structlog.get_logger("server")

AUTHENTICATION_LATE = 4408
TOO_MANY = 4504
RESTART = 1012
CLOSE_S = 10.0  # for a client to answer a close
HANDSHAKES = 256  # besides the connections there may be: of those that are refused, and of pages
PROBES_BESIDE = 16  # connections of an address that are told why they are too many
TLS_S = 0.001  # of the loop's time that a handshake of TLS takes
STRANGER_CALLS_PER_S = 20.0
NOTSENT_BYTES = 128 * 1024  # in the system's hands, so that it is seen whether the client takes bytes


class Server:
    """Listens, and keeps the connections."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._services = services
        self._registry = services.connections
        self._scheduler = services.scheduler
        self._listener: Listener | None = None
        self._tls: ssl.SSLContext | None = None
        self._connections: set[Connection] = set()
        self._upgrade = Upgrade(services, self._connections, self.own_origins, self.place)
        self._adopting: set[asyncio.Task[None]] = set()
        self._strangers: dict[Connection, asyncio.Task[None]] = {}  # without a user so far, the oldest first
        self._max_strangers = max(1, int(min(settings.max_connections, file_room()) // 2))
        self.handler_tasks: set[asyncio.Task[None]] = set()  # as websockets wants them, one a socket
        size = settings.max_strangers_bytes
        self._strangers_pools = Pool[Connection](size), Pool[Connection](size)
        self._bounds = Bounds(
            settings.max_outbox_bytes, settings.max_outbox_age_s, settings.max_response_bytes, settings.heartbeat_s
        )
        self._mortal: set[Connection] = set()
        self._sweep: asyncio.Handle | None = None
        self.url = ""

    async def start(self, listening: socket.socket | None = None) -> None:
        """Accept connections on the settings' address, or on a socket that listens already.

        Port 0 takes a free one; `url` tells which.
        """
        settings = self._services.settings
        self._tls = start_checks.tls_context(settings)
        try:
            sockets = [listening] if listening is not None else bound(settings.host, settings.port)
        except OSError as error:
            raise start_checks.cannot_listen(error, settings) from error
        self._listener = Listener(sockets, self._scheduler.strangers, self._take)
        self._listener.start()
        host, port = sockets[0].getsockname()[:2]
        self.port: int = port
        shown = f"[{host}]" if sockets[0].family == socket.AF_INET6 else host
        self.url = f"{'ws' if self._tls is None else 'wss'}://{shown}:{port}/"

    def is_serving(self) -> bool:
        """New connections are taken."""
        return self._listener is not None and self._listener.is_open

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
        listened = split_host(bracketed(self._services.settings.host))
        names = {"127.0.0.1", "localhost", "[::1]", *(() if listened is None else (listened[0],))}
        scheme = "http" if self._services.settings.tls_cert is None else "https"
        return tuple(as_origin(f"{scheme}://{name}:{self.port}") for name in names)

    async def admit(self, connection: Connection, principal: Principal) -> None:
        """Make the connection a user's, or its credential another one of his.

        Raises TooManyConnections, or CredentialEnded when it has ended meanwhile.
        """
        await self._services.sessions.know_default(principal.user.id)
        if connection not in self._connections:
            return  # gone while we looked the credential up: what is counted now would never be given back
        principal.authority.require()  # ended, or frozen, while we looked
        is_new = connection.principal is None or not connection.authenticated.is_set()
        if is_new and self._registry.users.is_full(principal.user.id):
            raise TooManyConnections("yours", self._registry.users.limit)
        self._become(connection, principal)
        if is_new:
            self._know(connection, principal.user.id)  # whoever is counted as known has to be known by then
        connection.authenticated.set()
        self._services.asking.admit(connection, principal.user.id)

    async def stop(self) -> None:
        """Accept no more, let running calls end, tell the clients when to come back, and close."""
        if self._listener is None:
            return
        self._services.dispatcher.is_draining = True
        self._listener.stop()
        settings = self._services.settings
        await self._wait_until_idle(settings.shutdown_grace_s)
        self._services.dispatcher.stop()
        await self._wait_until_idle(settings.stop_margin_s / 4)
        if self._sweep is not None:
            self._sweep.cancel()
        closing = [
            connection.end(RESTART, "the server restarts", retry_after_ms=1000) for connection in self._connections
        ]
        await asyncio.gather(*closing, return_exceptions=True)
        while tasks := self._adopting | self.handler_tasks:
            await asyncio.wait(tasks)

    async def _wait_until_idle(self, within_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._services.dispatcher.idle.wait()

    def _take(self, taken: socket.socket) -> bool:
        """Begin a connection on a socket; False when there are too many, so that it is not worth an answer."""
        settings = self._services.settings
        if len(self.handler_tasks) + len(self._adopting) >= settings.max_connections + HANDSHAKES:
            log.warning("connection_dropped", reason="as many connections and handshakes as there may be")
            return False
        try:
            peer = str(taken.getpeername()[0])
        except OSError:
            return False  # it is gone
        address = address_key(peer)
        if not self._upgrade.is_proxy(peer) and self._registry.addresses.is_full(address, PROBES_BESIDE):
            log.warning("connection_dropped", reason="as many connections as an address may have", address=address)
            return False
        taken.setblocking(False)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
        if len(self._strangers) >= self._max_strangers:
            self._let_oldest_go()
        connection = self._connection(peer)
        task = asyncio.get_running_loop().create_task(self._adopt(taken, connection))
        self._adopting.add(task)
        self._strangers[connection] = task

        def adopted(done: asyncio.Task[None]) -> None:
            self._adopting.discard(done)
            if not connection.is_adopted:  # let go before anybody began
                taken.close()

        task.add_done_callback(adopted)
        return True

    def _let_oldest_go(self) -> None:
        # Whoever has a credential shows it within moments: those that stay longest without one only hold a place.
        connection, task = next(iter(self._strangers.items()))
        del self._strangers[connection]
        log.warning("connection_dropped", reason="as many without a user as there may be", address=connection.address)
        if task.done():
            connection.transport.abort()
        else:
            task.cancel()

    async def _adopt(self, taken: socket.socket, connection: Connection) -> None:
        connection.is_adopted = True
        options: dict[str, Any] = {}
        if self._tls is not None:
            self._scheduler.strangers.spend(TLS_S)
            options = {"ssl_handshake_timeout": self._services.settings.open_timeout_s, "ssl_shutdown_timeout": CLOSE_S}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, taken, ssl=self._tls, **options
            )
        except (OSError, TimeoutError) as error:
            self._strangers.pop(connection, None)
            log.debug("handshake_failed", address=connection.address, reason=str(error))

    def _connection(self, peer: str) -> Connection:
        settings, address = self._services.settings, address_key(peer)
        connection = Connection(
            # A little more than a stranger may say at once is read, so that it can be told.
            ServerProtocol(max_size=2 * settings.max_unauthenticated_bytes, select_subprotocol=select_subprotocol),
            self,  # what it wants of a server: handler, handler_tasks, is_serving
            ping_interval=None,  # Connection pings by itself
            close_timeout=CLOSE_S,
            receive=self._services.dispatcher.receive,
            admit=self.admit,
            spawn=self._services.spawn,
            wall=self._services.clock,
            bounds=self._bounds,
            share=self._scheduler.of_stranger(address),
            incoming=self._strangers_pools[0],
            outgoing=self._strangers_pools[1],
        )
        connection.peer, connection.address = peer, address
        connection.subscriptions = self._services.events.of(connection)
        return connection

    def place(self, connection: Connection, address: str) -> None:
        """Count a connection with those of its address; behind a proxy that is known from the request only."""
        connection.address = address
        connection.meters = (Meter(STRANGER_CALLS_PER_S),)
        self._registry.addresses.join(address, connection)
        connection.belong(self._scheduler.of_stranger(address), *self._strangers_pools)

    async def handler(self, connection: Connection) -> None:
        """See a connection through, from its request to its end; websockets makes a task of it for each socket."""
        try:
            if not self._upgrade.is_proxy(connection.peer):
                self.place(connection, connection.address)
            async with asyncio.timeout(self._services.settings.open_timeout_s):
                await Paced(connection.share, connection.handshake(self._upgrade.process, None, None))
            if connection.protocol.state is OPEN:
                await self._serve(connection)
                await connection.close()
        except (TimeoutError, ConnectionClosed) as error:
            log.debug("handshake_failed", address=connection.address, reason=str(error))
        finally:
            self._strangers.pop(connection, None)
            self._registry.addresses.leave(connection.address, connection)
            connection.transport.abort()
            self.handler_tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _serve(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._services.metrics.connections += 1
        try:
            if self._services.dispatcher.is_draining:
                # Connected while we were closing: the next server is there in a moment.
                await connection.end(RESTART, "the server restarts", retry_after_ms=1000)
                return
            if connection.refusal is not None:
                await self._show_out(connection, connection.refusal)
                return
            if connection.principal is not None:
                await self.admit(connection, connection.principal)
            elif connection.is_operator:
                self._know(connection, "operator")
            connection.send_soon(jsonrpc.encode_notification("$/hello", self._hello(connection)))
            connection.start()
            if connection.principal is None and not connection.is_operator:
                await self._await_authentication(connection)
            await connection.wait_closed()
        except TooManyConnections as error:
            await connection.end(TOO_MANY, error.message[:120], reconnect=False)
        except CredentialEnded:
            end = connection.principal.grant.over if connection.principal is not None else None
            await connection.end(*SHUT.get(end, (EXPIRED, "the credential has expired")), reconnect=end not in SHUT)
        except ConnectionClosed:
            pass  # gone while we spoke: nothing is lost, its calls finish and their replies are dropped
        finally:
            self._forget(connection)

    async def _show_out(self, connection: Connection, refusal: RpcError | CredentialEnded) -> None:
        """End a page's connection with a code that says what a status of HTTP would: that is all a page hears of it."""
        told = describe(refusal)
        wait_ms = told.data.get("retry_after_ms", 0)
        if isinstance(refusal, RateLimited):
            code, reason = TOO_MUCH, told.message
        elif isinstance(refusal, TooManyConnections):
            code, reason = TOO_MANY, told.message
        elif isinstance(refusal, AccountFrozen):
            code, reason = FROZEN, "the account is frozen"
        else:
            code, reason = REVOKED, f"log in again: {told.message}"
        log.info("connection_refused", code=code, kind=told.data["kind"], reason=told.message)
        await connection.end(code, reason[:120], reconnect=code == TOO_MUCH, retry_after_ms=wait_ms)

    async def _await_authentication(self, connection: Connection) -> None:
        timeout_s = self._services.settings.authenticate_timeout_s
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
        for subscription in tuple(connection.subscriptions.values()):
            self._services.events.close(subscription)
        if connection.principal is not None:
            self._registry.users.leave(connection.principal.user.id, connection)
        elif connection.is_operator:
            self._registry.users.leave("operator", connection)

    def _know(self, connection: Connection, user_id: str) -> None:
        """Count a connection with those of its user, and let it say as much as users may."""
        settings = self._services.settings
        self._strangers.pop(connection, None)
        meters = connection.meters[1:]  # no longer a stranger's
        if settings.calls_per_s_per_connection and not connection.is_operator:
            meters = (*meters, Meter(settings.calls_per_s_per_connection))
        connection.meters = meters
        group = self._registry.users.join(user_id, connection)
        connection.belong(self._scheduler.of_user(user_id), group.incoming, group.outgoing)
        connection.protocol.max_message_size = settings.max_message_bytes

    def _become(self, connection: Connection, principal: Principal) -> None:
        connection.principal = principal
        for subscription in connection.subscriptions.values():
            subscription.sees = scopes.events_of(principal.authority)
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
        now, settings = self._services.clock.now_ms(), self._services.settings
        for connection in tuple(self._mortal):
            expires_at = connection.principal.grant.expires_at if connection.principal else None
            if expires_at is None:
                self._mortal.discard(connection)
            elif expires_at <= now:
                self._mortal.discard(connection)
                connection.end_soon(EXPIRED, "the credential has expired", reconnect=True)
            elif expires_at - now <= settings.expiry_notice_s * 1000 and connection.warned_of != expires_at:
                connection.warned_of = expires_at
                notice = {"expires_at": expires_at, "in_s": round((expires_at - now) / 1000, 3)}
                connection.send_soon(jsonrpc.encode_notification("$/authExpiring", notice))
        if self._mortal:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(settings.expiry_check_s, self._look_at_clocks)

    def _hello(self, connection: Connection) -> dict[str, Any]:
        return {
            "protocol": SUBPROTOCOL,
            "server": {"name": "rpcserver", "version": __version__},
            "limits": limits(self._services.settings),
            "heartbeat_s": self._services.settings.heartbeat_s,
            "auth_required": connection.principal is None,
            "epoch": self._services.events.epoch,
        }
