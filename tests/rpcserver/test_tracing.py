"""OpenTelemetry: a call with a traceparent is a span of that trace; without the package nothing is missed."""

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rpcserver.client import CallError
from tests.conftest import Running

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
META = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """What collects the spans of this process."""
    collected = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(collected))
    trace.set_tracer_provider(provider)
    return collected


async def test_a_call_is_a_span_of_its_callers_trace(server: Running, exporter: InMemorySpanExporter) -> None:
    """The span has the caller's trace and parent, the method's name, and the code when it failed."""
    client = await server.client("anna")
    exporter.clear()
    await client.call("session.ls", _meta=META)
    await client.call("server.ping", _meta=META)
    with pytest.raises(CallError):
        await client.call("session.get", session_id="s_none", _meta=META)
    await client.call("server.ping")
    listed, pinged, failed = exporter.get_finished_spans()
    assert [span.name for span in (listed, pinged, failed)] == ["session.ls", "server.ping", "session.get"]
    for span in (listed, pinged, failed):
        assert span.parent is not None and span.context is not None
        assert trace.format_trace_id(span.context.trace_id) == TRACE
        assert trace.format_span_id(span.parent.span_id) == PARENT
    assert listed.status.is_ok
    assert failed.attributes is not None
    assert failed.attributes["rpc.jsonrpc.error_code"] == -32004


@pytest.mark.parametrize("traceparent", ["", "nonsense", 7, None, f"00-{'0' * 32}-{PARENT}-01"])
async def test_a_traceparent_that_is_none_harms_nobody(server: Running, traceparent: object) -> None:
    """A call with a broken trace context is answered as ever."""
    client = await server.client("anna")
    assert await client.call("server.ping", _meta={"traceparent": traceparent}) == "pong"


def test_without_the_package_calls_have_no_span() -> None:
    """Where OpenTelemetry is not installed a traceparent is ignored."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from rpcserver.telemetry import tracing\n"
        f"assert not tracing.IS_INSTALLED and tracing.begin('server.ping', {META!r}) is None\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
