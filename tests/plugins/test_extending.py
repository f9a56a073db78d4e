"""What guests add to the API itself: methods, settings, changed answers; and what they are told."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from plugins.errors import BadPlugin
from rpcserver.cli import doctor
from rpcserver.cli.admin import job_functions
from rpcserver.client import CallError, Client
from rpcserver.settings import Settings
from tests.builders import write_guest
from tests.conftest import run_server

METHODS = """
class Place(BaseModel):
    town: str
    days: int = 1

@method("weather.now", Place, result=dict, is_change=False)
async def now(call, params):
    '''Say what the weather is like.'''
    if params.town == "nowhere":
        raise JobError("There is no weather in nowhere: name a town.")
    if params.town == "fault":
        raise RuntimeError("secret-of-the-guest")
    if params.town == "set":
        return {"text": {1, 2}}
    call.progress(1, 2, "looking out of the window")
    here = await call.call("session.get")
    return {"town": params.town, "days": params.days, "for": call.user_name, "session": here["session_id"]}

@method("weather.job", Place)
def job_of(call, params):
    '''Run a job that refuses.'''
    return call.run("session.ls", {"set_id": "set_none"})

@hookimpl
def register_methods():
    return [now, job_of]
"""
TOLD = """
HEARD = []

@hookimpl
def session_created(session):
    HEARD.append(["created", session.name])

@hookimpl
async def session_entered(session, set_id):
    HEARD.append(["entered", session.name, set_id == session.working_set_id])

@hookimpl
def session_left(set_id, session):
    HEARD.append(["left", session.name, set_id == session.home_set_id])
    raise RuntimeError("nobody minds")

@hookimpl
def session_destroyed(session):
    HEARD.append(["destroyed", session.name])

@hookimpl
def job_finished(job):
    if job.function.startswith("session.c"):
        HEARD.append([job.function, job.outcome, (job.error or {}).get("kind")])

@method("told.heard", Nothing, is_change=False)
def heard(call, params):
    return HEARD

@hookimpl
def register_methods():
    return [heard]
"""
FIRST = """
@hookimpl
def session_create(session, answer):
    return {**answer, "welcome": session.name}

@hookimpl
async def session_get(answer):
    return {**answer, "seen_by": ["first"]}

@hookimpl
def session_ls(session, answer):
    answer["greeting"] = f"{session.name} is in {answer['current_set']['set_name']}"
    return answer
"""
FAILING = """
@hookimpl
def session_get(answer):
    answer["seen_by"] = "spoiled"
    raise RuntimeError("no")

@hookimpl
def session_ls(answer):
    return ["no answer"]
"""
LAST = """
@hookimpl
def session_get(answer):
    return {**answer, "seen_by": [*answer["seen_by"], "last"]}

@hookimpl
def session_ls(answer):
    answer["lost"] = "not returned"
"""


async def test_a_guests_method_is_called_like_ours(tmp_path: Path) -> None:
    """Params are checked, the caller's name and credential count, progress is told, and rpc.discover describes it."""
    guest = write_guest(tmp_path, "weather", METHODS)
    async with run_server(tmp_path / "data", plugins=(guest,)) as server:
        anna = await server.client("anna")
        seen: list[tuple[float, float | None, str]] = []
        answer = await anna.call("weather.now", on_progress=lambda *report: seen.append(report), town="Ulm")
        assert answer["town"] == "Ulm" and answer["days"] == 1 and answer["for"] == "anna"
        assert answer["session"] == (await anna.get_session()).session_id
        assert seen == [(1, 2, "looking out of the window")]
        described = {one["name"]: one for one in (await anna.call("rpc.discover"))["methods"]}
        assert described["weather.now"]["description"].startswith("Say what the weather is like.")
        assert [param["name"] for param in described["weather.now"]["params"]] == ["town", "days"]


async def test_a_guests_method_fails_as_ours_do(tmp_path: Path) -> None:
    """Its own words, what a job told it and what is wrong with params reach the caller; its own faults do not."""
    guest = write_guest(tmp_path, "weather", METHODS)
    async with run_server(tmp_path / "data", plugins=(guest,)) as server:
        anna = await server.client("anna")
        told = {}
        for method, params in (
            ("now", {"town": "nowhere"}),
            ("now", {"town": "fault"}),
            ("now", {"town": "set"}),
            ("now", {"town": 5}),
            ("job", {"town": "Ulm"}),
        ):
            with pytest.raises(CallError) as caught:
                await anna.call(f"weather.{method}", **params)
            told[f"{method} {params['town']}"] = (caught.value.kind, str(caught.value))
        assert {name: kind for name, (kind, _) in told.items()} == {
            "now nowhere": "JOB_FAILED",
            "now fault": "PLUGIN_ERROR",
            "now set": "PLUGIN_ERROR",
            "now 5": "INVALID_PARAMS",
            "job Ulm": "SET_NOT_FOUND",
        }
        assert "name a town" in told["now nowhere"][1] and "weather" in told["now fault"][1]
        assert not any("secret-of-the-guest" in text for _, text in told.values())


async def test_a_credential_reaches_a_guests_method_by_its_scope(tmp_path: Path) -> None:
    """One without the scope is refused, and the method is not described to it."""
    guest = write_guest(tmp_path, "weather", METHODS)
    async with run_server(tmp_path / "data", plugins=(guest,)) as server:
        anna = await server.client("anna")
        made = await anna.call("credential.create", label="narrow", scopes=["session.*", "rpc.*"])
        async with Client(server.url, made["credential"]) as narrow:
            with pytest.raises(CallError) as caught:
                await narrow.call("weather.now", town="Ulm")
            assert caught.value.kind == "FORBIDDEN"
            assert "weather.now" not in [one["name"] for one in (await narrow.call("rpc.discover"))["methods"]]


async def test_guests_change_answers_and_a_failing_one_changes_nothing(tmp_path: Path) -> None:
    """`session_create`, `session_get` and `session_ls` see the answer one after another, before it is sent."""
    files = tuple(write_guest(tmp_path, name, code) for name, code in zip("abc", (FIRST, FAILING, LAST), strict=True))
    async with run_server(tmp_path / "data", plugins=files) as server:
        anna = await server.client("anna")
        made = await anna.call("session.create", name="shell")
        assert made == {"session_id": made["session_id"], "welcome": "shell"}
        assert (await anna.call("session.get", session_id=made["session_id"]))["seen_by"] == ["first", "last"]
        for method, params in (("session.ls", {}), ("session.cd", {"to": "home"})):
            listing = await anna.call(method, session_id=made["session_id"], **params)
            assert listing["greeting"] == "shell is in anna's home" and "lost" not in listing


async def test_guests_are_told_after_the_commit_in_its_order(tmp_path: Path) -> None:
    """Sessions made, walking and destroyed, and jobs that ended; a guest that fails is passed over."""
    guest = write_guest(tmp_path, "told", TOLD)
    async with run_server(tmp_path / "data", plugins=(guest,)) as server:
        anna = await server.client("anna")
        session_id = await anna.create_session("shell")
        await anna.cd(path="sessions", session_id=session_id)
        with pytest.raises(CallError):
            await anna.cd(set_id="set_none", session_id=session_id)
        await anna.destroy_session(session_id)
        expected: list[list[Any]] = [
            ["session.create_session", "completed", None],
            ["created", "shell"],
            ["entered", "shell", True],
            ["session.cd", "completed", None],
            ["left", "shell", True],
            ["entered", "shell", True],
            ["session.cd", "failed", "SET_NOT_FOUND"],
            ["destroyed", "shell"],
        ]
        async with asyncio.timeout(5):
            while len(heard := await anna.call("told.heard")) < len(expected):
                pass
        assert sorted(map(str, heard)) == sorted(map(str, expected))
        sessions = [one for one in heard if not one[0].startswith("session.")]
        assert sessions == [one for one in expected if not one[0].startswith("session.")]


async def test_guests_that_fall_behind_are_told_no_more_than_may_wait(tmp_path: Path) -> None:
    """A slow guest delays nobody's call; what it cannot take is passed over."""
    slow = """
    HEARD = []
    GATE = asyncio.Event()

    @hookimpl
    async def session_created(session):
        await GATE.wait()
        HEARD.append(session.name)

    @method("slow.open", Nothing)
    async def gate(call, params):
        GATE.set()
        return HEARD

    @hookimpl
    def register_methods():
        return [gate]
    """
    guest = write_guest(tmp_path, "slow", slow)
    async with run_server(tmp_path / "data", plugins=(guest,), max_waiting_notices=2) as server:
        anna = await server.client("anna")
        for number in range(6):
            await anna.create_session(f"shell{number}")
        async with asyncio.timeout(5):
            while len(heard := await anna.call("slow.open")) < 3:
                pass
        assert heard == ["shell0", "shell1", "shell2"]


READS = """
class Settings(BaseModel):
    url: str
    days: int = 3
    token: SecretStr = SecretStr("")

@hookimpl
def register_settings(read):
    global SETTINGS
    SETTINGS = read(Settings)
    return SETTINGS

@method("weather.settings", Nothing, is_change=False)
def told(call, params):
    return {"url": SETTINGS.url, "days": SETTINGS.days}

@hookimpl
def register_methods():
    return [told]
"""


async def test_a_guest_reads_its_settings_from_file_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[plugin.NAME]` of rpcserver.toml, with RPCSERVER_PLUGIN__NAME__SETTING on top."""
    guest = write_guest(tmp_path, "weather", READS)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "rpcserver.toml").write_text('[plugin.weather]\nurl = "https://a.example"\ndays = 5\n')
    monkeypatch.setenv("RPCSERVER_PLUGIN__WEATHER__DAYS", "7")
    async with run_server(data, plugins=(guest,)) as server:
        anna = await server.client("anna")
        assert await anna.call("weather.settings") == {"url": "https://a.example", "days": 7}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "setting plugin.weather.url: Field required"),
        ({"weather": {"url": "a", "days": "many", "token": "hidden-word"}}, "setting plugin.weather.days: "),
        ({"weather": {"url": "a"}, "wether": {}}, "'wether' .* there is no such plugin"),
        ({"weather": {"url": "a"}, "navigation": {}}, "'navigation' .* it reads none"),
    ],
)
async def test_settings_that_do_not_fit_stop_the_start(
    tmp_path: Path, given: dict[str, dict[str, Any]], reason: str
) -> None:
    """The message names plugin and setting, and repeats no value."""
    guest = write_guest(tmp_path, "weather", READS)
    with pytest.raises(BadPlugin, match=reason) as caught:
        async with run_server(tmp_path / "data", plugins=(guest,), plugin=given):
            pass
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ('@method("session.extra", BaseModel)\ndef m(call, params): ...', "must be named bad.WORD"),
        ('@method("bad.", BaseModel)\ndef m(call, params): ...', "must be named bad.WORD"),
        (
            '@method("bad.one", BaseModel)\ndef m(call, params): ...\nTWICE = True',
            "there is a method 'bad.one' already",
        ),
        ("def m(): ...", "returned function where a method is due"),
    ],
)
async def test_methods_that_do_not_fit_stop_the_start(tmp_path: Path, code: str, reason: str) -> None:
    """A guest's methods stand under its name, once each."""
    listing = "[m, m]" if "TWICE" in code else "[m]"
    guest = write_guest(tmp_path, "bad", f"{code}\n@hookimpl\ndef register_methods():\n    return {listing}\n")
    with pytest.raises(BadPlugin, match=reason):
        async with run_server(tmp_path / "data", plugins=(guest,)):
            pass


MISTAKES = {
    "lane='slow'": "lane is 'slow', not one of memory, local, long",
    "calls=['core.set.shwo']": "there is no core call 'core.set.shwo': did you mean core.set.show",
    "timeout_s=0": "timeout_s is 0, not a number of seconds",
    "timeout_s=float('nan')": "timeout_s is nan",
    "lane='long', retries=-1": "retries is -1",
    "lane='long', limit=0": "limit is 0",
    "lane='long', on_crash='again'": "on_crash is 'again', not one of fail, retry",
}


@pytest.mark.parametrize("declared", MISTAKES)
async def test_what_a_job_declares_is_checked_at_the_start(tmp_path: Path, declared: str) -> None:
    """A mistake is told by serve, doctor and `jobs functions`, with the job's name; not at the first call."""
    code = f"@job('slip.work', Nothing, {declared})\nasync def work(job, data):\n    pass\n\n"
    guest = write_guest(tmp_path, "slip", code + "@hookimpl\ndef register_jobs():\n    return [work]\n")
    with pytest.raises(BadPlugin, match=r"'slip.work'") as caught:
        async with run_server(tmp_path / "data", plugins=(guest,)):
            pass
    assert MISTAKES[declared] in str(caught.value)
    looked = doctor.look(Settings.load(data=tmp_path, port=0, plugins=(guest,)))
    (finding,) = [one for one in looked if one.what.startswith("plugins")]
    assert finding.level == "fail" and MISTAKES[declared] in finding.what
    with pytest.raises(BadPlugin, match=r"'slip.work'"):
        job_functions(Settings.load(data=tmp_path, plugins=(guest,)))


@pytest.mark.parametrize("written", ["def work(job, data):", "async def work(job, data):"])
async def test_a_job_function_waits_and_takes_a_model(tmp_path: Path, written: str) -> None:
    """One that is not `async def`, and one whose input is no model, are refused at the start."""
    given = "Nothing" if written.startswith("def") else "dict"
    code = f"@job('slip.work', {given})\n{written}\n    pass\n\n@hookimpl\ndef register_jobs():\n    return [work]\n"
    with pytest.raises(BadPlugin, match=r"not `async def`" if given == "Nothing" else "not a pydantic model"):
        async with run_server(tmp_path / "data", plugins=(write_guest(tmp_path, "slip", code),)):
            pass
