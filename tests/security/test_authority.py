"""Every way in which something can be run, against every scope: one check, asked when it runs. Source: decision 19.

The tables are made from the registries: what is added to them is tried without anybody thinking of it.
"""

import ast
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.builders import Wire, dump, write_guest
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
    return [spec.name for spec in server.services.runner.functions if not spec.is_internal]


def internals(server: Running) -> list[str]:
    """Return those that nobody may."""
    return [spec.name for spec in server.services.runner.functions if spec.is_internal]


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
        spec = probed.services.runner.spec(name)
        assert spec is not None
        if is_plugin and spec.is_known_to("plugin"):
            continue  # a plugin's own, or a part that plugins may use
        assert await kind_of(run(anna, name, {})) == "FUNCTION_NOT_FOUND", name


async def test_parts_that_plugins_may_use_need_their_method_s_name(probed: Running) -> None:
    """session.ls is internal, and a plugin runs it for who may call it."""
    parts = [spec.name for spec in probed.services.runner.functions if spec.is_part]
    assert parts == ["session.ls"] and set(parts) <= set(probed.services.dispatcher.methods)
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
    methods = [one for one in probed.services.dispatcher.methods.values() if one.needs_auth and not one.is_operator]
    names = [one.name for one in methods if not one.is_open and one.name not in needs]
    assert {name: await kind_of(call(client, name, {})) for name in names} == dict.fromkeys(names, "FORBIDDEN")
    assert await kind_of(call(client, "auth.whoami", {})) == "ok"


async def test_the_operator_s_are_not_there_by_any_way(probed: Running) -> None:
    """Neither method nor job function, neither alone nor in a batch, a play or a plugin."""
    anna = await probed.client("anna")
    names = [one.name for one in probed.services.dispatcher.methods.values() if one.is_operator]
    for _, call in METHOD_WAYS.values():
        assert {await kind_of(call(anna, name, {})) for name in names} == {"METHOD_NOT_FOUND"}


async def test_a_batch_is_asked_item_by_item(probed: Running) -> None:
    """What one item may, the next may not."""
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
    before = await dump(probed.services.store)
    client = await narrow(probed, "job.run", "prober.run", "session.action", "job.schedule")
    for needs, run in FUNCTION_WAYS.values():
        if set(needs) <= {"job.run", "prober.run", "session.action", "job.schedule"}:
            assert await kind_of(run(client, "core.set.delete", {"set_id": set_id})) == "FORBIDDEN"
    after = await dump(probed.services.store)
    assert {table for table in after if after[table] != before[table]} <= PRIVATE
    assert (await anna.call("core.set.show", set_id=set_id))["name"] == "kept"


# Playbooks: an action is of who brought it and of who plays it.

PARAMS = (
    "name:made key:k val:v value:v content:hi path:/ set:x target:x token:x method:core.set.create"
    " function:core.set.create command:prober.press nr:1 filter:'play.*' seconds:0 question:'Well?' default:no"
    " timeout_s:0.01 url:https://example.org/a/b coderoot:c message:m data:'{}'"
)


async def test_who_may_only_add_has_nothing_done_by_who_plays(probed: Running) -> None:
    """Every action that plugins play, brought by a credential for playbook_add alone and played by the owner."""
    anna = await probed.client("anna")
    agent = await narrow(probed, "session.playbook_add", "session.ls")
    await anna.ls()
    before = await dump(probed.services.store)
    kinds: dict[str, str | None] = {}
    for name in probed.services.bus.playable():
        if name in ("play.include", "core.include"):
            continue  # followed when it is added, by who adds it
        name = name.replace("*", "any")
        session_id = await anna.create_session()
        await agent.call("session.playbook_add", session_id=session_id, text=f"!!{name} {PARAMS}")
        played_ = await anna.call("session.play", session_id=session_id)
        kinds[name] = (played_["results"][0]["error"] or {"kind": None})["kind"]
        assert (await anna.get_session(session_id)).working_set == (await anna.call("auth.whoami"))["home_set"]
    after = await dump(probed.services.store)
    made = {"presence", "visits", "members", "sets", "tokens", "usage"}  # of the sessions themselves
    own = {
        "playbooks",
        "playbook_actions",
        "playbook_priorities",
        "session_env",
        "asks",
        "session_history",
        "job_lines",
        "usage",  # of what is kept there
    }
    assert {table for table in after if after[table] != before[table]} <= PRIVATE | made | own
    names = {row[5] if isinstance(row[5], str) else "" for row in after["tokens"]}
    assert "made" not in names and "made" not in str(after["tokens"])
    harmless = {name for name, kind in kinds.items() if kind is None}
    assert harmless == {
        "play.echo", "play.wait", "play.ask",
        "session.ls", "session.env_set", "session.env_set_once", "session.env_delete",
    }  # fmt: skip
    assert {kind for name, kind in kinds.items() if name.startswith(("git.", "gittools."))} == {"FORBIDDEN"}


async def test_what_the_bringer_may_and_the_player_may_is_done(probed: Running) -> None:
    """The intersection: neither alone is enough, whichever of them is narrow."""
    anna = await probed.client("anna")
    action = '!!session.call method:core.set.create data:\'{"name": "together"}\''
    wide, add = ["session.*", "core.set.create"], ["session.playbook_add"]
    for bringer, player, expected in (
        (wide, wide, None),
        (add, wide, "FORBIDDEN"),
        (wide, ["session.play"], "FORBIDDEN"),
        ([*add, "core.set.create"], ["session.play"], "FORBIDDEN"),
        ([*add, "core.set.create"], ["session.play", "core.set.create"], None),
        (["*"], ["*"], None),
    ):
        session_id = await anna.create_session()
        await (await narrow(probed, *bringer)).call("session.playbook_add", session_id=session_id, text=action)
        done = await (await narrow(probed, *player)).call("session.play", session_id=session_id)
        assert (done["results"][0]["error"] or {"kind": None})["kind"] == expected, (bringer, player)


async def test_an_action_of_a_plugin_needs_its_name(tmp_path: Path) -> None:
    """What a plugin does itself, without calling anything, is as little for the narrow as what it calls."""
    code = """
        from rpcserver.plugin import Play, plays
        DONE = []

        @plays("vault.open")
        def open_(play: Play):
            DONE.append(1)
            return "open"
    """
    async with run_server(tmp_path / "data", plugins=(write_guest(tmp_path, "vault", code),)) as server:
        for scopes, expected in ((["session.*"], "FORBIDDEN"), (["session.*", "vault.*"], "ok")):
            assert await kind_of(played(await narrow(server, *scopes), "!!vault.open")) == expected
        guest = server.services.bus._manager.get_plugin("vault")
        assert guest.DONE == [1]  # type: ignore[attr-defined]


async def test_what_a_play_makes_is_of_both(probed: Running) -> None:
    """A job, a schedule, an action that an action of another's brings needs both, and ends with either."""
    anna = await probed.client("anna")
    mine = (await anna.call("auth.whoami"))["credential_id"]
    made = await anna.call("credential.create", label="agent", scopes=["session.*", "job.*", "core.set.create"])
    agent = await probed.connect(made["credential"])
    session_id = await anna.create_session()
    data = quoted({"function": "core.set.create", "data": {"name": "later"}, "every_s": 3600})
    text = f"!!session.call method:job.schedule data:{data}"
    await agent.call("session.playbook_add", session_id=session_id, text=text)
    await anna.call("session.play", session_id=session_id)
    (schedule,) = (await anna.call("schedules.list"))["items"]
    assert set(schedule["brought_by"]) == {mine, made["credential_id"]}
    inner = quoted({"session_id": session_id, "text": "!!session.call method:session.destroy"})
    await agent.call(
        "session.playbook_add", session_id=session_id, text=f"!!session.call method:session.playbook_add data:{inner}"
    )
    await anna.call("session.play", session_id=session_id)
    rows = await probed.services.store.read(lambda tx: tx.all("SELECT authority FROM playbook_actions ORDER BY number"))
    assert json.loads(rows[-1][0]) == [mine, made["credential_id"]]


async def test_actions_of_a_revoked_credential_are_passed_over(probed: Running) -> None:
    """They are told as withdrawn and never played; the others are, in their order."""
    anna = await probed.client("anna")
    made = await anna.call("credential.create", label="agent")
    agent = await probed.connect(made["credential"])
    session_id = await anna.create_session()
    await anna.call("session.playbook_add", session_id=session_id, text="!!play.echo content:mine")
    await agent.call(
        "session.playbook_add", session_id=session_id, text="!!play.echo content:theirs\n!!core.set_create"
    )
    await anna.call("session.playbook_add", session_id=session_id, text="!!play.echo content:last")
    await anna.call("credential.revoke", credential_id=made["credential_id"])
    done = await anna.call("session.play", session_id=session_id)
    assert (done["done"], done["failed"], done["left"]) == (2, 0, 0)
    found = await anna.call("session.playbook_find", session_id=session_id, include_done=True)
    assert [item["state"] for item in found["items"]] == ["done", "withdrawn", "withdrawn", "done"]
    assert found["items"][1]["error"]["kind"] == "CREDENTIAL_REVOKED"
    assert (await anna.call("session.playbook_find", session_id=session_id))["items"] == []
    assert (await anna.call("session.play", session_id=session_id))["done"] == 0


async def test_what_is_about_a_connection_is_not_called_from_inside(probed: Running) -> None:
    """An action of an agent's cannot log its owner out, take a ticket of theirs, or make a credential."""
    anna = await probed.client("anna")
    own = [one.name for one in probed.services.dispatcher.methods.values() if one.is_own]
    assert set(own) == {
        "auth.authenticate", "auth.ticket", "auth.refresh", "auth.logout", "credential.create", "server.identify",
        "events.subscribe", "events.unsubscribe",
    }  # fmt: skip
    for name in own:
        assert await kind_of(played(anna, f"!!session.call method:{name} data:'{{\"revoke\": true}}'")) == "FORBIDDEN"
        assert await kind_of(anna.call("prober.relay", function=name, data={"label": "x"})) == "FORBIDDEN"
    assert (await anna.call("auth.whoami"))["name"] == "anna"


# Counting.


async def counted(server: Running, credential_id: str) -> tuple[int, int]:
    """Return how many calls of a credential were made and refused."""
    async with Client(server.url, await server.credential("anna")) as anna:
        items = (await anna.call("credentials.list", limit=200))["items"]
    one = next(item for item in items if item["credential_id"] == credential_id)
    return one["calls_made"], one["calls_refused"]


async def test_what_plays_and_jobs_do_is_counted(probed: Running) -> None:
    """Calls, actions, and job functions started by name: each is one, and the one after the last is refused."""
    anna = await probed.client("anna")
    for text, costs in (
        ("!!play.echo content:hi", 1),
        ("!!session.call method:session.get", 2),
        ("!!core.set_create name:x", 1),
        ("!!play.run function:core.type.list", 2),
    ):
        made = await anna.call("credential.create", label="metered", max_calls=1000)
        client = await probed.connect(made["credential"])
        session_id = await anna.create_session()
        await client.call("session.play", session_id=session_id, text=text)
        assert await counted(probed, made["credential_id"]) == (1 + costs, 0), text
    inside = {"function": "core.type.list", "data": {}}
    for call, costs in (
        ({"function": "core.type.list"}, 1),
        ({"function": "prober.inside", "data": inside}, 2),
    ):
        made = await anna.call("credential.create", label="metered", max_calls=1000)
        client = await probed.connect(made["credential"])
        await client.call("job.run", **call)
        assert await counted(probed, made["credential_id"]) == (costs, 0), call


async def test_a_play_ends_where_its_calls_end(tmp_path: Path) -> None:
    """`max_calls: 4` and fifty actions: three are played, and a restart gives none back."""
    async with run_server(tmp_path / "data") as server:
        anna = await server.client("anna")
        made = await anna.call("credential.create", label="metered", max_calls=4)
        agent = await server.connect(made["credential"])
        session_id = await anna.create_session()
        text = "\n".join(f"!!core.set_create name:s{n}" for n in range(50))
        await anna.call("session.playbook_add", session_id=session_id, text=text)
        # The owner's actions, at the cost of who plays them.
        done = await agent.call("session.play", session_id=session_id)
        assert (done["done"], done["failed"]) == (3, 1)
        assert [item["error"] and item["error"]["kind"] for item in done["results"]] == [None] * 3 + ["CALLS_SPENT"]
        credential = await server.credential("anna")
    async with run_server(tmp_path / "data") as server:
        agent = await server.connect(made["credential"])
        assert await kind_of(agent.call("session.play", session_id=session_id)) == "CALLS_SPENT"
        anna = await server.connect(credential)
        sets = await server.services.store.read(lambda tx: tx.all("SELECT name FROM tokens WHERE name LIKE 's_'"))
        assert len(sets) == 3


async def test_a_bringer_s_calls_are_counted_when_another_plays(probed: Running) -> None:
    """Its actions are at its cost, too, whoever plays them."""
    anna = await probed.client("anna")
    made = await anna.call("credential.create", label="metered", max_calls=3)
    agent = await probed.connect(made["credential"])
    session_id = await anna.create_session()
    await agent.call("session.playbook_add", session_id=session_id, text="!!play.echo content:x\n" * 5)
    done = await anna.call("session.play", session_id=session_id)
    assert (done["done"], done["failed"], done["left"]) == (2, 1, 2)
    assert await counted(probed, made["credential_id"]) == (3, 1)


async def test_fifty_at_once_make_exactly_what_is_left(probed: Running) -> None:
    """Calls, plays and jobs side by side, over several connections: the sum is exact."""
    import asyncio

    anna = await probed.client("anna")
    made = await anna.call("credential.create", label="metered", max_calls=40)
    clients = [await probed.connect(made["credential"]) for _ in range(5)]
    sessions = [await anna.create_session() for _ in range(10)]
    name = "made by the metered"

    def one(n: int) -> Awaitable[Any]:
        client, data = clients[n % 5], {"type": "note", "name": name}
        if n % 5 == 4:
            text = "".join(f"!!session.call method:core.token.create data:{quoted(data)}\n" for _ in range(5))
            return client.call("session.play", session_id=sessions[n // 5], text=text)
        if n % 5 == 3:
            inner = {"function": "core.token.create", "data": data}
            return client.call("job.run", function="prober.inside", data=inner)
        return client.call("core.token.create", **data)

    await asyncio.gather(*(kind_of(one(n)) for n in range(50)))
    assert (await counted(probed, made["credential_id"]))[0] == 40
    log: list[Any] = []
    cursor = None
    while True:
        page = await anna.call("credential.log", credential_id=made["credential_id"], limit=50, cursor=cursor)
        log += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(log) == 40
    rows = await probed.services.store.read(lambda tx: tx.one("SELECT count(*) FROM tokens WHERE name = ?", name))
    assert rows is not None and 0 < rows[0] <= sum(item["method"] == "core.token.create" for item in log)


async def test_each_run_of_a_schedule_is_counted(probed: Running) -> None:
    """A schedule of a credential with two calls runs once: the first call made the schedule."""
    import asyncio

    anna = await probed.client("anna")
    heard = await anna.subscribe("job.completed")
    made = await anna.call("credential.create", label="metered", max_calls=2)
    agent = await probed.connect(made["credential"])
    await agent.call("job.schedule", function="core.set.create", data={"name": "ticked"}, every_s=1)
    await heard.next()
    async with asyncio.timeout(10):
        while (await counted(probed, made["credential_id"])) != (2, 1):
            await anna.call("server.ping")
    rows = await probed.services.store.read(lambda tx: tx.all("SELECT 1 FROM tokens WHERE name = 'ticked'"))
    assert len(rows) == 1


# What is heard and seen.


async def test_a_narrow_credential_hears_what_it_could_ask_for(probed: Running) -> None:
    """Subscriptions, replays and history: topics whose calls the scopes include, and jobs it may run or brought."""
    anna = await probed.client("anna")
    full = await anna.subscribe("*")
    cases = {
        ("events.*",): set(),
        ("events.*", "session.get"): {"session"},
        ("events.*", "job.get", "core.set.create"): {"job"},
        ("events.*", "job.*"): set(),
        ("events.*", "core.set.read"): {"core"},
        ("events.*", "credentials.list"): {"credential"},
        ("events.*", "session.created"): {"session"},
    }
    clients = {scopes: await narrow(probed, *scopes) for scopes in cases}
    streams = {scopes: await client.subscribe("*") for scopes, client in clients.items()}
    await anna.create_session("walk")
    await anna.call("core.set.create", name="new")
    await anna.call("job.run", function="core.set.create", data={"name": "other"})
    made = await anna.call("credential.create", label="gone")
    await anna.call("credential.revoke", credential_id=made["credential_id"])
    since = (await anna.call("events.history", limit=1))["items"][0]
    while (await full.next()).seq < since["seq"]:
        pass
    for scopes, nouns in cases.items():
        history = (await clients[scopes].call("events.history", limit=200))["items"]
        heard = {item["topic"].partition(".")[0] for item in history}
        assert heard == nouns, scopes
        if scopes == ("events.*", "session.created"):
            assert {item["topic"] for item in history} == {"session.created"}
        if nouns:
            assert (await streams[scopes].next()).topic.partition(".")[0] in nouns
        if "job.get" in scopes:
            assert {item["data"]["function"] for item in history} == {"core.set.create"}


async def test_every_event_says_what_one_must_be_able_to_ask() -> None:
    """A topic that names no call goes to everybody: there is one."""
    from rpcserver.events.catalog import NOTIFICATIONS
    from rpcserver.methods import METHODS

    names = {method.name for method in METHODS}
    for told in NOTIFICATIONS:
        assert set(told.reads) <= names, told.name
    assert [told.name for told in NOTIFICATIONS if told.is_event and not told.reads] == ["server.maintenance"]


async def test_another_credential_on_the_same_connection_hears_as_far_as_it_reaches(probed: Running) -> None:
    """Narrowed by auth.refresh, a connection's subscriptions hear no more than the new credential may."""
    anna = await probed.client("anna")
    made = await anna.call("credential.create", label="narrow", scopes=["auth.*", "events.*", "session.get"])
    wide = await anna.call("credential.create", label="wide")
    client = await probed.connect(wide["credential"])
    stream = await client.subscribe("job.*", "session.*")
    await client.call("auth.refresh", credential=made["credential"])
    await anna.call("job.run", function="core.set.create", data={"name": "unheard"})
    await anna.create_session("heard")
    assert (await stream.next()).topic == "session.created"


async def test_jobs_and_schedules_beyond_the_scopes_are_not_there(probed: Running) -> None:
    """Neither listed nor read, waited for, cancelled, retried or deleted; its own, and what it may run, are."""
    anna = await probed.client("anna")
    hers = (await anna.call("job.run", function="core.set.create", data={"name": "private"}))["job_id"]
    schedule = await anna.call("job.schedule", function="core.set.create", data={"name": "x"}, every_s=3600)
    agent = await narrow(probed, "job.*", "jobs.*", "schedule.*", "schedules.*", "core.token.create")
    own = (await agent.call("job.run", function="core.token.create", data={"type": "note", "name": "n"}))["job_id"]
    for method in ("job.get", "job.wait", "job.cancel", "job.retry", "job.log"):
        assert await kind_of(agent.call(method, job_id=hers)) == "JOB_NOT_FOUND"
    assert await kind_of(agent.call("schedule.delete", schedule_id=schedule["schedule_id"])) == "SCHEDULE_NOT_FOUND"
    assert [item["job_id"] for item in (await agent.call("jobs.list"))["items"]] == [own]
    assert (await agent.call("schedules.list"))["items"] == []
    assert [item["name"] for item in (await agent.call("jobs.functions"))["items"]] == ["core.token.create"]
    assert {item["function"] for item in (await agent.call("jobs.stats"))["items"]} == {"core.token.create"}
    assert {item["job_id"] for item in (await anna.call("jobs.list"))["items"]} >= {hers, own}
    assert await agent.call("job.get", job_id=own)


async def test_what_is_described_is_what_may_be_called(probed: Running) -> None:
    """rpc.discover and server.info tell a narrow credential of its methods, and of the events it hears, alone."""
    agent = await narrow(probed, "rpc.*", "server.info", "session.get")
    open_ = {one.name for one in probed.services.dispatcher.methods.values() if one.is_open or not one.needs_auth}
    expected = {"session.get", "server.info"} | open_
    document = await agent.call("rpc.discover")
    assert {one["name"] for one in document["methods"]} == expected
    assert set((await agent.call("server.info"))["methods"]) == expected
    told = {one["name"] for one in document["x-notifications"] if not one["name"].startswith("$/")}
    assert "session.created" in told and "server.maintenance" in told and not {"job.started", "core.event"} & told


async def test_a_key_of_another_reach_is_another_key(probed: Running) -> None:
    """Neither an idempotency key nor a dedup key brings the answer or the job of a credential with other scopes."""
    anna = await probed.client("anna")
    meta = {"idempotency_key": "k"}
    call = {"function": "core.token.create", "data": {"type": "note", "name": "n"}}
    first = await anna.call("job.run", **call, dedup_key="d", _meta=meta)
    agent = await narrow(probed, "job.run")
    assert await kind_of(agent.call("job.run", **call, dedup_key="d", _meta=meta)) == "FORBIDDEN"
    able = await narrow(probed, "job.*", "core.token.create")
    second = await able.call("job.run", **call, dedup_key="d", _meta=meta)
    assert second["job_id"] != first["job_id"] and second["result"] != first["result"]
    assert (await able.call("job.run", **call, dedup_key="d"))["job_id"] == second["job_id"]
    sister = await narrow(probed, "core.token.create", "job.*")
    assert (await sister.call("job.run", **call, dedup_key="d"))["job_id"] == second["job_id"]
    other = await narrow(probed, "*")
    assert (await other.call("job.run", **call, dedup_key="d"))["job_id"] == first["job_id"]


async def test_a_client_that_says_its_name_connects_with_any_credential(probed: Running) -> None:
    """The four open methods are open to the narrowest; what they are not for stays closed."""
    agent = await narrow(probed, "nothing.at.all")
    assert (await agent.call("auth.whoami"))["scopes"] == ["nothing.at.all"]
    assert await agent.call("server.identify", client="agent", version="1", type="agent")
    assert await kind_of(agent.call("auth.refresh")) == "NOT_RENEWABLE"
    assert await kind_of(agent.call("session.get")) == "FORBIDDEN"
    assert await agent.call("auth.logout")


async def test_the_operator_s_scopes_are_the_operator_s_to_give(probed: Running) -> None:
    """`metrics` is no name that `*` includes: a user cannot give it on."""
    anna = await probed.client("anna")
    assert await kind_of(anna.call("credential.create", label="x", scopes=["metrics"])) == "SCOPE_TOO_WIDE"
    operator = await probed.operator()
    made = await operator.call("operator.credential_create", user="anna", label="probe", scopes=["metrics", "auth.*"])
    assert made["credential"]


async def test_credentials_are_bounded(tmp_path: Path) -> None:
    """A user, or an agent that makes others, has so many and no more."""
    async with run_server(tmp_path / "data", max_credentials_per_user=3) as server:
        anna = await server.client("anna")
        kinds = [await kind_of(anna.call("credential.create", label="x")) for _ in range(3)]
        assert kinds == ["ok", "ok", "CREDENTIAL_LIMIT"]


async def test_nothing_is_looked_up_for_a_credential_without_limits(
    probed: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of a connection's calls and jobs is made in memory: no ledger is read, and nothing counted."""
    anna = await probed.client("anna")
    set_id = (await anna.call("auth.whoami"))["home_set"]
    ledger = probed.services.credentials
    for name in ("load", "spend", "admit", "note"):
        monkeypatch.setattr(type(ledger), name, lambda *_, name=name: pytest.fail(name))
    await anna.call("session.get")
    await anna.ls()
    await anna.call("core.set.show", set_id=set_id)
    await anna.call("job.run", function="core.set.show", data={"set_id": set_id})


# Where something is run by the server itself, or a name is taken as asked for already. A new place is a new way in: it
# belongs into the tables above before it stands here.
BY_THE_SERVER = Counter(
    {
        "jobs/runner.py": 1,  # a row as it is made, of who has none
        "rpcserver/app.py": 2,  # what the start does, and other identity systems
        "rpcserver/methods/operator.py": 2,  # what the operator does in somebody's name
        "rpcserver/rpc/calls.py": 1,  # the operator's calls
        "rpcserver/methods/core.py": 1,  # the same, as jobs
    }
)
ASKED_ALREADY = Counter(
    {
        "jobs/runner.py": 1,  # a retry asks for the function itself
        "rpcserver/rpc/calls.py": 1,  # the dispatcher asked for the method
        "rpcserver/methods/core.py": 1,
        "rpcserver/methods/job.py": 1,  # job.run asks for the function
        "rpcserver/sessions/navigation.py": 2,  # what filters and guards run: no scope has to include it
    }
)


def test_nobody_gets_round_the_check() -> None:
    """What is done by the server itself, or said to be asked for already, is done at these places alone."""
    root = Path(__file__).parents[2]
    by_server, asked = Counter[str](), Counter[str]()
    for path in (path for room in ("jobs", "rpcserver", "plugins") for path in (root / room).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Name) and node.id == "SERVER" and name != "jobs/authority.py":
                by_server[name] += 1
            if isinstance(node, ast.keyword) and node.arg == "admitted":
                asked[name] += not (isinstance(node.value, ast.Constant) and node.value.value == "")
    assert by_server == BY_THE_SERVER
    assert asked == ASKED_ALREADY
