"""What a script can do to its session and the world, through `session.*`, `context.*`, `core.*`, `play.*`, `db.*`."""

from typing import Any

import pytest

from rpcserver.client import CallError, Client
from tests.builders import write_guest
from tests.conftest import Running, run_server


async def play(client: Client, text: str, **params: Any) -> list[Any]:
    """Play a text in a new session and return the results; every action has to succeed."""
    answer = await client.call("session.play", session_id=await client.create_session(**params), text=text)
    assert answer["failed"] == 0, answer["results"][-1]
    return [item["result"] for item in answer["results"]]


async def failure(client: Client, text: str) -> Any:
    """Play a text in a new session and return the error of the action that failed."""
    answer = await client.call("session.play", session_id=await client.create_session(), text=text)
    assert answer["failed"] == 1, answer
    return answer["results"][-1]["error"]


async def test_a_session_walks_and_acts(anna: Client, shelf: str) -> None:
    """cd by path, set and way; ls; a command of the pallet, whose answer becomes a word."""
    text = """
    !!session.cd path:shelf
    !!session.cd to:home
    !!session.cd shelf
    !!session.action command:bookmarks.add as:MARK
    !!session.cd to:back
    !!session.ls
    !!play.echo content:'{MARK}'
    """
    results = await play(anna, text)
    assert [results[0]["name"], results[2]["name"]] == ["shelf", "shelf"]
    assert "bookmarks" in results[3] and '"name": "shelf"' in results[6]
    assert "shelf" in results[5]


async def test_words_of_the_session(anna: Client) -> None:
    """Set, set once, delete."""
    text = "!!session.env_set key:A val:1\n!!session.env_set_once key:B value:2\n!!session.env_delete key:A\n"
    results = await play(anna, text + "!!play.echo content:'{A} {B}'")
    assert results[-1] == "{A} 2"
    error = await failure(anna, "!!session.env_set_once key:B val:1\n!!session.env_set_once key:B val:2")
    assert "set already" in error["message"]


async def test_parameters_and_settings(anna: Client) -> None:
    """Of the session and of its context, from plain parameters and from JSON; a taken name is passed over."""
    await anna.create_session("taken")
    text = """
    !!core.params_session_set colour:red 'a word'
    !!session.params_set json:'{"deep": [1, 2]}'
    !!core.params_context_set region:eu
    !!context.configure interactive:false
    !!core.session_define name:taken start:'2026-01-02' interactive:false
    !!core.configure name:renamed
    !!session.call method:session.get data:'{"include": []}' as:RECORD
    """
    session_id = await anna.create_session()
    answer = await anna.call("session.play", session_id=session_id, text=text)
    assert answer["failed"] == 0, answer["results"][-1]
    record = await anna.get_session(session_id)
    assert record.params == {"colour": "red", "a word": "", "deep": [1, 2]}
    assert (record.name, record.interactive, record.start) == ("renamed", False, 1767312000000)
    context = await anna.call("context.get")
    assert (context["params"], context["interactive"]) == ({"region": "eu"}, False)
    assert "JSON object" in (await failure(anna, "!!session.params_set json:nonsense"))["message"]


async def test_a_world_is_built_changed_and_taken_down(anna: Client, shelf: str) -> None:
    """Sets, tokens, links; what is there already is found; attributes are written anew."""
    text = """
    !!core.set_create name:yard as:YARD
    !!core.set_create name:shed set:yard
    !!core.token_create name:spade type:tool set:yard colour:red data:'{"uses": 3}'
    !!core.token_create name:spade type:tool set:yard colour:blue
    !!core.token_edit token:spade set:yard attribute:owner value:anna
    !!core.set_link set:yard target:~/shelf
    !!core.set_link set:yard target:~/shelf
    !!session.cd path:yard
    """
    results = await play(anna, text)
    assert results[2] == results[3] == results[4]
    yard = results[0]
    tokens = (await anna.ls(set_id=yard)).contents
    assert tokens is not None
    found = {token.name: token for token in tokens.tokens}
    assert found["spade"].attributes == {"colour": "blue", "uses": 3, "owner": "anna"}
    assert found["shelf"].set is not None and found["shelf"].set.relation == "link"
    down = """
    !!core.set_unlink set:~/yard target:~/shelf
    !!core.token_remove token:{SPADE} set:~/yard
    !!core.token_add token:{SPADE} set:~/yard
    !!core.token_delete token:spade set:~/yard
    !!core.set_delete set:~/yard/shed
    """
    await play(anna, down, params={"SPADE": results[2]})
    left = (await anna.ls(set_id=yard)).contents
    assert left is not None and "spade" not in {token.name for token in left.tokens}
    for wrong, said in (
        ("!!core.set_create set:shelf", "'name'"),
        ("!!core.token_create name:x type:user", "core.set_create"),
        ("!!core.set_delete", "'set'"),
        ("!!core.set_create name:x set:nowhere/else", "nowhere"),
    ):
        assert said in (await failure(anna, wrong))["message"]


async def test_another_users_world_is_not_there(anna: Client, bob: Client) -> None:
    """A script reaches what its user reaches."""
    home = (await bob.ls()).current_set.id
    assert (await failure(anna, f"!!core.set_create name:x set:{home}"))["kind"] == "SET_NOT_FOUND"


async def test_the_store_of_the_session_and_of_the_context(anna: Client) -> None:
    """set, get, exists, keys, delete, destroy, in the one or in the other."""
    text = """
    !!db.set key:a/b value:one
    !!db.get key:a/b as:ONE
    !!db.exists key:a/b
    !!db.keys prefix:a
    !!db.set key:k value:'{ONE}' context:1
    !!db.delete key:a/b
    !!db.destroy
    !!db.get key:k context:1
    """
    results = await play(anna, text)
    assert results[1:4] == ["one", True, ["a/b"]] and results[5:] == [True, True, "one"]
    assert await anna.call("context.db.get", key="k") == "one"


async def test_jobs_are_run_inside_a_play(tmp_path: Any) -> None:
    """play.run takes a job function's data; internal and unknown ones are not to be run; play.wait waits for a job."""
    code = """
        class Town(BaseModel):
            name: str

        @job("towns.greet", Town, lane="long")
        async def greet(job: JobContext, data: Town) -> str:
            return f"hello {data.name}"

        @job("towns.secret", Nothing, is_internal=True)
        async def secret(job: JobContext, data: Nothing) -> str:
            return "internal"

        @hookimpl
        def register_jobs():
            return [greet, secret]
    """
    async with run_server(tmp_path / "data", plugins=(write_guest(tmp_path, "towns", code),)) as server:
        anna = await server.client("anna")
        text = "!!play.run function:towns.greet name:Ghent as:G\n!!play.echo content:'{G}!'"
        assert await play(anna, text) == ["hello Ghent", "hello Ghent!"]
        for function in ("towns.secret", "world.step", "session.play", "git.fetch", "nobody.knows"):
            assert "no job function" in (await failure(anna, f"!!play.run function:{function}"))["message"]
        assert (await failure(anna, "!!play.run function:towns.greet"))["kind"] == "BAD_JOB_DATA"
        begun = await anna.call("job.run", function="towns.greet", data={"name": "Bruges"}, wait=False)
        assert await play(anna, f"!!play.wait job:{begun['job_id']}\n!!play.wait seconds:0") == ["hello Bruges", None]


async def test_a_question_is_answered_over_the_wire_or_by_another_tab(server: Running, anna: Client) -> None:
    """Every connection of the user hears of it; one that did not ask can answer; what does not fit is asked again."""
    tab = await server.client("anna")
    asked = await tab.subscribe("ask.opened", "ask.resolved")
    session_id = await anna.create_session()
    text = "!!play.ask question:'How many?' type:int as:N\n!!play.ask question:'Which?' choices:'a,b' as:W"
    started = await anna.call("session.play", session_id=session_id, text=text, detach=True)
    ask = (await asked.next()).data
    assert (ask["text"], ask["session_id"], ask["job_id"]) == ("How many?", session_id, started["job_id"])
    with pytest.raises(CallError) as wrong:
        await tab.call("ask.answer", ask_id=ask["ask_id"], answer="many")
    assert wrong.value.kind == "BAD_ANSWER"
    assert (await anna.call("job.get", job_id=started["job_id"]))["state"] == "waiting_input"
    await tab.call("ask.answer", ask_id=ask["ask_id"], answer=3)
    assert (await asked.next()).topic == "ask.resolved"
    second = (await asked.next()).data
    assert [item["ask_id"] for item in (await tab.call("asks.list"))["items"]] == [second["ask_id"]]
    await tab.call("ask.answer", ask_id=second["ask_id"], answer="b")
    record = await anna.call("job.wait", job_id=started["job_id"])
    assert [item["result"] for item in record["result"]["results"]] == [3, "b"]


async def test_a_session_that_may_not_ask(anna: Client) -> None:
    """The default is taken; without one the action fails and says so; a context can say so for all its sessions."""
    text = "!!play.ask question:q default:7 type:int as:N\n!!play.echo content:'{N}'"
    assert await play(anna, text, interactive=False) == [7, "7"]
    await anna.call("context.update", interactive=False)
    error = await failure(anna, "!!play.ask question:'who?'")
    assert error["kind"] == "ASK_DECLINED" and "not interactive" in error["message"]


async def test_a_secret_answer_is_kept_as_a_secret(server: Running, anna: Client) -> None:
    """It is shown nowhere and used by reference."""
    asked = await anna.subscribe("ask.opened")
    session_id = await anna.create_session()
    text = "!!play.ask question:'Password?' secret:1 as:pw\n!!play.echo content:'it is {secret:pw}'"
    started = await anna.call("session.play", session_id=session_id, text=text, detach=True)
    ask = (await asked.next()).data
    assert ask["secret"] is True
    await anna.call("ask.answer", ask_id=ask["ask_id"], answer="open-sesame")
    record = await anna.call("job.wait", job_id=started["job_id"])
    assert record["result"]["failed"] == 0 and "open-sesame" not in str(record)
    assert record["result"]["results"][1]["result"] == "it is ***"
    user_id = (await anna.call("auth.whoami"))["user_id"]
    assert await server.services.stores.secret(user_id, "default", "pw") == "open-sesame"
    tables = await server.services.store.read(
        lambda tx: [tx.all(f"SELECT * FROM {t}") for t in ("asks", "jobs", "playbook_actions", "session_env", "events")]  # noqa: S608
    )
    assert "open-sesame" not in str(tables)
