"""asks.list and ask.answer. Source: protocol.md 5."""

from typing import Any

from jobs import asks
from rpcserver.openrpc import examples
from rpcserver.rpc import errors
from rpcserver.rpc.calls import method
from rpcserver.schemas.job import AnswerParams, ListAsksParams
from rpcserver.schemas.results import AskPage
from rpcserver.services import Call


@method(
    "asks.list", ListAsksParams, is_change=False, result=AskPage, errors=("INVALID_CURSOR",), examples=examples.ASKS
)
async def list_(call: Call, params: ListAsksParams) -> dict[str, Any]:
    """Return the open questions to the caller, the oldest first; those of one session, if named."""
    scope = ("asks", call.user_id, params.session_id)
    position = call.services.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    found = await call.services.store.read(
        lambda tx: asks.page(tx, call.user_id, params.limit + 1, after, params.session_id)
    )
    return call.services.cursors.page(found, params.limit, lambda ask: ask.shown(call.services.clock), *scope)


@method(
    "ask.answer",
    AnswerParams,
    result=bool,
    errors=(*errors.STORAGE, "ASK_NOT_FOUND", "BAD_ANSWER"),
    examples=examples.ANSWER,
    secret_params=("answer",),
)
async def answer(call: Call, params: AnswerParams) -> bool:
    """Answer a question, from any tab, program or agent of the user asked; the first valid answer counts."""
    await call.runner.asks.answer(params.ask_id, call.user_id, params.answer, is_declined=params.decline)
    return True


METHODS = (list_, answer)
