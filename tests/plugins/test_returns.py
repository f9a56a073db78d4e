"""Whatever a plugin's hooks, methods, jobs and plays return or raise: an answer in words, and a server that goes on."""

import asyncio
import errno
import math
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from plugins import manager
from plugins.errors import BadPlugin
from plugins.hooks import Hooks
from plugins.manager import Bus
from rpcserver.plugin import Command, Identity, JobError, Move, hookimpl
from tests.builders import Wire, make_place, write_guest
from tests.conftest import run_server

HOOKS = [name for name, member in vars(Hooks).items() if hasattr(member, "rpcserver_spec")]
AT_THE_START = [name for name in HOOKS if name.startswith("register_")]
GUEST = """
from rpcserver.plugin import plays

GIVEN = {}

def given(hook):
    return GIVEN[hook]() if hook in GIVEN else None

@hookimpl
def session_pallet(pallet):
    return given("session_pallet") or [Command("odd.go", "Go")]

@hookimpl
async def session_action(action):
    if action.token_id == "odd.go":
        action.handled = True
        return given("session_action")

@plays("odd.*")
async def play_action(play):
    for action in play.find():
        return given("play_action")

@plays("oddwords.*")
async def words(play):
    for action in play.find():
        play.env = given("words")

@method("odd.now", Nothing)
async def now(call, params):
    return given("method")

@hookimpl
def register_methods():
    return [now]

async def work(job, data):
    return given("job")

@hookimpl
def register_jobs():
    return [job(f"odd.{lane}", Nothing, lane=lane)(work) for lane in ("memory", "local", "long")]
"""
OWN = ("session_pallet", "session_action", "play_action", *AT_THE_START)  # written out above
HOOK = """
@hookimpl
def {name}({params}):
    return given("{name}")
"""


class Unprintable:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __str__ = __repr__
    __hash__ = None  # type: ignore[assignment]


class Wordless(Exception):
    """An error that has no words."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Base(BaseException):
    """An error that is no Exception."""


def _deep(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def _failing() -> Iterator[int]:
    yield 1
    raise ZeroDivisionError


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
RETURNED: tuple[Any, ...] = (
    *(None, 0, 5, True, False, "", "abc", b"x", "\ud800", {"a": ["\ud800"]}, {"\ud800": 1}, {1: 2}, {None: 1}, [], {}),
    *([1, "a", None], {1}, object(), int, math.nan, -math.inf, 10**30, 2**64, "x" * 3_000_000, list(range(100_000))),
    *(_deep(500), _deep(50_000), CIRCLE, Unprintable(), [Unprintable()], {"x": Unprintable()}, "a\0b", "a\nb\x1b[31m"),
    *([Command("odd.go", "Go")] * 2, [Command("", "")], [Command(f"odd.{number}", "x") for number in range(3000)]),
    *(
        [Command("odd.go", "x" * 1_000_000)],
        [Command("odd.x", "x", sort=math.nan)],
        [Command("odd.x", "x", sort=10**400)],
    ),
    *([Command("odd.x", "\ud800")], [Command("odd.x", "\ud800", source="me")], [Command("odd.x", "x", source=5)]),  # type: ignore[arg-type]
    *(
        [Command("odd.x", b"x")],
        [Command(None, "x")],
        [Command("odd.x", "x", accepts=5)],
        [Command("navigation.home", "x")],
    ),  # type: ignore[arg-type]
    *(
        Move(to="x"),
        Identity("zoe"),
        Identity(5),
        Identity("\ud800", may_be_made=True),
        Identity("x" * 10_000, may_be_made=True),
    ),  # type: ignore[arg-type]
    *(Identity("", may_be_made=True), Identity("a/../b\n", may_be_made=True), Identity("anna", scopes=5)),  # type: ignore[arg-type]
    *(Identity("anna", scopes=(5, None)), Identity("anna", expires_at="x"), Identity("anna", expires_at=10**30)),  # type: ignore[arg-type]
    *(Identity("anna", expires_at=math.nan), Identity("anna", label=5), Identity("anna", label="\ud800")),  # type: ignore[arg-type]
)
RAISED: tuple[BaseException, ...] = (
    *(ZeroDivisionError("x"), ValueError("\ud800"), ValueError("x" * 3_000_000), Wordless(), TimeoutError()),
    *(StopIteration(), StopAsyncIteration(), RecursionError(), MemoryError(), AssertionError(), KeyError("x")),
    *(OSError(errno.ENOSPC, "full"), OSError(errno.EMFILE, "many"), OSError(), JobError("words"), JobError("\ud800")),
    *(JobError("x" * 3_000_000), JobError(5), JobError(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()),
    *(Base("x"), ExceptionGroup("x", [ValueError()]), BaseExceptionGroup("x", [Base()])),
)


def _returning(value: Any) -> Callable[[], Any]:
    return lambda: value


def _raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


WHAT = [*map(_returning, RETURNED), *map(_raising, RAISED), _failing]


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_whatever_a_plugin_returns_or_raises(tmp_path: Path, every: int) -> None:
    """Each call is answered, none with an internal error, and the log names the plugin wherever it failed."""
    code = GUEST + "".join(
        HOOK.format(
            name=name,
            params=", ".join(getattr(Hooks, name).__code__.co_varnames[1 : getattr(Hooks, name).__code__.co_argcount]),
        )
        for name in HOOKS
        if name not in OWN
    )
    guest = write_guest(tmp_path, "odd", code)
    settings = {"max_sessions_per_user": 10_000, "calls_per_s_per_user": 0}
    async with run_server(tmp_path / "data", plugins=(guest,), **settings) as server:
        given = sys.modules["rpcserver_plugin_odd"].GIVEN
        anna = await server.client("anna")
        place = await make_place(anna)
        session_id = await anna.create_session(interactive=False)
        wire = await Wire.open(server.url, await server.credential("anna"))

        async def call(method: str, **params: Any) -> list[dict[str, Any]]:
            return [await wire.call(method, params)]

        async def walk() -> list[dict[str, Any]]:
            there = await call("session.cd", session_id=session_id, set_id=place)
            return there + await call("session.cd", session_id=session_id, to="home")

        async def live() -> list[dict[str, Any]]:
            made = await call("session.create", set_id=place)
            for row in (await anna.call("sessions.list", limit=200))["items"]:
                if row["session_id"] != session_id:
                    made += await call("session.destroy", session_id=row["session_id"])
            return made

        async def knock() -> list[dict[str, Any]]:
            stranger = await Wire.open(server.url)
            answers = [await stranger.call("auth.authenticate", {"credential": "of another system"})]
            await stranger.close()
            return answers

        async def jobs() -> list[dict[str, Any]]:
            lanes = ("memory", "local", "long")
            return [
                answer for lane in lanes for answer in await call("job.run", function=f"odd.{lane}", data={}, wait=True)
            ]

        drives: dict[str, Callable[[], Awaitable[list[dict[str, Any]]]]] = {
            "session_pallet": lambda: call("session.ls", session_id=session_id),
            "session_action": lambda: call("session.action", session_id=session_id, token_id="odd.go"),
            "session_ls": lambda: call("session.ls", session_id=session_id),
            "session_get": lambda: call("session.get", session_id=session_id),
            "job_finished": lambda: call("job.run", function="odd.local", data={}, wait=True),
            "play_action": lambda: call("session.play", session_id=session_id, text="!!odd.x"),
            "words": lambda: call("session.play", session_id=session_id, text="!!oddwords.x"),
            "method": lambda: call("odd.now"),
            "authenticate": knock,
            "job": jobs,
            **dict.fromkeys(("set_leaving", "set_entering", "session_entered", "session_left"), walk),
            **dict.fromkeys(("session_create", "session_created", "session_destroyed"), live),
        }
        assert drives.keys() - {"method", "job", "words"} == set(HOOKS) - set(AT_THE_START)
        found = []
        for turn, (hook, drive) in enumerate(drives.items()):
            for number in range(turn % every, len(WHAT), every):
                given[hook] = WHAT[number]
                server.services.bus.breaker.answered(("odd", hook))
                with capture_logs() as lines:
                    async with asyncio.timeout(20):
                        answers = await drive()
                        given.clear()
                        answers += await call("server.ping")
                for error in _errors(answers):
                    if error["code"] == -32603 or len(error["message"]) > 10_000:
                        found.append((hook, number, str(error)[:300]))
                # A job of a plugin that fails is told with its traceback: it is for its author to read.
                events = {line["event"] for line in lines if line["log_level"] in ("error", "critical")}
                if events - ({"job_failed", "job_not_stored"} if hook == "job" else set()) - {"storage_failed"}:
                    found.append((hook, number, str(events)))
    assert found == []


def _errors(answers: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for answer in answers:
        if "error" in answer:
            yield answer["error"]
        elif isinstance(answer["result"], dict):
            for result in answer["result"].get("results") or ():
                if isinstance(result, dict) and result.get("error"):
                    yield result["error"]


@pytest.mark.parametrize("hook", AT_THE_START)
def test_whatever_a_plugin_brings_at_the_start(hook: str) -> None:
    """It is taken, or refused by the plugin's name."""
    takers: dict[str, Callable[[Bus], Any]] = {
        "register_settings": lambda bus: manager.settings(bus, {}),
        "register_methods": lambda bus: manager.methods(bus, ()),
        "register_jobs": lambda bus: manager.jobs(bus, ()),
    }
    for number, what in enumerate(WHAT):

        class Odd:
            pass

        def bring(what: Callable[[], Any] = what) -> Any:
            return what()

        setattr(Odd, hook, staticmethod(hookimpl(bring)))
        bus = Bus(1.0, 1.0)
        bus.register(Odd(), "odd")
        try:
            takers[hook](bus)
        except BadPlugin as error:
            assert "'odd'" in str(error), number
