"""Every way in which something can be run, against every scope: one check, asked when it runs. Source: decision 19.

The tables are made from the registries: what is added to them is tried without anybody thinking of it.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.builders import dump, write_guest
from tests.conftest import Running, run_server

PROBER = """
    import json
    from typing import Any

    class Wanted(BaseModel):
        function: str
        data: dict[str, Any] = {}

    @job("prober.inside", Wanted)
    async def inside(job, data):
        "Run another function inside this one."
        return await job.run(data.function, data.data)

    async def run(call, params):
        "Run a job function."
        return await call.run(params.function, params.data)

    async def relay(call, params):
        "Call a method."
        return await call.call(params.function, **params.data)

    @hookimpl
    def register_jobs():
        return [inside]

    @hookimpl
    def register_methods():
        return [method("prober.run", Wanted)(run), method("prober.relay", Wanted)(relay)]

    @hookimpl
    def session_pallet(pallet):
        return [Command("prober.press", "Run a job function", accepts="json")]

    @hookimpl
    async def session_action(action):
        if action.token_id != "prober.press":
            return None
        action.handled = True
        return await action.run(action.value["function"], action.value["data"])
"""
Way = Callable[[Client, str, dict[str, Any]], Awaitable[Any]]


async def played(client: Client, text: str) -> Any:
    """Play an action in a session of its own; raise its error."""
    session_id = await client.create_session()
    outcome = (await client.call("session.play", session_id=session_id, text=text))["results"][0]
    if outcome["error"] is not None:
        details = {name: value for name, value in outcome["error"].items() if name not in ("code", "message")}
        raise CallError({"code": outcome["error"]["code"], "message": outcome["error"]["message"], "data": details})
    return outcome["result"]


def quoted(data: dict[str, Any]) -> str:
    """Return an object as the value of an action's parameter."""
    return "'" + json.dumps(data).replace("'", "\\\\'") + "'"


# How a job function can be run: the scopes the way itself needs, and the way.
FUNCTION_WAYS: dict[str, tuple[list[str], Way]] = {
    "job.run": (["job.run"], lambda c, name, data: c.call("job.run", function=name, data=data)),
    "queued": (["job.run"], lambda c, name, data: c.call("job.run", function=name, data=data, wait=False)),
    "dedup": (["job.run"], lambda c, name, data: c.call("job.run", function=name, data=data, dedup_key="k")),
    "schedule": (["job.schedule"], lambda c, name, data: c.call("job.schedule", function=name, data=data, every_s=60)),
    "playbook": (
        ["session.play", "session.create", "job.run"],
        lambda c, name, data: played(c, f"!!play.run function:{name} data:{quoted(data)}"),
    ),
    "script": (
        ["session.play", "session.create", "job.run"],
        lambda c, name, data: played(
            c, f"!!session.call method:job.run data:{quoted({'function': name, 'data': data})}"
        ),
    ),
    "command": (
        ["session.action"],
        lambda c, name, data: c.call("session.action", token_id="prober.press", value={"function": name, "data": data}),
    ),
    "plugin's method": (["prober.run"], lambda c, name, data: c.call("prober.run", function=name, data=data)),
    "job inside a job": (
        ["job.run", "prober.inside"],
        lambda c, name, data: c.call("job.run", function="prober.inside", data={"function": name, "data": data}),
    ),
}
METHOD_WAYS: dict[str, tuple[list[str], Way]] = {
    "call": ([], lambda c, name, data: c.call(name, **data)),
    "playbook": (
        ["session.play", "session.create"],
        lambda c, name, data: played(c, f"!!session.call method:{name} data:{quoted(data)}"),
    ),
    "plugin's method": (["prober.relay"], lambda c, name, data: c.call("prober.relay", function=name, data=data)),
}
PRIVATE = {"credentials", "credential_terms", "credential_calls", "sessions", "contexts", "jobs", "events"}


@pytest.fixture
async def probed(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with a plugin that passes on whatever it is asked."""
    guest = write_guest(tmp_path, "prober", PROBER)
    async with run_server(tmp_path / "data", plugins=(guest,), max_sessions_per_user=10_000) as server:
        yield server


async def narrow(server: Running, *scopes: str, **terms: Any) -> Client:
    """Return a client with a credential of anna's that has these scopes alone."""
    anna = await server.client("anna")
    made = await anna.call("credential.create", label="narrow", scopes=list(scopes) or ["none"], **terms)
    return await server.connect(made["credential"], name="agent")


async def kind_of(awaited: Awaitable[Any]) -> str:
    """Return how a call ended: `ok`, or the kind of its error."""
    try:
        await awaited
        return "ok"
    except CallError as error:
        return str(error.kind)


def functions(server: Running) -> list[str]:
    """Return the job functions that somebody may name."""
    return [spec.name for spec in server.app.runner.functions if not spec.is_internal]


def internals(server: Running) -> list[str]:
    """Return those that nobody may."""
    return [spec.name for spec in server.app.runner.functions if spec.is_internal]


@pytest.mark.parametrize("way", FUNCTION_WAYS)
async def test_a_job_function_needs_its_name_by_every_way(probed: Running, way: str) -> None:
    """Without it among the scopes it is FORBIDDEN, whatever else is; with it, it is asked of its data and no more."""
    needs, run = FUNCTION_WAYS[way]
    client = await narrow(probed, *needs)
    names = [name for name in functions(probed) if name not in needs]
    assert {name: await kind_of(run(client, name, {})) for name in names} == dict.fromkeys(names, "FORBIDDEN")
    named = await narrow(probed, *needs, *names)
    kinds = {name: await kind_of(run(named, name, {"no": "such data"})) for name in names}
    assert "FORBIDDEN" not in kinds.values() and "FUNCTION_NOT_FOUND" not in kinds.values(), kinds


@pytest.mark.parametrize("way", FUNCTION_WAYS)
async def test_an_internal_job_function_has_no_name_by_any_way(probed: Running, way: str) -> None:
    """Not even for who may do everything: the server runs it, as a part of something else."""
    _, run = FUNCTION_WAYS[way]
    anna = await probed.client("anna")
    is_plugin = way in ("command", "plugin's method", "job inside a job")
    for name in internals(probed):
        spec = probed.app.runner.spec(name)
        assert spec is not None
        if is_plugin and spec.is_known_to("plugin"):
            continue  # a plugin's own, or a part that plugins may use
        assert await kind_of(run(anna, name, {})) == "FUNCTION_NOT_FOUND", name


async def test_parts_that_plugins_may_use_need_their_method_s_name(probed: Running) -> None:
    """session.ls is internal, and a plugin runs it for who may call it."""
    parts = [spec.name for spec in probed.app.runner.functions if spec.is_part]
    assert parts == ["session.ls"] and set(parts) <= set(probed.app.dispatcher.methods)
    client = await narrow(probed, "prober.run", "session.action")
    home = (await client.call("auth.whoami"))["home_set"]
    for needs, run in (FUNCTION_WAYS["plugin's method"], FUNCTION_WAYS["command"]):
        assert await kind_of(run(client, "session.ls", {"set_id": home})) == "FORBIDDEN"
        reader = await narrow(probed, *needs, "session.ls")
        assert await kind_of(run(reader, "session.ls", {"set_id": home})) == "ok"


@pytest.mark.parametrize("way", METHOD_WAYS)
async def test_a_method_needs_its_name_by_every_way(probed: Running, way: str) -> None:
    """Without it among the scopes it is FORBIDDEN; the few that are open to every credential are not."""
    needs, call = METHOD_WAYS[way]
    client = await narrow(probed, *needs)
    methods = [one for one in probed.app.dispatcher.methods.values() if one.needs_auth and not one.is_operator]
    names = [one.name for one in methods if not one.is_open and one.name not in needs]
    assert {name: await kind_of(call(client, name, {})) for name in names} == dict.fromkeys(names, "FORBIDDEN")
    assert await kind_of(call(client, "auth.whoami", {})) == "ok"


async def test_the_operator_s_are_not_there_by_any_way(probed: Running) -> None:
    """Neither method nor job function, neither alone nor in a batch, a play or a plugin."""
    anna = await probed.client("anna")
    names = [one.name for one in probed.app.dispatcher.methods.values() if one.is_operator]
    for _, call in METHOD_WAYS.values():
        assert {await kind_of(call(anna, name, {})) for name in names} == {"METHOD_NOT_FOUND"}


async def test_a_batch_is_asked_item_by_item(probed: Running) -> None:
    """What one item may, the next may not."""
    from tests.builders import Wire

    anna = await probed.client("anna")
    made = await anna.call("credential.create", label="narrow", scopes=["session.ls"])
    wire = await Wire.open(probed.url, made["credential"])
    batch = [{"jsonrpc": "2.0", "id": name, "method": name} for name in ("session.ls", "sessions.list", "server.ping")]
    answers = {answer["id"]: answer for answer in await wire.ask(batch)}
    assert answers["sessions.list"]["error"]["data"]["kind"] == "FORBIDDEN"
    assert "result" in answers["session.ls"] and "result" in answers["server.ping"]
    await wire.close()


async def test_what_was_deleted_by_way_of_job_run_is_there(probed: Running) -> None:
    """The example this began with: `job.run` alone does not delete a set."""
    anna = await probed.client("anna")
    set_id = await anna.call("core.set.create", name="kept")
    await anna.ls()  # makes the default session
    before = await dump(probed.app.store)
    client = await narrow(probed, "job.run", "prober.run", "session.action", "job.schedule")
    for needs, run in FUNCTION_WAYS.values():
        if set(needs) <= {"job.run", "prober.run", "session.action", "job.schedule"}:
            assert await kind_of(run(client, "core.set.delete", {"set_id": set_id})) == "FORBIDDEN"
    after = await dump(probed.app.store)
    assert {table for table in after if after[table] != before[table]} <= PRIVATE
    assert (await anna.call("core.set.show", set_id=set_id))["name"] == "kept"
