"""How an attribute with a remote is read and written, and what others see while a write is under way."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import Client
from tests.builders import dump
from tests.conftest import Running, run_server
from tests.rpcserver.test_places import a_place, refused
from tests.webserver import Web, reply

SECRET = "s3cr3t-of-the-operator"


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A web server on this machine that counts its answers."""
    made = await Web().start()
    made.answer = lambda request: reply(json.dumps(len(made.seen)).encode())
    yield made
    made.delay.set()
    made.server.close()


@pytest.fixture
async def beyond(web: Web, tmp_path: Path) -> AsyncIterator[Running]:
    """A server whose remotes may go to that web server, with a secret."""
    options: dict[str, Any] = {
        "remote_hosts": (f"http://127.0.0.1:{web.port}/api",),
        "remote_networks": ("127.0.0.0/8",),
        "remote_secrets": {"key": {"text": SECRET, "hosts": ["127.0.0.1"]}},
    }
    async with run_server(tmp_path / "data", **options) as running:
        yield running


class Lamp:
    """A public token of anna's in her hall, with an attribute `light` behind which a remote stands."""

    def __init__(self, web: Web, anna: Client, bob: Client, hall: str, token: str, remote: str) -> None:
        self.web, self.anna, self.bob, self.hall, self.token, self.remote = web, anna, bob, hall, token, remote

    @classmethod
    async def make(cls, server: Running, web: Web, attributes: dict[str, Any] | None = None, **options: Any) -> "Lamp":
        """Make it."""
        anna, bob = await server.client("anna"), await server.client("bob")
        definition = {"url": f"http://127.0.0.1:{web.port}/api", **options}
        remote = await anna.call("core.remote.create", name="light", definition=definition)
        hall, _ = await a_place(anna, "hall")
        held = {"light": {"remote": remote}, **(attributes or {})}
        token = await anna.call("core.token.create", type="thing", name="lamp", attributes=held)
        await anna.call("core.set.tokens.add", set_id=hall, token_ids=[token])
        return cls(web, anna, bob, hall, token, remote)

    @property
    def which(self) -> dict[str, str]:
        """The attribute, for core.attribute.read and write."""
        return {"token_id": self.token, "attribute": "light", "set_id": self.hall}

    async def read(self, client: Client) -> tuple[Any, str]:
        """Return value and state."""
        answer = await client.call("core.attribute.read", **self.which)
        return answer["value"], answer["state"]

    async def write(self, client: Client, value: Any) -> tuple[Any, str]:
        """Return value and state."""
        answer = await client.call("core.attribute.write", **self.which, value=value)
        return answer["value"], answer["state"]


def values(web: Web) -> list[Any]:
    """Return the values the server was sent."""
    return [json.loads(request.split("\r\n\r\n")[1])["value"] for request in web.seen]


async def test_reading_and_writing_ask_the_remote(beyond: Running, web: Web) -> None:
    """Whoever does it."""
    lamp = await Lamp.make(beyond, web)
    assert [await lamp.write(lamp.anna, "on"), await lamp.read(lamp.bob)] == [(1, "ok"), (2, "ok")]
    assert values(web) == ["on", None]


async def test_while_a_write_is_under_way_nobody_reads(beyond: Running, web: Web) -> None:
    """The owner sees that it is pending, others that it cannot be read; afterwards everybody reads again."""
    lamp = await Lamp.make(beyond, web, cache_s=100, concurrent=5)
    assert [await lamp.read(lamp.bob), await lamp.read(lamp.bob)] == [(1, "ok"), (1, "cached")]
    web.arrived.clear()
    web.delay.clear()
    writing = asyncio.create_task(lamp.write(lamp.anna, "on"))
    await web.arrived.wait()
    tab = await beyond.client("anna")
    assert await lamp.read(tab) == (None, "pending")
    error = await refused(lamp.bob, "core.attribute.read", **lamp.which)
    assert (error.kind, error.data["retryable"]) == ("ATTRIBUTE_PENDING", True)
    web.delay.set()
    assert await writing == (2, "ok")
    assert [await lamp.read(lamp.bob), await lamp.read(lamp.bob)] == [(3, "ok"), (3, "cached")]


async def test_a_write_that_fails_frees_the_attribute(beyond: Running, web: Web) -> None:
    """It can be read again, anew, whatever became of the write; each try stands in the log."""
    lamp = await Lamp.make(beyond, web, method="PUT", retries=1, cache_s=100)
    assert await lamp.read(lamp.bob) == (1, "ok")
    counting = web.answer
    web.answer = lambda request: reply(b"", "503 No")
    error = await refused(lamp.anna, "core.attribute.write", **lamp.which, value="on")
    assert error.kind == "REMOTE_UNAVAILABLE"
    web.answer = counting
    assert await lamp.read(lamp.bob) == (4, "ok")
    log = (await lamp.anna.call("core.remote.activity.list", remote_id=lamp.remote))["items"]
    assert [(one["state"], one["code"]) for one in log][1:] == [("failed", 503), ("failed", 503), ("succeeded", 200)]
    failed = await lamp.anna.call("core.remote.activity.list", remote_id=lamp.remote, state="failed")
    assert len(failed["items"]) == 2
    wrong = await refused(lamp.anna, "core.remote.activity.list", remote_id=lamp.remote, state="broken")
    assert wrong.kind == "INVALID_PARAMS"


async def test_a_listing_shows_the_last_answers_and_asks_nobody(beyond: Running, web: Web) -> None:
    """Each reader their own; where nothing is known nothing stands."""
    lamp = await Lamp.make(beyond, web, attributes={"plain": {"a": {"b": 1}}})

    async def shown(client: Client) -> Any:
        tokens = (await client.ls(set_id=lamp.hall)).contents.tokens
        alone = await client.call("core.token.read", token_id=lamp.token, set_id=lamp.hall)
        listed = next(token for token in tokens if token.id == lamp.token).answers
        assert listed == (alone["answers"] or {})
        return listed

    assert [await shown(lamp.anna), await shown(lamp.bob)] == [{}, {}]
    await lamp.read(lamp.bob)
    assert [await shown(lamp.anna), await shown(lamp.bob)] == [{}, {"light": 1}]
    await lamp.write(lamp.anna, "on")
    assert await shown(lamp.bob) == {}
    assert len(web.seen) == 2


async def test_what_a_caller_may_not_read_is_not_sent_along(beyond: Running, web: Web) -> None:
    """`call_identity` holds the attributes this caller may read; the owner's own are his."""
    named = {"call_identity": ["token", "caller", "attributes", "attribute"]}
    anna = await beyond.client("anna")
    group = await anna.call("core.group.create", name="staff")
    kind = await anna.call("core.type.create", name="safe")
    for name, readers in (("label", []), ("code", [group])):
        await anna.call("core.attribute.create", type=kind, name=name, value_type="string", read_groups=readers)
    await anna.call("core.attribute.create", type=kind, name="light", value_type="any")
    lamp = await Lamp.make(beyond, web, **named)
    values = {"label": "blue", "code": "1234", "light": {"remote": lamp.remote}}
    safe = await anna.call("core.token.create", type=kind, name="safe", attributes=values)
    await anna.call("core.set.tokens.add", set_id=lamp.hall, token_ids=[safe])
    seen = []
    for client in (lamp.bob, anna):
        await client.call("core.attribute.read", token_id=safe, attribute="light", set_id=lamp.hall)
        seen.append(json.loads(web.seen[-1].split("\r\n\r\n")[1])["call_identity"])
    assert [one["attributes"] for one in seen] == [{"label": "blue"}, {"label": "blue", "code": "1234"}]
    assert (seen[0]["token"], seen[0]["attribute"], seen[0]["caller"]["name"]) == (safe, "light", "bob")


async def test_a_written_segment_stays_below_what_is_allowed(beyond: Running, web: Web) -> None:
    """Whatever is written, nothing outside of the operator's prefix is called."""
    url = f"http://127.0.0.1:{web.port}/api/{{city}}/now"
    lamp = await Lamp.make(beyond, web, url=url, path={"city": "value"}, send="none", method="PUT")
    assert await lamp.write(lamp.anna, "São Paulo") == (1, "ok")
    assert web.seen[0].startswith("PUT /api/S%C3%A3o%20Paulo/now ")
    for city in ("../../admin", "%2e%2e%2fadmin", "..", ""):
        assert (await refused(lamp.anna, "core.attribute.write", **lamp.which, value=city)).kind == "REMOTE_UNAVAILABLE"
    assert len(web.seen) == 1


async def test_a_remote_is_tried_out_with_a_token(beyond: Running, web: Web) -> None:
    """One call, told as any other, without a second try; only with a token of one's own."""
    lamp = await Lamp.make(beyond, web, attributes={"size": 7}, to_remote={"size": "token.size"}, method="PUT")
    tried = await lamp.anna.call("core.remote.test", remote_id=lamp.remote, token_id=lamp.token)
    assert (tried["value"], tried["code"]) == (1, 200) and '{"size": 7}' in web.seen[0]
    assert (await refused(lamp.bob, "core.remote.test", remote_id=lamp.remote)).kind == "REMOTE_NOT_FOUND"
    private = await lamp.bob.call("core.token.create", type="note", name="diary", attributes={"size": "secret"})
    for method, which in (("core.remote.test", {"remote_id": lamp.remote}), ("core.script.run", {})):
        if not which:
            which = {"script_id": await lamp.anna.call("core.script.create", name="spy", text="token")}
        assert (await refused(lamp.anna, method, **which, token_id=private)).kind == "TOKEN_NOT_FOUND"
    web.answer = lambda request: reply(b"", "503 No")
    failing = await refused(lamp.anna, "core.remote.test", remote_id=lamp.remote, token_id=lamp.token)
    assert failing.kind == "REMOTE_UNAVAILABLE"
    log = (await lamp.anna.call("core.remote.activity.list", remote_id=lamp.remote))["items"]
    assert [one["state"] for one in log] == ["failed", "succeeded"]


async def test_secrets_stand_nowhere(beyond: Running, web: Web, capfd: pytest.CaptureFixture[str]) -> None:
    """Basic and bearer, echoed by the other side in its answer and headers: no row, no log, no answer has them."""
    web.answer = lambda request: reply(json.dumps(request).encode(), "200 OK", f"X-Echo: {SECRET}")
    found = []
    for number, auth in enumerate(({"auth": "bearer"}, {"auth": "basic", "auth_user": "caller.name"})):
        definition = {"url": f"http://127.0.0.1:{web.port}/api", "auth_secret": "key", **auth}
        definition["from_remote"] = {"all": "data", "echo": "header:x-echo"}
        anna = await beyond.client("anna")
        remote = await anna.call("core.remote.create", name=f"r{number}", definition=definition)
        found.append(await anna.call("core.remote.test", remote_id=remote, value=1))
        found.append(await anna.call("core.remote.get", remote_id=remote))
    assert f"Bearer {SECRET}" in web.seen[0] and "Basic YW5uYTpzM2" in web.seen[1]
    told = capfd.readouterr()
    world = json.dumps(await dump(beyond.app.services.store, set()), default=str)
    for spelled in (SECRET, "YW5uYTpzM2"):
        assert spelled not in json.dumps(found) + world + told.out + told.err


async def test_closed_doors_are_told_over_the_wire(beyond: Running, web: Web) -> None:
    """What is retired is attached no more, and nothing changes; where it stands it answers."""
    lamp = await Lamp.make(beyond, web)
    await lamp.anna.call("core.remote.edit", remote_id=lamp.remote, is_retired=True)
    before = await dump(beyond.app.services.store)
    attach = {"token_id": lamp.token, "attribute": "other", "value": {"remote": lamp.remote}}
    assert (await refused(lamp.anna, "core.token.edit_attribute", **attach)).kind == "SOURCE_CLOSED"
    assert await dump(beyond.app.services.store) == before
    assert await lamp.read(lamp.bob) == (1, "ok")


async def test_what_a_remote_may_have_heard_is_not_said_twice(beyond: Running, web: Web) -> None:
    """Under a key: a write that was sent and failed is kept, and not retryable; one that was not sent runs again."""
    lamp = await Lamp.make(beyond, web, method="PUT", retries=0)
    write = {**lamp.which, "value": "on"}
    counting = web.answer
    web.answer = lambda request: reply(b"", "503 No")
    first = await refused(lamp.anna, "core.attribute.write", idempotency_key="sent", **write)
    assert (first.kind, first.data["retryable"]) == ("REMOTE_UNAVAILABLE", False)
    web.answer = counting
    again = await refused(lamp.anna, "core.attribute.write", idempotency_key="sent", **write)
    assert again.as_dict() == first.as_dict() and len(web.seen) == 1
    await lamp.anna.call("core.remote.edit", remote_id=lamp.remote, is_on=False)
    off = await refused(lamp.anna, "core.attribute.write", idempotency_key="off", **write)
    assert (off.kind, off.data["retryable"]) == ("REMOTE_UNAVAILABLE", True)
    await lamp.anna.call("core.remote.edit", remote_id=lamp.remote, is_on=True)
    assert (await lamp.anna.call("core.attribute.write", idempotency_key="off", **write))["value"] == 2
