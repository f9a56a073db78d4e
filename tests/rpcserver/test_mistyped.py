"""What a person mistyped is never an internal error: every param of every method, fed with the awkward.

The table is made from the OpenRPC document, so a new method or param is in it by itself.
"""

import asyncio
import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect

from heroscript import Params
from rpcserver.client import CallError
from rpcserver.methods import METHODS
from rpcserver.openrpc.document import Description
from rpcserver.rpc.calls import Method
from tests.conftest import Running, run_server
from tests.rpcserver.test_every_call import ROWS, Stage, ask_the_desk
from tests.rpcserver.test_openrpc import PUBLIC, real_params

DESCRIBED = {method["name"]: method for method in Description(METHODS).whole()["methods"]}
INTERNAL = -32603
# One line a kind: blanks and signs, marks of other languages, paths, addresses, numbers, ids and dates.
TEXTS = (
    *("", " ", "\n", "a\x00b", "\x1b[31m", "😀" * 30, "\u202eabc", "x" * 5000, "é" * 200, "%00", "-", "--help"),
    *("'; DROP TABLE users; --", "{", "{{a}}", "[", "(", "*", "a.*", "!!", "!!a.b", "@", "true", "null"),
    *("..", "../..", "a/../b", "/etc/passwd", "~", "C:\\x", ".git", "//"),
    *("github.com/onlyone", "https://", "http://[", "ssh://git@host:acct/repo", "git@", "file:///etc", "h:p", "::1"),
    *("1e999", "nan", "-1", "0", "99999999999999999999", "s_", "set_0", "t_x", "2026-13-45"),
)
NUMBERS = (
    *(0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**30),
    *(1.5, 5e-324, -1e308, 1e308, True, False),
)
SHAPES: tuple[Any, ...] = (
    *(None, [], {}, [None], [[]], {"": None}, {"a": {"b": []}}, [1, "a", {}], {"text": 1}, ["x"] * 300),
)
AWKWARD = (*TEXTS, *NUMBERS, *SHAPES)
# Where things lie on the server's machine is nobody's to know.
PATHS = (str(Path(__file__).parents[2]), sys.prefix, tempfile.gettempdir(), str(Path.home()), ".py")


def _errors(lines: Iterable[MutableMapping[str, Any]]) -> set[str]:
    """Return the log's lines of the level error or above, each once."""
    bad = [line for line in lines if line["log_level"] in ("error", "critical")]
    return {f"{line['event']} {line.get('function')} {line.get('exc_info')!r}" for line in bad}


class Caller:
    """Sends calls over a socket and returns the raw answers: a client's checks must not stand between."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last = 0

    async def answers(self, method: str, each: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make calls one after another, many on their way at once, and return an answer for each."""
        answers = []
        for begin in range(0, len(each), 16):
            some = each[begin : begin + 16]
            first = self._last + 1
            for params in some:
                self._last += 1
                call = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
                await self._socket.send(json.dumps(call))
            got: dict[int, dict[str, Any]] = {}
            while len(got) < len(some):
                message = json.loads(await self._socket.recv())
                if "id" in message and "method" not in message:
                    got[message["id"]] = message
            answers += [got[first + n] for n in range(len(some))]
        return answers


def tells_path(error: dict[str, Any], given: Any) -> bool:
    """Tell whether an error names a place on the server's machine that was not in what was given."""
    return any(path in json.dumps(error) for path in PATHS if path not in str(given))


def faults(method: str, param: str, given: Any, answer: dict[str, Any]) -> list[str]:
    """Return what is wrong with an answer to a mistyped param."""
    error = answer.get("error")
    if error is None:
        return []
    told = f"{method} {param}={given!r:.60}: {error}"
    if error["code"] == INTERNAL:
        return [told[:400]]
    if tells_path(error, given):
        return [f"tells a path: {told}"[:600]]
    if error["data"]["kind"] == "INVALID_PARAMS" and param not in json.dumps(error):
        return [f"does not name the param: {told}"[:400]]
    return []


async def _good_params(server: Running, method: Method) -> dict[str, Any]:
    """Return params that fit: those of the method's example, or of its row in the table of core calls."""
    client = await server.client("anna")
    if method.examples:
        return await real_params(server, client, method.name, method.examples[0])
    stage = Stage(server, client, await server.client("bob"), await server.operator())
    await stage.build()
    await ask_the_desk(stage)
    row = next((row for row in ROWS if row.call == method.name), None)
    good = row.params(stage) if row is not None else {}
    known = {**stage.ids, "set_id": stage.room, "token_id": stage.lamp, "type": stage.kind, "user_id": stage.bob}
    known |= {
        "group_id": stage.group,
        "creators_group_id": stage.group,
        "remote_id": stage.remote,
        "attribute": "watts",
    }
    known |= {"name": stage.kind if "type" in method.name else "a name", "data_set_id": stage.home, "value": 5}
    known |= {"access": "read", "enter_policy": "members", "is_retired": True, "script_id": stage.script}
    for param in DESCRIBED[method.name]["params"]:
        if param["required"]:
            good.setdefault(param["name"], known.get(param["name"]))
    return good


# Every fortieth of the awkward, another one first for each param; all of them in the slow run.
SOME = [40, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]


@pytest.mark.parametrize("every", SOME)
@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.name)
async def test_every_param_of_every_method(tmp_path: Path, method: Method, every: int) -> None:
    """The awkward in one param, the others as they should be: a result or an error that names it; the socket lives."""
    plugin = Path(__file__).parent / "asking_plugin.py"
    async with run_server(tmp_path / "data", plugins=(plugin,), calls_per_s_per_user=0) as server:
        base = await _good_params(server, method)
        params = [param["name"] for param in DESCRIBED[method.name]["params"]]
        with capture_logs() as lines:
            async with connect(server.url, proxy=None, max_size=None) as socket:
                caller = Caller(socket)
                await caller.answers("auth.authenticate", [{"credential": await server.credential("anna")}])
                found = []
                for turn, param in enumerate(params, len(method.name)):
                    # The one param of auth.logout says how to close.
                    tried = () if method.name == "auth.logout" else AWKWARD[turn % every :: every]
                    each = [{**base, param: given, "_meta": {"deadline_ms": 3000}} for given in tried]
                    for given, answer in zip(tried, await caller.answers(method.name, each), strict=True):
                        found += faults(method.name, param, given, answer)
                (pong,) = await caller.answers("server.ping", [{}])
    assert found == []
    assert pong["result"] == "pong"
    assert _errors(lines) == set()


ROOT = Path(__file__).parents[2]
GOOD_WORDS = {
    **{
        "name": "thing",
        "set": "home",
        "key": "colour",
        "value": "red",
        "seconds": "0.01",
        "function": "bookmarks.list",
    },
    **{
        "data": "{}",
        "question": "Well?",
        "default": "yes",
        "function": "bookmarks.list",
        "url": "https://git.invalid/a/b",
    },
}


def _actions() -> list[tuple[str, str]]:
    """Return every built-in action with each parameter that its source, or else that of its plugin, asks for."""
    found = set()
    for path in sorted((ROOT / "plugins" / "builtin").glob("*.py")):
        module = vars(import_module(f"plugins.builtin.{path.stem}"))
        owners = [module, *(vars(member) for member in module.values() if isinstance(member, type))]
        for member in [member for owner in owners for member in list(owner.values()) if hasattr(member, "play_filter")]:
            asked = _asked(inspect.getsource(member)) or _asked(path.read_text("utf-8"))
            found |= {(name, param) for name in member.play_filter.split(",") for param in asked}
    return sorted(found)


def _asked(source: str) -> set[str]:
    return set(re.findall(r'(?:get\w*|exists|_need|_says_yes|_place)\((?:\w+, )?"([a-z_]+)"', source))


ACTIONS = _actions()


@pytest.mark.parametrize("every", [40, pytest.param(3, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_every_parameter_of_every_action(tmp_path: Path, every: int) -> None:
    """The awkward in one parameter of a built-in action: it is played, or fails with words, never with a traceback."""
    assert {"play.wait", "git.clone", "session.cd", "core.set_create", "db.set"} <= {name for name, _ in ACTIONS}
    async with run_server(tmp_path / "data", max_sessions_per_user=1000) as server:
        client = await server.client("anna")
        found: list[str] = []

        async def play(number: int, name: str, param: str) -> None:
            session_id = await client.create_session(f"fuzz {number}", interactive=False)
            for text in TEXTS[number % every :: every]:
                words = {**GOOD_WORDS, param: text}
                written = Params(words).heroscript()
                try:
                    answer = await client.call("session.play", session_id=session_id, text=f"!!{name} {written}")
                except CallError as error:
                    answer = {"results": [{"error": {"code": error.code, "message": str(error)}}]}
                for result in answer["results"]:
                    error = result["error"]
                    if error is not None and (error["code"] == INTERNAL or tells_path(error, text)):
                        found.append(f"{name} {param}={text!r}: {error}")
            await client.destroy_session(session_id)

        with capture_logs() as lines:
            for begin in range(0, len(ACTIONS), 8):
                async with asyncio.TaskGroup() as group:
                    for number, (name, param) in enumerate(ACTIONS[begin : begin + 8], begin):
                        group.create_task(play(number, name, param))
        assert found == []
        assert _errors(lines) == set()


@pytest.mark.parametrize("every", [30, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_every_argument_of_every_command(tmp_path: Path, every: int) -> None:
    """The awkward in one argument or option of the command line: it says what is wrong, and ends with 0, 1 or 2."""
    texts = json.dumps([text for text in TEXTS if "\x00" not in text])  # which no argument can hold
    program = (sys.executable, "-m", "tests.rpcserver.mistyped_commands")
    done = subprocess.run([*program, texts, str(tmp_path), str(every)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_every_field_of_every_job_function(tmp_path: Path, every: int) -> None:
    """The awkward in one field of what a job is handed, and in the name of its function: an error with words."""
    async with run_server(tmp_path / "data") as server:
        client = await server.client("anna")
        functions = [item for item in (await client.call("jobs.functions"))["items"] if not item["internal"]]
        assert len(functions) > 5
        with capture_logs() as lines:
            async with connect(server.url, proxy=None, max_size=None) as socket:
                caller = Caller(socket)
                await caller.answers("auth.authenticate", [{"credential": await server.credential("anna")}])
                found = []
                for function in functions:
                    schema = function["input"]
                    good = {name: _fitting(part) for name, part in schema.get("properties", {}).items()}
                    for turn, field in enumerate(good, len(function["name"])):
                        tried = AWKWARD[turn % every :: every]
                        each = [
                            {"function": function["name"], "data": {**good, field: given}, "wait": True, "timeout_s": 1}
                            for given in tried
                        ]
                        for given, answer in zip(tried, await caller.answers("job.run", each), strict=True):
                            error = answer.get("error")
                            if error is not None and (error["code"] == INTERNAL or tells_path(error, given)):
                                found.append(f"{function['name']} {field}={given!r}: {error}"[:300])
    assert found == []
    assert _errors(lines) == set()


def _fitting(schema: dict[str, Any]) -> Any:
    kind = schema.get("type", "string")
    return {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}.get(kind, "x")
