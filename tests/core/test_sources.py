"""Scripts and remotes as rows: who may attach which, and what is told of calls."""

from typing import Any

import pytest

from core import activity, attribute_values, groups, remotes, rules, scripts, sets, tokens
from core.activity import Question, Try
from core.errors import (
    ActivityNotFound,
    BadRemote,
    BadScript,
    GroupNotFound,
    RemoteNotFound,
    ScriptNotFound,
    SourceClosed,
    StillUsed,
    TooMany,
)
from core.remotes import Definition
from tests.core.world import World

URL = Definition(url="https://api.example.com/")
MANUAL = Definition(question="Well?")


def a_remote(world: World, user: str = "anna", name: str = "r", **options: Any) -> str:
    """Return a remote."""
    return world.do(user, remotes.create, name, URL, **options)


def a_script(world: World, user: str = "anna", name: str = "s", **options: Any) -> str:
    """Return a script."""
    return world.do(user, scripts.create, name, "1", **options)


def a_lamp(world: World, user: str, **attributes: Any) -> str:
    """Return a token with attributes, in its owner's home."""
    token = world.do(user, tokens.create, "thing", "lamp", attributes)
    world.do(user, sets.add_tokens, world.home(user), [token])
    return token


def test_what_is_retired_is_used_by_nothing_new(world: World) -> None:
    """What uses it goes on, and its owner may take that back."""
    remote, script = a_remote(world), a_script(world)
    lamp = a_lamp(world, "anna", read={"remote": remote}, write={"script": script})
    world.do("anna", remotes.edit, remote, is_retired=True)
    assert world.do("anna", scripts.edit, script, is_retired=True).is_retired
    for kind, id in (("remote", remote), ("script", script)):
        with pytest.raises(SourceClosed, match="retired"):
            world.do("anna", attribute_values.edit, lamp, "sort", {kind: id})
        with pytest.raises(SourceClosed):
            world.do("anna", rules.create, "set_entering", {"allow": {kind: id}}, token_id=lamp)
    assert world.do("anna", remotes.load, remote, world.users["anna"].id)[0].id == remote
    assert world.do("anna", scripts.load, script, world.users["anna"].id, lamp)[0].id == script
    world.do("anna", remotes.edit, remote, is_retired=False)
    world.do("anna", attribute_values.edit, lamp, "sort", {"remote": remote})


def test_a_remote_of_a_group_is_its_members_alone(world: World) -> None:
    """Members attach it while they are members, even if it is shared; who has left is left without an answer."""
    group = world.do("anna", groups.create, "lamplighters")
    world.do("anna", groups.add, group, world.users["bob"].id)
    remote = a_remote(world, is_shared=True, group_id=group)
    lamp = a_lamp(world, "bob", read={"remote": remote})
    with pytest.raises(RemoteNotFound):
        a_lamp(world, "carl", read={"remote": remote})
    assert world.do("bob", remotes.load, remote, world.users["bob"].id)[0].group_id == group
    world.do("bob", groups.remove, group, world.users["bob"].id)
    with pytest.raises(RemoteNotFound):
        world.do("bob", remotes.load, remote, world.users["bob"].id)
    with pytest.raises(StillUsed):
        world.do("anna", groups.delete, group)
    assert world.do("anna", remotes.edit, remote, group_id="").group_id is None
    world.do("bob", attribute_values.edit, lamp, "sort", {"remote": remote})
    world.do("anna", groups.delete, group)
    with pytest.raises(GroupNotFound):
        a_remote(world, name="other", group_id=group)


@pytest.mark.parametrize("wrong", [{"cool_down_s": -1}, {"extra_params": {"x": "y" * 20_000}}, {"cool_down_s": 1e9}])
def test_a_script_that_makes_no_sense_is_refused(world: World, wrong: dict[str, Any]) -> None:
    """When it is made, and when it is changed."""
    with pytest.raises(BadScript):
        a_script(world, **wrong)
    script = a_script(world)
    with pytest.raises(BadScript):
        world.do("anna", scripts.edit, script, **wrong)


def test_what_is_passed_on_was_answered_before(world: World) -> None:
    """An attribute that a script or remote answers goes along with its last answer to this caller, or not at all."""
    remote, script = a_remote(world), a_script(world)
    lamp = a_lamp(world, "anna", size=7, read={"remote": remote}, write={"script": script}, x={"value": {"a": 1}})
    look = world.do("anna", attribute_values.look_behind, lamp, "read")
    assert (look.attributes, look.type, look.owner_name, look.earlier_at) == (
        {"size": 7, "x": {"a": 1}},
        "thing",
        "anna",
        None,
    )
    world.do("anna", attribute_values.keep_answer, lamp, f"remote:{remote}", "lit")
    assert world.do("anna", attribute_values.look_behind, lamp, "write").attributes == {
        "size": 7,
        "x": {"a": 1},
        "read": "lit",
    }


def ask(world: World, remote: str, lamp: str, asker: str = "bob", answerer: str = "anna", number: int = 1) -> str:
    """Put a question, and return its activity."""
    question = Question(remote, lamp, f"remote:{remote}", world.users[answerer].id, {"text": "Well?"}, 600)
    activity_id = f"ra_{asker}_{number:03}"
    world.do(asker, activity.ask, activity_id, question, f"j_{number}", f"a_{number}")
    return activity_id


def test_calls_are_listed_by_state(world: World) -> None:
    """Every try with its status and time, for the remote's owner; of questions, those one is to answer."""
    remote = a_remote(world)
    tries = [Try("failed", 503, 12, 1000), Try("succeeded", 200, 7, 2000), Try("cached", 200, 0, 3000)]
    world.do("bob", activity.note, remote, None, tries)
    listed, _ = world.do("anna", activity.list_, remote)
    assert [(one.state, one.code, one.created_at, one.finished_at) for one in listed] == [
        ("cached", 200, 3000, 3000),
        ("succeeded", 200, 2000, 2007),
        ("failed", 503, 1000, 1012),
    ]
    failed, _ = world.do("anna", activity.list_, remote, "failed")
    assert [one.code for one in failed] == [503]
    with pytest.raises(RemoteNotFound):
        world.do("bob", activity.list_, remote)
    lamp = a_lamp(world, "anna")
    asked = ask(world, remote, lamp)
    assert [one.id for one in world.do("anna", activity.list_)[0]] == [asked]
    assert world.do("bob", activity.list_)[0] == []
    world.do("anna", activity.settle, asked, "declined")
    assert world.do("anna", activity.list_)[0] == []
    assert [one.id for one in world.do("anna", activity.list_, None, "declined")[0]] == [asked]


def test_a_question_is_settled_once(world: World) -> None:
    """The first end counts; the asker alone knows the answer; the question is gone with it."""
    remote = a_remote(world)
    lamp = a_lamp(world, "anna")
    asked = ask(world, remote, lamp)
    assert world.do("anna", activity.get, asked).question == {"text": "Well?"}
    assert world.do("bob", activity.get, asked).question is None
    with pytest.raises(ActivityNotFound):
        world.do("carl", activity.get, asked)
    assert world.do("bob", activity.waiting, lamp, f"remote:{remote}") is not None
    assert world.do("carl", activity.waiting, lamp, f"remote:{remote}") is None
    assert world.do("anna", activity.waiting, lamp, f"remote:{remote}", is_of_all=True) is not None
    for state, answer in (("succeeded", "yes"), ("expired", None), ("succeeded", "no")):
        settled = world.do("anna", activity.settle, asked, state, answer)
        assert settled is not None and (settled.state, settled.question) == ("succeeded", None)
    assert attribute_values.last_answer(world.tx, lamp, f"remote:{remote}", world.users["bob"].id)[0] == "yes"  # type: ignore[index]
    assert world.do("anna", activity.settle, "ra_none", "expired") is None


def test_so_many_questions_of_one_asker_wait(world: World) -> None:
    """His hundredth waits, his next is refused; others ask on."""
    remote, lamp = a_remote(world), a_lamp(world, "anna")
    for number in range(activity.MAX_WAITING):
        ask(world, remote, lamp, number=number)
    with pytest.raises(TooMany, match="job.cancel"):
        ask(world, remote, lamp, number=999)
    ask(world, remote, lamp, asker="carl")


def test_unknown_scripts_stay_unknown(world: World) -> None:
    """Another's script that is not shared is not there, whatever it is called."""
    script = a_script(world)
    with pytest.raises(ScriptNotFound):
        a_lamp(world, "bob", read={"script": script})


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": {"type": "string", "pattern": "(a+)+$"}},
        {"schema": {"$ref": "http://169.254.169.254/"}},
        {"schema": {"type": "nothing"}},
        {"schema": {"properties": {"a": {"uniqueItems": True}}}},
        {"schema": {"enum": ["x" * 5000]}},
        {"choices": []},
        {"timeout_s": 0},
    ],
)
def test_a_manual_remote_that_makes_no_sense_is_refused(world: World, wrong: dict[str, Any]) -> None:
    """A schema that would take for ever or fetch something, no choices, no time."""
    with pytest.raises(BadRemote):
        world.do("anna", remotes.create, "ask", Definition(question="Well?", **wrong), "manual")
    good = Definition(question="Well?", schema={"type": "object", "properties": {"pattern": {"type": "string"}}})
    assert world.do("anna", remotes.create, "ask", good, "manual").startswith("rm_")
