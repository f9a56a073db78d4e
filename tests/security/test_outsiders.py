"""Outsiders at the edges of decision 19: words of a session, globs, tickets, changed credentials, questions."""

from typing import Any

import pytest

from rpcserver.client import CallError
from tests.builders import Wire
from tests.conftest import Running
from tests.security.test_authority import kind_of, narrow

# Words: what stands in an action's place is as good as a part of it.


@pytest.mark.parametrize("words", ["env_set", "env_set_json", "as", "passed on"])
async def test_a_word_of_the_narrow_does_not_steer_what_the_wide_do(server: Running, words: str) -> None:
    """An action with somebody else's word in it is theirs, too, however the word came there."""
    anna = await server.client("anna")
    kept = await anna.call("core.set.create", name="kept")
    agent = await narrow(server, "session.playbook_add", "session.play")
    session_id = await anna.create_session()
    text = {
        "env_set": f"!!session.env_set key:target val:{kept}",
        "env_set_json": f'!!session.env_set json:\'{{"target": "{kept}"}}\'',
        "as": f"!!play.echo content:{kept} as:target",
        "passed on": f"!!play.echo content:{kept} as:first",
    }[words]
    await agent.call("session.play", session_id=session_id, text=text)
    if words == "passed on":
        await anna.call("session.play", session_id=session_id, text="!!play.echo content:{first} as:target")
    delete = '!!session.call method:core.set.delete data:\'{"set_id": "{target}"}\''
    played_ = await anna.call("session.play", session_id=session_id, text=delete)
    assert played_["results"][-1]["error"]["kind"] == "FORBIDDEN"
    assert (await anna.call("core.set.show", set_id=kept))["name"] == "kept"
    # Anna's own word of the same name is hers.
    again = await anna.create_session()
    await anna.call("session.play", session_id=again, text=f"!!session.env_set key:target val:{kept}\n{delete}")
    with pytest.raises(CallError):
        await anna.call("core.set.show", set_id=kept)


@pytest.mark.parametrize("given", ["session.update", "context.update", "session.create"])
async def test_a_parameter_of_the_narrow_does_not_steer_what_the_wide_do(server: Running, given: str) -> None:
    """Params of sessions and contexts are words, too: an action with one in it is theirs who set it."""
    anna = await server.client("anna")
    kept = await anna.call("core.set.create", name="kept")
    agent = await narrow(server, given)
    params = {"target": kept}
    if given == "session.create":
        session_id = (await agent.call(given, params=params))["session_id"]
    else:
        session_id = await anna.create_session()
        where = {"session_id": session_id} if given == "session.update" else {}
        await agent.call(given, params=params, **where)
    delete = '!!session.call method:core.set.delete data:\'{"set_id": "{Target}"}\''
    played_ = await anna.call("session.play", session_id=session_id, text=delete)
    assert played_["results"][-1]["error"]["kind"] == "FORBIDDEN"
    assert (await anna.call("core.set.show", set_id=kept))["name"] == "kept"
    # What has none of them in it is not theirs, and her own params are hers.
    played_ = await anna.call("session.play", session_id=session_id, text="!!play.echo content:x", filter="play.*")
    assert played_["results"][-1]["result"] == "x"
    await anna.call("session.update", session_id=session_id, params=params)
    await anna.call("session.play", session_id=session_id)
    with pytest.raises(CallError):
        await anna.call("core.set.show", set_id=kept)


async def test_a_word_of_a_revoked_credential_is_used_by_nobody(server: Running) -> None:
    """The action with it fails and says so; those without it go on being played."""
    anna = await server.client("anna")
    made = await anna.call("credential.create", label="agent", scopes=["session.*"])
    agent = await server.connect(made["credential"])
    session_id = await anna.create_session()
    await agent.call("session.play", session_id=session_id, text="!!session.env_set key:word val:x")
    await anna.call("credential.revoke", credential_id=made["credential_id"])
    played_ = await anna.call("session.play", session_id=session_id, text="!!play.echo content:{word}")
    assert played_["results"][-1]["error"]["kind"] == "CREDENTIAL_REVOKED"
    assert played_["results"][-1]["state"] == "failed"
    await anna.call(
        "session.play", session_id=session_id, text="!!session.env_set key:word val:mine", filter="session.*"
    )
    played_ = await anna.call("session.play", session_id=session_id)
    assert played_["results"][-1]["result"] == "mine"


# Making credentials: none reaches further than what made it.


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (["session.*"], "*"),
        (["session.*"], "s*"),
        (["session.*"], "session*"),
        (["session.*"], "session.?*.*"),
        (["session.*"], "[s]ession.*"),
        (["session.*"], "session.*\n"),
        (["session.?s"], "session.*"),
        (["session.[lc]s"], "session.?s"),
        (["session.ls", "session.cd"], "session.*"),
        (["*.ls"], "*"),
        (["core.set.*"], "core.*"),
        (["?*"], "*"),
    ],
)
async def test_a_narrow_one_makes_no_wider_one(server: Running, held: list[str], wanted: str) -> None:
    """Whatever the globs look like: what is not certainly within is refused."""
    client = await narrow(server, "credential.create", *held)
    assert await kind_of(client.call("credential.create", label="wider", scopes=[wanted])) in (
        "SCOPE_TOO_WIDE",
        "INVALID_PARAMS",
    )
    assert await kind_of(client.call("credential.create", label="all")) == "SCOPE_TOO_WIDE"


async def test_a_ticket_is_the_credential_it_was_made_with(server: Running) -> None:
    """In scopes, in calls left, and in its end: a ticket is no way round any of them."""
    anna = await server.client("anna")
    terms: dict[str, Any] = {"label": "few", "scopes": ["auth.ticket", "session.ls"], "max_calls": 3}
    made = await anna.call("credential.create", **terms)
    agent = await server.connect(made["credential"])
    first, second = [(await agent.call("auth.ticket"))["ticket"] for _ in range(2)]
    wire = await Wire.open(server.url)
    assert "result" in await wire.call("auth.authenticate", {"ticket": first})
    assert (await wire.call("sessions.list"))["error"]["data"]["kind"] == "FORBIDDEN"
    assert "result" in await wire.call("session.ls")
    assert (await wire.call("session.ls"))["error"]["data"]["kind"] == "CALLS_SPENT"
    await wire.close()
    await anna.call("credential.revoke", credential_id=made["credential_id"])
    wire = await Wire.open(server.url)
    assert "error" in await wire.call("auth.authenticate", {"ticket": second})
    await wire.close()


async def test_changing_the_credential_in_mid_call_lends_nothing(server: Running) -> None:
    """What was sent with a narrow credential stays refused, and what is sent with it afterwards, by a wider, is not."""
    anna = await server.client("anna")
    small = await anna.call("credential.create", label="narrow", scopes=["session.ls", "job.run"])
    wide = await anna.call("credential.create", label="wide")
    wire = await Wire.open(server.url, small["credential"])
    calls = [
        ("core.set.create", {"name": "no"}),
        ("auth.refresh", {"credential": wide["credential"]}),
        ("job.run", {"function": "core.set.create", "data": {"name": "perhaps"}}),
        ("auth.refresh", {"credential": small["credential"]}),
        ("core.set.create", {"name": "no"}),
    ]
    for number, (method, params) in enumerate(calls):
        await wire.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    answers: dict[int, Any] = {}
    while len(answers) < len(calls):
        message = await wire.receive()
        if "id" in message:
            answers[message["id"]] = message
    assert answers[0]["error"]["data"]["kind"] == "FORBIDDEN"
    assert "result" in answers[1] and "result" in answers[3]
    settled = await wire.call("core.set.create", {"name": "no"}, 9)
    assert settled["error"]["data"]["kind"] == "FORBIDDEN"
    await wire.close()


async def test_a_question_is_put_to_nobody_who_may_not_answer(server: Running) -> None:
    """Neither to a credential without `ask.answer`, nor is the answer of a spent one taken."""
    anna = await server.client("anna")
    session_id = await anna.create_session()
    made = await anna.call("credential.create", label="spent", scopes=["session.get", "ask.answer"], max_calls=1)
    wires = {}
    for name, text in (
        ("narrow", (await anna.call("credential.create", label="n", scopes=["session.*"]))["credential"]),
        ("spent", made["credential"]),
    ):
        wires[name] = await Wire.open(server.url, text)
        assert "result" in await wires[name].call("session.get", {"session_id": session_id})
    play = anna.send("session.play", {"session_id": session_id, "text": "!!play.ask question:'Well?' as:said"})
    question = await wires["spent"].receive()
    while question.get("method") != "client.ask":
        question = await wires["spent"].receive()
    await wires["spent"].send({"jsonrpc": "2.0", "id": question["id"], "result": "mine"})
    assert (await wires["spent"].call("ask.answer", {"ask_id": "x", "answer": "y"}))["error"]["data"][
        "kind"
    ] == "CALLS_SPENT"
    open_ = (await anna.call("asks.list"))["items"]
    assert [item["ask_id"] for item in open_] == [question["params"]["ask_id"]]
    await anna.call("ask.answer", ask_id=open_[0]["ask_id"], answer="anna's")
    assert (await play)["results"][0]["result"] == "anna's"
    ping = {"jsonrpc": "2.0", "id": 7, "method": "server.ping"}
    assert (await wires["narrow"].ask(ping))["id"] == 7  # the first it hears since its session was asked something
    for wire in wires.values():
        await wire.close()
