"""What a caller is told of jobs: alike in every lane, to everybody who waits, and nothing that is not so."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpcserver.app import job_limits
from rpcserver.client import Client
from rpcserver.rpc import idempotency
from rpcserver.sessions import views
from rpcserver.settings import Settings
from tests.conftest import Process, Running, run_cli, run_server
from tests.rpcserver.working import GUEST, kind_of, start


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with the guest."""
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as running:
        yield running


@pytest.mark.parametrize(
    ("what", "expected"),
    [("set", [1]), ("big", 2**70), ("decimal", "1.5"), ("keys", {"1": 2}), ("model", {"text": "x"}), ("nan", None)],
)
async def test_a_result_is_the_same_json_in_every_lane(anna: Client, what: str, expected: Any) -> None:
    """What the call answers is what the record says, also where JSON has no word for it."""
    for lane in ("memory", "local", "long"):
        answer = await anna.call("job.run", function=f"guest.{lane}.returns", data={"text": what})
        assert answer["result"] == expected
        if lane != "memory":
            assert (await anna.call("job.get", job_id=answer["job_id"]))["result"] == expected


async def test_data_under_another_name_reaches_the_job(anna: Client) -> None:
    """A field with an alias is what it was given as, also after it was a row, and when the job is run again."""
    for lane in ("memory", "local", "long"):
        answer = await anna.call("job.run", function=f"guest.{lane}.renamed", data={"upTo": 7})
        assert answer["result"] == 7
    assert (await anna.call("job.get", job_id=answer["job_id"]))["data"] == {"upTo": 7}


async def test_a_deadline_leaves_the_job_running(anna: Client) -> None:
    """A wait that outlasts its deadline answers with the job, also one of the local lane, and the job goes on."""
    answer = await anna.call("job.run", function="guest.naps", _meta={"deadline_ms": 700})
    assert answer["state"] in ("queued", "running")
    ended = await anna.call("job.wait", job_id=answer["job_id"])
    assert (ended["state"], ended["result"]) == ("succeeded", "awake")


async def test_a_slip_of_the_pen_is_answered_with_what_was_meant(anna: Client) -> None:
    """Near names are told, of functions that may be run."""
    with pytest.raises(Exception, match=r"did you mean guest\.steps"):
        await anna.call("job.run", function="guest.stepz")
    with pytest.raises(Exception, match="jobs.functions") as caught:
        await anna.call("job.run", function="import_tre")
    assert "import_tree" not in str(caught.value)


async def test_everybody_who_waits_hears_progress(server: Running, anna: Client) -> None:
    """Two tabs that wait for one job both hear how far it is."""
    tab = await server.client("anna")
    await server.app.operate("operator.user_defer", name="anna", approver="bob") if await server.credential(
        "bob"
    ) else None
    job_id = await start(anna, "guest.steps")
    heard: tuple[list[float], list[float]] = ([], [])
    waiting = [
        asyncio.ensure_future(
            client.call("job.wait", job_id=job_id, on_progress=lambda done, *_, list=list: list.append(done))
        )
        for client, list in zip((anna, tab), heard, strict=True)
    ]
    while len(server.services.runner.audience._watchers.get(job_id, ())) < 2:
        await anna.call("server.ping")
    await server.app.operate("operator.user_defer", name="anna", approver=None)
    await asyncio.gather(*waiting)
    assert heard[0] and heard[1] and heard[0][-1] == heard[1][-1] == 3
    assert server.services.runner.audience._watchers == {}


async def test_asking_for_logs_leaves_nothing_behind(server: Running, anna: Client) -> None:
    """Neither of jobs that are not there, nor of those that have ended, nor of waits that were too long."""
    done = await anna.call("job.run", function="guest.echo")
    for job_id in ("j_unknown", done["job_id"]):
        await asyncio.gather(
            anna.call("job.log", job_id=job_id, follow=True),
            anna.call("job.wait", job_id=job_id),
            return_exceptions=True,
        )
    audience = server.services.runner.audience
    assert (audience._listeners, audience._watchers, audience._waiters) == ({}, {}, {})


async def test_job_functions_do_not_hold_up_the_loop(
    server: Running, anna: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many schemas are made once, on another thread."""
    threads: list[int] = []
    shown = views.job_function
    monkeypatch.setattr(views, "job_function", lambda spec: threads.append(threading.get_ident()) or shown(spec))
    first, second = [await anna.call("jobs.functions") for _ in range(2)]
    assert first == second and len(threads) == len(first["items"])
    assert threading.get_ident() not in threads


async def test_a_record_says_what_is_to_come(server: Running, anna: Client, bob: Client) -> None:
    """When a delayed job starts, that one is to stop, and, for who has to approve it, what it was given."""
    delayed = await start(anna, "guest.steps", delay_s=3600)
    record = await anna.call("job.get", job_id=delayed)
    assert record["run_at"] == record["created_at"] + 3_600_000
    await server.app.operate("operator.user_defer", name="anna", approver="bob")
    held = await start(anna, "guest.steps", data={"text": "please"})
    assert (await bob.call("job.get", job_id=held))["data"] == {"text": "please"}
    await server.app.operate("operator.user_defer", name="anna", approver=None)
    job_id = await start(anna, "guest.forever")
    await anna.call("job.log", job_id=job_id, follow=True)
    await anna.call("job.cancel", job_id=job_id, mode="gently")
    record = await anna.call("job.get", job_id=job_id)
    assert (record["state"], record["cancelling"]) == ("running", True)
    await anna.call("job.cancel", job_id=job_id)
    assert (await anna.call("job.wait", job_id=job_id))["cancelling"] is False


async def test_approval_that_is_needed_no_more(server: Running, anna: Client, bob: Client) -> None:
    """Jobs that were held are let go when nobody has to approve them; nobody approves his own."""
    await server.app.operate("operator.user_defer", name="anna", approver="bob")
    held = await start(anna, "guest.steps")
    short = await anna.call("job.run", function="guest.echo", data={"text": "x"}, timeout_s=5)
    assert short["result"] == "x"
    await server.app.operate("operator.user_defer", name="anna", approver=None)
    assert (await anna.call("job.wait", job_id=held))["state"] == "succeeded"
    operator = await server.operator()
    assert await kind_of(operator.call("operator.user_defer", name="anna", approver="anna")) == "BAD_APPROVER"


async def test_held_jobs_are_limited_too(tmp_path: Path) -> None:
    """What waits for approval counts as waiting."""
    async with run_server(tmp_path / "data", plugins=(GUEST,), max_waiting_jobs_per_user=3) as server:
        anna, _ = await server.client("anna"), await server.credential("bob")
        await server.app.operate("operator.user_defer", name="anna", approver="bob")
        for _ in range(3):
            await start(anna, "guest.steps")
        assert await kind_of(anna.call("job.run", function="guest.steps", wait=False)) == "JOB_LIMIT"


async def test_a_secret_answer_leaves_no_trace_under_its_key(anna: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a hash, from which a short secret could be found."""
    hashes = []
    hashed = idempotency._hash
    monkeypatch.setattr(idempotency, "_hash", lambda call: hashes.append(hashed(call)) or hashes[-1])
    for pin in ("1234", "5678"):
        call = {"ask_id": "a_unknown", "answer": pin}
        await kind_of(anna.call("ask.answer", **call, idempotency_key=f"key-{pin}"))
    assert len(hashes) == 2 and hashes[0] == hashes[1]


async def test_commands_leave_waiting_jobs_to_the_server(serve: Callable[..., Process], tmp_path: Path) -> None:
    """A command on a folder whose server is down touches neither its jobs, nor its schedules, nor its held ones."""
    data = tmp_path / "data"
    credential = run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()
    run_cli("user", "add", "bob", "--data", str(data))
    process = serve(data, "--plugin", str(GUEST))
    async with Client(process.url, credential) as anna:
        asking = await start(anna, "guest.secret")  # may be run again
        later = await start(anna, "guest.steps", delay_s=2)
        await anna.call("job.schedule", function="guest.steps", every_s=1)
        run_cli("user", "defer", "anna", "--approver", "bob", "--data", str(data))
        held = await start(anna, "guest.steps")
        while (await anna.call("job.get", job_id=asking))["state"] != "waiting_input":
            pass
    assert process.stop() == 0

    def rows() -> list[Any]:
        with closing(sqlite3.connect(data / "rpcserver.db")) as database:
            states = "SELECT id, state, attempt, finished_at FROM jobs WHERE function LIKE 'guest.%' ORDER BY id"
            return [*database.execute(states), *database.execute("SELECT next_at, last_at FROM schedules")]

    before = rows()
    await asyncio.sleep(2)
    assert run_cli("user", "add", "carol", "--data", str(data)).returncode == 0
    assert rows() == before
    assert run_cli("user", "defer", "anna", "--data", str(data)).returncode == 0
    assert rows() == before
    process = serve(data, "--plugin", str(GUEST))
    async with Client(process.url, credential) as anna:
        for job_id in (later, held):
            assert (await anna.call("job.wait", job_id=job_id))["state"] == "succeeded"
        anna.on("client.ask", lambda params: "secret")
        await anna.call("session.get")
        assert (await anna.call("job.wait", job_id=asking))["result"] == 6


def test_the_operator_decides_how_much(tmp_path: Path) -> None:
    """Slots, limits and how long records are kept are settings."""
    settings = Settings.load(data=tmp_path, job_slots=2, job_slots_per_user=1, keep_succeeded_jobs_s=60)
    limits = job_limits(settings)
    assert (limits.slots, limits.per_user, limits.keep_succeeded_s) == (2, 1, 60)


def test_functions_on_the_command_line() -> None:
    """`rpcserver jobs functions` tells lane, doc, what a function takes and answers, and its core calls."""
    found = run_cli("jobs", "functions", "guest.steps", "--plugin", str(GUEST)).stdout
    assert found.splitlines() == [
        "guest.steps  (long)",
        "    Take three steps, and say so.",
        "    takes: text?: string",
        "    answers: integer",
        "    core calls: none",
    ]
    import json

    as_json = json.loads(run_cli("jobs", "functions", "guest.steps", "--json", "--plugin", str(GUEST)).stdout)
    assert (as_json[0]["lane"], as_json[0]["output"]) == ("long", {"type": "integer"})
