"""Manual remotes are questions to a person: two doors, one answer, and what becomes of a question without one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.conftest import Running, run_server
from tests.rpcserver.test_places import a_command, a_place, refused
from tests.rpcserver.working import GUEST, start

ADULT = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 18}}, "required": ["age"]}


class Desk:
    """Anna's desk, at which her remote asks her; bob stands before it."""

    def __init__(self, anna: Client, bob: Client, command: str, remote: str, session: str) -> None:
        self.anna, self.bob, self.command, self.remote, self.session = anna, bob, command, remote, session

    @classmethod
    async def open(cls, anna: Client, bob: Client, **definition: Any) -> "Desk":
        """Set it up."""
        set_id, _ = await a_place(anna, "desk")
        definition = {"question": "Can you help?", **definition}
        remote = await anna.call("core.remote.create", name="help", kind="manual", definition=definition)
        command = await a_command(anna, set_id, "Ask", write={"remote": remote}, read={"remote": remote})
        return cls(anna, bob, command, remote, await bob.create_session("visit", set_id=set_id))

    async def press(self, value: Any = None) -> dict[str, Any]:
        """Have bob press the command."""
        response: dict[str, Any] = (await self.bob.action(self.command, self.session, value=value)).response
        return response

    async def ask_id(self) -> str:
        """Return the question as asks.list shows it to anna."""
        asks = (await self.anna.call("asks.list"))["items"]
        assert len(asks) == 1
        return str(asks[0]["ask_id"])

    async def over(self, job_id: str) -> dict[str, Any]:
        """Return bob's job once it has ended."""
        record: dict[str, Any] = await self.bob.call("job.wait", job_id=job_id)
        return record


@pytest.fixture
async def desk(anna: Client, bob: Client) -> Desk:
    """A desk that takes any answer."""
    return await Desk.open(anna, bob)


async def test_the_person_is_asked_at_once_and_the_asker_told(server: Running, desk: Desk) -> None:
    """`client.ask` reaches every connection of hers, in a session or not; her answer is the job's, and is read."""
    asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    tab = await server.client("anna")
    both = asyncio.Event()

    async def never(params: dict[str, Any]) -> Any:
        await asked.put(params)
        both.set()
        await asyncio.Event().wait()

    async def answer(params: dict[str, Any]) -> Any:
        await asked.put(params)
        await both.wait()  # else the question may be taken back before the other hears it
        return "plug it in"

    desk.anna.on("client.ask", never)
    tab.on("client.ask", answer)
    answered = await desk.bob.subscribe("remote.answered")
    pressed = await desk.press("my lamp is dark")
    assert pressed["state"] == "pending"
    first, second = await asked.get(), await asked.get()
    assert first == second and first["text"] == "Can you help?\nbob at Ask: my lamp is dark"
    assert (first["session_id"], first["secret"], first["expires_at"] > 0) == (None, False, True)
    told = (await answered.next()).data
    assert (told["activity_id"], told["state"]) == (pressed["activity_id"], "succeeded")
    record = await desk.over(pressed["job_id"])
    assert (record["state"], record["result"]) == ("succeeded", "plug it in")
    assert (await desk.press())["value"] == "plug it in"
    assert (await desk.anna.call("asks.list"))["items"] == []


async def test_who_comes_later_is_asked_what_is_open(server: Running, desk: Desk) -> None:
    """A connection made after the question, but not one whose credential may not answer."""
    pressed = await desk.press("hello?")
    asked: asyncio.Queue[str] = asyncio.Queue()

    def answering(name: str) -> Any:
        async def handler(params: dict[str, Any]) -> Any:
            await asked.put(name)
            return name

        return handler

    terms = {"label": "reader", "scopes": ["session.*"]}
    limited = (await desk.anna.call("credential.create", **terms))["credential"]
    narrow = Client(server.url, limited)
    narrow.on("client.ask", answering("narrow"))
    async with narrow:
        await narrow.get_session()
        late = Client(server.url, await server.credential("anna"))
        late.on("client.ask", answering("late"))
        async with late:
            assert (await desk.over(pressed["job_id"]))["result"] == "late"
    assert asked.qsize() == 1


async def test_the_first_valid_answer_counts(desk: Desk) -> None:
    """What does not fit the schema is refused; after one was taken, whoever comes later hears that it is over."""
    await desk.anna.call(
        "core.remote.edit", remote_id=desk.remote, definition={"question": "How old?", "schema": ADULT}
    )
    pressed, which = await desk.press("?"), {"ask_id": await desk.ask_id()}
    for wrong in ({"age": 3}, "old", None):
        assert (await refused(desk.anna, "ask.answer", **which, answer=wrong)).kind == "BAD_ANSWER"
    await desk.anna.call("ask.answer", **which, answer={"age": 20})
    await desk.over(pressed["job_id"])
    assert (await refused(desk.anna, "ask.answer", **which, answer={"age": 21})).kind == "ASK_NOT_FOUND"
    assert (await desk.press())["value"] == {"age": 20}


def pressed_id(pressed: dict[str, Any]) -> dict[str, Any]:
    """Return which activity a press began."""
    return {"activity_id": pressed["activity_id"]}


async def test_two_answers_at_once_are_one(server: Running, desk: Desk) -> None:
    """However they race, one is accepted, the other refused, and the accepted one is what the asker gets."""
    tab = await server.client("anna")
    for number in range(5):
        pressed = await desk.press(number)
        ask_id = await desk.ask_id()
        ended = await asyncio.gather(
            desk.anna.call("ask.answer", ask_id=ask_id, answer="first"),
            tab.call("ask.answer", ask_id=ask_id, answer="second"),
            return_exceptions=True,
        )
        refusals = [one for one in ended if isinstance(one, CallError)]
        assert [one.kind for one in refusals] == ["ASK_NOT_FOUND"]
        won = "second" if isinstance(ended[0], CallError) else "first"
        assert (await desk.over(pressed["job_id"]))["result"] == won == (await desk.press())["value"]


async def test_a_decline_is_told_to_the_asker(desk: Desk) -> None:
    """His job fails with it, the attribute stays unknown, and he may ask again."""
    answered = await desk.bob.subscribe("remote.answered")
    pressed = await desk.press("lend me money")
    await desk.anna.call("ask.answer", ask_id=await desk.ask_id(), decline=True)
    assert (await answered.next()).data["state"] == "declined"
    record = await desk.over(pressed["job_id"])
    assert (record["state"], record["error"]["kind"]) == ("failed", "ASK_DECLINED")
    assert (await desk.press())["state"] == "unknown"
    assert (await desk.press("please"))["state"] == "pending"


async def test_a_question_expires(anna: Client, bob: Client) -> None:
    """Nobody having answered in time, it is gone for both, and the asker is told."""
    desk = await Desk.open(anna, bob, timeout_s=1)
    answered = await bob.subscribe("remote.answered")
    pressed, which = await desk.press("quick!"), {"ask_id": await desk.ask_id()}
    assert (await answered.next()).data["state"] == "expired"
    assert (await desk.over(pressed["job_id"]))["error"]["kind"] == "ASK_DECLINED"
    assert (await anna.call("asks.list"))["items"] == []
    assert (await refused(anna, "ask.answer", **which, answer="x")).kind == "ASK_NOT_FOUND"
    assert (await bob.call("core.remote.activity.get", **pressed_id(pressed)))["state"] == "expired"


async def test_an_asker_takes_his_question_back(desk: Desk) -> None:
    """By cancelling the job that waits: the person hears that it is resolved."""
    resolved = await desk.anna.subscribe("ask.resolved")
    pressed = await desk.press("never mind")
    assert await desk.bob.call("job.cancel", job_id=pressed["job_id"])
    assert (await resolved.next()).data["state"] == "cancelled"
    assert (await desk.over(pressed["job_id"]))["state"] == "cancelled"
    assert (await desk.bob.call("core.remote.activity.get", **pressed_id(pressed)))["state"] == "cancelled"
    assert (await desk.press())["state"] == "unknown"


async def test_each_asker_waits_for_his_own_answer(server: Running, desk: Desk) -> None:
    """It is pending for bob; the owner sees that somebody waits; carl has asked nothing, and sees nothing."""
    carl = await server.client("carl")
    read = {"token_id": desk.command, "attribute": "read", "set_id": (await desk.bob.ls(desk.session)).current_set.id}
    pressed = await desk.press("?")
    assert (await refused(desk.bob, "core.attribute.read", **read)).kind == "ATTRIBUTE_PENDING"
    seen = await desk.anna.call("core.attribute.read", **read)
    assert (seen["state"], seen["value"], seen["activity_id"]) == ("pending", None, pressed["activity_id"])
    assert (await carl.call("core.attribute.read", **read))["state"] == "unknown"
    assert (await desk.press("again"))["job_id"] == pressed["job_id"]
    await desk.anna.call("ask.answer", ask_id=await desk.ask_id(), answer=[1, 2])
    await desk.over(pressed["job_id"])
    got = await desk.bob.call("core.attribute.read", **read)
    assert (got["state"], got["value"], got["as_of"] > 0) == ("ok", [1, 2], True)
    assert (await carl.call("core.attribute.read", **read))["state"] == "unknown"


async def test_a_question_survives_a_restart(tmp_path: Path) -> None:
    """Asked before, listed, put to the person and answered after it; the asker's job is the same."""
    async with run_server(tmp_path / "data") as server:
        credentials = [await server.credential(name) for name in ("anna", "bob")]
        desk = await Desk.open(await server.client("anna"), await server.client("bob"))
        pressed = await desk.press("still there?")
        before = (await desk.anna.call("asks.list"))["items"]
    async with run_server(tmp_path / "data") as server:
        asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def never(params: dict[str, Any]) -> Any:
            await asked.put(params)
            await asyncio.Event().wait()

        anna = Client(server.url, credentials[0])
        anna.on("client.ask", never)
        async with anna, Client(server.url, credentials[1]) as bob:
            assert (await asked.get())["ask_id"] == before[0]["ask_id"]
            await anna.call("ask.answer", ask_id=before[0]["ask_id"], answer="yes")
            assert (await bob.call("job.wait", job_id=pressed["job_id"]))["result"] == "yes"
            assert (await bob.action(desk.command, desk.session)).response["value"] == "yes"


async def test_busy_slots_do_not_keep_a_question_back(tmp_path: Path) -> None:
    """While the asker's jobs hold every slot there is, his question is put, answered and over."""
    async with run_server(tmp_path / "data", plugins=(GUEST,)) as server:
        desk = await Desk.open(await server.client("anna"), await server.client("bob"))
        running = [await start(desk.bob, "guest.forever") for _ in range(10)]
        pressed = await desk.press("?")
        await desk.anna.call("ask.answer", ask_id=await desk.ask_id(), answer="!")
        assert (await desk.over(pressed["job_id"]))["result"] == "!"
        assert (await desk.bob.call("job.get", job_id=running[-1]))["state"] == "queued"


async def test_two_tabs_of_an_asker_put_one_question(desk: Desk) -> None:
    """However near together they press, one question waits, and both are told which."""
    which = {"token_id": desk.command, "attribute": "write"}
    pressed = await asyncio.gather(*(desk.bob.call("core.attribute.write", **which, value=n) for n in range(10)))
    assert len({one["activity_id"] for one in pressed}) == 1 and {one["state"] for one in pressed} == {"pending"}
    assert len((await desk.anna.call("asks.list"))["items"]) == 1


async def test_choices_are_the_answers_there_are(anna: Client, bob: Client) -> None:
    """They are shown to the person, and nothing else is taken."""
    desk = await Desk.open(anna, bob, choices=["yes", "no"])
    pressed = await desk.press("may I?")
    assert (await anna.call("asks.list"))["items"][0]["choices"] == ["yes", "no"]
    assert (await refused(anna, "ask.answer", ask_id=await desk.ask_id(), answer="perhaps")).kind == "BAD_ANSWER"
    await anna.call("ask.answer", ask_id=await desk.ask_id(), answer="no")
    assert (await desk.over(pressed["job_id"]))["result"] == "no"


async def test_an_answer_is_bounded(desk: Desk) -> None:
    """One that is too long to be kept is refused, and the question stays open."""
    await desk.press("?")
    which = {"ask_id": await desk.ask_id()}
    assert (await refused(desk.anna, "ask.answer", **which, answer="x" * 20_000)).kind == "BAD_ANSWER"
    assert await desk.anna.call("ask.answer", **which, answer="x" * 10_000)


async def test_a_question_too_long_is_not_put(desk: Desk) -> None:
    """It is refused, and nobody is asked."""
    too_long = {"session_id": desk.session, "token_id": desk.command, "value": "x" * 70_000}
    assert (await refused(desk.bob, "session.action", **too_long)).kind == "BAD_VALUE"
    assert (await desk.anna.call("asks.list"))["items"] == []


async def test_the_owner_of_the_token_may_be_the_one_who_answers(server: Running, anna: Client, bob: Client) -> None:
    """A shared manual remote of anna's asks whoever owns the token it stands behind."""
    carl = await server.client("carl")
    definition = {"question": "Well?", "answered_by": "token_owner"}
    remote = await anna.call("core.remote.create", name="o", kind="manual", definition=definition, is_shared=True)
    hall, _ = await a_place(carl, "hall")
    bell = await a_command(carl, hall, "Ring", write={"remote": remote})
    session = await bob.create_session("visit", set_id=hall)
    await bob.action(bell, session, value="dong")
    assert (await anna.call("asks.list"))["items"] == []
    assert [ask["text"] for ask in (await carl.call("asks.list"))["items"]] == ["Well?\nbob at Ring: dong"]
