"""Durations by the steady clock, moments by the wall: whatever happens to either, all fires once, and in time.

Each test here is run with the wall clock set forward and back, by seconds, hours and months.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from rpcserver import app
from rpcserver.client import CallError, Client, Disconnected
from tests.builders import Wire, write_guest
from tests.clocks import DAY_S, HOUR_S, MONTH_S, SetClock
from tests.conftest import Process, Running, run_cli, run_server
from tests.rpcserver.working import kind_of

STEPS = {
    "7 s forward": 7.0,
    "7 s back": -7.0,
    "2 h forward": 2 * HOUR_S,
    "2 h back": -2 * HOUR_S,
    "2 months forward": 2 * MONTH_S,
    "2 months back": -2 * MONTH_S,
}
step = pytest.mark.parametrize("step_s", STEPS.values(), ids=STEPS.keys())

GUEST = """
@job("clocks.note", Nothing, lane="long")
async def note(job, data):
    return "noted"

@job("clocks.retried", Nothing, lane="long", retries=1, backoff_s=60)
async def retried(job, data):
    if job.attempt == 1:
        raise RuntimeError("not the first time")
    return "at the second"

@job("clocks.asks", Nothing, lane="long", timeout_s=3600)
async def asks(job, data):
    return await job.ask("Well?", default="nobody", timeout_s=60)

@hookimpl
def register_jobs():
    return [note, retried, asks]
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """What the servers here are started with."""
    return {
        "plugins": (write_guest(tmp_path, "clocks", GUEST),),
        "remote_hosts": ("https://hook.example",),
        "remote_secrets": {"hook": {"text": "secret", "hosts": ["hook.example"]}},
        "expiry_check_s": 0.01,
    }


@pytest.fixture
async def server(tmp_path: Path, clock: SetClock, settings: dict[str, Any]) -> AsyncIterator[Running]:
    """A server with a clock to be set."""
    async with run_server(tmp_path / "data", clock, **settings) as running:
        yield running


async def state_of(client: Client, job_id: str) -> str:
    """Return the state of a job."""
    return str((await client.call("job.get", job_id=job_id))["state"])


async def until_state(client: Client, job_id: str, state: str) -> dict[str, Any]:
    """Return a job's record once it is in a state."""
    async with asyncio.timeout(20):
        while (record := await client.call("job.get", job_id=job_id))["state"] != state:
            pass
    found: dict[str, Any] = record
    return found


@step
async def test_a_delay(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """It is over when its time has passed, not earlier and not later, and is told as the clock is set."""
    job_id = (await anna.call("job.run", function="clocks.note", wait=False, delay_s=60))["job_id"]
    clock.set_by(step_s)
    await clock.looked_at()
    record = await anna.call("job.get", job_id=job_id)
    assert record["state"] == "queued"
    assert record["run_at"] - clock.now_ms() == pytest.approx(60_000, abs=20_000)
    clock.sleep_for(61)
    assert (await anna.call("job.wait", job_id=job_id, timeout_s=20))["result"] == "noted"


@step
async def test_a_retry(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """The pause before it is as long as it was to be."""
    job_id = (await anna.call("job.run", function="clocks.retried", wait=False))["job_id"]
    async with asyncio.timeout(20):
        while (await anna.call("job.get", job_id=job_id))["run_at"] is None:
            pass
    clock.set_by(step_s)
    await clock.looked_at()
    assert await state_of(anna, job_id) == "queued"
    clock.sleep_for(80)
    record = await anna.call("job.wait", job_id=job_id, timeout_s=20)
    assert (record["result"], record["attempts"]) == ("at the second", 2)


@step
async def test_a_question(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """It can be answered for as long as it was to be, and expires then."""
    jobs = [(await anna.call("job.run", function="clocks.asks", wait=False))["job_id"] for _ in range(2)]
    for job_id in jobs:
        await until_state(anna, job_id, "waiting_input")
    clock.set_by(step_s)
    await clock.looked_at()
    asks = {ask["job_id"]: ask for ask in (await anna.call("asks.list"))["items"]}
    assert asks.keys() == set(jobs)
    assert asks[jobs[0]]["expires_at"] - clock.now_ms() == pytest.approx(60_000, abs=20_000)
    await anna.call("ask.answer", ask_id=asks[jobs[0]]["ask_id"], answer="anna")
    assert (await until_state(anna, jobs[0], "succeeded"))["result"] == "anna"
    clock.sleep_for(61)
    assert (await until_state(anna, jobs[1], "succeeded"))["result"] == "nobody"
    assert (await anna.call("asks.list"))["items"] == []


@step
async def test_a_callback(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """It is tried again after its pause, and signed with the time that the wall clock shows."""
    sent: list[dict[str, str]] = []
    statuses = iter((503, 204))

    async def post(url: str, headers: dict[str, str], body: bytes) -> int:
        sent.append(headers)
        return next(statuses)

    server.services.runner.callbacks._post = post
    callback = {"url": "https://hook.example/", "secret": "hook"}
    job_id = (await anna.call("job.run", function="clocks.note", callback=callback))["job_id"]

    async def told(state: str, tries: int) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                found: dict[str, Any] = (await anna.call("job.get", job_id=job_id)).get("callback") or {}
                if (found.get("state"), found.get("tries")) == (state, tries):
                    return found

    waiting = await told("pending", 1)
    assert 0 < waiting["next_at"] - clock.now_ms() < 2_500
    clock.set_by(step_s)
    clock.sleep_for(3)
    await told("delivered", 2)
    times = [int(headers["x-rpcserver-signature"].partition(",")[0].removeprefix("t=")) for headers in sent]
    assert times[1] - times[0] == pytest.approx(step_s + 3, abs=3)


@step
async def test_a_ticket(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """It opens for its half minute, and then no more."""
    tickets = [(await anna.call("auth.ticket"))["ticket"] for _ in range(2)]
    clock.set_by(step_s)
    kinds = []
    for ticket in tickets:
        page = await Wire.open(server.url)
        answer = await page.call("auth.authenticate", {"ticket": ticket})
        kinds.append(answer.get("error", {}).get("data", {}).get("kind"))
        await page.close()
        clock.sleep_for(31)
    assert kinds == [None, "TICKET_SPENT"]


@step
async def test_an_idempotency_key(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """Its answer is kept for a day, and then forgotten."""

    async def created(key: str) -> str:
        return str((await anna.call("session.create", _meta={"idempotency_key": key}))["session_id"])

    async def upkeep() -> None:
        await server.services.store.write(server.services.dispatcher.answers.upkeep)

    first = await created("one")
    clock.set_by(step_s)
    await upkeep()
    assert await created("one") == first
    clock.sleep_for(DAY_S + 60)
    await upkeep()
    assert await created("one") != first


@step
async def test_records_of_jobs(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """A job's record, and with it its dedup key, is kept for its time."""

    async def run() -> str:
        return str((await anna.call("job.run", function="clocks.note", dedup_key="once"))["job_id"])

    first = await run()
    clock.set_by(step_s)
    await clock.looked_at()
    assert await run() == first
    clock.sleep_for(DAY_S + HOUR_S + 60)
    async with asyncio.timeout(20):
        while await anna.list_jobs(function="clocks.note"):
            pass
    assert await run() != first


@step
async def test_events_are_kept_for_who_comes_back(
    server: Running, anna: Client, clock: SetClock, step_s: float
) -> None:
    """Also over months that the clock jumps; a client that was away for longer than they are kept is told so."""
    before = await anna.subscribe("session.created")
    await before.close()
    sessions = [await anna.create_session(name) for name in ("one", "two")]
    clock.set_by(step_s)
    await server.services.events.upkeep()
    sessions.append(await anna.create_session("three"))
    again = await anna.subscribe("session.created", since=(before.epoch, before.seq))
    assert again.recovered
    assert [(await again.next()).data["session_id"] for _ in sessions] == sessions
    await again.close()
    clock.sleep_for(15 * DAY_S)
    await server.services.events.upkeep()
    assert not (await anna.subscribe("session.created", since=(before.epoch, before.seq))).recovered


@step
async def test_an_open_subscription_hears_everything(
    server: Running, anna: Client, clock: SetClock, step_s: float
) -> None:
    """Whatever the clock does between two events, and however long nothing happens."""
    heard = await anna.subscribe("session.created")
    sessions = []
    for number in range(6):
        sessions.append(await anna.create_session(f"number {number}"))
        clock.set_by(step_s if number % 2 else -step_s / 2)
        if number == 3:
            clock.sleep_for(20 * DAY_S)
        await server.services.events.upkeep()
    assert [(await heard.next()).data["session_id"] for _ in sessions] == sessions
    assert heard.gaps == []


@step
async def test_an_allowance_of_calls(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """So many calls in each minute, however the clock is set meanwhile."""
    made = await anna.call("credential.create", label="bot", calls_per_interval=2, interval_s=60)
    bot = await server.connect(made["credential"])
    for _ in range(2):
        await bot.call("session.get")
    clock.set_by(step_s)
    assert await kind_of(bot.call("session.get")) == "CALLS_SPENT_FOR_NOW"
    clock.sleep_for(61)
    await bot.call("session.get")


@step
async def test_what_a_session_remembers(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """It is forgotten after its seconds, and says until when as the clock is set."""
    data_set_id = (await anna.get_session()).session_data

    async def recalled() -> list[Any]:
        found: list[Any] = await anna.call("core.session.recall", data_set_id=data_set_id)
        return found

    await anna.call("core.session.remember", data_set_id=data_set_id, name="offer", value=5, seconds=60)
    clock.set_by(step_s)
    (entry,) = await recalled()
    (token,) = (await anna.get_session(include=["data"])).data or []
    for expires_at in (entry["expires_at"], token["attributes"]["expires_at"]):
        assert expires_at - clock.now_ms() == pytest.approx(60_000, abs=20_000)
    clock.sleep_for(61)
    assert await recalled() == [] and (await anna.get_session(include=["data"])).data == []


@step
async def test_a_credential_ends_at_its_moment(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """Its end is one of the wall clock: it comes with it, and goes with it."""
    made = await anna.call("credential.create", label="bot", expires_in_s=60)
    bot = await Wire.open(server.url, made["credential"])
    clock.set_by(step_s)
    answer = await bot.call("auth.whoami") if step_s < 60 else None
    assert answer is None or answer["result"]["name"] == "anna"
    clock.sleep_for(61 - min(step_s, 60))
    async with asyncio.timeout(20):
        await bot.socket.wait_closed()
    assert bot.socket.close_code == 4401


@step
async def test_a_session_ends_at_its_moment(server: Running, anna: Client, clock: SetClock, step_s: float) -> None:
    """Its end is one of the wall clock, too; set past it, that has to stay so for a minute: it may be set back."""
    session_id = await anna.create_session("short", end="+1h")
    clock.set_by(step_s)
    await clock.looked_at()
    assert (await anna.get_session(session_id)).name == "short"
    clock.sleep_for(max(HOUR_S - step_s, 60) + 1)
    async with asyncio.timeout(20):
        while session_id in {session.session_id for session in await anna.list_sessions()}:
            pass


async def test_a_clock_that_is_ahead_for_a_moment_ends_nothing_for_good(
    server: Running, anna: Client, clock: SetClock
) -> None:
    """What it makes expire is refused while it is ahead, and goes on afterwards; if it stays so, it has expired."""
    made = await anna.call("credential.create", label="bot", expires_in_s=HOUR_S)
    bot = await server.connect(made["credential"])
    every = (await bot.call("job.schedule", function="clocks.note", every_s=600))["schedule_id"]

    async def next_at() -> int | None:
        found: list[int | None] = [row["next_at"] for row in (await anna.call("schedules.list"))["items"]]
        return found[0]

    for is_back in (True, False):
        clock.set_by(2 * MONTH_S)
        await clock.looked_at()
        await server.services.store.write(partial(app.forget_credentials, server.services.settings))
        assert await next_at() is not None
        with pytest.raises((CallError, Disconnected)):
            async with Client(server.url, made["credential"]) as late:
                await late.call("auth.whoami")
        if is_back:
            clock.set_by(-2 * MONTH_S)
            async with Client(server.url, made["credential"]) as again:
                assert (await again.call("auth.whoami"))["credential_id"] == made["credential_id"]
    clock.sleep_for(61)
    async with asyncio.timeout(20):
        while await next_at() is not None:
            pass
    assert (await anna.call("schedules.list"))["items"][0]["schedule_id"] == every


@step
async def test_the_scale_goes_on_after_a_restart(
    tmp_path: Path, clock: SetClock, settings: dict[str, Any], step_s: float
) -> None:
    """What was counted before the clock was set and the server restarted is counted on."""
    async with run_server(tmp_path / "data", clock, **settings) as server:
        anna = await server.client("anna")
        job_id = (await anna.call("job.run", function="clocks.note", wait=False, delay_s=60))["job_id"]
        clock.set_by(step_s)
        credential = await server.credential("anna")
    clock.sleep_for(20)
    async with run_server(tmp_path / "data", clock, **settings) as server:
        anna = await server.connect(credential)
        await clock.looked_at()
        record = await anna.call("job.get", job_id=job_id)
        assert record["state"] == "queued"
        assert record["run_at"] - clock.now_ms() == pytest.approx(40_000, abs=15_000)
        clock.sleep_for(60)
        await until_state(anna, job_id, "succeeded")


async def test_a_clock_that_went_back_while_no_server_ran(
    tmp_path: Path, clock: SetClock, settings: dict[str, Any]
) -> None:
    """A machine that begins in 1970, and learns the date later: nothing waits for fifty years."""
    async with run_server(tmp_path / "data", clock, **settings) as server:
        anna = await server.client("anna")
        job_id = (await anna.call("job.run", function="clocks.note", wait=False, delay_s=60))["job_id"]
        every = (await anna.call("job.schedule", function="clocks.note", every_s=3600))["schedule_id"]
        cron = (await anna.call("job.schedule", function="clocks.note", cron="0 * * * *"))["schedule_id"]
        credential = await server.credential("anna")
    years_s = 50 * 365 * DAY_S
    clock.set_by(-years_s)
    async with run_server(tmp_path / "data", clock, **settings) as server:
        anna = await server.connect(credential)
        await clock.looked_at()
        assert await state_of(anna, job_id) == "queued"
        times = {item["schedule_id"]: item["next_at"] for item in (await anna.call("schedules.list"))["items"]}
        assert all(0 < at - clock.now_ms() <= HOUR_S * 1000 for at in times.values())
        clock.set_by(years_s)
        await clock.looked_at()
        clock.sleep_for(61)
        await until_state(anna, job_id, "succeeded")
        assert times.keys() == {every, cron}


def test_ids_sort_by_age_over_a_restart(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Also when the clock has gone back between one server and the next: what is newest is listed first."""
    guest = write_guest(tmp_path, "later", "import time\ntime_ns = time.time_ns\n" + LATER)
    credential = run_cli("user", "add", "anna", "--data", str(tmp_path / "data")).stdout.strip()
    made = []
    for flags in (("--plugin", str(guest)), ()):
        process = serve(tmp_path / "data", *flags)
        made.append(asyncio.run(note(process.url, credential)))
        assert process.stop() == 0
    assert made == sorted(made)


LATER = "time.time_ns = lambda: time_ns() + 3600 * 10**9\n"


async def note(url: str, credential: str) -> str:
    """Make a session and return its id."""
    async with Client(url, credential) as client:
        return await client.create_session("a name" if not await client.list_sessions() else "another name")


async def test_who_sets_the_clock_is_told_in_the_log(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each time; a machine that slept is no such thing."""
    monkeypatch.setattr(app, "CLOCK_CHECK_S", 0.01)
    with capture_logs() as logs:
        async with run_server(tmp_path / "data", clock):

            async def told(*steps_s: float) -> None:
                async with asyncio.timeout(20):
                    while [entry["by_s"] for entry in logs if entry["event"] == "clock_was_set"] != list(steps_s):
                        await clock.looked_at()

            clock.set_by(7200)
            await told(7200)
            clock.sleep_for(8 * HOUR_S)
            await clock.looked_at()
            clock.set_by(-60)
            await told(7200, -60)
