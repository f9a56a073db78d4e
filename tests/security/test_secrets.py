"""A secret that scripts refer to stands nowhere: in no row, no event, no log line, no answer, and no readable file."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.builders import write_guest
from tests.conftest import Running, run_server

SECRET = 'sword"fish\\é 17'
GUEST = """
    import asyncio
    import json
    from pydantic import BaseModel
    from jobs import JobContext, JobError, job
    from rpcserver.plugin import Play, hookimpl, plays

    class Given(BaseModel):
        password: str
        how: str = ""

    async def leak(job, data):
        job.log(f"trying {data.password}")
        job.progress(1, 2, f"half of {data.password}")
        await asyncio.sleep(0.3)
        if data.how == "refuse":
            raise JobError(f"{data.password} is wrong, and so is {json.dumps(data.password)}")
        if data.how == "break":
            raise ValueError(data.password, repr(data.password))
        if data.how == "ask":
            return await job.ask(f"Is {data.password} right?", default="yes")
        if data.how == "inside":
            return await job.run("guest.local", {"password": data.password})
        return {"said": data.password, data.password: [data.password + "!"]}

    long = job("guest.long", Given, lane="long")(leak)
    local = job("guest.local", Given)(leak)

    @hookimpl
    def register_jobs():
        return [long, local]

    @plays("guest.own")
    async def own(play: Play):
        for action in play.find():
            how = action.params.get_default("how", "")
            play.log(action.params.get("password"))
            if how == "env":
                play.env["leaked"] = action.params.get("password")
            if how == "break":
                raise ValueError(action.params.get("password"))
            if how == "ask":
                return await play.ask("Is it " + action.params.get("password") + "?", default="yes")
            return {"it is": action.params.get("password")}
"""
REF = "{secret:hub}"
HANDED_ON = [
    f"!!play.echo content:'it is {REF}'",
    f"!!guest.own password:'{REF}'",
    f"!!guest.own password:'{REF}' how:break",
    f"!!guest.own password:'{REF}' as:WORD",
    f"!!play.run function:guest.local password:'{REF}'",
    f"!!play.run function:guest.long password:'{REF}' as:WORD",
    f"!!play.run function:guest.long password:'{REF}' how:refuse",
    f"!!play.run function:guest.local password:'{REF}' how:break",
    f"!!play.run function:guest.long password:'{REF}' how:break",
    f"!!play.run function:guest.local password:'{REF}' how:inside",
    f"!!play.run function:guest.long password:'{REF}' how:ask",
    f"!!git.clone url:'https://localhost/{REF}/x' password:'{REF}'",
    f"!!play.run function:'{REF}'",
    f"!!play.wait seconds:'{REF}'",
    f"!!play.wait job:'{REF}'",
]
REFUSED = [
    f"!!guest.own password:'{REF}' how:env",
    f"!!guest.own password:'{REF}' how:ask",
    f"!!session.env_set key:PW val:'{REF}'",
    f"!!session.env_set key:'{REF}' val:x",
    f"!!core.params_session_set pw:'{REF}'",
    f"!!core.params_context_set pw:'x{REF}x'",
    f"!!db.set key:k value:'{REF}'",
    f"!!db.set key:k value:'{REF}' context:1",
    f"!!core.token_create name:safe type:box pw:'{REF}'",
    f"!!core.token_create name:'{REF}' type:box",
    f"!!core.set_create name:'{REF}'",
    f"!!core.session_define name:'{REF}'",
    f"!!session.call method:session.update data:'{{}}' name:'{REF}'",
    f"!!session.call method:job.run function:guest.long data:'{{}}' password:'{REF}'",
    f"!!session.action command:bookmarks.add value:'{REF}'",
    f"!!session.cd path:'{REF}'",
    f"!!play.ask question:'Is it {REF}?' default:yes",
    f"!!play.ask question:'Which?' default:'{REF}'",
    f"!!session.create name:'{REF}'",
    f"!!session.priorities_add nr:10 filter:'{REF}'",
]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Running]:
    """A server with a guest that does its best to give a secret away."""
    guest = write_guest(tmp_path, "guest", GUEST)
    async with run_server(tmp_path / "data", plugins=(guest,), is_log_debug=True) as server:
        yield server


async def told(client: Client, script: str, **about: Any) -> dict[str, Any]:
    """Play a script in a session of its own; return everything anybody could read about it afterwards."""
    session_id = await client.create_session(**about)
    played = await client.call("session.play", session_id=session_id, text=script)
    return {
        "played": played,
        "find": await client.call("session.playbook_find", session_id=session_id, include_done=True),
        "picture": await client.call("session.heroscript", session_id=session_id, show_done=True),
        "session": (await client.get_session(session_id, include=["data", "history", "playbook"])).__dict__,
        "context": await client.call("context.get"),
        "keys": await client.call("session.db.keys", session_id=session_id),
        "jobs": (jobs := (await client.call("jobs.list", limit=200))["items"]),
        "logs": [await client.call("job.log", job_id=job["job_id"]) for job in jobs],
        "asks": await client.call("asks.list"),
        "ls": await client.call("session.ls", session_id=session_id),
        "events": await client.call("events.history", limit=200),
    }


@pytest.mark.parametrize("script", [*HANDED_ON, *REFUSED])
async def test_a_secret_stands_nowhere(
    guarded: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str], script: str
) -> None:
    """Whatever an action does with it: neither rows, files, logs, events nor answers hold it afterwards."""
    client = await guarded.client("anna")
    await client.call("context.db.set", key="hub", value=SECRET, secret=True)
    everything = await told(client, script)
    state = everything["played"]["results"][0]["state"]
    if script in REFUSED:
        assert state == "failed" and "secret" in everything["played"]["results"][0]["error"]["message"], everything
    dump = _dump(tmp_path / "data") + "".join(capfd.readouterr()) + repr(everything) + str(everything)
    for spelling in ('sword"fish', 'sword\\"fish', 'sword\\\\"fish', "fish\\\\", "fish\\é", "sword%22fish"):
        assert spelling not in dump, dump[max(0, dump.find(spelling) - 300) : dump.find(spelling) + 100]


def _dump(data: Path) -> str:
    """Everything in the data folder as text: the rows, and the bytes of every file."""
    with closing(sqlite3.connect(data / "rpcserver.db")) as database:
        rows = "\n".join(database.iterdump())
    return rows + "".join(path.read_bytes().decode("utf-8", "replace") for path in data.rglob("*") if path.is_file())


async def test_a_job_that_was_handed_a_secret_is_not_run_again(guarded: Running) -> None:
    """Its row does not hold what it was handed: trying again is refused, and says what to do."""
    client = await guarded.client("anna")
    await client.call("context.db.set", key="hub", value=SECRET, secret=True)
    everything = await told(client, f"!!play.run function:guest.long password:'{REF}' how:refuse")
    (job_id,) = [job["job_id"] for job in everything["jobs"] if job["function"] == "guest.long"]
    with pytest.raises(CallError) as refused:
        await client.call("job.retry", job_id=job_id)
    assert refused.value.kind == "JOB_DATA_HIDDEN" and "play" in str(refused.value)


async def test_a_job_gets_the_secret_itself(guarded: Running) -> None:
    """What is hidden from everybody else reaches the function it is meant for."""
    client = await guarded.client("anna")
    await client.call("context.db.set", key="hub", value="s3same-open", secret=True)
    played = await client.call("session.play", text=f"!!play.run function:guest.long password:'{REF}'")
    assert played["results"][0]["result"] == {"said": "***", "***": ["***!"]}
