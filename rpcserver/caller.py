"""`rpcserver call`: one call from the command line."""

import asyncio
import json
import sys
from typing import Any

from websockets.exceptions import WebSocketException

from rpcserver.client import CallError, Client, Disconnected


def call_once(method: str, params: str, url: str, credential: str | None) -> int:
    """Make a call and print its result; return the exit status, 1 for an error."""
    try:
        given = json.loads(params, parse_constant=_no_number)
    except ValueError as error:
        return _fail(-32602, "INVALID_PARAMS", f"the params are not JSON ({error}): quote them, as '{{\"limit\": 5}}'")
    if not isinstance(given, dict):
        return _fail(-32602, "INVALID_PARAMS", "the params must be a JSON object")
    try:
        result = asyncio.run(_call(method, given, url, credential))
    except CallError as error:
        if error.kind == "UNAUTHENTICATED" and credential is None:
            hint = "give --credential, or set RPCSERVER_CREDENTIAL; `rpcserver user add NAME` prints one"
            error.data["reason"] = hint
        print(json.dumps(error.as_dict(), ensure_ascii=False), file=sys.stderr)
        return 1
    except (OSError, Disconnected, WebSocketException, TimeoutError, ValueError) as error:
        return _fail(-32001, "UNREACHABLE", f"no answer from {url} ({error}): is the server running there?")
    print(json.dumps(result, ensure_ascii=False, indent=2))
    return 0


async def _call(method: str, params: dict[str, Any], url: str, credential: str | None) -> Any:
    async with Client(url, credential) as client:
        return await client.call(method, **params)


def _fail(code: int, kind: str, message: str) -> int:
    error = {"code": code, "message": message, "data": {"kind": kind, "retryable": False}}
    print(json.dumps(error, ensure_ascii=False), file=sys.stderr)
    return 1


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")
