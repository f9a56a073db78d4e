"""deploy/nginx.conf and deploy/Caddyfile, as they are but for addresses, in front of a real server, with TLS."""

import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.conftest import Running, run_server
from tests.webserver import certify

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = "app.example.org"
READ_TIMEOUT_S = 3  # in place of 75

pytestmark = pytest.mark.slow


class Proxy:
    """A proxy for the name app.example.org that listens on this machine."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self.port = port
        self.trust = trust

    async def open(self, **options: Any) -> ClientConnection:
        """Connect through it, by its public name."""
        return await connect(
            f"wss://{NAME}/",
            host="127.0.0.1",
            port=self.port,
            ssl=self.trust,
            server_hostname=NAME,
            proxy=None,
            **options,
        )

    def get(self, path: str) -> tuple[int, str]:
        """Get a page through it."""
        request = urllib.request.Request(f"https://localhost:{self.port}{path}", headers={"Host": NAME})
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.trust) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def _nginx(folder: Path, port: int, upstream: str) -> list[str]:
    site = (DEPLOY / "nginx.conf").read_text("utf-8")
    for ours, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/ssl/{NAME}.pem", str(folder / "cert.pem")),
        (f"/etc/ssl/{NAME}.key", str(folder / "cert.key")),
        ("/var/log/nginx/rpcserver.log", str(folder / "access.log")),
        ("127.0.0.1:7717", upstream),
        ("proxy_read_timeout 75s", f"proxy_read_timeout {READ_TIMEOUT_S}s"),
    ):
        assert ours in site
        site = site.replace(ours, here)
    temporary = "".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"pid {folder / 'pid'}; error_log {folder / 'error.log'}; events {{}} http {{ {temporary}\n{site}\n}}"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]


def _caddy(folder: Path, port: int, upstream: str) -> list[str]:
    site = (DEPLOY / "Caddyfile").read_text("utf-8").replace("127.0.0.1:7717", upstream)
    tls = f"tls {folder / 'cert.pem'} {folder / 'cert.key'}"
    site, count = re.subn(
        rf"^{re.escape(NAME)} {{$", f"{NAME}:{port}, localhost:{port} {{\nbind 127.0.0.1\n{tls}", site, flags=re.M
    )
    assert count == 1
    (folder / "Caddyfile").write_text("{\nadmin off\nauto_https disable_redirects\n}\n" + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    with open(folder / "proxy.log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={"HOME": str(folder), "PATH": "/usr/sbin:/usr/bin"}
        )
    try:
        while True:
            assert process.poll() is None, (folder / "proxy.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except ConnectionRefusedError:
                continue
            break
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_a_proxy_in_front(tmp_path: Path, kind: str) -> None:
    """Through the proxy: calls, pushes and pages; foreign origins refused; no details; idle connections stay."""
    if shutil.which(kind, path="/usr/sbin:/usr/bin") is None:
        pytest.skip(f"{kind} is not installed here")
    make: Callable[[Path, int, str], list[str]] = {"nginx": _nginx, "caddy": _caddy}[kind]
    certify(tmp_path / "cert.key", tmp_path / "cert.pem", NAME, "localhost")
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"hosts": (NAME, "localhost"), "origins": (f"https://{NAME}",), "heartbeat_s": READ_TIMEOUT_S / 3}
    async with run_server(tmp_path / "data", **settings) as server:
        command = make(tmp_path, port, server.url.removeprefix("ws://").rstrip("/"))
        with _running(command, port, tmp_path):
            await _try(Proxy(port, trust), server)
    if kind == "nginx":
        logged = (tmp_path / "access.log").read_text()
        assert "/healthz" in logged
        assert "secret" not in logged


async def _try(proxy: Proxy, server: Running) -> None:
    credential = await server.credential("anna")
    bearer = {"Authorization": f"Bearer {credential}"}
    async with await proxy.open(additional_headers=bearer, origin=f"https://{NAME}") as client:
        assert json.loads(await client.recv())["method"] == "$/hello"
        await client.send(
            '{"jsonrpc":"2.0","id":1,"method":"events.subscribe","params":{"topics":["session.created"]}}'
        )
        assert json.loads(await client.recv())["id"] == 1
        with pytest.raises(TimeoutError):  # idle for longer than the proxy reads in vain: pings keep it
            await asyncio.wait_for(client.recv(), READ_TIMEOUT_S * 1.5)
        await client.send('{"jsonrpc":"2.0","method":"session.create","params":{"name":"through a proxy"}}')
        assert json.loads(await client.recv())["method"] == "session.created"
    with pytest.raises(InvalidStatus) as refused:
        await proxy.open(additional_headers=bearer, origin="https://evil.example.org")
    assert refused.value.response.status_code == 403
    assert await asyncio.to_thread(proxy.get, "/healthz?credential=secret") == (200, "ok\n")
    assert await asyncio.to_thread(proxy.get, "/readyz") == (200, "ready\n")
    status, _ = await asyncio.to_thread(proxy.get, "/metrics")
    assert status == 403
