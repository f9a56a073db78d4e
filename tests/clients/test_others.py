"""Other people's clients: each authenticates, walks, acts, hears an event, meets an error, cancels a call."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.chromium import open_page
from tests.conftest import Running, run_server
from tests.toolchain import SOURCE, run_node, script

BATCH = ["pong", -32601]
# What the walk of tests/javascript/clients.mjs tells.
COMMON = {
    "name": "anna",
    "heard": True,
    "walked": ["anna's home", "anna's home"],
    "acted": "bookmarks",
    "error": [-32004, "SESSION_NOT_FOUND"],
    "cancelled": -32800,
}
BATCHES = {"json-rpc-2.0", "jayson"}  # the others cannot send one
SLOW_JOBS = Path(__file__).parents[1] / "rpcserver" / "jobs_guest.py"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with a job that takes for ever."""
    async with run_server(tmp_path / "data", plugins=(SLOW_JOBS,)) as running:
        yield running


@pytest.mark.parametrize("name", ["rpc-websockets", "json-rpc-2.0", "@open-rpc/client-js", "vscode-jsonrpc", "jayson"])
async def test_a_package_of_npm(server: Running, name: str) -> None:
    """It authenticates, creates, looks, walks, acts, hears an event, meets an error, cancels, as it is published."""
    credential = await server.credential("anna")
    done = await asyncio.to_thread(run_node, script("clients.mjs"), name, server.url, credential)
    assert done.returncode == 0, done.stderr
    batch = {"batch": BATCH} if name in BATCHES else {}
    assert json.loads(done.stdout) == {**COMMON, "session": name.replace("/", " "), **batch}


@pytest.mark.parametrize("name", ["aiohttp", "websocket-client", "jsonrpc-websocket", "pygls"])
async def test_a_package_of_python(server: Running, name: str) -> None:
    """The same walk with Python's packages."""
    from tests.clients.pythons import PYTHONS, Refused  # half a second, for each of the processes that collect tests

    async with asyncio.timeout(60), PYTHONS[name](server.url) as client:
        hello = await client.heard("$/hello")
        who = await client.call("auth.authenticate", {"credential": await server.credential("anna")})
        await client.call("events.subscribe", {"topics": ["session.*"]})
        session_id = (await client.call("session.create", [name]))["session_id"]
        event = await client.heard("session.created")
        listing = await client.call("session.ls", {"session_id": session_id})
        moved = await client.call("session.cd", {"session_id": session_id, "to": "home"})
        acted = await client.call("session.action", {"session_id": session_id, "token_id": "bookmarks.add"})
        record = await client.call("session.get", {"session_id": session_id})
        with pytest.raises(Refused) as refused:
            await client.call("session.get", {"session_id": "s_none"})
        cancelled = await client.cancelled("job.run", {"function": "guest.forever"})
    assert (hello["protocol"], record["name"]) == ("rpcserver.v1", name)
    assert {
        "name": who["name"],
        "heard": event["data"]["session_id"] == session_id,
        "walked": [place["current_set"]["set_name"] for place in (listing, moved)],
        "acted": acted["handled_by"],
        "error": [refused.value.code, refused.value.data["kind"]],
        "cancelled": cancelled,
    } == COMMON


async def test_websockets_by_hand(server: Running) -> None:
    """The Python library websockets, with nothing of ours around it."""
    async with connect(server.url, proxy=None) as socket:
        hello = json.loads(await socket.recv())
        assert (hello["method"], hello["params"]["auth_required"]) == ("$/hello", True)

        async def call(id: int, method: str, params: Any) -> Any:
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            return json.loads(await socket.recv())

        assert (await call(1, "auth.whoami", {}))["error"]["code"] == -32002
        known = await call(2, "auth.authenticate", {"credential": await server.credential("anna")})
        assert (known["id"], known["result"]["name"]) == (2, "anna")
        await call(3, "events.subscribe", {"topics": ["session.created"]})
        batch = [
            {"jsonrpc": "2.0", "id": 4, "method": "session.create", "params": ["by hand"]},
            {"jsonrpc": "2.0", "id": 5, "method": "server.ping"},
            {"jsonrpc": "2.0", "id": 6, "method": "no.such.method"},
        ]
        await socket.send(json.dumps(batch))
        told = [json.loads(await socket.recv()) for _ in range(2)]
        answers = {answer["id"]: answer for answer in next(one for one in told if isinstance(one, list))}
        event = next(one for one in told if isinstance(one, dict))
        session_id = answers[4]["result"]["session_id"]
        assert (event["method"], event["params"]["data"]) == ("session.created", {"session_id": session_id})
        assert [answers[5]["result"], answers[6]["error"]["code"]] == BATCH
        assert (await call(7, "session.get", {"session_id": "s_none"}))["error"]["code"] == -32004


class Site:
    """A web site on this machine: the page of tests/javascript, where to connect, and what the page tells."""

    def __init__(self) -> None:
        self.where: dict[str, str] = {}
        self.outcomes: Queue[Any] = Queue()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_page = self.path == "/"
                body = (SOURCE / "browser.html").read_bytes() if is_page else json.dumps(site.where).encode()
                self._answer(body, "text/html" if is_page else "application/json")

            def do_POST(self) -> None:
                site.outcomes.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(b"", "text/plain")

            def _answer(self, body: bytes, type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._http.server_address[1]}"

    @contextmanager
    def open(self) -> Iterator["Site"]:
        """Serve inside the block."""
        thread = Thread(target=self._http.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def outcome(self, profile: Path) -> Any:
        """Open the page in a browser, and return what it tells."""
        with open_page(f"{self.origin}/", profile) as browser:
            try:
                return self.outcomes.get(timeout=60)
            except Empty:
                log = profile.with_suffix(".log").read_text(errors="replace")
                raise AssertionError(f"the page told nothing ({browser.poll()}): {log[-2000:]}") from None


async def test_a_browser(tmp_path: Path) -> None:
    """A page in Chromium with a plain WebSocket works, and may fetch /openrpc.json, when its origin is allowed."""
    with Site().open() as site:
        async with run_server(tmp_path / "data", origins=(site.origin,)) as server:
            site.where = {"url": server.url, "credential": await server.credential("anna")}
            outcome = await asyncio.to_thread(site.outcome, tmp_path / "profile")
    own = {"selected": "rpcserver.v1", "session": "from a page", "batch": BATCH, "first": "$/hello"}
    own["documents"] = [True, "1.4.1"]
    common = {"protocol": "rpcserver.v1", "name": "anna", "heard": True, "error": COMMON["error"]}
    assert outcome == {**common, **own}


async def test_a_browser_with_a_page_of_elsewhere(tmp_path: Path) -> None:
    """The same page is turned away when its origin is not allowed, whatever credential it holds."""
    with Site().open() as site:
        async with run_server(tmp_path / "data") as server:
            site.where = {"url": server.url, "credential": await server.credential("anna")}
            outcome = await asyncio.to_thread(site.outcome, tmp_path / "profile")
    assert outcome == {"failed": "the connection"}
