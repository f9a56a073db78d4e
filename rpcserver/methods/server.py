"""server.info, server.ping and server.identify."""

import time
from typing import Any, Literal

from rpcserver import __version__, usage
from rpcserver.openrpc import examples
from rpcserver.rpc.calls import method
from rpcserver.schemas.results import OpenRpc, ServerInfo
from rpcserver.schemas.session import IdentifyParams, NoParams
from rpcserver.services import Call
from rpcserver.settings import Settings


@method("server.info", NoParams, is_change=False, result=ServerInfo, examples=examples.INFO)
async def info(call: Call, params: NoParams) -> dict[str, Any]:
    """Return the server's version, limits and what the caller uses of them, plugins, uptime, and methods to call."""
    services = call.services
    return {
        "version": __version__,
        "protocol": "rpcserver.v1",
        "uptime_s": round(time.monotonic() - services.started, 3),
        "limits": limits(call.settings),
        "usage": {} if call.connection.is_operator else await usage.of_user(services, call.user_id),
        "plugins": services.bus.names,
        "left_out": [
            {"what": " ".join(thing), "tried_again_in_s": round(wait_s, 3)}
            for breaker in (services.bus.breaker, services.outside.remotes.breaker)
            for thing, wait_s in breaker.left_out().items()
        ],
        "methods": sorted(
            one.name for one in services.dispatcher.methods.values() if one.is_for(call.principal, False)
        ),
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
    call.client.about = params.model_dump()
    return True


@method("rpc.discover", NoParams, is_change=False, needs_auth=False, result=OpenRpc, examples=examples.DISCOVER)
async def discover(call: Call, params: NoParams) -> bytes:
    """Return what the caller may call as an OpenRPC 1.4 document: methods, params, results, errors, notifications."""
    connection = call.connection
    return await call.services.description.text_for(connection.principal, connection.is_operator)


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
        "max_unfinished_bytes_per_user",
        "max_outbox_bytes_per_user",
        "max_sessions_per_user",
        "authenticate_timeout_s",
        "call_timeout_s",
    )
    told = {name: getattr(settings, name) for name in names}
    return {**told, "max_connections_per_address": settings.connections_per_address}


METHODS = (info, ping, identify, discover)
