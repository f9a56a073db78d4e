"""What belongs to somebody else is not there."""

from typing import Any

import pytest

from rpcserver.client import CallError, Client
from rpcserver.methods import METHODS
from tests.builders import dump
from tests.conftest import Running

NEEDS: dict[str, dict[str, Any]] = {
    "session.cd": {"to": "home"},
    "session.action": {"token_id": "navigation.home"},
    "session.update": {"name": "mine now"},
    "session.playbook_add": {"text": "!!a.b"},
    "session.playbook_priorities_add": {"priorities": {"1": "a.*"}},
    "session.db.get": {"key": "k"},
    "session.db.set": {"key": "k", "value": "v"},
    "session.db.delete": {"key": "k"},
    "session.db.exists": {"key": "k"},
    "job.run": {"function": "bookmarks.list", "data": {"home_set_id": "x"}},
    "job.schedule": {"function": "bookmarks.list", "data": {"home_set_id": "x"}, "every_s": 3600},
}
WITH_SESSION = [method.name for method in METHODS if "session_id" in method.params.model_fields]


@pytest.mark.parametrize("name", WITH_SESSION)
async def test_a_session_of_another(server: Running, anna: Client, bob: Client, name: str) -> None:
    """Every method that takes a session answers alike for one of another user and for one that never was."""
    theirs = await anna.create_session("private")
    before = await dump(server.services.store)
    answers = []
    for session_id in (theirs, "s_never"):
        try:
            answers.append(await bob.call(name, session_id=session_id, **NEEDS.get(name, {})))
        except CallError as error:
            assert error.code == -32004
            answers.append(str(error).replace(session_id, "it"))
    assert answers[0] == answers[1]
    assert await dump(server.services.store) == before


async def test_a_set_of_another(server: Running, anna: Client, bob: Client) -> None:
    """A private set cannot be listed, entered, started in or found by a path."""
    home = (await anna.ls()).current_set.id
    await bob.ls()
    before = await dump(server.services.store)
    for method, params in (
        ("session.ls", {"set_id": home}),
        ("session.cd", {"set_id": home}),
        ("session.create", {"set_id": home}),
        ("session.cd", {"path": "anna's home"}),
    ):
        with pytest.raises(CallError) as caught:
            await bob.call(method, **params)
        assert caught.value.kind == "SET_NOT_FOUND"
    assert await dump(server.services.store) == before


async def test_a_job_of_another(anna: Client, bob: Client) -> None:
    """A job is its owner's to see."""
    await anna.create_session("mine")
    (job, *_) = await anna.list_jobs()
    assert (await anna.call("job.get", job_id=job.job_id))["state"] == "succeeded"
    assert await bob.list_jobs() == []
    with pytest.raises(CallError) as caught:
        await bob.call("job.get", job_id=job.job_id)
    assert caught.value.kind == "JOB_NOT_FOUND"


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE sessions; --", "%' OR 1=1 --", "\\\\%s", "\u202ename", "a\u2028b", "a" * 120]
)
async def test_hostile_text_is_only_text(anna: Client, text: str) -> None:
    """A name is a name, a filter a filter, whatever it looks like; what is no plain line is refused as a name."""
    if set(text) & set("\\\u202e\u2028"):
        with pytest.raises(CallError) as refused:
            await anna.create_session(text)
        assert refused.value.kind == "INVALID_PARAMS"
    session_id = await anna.create_session("plain" if set(text) & set("\\\u202e\u2028") else text)
    listing = await anna.ls(session_id, filter=text)
    assert listing.contents is not None and listing.contents.tokens == []
    with pytest.raises(CallError) as caught:
        await anna.cd(session_id, path=text)
    assert caught.value.kind == "SET_NOT_FOUND"
