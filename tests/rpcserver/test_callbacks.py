"""Callbacks: the end of a job told to an https address, signed, tried again, visible in the record."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs import webhooks
from rpcserver import instance
from rpcserver.client import CallError, Client
from tests.conftest import Running, run_server
from tests.docs.terminal import CHECKOUT, blocks
from tests.rpcserver.working import kind_of
from tests.webserver import Web, certify, reply

GUEST = Path(__file__).with_name("jobs_guest.py")
SECRET = "a secret of the operator's"


@dataclass
class Scene:
    """A server that may tell two web servers on this machine, and how to start it again."""

    server: Running
    web: Web
    url: str
    other: Web
    other_url: str
    settings: dict[str, Any]


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """All of them, with the one allowed to call the others."""
    monkeypatch.setattr(webhooks, "FIRST_RETRY_S", 0.01)
    certify(tmp_path / "key", tmp_path / "cert")
    web, other = [await Web().start((tmp_path / "cert", tmp_path / "key")) for _ in range(2)]
    host, other_host = (f"https://localhost:{each.port}" for each in (web, other))
    settings: dict[str, Any] = {
        "plugins": (GUEST,),
        "remote_hosts": (host, other_host),
        "remote_networks": ("127.0.0.0/8", "::1/128"),
        "remote_secrets": {"hook": {"text": SECRET, "hosts": ["localhost"], "users": ["anna"]}},
        "remote_ca_file": tmp_path / "cert",
    }
    async with run_server(tmp_path / "data", **settings) as server:
        yield Scene(server, web, f"{host}/hook", other, f"{other_host}/hook", settings)
    for each in (web, other):
        each.delay.set()
        each.server.close()


def is_genuine(secret: str, signature: str, body: bytes) -> bool:
    """Do what the documentation tells who receives callbacks to do."""
    page = CHECKOUT / "docs" / "how-to" / "jobs.md"
    code = next(block.text for block in blocks(page) if block.title == "title=genuine.py")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (our own page)
    return bool(names["is_genuine"](secret, signature, body))


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
    for function, state in (("guest.steps", "succeeded"), ("guest.echo", "succeeded"), ("guest.looks", "succeeded")):
        scene.web.seen.clear()
        answer = await anna.call("job.run", function=function, callback=wanted)
        record = await told(anna, answer["job_id"], "delivered")
        assert (record["callback"]["tries"], record["callback"]["status"]) == (1, 200)
        head, _, body = scene.web.seen[0].partition("\r\n\r\n")
        sent = json.loads(body)
        assert (sent["job_id"], sent["state"], sent["result"]) == (answer["job_id"], state, record["result"])
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
        signature = lines["x-rpcserver-signature"]
        assert is_genuine(SECRET, signature, body.encode())
        assert not is_genuine("another secret", signature, body.encode())
        assert not is_genuine(SECRET, signature, body.encode() + b" ")
        assert not is_genuine(SECRET, "t=1," + signature.partition(",")[2], body.encode())
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
    monkeypatch.setattr(webhooks, "MAX_TRIES", 2)
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


async def test_an_address_that_does_not_answer_holds_up_nobody_else(scene: Scene) -> None:
    """However many ends are due to it, those due to another address are told at once."""
    anna = await scene.server.client("anna")
    scene.web.delay.clear()
    for _ in range(webhooks.AT_ONCE + 4):
        await anna.call("job.run", function="guest.echo", callback={"url": scene.url, "secret": "hook"})
    await scene.web.arrived.wait()
    call = {"function": "guest.echo", "callback": {"url": scene.other_url, "secret": "hook"}}
    async with asyncio.timeout(5):
        await told(anna, (await anna.call("job.run", **call))["job_id"], "delivered")
    assert len(scene.web.seen) <= webhooks.AT_ONCE_PER_ORIGIN
    scene.web.delay.set()
    async with asyncio.timeout(20):
        while len(scene.web.seen) < webhooks.AT_ONCE + 4:
            await anna.call("server.ping")


async def test_a_restart_forgets_nobody(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not told before the server stopped is told after it has started, with the tries counted on."""
    scene.web.answer = lambda request: reply(b"", "500 Broken")
    monkeypatch.setattr(webhooks, "FIRST_RETRY_S", 3600.0)
    async with run_server(tmp_path / "again", **scene.settings) as server:
        anna = await server.client("anna")
        call = {"function": "guest.echo", "callback": {"url": scene.url, "secret": "hook"}}
        job_id = (await anna.call("job.run", **call))["job_id"]
        while (await anna.call("job.get", job_id=job_id)).get("callback", {}).get("tries") != 1:
            pass
        await server.services.store.write(lambda tx: tx.run("UPDATE callbacks SET next_at = 1"))
        credentials = server.credentials
    scene.web.answer = lambda request: reply(b"", "204 Done")
    async with run_server(tmp_path / "again", **scene.settings) as server:
        server.credentials.update(credentials)
        record = await told(await server.client("anna"), job_id, "delivered")
        assert (record["callback"]["tries"], record["callback"]["status"]) == (2, 204)


@pytest.mark.parametrize("tail", ["/\x01", "/\x7f", "/é", "/ ", "9999/", "abc/", "@evil.example/"])
async def test_what_is_no_address_is_refused(scene: Scene, tail: str) -> None:
    """What could never be sent, or hides where it goes, is an error of the call, and harms nobody."""
    anna = await scene.server.client("anna")
    call = {"function": "guest.echo", "callback": {"url": scene.url.partition("/hook")[0] + tail, "secret": "hook"}}
    assert await kind_of(anna.call("job.run", **call)) == "INVALID_PARAMS"
    assert await anna.list_jobs(function="guest.echo") == []


async def test_a_delivery_that_breaks_stops_no_other(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw counts as a try that failed; the next end is told."""
    anna = await scene.server.client("anna")
    call = {"function": "guest.echo", "callback": {"url": scene.url, "secret": "hook"}}
    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "_headers", lambda *given: given.nothing)
        patch.setattr(webhooks, "FIRST_RETRY_S", 3600.0)
        broken = (await anna.call("job.run", **call))["job_id"]
        while not (await told(anna, broken, "pending"))["callback"]["tries"]:
            pass
    assert "failed to send" in (await told(anna, broken, "pending"))["callback"]["problem"]
    await told(anna, (await anna.call("job.run", **call))["job_id"], "delivered")


@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_was_told_when_the_server_died_twice_is_given_up(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    """The third server does not send it by itself, and the record says why; one that was stopped is no death."""
    if is_killed:
        monkeypatch.setattr(instance, "note_stop", lambda tx: None)  # so the next start takes the end for a kill
    scene.web.delay.clear()
    job_id = ""
    for _ in range(2):
        scene.web.arrived.clear()
        async with run_server(tmp_path / "again", **scene.settings) as server:
            if not job_id:
                call = {"function": "guest.echo", "callback": {"url": scene.url, "secret": "hook"}}
                job_id = (await (await server.client("anna")).call("job.run", **call))["job_id"]
                credentials = server.credentials
            await asyncio.wait_for(scene.web.arrived.wait(), 10)
    scene.web.delay.set()
    before = len(scene.web.seen)
    async with run_server(tmp_path / "again", **scene.settings) as server:
        server.credentials.update(credentials)
        record = await told(await server.client("anna"), job_id, "failed" if is_killed else "delivered")
    assert ("more than once" in str(record["callback"]["problem"])) == is_killed
    assert (len(scene.web.seen) == before) == is_killed


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_the_end_of_a_job_of_an_ended_credential_is_not_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Whoever is to be told was named by the credential: with it that is over, also between two tries."""
    anna = await scene.server.client("anna")
    made = await anna.call("credential.create", label="agent", scopes=["job.run", "guest.echo"])
    agent = await scene.server.connect(made["credential"])
    scene.web.answer = lambda request: reply(b"", "500 Broken")
    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "FIRST_RETRY_S", 3600.0)
        call = {"function": "guest.echo", "callback": {"url": scene.url, "secret": "hook"}}
        job_id = (await agent.call("job.run", **call))["job_id"]
        while not (await told(anna, job_id, "pending"))["callback"]["tries"]:
            pass
    if end == "revoked":
        await anna.call("credential.revoke", credential_id=made["credential_id"])
    else:
        expired = "UPDATE credentials SET expires_at = 1 WHERE id = ?"
        await scene.server.services.store.write(lambda tx: tx.run(expired, made["credential_id"]))
    await scene.server.services.store.write(lambda tx: tx.run("UPDATE callbacks SET next_at = 1"))
    scene.server.services.runner.callbacks._wake.set()
    record = await told(anna, job_id, "failed")
    assert end in record["callback"]["problem"] and len(scene.web.seen) == 1
