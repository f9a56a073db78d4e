"""Methods of the API that guests bring: permission, params, deadline and errors are the same as for ours.

Source: api.md (hook `register_methods`).
"""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from core.errors import CoreError
from jobs.errors import JobsError
from plugins import manager
from plugins.errors import PluginError
from plugins.hooks import GuestMethod, MethodCall
from plugins.manager import Bus
from rpcserver.errors import RpcError
from rpcserver.rpc import errors
from rpcserver.rpc.calls import Method
from rpcserver.services import Call


def with_plugins(own: Sequence[Method], bus: Bus) -> list[Method]:
    """Return our methods and those of the guests. Raises BadPlugin for one that cannot be taken in."""
    brought = manager.methods(bus, {method.name for method in own})
    return [*own, *(_method_of(guest, method) for guest, method in brought)]


def _method_of(guest: str, brought: GuestMethod) -> Method:

    async def handler(call: Call, params: BaseModel) -> Any:
        try:
            return await call.services.bus.method(guest, brought, _seen(call), params)
        except PluginError as error:
            if isinstance(error.cause, CoreError | JobsError | RpcError):
                raise error.cause from error  # what a job or a method told the guest is the caller's to know
            raise

    handler.__doc__ = inspect.cleandoc(brought.fn.__doc__ or "")
    return Method(
        brought.name,
        brought.params,
        handler,
        timeout_s=brought.timeout_s,
        is_change=brought.is_change,
        result=brought.result,
        errors=(*errors.JOB, "PLUGIN_ERROR"),
    )


def _seen(call: Call) -> MethodCall:
    async def run(function: str, data: dict[str, Any]) -> Any:
        return await call.run(function, data, replace(call.job_request(), named_by="plugin"))

    async def ask(method: str, /, **params: Any) -> Any:
        return await call.services.dispatcher.call(call.principal, method, params)

    return MethodCall(call.user_id, call.principal.user.name, run, ask, call.progress)
