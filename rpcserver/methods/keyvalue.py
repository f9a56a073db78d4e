"""session.db.* and context.db.*: key-value stores on the filesystem. Source: seeds.md P15 to P17."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from heroscript.kvs import Store
from rpcserver.errors import Forbidden
from rpcserver.openrpc import examples
from rpcserver.playbooks.keyvalue import CONFIG, SECRETS, keys, session_store
from rpcserver.rpc import errors
from rpcserver.rpc.calls import method
from rpcserver.schemas.playbook import (
    ContextKeyParams,
    ContextKeysParams,
    ContextSetParams,
    ContextStoreParams,
    KeyPage,
    KeyParams,
    KeysParams,
    SetParams,
    StoreParams,
)
from rpcserver.services import Call

T = TypeVar("T")


@method(
    "session.db.get", KeyParams, is_change=False, result=str, errors=errors.KEYS_READ, examples=examples.SESSION_GET
)
async def session_get(call: Call, params: KeyParams) -> str:
    """Return a value of the session's own store."""
    return await _in_session(call, params.session_id, lambda store: store.get(params.key))


@method("session.db.set", SetParams, result=int, errors=errors.KEYS_WRITE, examples=examples.SESSION_SET)
async def session_set(call: Call, params: SetParams) -> int:
    """Store a value in the session's own store, and return its number there, which stays."""
    return await call.services.stores.set(*await _session_store(call, params.session_id), params.key, params.value)


@method("session.db.delete", KeyParams, result=bool, errors=errors.KEYS_WRITE, examples=examples.SESSION_HAS)
async def session_delete(call: Call, params: KeyParams) -> bool:
    """Remove a value; true when there was one."""
    return await call.services.stores.delete(*await _session_store(call, params.session_id), params.key)


@method(
    "session.db.exists", KeyParams, is_change=False, result=bool, errors=errors.KEYS_READ, examples=examples.SESSION_HAS
)
async def session_exists(call: Call, params: KeyParams) -> bool:
    """Tell whether there is a value under a key."""
    return await _in_session(call, params.session_id, lambda store: store.exists(params.key))


@method(
    "session.db.keys",
    KeysParams,
    is_change=False,
    result=KeyPage,
    errors=errors.KEYS_LIST,
    examples=examples.SESSION_KEYS,
)
async def session_keys(call: Call, params: KeysParams) -> dict[str, Any]:
    """Return the keys that begin with `prefix`, sorted."""
    session = await call.session(params.session_id)
    use = partial(_in_session, call, session.id)
    return await _keys(call, params, use, ("session.db", session.id))


@method("session.db.destroy", StoreParams, result=bool, errors=errors.KEYS_WRITE, examples=examples.SESSION_DESTROY)
async def session_destroy(call: Call, params: StoreParams) -> bool:
    """Remove every value of the session's own store; true when there was a store."""
    session = await call.session(params.session_id)
    return await call.services.stores.destroy(session.core_user_id, session.context_name, session_store(session.id))


@method(
    "context.db.get",
    ContextKeyParams,
    is_change=False,
    result=str,
    errors=errors.KEYS_READ,
    examples=examples.CONTEXT_GET,
)
async def context_get(call: Call, params: ContextKeyParams) -> str:
    """Return a value of the context's store; a secret is never returned, only used where a script refers to it."""
    if params.secret:
        raise Forbidden(f"A secret is not read: refer to it as {{secret:{params.key}}}.")
    return await _in_context(call, params, lambda store: store.get(params.key))


@method("context.db.set", ContextSetParams, result=int, errors=errors.KEYS_WRITE, examples=examples.CONTEXT_SET)
async def context_set(call: Call, params: ContextSetParams) -> int:
    """Store a value in the context's store, or, sealed, among its secrets; return its number there, which stays."""
    return await call.services.stores.set(call.user_id, params.context_name, _name(params), params.key, params.value)


@method("context.db.delete", ContextKeyParams, result=bool, errors=errors.KEYS_WRITE, examples=examples.CONTEXT_HAS)
async def context_delete(call: Call, params: ContextKeyParams) -> bool:
    """Remove a value; true when there was one."""
    return await call.services.stores.delete(call.user_id, params.context_name, _name(params), params.key)


@method(
    "context.db.exists",
    ContextKeyParams,
    is_change=False,
    result=bool,
    errors=errors.KEYS_READ,
    examples=examples.CONTEXT_HAS,
)
async def context_exists(call: Call, params: ContextKeyParams) -> bool:
    """Tell whether there is a value under a key."""
    return await _in_context(call, params, lambda store: store.exists(params.key))


@method(
    "context.db.keys",
    ContextKeysParams,
    is_change=False,
    result=KeyPage,
    errors=errors.KEYS_LIST,
    examples=examples.CONTEXT_KEYS,
)
async def context_keys(call: Call, params: ContextKeysParams) -> dict[str, Any]:
    """Return the keys that begin with `prefix`, sorted."""
    use = partial(_in_context, call, params)
    return await _keys(call, params, use, ("context.db", call.user_id, params.context_name, params.secret))


@method(
    "context.db.destroy", ContextStoreParams, result=bool, errors=errors.KEYS_WRITE, examples=examples.CONTEXT_DESTROY
)
async def context_destroy(call: Call, params: ContextStoreParams) -> bool:
    """Remove every value of the context's store; true when there was a store."""
    return await call.services.stores.destroy(call.user_id, params.context_name, _name(params))


async def _in_session(call: Call, session_id: str | None, fn: Callable[[Store], T]) -> T:
    return await call.services.stores.use(*await _session_store(call, session_id), fn)


async def _session_store(call: Call, session_id: str | None) -> tuple[str, str, str]:
    session = await call.session(session_id)
    return session.core_user_id, session.context_name, session_store(session.id)


async def _in_context(call: Call, params: ContextStoreParams, fn: Callable[[Store], T]) -> T:
    return await call.services.stores.use(call.user_id, params.context_name, _name(params), fn)


async def _keys(
    call: Call, params: KeysParams | ContextKeysParams, use: Callable[..., Any], scope: tuple[Any, ...]
) -> dict[str, Any]:
    scope = (*scope, params.prefix)
    position = call.services.cursors.decode(params.cursor, *scope)
    after = str(position[0]) if position else ""
    found = await use(lambda store: keys(store, params.prefix, after, params.limit + 1))
    page = found[: params.limit]
    cursor = call.services.cursors.encode([page[-1]], *scope) if len(found) > params.limit else None
    return {"items": page, "next_cursor": cursor}


def _name(params: ContextStoreParams) -> str:
    return SECRETS if params.secret else CONFIG


METHODS = (
    session_get,
    session_set,
    session_delete,
    session_exists,
    session_keys,
    session_destroy,
    context_get,
    context_set,
    context_delete,
    context_exists,
    context_keys,
    context_destroy,
)
