"""sessions.list."""

from typing import Any

from rpcserver import examples, kinds, sessions, views
from rpcserver.dispatch import Call, method
from rpcserver.models import ListSessionsParams
from rpcserver.results import SessionPage


@method(
    "sessions.list",
    ListSessionsParams,
    is_change=False,
    result=SessionPage,
    errors=(*kinds.STORAGE, "INVALID_CURSOR"),
    examples=examples.SESSIONS,
)
async def list_(call: Call, params: ListSessionsParams) -> dict[str, Any]:
    """Return the caller's sessions, the oldest first, whatever their state."""
    scope = ("sessions", call.user_id, params.context_name, params.state)
    position = call.app.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    found = await call.app.store.read(
        lambda tx: sessions.page(tx, call.user_id, params.limit + 1, after, params.context_name, params.state)
    )
    return call.app.cursors.page(found, params.limit, views.session_record, *scope)


METHODS = (list_,)
