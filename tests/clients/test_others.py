"""Other people's clients: each authenticates, calls, sends a batch where it can, meets an error, hears an event."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from websockets.asyncio.client import connect

from tests.chromium import open_page
from tests.conftest import Running, run_server
from tests.toolchain import SOURCE, run_node, script

COMMON = {"protocol": "rpcserver.v1", "name": "anna", "heard": True, "error": [-32004, "SESSION_NOT_FOUND"]}
BATCH = ["pong", -32601]


async def _outcome(server: Running, name: str) -> Any:
    credential = await server.credential("anna")
    done = await asyncio.to_thread(run_node, script(name), server.url, credential)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_rpc_websockets(server: Running) -> None:
    """The npm package rpc-websockets works as it is; it cannot send a batch."""
    assert await _outcome(server, "rpc_websockets.mjs") == {**COMMON, "session": "by position"}


async def test_json_rpc_2(server: Running) -> None:
    """The npm package json-rpc-2.0 over ws works as it is, batches included."""
    assert await _outcome(server, "json_rpc_2.mjs") == {**COMMON, "session": "in a batch", "batch": BATCH}


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
    """A page in Chromium with a plain WebSocket works, when its origin is allowed."""
    with Site().open() as site:
        async with run_server(tmp_path / "data", origins=(site.origin,)) as server:
            site.where = {"url": server.url, "credential": await server.credential("anna")}
            outcome = await asyncio.to_thread(site.outcome, tmp_path / "profile")
    own = {"selected": "rpcserver.v1", "session": "from a page", "batch": BATCH, "first": "$/hello"}
    assert outcome == {**COMMON, **own}


async def test_a_browser_with_a_page_of_elsewhere(tmp_path: Path) -> None:
    """The same page is turned away when its origin is not allowed, whatever credential it holds."""
    with Site().open() as site:
        async with run_server(tmp_path / "data") as server:
            site.where = {"url": server.url, "credential": await server.credential("anna")}
            outcome = await asyncio.to_thread(site.outcome, tmp_path / "profile")
    assert outcome == {"failed": "the connection"}
