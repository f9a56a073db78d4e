"""core.*: every open call of the core, each run as a job in the caller's name.

The methods follow from the table in `jobs.functions.core`: what a call takes, says and answers is written once, at
the call.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, create_model

from jobs.authority import SERVER
from jobs.engine import Then
from jobs.functions import attributes, core
from jobs.functions.core import OPERATOR, OpenCall
from jobs.model import Request
from rpcserver.auth import authenticator
from rpcserver.openrpc import examples
from rpcserver.rpc import errors
from rpcserver.rpc.calls import Method
from rpcserver.schemas.session import Cursor
from rpcserver.services import Call
from store import Tx


def _method(open_call: OpenCall) -> Method:
    fields = dict(open_call.fields)
    if open_call.is_paged:
        # A position never leaves the server: it goes out as a signed cursor of this very list.
        fields["cursor"] = (Cursor, None)
    params = core.model(open_call.name, open_call.doc, fields)
    make = _list if open_call.is_paged else _call
    handler = make(open_call)
    handler.__doc__ = open_call.doc
    return Method(
        open_call.name,
        params,
        handler,
        is_operator=open_call.is_operators,
        is_change=not open_call.is_reading,
        has_secret=open_call.name == "core.user.create",
        result=_result(open_call),
        errors=(*errors.JOB, *errors.CORE),
        examples=examples.CORE.get(open_call.name, ()),
    )


def _result(open_call: OpenCall) -> Any:
    if not open_call.is_paged:
        return open_call.returns
    name = "".join(part.title() for part in open_call.name.split(".")[1:]) + "Page"
    doc = "A page of a list; `next_cursor` is null at the end."
    return create_model(name, __doc__=doc, items=(open_call.returns, ...), next_cursor=(str | None, ...))


def _call(open_call: OpenCall) -> Callable[[Call, BaseModel], Any]:
    name, made_then, after = open_call.name, _THEN.get(open_call.name), _AFTER.get(open_call.name)

    async def handler(call: Call, params: BaseModel) -> Any:
        then = made_then(call) if made_then else None
        answer = await call.runner.run(name, dict(params), _request(call, open_call), then=then)
        if after is not None:
            await after(call, answer)
        return answer

    return handler


def _list(open_call: OpenCall) -> Callable[[Call, BaseModel], Any]:
    name = open_call.name

    async def handler(call: Call, params: BaseModel) -> dict[str, Any]:
        data = dict(params)
        cursor = data.pop("cursor")
        request = _request(call, open_call)
        scope = (name, request.owner_id, *(str(value) for key, value in sorted(data.items()) if key != "limit"))
        data["after"] = call.services.cursors.decode(cursor, *scope)
        answer = await call.runner.run(name, data, request)
        items, after = answer if isinstance(answer, tuple) else (answer.entries, answer.next)
        return {"items": items, "next_cursor": call.services.cursors.encode(after, *scope)}

    return handler


def _request(call: Call, open_call: OpenCall) -> Request:
    return Request(OPERATOR, SERVER, admitted=open_call.name) if open_call.is_operators else call.job_request()


def _with_credential(call: Call) -> Then:
    return lambda tx, user: {"user": user, "credential": str(authenticator.issue(tx, user.id, "first credential"))}


def _close_frozen(call: Call) -> Then:
    def close(tx: Tx, user: Any) -> Any:
        call.services.withdrawal.froze(tx, user)
        return user

    return close


async def _settle_frozen(call: Call, user: Any) -> None:
    await call.services.withdrawal.settle((user.id,))


# What belongs to a call's end at the edge: a new user's credential, a frozen one's connections.
_THEN: dict[str, Callable[[Call], Then]] = {"core.user.create": _with_credential, "core.user.freeze": _close_frozen}
# What has to be so before it is answered.
_AFTER: dict[str, Callable[[Call, Any], Awaitable[None]]] = {"core.user.freeze": _settle_frozen}
METHODS = tuple(_method(open_call) for open_call in (*core.open_calls(), *attributes.open_calls()))
