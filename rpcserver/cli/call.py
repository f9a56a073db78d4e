"""`rpcserver call`: one call from the command line."""

import asyncio
import json
import sys
from typing import Any

from rpcserver.client import CallError, Client, Disconnected, Unreachable


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
    except Unreachable as error:
        return _fail(-32001, "UNREACHABLE", str(error))
    except TimeoutError:
        return _fail(-32001, "TIMED_OUT", f"{method} was not answered in time; it may have been carried out")
    except Disconnected as error:
        return _fail(-32001, "DISCONNECTED", f"{error} before {method} was answered; it may have been carried out")
    except ValueError as error:
        return _fail(-32602, "INVALID_PARAMS", str(error))
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
