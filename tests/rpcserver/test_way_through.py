"""One way through: how many jobs, looks, pallets and statements the calls cost that people make most.

Who adds one has to say so here, and in docs/architecture.md.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.functions import session as session_jobs
from jobs.run import Run
from plugins.manager import Bus
from rpcserver.client import CallError, Client
from rpcserver.sessions import views
from store.tx import SqliteTx
from tests.conftest import Running, run_server


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count, from now on, what is done."""
    found: Counter[str] = Counter()

    def count(owner: Any, name: str, what: Callable[..., str]) -> None:
        done = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            found[what(*args, **kwargs)] += 1
            return done(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    for statement in ("one", "all", "run", "many"):
        count(SqliteTx, statement, lambda *_, **__: "statements")
    count(Run, "__init__", lambda run, engine, spec, *_, **__: f"job {spec.name}")
    count(Bus, "pallet", lambda *_: "pallets")
    count(session_jobs, "_list", lambda *_, **__: "looks")
    yield found


@pytest.fixture
async def walker(server: Running) -> tuple[Client, str, str]:
    """A client, a session that has been around, and a set with things in it."""
    anna = await server.client("anna")
    session_id = await anna.create_session("counted")
    hall = await anna.call("core.set.create", name="hall")
    for number in range(3):
        await anna.call("core.token.create", type="note", name=f"note {number}", set_id=hall)
    for way in ({"set_id": hall}, {"to": "home"}):
        await anna.call("session.cd", session_id=session_id, **way)
    await anna.call("session.ls", session_id=session_id)
    return anna, session_id, hall


async def cost(anna: Client, counted: Counter[str], method: str, **params: Any) -> dict[str, int]:
    """Return what one call costs."""
    await anna.call("server.ping")
    counted.clear()
    await anna.call(method, **params)
    return dict(counted)


async def test_what_the_common_calls_cost(walker: tuple[Client, str, str], counted: Counter[str]) -> None:
    """A place is looked at once for an answer; bookmarks, a plugin, ask for theirs."""
    anna, session, hall = walker
    assert await cost(anna, counted, "session.get", session_id=session) == {}
    look = {"job bookmarks.list": 1, "pallets": 1}
    listed = await cost(anna, counted, "session.ls", session_id=session)
    assert listed == {"job session.ls": 1, "looks": 1, **look, "statements": listed["statements"]}
    assert listed["statements"] <= 8
    moved = await cost(anna, counted, "session.cd", session_id=session, set_id=hall)
    assert moved == {"job session.cd": 1, "looks": 1, **look, "statements": moved["statements"]}
    assert moved["statements"] <= 27
    stepped = await cost(anna, counted, "session.cd", session_id=session, to="back")
    assert stepped["looks"] == 1 and stepped["statements"] <= 30


async def test_what_an_action_costs(walker: tuple[Client, str, str], counted: Counter[str]) -> None:
    """The place is looked at to find the command, and once more for the answer: where the session stands then."""
    anna, session, hall = walker
    await anna.call("session.cd", session_id=session, set_id=hall)
    done = await cost(anna, counted, "session.action", session_id=session, token_id="bookmarks.add")
    assert (done["job session.ls"], done["looks"], done["pallets"]) == (2, 2, 2)
    moved = await cost(anna, counted, "session.action", session_id=session, token_id="navigation.home")
    assert (moved["job session.ls"], moved["job session.cd"], moved["looks"], moved["pallets"]) == (1, 1, 2, 2)


async def test_a_place_that_cannot_be_listed_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that would be too long, or fails to be made, leaves session, presence and history as they were."""
    async with run_server(tmp_path / "data", max_response_bytes=400_000) as server:
        anna = await server.client("anna")
        session = await anna.create_session("careful")
        hall = await anna.call("core.set.create", name="hall")
        for way in ({"set_id": hall}, {"to": "home"}):
            await anna.call("session.cd", session_id=session, **way)
        for number in range(8):
            text = {"text": "x" * 60_000}
            await anna.call("core.token.create", type="note", name=f"large {number}", set_id=hall, attributes=text)
        before = await anna.call("session.get", session_id=session, include=["history"])
        heard = await anna.subscribe("session.*")
        for way in ({"set_id": hall}, {"to": "back"}):
            with pytest.raises(CallError) as refused:
                await anna.call("session.cd", session_id=session, **way)
            assert (refused.value.kind, refused.value.code) == ("RESPONSE_TOO_LARGE", -32008)
            assert "ask for less" in str(refused.value)
        with monkeypatch.context() as patch, pytest.raises(CallError):
            patch.setattr(views, "contents", lambda *_: 1 / 0)
            await anna.call("session.cd", session_id=session, set_id=hall)
        assert await anna.call("session.get", session_id=session, include=["history"]) == before
        there = await anna.call("session.ls", session_id=session, set_id=hall, limit=4, kind="user")
        assert there["contents"]["tokens"] == []
        arrived = await anna.call("session.cd", session_id=session, set_id=hall, limit=4)
        assert len(arrived["contents"]["tokens"]) == 4 and arrived["current_set"]["id"] == hall
        told = [(await heard.next()).topic for _ in range(2)]
        assert told == ["session.left", "session.entered"], "nothing was told of what did not happen"
