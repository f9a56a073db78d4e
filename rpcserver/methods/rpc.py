"""rpc.discover."""

from rpcserver import examples
from rpcserver.dispatch import Call, method
from rpcserver.models import NoParams
from rpcserver.results import OpenRpc


@method("rpc.discover", NoParams, is_change=False, needs_auth=False, result=OpenRpc, examples=examples.DISCOVER)
async def discover(call: Call, params: NoParams) -> bytes:
    """Return what the caller may call as an OpenRPC 1.4 document: methods, params, results, errors, notifications."""
    connection = call.connection
    return await call.app.description.text_for(connection.principal, connection.is_operator)


METHODS = (discover,)
