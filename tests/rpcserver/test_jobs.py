"""job.*, jobs.*, schedules and approval, over a real socket."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.conftest import Running, run_server
from tests.rpcserver.working import GUEST, kind_of, start


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with the guest."""
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as running:
        yield running


async def test_run_waits_for_the_result(anna: Client) -> None:
    """`job.run` answers with id, state and result, in every lane, and the record agrees."""
    for function, result in (("guest.echo", "hi"), ("guest.steps", 3)):
        answer = await anna.call("job.run", function=function, data={"text": "hi"})
        assert (answer["state"], answer["result"]) == ("succeeded", result)
        record = await anna.call("job.get", job_id=answer["job_id"])
        assert (record["function"], record["state"], record["result"]) == (function, "succeeded", result)
        assert record["attempts"] == 1


async def test_a_wait_that_takes_too_long_answers_with_the_running_job(anna: Client) -> None:
    """Whoever waits longer than he wants is told that the job goes on, and can stop it."""
    answer = await anna.call("job.run", function="guest.forever", timeout_s=0.05)
    assert answer["state"] in ("queued", "running")
    assert (await anna.call("job.wait", job_id=answer["job_id"], timeout_s=0.05))["state"] == "running"
    assert await anna.call("job.cancel", job_id=answer["job_id"]) is True
    assert (await anna.call("job.wait", job_id=answer["job_id"]))["state"] == "cancelled"
    assert await anna.call("job.cancel", job_id=answer["job_id"]) is False


async def test_a_failed_job_is_the_calls_error(anna: Client) -> None:
    """The error names the job, and a retry is a new job that names the old."""
    with pytest.raises(CallError) as caught:
        await anna.call("job.run", function="guest.fails", data={"text": "soup"})
    assert (caught.value.code, caught.value.kind, caught.value.message) == (-32019, "JOB_FAILED", "no soup")
    job_id = caught.value.data["job_id"]
    again = await anna.call("job.retry", job_id=job_id)
    record = await anna.call("job.wait", job_id=again["job_id"])
    assert (record["state"], record["retry_of"], record["error"]["message"]) == ("failed", job_id, "no soup")
    done = await anna.call("job.run", function="guest.echo")
    assert await kind_of(anna.call("job.retry", job_id=done["job_id"])) == "JOB_NOT_FAILED"


async def test_what_cannot_be_run(anna: Client) -> None:
    """Unknown and internal functions, and data that does not fit, are clear errors."""
    assert await kind_of(anna.call("job.run", function="nothing")) == "FUNCTION_NOT_FOUND"
    assert await kind_of(anna.call("job.run", function="import_tree", data={"path": "/"})) == "FUNCTION_NOT_FOUND"
    assert await kind_of(anna.call("job.run", function="guest.echo", data={"text": 5})) == "BAD_JOB_DATA"
    for method in ("job.get", "job.wait", "job.cancel", "job.retry", "job.log", "job.release"):
        assert await kind_of(anna.call(method, job_id="j_unknown")) == "JOB_NOT_FOUND"


async def test_what_is_the_operators_cannot_be_run_as_a_job(anna: Client) -> None:
    """A core call that only the operator may make is no job for users, now or on a schedule."""
    call = {"function": "core.user.create", "data": {"name": "sneaky"}}
    assert await kind_of(anna.call("job.run", **call)) == "FUNCTION_NOT_FOUND"
    assert await kind_of(anna.call("job.schedule", **call, every_s=60)) == "FUNCTION_NOT_FOUND"


async def test_a_job_that_exits_fails_alone(anna: Client) -> None:
    """A guest that calls sys.exit() loses its job, and nothing else."""
    with pytest.raises(CallError) as caught:
        await anna.call("job.run", function="guest.exits")
    assert (caught.value.kind, "ref" in caught.value.data) == ("JOB_FAILED", True)
    assert (await anna.call("job.run", function="guest.echo", data={"text": "still here"}))["result"] == "still here"


async def test_a_commit_that_fails_counts_as_an_error(anna: Client) -> None:
    """Whatever made a job fail, its last transaction included, `jobs.stats` counts it; to others it is nothing."""
    assert await kind_of(anna.call("job.run", function="core.set.delete", data={"set_id": "set_unknown"}))
    counts = {item["function"]: item for item in (await anna.call("jobs.stats"))["items"]}
    assert (counts["core.set.delete"]["runs"], counts["core.set.delete"]["errors"]) == (1, 1)


async def test_nobody_sees_anothers_jobs(anna: Client, bob: Client) -> None:
    """A job of somebody else does not exist, whatever is asked about it."""
    job_id = await start(anna, "guest.forever")
    for method in ("job.get", "job.wait", "job.cancel", "job.retry", "job.log", "job.release"):
        assert await kind_of(bob.call(method, job_id=job_id)) == "JOB_NOT_FOUND"
    assert await bob.list_jobs() == []
    assert (await anna.call("job.get", job_id=job_id))["state"] in ("queued", "running")


async def test_lists_by_state_function_and_session(anna: Client) -> None:
    """`jobs.list` pages, newest first, by what is asked for."""
    session_id = await anna.create_session("work")
    for number in range(5):
        await anna.call("job.run", function="guest.echo", data={"text": str(number)}, session_id=session_id)
    await kind_of(anna.call("job.run", function="guest.fails"))
    page = await anna.call("jobs.list", function="guest.echo", limit=2)
    assert [json.loads(json.dumps(item["result"])) for item in page["items"]] == ["4", "3"]
    assert len(await anna.list_jobs(function="guest.echo", limit=2)) == 5
    assert len(await anna.list_jobs(session_id=session_id, function="guest.echo")) == 5
    assert [job.function for job in await anna.list_jobs(state="failed")] == ["guest.fails"]


async def test_functions_and_counts(anna: Client) -> None:
    """Functions are listed with doc, schema and core calls, and counted."""
    items = {item["name"]: item for item in (await anna.call("jobs.functions"))["items"]}
    assert {"session.create_session", "session.destroy_session", "session.ls", "session.cd"} <= set(items)
    assert "core.set.enter" in items["session.create_session"]["core_calls"]
    assert items["guest.steps"]["doc"] == "Take three steps, and say so."
    assert items["guest.steps"]["input"]["properties"]["text"]["type"] == "string"
    assert items["guest.steps"]["output"] == {"type": "integer"}
    assert items["session.create_session"]["output"]["properties"]["working_set_id"] == {
        "title": "Working Set Id",
        "type": "string",
    }
    assert items["core.set.create"]["output"] == {"type": "string"}
    await anna.call("job.run", function="guest.echo")
    stats = {item["function"]: item for item in (await anna.call("jobs.stats"))["items"]}
    assert stats["guest.echo"]["runs"] == 1


async def test_progress_reaches_caller_and_subscriber(anna: Client) -> None:
    """The caller who waits hears `$/progress`; a subscriber hears started, progress and completed, in order."""
    heard = await anna.subscribe("job.*")
    reports: list[float] = []
    answer = await anna.call(
        "job.run", function="guest.steps", on_progress=lambda done, total, message: reports.append(done)
    )
    assert reports and reports == sorted(reports)
    topics = []
    while "job.completed" not in topics:
        event = await heard.next()
        if event.data["job_id"] == answer["job_id"]:
            topics.append(event.topic)
    assert topics[0] == "job.started" and set(topics[1:-1]) <= {"job.progress"}
    record = await anna.call("job.get", job_id=answer["job_id"])
    assert record["progress"] == {"done": 3, "total": 3, "fraction": 1.0, "message": "step 3"}


async def test_the_log_can_be_followed(anna: Client) -> None:
    """`job.log` gives the lines after a number, and waits for more when asked to."""
    job_id = await start(anna, "guest.forever")
    first = await anna.call("job.log", job_id=job_id, follow=True)
    assert [line["text"] for line in first["lines"]] == ["waiting"]
    following = asyncio.ensure_future(anna.call("job.log", job_id=job_id, after=first["next"], follow=True))
    await anna.call("job.cancel", job_id=job_id)
    last = await following
    assert (last["lines"], last["state"]) == ([], "cancelled")


async def test_the_same_key_is_the_same_job(anna: Client) -> None:
    """A dedup key submits once, however often and in whatever lane; the answer tells the state it has come to."""
    for function in ("guest.forever", "guest.echo", "guest.looks"):
        call = {"function": function, "data": {"text": "x"}, "dedup_key": "k"}
        answers = [await anna.call("job.run", **call, timeout_s=0.2) for _ in range(3)]
        assert len({answer["job_id"] for answer in answers}) == 1
        again = await anna.call("job.run", **call, wait=False)
        assert again == {name: answers[0][name] for name in ("job_id", "state")}
    both = [anna.call("job.run", function="guest.echo", data={"text": "y"}, dedup_key="l") for _ in range(9)]
    assert len({(answer["job_id"], answer["result"]) for answer in await asyncio.gather(*both)}) == 1


async def test_an_action_waits_for_its_job_or_not(anna: Client) -> None:
    """A guest's long job is waited for; detached, the answer has its id at once."""
    waited = await anna.action("guest.steps")
    assert waited.response == {"jobs_guest": 3} and waited.job is not None
    detached = await anna.action("guest.steps", detach=True)
    assert detached.response == {"jobs_guest": {"job_id": detached.job}}
    assert (await anna.call("job.wait", job_id=detached.job))["state"] == "succeeded"


async def test_deferred_jobs_wait_for_their_approver(server: Running, anna: Client, bob: Client) -> None:
    """Long jobs of a deferred user are held until his approver, and nobody else, releases or cancels them."""
    carol = await server.client("carol")
    await server.app.operate("operator.user_defer", name="anna", approver="bob")
    held = await start(anna, "guest.steps")
    refused = await start(anna, "guest.steps")
    assert (await anna.call("job.get", job_id=held))["held"] is True
    assert (await anna.call("job.run", function="guest.echo", data={"text": "x"}))["result"] == "x"
    assert {item["job_id"] for item in (await bob.call("jobs.list", held=True))["items"]} == {held, refused}
    assert await kind_of(carol.call("job.release", job_id=held)) == "JOB_NOT_FOUND"
    assert await kind_of(anna.call("job.release", job_id=held)) == "FORBIDDEN"
    assert await bob.call("job.release", job_id=held) is True
    assert await bob.call("job.cancel", job_id=refused) is True
    assert (await anna.call("job.wait", job_id=held))["state"] == "succeeded"
    assert (await anna.call("job.get", job_id=refused))["state"] == "cancelled"
    await server.app.operate("operator.user_defer", name="anna", approver=None)
    assert (await anna.call("job.run", function="guest.steps"))["state"] == "succeeded"


async def test_held_jobs_stay_held_over_a_restart(tmp_path: Path) -> None:
    """A restart does not let go what somebody has to approve."""
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as server:
        anna, _ = await server.client("anna"), await server.client("bob")
        await server.app.operate("operator.user_defer", name="anna", approver="bob")
        held = await start(anna, "guest.steps")
        credentials = server.credentials
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as server:
        server.credentials.update(credentials)
        anna, bob = await server.client("anna"), await server.client("bob")
        assert (await anna.call("job.get", job_id=held))["held"] is True
        await bob.call("job.release", job_id=held)
        assert (await anna.call("job.wait", job_id=held))["state"] == "succeeded"


async def test_schedules_run_jobs(server: Running, anna: Client, bob: Client) -> None:
    """A schedule runs its function when due; it is listed, private, and can be deleted."""
    heard = await anna.subscribe("job.completed")
    once = await anna.call("job.schedule", function="guest.steps", at=server.clock.now_ms() + 50)
    cron = await anna.call("job.schedule", function="guest.steps", cron="0 7 * * 1", timezone="Europe/Paris")
    every = await anna.call("job.schedule", function="guest.steps", every_s=3600)
    event = await heard.next()
    assert event.data["function"] == "guest.steps"
    items = {item["schedule_id"]: item for item in (await anna.call("schedules.list"))["items"]}
    assert items[once["schedule_id"]]["last_job_id"] == event.data["job_id"]
    assert items[once["schedule_id"]]["next_at"] is None
    monday = items[cron["schedule_id"]]
    assert (monday["cron"], monday["timezone"]) == ("0 7 * * 1", "Europe/Paris")
    assert items[every["schedule_id"]]["next_at"] > server.clock.now_ms()
    assert (await bob.call("schedules.list"))["items"] == []
    assert await kind_of(bob.call("schedule.delete", schedule_id=cron["schedule_id"])) == "SCHEDULE_NOT_FOUND"
    assert await anna.call("schedule.delete", schedule_id=cron["schedule_id"]) is True
    assert len((await anna.call("schedules.list"))["items"]) == 2


@pytest.mark.parametrize(
    "when",
    [
        {"cron": "every day"},
        {"cron": "0 7 * * 1", "timezone": "Nowhere/At_All"},
        {"every_s": 0.001},
        {"at": 1},
        {"cron": "0 0 30 2 *"},
    ],
)
async def test_a_schedule_that_never_comes_is_refused(anna: Client, when: dict[str, Any]) -> None:
    """What is no time, or never comes, is an error when the schedule is made."""
    assert await kind_of(anna.call("job.schedule", function="guest.steps", **when)) == "BAD_SCHEDULE"
    assert await kind_of(anna.call("job.schedule", function="guest.steps")) == "INVALID_PARAMS"


@pytest.mark.parametrize("catch_up", [False, True])
async def test_missed_runs_are_told(tmp_path: Path, catch_up: bool) -> None:
    """Runs that fell due while the server was down are counted and told, and run once if the schedule says so."""
    data = tmp_path / "data"
    async with run_server(data, plugins=(GUEST,)) as server:
        client = await server.client("anna")
        await client.subscribe("schedule.*")  # from now on her events are kept
        made = await client.call("job.schedule", function="guest.steps", every_s=600, catch_up=catch_up)
        credentials = server.credentials
    an_hour = 3600_000
    with closing(sqlite3.connect(data / "rpcserver.db")) as database, database:
        database.execute("UPDATE schedules SET next_at = next_at - ?, created_at = created_at - ?", (an_hour, an_hour))
    async with run_server(data, plugins=(GUEST,)) as server:
        server.credentials.update(credentials)
        client = await server.client("anna")
        item = (await client.call("schedules.list"))["items"][0]
        while item["last_at"] is None:
            item = (await client.call("schedules.list"))["items"][0]
        assert item["schedule_id"] == made["schedule_id"]
        assert item["missed"] in (5, 6)
        assert (item["last_job_id"] is not None) == catch_up
        told = await server.services.store.read(
            lambda tx: tx.all("SELECT data FROM events WHERE topic = 'schedule.missed'")
        )
        assert json.loads(told[0][0])["missed"] == item["missed"]
