"""The methods, one file a noun. A handler reads like the seed; it raises, and the dispatcher answers."""

from rpcserver.dispatch import Method
from rpcserver.methods import (
    ask,
    auth,
    context,
    core,
    credentials,
    events,
    job,
    jobs,
    operator,
    playbook,
    rpc,
    server,
    session,
    sessions,
    stores,
)

METHODS: tuple[Method, ...] = (
    *session.METHODS,
    *sessions.METHODS,
    *playbook.METHODS,
    *context.METHODS,
    *stores.METHODS,
    *job.METHODS,
    *jobs.METHODS,
    *ask.METHODS,
    *core.METHODS,
    *events.METHODS,
    *auth.METHODS,
    *credentials.METHODS,
    *server.METHODS,
    *rpc.METHODS,
    *operator.METHODS,
)
