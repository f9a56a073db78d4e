"""sessions.list."""

from functools import partial
from typing import Any

from rpcserver import sessions, views
from rpcserver.dispatch import Call, method
from rpcserver.models import ListSessionsParams


@method("sessions.list", ListSessionsParams, is_change=False)
async def list_(call: Call, params: ListSessionsParams) -> dict[str, Any]:
    """Return the caller's sessions, the oldest first, whatever their state."""
    scope = ("sessions", call.user_id, params.context_name, params.state)
    position = call.app.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    found = await call.app.store.read(
        lambda tx: sessions.page(tx, call.user_id, params.limit + 1, after, params.context_name, params.state)
    )
    return call.app.cursors.page(found, params.limit, partial(_record, call), *scope)


def _record(call: Call, session: sessions.Session) -> dict[str, Any]:
    # A page is read without history; what is in memory has it.
    return views.session_record(call.app.sessions.cached(session.id) or session)


METHODS = (list_,)
