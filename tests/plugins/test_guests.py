"""Guests: what they add, and that none of them can do harm to the others."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.errors import BadPlugin
from plugins.hooks import hookimpl
from plugins.manager import Bus
from rpcserver.client import CallError, Client
from rpcserver.plugin import Command
from tests.builders import dump, make_place, write_guest
from tests.conftest import Running, run_server

OFFER = """
@hookimpl
def session_pallet(pallet):
    return [Command("{name}.go", "Go")]
"""
WELL = """
@hookimpl
def session_pallet(pallet):
    return [Command("well.ask", "Ask", "value: anything", "json")]

@hookimpl
async def session_action(action):
    if action.token_id == "well.ask":
        action.handled = True
        return {"heard": action.value, "before": sorted(action.response)}
"""


async def with_guests(tmp_path: Path, test: Callable[[Running, Client], Awaitable[None]], **guests: str) -> None:
    """Run a server with these guests, in this order, and a test on it."""
    files = tuple(write_guest(tmp_path, name, code) for name, code in guests.items())
    async with run_server(tmp_path / "data", plugins=files, filter_timeout_s=0.2, action_timeout_s=0.2) as server:
        await test(server, await server.client("anna"))


async def commands(client: Client, **params: Any) -> list[str]:
    """Return the ids of the commands offered."""
    return [command.id for command in (await client.ls(**params)).commands or ()]


async def test_a_command_runs_a_job_and_its_answer_stands_under_the_guests_name(tmp_path: Path) -> None:
    """A one-file guest adds a command whose action starts a job and waits for it."""
    guest = """
    class Names(BaseModel):
        set_id: str

    @job("counter.count", Names, calls=["core.set.read"])
    async def count(job, data):
        page = await job.read(lambda core: core.named("core.set.read", set_id=data.set_id, limit=200))
        return {"count": len(page.entries)}

    @hookimpl
    def register_jobs():
        return [count]

    @hookimpl
    def session_pallet(pallet):
        return [Command("counter.count", "Count", "what stands here")]

    @hookimpl
    async def session_action(action):
        if action.token_id == "counter.count":
            action.handled = True
            return await action.run("counter.count", {"set_id": action.session.working_set_id})
    """

    async def test(server: Running, anna: Client) -> None:
        answer = await anna.action("counter.count")
        listed = (await anna.ls()).contents
        assert listed is not None
        assert answer.handled_by == "counter"
        assert answer.response["counter"]["count"] >= len(listed.tokens) > 0
        done = [job for job in await anna.list_jobs() if job.function == "counter.count"]
        assert [job.state for job in done] == ["succeeded"]

    await with_guests(tmp_path, test, counter=guest)


BAD_ACTION = OFFER.format(name="bad") + "\n@hookimpl\nasync def session_action(action):\n    {}\n"
BAD_PALLET = "@hookimpl\nasync def session_pallet(pallet):\n    {}\n"

PALLETS = {
    "raises": "raise ZeroDivisionError('secret')",
    "hangs": "await asyncio.Event().wait()",
    "returns a number": "return 5",
    "returns text": "return 'abc'",
    "returns a list of rubbish": "return [Command('bad.x', 'x'), 5]",
    "returns a command without an id": "return [Command(None, 'x')]",
    "returns a command with a rubbish sort": "return [Command('bad.x', 'x', sort='first')]",
    "returns a command nobody can print": "return [Command('bad.x', '\\ud800')]",
    "returns a command that is no JSON": "return [Command('bad.x', 'x', description=object())]",
    "puts rubbish into the list": "pallet.commands.append('rubbish')",
    "throws the list away": "pallet.commands = None",
}


@pytest.mark.parametrize("body", PALLETS.values(), ids=PALLETS.keys())
async def test_a_guest_that_fails_is_left_out_of_the_pallet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str
) -> None:
    """What the others offer is there all the same, and the log names the guest."""

    async def test(server: Running, anna: Client) -> None:
        offered = await commands(anna)
        assert "well.ask" in offered and "bookmarks.add" in offered and "bad.x" not in offered
        assert (await anna.action("well.ask", value=3)).response["well"]["heard"] == 3

    await with_guests(tmp_path, test, bad=BAD_PALLET.format(body), well=WELL)
    logged = "".join(capsys.readouterr())
    assert "plugin_failed" in logged and "bad" in logged


ACTIONS = {
    "raises": ("raise ZeroDivisionError('secret')", "PLUGIN_ERROR"),
    "hangs": ("await asyncio.Event().wait()", "PLUGIN_ERROR"),
    "hangs after it claimed": ("action.handled = True; await asyncio.Event().wait()", "PLUGIN_ERROR"),
    "does nothing": ("pass", "PLUGIN_ERROR"),
    "answers what is no JSON": ("action.handled = True; return object()", "PLUGIN_ERROR"),
    "answers what nobody can print": ("action.handled = True; return '\\ud800'", "PLUGIN_ERROR"),
    "moves nowhere": ("action.handled = True; action.move = 'home'", "PLUGIN_ERROR"),
    "runs an unknown job": ("await action.run('no.such', {})", "FUNCTION_NOT_FOUND"),
    "says why not": ("raise JobError('The well is dry.')", "JOB_FAILED"),
    "says what nobody can print": ("raise JobError('\\ud800')", "JOB_FAILED"),
}


@pytest.mark.parametrize(("body", "kind"), ACTIONS.values(), ids=ACTIONS.keys())
async def test_a_guest_that_fails_its_action_is_named(tmp_path: Path, body: str, kind: str) -> None:
    """The error names the guest and not what it raised; nothing moved, and the server goes on."""

    async def test(server: Running, anna: Client) -> None:
        await anna.ls()
        before = await dump(server.services.store)
        with pytest.raises(CallError) as caught:
            await anna.action("bad.go")
        assert (caught.value.kind, caught.value.data["plugin"]) == (kind, "bad")
        assert "secret" not in str(caught.value.as_dict())
        assert await dump(server.services.store) == before
        assert (await anna.action("well.ask")).handled_by == "well"

    await with_guests(tmp_path, test, bad=BAD_ACTION.format(body), well=WELL)


async def test_a_guest_that_only_listens_cannot_spoil_the_answer(tmp_path: Path) -> None:
    """Whoever handled the action has answered; a listener that fails is told of under its name."""
    listener = "@hookimpl\nasync def session_action(action):\n    raise ZeroDivisionError('secret')\n"

    async def test(server: Running, anna: Client) -> None:
        answer = await anna.action("well.ask", value=[1])
        assert answer.handled_by == "well"
        assert answer.response["well"] == {"heard": [1], "before": ["early"]}
        assert set(answer.response) == {"early", "well", "late"}
        assert "secret" not in str(answer.response)

    await with_guests(tmp_path, test, early=listener, well=WELL, late=listener)


async def test_the_first_to_claim_an_action_moves_the_session(tmp_path: Path) -> None:
    """A later guest adds to the answer, and has no effects."""
    first = OFFER.format(name="first") + (
        "\n@hookimpl\ndef session_action(action):\n"
        "    if action.token_id == 'first.go':\n        action.handled = True\n        return 'stay'\n"
    )
    second = "@hookimpl\ndef session_action(action):\n    action.handled = True\n    action.move = Move(to='home')\n"

    async def test(server: Running, anna: Client) -> None:
        shelf = await make_place(anna)
        await anna.cd(set_id=shelf)
        answer = await anna.action("first.go")
        assert (answer.handled_by, answer.listing) == ("first", None)
        assert (await anna.ls()).current_set.id == shelf

    await with_guests(tmp_path, test, first=first, second=second)


@pytest.mark.parametrize(
    ("hook", "kind"), [("set_leaving", "LEAVE_REFUSED"), ("set_entering", "ENTER_REFUSED")], ids=["leaving", "entering"]
)
async def test_a_guard_refuses_and_everything_stays(tmp_path: Path, hook: str, kind: str) -> None:
    """The error says who refused and why; sets, session, history and memberships are as before."""
    guard = f"@hookimpl\nasync def {hook}(passage):\n    return 'The door is shut.'\n"

    async def test(server: Running, anna: Client) -> None:
        home, shelf = await anna.ls(), await make_place(anna)
        before = await dump(server.services.store)
        for attempt in (anna.cd(path="shelf"), anna.cd(set_id=shelf)):
            with pytest.raises(CallError) as caught:
                await attempt
            assert caught.value.kind == kind
            assert caught.value.data["rule"] == "porter"
            assert "The door is shut." in caught.value.message
        assert await dump(server.services.store) == before
        assert (await anna.cd(set_id=home.current_set.id)).current_set.id == home.current_set.id

    await with_guests(tmp_path, test, porter=guard)


async def test_no_guard_keeps_a_frozen_user_from_going_home(tmp_path: Path) -> None:
    """What is under way when he is frozen may still take him home, whatever guests say."""
    guard = "@hookimpl\nasync def set_leaving(passage):\n    return 'Stay.'\n"

    async def test(server: Running, anna: Client) -> None:
        out = await anna.create_session("out", set_id=await make_place(anna))
        with pytest.raises(CallError):
            await anna.cd(out, to="home")
        await server.services.store.write(lambda tx: tx.run("UPDATE users SET is_frozen = 1"))
        assert (await anna.cd(out, to="home")).current_set.set_name == "anna's home"

    await with_guests(tmp_path, test, porter=guard)


GUARDS = {"raises": "raise ZeroDivisionError('secret')", "hangs": "await asyncio.Event().wait()"}


async def test_a_guard_is_asked_when_a_session_starts_elsewhere_than_home(tmp_path: Path) -> None:
    """No session is made in a set whose guard refuses, and none is left behind."""
    guard = "@hookimpl\ndef set_entering(passage):\n    assert passage.from_set_id is None\n    return 'shut'\n"

    async def test(server: Running, anna: Client) -> None:
        shelf = await make_place(anna)
        before = await anna.list_sessions()
        with pytest.raises(CallError) as caught:
            await anna.create_session("there", set_id=shelf)
        assert (caught.value.kind, caught.value.data["rule"]) == ("ENTER_REFUSED", "porter")
        assert await anna.list_sessions() == before

    await with_guests(tmp_path, test, porter=guard)


@pytest.mark.parametrize("body", GUARDS.values(), ids=GUARDS.keys())
async def test_a_guard_that_fails_refuses(tmp_path: Path, body: str) -> None:
    """A door whose keeper is out of his mind stays shut, and he is named."""
    guard = f"@hookimpl\nasync def set_entering(passage):\n    {body}\n"

    async def test(server: Running, anna: Client) -> None:
        await anna.ls()
        before = await dump(server.services.store)
        with pytest.raises(CallError) as caught:
            await anna.cd(path="sessions")
        assert (caught.value.kind, caught.value.data["plugin"]) == ("PLUGIN_ERROR", "porter")
        assert await dump(server.services.store) == before

    await with_guests(tmp_path, test, porter=guard)


async def test_a_refusal_nobody_can_print_does_not_stop_the_server(tmp_path: Path) -> None:
    """A lone surrogate in a message is escaped, and the next call is answered."""
    guard = "@hookimpl\nasync def set_entering(passage):\n    return '\\ud800'\n"

    async def test(server: Running, anna: Client) -> None:
        with pytest.raises(CallError) as caught:
            await anna.cd(path="sessions")
        assert caught.value.kind == "ENTER_REFUSED"
        assert await anna.call("server.ping") == "pong"

    await with_guests(tmp_path, test, porter=guard)


async def test_the_time_budget_is_the_guests_own(tmp_path: Path) -> None:
    """Three guests that hang cost three budgets, not for ever, and others are served meanwhile."""
    hang = BAD_PALLET.format("await asyncio.Event().wait()")

    async def test(server: Running, anna: Client) -> None:
        bob = await server.client("bob")
        start = time.monotonic()
        waiting = anna.send("session.ls", {})
        assert await bob.call("server.ping") == "pong"
        assert not waiting.done()
        await waiting
        assert time.monotonic() - start < 2

    await with_guests(tmp_path, test, one=hang, two=hang, three=hang)


class Named:
    """A guest that offers one command, and adds its name to what it sees."""

    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def session_pallet(self, pallet: Any) -> list[Command]:
        """Offer a command named after those before."""
        return [Command(f"{self.name}.x", f"{len(pallet.commands)}")]


async def test_filters_run_in_the_order_of_registration() -> None:
    """Each guest sees what those before it left."""
    from plugins.hooks import Pallet

    bus = Bus(1, 1)
    for name in ("one", "two", "three"):
        bus.register(Named(name), name)
    found = await bus.pallet(Pallet(None, None, None))  # type: ignore[arg-type]
    assert [(command.source, command.name) for command in found] == [("one", "0"), ("two", "1"), ("three", "2")]


BROKEN = {
    "syntax": "def (",
    "import": "import no_such_module",
    "raises": "raise RuntimeError('boom')",
    "unknown hook": "@hookimpl\ndef session_palet(pallet):\n    pass\n",
    "wrong parameter": "@hookimpl\ndef session_pallet(palette):\n    pass\n",
    "jobs that raise": "@hookimpl\ndef register_jobs():\n    raise RuntimeError('boom')\n",
    "jobs that are none": "@hookimpl\ndef register_jobs():\n    return ['rubbish']\n",
    "a job of a taken name": (
        "@job('session.ls', Nothing)\nasync def ls(job, data):\n    pass\n\n"
        "@hookimpl\ndef register_jobs():\n    return [ls]\n"
    ),
}


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN.keys())
async def test_a_bad_guest_is_refused_at_the_door(tmp_path: Path, code: str) -> None:
    """The server does not start, and the message names the guest."""
    guest = write_guest(tmp_path, "crooked", code)
    with pytest.raises(BadPlugin, match="crooked"):
        async with run_server(tmp_path / "data", plugins=(guest,)):
            pass


@pytest.mark.parametrize("name", ["navigation", "missing"])
async def test_a_guest_that_is_not_there_or_takes_a_name(tmp_path: Path, name: str) -> None:
    """A file that does not exist, or one named like a guest of ours."""
    path = tmp_path / f"{name}.py"
    if name == "navigation":
        write_guest(tmp_path, name, "")
    with pytest.raises(BadPlugin, match=name):
        async with run_server(tmp_path / "data", plugins=(path,)):
            pass
