"""A play whose server is killed goes on with the first action not done, and asks nothing twice."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from rpcserver.client import Client
from tests.builders import write_guest
from tests.conftest import Process, run_cli

MARK = """
    from pathlib import Path
    from rpcserver.plugin import Play, plays

    @plays("mark.*")
    async def mark(play: Play):
        for action in play.find("mark.*"):
            path = Path(action.params.get("path"))
            with path.open("a") as file:
                file.write(action.params.get_default("text", "") + "\\n")
            if action.name == "hang" and len(path.read_text().split("hang")) == 2:
                play.log("it hangs")
                await asyncio.Event().wait()
            return action.params.get_default("text", "")
"""
TEXT = """
!!mark.line path:{path} text:one
!!play.ask question:'first?' as:FIRST
!!mark.line path:{path} text:'after {{FIRST}}'
!!mark.hang path:{path} text:hang
!!play.ask question:'second?' as:SECOND
!!mark.line path:{path} text:'end {{FIRST}} {{SECOND}}'
"""


def test_a_killed_server_goes_on_with_the_first_action_not_done(serve: Callable[..., Process], tmp_path: Path) -> None:
    """kill -9 while the fourth of six actions runs: the first three are not played again, their answers are kept."""
    guest, marks = write_guest(tmp_path, "marks", MARK), tmp_path / "marks.txt"
    data = tmp_path / "data"
    credential = run_cli("user", "add", "anna", "--data", str(data)).stdout.strip()
    process = serve(data, "--plugin", str(guest))
    session_id, job_id = asyncio.run(_until_it_hangs(process, credential, TEXT.format(path=marks)))
    process.stop(signal.SIGKILL)
    assert marks.read_text().splitlines() == ["one", "after red", "hang"]
    again = serve(data, "--plugin", str(guest))
    result = asyncio.run(_to_the_end(again, credential, session_id, job_id))
    assert marks.read_text().splitlines() == ["one", "after red", "hang", "hang", "end red blue"]
    assert (result["done"], result["failed"], result["left"]) == (6, 0, 0)
    assert [item["number"] for item in result["results"]] == [1, 2, 3, 4, 5, 6]
    assert again.stop() == 0


async def _until_it_hangs(process: Process, credential: str, text: str) -> tuple[str, str]:
    async with Client(process.url, credential) as client:
        notices = await client.subscribe("playbook.action", "ask.opened")
        session_id = await client.create_session("resumed")
        started = await client.call("session.play", session_id=session_id, text=text, detach=True)
        while True:
            event = await notices.next(20)
            if event.topic == "ask.opened":
                await client.call("ask.answer", ask_id=event.data["ask_id"], answer="red")
            elif event.data["action"] == "mark.hang":
                await _said(client, started["job_id"], "it hangs")
                return session_id, started["job_id"]


async def _said(client: Client, job_id: str, text: str) -> None:
    """Follow a job's log until it says something."""
    after = 0
    async with asyncio.timeout(20):
        while True:
            page = await client.call("job.log", job_id=job_id, after=after, follow=True, timeout_s=20.0)
            if any(line["text"] == text for line in page["lines"]):
                return
            after = page["next"]


async def _to_the_end(process: Process, credential: str, session_id: str, job_id: str) -> dict[str, int]:
    async with Client(process.url, credential) as client:
        notices = await client.subscribe("ask.opened")
        asks = (await client.call("asks.list"))["items"]
        ask = asks[0] if asks else (await notices.next(20)).data
        assert ask["text"] == "second?"
        await client.call("ask.answer", ask_id=ask["ask_id"], answer="blue")
        record = await client.call("job.wait", job_id=job_id)
        assert (record["state"], record["attempts"]) == ("succeeded", 2), record
        found = await client.call("session.playbook_find", session_id=session_id, filter="", include_done=True)
        assert {item["state"] for item in found["items"]} == {"done"}
        result: dict[str, int] = record["result"]
        return result
