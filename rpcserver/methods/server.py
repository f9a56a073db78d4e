"""server.info, server.ping and server.identify."""

import time
from typing import Any, Literal

from rpcserver import __version__
from rpcserver.openrpc import examples
from rpcserver.rpc.dispatcher import Call, method
from rpcserver.schemas.results import OpenRpc, ServerInfo
from rpcserver.schemas.session import IdentifyParams, NoParams
from rpcserver.telemetry import usage


@method("server.info", NoParams, is_change=False, result=ServerInfo, examples=examples.INFO)
async def info(call: Call, params: NoParams) -> dict[str, Any]:
    """Return the server's version, limits and what the caller uses of them, plugins, uptime, and methods to call."""
    app = call.app
    return {
        "version": __version__,
        "protocol": "rpcserver.v1",
        "uptime_s": round(time.monotonic() - app.started, 3),
        "limits": app.server.limits,
        "usage": {} if call.connection.is_operator else await usage.of_user(app, call.user_id),
        "plugins": app.bus.names,
        "left_out": [
            {"what": " ".join(thing), "tried_again_in_s": round(wait_s, 3)}
            for breaker in (app.bus.breaker, app.outside.remotes.breaker)
            for thing, wait_s in breaker.left_out().items()
        ],
        "methods": sorted(one.name for one in app.dispatcher.methods.values() if one.is_for(call.principal, False)),
    }


@method("server.ping", NoParams, needs_auth=False, is_change=False, result=Literal["pong"], examples=examples.PING)
def ping(call: Call, params: NoParams) -> str:
    """Answer `pong`."""
    return "pong"


@method(
    "server.identify",
    IdentifyParams,
    is_open=True,
    is_own=True,
    is_change=False,
    result=bool,
    examples=examples.IDENTIFY,
)
def identify(call: Call, params: IdentifyParams) -> bool:
    """Say which program connects; it is shown in presence and logs."""
    call.connection.client = params.model_dump()
    return True


@method("rpc.discover", NoParams, is_change=False, needs_auth=False, result=OpenRpc, examples=examples.DISCOVER)
async def discover(call: Call, params: NoParams) -> bytes:
    """Return what the caller may call as an OpenRPC 1.4 document: methods, params, results, errors, notifications."""
    connection = call.connection
    return await call.app.description.text_for(connection.principal, connection.is_operator)


METHODS = (info, ping, identify, discover)
