"""Every example of section 7 of the JSON-RPC 2.0 specification, verbatim, over a real socket.

Source: https://www.jsonrpc.org/specification#examples. `error.data` is left to the server by section 5.1.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import rpcserver.app
from rpcserver.rpc.calls import method
from rpcserver.schemas.session import NoParams, Params
from rpcserver.services import Call
from tests.builders import Wire
from tests.conftest import run_server


class Subtract(Params):
    """subtract: the parameters of the specification's examples."""

    minuend: int
    subtrahend: int


class Numbers(Params):
    """Up to five numbers by position."""

    a: int
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0


@method("subtract", Subtract)
def subtract(call: Call, params: Subtract) -> int:
    """Subtract."""
    return params.minuend - params.subtrahend


@method("sum", Numbers)
async def add(call: Call, params: Numbers) -> int:
    """Add; async, so that its reply comes later than the others of its batch."""
    return params.a + params.b + params.c


@method("get_data", NoParams)
def get_data(call: Call, params: NoParams) -> list[Any]:
    """Answer a list."""
    return ["hello", 5]


def ignore(call: Call, params: Numbers) -> None:
    """Take a notification."""


NOTIFIED = [method(name, Numbers)(ignore) for name in ("update", "notify_hello", "notify_sum")]


@pytest.fixture
async def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """A socket to a server that has the methods of the specification."""
    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, subtract, add, get_data, *NOTIFIED))
    async with run_server(tmp_path / "data") as server:
        opened = await Wire.open(server.url, await server.credential("anna"))
        yield opened
        await opened.close()


EXAMPLES = {
    "positional": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        '{"jsonrpc": "2.0", "result": 19, "id": 1}',
    ),
    "positional, the other way round": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        '{"jsonrpc": "2.0", "result": -19, "id": 2}',
    ),
    "named": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        '{"jsonrpc": "2.0", "result": 19, "id": 3}',
    ),
    "named, the other way round": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        '{"jsonrpc": "2.0", "result": 19, "id": 4}',
    ),
    "notification": ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    "notification of an unknown method": ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    "unknown method": (
        '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}',
    ),
    "invalid JSON": (
        '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}',
    ),
    "invalid request": (
        '{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
        '{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}',
    ),
    "batch, invalid JSON": (
        """[
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method"
]""",
        '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}',
    ),
    "empty batch": (
        "[]",
        '{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}',
    ),
    "batch of one invalid item": (
        "[1]",
        '[{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}]',
    ),
    "batch of invalid items": (
        "[1,2,3]",
        """[
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}
]""",
    ),
    "batch": (
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]""",
        """[
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}
    ]""",
    ),
    "batch of notifications": (
        """[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]""",
        None,
    ),
}

AFTER = {"jsonrpc": "2.0", "method": "server.ping", "id": "after"}


@pytest.mark.parametrize(("request_text", "response_text"), EXAMPLES.values(), ids=EXAMPLES.keys())
async def test_example(wire: Wire, request_text: str, response_text: str | None) -> None:
    """The request is answered as the specification says, or not at all; replies of a batch may be in any order."""
    await wire.send(request_text)
    await wire.send(AFTER)
    answers = [await wire.receive() for _ in range(1 if response_text is None else 2)]
    answers.remove({"jsonrpc": "2.0", "result": "pong", "id": "after"})
    assert [in_order(without_data(answer)) for answer in answers] == [
        in_order(json.loads(text)) for text in (response_text,) if text is not None
    ]


def without_data(answer: Any) -> Any:
    """Return the answer with what the specification leaves to the server taken away."""
    if isinstance(answer, list):
        return [without_data(item) for item in answer]
    if "error" in answer:
        assert answer["error"].pop("data").keys() >= {"kind", "retryable"}
    return answer


def in_order(answer: Any) -> Any:
    """Return a batch's replies in an order of their own."""
    return sorted(answer, key=json.dumps) if isinstance(answer, list) else answer
