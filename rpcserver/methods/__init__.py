"""The methods, one file a noun. A handler reads like the seed; it raises, and the dispatcher answers."""

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
from rpcserver.rpc.dispatcher import Method

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
