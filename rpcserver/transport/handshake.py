"""The upgrade: who may connect at all, and as whom. GET pages stand on the same port. Source: protocol.md 1 and 9."""

import hmac
import http
from collections.abc import Callable, Collection, Sequence
from functools import partial
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import orjson
import structlog
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from jobs.errors import CredentialEnded
from rpcserver.addresses import (
    NO_ORIGIN,
    address_key,
    as_host,
    bracketed,
    forwarded_address,
    is_within,
    split_host,
)
from rpcserver.auth import authenticator
from rpcserver.auth.authenticator import BEARER_SUBPROTOCOL, SUBPROTOCOL
from rpcserver.errors import RateLimited, RpcError, TooManyConnections
from rpcserver.rpc.errors import describe
from rpcserver.services import Services
from rpcserver.transport.connection import Connection
from rpcserver.transport.http import PROBES, Asker, Page, Pages

log = structlog.get_logger("server")

Respond = Callable[[int, str], Response]


class Upgrade:
    """Answers the request every connection begins with.

    Args:
        connections: those that are open.
        own_origins: the origins of pages this server itself could have sent.
        place: counts a connection with those of an address.
    """

    def __init__(
        self,
        services: Services,
        connections: Collection[Connection],
        own_origins: Callable[[], tuple[str, ...]],
        place: Callable[[Connection, str], None],
    ) -> None:
        self._services = services
        self._connections = connections
        self._own_origins = own_origins
        self._place = place
        settings = services.settings
        self._pages = Pages(services, connections)
        self._trusted = [ip_network(one) for one in settings.trusted_proxies] if settings.behind_proxy else []
        origins = tuple(origin for origin in settings.origins if origin != NO_ORIGIN)
        # Whoever names the page's origin has named the host the page is on.
        listened = split_host(bracketed(settings.host))
        own = () if listened is None else (listened[0],)
        self._hosts = (*settings.hosts, *own, *(as_host(urlsplit(origin).netloc) for origin in origins))
        self._origins = origins

    def is_proxy(self, address: str) -> bool:
        """Tell whether an address is a proxy's, which says for whom it speaks."""
        return is_within(address, self._trusted)

    async def process(self, socket_connection: ServerConnection, request: Request) -> Response | None:
        """Return a page or a refusal; None lets the WebSocket be opened."""
        connection = socket_connection
        assert isinstance(connection, Connection)  # made by Server
        respond = partial(_refuse, connection)
        for name in ("Host", "Origin", "Authorization"):
            if len(request.headers.get_all(name)) > 1:
                return respond(400, f"The header {name} stands twice.")
        path = request.path.partition("?")[0]
        is_page = request.headers.get("Upgrade", "").lower() != "websocket"
        if is_page and path in PROBES:
            return await self._probe(connection, request, path)
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if not authenticator.is_host_allowed(host, self._hosts):
            return respond(403, f"Host {host!r} is not served here. Operator: add it to `hosts`.")
        if not authenticator.is_origin_allowed(origin, (*self._origins, *self._own_origins())):
            return respond(403, f"Pages of {origin!r} may not connect. Operator: add it to `origins`.")
        if self.is_proxy(connection.peer):
            forwarded = request.headers.get_all("X-Forwarded-For")
            address = forwarded_address(connection.peer, forwarded, self._trusted)
            self._place(connection, address_key(address))
        if not is_page:
            return await self._open(connection, request, path)
        response = await self._page(connection, request, path)
        if origin is not None:
            # The origin may connect, so a script of its page may read what stands here, such as /openrpc.json.
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
        return response

    async def _open(self, connection: Connection, request: Request, path: str) -> Response | None:
        if len(self._connections) >= self._services.settings.max_connections:
            return _refuse(connection, 503, "The server has as many connections as it may have: try again later.")
        try:
            if self._services.connections.addresses.is_full(connection.address, 1):  # itself is one of them
                raise TooManyConnections("your address", self._services.connections.addresses.limit)
            await self._identify(connection, request)
        except (RpcError, CredentialEnded) as error:
            if not _is_page(request):
                return _unwelcome(connection, error)
            # A page learns nothing of an HTTP status: it is let in, told, and shown out.
            connection.refusal = error
        return None

    async def _probe(self, connection: Connection, request: Request, path: str) -> Response:
        # Balancers and containers probe by whatever address they know: by a strange one they learn one word only.
        is_local = authenticator.is_host_allowed(request.headers.get("Host"), self._hosts) and _is_local(
            connection, request
        )
        return _answer(connection, await self._pages.page(path, Asker(is_local)))

    async def _page(self, connection: Connection, request: Request, path: str) -> Response:
        if request.method == "OPTIONS" and "Origin" in request.headers:
            answer = _answer(connection, Page(204, ""))
            answer.headers["Access-Control-Allow-Methods"] = "GET, HEAD"
            answer.headers["Access-Control-Allow-Headers"] = "Authorization"
            return answer
        if request.method not in ("GET", "HEAD"):
            return _answer(connection, Page(405, "Pages are read with GET.\n"))
        offered = authenticator.offered(request.headers.get("Authorization"), [])
        principal = None
        if offered is not None:
            try:
                principal = await self._services.entrance.identify(offered, connection.address)
            except (RpcError, CredentialEnded) as error:
                return _unwelcome(connection, error)
        return _answer(connection, await self._pages.page(path, Asker(_is_local(connection, request), principal)))

    async def _identify(self, connection: Connection, request: Request) -> None:
        offered = authenticator.offered(request.headers.get("Authorization"), _subprotocols(request))
        if offered is None:
            return
        if hmac.compare_digest(offered.encode("utf-8", "surrogatepass"), self._services.operator_secret.encode()):
            connection.is_operator = True
            return
        principal = await self._services.entrance.identify(offered, connection.address)
        if self._services.connections.users.is_full(principal.user.id):
            raise TooManyConnections("yours", self._services.connections.users.limit)
        connection.principal = principal


def select_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Return our subprotocol where it is offered: never the one that carries a credential, for that is echoed."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _unwelcome(connection: ServerConnection, error: RpcError | CredentialEnded) -> Response:
    """Answer with the error object that a call would have got."""
    told = describe(error)
    status = 429 if isinstance(error, RateLimited | TooManyConnections) else 401
    log.info("connection_refused", status=status, kind=told.data["kind"], reason=told.message)
    body = orjson.dumps({"error": told.as_dict()}).decode()
    response = _answer(connection, Page(status, body + "\n", "application/json"))
    if "retry_after_ms" in told.data:
        response.headers["Retry-After"] = str(-(-told.data["retry_after_ms"] // 1000))
    return response


def _is_page(request: Request) -> bool:
    """Tell whether a page connects: only pages have an origin, and only they bring a credential as a subprotocol."""
    return "Origin" in request.headers or any(one.startswith(BEARER_SUBPROTOCOL) for one in _subprotocols(request))


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
