"""Callbacks: the end of a job told to an https address, signed, tried again, visible in the record."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs import callbacks
from rpcserver.client import CallError, Client
from tests.conftest import Running, run_server
from tests.webserver import Web, certify, reply

GUEST = Path(__file__).with_name("jobs_guest.py")
SECRET = "a secret of the operator's"


@dataclass
class Scene:
    """A server that may tell a web server on this machine."""

    server: Running
    web: Web
    url: str


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Both, with the one allowed to call the other."""
    monkeypatch.setattr(callbacks, "FIRST_RETRY_S", 0.01)
    certify(tmp_path / "key", tmp_path / "cert")
    web = await Web().start((tmp_path / "cert", tmp_path / "key"))
    host = f"https://localhost:{web.port}"
    settings: dict[str, Any] = {
        "plugins": (GUEST,),
        "remote_hosts": (host,),
        "remote_networks": ("127.0.0.0/8", "::1/128"),
        "remote_secrets": {"hook": {"text": SECRET, "hosts": ["localhost"], "users": ["anna"]}},
        "remote_ca_file": tmp_path / "cert",
    }
    async with run_server(tmp_path / "data", **settings) as server:
        yield Scene(server, web, f"{host}/hook")
    web.delay.set()
    web.server.close()


async def told(client: Client, job_id: str, state: str) -> dict[str, Any]:
    """Return the record once telling its end has come to a state."""
    async with asyncio.timeout(20):
        while True:
            record: dict[str, Any] = await client.call("job.get", job_id=job_id)
            if record.get("callback") and record["callback"]["state"] == state:
                return record


async def test_the_end_is_told_signed(scene: Scene) -> None:
    """The address gets what `job.get` answers, with a signature that only holders of the secret can make."""
    anna = await scene.server.client("anna")
    wanted = {"url": scene.url, "secret": "hook"}
    for function, state in (("guest.steps", "succeeded"), ("guest.echo", "succeeded")):
        scene.web.seen.clear()
        answer = await anna.call("job.run", function=function, callback=wanted)
        record = await told(anna, answer["job_id"], "delivered")
        assert (record["callback"]["tries"], record["callback"]["status"]) == (1, 200)
        head, _, body = scene.web.seen[0].partition("\r\n\r\n")
        sent = json.loads(body)
        assert (sent["job_id"], sent["state"], sent["result"]) == (answer["job_id"], state, record["result"])
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
        at, _, signature = lines["x-rpcserver-signature"].removeprefix("t=").partition(",v1=")
        expected = hmac.new(SECRET.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
        assert hmac.compare_digest(signature, expected)
        assert lines["x-rpcserver-delivery"] == f"{answer['job_id']}.1"


async def test_it_is_tried_again_and_then_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that fails is tried again with back-off, and in the end the record says that it was not told."""
    anna = await scene.server.client("anna")
    wanted = {"url": scene.url, "secret": "hook"}
    answers = iter(["503 Busy", "500 Broken", "204 Done"])
    scene.web.answer = lambda request: reply(b"", next(answers))
    answer = await anna.call("job.run", function="guest.echo", callback=wanted)
    record = await told(anna, answer["job_id"], "delivered")
    assert (record["callback"]["tries"], record["callback"]["status"]) == (3, 204)
    monkeypatch.setattr(callbacks, "MAX_TRIES", 2)
    scene.web.answer = lambda request: reply(b"", "500 Broken")
    answer = await anna.call("job.run", function="guest.echo", callback=wanted)
    record = await told(anna, answer["job_id"], "failed")
    assert (record["callback"]["tries"], record["callback"]["next_at"]) == (2, None)


async def test_a_cancelled_job_is_told_too(scene: Scene) -> None:
    """Every way to end is told."""
    anna = await scene.server.client("anna")
    wanted = {"url": scene.url, "secret": "hook"}
    job = await anna.call("job.run", function="guest.forever", wait=False, callback=wanted)
    await anna.call("job.cancel", job_id=job["job_id"])
    await told(anna, job["job_id"], "delivered")
    assert json.loads(scene.web.seen[0].partition("\r\n\r\n")[2])["state"] == "cancelled"


async def test_what_may_not_be_told_is_refused_at_once(scene: Scene) -> None:
    """Another host, plain http, an unknown secret, or a secret of others is an error when the job is to start."""
    anna, bob = await scene.server.client("anna"), await scene.server.client("bob")
    refused = [
        (anna, "https://elsewhere.example/hook", "hook", "REMOTE_UNAVAILABLE"),
        (anna, scene.url.replace("https", "http"), "hook", "INVALID_PARAMS"),
        (anna, scene.url, "unknown", "REMOTE_UNAVAILABLE"),
        (bob, scene.url, "hook", "REMOTE_UNAVAILABLE"),
    ]
    for client, url, secret, kind in refused:
        with pytest.raises(CallError) as caught:
            await client.call("job.run", function="guest.echo", callback={"url": url, "secret": secret})
        assert caught.value.kind == kind
    assert scene.web.seen == []
    assert await anna.list_jobs() == [] and await bob.list_jobs() == []
