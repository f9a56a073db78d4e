"""context.get, context.update, contexts.list. Source: seeds.md P6, P7."""

from typing import Any

from rpcserver.openrpc import examples
from rpcserver.playbooks import sources
from rpcserver.rpc import errors
from rpcserver.rpc.calls import method
from rpcserver.schemas.job import PageParams
from rpcserver.schemas.playbook import ContextPage, ContextParams, ContextRecord, UpdateContextParams
from rpcserver.services import Call
from rpcserver.sessions import contexts


@method(
    "context.get",
    ContextParams,
    result=ContextRecord,
    errors=(*errors.STORAGE, "QUOTA_EXCEEDED"),
    examples=examples.CONTEXT,
)
async def get(call: Call, params: ContextParams) -> dict[str, Any]:
    """Return a context of the caller's; it is made when there is none of that name."""
    user_id, name, most = call.user_id, params.context_name, call.settings.max_contexts_per_user
    found = await call.services.store.read(lambda tx: contexts.find(tx, user_id, name))
    if found is None:
        found = await call.services.store.write(lambda tx: contexts.ensure(tx, user_id, name, most))
    return contexts.shown(found)


@method(
    "context.update",
    UpdateContextParams,
    result=ContextRecord,
    errors=(*errors.STORAGE, "BAD_SCRIPT", "CODEROOT_REFUSED", "QUOTA_EXCEEDED"),
    examples=examples.UPDATE_CONTEXT,
)
async def update(call: Call, params: UpdateContextParams) -> dict[str, Any]:
    """Change what the sessions of a context share: where checkouts lie, parameters, whether they may ask."""
    user_id, name, most = call.user_id, params.context_name, call.settings.max_contexts_per_user
    changes: dict[str, Any] = {}
    if params.coderoot is not None:
        sources.code_folder(call.settings, user_id, name, params.coderoot)
        changes["coderoot"] = params.coderoot
    if params.params is not None:
        changes["params"], changes["params_by"] = contexts.read(params.params), call.authority.stored
    if params.interactive is not None:
        changes["is_interactive"] = params.interactive
    return contexts.shown(await call.services.store.write(lambda tx: contexts.update(tx, user_id, name, changes, most)))


@method(
    "contexts.list",
    PageParams,
    is_change=False,
    result=ContextPage,
    errors=("INVALID_CURSOR",),
    examples=examples.CONTEXTS,
)
async def list_(call: Call, params: PageParams) -> dict[str, Any]:
    """Return the caller's contexts, by name."""
    scope = ("contexts", call.user_id)
    position = call.services.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    found = await call.services.store.read(lambda tx: contexts.page(tx, call.user_id, params.limit + 1, after))
    return call.services.cursors.page(found, params.limit, contexts.shown, *scope)


METHODS = (get, update, list_)
