"""What every statement of a call costs: no full scan of a table that grows, and no more steps in a big world.

All calls are made over a socket, in a small world and in one that is big everywhere else: many tokens of the same user,
other sets, ended jobs, old events. Each statement's plan is looked at, with and without SQLite's statistics, and the
steps of SQLite's machine that it took in both worlds are compared.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs import rows, runner
from rpcserver.client import CallError, Client
from rpcserver.methods import METHODS
from store import DATABASE, Row, Tx
from store.tx import SqliteTx
from tests.conftest import Running, run_server
from tests.rpcserver.test_every_call import ROWS, Stage, ask_the_desk

GUEST = Path(__file__).with_name("jobs_guest.py")
BIG = 1000
EVERY_STEPS = 5  # between two looks at the machine
MORE_STEPS = 400  # in the big world: what its deeper indexes and fuller pages may cost one statement

# Statements, or parts of them, that name a table without saying which rows: each with why that does no harm.
ALL = {
    "SELECT epoch, last_seq FROM event_runs": "when a run begins: a thousand are kept, in memory too",
    "UPDATE event_runs SET last_seq": "when a run begins",
    "SELECT user_id, from_seq, heard_at FROM listeners": "at the start: all of them are kept in memory",
    "FROM (SELECT 1 FROM jobs WHERE owner_id": "by server.info: one user's, and no more than they may keep",
    "FROM schedules WHERE id > ? AND next_at IS NOT NULL": "when the clock was set, all are looked at, page by page",
    "FROM schedules WHERE next_at IS NOT NULL AND authority LIKE": "when a credential ends, and not by the writer",
}
SCANS = {
    **ALL,
    "EXISTS (SELECT 1 FROM live_values)": "over at the first row",
    "EXISTS (SELECT 1 FROM commands)": "over at the first row",
    "SELECT name FROM users ORDER BY id LIMIT 1": "over at the first row, in the order of the index",
}
# Indexes of a few rows, looked through as a whole.
FEW = {
    "jobs_live": "jobs that have not ended: limits bound them",
    "idempotency_keys_open": "calls under way",
    "sessions_half_made": "sessions under way",
}
# Methods that no common call is: only the operator makes them, or they end the connection.
NOT_COMMON = {
    *("operator.import", "operator.backup", "server.maintenance"),
    "auth.logout",
}


class Recorder:
    """Every statement that was executed, with the values of its first time and the most steps it took."""

    def __init__(self) -> None:
        self.values: dict[str, Row] = {}
        self.steps: defaultdict[str, int] = defaultdict(int)
        self.calls: dict[str, str] = {}
        self.call = ""
        self._count = 0

    @contextmanager
    def taking(self, connection: sqlite3.Connection, sql: str, values: Row) -> Iterator[None]:
        """Count what one statement takes."""
        connection.set_progress_handler(self._step, EVERY_STEPS)
        self._count = 0
        yield
        self.values.setdefault(sql, values)
        if self._count * EVERY_STEPS > self.steps[sql]:
            self.steps[sql] = self._count * EVERY_STEPS
            self.calls[sql] = self.call

    def _step(self) -> bool:
        self._count += 1
        return False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Look at every transaction inside the block."""
        recorder, whole = self, {name: getattr(SqliteTx, name) for name in ("all", "one", "run", "many")}

        def recorded(name: str) -> Any:
            def execute(tx: SqliteTx, sql: str, *values: Any) -> Any:
                with recorder.taking(tx._connection, sql, values):
                    return whole[name](tx, sql, *values)

            return execute

        def many(tx: SqliteTx, sql: str, rows: Iterable[Row]) -> int:
            done = 0
            for row in rows:
                with recorder.taking(tx._connection, sql, row):
                    done += whole["run"](tx, sql, *row)
            return done

        with pytest.MonkeyPatch.context() as patch:
            for name in ("all", "one", "run"):
                patch.setattr(SqliteTx, name, recorded(name))
            patch.setattr(SqliteTx, "many", many)
            yield


# Columns that say nothing where they can, but for these; and what stands in those that decide something.
NEEDED = {
    *("jobs.finished_at", "jobs.session_id", "schedules.next_at", "idempotency_keys.result"),
    *("rules.token_id", "users.group_id", "event_runs.last_seq"),
}
DECIDE = {
    "asks.state": "answered",
    "callbacks.state": "delivered",
    "jobs.authority": "[]",
    "jobs.lane": "long",
    "jobs.state": "succeeded",
    "playbook_actions.state": "done",
    "remote_activity.state": "succeeded",
    "schedules.authority": "[]",
    "schedules.kind": "at",
    "schedules.spec": str(2**52),
    "sessions.state": "active",
    "tokens.type": "note",
}
OWN = ("tokens", "jobs")  # what the user of the script has, too; limits bound the rest
REFERS = {
    "owner_id": "users",
    "user_id": "users",
    "session_id": "sessions",
    "set_id": "sets",
    "group_id": "user_groups",
}


def grow(tx: Tx) -> None:
    """Add what no call of the script asks for to every table: the user's other things, and those of everybody else."""
    anna = tx.one("SELECT id FROM users WHERE name = 'anna'")
    assert anna
    tx.all("PRAGMA defer_foreign_keys = ON")
    tables = dict(tx.all("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql NOT NULL"))
    refers = {
        f"{table}.{key[3]}": f"{key[2]}.{key[4] or 'id'}"
        for table in tables
        for key in tx.all(f"PRAGMA foreign_key_list({table})")
    }
    for table, schema in tables.items():
        columns = [
            (f"{table}.{name}", type)
            for _, name, type, is_needed, default, key in tx.all(f"PRAGMA table_info({table})")
            if f"{table}.{name}" in {*NEEDED, *DECIDE} or (type != "INTEGER" and key) or (is_needed and default is None)
        ]
        names = ", ".join(column.partition(".")[2] for column, _ in columns)
        rows = [tuple(_value(column, type, schema, refers, n, anna[0]) for column, type in columns) for n in range(BIG)]
        tx.many(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", rows)  # noqa: S608
    assert tx.all("PRAGMA foreign_key_check") == []


def _value(column: str, type: str, schema: str, refers: dict[str, str], n: int, anna: str) -> Any:
    table, _, name = column.partition(".")
    if column in DECIDE:
        return DECIDE[column]
    if name == "owner_id" and table in OWN and n % 2:
        return anna
    if column not in refers and (choice := re.search(rf"\b{name}\b[^,]*CHECK \({name} IN \('(\w+)", schema)):
        return choice[1]
    if column not in refers and name in REFERS:
        column = f"{REFERS[name]}.id"
    while column in refers:
        column = refers[column]
    return f"{column}-{n:06}" if type == "TEXT" else 2**52 + n


class Script:
    """Every call there is, made by those who may, one after another."""

    def __init__(self, server: Running, stage: Stage, recorder: Recorder) -> None:
        self.server, self.stage, self.recorder = server, stage, recorder
        self.anna, self.operator = stage.clients["anna"], stage.clients["operator"]
        self.made: set[str] = set()

    async def call(self, method: str, by: Client | None = None, /, **params: Any) -> Any:
        """Make a call, in the name of which statements are counted from here on."""
        self.made.add(method)
        self.recorder.call = method
        return await (by or self.anna).call(method, **params)

    async def run(self) -> None:
        """Make them all."""
        subscription = await self.call("events.subscribe", topics=["*"])
        await self.of_sessions()
        await self.of_stores()
        await self.of_jobs()
        await self.of_credentials()
        await self.call("events.history", limit=2)
        await self.call("events.unsubscribe", subscription=subscription["subscription"])
        for method in ("server.info", "server.ping", "rpc.discover", "jobs.functions", "jobs.stats"):
            await self.call(method)
        await self.call("server.identify", client="test", version="1", type="agent")
        await self.of_groups()
        await self.of_the_core()

    async def of_groups(self) -> None:
        """Those of the core that the table of core calls has no row for."""
        ids, bob = self.stage.ids, self.stage.bob
        group = await self.call("core.group.create", name="others")
        await self.call("core.group.member.add", group_id=group, user_id=bob)
        await self.call("core.group.read", group_id=group)
        await self.call("core.group.list")
        await self.call("core.group.member.remove", group_id=group, user_id=bob)
        await self.call("core.group.delete", group_id=group)
        await self.call("core.type.retire", name=ids["old"], is_retired=False)
        await self.call("core.type.creators", name=ids["closed"], creators_group_id=ids["group"])
        await self.call("core.attribute.list", type=ids["kind"])
        await self.call("core.attribute.write", token_id=ids["lamp"], attribute="watts", value=50)
        await self.call("core.token.grant", token_id=ids["note"], user_id=bob, access="read")
        await self.call(
            "core.token.give", token_id=await self.call("core.token.create", type="note", name="g"), user_id=bob
        )
        await self.call("core.set.enter_policy", set_id=ids["room"], enter_policy="members")
        gift = await self.call("core.gift.create", set_id=ids["inner"], type="note", name="present")
        await self.call("core.gift.list", set_id=ids["inner"])
        session = await self.call("session.create", set_id=ids["inner"])
        data = (await self.call("session.get", session_id=session["session_id"]))["session_data"]
        await self.call("core.session.remember", data_set_id=data, name="seen", value=1)
        await self.call("core.session.recall", data_set_id=data)
        await self.call("session.destroy", session_id=session["session_id"])
        await self.call("core.gift.delete", gift_id=gift)
        await self.call("core.user.list", self.operator, limit=2)
        for is_frozen in (True, False):
            await self.call("core.user.freeze", self.operator, name="carl", is_frozen=is_frozen)

    async def of_the_core(self) -> None:
        """Those of `core.*`, the refused ones too."""
        for row in ROWS:
            tries = [(row.wrongly_by, make) for _, make in row.errors]
            if row.holds != "not called":
                tries.append((row.by, row.params))
            for who, make in tries if row.call not in NOT_COMMON else ():
                with suppress(CallError):  # each row was written for a world of its own
                    await self.call(row.call, self.stage.clients[who], **make(self.stage))

    async def of_sessions(self) -> None:
        """Those of sessions, playbooks and contexts."""
        room = self.stage.room
        session = (await self.call("session.create", name="walks", playbook_text="!!db.set value:1 key:'a'"))[
            "session_id"
        ]
        about = {"session_id": session}
        await self.call("session.cd", **about, set_id=room)
        await self.call("session.cd", **about, to="back")
        await self.call("session.cd", **about, path="room/..")
        await self.call("session.cd", **about, set_id=room)
        await self.call("session.ls", **about, limit=2, filter="a*", order="-name")
        await self.call("session.ls", **about, token_id=self.stage.desk)
        await self.call("session.get", **about, include=["history", "data", "playbook"])
        await self.call("session.presence", **about)
        await self.call("session.update", **about, name="walks on")
        await self.call("session.action", **about, token_id="bookmarks.add")
        await self.call("session.action", **about, token_id=self.stage.desk, value="where?")
        await self.call("sessions.list", limit=2)
        await self.call("session.playbook_add", **about, text="!!db.set value:1 key:'b'")
        await self.call("session.playbook_priorities_add", **about, priorities={"5": "db.*"})
        await self.call("session.playbook_find", **about, filter="db.*", limit=1)
        await self.call("session.heroscript", **about)
        await self.call("session.play", **about, dry_run=True)
        await self.call("session.play", **about)
        await self.call("context.get", context_name="default")
        await self.call("context.update", context_name="default", params="a:1")
        await self.call("contexts.list", limit=2)
        await self.call("session.destroy", **about)

    async def of_stores(self) -> None:
        """Those of key-value stores."""
        for noun, about in (("session", {}), ("context", {"context_name": "default"})):
            for verb, params in KEYS:
                await self.call(f"{noun}.db.{verb}", **about, **params)

    async def of_jobs(self) -> None:
        """Those of jobs, schedules and questions."""
        await self.call("job.run", function="guest.echo", data={"text": "a"})
        done = (await self.call("job.run", function="guest.steps", data={}, dedup_key="k"))["job_id"]
        for method in ("job.get", "job.wait", "job.log", "job.cancel"):
            await self.call(method, job_id=done)
        asking = (await self.call("job.run", function="guest.asks", wait=False))["job_id"]
        for answer in ("anna", "red", 40):
            asks: list[dict[str, Any]] = []
            while not asks:
                found = await self.call("asks.list", limit=5)
                asks = [ask for ask in found["items"] if ask["job_id"] == asking]
            await self.call("ask.answer", ask_id=asks[0]["ask_id"], answer=answer)
            await self.call("job.wait", job_id=asking, timeout_s=0.01)
        await self.call("job.wait", job_id=asking)
        failed = (await self.call("job.run", function="guest.fails", wait=False))["job_id"]
        await self.call("job.wait", job_id=failed)
        await self.call("job.wait", job_id=(await self.call("job.retry", job_id=failed))["job_id"])
        schedule = await self.call("job.schedule", function="guest.echo", every_s=3600)
        await self.call("schedules.list", limit=2)
        await self.call("schedule.delete", schedule_id=schedule["schedule_id"])
        for wanted in ({}, {"function": "guest.echo"}, {"state": "failed"}, {"held": True}):
            await self.call("jobs.list", limit=2, **wanted)
        await self.call("operator.user_defer", self.operator, name="anna", approver="bob")
        held = (await self.call("job.run", function="guest.steps", wait=False))["job_id"]
        await self.call("job.release", self.stage.clients["bob"], job_id=held)
        await self.call("job.wait", job_id=held)

    async def of_credentials(self) -> None:
        """Those of credentials and of the operator."""
        made = await self.call("credential.create", label="limited", max_calls=5, expires_in_s=60, renewable=True)
        limited = await self.server.connect(made["credential"])
        await self.call("auth.whoami", limited)
        await self.call("auth.refresh", limited)
        await self.call("credentials.list", limit=2)
        await self.call("credential.log", credential_id=made["credential_id"], limit=2)
        ticket = (await self.call("auth.ticket"))["ticket"]
        await self.call("auth.authenticate", await self.server.connect(""), ticket=ticket)
        await self.call("credential.revoke", credential_id=made["credential_id"])
        name = {"user": "anna"}
        other = await self.call("operator.credential_create", self.operator, label="x", **name)
        await self.call("operator.credentials_list", self.operator, limit=2, **name)
        await self.call("operator.credential_revoke", self.operator, credential_id=other["credential_id"])
        await self.call("operator.ticket", self.operator, **name)
        lent = await self.call("operator.lend", self.operator, name="anna")
        await self.call("operator.give_back", self.operator, credential=lent)
        await self.call("operator.user_add", self.operator, name="carl")


KEYS: list[tuple[str, dict[str, Any]]] = [
    ("set", {"key": "a", "value": "1"}),
    ("get", {"key": "a"}),
    ("exists", {"key": "a"}),
    ("keys", {"prefix": "a"}),
    ("delete", {"key": "a"}),
    ("destroy", {}),
]


async def walked(data: Path, *, is_big: bool) -> Recorder:
    """Make every call over a server of its own, start it again, and return what was executed."""
    recorder = Recorder()
    async with run_server(data, plugins=[str(GUEST)]) as server:
        stage = Stage(server, await server.client("anna"), await server.client("bob"), await server.operator())
        await stage.build()
        await ask_the_desk(stage)
        if is_big:
            await server.services.store.write(grow)
        script = Script(server, stage, recorder)
        with recorder.recording():
            await script.run()
    assert {method.name for method in METHODS} - script.made <= NOT_COMMON
    recorder.call = "start and upkeep"
    with recorder.recording():
        async with run_server(data, plugins=[str(GUEST)]) as server:
            await server.services.events.upkeep()
            await server.services.store.write(server.services.dispatcher.answers.upkeep)
            await server.services.store.write(partial(runner._prune, succeeded=1, others=1))
            await server.services.store.read(rows.counts)
    return recorder


@pytest.mark.timeout(300)
async def test_no_statement_of_a_call_looks_through_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds its rows by an index, with statistics and without, in steps that a big world does not multiply."""
    monkeypatch.setattr(rows, "LOOKED_AT", 20)  # for one page: a bound like the page's own
    small, big = [await walked(tmp_path / name, is_big=name == "big") for name in ("small", "big")]
    with closing(sqlite3.connect(tmp_path / "big" / DATABASE)) as database:
        for has_statistics in (False, True):
            database.execute("ANALYZE" if has_statistics else "DROP TABLE IF EXISTS sqlite_stat1")
            scanned = {sql: plan for sql, values in big.values.items() if (plan := _scans(database, sql, values))}
            assert scanned == {}, f"statistics: {has_statistics}"
    grown = {
        (sql, big.calls[sql]): (small.steps[sql], steps)
        for sql, steps in big.steps.items()
        if steps > 3 * small.steps[sql] + MORE_STEPS and not any(part in sql for part in ALL)
    }
    assert grown == {}


def _scans(database: sqlite3.Connection, sql: str, values: Row) -> list[str]:
    """Return what a statement looks through from its first to its last row."""
    if not re.match("SELECT|INSERT|UPDATE|DELETE|WITH", sql):
        return []
    allowed = {*re.findall(r"WITH RECURSIVE (\w+)", sql), *re.findall(r"JOIN made (\w+)", sql)}
    allowed |= {table for part in SCANS if part in sql for table in re.findall(r"(?:FROM|UPDATE) (\w+)", part)}
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    scanned = [line for line in plan if line.startswith("SCAN ") and not re.match(r"SCAN (CONSTANT|\()", line)]
    return [line for line in scanned if line.split()[1] not in allowed and line.split()[-1] not in FEW]
