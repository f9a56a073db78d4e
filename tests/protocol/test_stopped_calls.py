"""What a stopped call tells of what it began, and what is replayed under its idempotency key."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.builders import write_guest
from tests.conftest import Running, run_server

GUEST = """
RAN = []
GATE = asyncio.Event()

class Text(BaseModel):
    text: str = ""

@job("stop.long", Text, lane="long")
async def long(job: JobContext, data: Text) -> str:
    RAN.append(data.text)
    await GATE.wait()
    return "done"

@job("stop.late", Text, lane="long", timeout_s=0.05)
async def late(job: JobContext, data: Text) -> None:
    RAN.append(data.text)
    await asyncio.Event().wait()

@job("stop.local", Text)
async def local(job: JobContext, data: Text) -> None:
    RAN.append(data.text)
    await asyncio.Event().wait()

@job("stop.local_late", Text, timeout_s=0.05)
async def local_late(job: JobContext, data: Text) -> None:
    RAN.append(data.text)
    await asyncio.Event().wait()

@hookimpl
def register_jobs():
    return [long, late, local, local_late]

@hookimpl
def session_pallet(pallet: Pallet):
    return [Command("stop.act", "act", accepts="string"), Command("stop.both", "both")]

@hookimpl
async def session_action(action: Action):
    if action.token_id not in ("stop.act", "stop.both"):
        return None
    action.handled = True
    if action.token_id == "stop.both":
        await action.run("stop.long", {"text": "first"})
        return await action.run("stop.none", {})
    return await action.run("stop.long", {"text": str(action.value)})

@method("stop.method", Text)
async def by_method(call, params: Text) -> str:
    return str(await call.run("stop.long", {"text": params.text}))

@hookimpl
def register_methods():
    return [by_method]

@hookimpl
async def set_entering(passage):
    if passage.session.name == "guarded":
        await passage.run("stop.long", {"text": "guard"})
    return None
"""
# What begins a job of the long lane: method -> its params, given a session.
BEGINNING: dict[str, Any] = {
    "job.run": lambda s: {"function": "stop.long"},
    "session.action": lambda s: {"session_id": s, "token_id": "stop.act"},
    "stop.method": lambda s: {},
    "session.play": lambda s: {"session_id": s, "text": "!!play.wait seconds:600"},
    "session.cd": lambda s: {"session_id": s, "to": "home"},
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with the guest."""
    plugins = (write_guest(tmp_path, "stop", GUEST),)
    async with run_server(tmp_path / "data", plugins=plugins, max_waiting_jobs_per_user=2) as running:
        yield running


def guest_of(server: Running) -> Any:
    """Return the guest's module."""
    return server.services.bus._manager.get_plugin("stop")


async def begun(client: Client) -> str:
    """Return the job of the client's user that runs, once one does."""
    async with asyncio.timeout(20):
        while not (found := (await client.call("jobs.list", state="running"))["items"]):
            pass
    return str(found[0]["job_id"])


async def at_home(client: Client, method: str) -> str:
    """Return a session of the client's that may go home; a guarded one, where the guard begins the job."""
    if method != "session.cd":
        return await client.create_session("work")
    session_id = await client.create_session("work")
    hall = await client.call("core.set.create", name="hall")
    await client.cd(session_id, set_id=hall)
    await client.call("session.update", session_id=session_id, name="guarded")
    return session_id


def cancel(client: Client, future: Any) -> None:
    """Tell the server that the answer is not wanted, and go on waiting for it."""
    client._write({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": future.rpc_id}})


async def failure(awaited: Any) -> CallError:
    """Return the error a call ends with."""
    with pytest.raises(CallError) as caught:
        await awaited
    return caught.value


@pytest.mark.parametrize("method", BEGINNING)
async def test_a_cancelled_call_takes_its_job_with_it(server: Running, anna: Client, method: str) -> None:
    """The answer names the job and is not retryable; the job is cancelled."""
    session_id = await at_home(anna, method)
    future = anna.send(method, BEGINNING[method](session_id))
    job_id = await begun(anna)
    cancel(anna, future)
    error = await failure(future)
    assert (error.code, error.kind, error.data["retryable"], error.data["job_id"]) == (
        -32800,
        "CANCELLED",
        False,
        job_id,
    )
    assert (await anna.call("job.wait", job_id=job_id))["state"] == "cancelled"


@pytest.mark.parametrize("method", [name for name in BEGINNING if name not in ("job.run", "session.play")])
async def test_a_call_out_of_time_names_the_job_that_goes_on(server: Running, anna: Client, method: str) -> None:
    """Who called can wait for it, and does not begin it a second time."""
    session_id = await at_home(anna, method)
    params = {**BEGINNING[method](session_id), "_meta": {"deadline_ms": 1500}}
    error = await failure(anna.send(method, params))
    assert (error.kind, error.data["retryable"]) in (("TIMED_OUT", False), ("PLUGIN_ERROR", False))
    guest_of(server).GATE.set()
    assert (await anna.call("job.wait", job_id=error.data["job_id"]))["state"] == "succeeded"
    assert len(guest_of(server).RAN) == 1


@pytest.mark.parametrize("method", ["job.run", "session.play"])
async def test_who_waits_for_a_job_is_told_how_to_go_on(anna: Client, server: Running, method: str) -> None:
    """In time, as a result; with the least of deadlines as an error that names it."""
    session_id = await anna.create_session("work")
    answer = await anna.send(method, {**BEGINNING[method](session_id), "_meta": {"deadline_ms": 1500}})
    assert answer["state"] in ("queued", "running")
    assert answer["next"] == {"method": "job.wait", "params": {"job_id": answer["job_id"]}}


async def test_a_call_cancelled_before_its_job_is_on_disk(server: Running, anna: Client) -> None:
    """Whenever it is cancelled, no job runs of which nobody was told."""
    told = []
    for _ in range(20):
        future = anna.send("job.run", {"function": "stop.long", "wait": False})
        cancel(anna, future)
        try:
            told.append((await future)["job_id"])
        except CallError as error:
            assert error.kind == "CANCELLED"
            if "job_id" in error.data:
                assert error.data["retryable"] is False
                assert (await anna.call("job.wait", job_id=error.data["job_id"]))["state"] == "cancelled"
        for job_id in told:
            await anna.call("job.cancel", job_id=job_id)
            await anna.call("job.wait", job_id=job_id)
    left = [job for job in (await anna.call("jobs.list"))["items"] if job["state"] in ("queued", "running")]
    assert left == []


async def test_a_local_job_is_stopped_with_its_call(server: Running, anna: Client) -> None:
    """Its id is told all the same: its record says what became of it."""
    future = anna.send("job.run", {"function": "stop.local"})
    job_id = await begun(anna)
    cancel(anna, future)
    error = await failure(future)
    assert (error.kind, error.data["retryable"], error.data["job_id"]) == ("CANCELLED", False, job_id)
    assert (await anna.call("job.get", job_id=job_id))["state"] == "cancelled"


async def test_an_earlier_job_of_the_same_dedup_key_goes_on(server: Running, anna: Client) -> None:
    """Who was given it by its key does not take it from who began it."""
    params = {"function": "stop.long", "dedup_key": "k"}
    job_id = (await anna.send("job.run", {**params, "wait": False}))["job_id"]
    second = anna.send("job.run", params)
    await begun(anna)
    assert await anna.call("server.ping") == "pong"
    cancel(anna, second)
    error = await failure(second)
    assert (error.data["job_id"], error.data["retryable"]) == (job_id, False)
    guest_of(server).GATE.set()
    assert (await anna.call("job.wait", job_id=job_id))["state"] == "succeeded"


async def test_what_only_reads_may_be_asked_again(server: Running, anna: Client) -> None:
    """A cancelled wait says so, and so does a call that never began."""
    job_id = (await anna.call("job.run", function="stop.long", wait=False))["job_id"]
    waiting = anna.send("job.wait", {"job_id": job_id})
    assert await anna.call("server.ping") == "pong"
    cancel(anna, waiting)
    assert (await failure(waiting)).data == {"kind": "CANCELLED", "retryable": True}
    session_id = await anna.create_session("work")
    first = anna.send("session.action", {"session_id": session_id, "token_id": "stop.act"})
    in_line = anna.send("session.action", {"session_id": session_id, "token_id": "stop.act"})
    cancel(anna, in_line)
    assert (await failure(in_line)).data == {"kind": "CANCELLED", "retryable": True}
    cancel(anna, first)
    await failure(first)


async def keyed(client: Client, method: str, key: str = "k", **params: Any) -> CallError:
    """Call under a key and return the error."""
    return await failure(client.call(method, idempotency_key=key, **params))


async def fill(client: Client) -> list[str]:
    """Have as many jobs wait as may, behind those that run; return the ids of all."""
    ids = []
    while True:
        try:
            ids.append((await client.call("job.run", function="stop.long", wait=False))["job_id"])
        except CallError as error:
            assert error.kind == "JOB_LIMIT"
            return ids


@pytest.mark.parametrize("method", ["job.run", "session.action", "stop.method"])
async def test_a_limit_is_no_answer_to_keep(server: Running, anna: Client, method: str) -> None:
    """Refused for now, the same key runs when there is room."""
    session_id = await anna.create_session("work")
    ids = await fill(anna)
    params = BEGINNING[method](session_id)
    error = await keyed(anna, method, **params)
    assert (error.kind, error.data["retryable"]) == ("JOB_LIMIT", True)
    guest_of(server).GATE.set()
    for job_id in ids:
        await anna.call("job.wait", job_id=job_id)
    await anna.call(method, idempotency_key="k", **params)


async def test_a_refusal_is_no_answer_to_keep(server: Running, anna: Client) -> None:
    """Of a rule, for what is not there, for a name that is taken, of a script: what changed nothing runs again."""
    session_id = await anna.create_session("work")
    vault = await anna.call("core.set.create", name="vault")
    token_id = (await anna.call("core.set.show", set_id=vault))["token_id"]
    script = await anna.call("core.script.create", name="no", text="False")
    denied = await anna.call(
        "core.rule.create",
        event="set_entering",
        token_id=token_id,
        decision={"allow": {"script": script}},
        message="no.",
    )
    go = {"session_id": session_id, "set_id": vault}
    assert (await keyed(anna, "session.cd", **go)).kind == "ENTER_REFUSED"
    await anna.call("core.rule.delete", rule_id=denied)
    assert (await anna.call("session.cd", idempotency_key="k", **go))["current_set"]["id"] == vault
    assert (await keyed(anna, "session.create", "n", name="work")).kind == "SESSION_NAME_TAKEN"
    await anna.call("session.update", session_id=session_id, name="other")
    assert (await anna.call("session.create", idempotency_key="n", name="work"))["session_id"]
    endless = await anna.call("core.script.create", name="endless", text="while True: pass")
    assert (await keyed(anna, "core.script.run", "s", script_id=endless)).kind == "SCRIPT_LIMIT"
    await anna.call("core.script.edit", script_id=endless, text="1")
    assert (await anna.call("core.script.run", idempotency_key="s", script_id=endless))["value"] == 1


async def test_a_session_that_was_refused_its_place_is_no_answer(server: Running, anna: Client) -> None:
    """The row that is made first and taken away again is no effect."""
    vault = await anna.call("core.set.create", name="vault")
    token_id = (await anna.call("core.set.show", set_id=vault))["token_id"]
    never = {"allow": {"script": await anna.call("core.script.create", name="no", text="False")}}
    rule = await anna.call("core.rule.create", event="set_entering", token_id=token_id, decision=never, message="no.")
    assert (await keyed(anna, "session.create", name="inside", set_id=vault)).kind == "ENTER_REFUSED"
    await anna.call("core.rule.delete", rule_id=rule)
    assert (await anna.call("session.create", idempotency_key="k", name="inside", set_id=vault))["session_id"]


@pytest.mark.parametrize("function", ["stop.late", "stop.local_late"])
async def test_what_may_have_had_an_effect_is_kept_and_not_called_retryable(
    server: Running, anna: Client, function: str
) -> None:
    """A job that was stopped in the middle: the same key tells the same, and nothing runs again."""
    first = await keyed(anna, "job.run", function=function)
    assert (first.kind, first.data["retryable"]) == ("JOB_TIMEOUT", False)
    assert (await keyed(anna, "job.run", function=function)).as_dict() == first.as_dict()
    assert len(guest_of(server).RAN) == 1
    without = await failure(anna.call("job.run", function=function))
    assert (without.kind, without.data["retryable"]) == ("JOB_TIMEOUT", True)


async def test_what_was_done_before_a_refusal_is_kept(server: Running, anna: Client) -> None:
    """An action whose second job is refused has begun the first: its key does not begin that again."""
    session_id, guest = await anna.create_session("work"), guest_of(server)
    guest.GATE.set()
    act = {"session_id": session_id, "token_id": "stop.both"}
    first = await keyed(anna, "session.action", **act)
    assert (first.kind, first.data["retryable"]) == ("FUNCTION_NOT_FOUND", False)
    assert (await keyed(anna, "session.action", **act)).as_dict() == first.as_dict()
    assert guest.RAN == ["first"]


async def test_a_stopped_call_is_replayed_as_it_was_answered(server: Running, anna: Client) -> None:
    """Cancelled, or out of time: the same error, with the job's id, from then on."""
    session_id = await anna.create_session("work")
    params = {"session_id": session_id, "token_id": "stop.act", "value": "x"}
    first = await failure(
        anna.send("session.action", {**params, "_meta": {"idempotency_key": "t", "deadline_ms": 1500}})
    )
    assert first.data["retryable"] is False and first.data["job_id"]
    again = await failure(anna.send("session.action", {**params, "_meta": {"idempotency_key": "t"}}))
    assert again.as_dict() == first.as_dict()
    guest_of(server).GATE.set()
    await anna.call("job.wait", job_id=first.data["job_id"])
    guest_of(server).GATE.clear()
    future = anna.send("session.action", {**params, "_meta": {"idempotency_key": "c"}})
    await begun(anna)
    cancel(anna, future)
    cancelled = await failure(future)
    assert (cancelled.kind, cancelled.data["retryable"]) == ("CANCELLED", False)
    again = await failure(anna.send("session.action", {**params, "_meta": {"idempotency_key": "c"}}))
    assert again.as_dict() == cancelled.as_dict()
