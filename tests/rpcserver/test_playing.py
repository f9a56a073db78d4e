"""A session's playbook: added, found, ordered, played, told, and written down again."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from rpcserver.playbooks.player import End
from store import StoreFull, Tx
from tests.builders import write_guest
from tests.conftest import Running, run_server

SEED = """
    from rpcserver.plugin import Play, plays

    @plays("gittools.*")
    async def play_git(play: Play):
        for action in play.find("gittools.*"):
            p = action.params
            repo = p.get_default("repo", "")
            return {"repo": repo, "name": action.name}
"""


@pytest.fixture
async def play(anna: Client) -> Any:
    """Plays a text in a new session and returns what session.play answered, with the session's id."""

    async def run(text: str, **params: Any) -> Any:
        session_id = await anna.create_session()
        return {**await anna.call("session.play", session_id=session_id, text=text, **params), "session_id": session_id}

    return run


async def test_the_seeds_example_plays(tmp_path: Path) -> None:
    """A guest loops over its gittools actions and reads params.get_default('repo', ''), as in the seed."""
    guest = write_guest(tmp_path, "own_git", SEED.replace("gittools.*", "mygit.*"))
    async with run_server(tmp_path / "data", plugins=(guest,)) as server:
        anna = await server.client("anna")
        text = "!!mygit.clone repo:tool\n!!play.echo content:hi\n!!mygit.pull"
        done = await anna.call("session.play", text=text)
        assert (done["done"], done["failed"], done["left"]) == (3, 0, 0)
        answers = [(item["action"], item["handled_by"], item["result"]) for item in done["results"]]
        assert answers == [
            ("mygit.clone", "own_git", {"repo": "tool", "name": "clone"}),
            ("play.echo", "playbooks", "hi"),
            ("mygit.pull", "own_git", {"repo": "", "name": "pull"}),
        ]


@pytest.mark.parametrize(("given", "stored"), [({}, 99), ({"prio": 7}, 7)])
async def test_what_is_added_bears_its_number(anna: Client, given: dict[str, int], stored: int) -> None:
    """99 unless told otherwise, as in the seed; it orders nothing."""
    await anna.call("session.playbook_add", text="!!play.echo content:x", **given)
    (item,) = (await anna.call("session.playbook_find"))["items"]
    assert item["priority"] == stored


async def test_actions_are_played_in_the_order_of_the_priorities(anna: Client) -> None:
    """The lowest number first, 50 for the rest, inside a number the order in which they were added."""
    session_id = await anna.create_session()
    text = "!!play.echo content:1\n!!session.env_set key:a val:1\n!!db.set key:k value:v\n!!play.echo content:2"
    added = await anna.call("session.playbook_add", session_id=session_id, text=text)
    assert added["added"] == 4 and [item["number"] for item in added["actions"]] == [1, 2, 3, 4]
    first = await anna.call("session.playbook_priorities_add", session_id=session_id, priorities={"60": "play.*"})
    again = {"10": "db:*,play.*"}
    in_force = await anna.call("session.playbook_priorities_add", session_id=session_id, priorities=again)
    assert (first, in_force) == ({"60": "play.*"}, {"10": "db:*", "60": "play.*"})
    played = await anna.call("session.play", session_id=session_id)
    assert [item["number"] for item in played["results"]] == [3, 2, 1, 4]
    left = await anna.call("session.playbook_find", session_id=session_id, filter="*")
    assert left == {"items": [], "next_cursor": None}
    assert (await anna.call("session.play", session_id=session_id))["done"] == 0


@pytest.mark.parametrize("number", ["", "x", "-", "--1", "1-", "1.5", "٣", "+1", " 1", "9" * 9])
async def test_a_priority_is_a_whole_number(anna: Client, number: str) -> None:
    """Whatever else is told to be wrong; nothing is registered."""
    with pytest.raises(CallError) as refused:
        await anna.call("session.playbook_priorities_add", priorities={"1": "a.*", number: "b.*"})
    assert refused.value.kind == "INVALID_PARAMS"
    assert await anna.call("session.playbook_priorities_add", priorities={"-7": "c.*"}) == {"-7": "c.*"}


async def test_results_come_in_the_order_in_which_they_were_played(anna: Client) -> None:
    """Also those that began within one millisecond."""
    session_id = await anna.create_session()
    await anna.call("session.playbook_priorities_add", session_id=session_id, priorities={"1": "play.*"})
    text = "".join(f"!!session.env_set key:k val:{n}\n!!play.echo content:{n}\n" for n in range(80))
    played = await anna.call("session.play", session_id=session_id, text=text)
    assert [item["number"] for item in played["results"]] == [*range(2, 161, 2), *range(1, 161, 2)]


async def test_priorities_hold_for_the_rest_of_a_play(play: Any) -> None:
    """A script that registers a priority is played on in that order."""
    done = await play("!!session.priorities_add nr:60 filter:'play.*'\n!!play.echo content:1\n!!db.set key:k value:v")
    assert [item["action"] for item in done["results"]] == ["session.priorities_add", "db.set", "play.echo"]


async def test_each_end_is_a_row_and_a_notice(anna: Client) -> None:
    """State, result, who and how long are told as they come and can be read afterwards."""
    notices = await anna.subscribe("playbook.action")
    played = await anna.call("session.play", text="!!play.echo content:hello\n!!db.get key:nothing\n!!play.echo")
    assert (played["done"], played["failed"], played["left"]) == (1, 1, 1)
    told = [(await notices.next()).data for _ in range(4)]
    assert [(item["number"], item["state"]) for item in told] == [
        (1, "running"),
        (1, "done"),
        (2, "running"),
        (2, "failed"),
    ]
    assert told[1]["result"] == "hello" and told[1]["handled_by"] == "playbooks" and told[1]["ms"] >= 0
    assert told[3]["error"]["kind"] == "KEY_NOT_FOUND" and told[3]["job_id"] == played["job_id"]
    found = (await anna.call("session.playbook_find", filter="", include_done=True))["items"]
    assert [item["state"] for item in found] == ["done", "failed", "waiting"]
    assert found[0]["params"] == {"content": "hello"}
    summary = (await anna.get_session(include=["playbook"])).playbook
    assert summary == {"waiting": 1, "running": 0, "done": 1, "failed": 1, "priorities": {}}


async def test_a_failed_action_is_played_again(anna: Client) -> None:
    """Playing goes on with what is not done: what failed first, then the rest."""
    await anna.call("session.play", text="!!db.get key:k\n!!play.echo content:after")
    await anna.call("session.db.set", key="k", value="v")
    played = await anna.call("session.play")
    assert [(item["action"], item["result"]) for item in played["results"]] == [("db.get", "v"), ("play.echo", "after")]


async def test_an_action_nobody_plays_stops_everything_before_it_begins(anna: Client) -> None:
    """The error names every such action with its line and near names; nothing ran."""
    with pytest.raises(CallError) as refused:
        await anna.call("session.play", text="!!db.set key:k value:v\n\n!!play.ecco content:x\n!!xylophone.strike")
    assert refused.value.kind == "UNKNOWN_ACTION"
    first, second = refused.value.data["mistakes"]
    assert (first["line"], first["action"], "play.echo" in first["near"]) == (3, "play.ecco", True)
    assert (second["line"], second["near"]) == (4, [])
    assert "<text>:3: nobody plays 'play.ecco'; near it: play.echo" in str(refused.value)
    assert not await anna.call("session.db.exists", key="k")
    assert (await anna.call("session.playbook_find"))["items"] == [], "it would stand in the way of every next play"
    assert (await anna.call("session.play", text="!!play.echo content:x"))["done"] == 1


async def test_a_dry_run_says_who_would_play_what(anna: Client) -> None:
    """In order, by name, and nothing runs."""
    text = "!!db.set key:k value:v\n!!core.set_create name:a"
    planned = await anna.call("session.play", text=text, dry_run=True)
    assert [(item["action"], item["handled_by"], item["state"]) for item in planned["results"]] == [
        ("db.set", "stores", "planned"),
        ("core.set_create", "world", "planned"),
    ]
    assert (planned["job_id"], planned["left"]) == (None, 2)
    assert not await anna.call("session.db.exists", key="k")
    assert (await anna.call("session.playbook_find"))["items"] == []
    await anna.call("session.playbook_add", text="!!play.echo content:first")
    planned = await anna.call("session.play", text=text, dry_run=True)
    assert [(item["number"], item["line"]) for item in planned["results"]] == [(1, 1), (2, 1), (3, 2)]
    assert planned["left"] == 3 and (await anna.call("session.play"))["done"] == 1


async def test_every_mistake_is_told_and_nothing_is_added(anna: Client) -> None:
    """File, line, column and the text of each, before anything runs."""
    with pytest.raises(CallError) as refused:
        await anna.call("session.play", text="!!play.echo content:'x\n!!a.b.c.d\n!!db.set k-y:1")
    assert refused.value.kind == "BAD_SCRIPT"
    assert [item["line"] for item in refused.value.data["mistakes"]] == [1, 2, 3]
    assert all(item["column"] > 0 and item["text"] for item in refused.value.data["mistakes"])
    assert (await anna.call("session.playbook_find", filter=""))["items"] == []


async def test_a_session_with_a_wrong_playbook_is_not_made(anna: Client) -> None:
    """session.create checks the playbook first."""
    before = len(await anna.list_sessions())
    for wrong in ({"playbook_text": "!!"}, {"playbook_path": "/etc/hostname"}, {"coderoot": "/etc"}):
        with pytest.raises(CallError):
            await anna.create_session(**wrong)
    assert len(await anna.list_sessions()) == before


async def test_words_params_and_secrets_stand_for_themselves(anna: Client) -> None:
    """{NAME} is a word of the session or a parameter; {secret:NAME} is used, and shown and stored nowhere."""
    await anna.call("context.db.set", key="pass", value="s3same-open", secret=True)
    session_id = await anna.create_session(params={"who": "world"})
    text = """
    !!session.env_set key:greeting val:hello
    !!play.echo content:'{greeting} {who} {other}'
    !!play.echo content:'the word is {secret:pass}'
    !!db.get key:{secret:pass}
    """
    played = await anna.call("session.play", session_id=session_id, text=text)
    assert [item["result"] for item in played["results"][1:3]] == ["hello world {other}", "the word is ***"]
    assert played["failed"] == 1 and "session.db.get is not handed a secret" in played["results"][3]["error"]["message"]
    found = await anna.call("session.playbook_find", session_id=session_id, filter="", include_done=True)
    log = await anna.call("job.log", job_id=played["job_id"])
    picture = await anna.call("session.heroscript", session_id=session_id, show_done=True)
    assert "s3same-open" not in f"{played}{found}{log}{picture}" and "{secret:pass}" in picture
    with pytest.raises(CallError) as unread:
        await anna.call("context.db.get", key="pass", secret=True)
    assert unread.value.kind == "FORBIDDEN"


async def test_a_second_play_of_a_session_waits_its_turn(anna: Client) -> None:
    """While a playbook is played, another play is refused and names the job; cancelling stops inside an action."""
    session_id = await anna.create_session()
    notices = await anna.subscribe("playbook.action")
    started = await anna.call("session.play", session_id=session_id, text="!!play.wait seconds:600", detach=True)
    assert (await notices.next()).data["state"] == "running"
    with pytest.raises(CallError) as refused:
        await anna.call("session.play", session_id=session_id)
    assert (refused.value.kind, refused.value.data["job_id"]) == ("PLAY_RUNNING", started["job_id"])
    assert await anna.call("job.cancel", job_id=started["job_id"])
    record = await anna.call("job.wait", job_id=started["job_id"])
    assert record["state"] == "cancelled"
    left = (await anna.call("session.playbook_find", session_id=session_id, filter=""))["items"]
    assert [(item["state"], item["error"]["kind"]) for item in left] == [("failed", "CANCELLED")]


async def test_a_gentle_cancel_stops_between_two_actions(tmp_path: Path) -> None:
    """The action under way ends; the next one does not begin."""
    code = """
        from rpcserver.plugin import Play, plays

        GATE = asyncio.Event()

        @plays("gate.wait")
        async def wait(play: Play):
            await GATE.wait()
            return "through"

        @plays("gate.open")
        def open_(play: Play):
            GATE.set()
            return "open"
    """
    async with run_server(tmp_path / "data", plugins=(write_guest(tmp_path, "gate", code),)) as server:
        anna = await server.client("anna")
        notices = await anna.subscribe("playbook.action")
        session_id = await anna.create_session()
        text = "!!gate.wait\n!!play.echo content:never"
        started = await anna.call("session.play", session_id=session_id, text=text, detach=True)
        assert (await notices.next()).data["state"] == "running"
        assert await anna.call("job.cancel", job_id=started["job_id"], mode="gently")
        await anna.call("session.play", session_id=await anna.create_session(), text="!!gate.open")
        assert (await anna.call("job.wait", job_id=started["job_id"]))["state"] == "cancelled"
        found = await anna.call("session.playbook_find", session_id=session_id, filter="", include_done=True)
        assert [item["state"] for item in found["items"]] == ["done", "waiting"]


@pytest.mark.parametrize("is_its_own", [False, True])
async def test_a_play_ends_with_its_session(anna: Client, is_its_own: bool) -> None:
    """Whoever destroys the session, somebody else or the play itself, its play does not go on without it."""
    session_id = await anna.create_session()
    waits = "!!play.wait seconds:60"
    text = f"!!session.call method:session.destroy session_id:{session_id}\n{waits}" if is_its_own else waits
    notices = await anna.subscribe("playbook.action")
    started = await anna.call("session.play", session_id=session_id, text=text, detach=True)
    assert (await notices.next()).data["state"] == "running"
    if not is_its_own:
        await anna.destroy_session(session_id)
    ended = await anna.call("job.wait", job_id=started["job_id"], timeout_s=10)
    assert ended["state"] in ("cancelled", "succeeded") and "wait" not in str((ended["result"] or {}).get("results"))
    assert session_id not in [record.session_id for record in await anna.list_sessions()]


async def test_progress_counts_actions(anna: Client) -> None:
    """A caller with a progress token hears which action of how many is under way."""
    heard: list[tuple[float, float | None, str]] = []
    text = "\n".join(f"!!play.echo content:{number}" for number in range(5))
    await anna.call("session.play", text=text, on_progress=lambda *report: heard.append(report))
    assert heard[0] == (0, 5, "play.echo") and heard[-1] == (5, 5, "")


async def test_a_script_reaches_as_far_as_its_credential(server: Running, anna: Client) -> None:
    """A play started with a narrow credential cannot do through a script what the credential may not do."""
    from rpcserver.auth import authenticator
    from store import Tx

    user_id = (await anna.call("auth.whoami"))["user_id"]

    def issue(tx: Tx) -> str:
        return str(authenticator.issue(tx, user_id, "narrow", ("session.play", "session.create", "session.db.*")))

    async with Client(server.url, await server.services.store.write(issue), name=None) as narrow:
        for text in ("!!session.call method:sessions.list", "!!core.set_create name:x", "!!play.run function:x"):
            played = await narrow.call("session.play", session_id=await narrow.create_session(), text=text)
            assert played["failed"] == 1 and "may not call" in played["results"][0]["error"]["message"]
        session_id = await narrow.create_session()
        assert (await narrow.call("session.play", session_id=session_id, text="!!db.set key:a value:b"))["failed"] == 0


async def test_two_hundred_pages_of_a_playbook(anna: Client) -> None:
    """playbook_find goes on page by page."""
    text = "\n".join(f"!!play.echo content:{number}\n!!db.get key:k" for number in range(30))
    await anna.call("session.playbook_add", text=text)
    numbers: list[int] = []
    cursor = None
    while True:
        page = await anna.call("session.playbook_find", filter="play.*", limit=7, cursor=cursor)
        numbers += [item["number"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert numbers == list(range(1, 61, 2))
    with pytest.raises(CallError):
        await anna.call("session.playbook_find", filter="db.*", cursor="x")


async def test_another_user_reaches_nothing(anna: Client, bob: Client) -> None:
    """Another's session is not found, whatever is asked of its playbook or store."""
    session_id = await anna.create_session()
    for method, params in (
        ("session.playbook_add", {"text": "!!a.b"}),
        ("session.playbook_priorities_add", {"priorities": {"1": "a.*"}}),
        ("session.playbook_find", {"filter": ""}),
        ("session.heroscript", {}),
        ("session.play", {}),
        ("session.db.get", {"key": "k"}),
        ("session.db.set", {"key": "k", "value": "v"}),
        ("session.db.keys", {}),
        ("session.db.destroy", {}),
    ):
        with pytest.raises(CallError) as refused:
            await bob.call(method, session_id=session_id, **params)
        assert refused.value.kind == "SESSION_NOT_FOUND", method


async def test_what_a_guest_breaks_is_the_actions_failure(tmp_path: Path) -> None:
    """A guest that raises fails its action by name; what was meant for the caller is told, nothing else."""
    code = """
        from rpcserver.plugin import Play, plays

        @plays("broken.*")
        def broken(play: Play):
            for action in play.find("broken.says"):
                raise JobError("no such town")
            for action in play.find("broken.needs"):
                action.params.get("town")
            for action in play.find("broken.raises"):
                raise RuntimeError("inner-thing")
    """
    async with run_server(tmp_path / "data", plugins=(write_guest(tmp_path, "broken", code),)) as server:
        anna = await server.client("anna")
        messages = []
        for name in ("says", "needs", "raises", "other"):
            played = await anna.call("session.play", session_id=await anna.create_session(), text=f"!!broken.{name}")
            messages.append(played["results"][0]["error"]["message"])
        assert messages[0] == "no such town" and messages[1] == "parameter 'town' is missing"
        assert "broken" in messages[2] and "inner-thing" not in messages[2]
        assert "nobody plays 'broken.other'" in messages[3]


async def test_waiting_calls_are_not_held_up(anna: Client, shelf: str) -> None:
    """A play does not hold the session: other calls on it are answered meanwhile, its own stand in the same order."""
    session_id = await anna.create_session()
    notices = await anna.subscribe("playbook.action")
    started = await anna.call("session.play", session_id=session_id, text="!!play.wait seconds:600", detach=True)
    await notices.next()
    async with asyncio.timeout(10):
        assert (await anna.cd(session_id, path="shelf")).current_set.id == shelf
    await anna.call("job.cancel", job_id=started["job_id"])


@pytest.mark.parametrize("lost", ["end", "start and end"])
async def test_the_last_action_is_stored_with_the_play(
    server: Running, anna: Client, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """When the disk did not take that it began, or ended, the end of the play says so; each is told once."""
    heard = await anna.subscribe("playbook.action")
    write = server.services.store.write

    def refuse(fn: Callable[[Tx], Any], **given: Any) -> asyncio.Future[Any]:
        is_start = "Player._step" in getattr(fn, "__qualname__", "")
        if not isinstance(fn, End) and not (is_start and "start" in lost):
            return write(fn, **given)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreFull())
        return future

    monkeypatch.setattr(server.services.store, "write", refuse)
    played = await anna.call("session.play", text="!!play.echo content:hello")
    assert (played["done"], played["left"]) == (1, 0) and played["results"][0]["result"] == "hello"
    states = ["done"] if "start" in lost else ["running", "done"]
    assert [(await heard.next()).data["state"] for _ in states] == states
