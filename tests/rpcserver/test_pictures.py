"""A session as heroscript: played, the text makes the session and its playbook again."""

import pytest

from rpcserver.client import CallError, Client

PICTURE = """
!!core.set_create name:library public:true
!!session.cd path:library
!!play.echo content:'two words' // why
"""


async def test_the_picture_of_a_session_makes_it_again(anna: Client, bob: Client) -> None:
    """Played in another session, session.heroscript gives an equal session with an equal playbook."""
    await anna.call("context.update", params={"region": "eu"}, coderoot="work")
    params = {"plain": "one", "two words": "x", "deep": {"a": [1, None]}}
    first = await anna.create_session("first", params=params, start="2026-01-02 03:04:05", interactive=False)
    await anna.call("session.play", session_id=first, text=PICTURE, filter="core.*,session.*")
    await anna.call("session.play", session_id=first, text="!!session.env_set key:K val:'a\\'b'", filter="session.*")
    await anna.call("session.playbook_priorities_add", session_id=first, priorities={"7": "play.*,git.*"})
    picture = await anna.call("session.heroscript", session_id=first)
    assert "!!play.echo" in picture and "path:'~/library'" in picture and "set_create" not in picture
    record = await anna.get_session(first)
    await anna.destroy_session(first)
    second = await anna.create_session(playbook_text=picture)
    played = await anna.call("session.play", session_id=second, filter="core.*,session.*")
    assert played["failed"] == 0, played
    again = await anna.get_session(second)
    for name in ("name", "params", "start", "interactive", "working_set", "options", "context_name"):
        assert getattr(again, name) == getattr(record, name), name
    assert _unnumbered(await anna.call("session.heroscript", session_id=second)) == _unnumbered(picture)
    assert (await anna.call("context.get"))["coderoot"] == "work"


ELSEWHERE = """
!!core.set_create name:bed public:true
!!session.cd path:bed
!!session.env_set key:WORD val:'two words'
!!session.ls
!!play.echo content:'{WORD} in {season}' // why
!!db.set key:k value:v
"""


async def test_a_picture_makes_its_context_again_wherever_it_is_played(anna: Client, bob: Client) -> None:
    """In a fresh session of another context, and for another user: the session goes to the picture's context first."""
    season = {"season": "spring", "n": 5}
    await anna.call("context.update", context_name="garden", params=season, coderoot="gardens", interactive=False)
    first = await anna.create_session("planting", context_name="garden", params={"who": "anna"})
    await anna.call("session.play", session_id=first, text=ELSEWHERE, filter="core.*,session.cd,session.env_set")
    priorities = {"60": "session.*", "70": "play.*", "80": "db.*"}
    await anna.call("session.playbook_priorities_add", session_id=first, priorities=priorities)
    picture = await anna.call("session.heroscript", session_id=first)
    await anna.destroy_session(first)
    await bob.call("session.play", text="!!core.set_create name:bed")
    for client in (anna, bob):
        second = await client.create_session()
        home = (await client.get_session(second)).working_set
        played = await client.call("session.play", session_id=second, text=picture)
        assert played["failed"] == 0, played
        last = [(item["action"], item["result"]) for item in played["results"][-3:]]
        assert [action for action, _ in last] == ["session.ls", "play.echo", "db.set"]
        assert last[1][1] == "two words in spring"
        record = await client.get_session(second)
        assert (record.name, record.context_name, record.interactive) == ("planting", "garden", True)
        assert record.working_set != home
        found = await client.call("context.get", context_name="garden")
        assert (found["params"], found["coderoot"], found["interactive"]) == (season, "gardens", False)
        assert (await client.call("context.get"))["params"] == {}
        assert await client.call("session.db.get", session_id=second, key="k") == "v"
        again = await client.call("session.heroscript", session_id=second)
        assert _unnumbered(again) == _unnumbered(picture)[: len(_unnumbered(again))]


async def test_what_looks_like_a_word_stays_what_it_is(anna: Client) -> None:
    """Values that hold {NAME} or {secret:NAME} are not replaced when their picture is played."""
    odd = "C:\\new \\\\n <BR> <<BR>> it's \"so\" \\' // # {A}"
    words = {"A": "1", "B": "{A} {who} {secret:none} {}", "C": "two\nlines {B}", "D": odd, "E": " x ", "F": "C:\\\\new"}
    params = {"who": "anna", "greeting": "{A} {who}", "deep": {"{A}": ["{secret:x}", "{", "{}", odd]}, "odd": odd}
    await anna.call("context.update", params={"A": "of the context", "text": "{who}"})
    first = await anna.create_session("first", params=params)
    await anna.call("session.play", session_id=first, text=f"!!session.env_set json:'{_escaped(words)}'")
    picture = await anna.call("session.heroscript", session_id=first)
    await anna.destroy_session(first)
    second = await anna.create_session()
    await anna.call("session.play", session_id=second, text="!!session.env_set key:who val:wrong")
    played = await anna.call("session.play", session_id=second, text=picture)
    assert played["failed"] == 0, played
    assert (await anna.get_session(second)).params == params
    assert (await anna.call("context.get"))["params"] == {"A": "of the context", "text": "{who}"}
    again = await anna.call("session.heroscript", session_id=second)
    assert [line for line in again.splitlines() if "who val:wrong" not in line and line] == [
        line for line in picture.splitlines() if line
    ]


def _escaped(words: dict[str, str]) -> str:
    """JSON in which every character is written by its number."""
    texts = ("".join(f"\\u{ord(char):04x}" for char in text) for pair in words.items() for text in pair)
    quoted = [f'"{text}"' for text in texts]
    return "{" + ",".join(":".join(pair) for pair in zip(quoted[::2], quoted[1::2], strict=True)) + "}"


async def test_a_session_goes_to_another_context_without_its_store(anna: Client) -> None:
    """Its name must be free there, and a store with values holds it back; an empty one does not."""
    session_id = await anna.create_session("mine")
    await anna.create_session("mine", context_name="other")
    with pytest.raises(CallError) as refused:
        await anna.call("session.update", session_id=session_id, context_name="other")
    assert refused.value.kind == "SESSION_NAME_TAKEN"
    await anna.call("session.db.set", session_id=session_id, key="k", value="v")
    with pytest.raises(CallError) as refused:
        await anna.call("session.update", session_id=session_id, context_name="third")
    assert refused.value.kind == "KEYS_REFUSED" and "remove them" in str(refused.value)
    assert await anna.call("session.db.get", session_id=session_id, key="k") == "v"
    await anna.call("session.db.delete", session_id=session_id, key="k")
    moved = await anna.call("session.update", session_id=session_id, context_name="third")
    assert moved["context_name"] == "third"
    assert "third" in [item["name"] for item in (await anna.call("contexts.list"))["items"]]
    assert not await anna.call("session.db.exists", session_id=session_id, key="k")


def _unnumbered(picture: str) -> list[str]:
    return [" ".join(word for word in line.split(" ") if not word.startswith("id:")) for line in picture.splitlines()]
