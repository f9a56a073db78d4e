"""The methods, one file a noun. A handler reads like the seed; it raises, and the dispatcher answers."""

from typing import Any

from rpcserver.methods import (
    auth,
    context,
    core,
    credential,
    event,
    job,
    keyvalue,
    operator,
    playbook,
    question,
    server,
    session,
)
from rpcserver.openrpc.document import Description
from rpcserver.rpc.calls import Method

METHODS: tuple[Method, ...] = (
    *session.METHODS,
    *playbook.METHODS,
    *context.METHODS,
    *keyvalue.METHODS,
    *job.METHODS,
    *question.METHODS,
    *core.METHODS,
    *event.METHODS,
    *auth.METHODS,
    *credential.METHODS,
    *server.METHODS,
    *operator.METHODS,
)


def document() -> dict[str, Any]:
    """Return the OpenRPC document of every method of ours that a user may be allowed to call."""
    return Description(METHODS).whole()
