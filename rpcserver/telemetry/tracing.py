"""A span of the caller's trace for every call that carries `_meta.traceparent`, where OpenTelemetry is installed.

Install `rpcserver[tracing]` and an SDK of your choice; without them the function `begin` answers None.
Source: W3C Trace Context; the semantic conventions of OpenTelemetry for RPC.
"""

from collections.abc import Callable
from typing import Any, TypeVar

try:
    from opentelemetry import context, propagate, trace
except ImportError:  # the extra is not installed: there is nobody to tell
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

T = TypeVar("T")


class Span:
    """A call, as its caller's trace shows it."""

    __slots__ = ("_context", "_span")

    def __init__(self, method: str, traceparent: str, tracestate: str) -> None:
        carrier = {"traceparent": traceparent, "tracestate": tracestate}
        attributes = {"rpc.system": "jsonrpc", "rpc.method": method, "rpc.jsonrpc.version": "2.0"}
        self._span = trace.get_tracer("rpcserver").start_span(
            method, propagate.extract(carrier), trace.SpanKind.SERVER, attributes
        )
        self._context = trace.set_span_in_context(self._span)

    def run(self, fn: Callable[..., T], *arguments: Any) -> T:
        """Call with the span as the current one; tasks made meanwhile keep it."""
        token = context.attach(self._context)
        try:
            return fn(*arguments)
        finally:
            context.detach(token)

    def end(self, code: int) -> None:
        """End it with the code of the answer; 0 is success."""
        if code:
            self._span.set_attribute("rpc.jsonrpc.error_code", code)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR))
        self._span.end()


def begin(method: str, meta: dict[str, Any]) -> Span | None:
    """Return the span of a call, None when it carries no trace or nobody collects any."""
    traceparent = meta.get("traceparent")
    if not IS_INSTALLED or not isinstance(traceparent, str):
        return None
    tracestate = meta.get("tracestate")
    return Span(method, traceparent, tracestate if isinstance(tracestate, str) else "")
