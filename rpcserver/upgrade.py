"""The upgrade: who may connect at all, and as whom. GET pages stand on the same port. Source: protocol.md 1 and 9."""

import hmac
import http
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from rpcserver import auth
from rpcserver.addresses import address_key, forwarded_address
from rpcserver.auth import SUBPROTOCOL
from rpcserver.connection import Connection
from rpcserver.errors import RateLimited, RpcError
from rpcserver.start_checks import NO_ORIGIN

if TYPE_CHECKING:
    from rpcserver.app import App
    from rpcserver.server import Server

log = structlog.get_logger("server")

Respond = Callable[[int, str], Response]


class Upgrade:
    """Answers the request every connection begins with."""

    def __init__(self, app: "App", server: "Server") -> None:
        self._app = app
        self._server = server
        settings = app.settings
        self._trusted = frozenset(settings.trusted_proxies if settings.behind_proxy else ())
        origins = tuple(origin for origin in settings.origins if origin != NO_ORIGIN)
        # Whoever names the page's origin has named the host the page is on.
        self._hosts = (*settings.hosts, settings.host, *(urlsplit(origin).netloc for origin in origins))
        self._origins = origins

    async def process(self, socket_connection: ServerConnection, request: Request) -> Response | None:
        """Return a page or a refusal; None lets the WebSocket be opened."""
        connection = socket_connection
        assert isinstance(connection, Connection)  # made by Server
        respond = partial(_refuse, connection)
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if not auth.is_host_allowed(host, self._hosts):
            return respond(403, f"Host {host!r} is not served here. Operator: add it to `hosts`.")
        if not auth.is_origin_allowed(origin, (*self._origins, *self._server.own_origins())):
            return respond(403, f"Pages of {origin!r} may not connect. Operator: add it to `origins`.")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return _page(respond, urlsplit(request.path).path)
        peer = str(connection.remote_address[0]) if connection.remote_address else ""
        forwarded = request.headers.get_all("X-Forwarded-For")
        connection.address = address_key(forwarded_address(peer, forwarded, self._trusted))
        if self._server.is_full:
            return respond(503, "The server has as many connections as it may have: try again later.")
        if self._server.addresses.is_full(connection.address):
            limit = self._server.addresses.limit
            return respond(429, f"Your address has {limit} connections, the most allowed: close one first.")
        return await self._identify(connection, request, respond)

    async def _identify(self, connection: Connection, request: Request, respond: Respond) -> Response | None:
        offered = auth.offered(request.headers.get("Authorization"), _subprotocols(request))
        if offered is None:
            return None
        if hmac.compare_digest(offered.encode(), self._app.operator_secret.encode()):
            connection.is_operator = True
            return None
        try:
            principal = await self._app.entrance.identify(offered, connection.address)
        except RpcError as error:
            response = respond(429 if isinstance(error, RateLimited) else 401, error.message)
            if isinstance(error, RateLimited):
                response.headers["Retry-After"] = str(-(-error.details["retry_after_ms"] // 1000))
            return response
        if self._server.users.is_full(principal.user.id):
            limit = self._server.users.limit
            return respond(429, f"You have {limit} connections, the most allowed: close one first.")
        connection.principal = principal
        return None


def select_subprotocol(connection: ServerConnection, offered: Any) -> Any:
    """Return our subprotocol where it is offered: never the one that carries a credential, for that is echoed."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def _page(respond: Respond, path: str) -> Response:
    if path == "/healthz":
        response = respond(200, "ok")
    elif path == "/":
        response = respond(426, "This is rpcserver: connect with a WebSocket, for example `rpcserver call`.")
    else:
        response = respond(404, "There is no such page here.")
    return response


def _refuse(connection: ServerConnection, status: int, text: str) -> Response:
    response = connection.respond(http.HTTPStatus(status), text + "\n")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    if status != 200:
        log.info("connection_refused", status=status, reason=text)
    return response


def _subprotocols(request: Request) -> list[str]:
    offered = request.headers.get_all("Sec-WebSocket-Protocol")
    return [name.strip() for line in offered for name in line.split(",")]
