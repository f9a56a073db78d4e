"""What becomes of a credential's work when it ends, revoked, expired, or its user frozen. Decision 19."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from rpcserver.client import CallError, Client
from rpcserver.plugin import Identity, hookimpl
from tests.builders import Wire, write_guest
from tests.conftest import Running, run_server

GUEST = """
    from collections import Counter

    RUNS = Counter()
    CHANGED = asyncio.Event()

    def count(what):
        RUNS[what] += 1
        CHANGED.set()

    class Text(BaseModel):
        text: str = ""

    @job("slow.wait", Text, lane="long", timeout_s=600)
    async def wait(job, data):
        "Wait for ever."
        count("wait")
        await asyncio.Event().wait()

    @job("slow.again", Text, lane="long", on_crash="retry", timeout_s=600)
    async def again(job, data):
        "Wait for ever, and again."
        count("again")
        await asyncio.Event().wait()

    @job("slow.deaf", Text, lane="long", calls=["core.token.create"], timeout_s=600)
    async def deaf(job, data):
        "Do not listen; then make a token."
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        await job.write(lambda core: core.named("core.token.create", type="note", name="made all the same"))

    @job("slow.fails", Text, lane="long", retries=50, backoff_s=0.001)
    async def fails(job, data):
        "Fail, every time."
        count("fails")
        raise RuntimeError("again")

    @job("slow.tick", Text)
    async def tick(job, data):
        "Count."
        count("tick")

    @job("slow.asks", Text, lane="long")
    async def asks(job, data):
        "Ask."
        return await job.ask("Well?")

    @hookimpl
    def register_jobs():
        return [wait, again, deaf, fails, tick, asks]
"""


class Slow:
    """A server with the jobs above, and how often each began."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.guest = server.services.bus._manager.get_plugin("slow")

    def count(self, what: str) -> int:
        """Return how often a job function began."""
        return int(self.guest.RUNS[what])

    async def until(self, what: str, times: int = 1) -> None:
        """Wait until a job function has begun so often."""
        async with asyncio.timeout(20):
            while self.count(what) < times:
                self.guest.CHANGED.clear()
                await self.guest.CHANGED.wait()


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Slow]:
    """A server that looks at clocks often."""
    guest = write_guest(tmp_path, "slow", GUEST)
    async with run_server(tmp_path / "data", plugins=(guest,), expiry_check_s=0.02, job_slots=4) as server:
        yield Slow(server)


async def agent_of(server: Running, **terms: Any) -> tuple[Client, str]:
    """Return a client with a credential of anna's own, and its id."""
    made = await (await server.client("anna")).call("credential.create", **{"label": "agent", **terms})
    return await server.connect(made["credential"]), made["credential_id"]


async def ended(client: Client, job_id: str) -> tuple[str, str | None]:
    """Return how a job ended: its state and the kind of its error."""
    record = await client.call("job.wait", job_id=job_id, timeout_s=20)
    return record["state"], (record["error"] or {}).get("kind")


async def begun(client: Client, function: str, **more: Any) -> str:
    """Begin a job and return its id."""
    return str((await client.call("job.run", function=function, wait=False, **more))["job_id"])


async def freeze(server: Running, is_frozen: bool = True) -> None:
    """Freeze anna, or let her go."""
    await (await server.operator()).call("core.user.freeze", name="anna", is_frozen=is_frozen)


async def test_what_runs_and_waits_ends_with_its_credential(slow: Slow) -> None:
    """Running, queued, delayed and waiting for an answer: cancelled, with the reason, and told; the owner's goes on."""
    anna = await slow.server.client("anna")
    heard = await anna.subscribe("job.cancelled", "credential.ended", "schedule.withdrawn")
    mine = await begun(anna, "slow.again")
    agent, credential_id = await agent_of(slow.server)
    running = await begun(agent, "slow.wait")
    await slow.until("wait")
    asking = await begun(agent, "slow.asks")
    delayed = await begun(agent, "slow.wait", delay_s=3600)
    queued = [await begun(agent, "slow.wait") for _ in range(3)]
    schedule = await agent.call("job.schedule", function="slow.tick", every_s=3600)
    await anna.call("credential.revoke", credential_id=credential_id)
    ids = {running, asking, delayed, *queued}
    assert {await ended(anna, job_id) for job_id in ids} == {("cancelled", "CREDENTIAL_REVOKED")}
    assert (await anna.call("asks.list"))["items"] == []
    told: list[Any] = []
    while len(told) < len(ids) + 2:
        told.append((await heard.next()).data)
    assert {item["job_id"] for item in told if "error" in item} == ids
    assert all(item["brought_by"] == [credential_id] for item in told if "error" in item)
    assert [item["reason"] for item in told if "label" in item] == ["revoked"]
    assert [item["schedule_id"] for item in told if "schedule_id" in item] == [schedule["schedule_id"]]
    listed = (await anna.call("schedules.list"))["items"]
    assert [(item["schedule_id"], item["next_at"]) for item in listed] == [(schedule["schedule_id"], None)]
    assert (await anna.call("job.get", job_id=mine))["state"] == "running"
    assert slow.count("wait") == 1


async def test_who_does_not_listen_can_do_nothing_more(slow: Slow) -> None:
    """A job that goes on although it is stopped writes nothing."""
    agent, credential_id = await agent_of(slow.server)
    anna = await slow.server.client("anna")
    started = await anna.subscribe("job.started")
    job_id = await begun(agent, "slow.deaf")
    await started.next()
    await anna.call("credential.revoke", credential_id=credential_id)
    assert (await ended(anna, job_id))[1] == "CREDENTIAL_REVOKED"
    rows = await slow.server.services.store.read(
        lambda tx: tx.all("SELECT 1 FROM tokens WHERE name = 'made all the same'")
    )
    assert rows == []


async def test_an_expired_one_s_work_ends_too(slow: Slow) -> None:
    """At the moment of its end, without anybody calling; a renewed one's goes on."""
    anna = await slow.server.client("anna")
    heard = await anna.subscribe("credential.ended")
    short, credential_id = await agent_of(slow.server, expires_in_s=1.0)
    renewed, _ = await agent_of(slow.server, expires_in_s=1.0, renewable=True)
    first, second = await begun(short, "slow.wait"), await begun(renewed, "slow.wait")
    later = await begun(short, "slow.tick", delay_s=3600)
    clock = slow.server.services.store.clock
    end = (await short.call("auth.whoami"))["expires_at"]
    while clock.now_ms() < end:
        await renewed.call("auth.refresh")
    assert await ended(anna, first) == await ended(anna, later) == ("cancelled", "CREDENTIAL_EXPIRED")
    told = (await heard.next()).data
    assert (told["credential_id"], told["reason"]) == (credential_id, "expired")
    assert (await anna.call("job.get", job_id=second))["state"] == "running"


async def test_automatic_retries_end_with_the_credential(slow: Slow) -> None:
    """A job that would be tried fifty times is not tried again; nor does job.retry bring it back."""
    agent, credential_id = await agent_of(slow.server)
    anna = await slow.server.client("anna")
    job_id = await begun(agent, "slow.fails")
    await slow.until("fails", 2)
    await anna.call("credential.revoke", credential_id=credential_id)
    assert await ended(anna, job_id) == ("cancelled", "CREDENTIAL_REVOKED")
    tried = slow.count("fails")
    with pytest.raises(CallError) as caught:
        await anna.call("job.retry", job_id=job_id)
    assert caught.value.kind == "CREDENTIAL_REVOKED" and slow.count("fails") == tried


async def test_a_retry_is_of_who_wants_it_and_who_brought_it(slow: Slow) -> None:
    """A narrow credential retries only what it may run; what it brought is retried within its scopes."""
    anna = await slow.server.client("anna")
    job_id = await begun(anna, "slow.wait")
    await slow.until("wait")
    await anna.call("job.cancel", job_id=job_id)
    await ended(anna, job_id)
    narrow, _ = await agent_of(slow.server, scopes=["job.*"])
    with pytest.raises(CallError) as caught:
        await narrow.call("job.retry", job_id=job_id)
    assert caught.value.kind == "JOB_NOT_FOUND"
    wider, credential_id = await agent_of(slow.server, scopes=["job.*", "slow.*"])
    again = (await wider.call("job.retry", job_id=job_id))["job_id"]
    brought_by = (await anna.call("job.get", job_id=again))["brought_by"]
    assert credential_id in brought_by and len(brought_by) == 2
    await anna.call("credential.revoke", credential_id=credential_id)
    assert await ended(anna, again) == ("cancelled", "CREDENTIAL_REVOKED")


async def test_a_schedule_fires_as_its_credential_may_then(slow: Slow) -> None:
    """It runs while the credential lives; revoked, it starts nothing more, also after a restart."""
    agent, credential_id = await agent_of(slow.server, scopes=["job.*", "slow.tick"])
    anna = await slow.server.client("anna")
    heard = await anna.subscribe("job.completed", "schedule.withdrawn")
    await agent.call("job.schedule", function="slow.tick", every_s=1)
    assert (await heard.next()).data["brought_by"] == [credential_id]
    # Behind the server's back, as for one that was down: only the firing itself can find out.
    await slow.server.services.store.write(lambda tx: tx.run("DELETE FROM credentials WHERE id = ?", credential_id))
    while "schedule_id" not in (told := (await heard.next()).data):
        pass
    assert "revoked" in told["reason"]
    assert (await anna.call("schedules.list"))["items"][0]["next_at"] is None


async def test_work_of_a_dead_credential_does_not_outlive_a_restart(tmp_path: Path) -> None:
    """A credential revoked while no server runs: at the next start its jobs are cancelled, not taken up."""
    guest = write_guest(tmp_path, "slow", GUEST)
    async with run_server(tmp_path / "data", plugins=(guest,)) as server:
        slow = Slow(server)
        agent, credential_id = await agent_of(server)
        running = await begun(agent, "slow.again")
        await slow.until("again")
        delayed = await begun(agent, "slow.tick", delay_s=0.001)
        kept = await begun(await server.client("anna"), "slow.again")
        text = await server.credential("anna")
    async with run_server(tmp_path / "data") as server:  # without the plugin: nothing of it can run
        await server.services.store.write(lambda tx: tx.run("DELETE FROM credentials WHERE id = ?", credential_id))
    async with run_server(tmp_path / "data", plugins=(guest,)) as server:
        anna = await server.connect(text)
        states = {job_id: (await anna.call("job.get", job_id=job_id))["state"] for job_id in (running, delayed, kept)}
        assert states[kept] != "succeeded" and "running" not in (states[running], states[delayed])


async def test_a_frozen_user_s_work_is_held_and_goes_on(slow: Slow) -> None:
    """What runs stops; what may be run again, and what waits, goes on when the user is let go."""
    anna = await slow.server.client("anna")
    once, again = await begun(anna, "slow.wait"), await begun(anna, "slow.again")
    await slow.until("again")
    waiting = await begun(anna, "slow.again")
    await freeze(slow.server)
    text = await slow.server.credential("anna")
    with pytest.raises(CallError, match="frozen"):
        await slow.server.connect(text)
    states = await slow.server.services.store.read(lambda tx: dict(tx.all("SELECT id, state FROM jobs")))
    async with asyncio.timeout(10):
        while "running" in states.values():
            states = await slow.server.services.store.write(lambda tx: dict(tx.all("SELECT id, state FROM jobs")))
    assert (states[once], states[again], states[waiting]) == ("cancelled", "queued", "queued")
    begun_then = slow.count("again")
    await freeze(slow.server, False)
    await slow.until("again", begun_then + 2)
    back = await slow.server.connect(text)
    assert {(await back.call("job.get", job_id=one))["state"] for one in (again, waiting)} == {"running"}


async def test_what_a_frozen_holder_brought_is_held(slow: Slow) -> None:
    """Who holds a credential of another's is asked as well: frozen, nothing is done with it, for its owner either."""
    anna = await slow.server.client("anna")
    await slow.server.credential("bob")
    made = await anna.call("credential.create", label="for bob", holder="bob")
    bob = await slow.server.connect(made["credential"])
    once, again = await begun(bob, "slow.wait"), await begun(bob, "slow.again")
    await slow.until("again")
    await slow.until("wait")
    operator = await slow.server.operator()
    await operator.call("core.user.freeze", name="bob", is_frozen=True)
    with pytest.raises(CallError, match="frozen"):
        await slow.server.connect(made["credential"])
    assert await ended(anna, once) == ("cancelled", "ACCOUNT_FROZEN")
    async with asyncio.timeout(10):
        while (await anna.call("job.get", job_id=again))["state"] != "queued":
            pass
    begun_then = slow.count("again")
    await operator.call("core.user.freeze", name="bob", is_frozen=False)
    await slow.until("again", begun_then + 1)


async def test_calls_in_line_do_not_begin_after_the_end(slow: Slow) -> None:
    """What stood in line for its session when its credential was revoked is refused."""
    anna = await slow.server.client("anna")
    made = await anna.call("credential.create", label="second")
    wire = await Wire.open(slow.server.url, made["credential"])
    session_id = (await wire.call("session.create", {"name": "lined"}))["result"]["session_id"]
    app = slow.server.app
    held = asyncio.Event()
    original = app.services.bus.refusal

    async def hold(*args: Any) -> Any:
        await held.wait()
        return await original(*args)

    class Guard:
        @hookimpl
        def set_leaving(self, passage: Any) -> None:
            """Say nothing."""

    app.services.bus.register(Guard(), "guard")
    app.services.bus.refusal = hold  # type: ignore[method-assign]
    elsewhere = await anna.call("core.set.create", name="elsewhere")
    for id, params in ((1, {"set_id": elsewhere}), (2, {"to": "home"})):
        params = {"session_id": session_id, **params}
        await wire.send({"jsonrpc": "2.0", "id": id, "method": "session.cd", "params": params})
    await wire.send({"jsonrpc": "2.0", "id": 3, "method": "server.ping"})
    assert (await wire.receive())["id"] == 3
    app.services.credentials.ended(made["credential_id"], "revoked")
    held.set()
    answers = {}
    while len(answers) < 2:
        message = await wire.receive()
        if "id" in message:
            answers[message["id"]] = message
    assert answers[2]["error"]["data"]["kind"] == "CREDENTIAL_REVOKED"
    await wire.close()


async def test_a_narrow_credential_takes_along_what_it_made(slow: Slow) -> None:
    """Those a narrow one made, and those they made, are revoked with it; those of a full one stay."""
    maker, credential_id = await agent_of(slow.server, scopes=["credential.create", "job.*", "slow.*"])
    child = await maker.call("credential.create", label="child", scopes=["credential.create", "job.*", "slow.*"])
    grown = await slow.server.connect(child["credential"])
    grandchild = await grown.call("credential.create", label="grandchild", scopes=["job.*", "slow.*"])
    last = await slow.server.connect(grandchild["credential"])
    job_id = await begun(last, "slow.wait")
    anna = await slow.server.client("anna")
    await anna.call("credential.revoke", credential_id=credential_id)
    assert await ended(anna, job_id) == ("cancelled", "CREDENTIAL_REVOKED")
    for text in (child["credential"], grandchild["credential"]):
        with pytest.raises(CallError):
            await slow.server.connect(text)
    labels = [item["label"] for item in (await anna.call("credentials.list"))["items"]]
    assert labels == ["first credential"]


class Elsewhere:
    """Another identity system."""

    def __init__(self, expires_at: int) -> None:
        self.expires_at = expires_at

    @hookimpl
    def authenticate(self, credential: str) -> Identity | None:
        """Vouch for anna."""
        return Identity("anna", ("job.*", "slow.*", "events.*"), self.expires_at) if credential == "foreign" else None


async def test_a_bearer_of_another_system_is_bounded_by_its_own_end(slow: Slow) -> None:
    """It has no row to be revoked by: what it brought ends when it does, and reaches no further than it did."""
    anna = await slow.server.client("anna")
    clock = slow.server.services.store.clock
    slow.server.services.bus.register(Elsewhere(clock.now_ms() + 1500), "elsewhere")
    bearer = await slow.server.connect("foreign")
    job_id, delayed = await begun(bearer, "slow.wait"), await begun(bearer, "slow.tick", delay_s=2)
    with pytest.raises(CallError) as caught:
        await bearer.call("job.run", function="core.type.list")
    assert caught.value.kind == "FORBIDDEN"
    assert await ended(anna, job_id) == ("cancelled", "CREDENTIAL_EXPIRED")
    assert await ended(anna, delayed) == ("cancelled", "CREDENTIAL_EXPIRED")
    assert slow.count("tick") == 0


async def test_ended_credentials_and_tickets_are_forgotten(tmp_path: Path) -> None:
    """Some time after their end, a bounded number at a time."""
    options = {"expiry_check_s": 0.01, "keep_expired_credentials_s": 0.1, "upkeep_s": 0.05, "ticket_life_s": 0.01}
    async with run_server(tmp_path / "data", **options) as server:
        anna = await server.client("anna")
        for _ in range(3):
            await anna.call("auth.ticket")
            await anna.call("credential.create", label="short", expires_in_s=0.01)
        async with asyncio.timeout(20):
            while await server.services.store.write(
                lambda tx: tx.one("SELECT (SELECT count(*) FROM tickets) + (SELECT count(*) FROM credentials)")
            ) != (1,):
                await anna.call("server.ping")


@pytest.mark.parametrize("end", ["revoked", "frozen"])
async def test_nothing_is_done_after_the_answer_to_its_end(slow: Slow, end: str) -> None:
    """Whoever has the answer can rely on it: of all that many calls at once do, nothing is stored after it."""
    server = slow.server
    anna, operator = await server.client("anna"), await server.operator()
    for _ in range(3):
        made = await anna.call("credential.create", label="fast")
        wire = await Wire.open(server.url, made["credential"])
        for n in range(30):
            call = {"id": n, "method": "core.token.create", "params": {"type": "note", "name": f"n{n}"}}
            await wire.send(json.dumps({"jsonrpc": "2.0", **call}))
        if end == "revoked":
            await anna.call("credential.revoke", credential_id=made["credential_id"])
        else:
            await operator.call("core.user.freeze", name="anna")

        def count() -> Any:
            return server.services.store.read(lambda tx: tx.one("SELECT count(*) FROM tokens WHERE type = 'note'"))

        first = await count()
        for _ in range(3):
            await operator.call("server.ping")
            await server.services.store.write(lambda tx: None)
        assert await count() == first
        with pytest.raises(ConnectionClosed):
            while True:
                await wire.receive()
        if end == "frozen":
            await operator.call("core.user.freeze", name="anna", is_frozen=False)
            anna = await server.connect(server.credentials["anna"])
