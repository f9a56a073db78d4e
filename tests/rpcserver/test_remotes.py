"""Remotes end to end: a place that asks a server beyond, within what the operator allowed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError
from tests.builders import dump
from tests.conftest import Running, run_server
from tests.jobs.test_remoting import Web, reply
from tests.rpcserver.test_places import a_command, a_place, a_rule, refused

SECRET = "s3cr3t-of-the-operator"
PAYLOAD = "what-the-visitor-wrote"


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A web server on this machine."""
    made = await Web().start()
    yield made
    made.server.close()


@pytest.fixture
async def beyond(web: Web, tmp_path: Path) -> AsyncIterator[Running]:
    """A server whose remotes may go to that web server, with a secret."""
    options: dict[str, Any] = {
        "remote_hosts": (f"http://127.0.0.1:{web.port}",),
        "remote_networks": ("127.0.0.0/8",),
        "remote_secrets": {"key": {"text": SECRET, "hosts": ["127.0.0.1"], "users": ["anna"]}},
    }
    async with run_server(tmp_path / "data", **options) as running:
        yield running


async def test_a_command_asks_a_remote(beyond: Running, web: Web) -> None:
    """Value and caller go out, what counts comes back; the log tells that it happened, and the rows not what."""
    anna, bob = await beyond.client("anna"), await beyond.client("bob")
    hall, _ = await a_place(anna, "hall")
    definition = {
        "url": f"http://127.0.0.1:{web.port}/translate",
        "to_remote": {"text": "value", "by": "caller.name", "to": "token.language"},
        "headers": {"Authorization": "secret:key"},
        "take": "items.0.name",
    }
    remote = await anna.call("core.remote.create", name="translate", definition=definition)
    command = await a_command(anna, hall, "Translate", write={"remote": remote}, language="fr")
    session = await bob.create_session("visit", set_id=hall)
    done = await bob.action(command, session, value=PAYLOAD)
    assert done.response["written"] == "first"
    head, body = web.seen[0].split("\r\n\r\n")
    assert json.loads(body) == {"text": PAYLOAD, "by": "bob", "to": "fr"} and SECRET in head
    log = (await anna.call("core.remote.activity.list", remote_id=remote))["items"]
    assert [(item["state"], item["code"], item["question"]) for item in log] == [("succeeded", 200, None)]
    world = json.dumps(await dump(beyond.app.services.store, set()), default=str)
    assert SECRET not in world
    activity = await beyond.app.services.store.read(lambda tx: tx.all("SELECT * FROM remote_activity"))
    assert PAYLOAD not in json.dumps(activity)
    assert (await refused(bob, "core.remote.activity.list", remote_id=remote)).kind == "REMOTE_NOT_FOUND"
    await anna.call("core.remote.edit", remote_id=remote, is_on=False)
    off = await refused(bob, "session.action", session_id=session, token_id=command, value="x")
    assert off.kind == "REMOTE_UNAVAILABLE" and len(web.seen) == 1


async def test_a_remote_decides_who_enters(beyond: Running, web: Web) -> None:
    """It is asked before the move is written; a refusal or failure leaves everything but the log as it was."""
    anna, bob = await beyond.client("anna"), await beyond.client("bob")
    vault, token = await a_place(anna)
    definition = {"url": f"http://127.0.0.1:{web.port}/may", "to_remote": {"who": "caller.name"}}
    remote = await anna.call("core.remote.create", name="may", definition=definition)
    await a_rule(anna, token, {"allow": {"remote": remote}}, message="no.")
    await bob.ls()
    record = {"jobs", "events", "server_values", "remote_activity"}
    before = await dump(beyond.app.services.store, record)
    web.answer = lambda request: reply(b'{"allow": false, "message": "the register does not know you."}')
    error = await refused(bob, set_id=vault)
    assert error.kind == "ENTER_REFUSED" and "does not know you" in error.message
    web.answer = lambda request: reply(b"", "500 No")
    assert (await refused(bob, set_id=vault)).kind == "REMOTE_UNAVAILABLE"
    assert await dump(beyond.app.services.store, record) == before
    web.answer = lambda request: reply(b'{"allow": true}')
    assert (await bob.cd(set_id=vault)).current_set.id == vault


async def test_a_person_decides_who_enters(beyond: Running) -> None:
    """The visitor is told to come again; once the person has said yes, he is let in, and nobody else."""
    anna, bob, carl = [await beyond.client(name) for name in ("anna", "bob", "carl")]
    vault, token = await a_place(anna)
    remote = await anna.call("core.remote.create", name="ask", kind="manual", definition={"question": "May he?"})
    await a_rule(anna, token, {"allow": {"remote": remote}}, message="no.")
    assert "come again" in (await refused(bob, set_id=vault)).message
    waiting = (await anna.call("core.remote.activity.list"))["items"]
    assert [item["question"]["caller"] for item in waiting] == ["bob"]
    await anna.call("ask.answer", ask_id=waiting[0]["ask_id"], answer=True)
    await bob.call("job.wait", job_id=waiting[0]["job_id"])
    assert (await bob.cd(set_id=vault)).current_set.id == vault
    with pytest.raises(CallError):
        await carl.cd(set_id=vault)
