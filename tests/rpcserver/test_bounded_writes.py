"""No transaction grows with what there is: however many rows an operation takes away, others write in between."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.functions.import_world import MAX_PARTS
from rpcserver.app import forget_credentials
from rpcserver.auth import credentials
from rpcserver.client import CallError
from rpcserver.errors import RpcError
from rpcserver.playbooks import rows as playbooks
from store import new_id
from store.writer import Write, Writer
from tests.conftest import Running

MANY = 1500
MOST = 1300  # rows of one transaction: 200 things, six rows each at the most


class Counter:
    """How many rows each transaction of the writer has changed, cascades included."""

    def __init__(self) -> None:
        self.most = 0
        self.total = 0

    def note(self, rows: int) -> None:
        """Take one."""
        self.most = max(self.most, rows)
        self.total += rows


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Count from now on."""
    counter, apply = Counter(), Writer._apply

    def counted(writer: Writer, write: Write) -> None:
        before = writer._connection.total_changes
        apply(writer, write)
        counter.note(writer._connection.total_changes - before)

    monkeypatch.setattr(Writer, "_apply", counted)
    return counter


class World:
    """Rows by the thousand, put in past the methods, and the server they are in."""

    def __init__(self, server: Running, anna: Any, who: dict[str, Any]) -> None:
        self.server = server
        self.anna = anna
        self.user_id: str = who["user_id"]
        self.home: str = who["home_set"]

    async def rows(self, table: str, **columns: Any) -> None:
        """Add MANY rows; of a column a value, or a function of the row's number."""
        values = [[made(n) if callable(made) else made for made in columns.values()] for n in range(MANY)]
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
        await self.server.services.store.write(lambda tx: tx.many(sql, [tuple(row) for row in values]))

    async def tokens(self, set_id: str, kind: str = "member", session_id: str | None = None) -> None:
        """Put many tokens of anna's into a set."""
        name = new_id("t_")
        await self.rows("tokens", id=lambda n: f"{name}{n}", type="note", owner_id=self.user_id, name="x", created_at=0)
        await self.rows(
            "members",
            **{"set_id": set_id, "token_id": lambda n: f"{name}{n}", "kind": kind, "sort": "x"},
            **{"rank": lambda n: 100 + n, "session_id": session_id},
        )

    async def users(self) -> list[str]:
        """Make many users, as far as rows refer to them."""
        names = [f"u_{n}" for n in range(MANY)]
        await self.rows("tokens", id=lambda n: f"ut_{n}", type="user", owner_id="u_0", name="x", created_at=0)
        await self.rows(
            "users",
            **{"id": lambda n: names[n], "name": lambda n: f"user {n}", "token_id": lambda n: f"ut_{n}"},
            **{"group_id": lambda n: f"ug_{n}", "home_set_id": "none", "created_at": 0},
        )
        return names

    async def count(self, sql: str, *values: Any) -> int:
        """Return what a statement counts."""
        row = await self.server.services.store.read(lambda tx: tx.one(sql, *values))
        assert row is not None
        return int(row[0])


Case = Callable[[World], Awaitable[Callable[[], Awaitable[Any]]]]
CASES: dict[str, Case] = {}


def case(fn: Case) -> Case:
    """Try it: what makes the rows, and returns what is then to take them away."""
    CASES[fn.__name__] = fn
    return fn


async def emptied(w: World, token: bool = True) -> str:
    set_id = str(await w.anna.call("core.set.create", name="full", parent_id=w.home))
    if token:
        await w.tokens(set_id)
    return set_id


@case
async def core_set_delete(w: World) -> Callable[[], Awaitable[Any]]:
    set_id = await emptied(w)
    return lambda: w.anna.call("core.set.delete", set_id=set_id)


@case
async def core_set_truncate(w: World) -> Callable[[], Awaitable[Any]]:
    set_id = await emptied(w)
    return lambda: w.anna.call("core.set.truncate", set_id=set_id)


@case
async def core_set_delete_where_many_stand(w: World) -> Callable[[], Awaitable[Any]]:
    set_id = await emptied(w, False)
    row = await w.server.services.store.read(lambda tx: tx.one("SELECT token_id FROM users WHERE id = ?", w.user_id))
    assert row is not None
    await w.rows("presence", session_id=lambda n: f"s_{n}", set_id=set_id, token_id=row[0])
    await w.tokens(set_id, "gift", "s_1")
    return lambda: w.anna.call("core.set.delete", set_id=set_id)


@case
async def core_token_delete(w: World) -> Callable[[], Awaitable[Any]]:
    token_id = await w.anna.call("core.token.create", type="note", name="linked")
    await w.rows("tokens", id=lambda n: f"d_{n}", type="set", owner_id=w.user_id, name="x", created_at=0)
    await w.rows("sets", id=lambda n: f"set_{n}", token_id=lambda n: f"d_{n}", created_at=0)
    await w.rows("members", set_id=lambda n: f"set_{n}", token_id=token_id, kind="member", sort="x", rank=1)
    await w.rows("known_values", token_id=token_id, attribute="a", user_id=lambda n: f"u_{n}", value="1", known_at=0)
    await w.rows("live_values", token_id=token_id, attribute="a", set_id=lambda n: f"set_{n}", value="1", updated_at=0)
    return lambda: w.anna.call("core.token.delete", token_id=token_id)


@case
async def core_group_delete(w: World) -> Callable[[], Awaitable[Any]]:
    group_id = await w.anna.call("core.group.create", name="all")
    names = await w.users()
    await w.rows("user_group_members", group_id=group_id, user_id=lambda n: names[n])
    return lambda: w.anna.call("core.group.delete", group_id=group_id)


async def remembering(w: World) -> str:
    made = await w.anna.call("core.script.create", name="s", text="1")
    script_id = str(made["id"] if isinstance(made, dict) else made)
    await w.rows("tokens", id=lambda n: f"r_{n}", type="note", owner_id=w.user_id, name="x", created_at=0)
    await w.rows("script_states", token_id=lambda n: f"r_{n}", script_id=script_id, state="{}")
    return script_id


@case
async def core_script_delete(w: World) -> Callable[[], Awaitable[Any]]:
    script_id = await remembering(w)
    return lambda: w.anna.call("core.script.delete", script_id=script_id)


@case
async def core_script_edit(w: World) -> Callable[[], Awaitable[Any]]:
    script_id = await remembering(w)
    return lambda: w.anna.call("core.script.edit", script_id=script_id, text="2")


@case
async def session_destroy(w: World) -> Callable[[], Awaitable[Any]]:
    session_id = await w.anna.create_session("long")
    sets = await w.server.services.store.read(
        lambda tx: tx.one("SELECT data_set_id, pallet_set_id FROM sessions WHERE id = ?", session_id)
    )
    assert sets is not None
    for set_id in sets:
        await w.tokens(set_id)
    await w.rows("visits", session_id=session_id, set_id=lambda n: f"set_{n}")
    await w.rows("session_env", session_id=session_id, name=lambda n: f"w{n}", value="x")
    await w.anna.call("session.playbook_add", session_id=session_id, text="!!play.echo content:x\n" * MANY)
    return lambda: w.anna.call("session.destroy", session_id=session_id)


async def kept(w: World, answer: str | None) -> None:
    await w.rows(
        "idempotency_keys",
        **{"owner_id": w.user_id, "key": lambda n: f"k{n}", "body_hash": "", "result": answer, "age_from": 0},
    )


@case
async def upkeep_of_idempotency_keys(w: World) -> Callable[[], Awaitable[Any]]:
    await kept(w, "1")

    async def upkeep() -> None:
        answers = w.server.services.dispatcher.answers
        answers._age_ms = 1
        while await w.server.services.store.write(answers.upkeep):
            pass
        assert await w.count("SELECT count(*) FROM idempotency_keys") == 0

    return upkeep


@case
async def start_after_a_kill_under_calls(w: World) -> Callable[[], Awaitable[Any]]:
    await kept(w, None)
    return w.server.services.dispatcher.answers.load


@case
async def defer_none(w: World) -> Callable[[], Awaitable[Any]]:
    await many_jobs(w, "queued", is_held=1, run_at=2**60)

    async def let_go() -> None:
        await w.server.services.runner.defer(w.user_id, None)
        assert await w.count("SELECT count(*) FROM jobs WHERE is_held = 1") == 0

    return let_go


async def many_jobs(w: World, state: str, **more: Any) -> None:
    known = w.server.services.runner.functions[0].name
    columns: dict[str, Any] = {"id": lambda n: f"j_{n:06}", "function": known, "lane": "long", "state": state}
    await w.rows("jobs", **columns, owner_id=w.user_id, data="{}", created_at=0, authority="[]", **more)


@case
async def recovery_after_a_kill(w: World) -> Callable[[], Awaitable[Any]]:
    await many_jobs(w, "running")

    async def recover() -> None:
        await w.server.services.runner.recover(True)
        assert await w.count("SELECT count(*) FROM jobs WHERE state = 'lost'") == MANY

    return recover


async def logged(w: World, credential_id: str, at: int = 0) -> None:
    await w.rows(
        "credential_calls",
        **{"id": lambda n: new_id("k_"), "credential_id": credential_id, "method": "x", "at": at},
    )


@case
async def credential_revoke(w: World) -> Callable[[], Awaitable[Any]]:
    made = await w.anna.call("credential.create", label="logged", logged=True)
    await logged(w, made["credential_id"])
    return lambda: w.anna.call("credential.revoke", credential_id=made["credential_id"])


@case
async def credentials_that_expired_long_ago(w: World) -> Callable[[], Awaitable[Any]]:
    ids = [(await w.anna.call("credential.create", label="old", logged=True))["credential_id"] for _ in range(3)]
    for credential_id in ids:
        await logged(w, credential_id)
    old = "UPDATE credentials SET expires_at = 1, is_over = 1 WHERE label = 'old'"
    await w.server.services.store.write(lambda tx: tx.run(old))

    async def forget() -> None:
        while await w.server.services.store.write(lambda tx: credentials.forget(tx, 1)):
            pass
        assert await w.count("SELECT count(*) FROM credentials WHERE label = 'old'") == 0

    return forget


@pytest.mark.parametrize("name", CASES)
async def test_no_transaction_grows_with_the_rows(server: Running, counter: Counter, name: str) -> None:
    """All of them are changed, and never more at once than a piece."""
    anna = await server.client("anna")
    world = World(server, anna, await anna.call("auth.whoami"))
    act = await CASES[name](world)
    counter.most = counter.total = 0
    await act()
    assert counter.total >= MANY // 2  # the server's own upkeep may have begun
    assert counter.most <= MOST, f"{counter.most} rows in one transaction"


async def test_what_comes_in_one_call_is_bounded(server: Running, counter: Counter, tmp_path: Path) -> None:
    """Lists, filters of a playbook and world files are refused when they are longer than one transaction bears."""
    anna = await server.client("anna")
    shelf = await anna.call("core.set.create", name="shelf")
    session_id = await anna.create_session("many")
    many = [f"x{n}" for n in range(501)]
    filters = {str(n): f"{word}.*" for n, word in enumerate(many, 100)}
    for method, params in (
        ("core.set.tokens.add", {"set_id": shelf, "token_ids": many}),
        ("core.set.tokens.remove", {"set_id": shelf, "token_ids": many}),
        ("core.set.create", {"name": "x", "links": many}),
        ("core.type.create", {"name": "x", "parents": many}),
        ("core.type.create", {"name": "x", "attributes": {word: {"value_type": "string"} for word in many}}),
        ("session.playbook_priorities_add", {"session_id": session_id, "priorities": filters}),
    ):
        with pytest.raises(CallError, match="500"):
            await anna.call(method, **params)
    path = tmp_path / "world.json"
    tokens = [{"name": str(n)} for n in range(MAX_PARTS)]
    world = {"format": "rpcserver.world/1", "name": "big", "sets": {"a": {"name": "a", "tokens": tokens}}}
    path.write_text(json.dumps(world))
    with pytest.raises(RpcError, match=f"at most {MAX_PARTS}"):
        await server.app.operate("operator.import", path=str(path), user="anna", format="json")


async def test_a_word_costs_a_row_however_many_there_are(server: Running, counter: Counter) -> None:
    """An action that sets a word of a session does not write the others anew."""
    anna = await server.client("anna")
    world = World(server, anna, await anna.call("auth.whoami"))
    session_id = await anna.create_session("many")
    await world.rows("session_env", session_id=session_id, name=lambda n: f"w{n}", value="x")
    counter.most = 0
    await anna.call("session.play", session_id=session_id, text="!!session.env_set key:w1 value:new")
    assert 0 < counter.most < 10
    words = await server.services.store.read(lambda tx: playbooks.env(tx, session_id))
    assert len(words) == MANY and words["w1"] == "new"


async def test_few_things_go_at_once(server: Running) -> None:
    """A set that one transaction bears is deleted, or emptied, whole or not at all: a rule that refuses keeps it."""
    anna = await server.client("anna")
    shelf = await anna.call("core.set.create", name="shelf")
    thing = await anna.call("core.set.show", set_id=shelf)
    for number in range(3):
        await anna.call("core.token.create", type="note", name=str(number), set_id=shelf)
    kept = await anna.call("core.token.create", type="note", name="kept", set_id=shelf)
    never = {"deny": {"not": {"about": "nothing"}}}
    await anna.call("core.rule.create", event="token_destroying", decision=never, token_id=kept)
    with pytest.raises(CallError):
        await anna.call("core.set.truncate", set_id=shelf)
    assert len((await anna.call("core.set.read", set_id=shelf))["items"]) == 4
    await anna.call("core.rule.create", event="set_destroying", decision=never, token_id=thing["token_id"])
    with pytest.raises(CallError):
        await anna.call("core.set.delete", set_id=shelf)
    assert len((await anna.call("core.set.read", set_id=shelf))["items"]) == 4


async def test_a_revoked_credential_is_over_before_its_log_has_gone(server: Running) -> None:
    """Between the two, and after a kill there: it opens nothing, is listed nowhere, and the next upkeep takes it."""
    anna = await server.client("anna")
    made = await anna.call("credential.create", label="logged", logged=True)
    store = server.services.store
    await store.write(lambda tx: credentials.revoke(tx, made["credential_id"], None))
    with pytest.raises(CallError, match="revoked"):
        await server.connect(made["credential"])
    labels = [item["label"] for item in (await anna.call("credentials.list"))["items"]]
    assert "logged" not in labels
    with pytest.raises(CallError) as caught:
        await anna.call("credential.revoke", credential_id=made["credential_id"])
    assert caught.value.kind == "CREDENTIAL_NOT_FOUND"
    while await store.write(partial(forget_credentials, server.services.settings)):
        pass
    assert await store.read(lambda tx: tx.one("SELECT 1 FROM credentials WHERE id = ?", made["credential_id"])) is None
