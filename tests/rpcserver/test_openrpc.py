"""rpc.discover: valid, complete, filtered, and true."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from core import errors as core_errors
from rpcserver import errors as own_errors
from rpcserver.auth import authenticator
from rpcserver.client import CallError, Client
from rpcserver.events.catalog import NOTIFICATIONS
from rpcserver.methods import METHODS, core
from rpcserver.openrpc import examples
from rpcserver.openrpc.document import Description
from rpcserver.openrpc.examples import Example
from rpcserver.rpc import errors
from rpcserver.rpc.calls import Method
from tests.builders import make_place
from tests.conftest import Running, run_server
from tests.toolchain import node_folder, run_node, script

ROOT = Path(__file__).parent.parent.parent
PUBLIC = [method for method in METHODS if not method.is_operator]
DOCUMENT = Description(METHODS).whole()


def meta_schema_faults(document: dict[str, Any]) -> list[str]:
    """Return where a document breaks the OpenRPC 1.4 meta-schema."""
    packages = node_folder() / "node_modules"
    openrpc = json.loads((packages / "@open-rpc/spec/dist/1_4/schema.json").read_text("utf-8"))
    schemas = json.loads((packages / "@json-schema-tools/meta-schema/schema.json").read_text("utf-8"))
    json_schema = DRAFT7.create_resource(schemas)
    known = Registry().with_resources(
        [("https://meta.json-schema.tools", json_schema), ("https://meta.json-schema.tools/", json_schema)]
    )
    validator = Draft7Validator({**openrpc, "$schema": "http://json-schema.org/draft-07/schema#"}, registry=known)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


def result_faults(document: dict[str, Any], method: str, result: Any) -> list[str]:
    """Return where a result breaks the schema that the document gives for the method."""
    described = next(one for one in document["methods"] if one["name"] == method)
    schema = {**described["result"]["schema"], "components": document["components"]}
    return [f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(schema).iter_errors(result)]


def test_the_document_is_valid_against_the_meta_schema() -> None:
    """The whole document is an OpenRPC 1.4 document."""
    assert meta_schema_faults(DOCUMENT) == []


def test_the_linters_of_others_are_content(tmp_path: Path) -> None:
    """@open-rpc/schema-utils-js reads it, and every example fits its params; Ajv in strict mode has nothing to say."""
    path = tmp_path / "openrpc.json"
    path.write_text(json.dumps(DOCUMENT))
    done = run_node(script("lint_openrpc.mjs"), str(path))
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_linters_find_faults(tmp_path: Path) -> None:
    """A reference into the void, a keyword that is none, and an example that does not fit are told."""
    document = json.loads(json.dumps(DOCUMENT))
    get, cancel = (
        next(one for one in document["methods"] if one["name"] == name) for name in ("job.get", "job.cancel")
    )
    document["methods"] = [get, cancel]
    get["params"][0]["schema"]["maxLenght"] = 3
    cancel["examples"][0]["params"][0]["value"] = {"not": "an id"}
    path = tmp_path / "openrpc.json"
    path.write_text(json.dumps(document))
    done = run_node(script("lint_openrpc.mjs"), str(path))
    assert done.returncode == 1
    assert "maxLenght" in done.stdout and "job.cancel" in done.stdout, done.stdout + done.stderr


def test_the_official_generator_runs(tmp_path: Path) -> None:
    """@open-rpc/generator makes of it what it makes; what that is worth is its own matter."""
    (tmp_path / "openrpc.json").write_text(json.dumps(DOCUMENT))
    wanted = [{"type": "client", "name": language, "language": language} for language in ("typescript", "rust")]
    plan = {"openrpcDocument": str(tmp_path / "openrpc.json"), "outDir": str(tmp_path / "made"), "components": wanted}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    generator = node_folder() / "node_modules/@open-rpc/generator/build/cli.js"
    options = ("generate", "--document", str(tmp_path / "openrpc.json"), "--config", str(tmp_path / "plan.json"))
    done = run_node(str(generator), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "session_cd" in (tmp_path / "made/client/typescript/src/index.ts").read_text().replace(".", "_")


def test_what_generators_stumble_over() -> None:
    """Required params come first, a method's errors have one code each, no two types share a name, no tuples."""
    errors = DOCUMENT["components"]["errors"]
    for method in DOCUMENT["methods"]:
        required = [param["required"] for param in method["params"]]
        assert required == sorted(required, reverse=True), method["name"]
        codes = [errors[error["$ref"].rpartition("/")[2]]["code"] for error in method["errors"]]
        assert len(codes) == len(set(codes)), method["name"]
    assert [name for name in DOCUMENT["components"]["schemas"] if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name)] == []
    assert "prefixItems" not in json.dumps(DOCUMENT)


def test_the_check_finds_a_fault() -> None:
    """The check itself sees a method without params, another version, and a schema that is none."""
    assert meta_schema_faults({**DOCUMENT, "methods": [{"name": "x"}]})
    assert meta_schema_faults({**DOCUMENT, "openrpc": "1.3.2"})
    described = {"name": "x", "params": [{"name": "a", "schema": {"type": "text"}}]}
    assert meta_schema_faults({**DOCUMENT, "methods": [described]})


def test_every_reference_leads_somewhere() -> None:
    """No `$ref` of the document hangs in the air."""
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT)):
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.name)
def test_every_method_says_what_it_answers(method: Method) -> None:
    """Every method has words, a result that is more than "anything", and an example; core calls are many and alike."""
    assert method.doc
    assert method.result is not Any, "declare result= in its @method"
    assert method.examples or method in core.METHODS, "declare examples= in its @method"
    assert set(method.errors) <= set(errors.KINDS)


PAIRS = [
    pytest.param(method, example, id=f"{method.name} {example.name}")
    for method in PUBLIC
    for example in method.examples
]


@pytest.mark.parametrize(("method", "example"), PAIRS)
async def test_examples_work(tmp_path: Path, method: Method, example: Example) -> None:
    """Every example can be made; what is answered, and what the document says of it, fit the schema of the result."""
    plugin = Path(__file__).parent / "asking_plugin.py"
    async with run_server(tmp_path / "data", plugins=(plugin,)) as server:
        client = await server.client("anna")
        answer = await client.call(method.name, **await real_params(server, client, method.name, example))
    assert result_faults(DOCUMENT, method.name, answer) == []
    assert result_faults(DOCUMENT, method.name, example.result) == []
    if isinstance(answer, dict):
        assert set(answer) == set(example.result)
    elif isinstance(answer, str) and "_" in answer:
        assert answer.partition("_")[0] == example.result.partition("_")[0]  # an id of the same kind
    else:
        assert answer == example.result


async def real_params(server: Running, client: Client, method: str, example: Example) -> dict[str, Any]:
    """Return the params of an example with ids of what is there, having made what the example speaks of."""
    text = json.dumps(example.params)
    for shown, id in (await _real_ids(server, client, method)).items():
        text = text.replace(shown, id)
    params: dict[str, Any] = json.loads(text)
    return params


async def _real_ids(server: Running, client: Client, method: str) -> dict[str, str]:
    """Return what stands in an example, and what is there for it on the server."""
    who = await client.call("auth.whoami")
    real = {
        examples.HOME: who["home_set"],
        examples.SHELF: await make_place(client),
        examples.USER: who["user_id"],
        examples.EPOCH: client.hello["epoch"],
        examples.CREDENTIAL: await server.credential("anna"),
        examples.CREDENTIAL_ID: who["credential_id"],
    }
    if method.startswith(("session.", "sessions.", "job.", "jobs.")) and method != "session.create":
        real[examples.SESSION] = await client.create_session("work")
    if method.startswith(("job.", "jobs.")):
        await client.action("bookmarks.add")
        real[examples.JOB] = (await client.list_jobs())[0].job_id
    if method == "job.retry":
        with pytest.raises(CallError):
            await client.call("job.run", function="bookmarks.remove", data={"home_set_id": "set_0", "token_id": "t_0"})
        real[examples.FAILED_JOB] = (await client.list_jobs(state="failed"))[0].job_id
    if method == "job.release":
        real[examples.HELD_JOB] = await _held_job(server)
    await _fill(client, method, real.get(examples.SESSION, ""))
    if method == "credential.log":
        real[examples.CREDENTIAL_ID] = (await client.call("credential.create", label="bot", max_calls=1))[
            "credential_id"
        ]
    if method.startswith("schedule"):
        planned = {"function": "bookmarks.list", "data": {"home_set_id": who["home_set"]}, "cron": "0 8 * * *"}
        real[examples.SCHEDULE] = (await client.call("job.schedule", **planned))["schedule_id"]
    if method.startswith("ask"):
        asked = await client.subscribe("ask.opened")
        await client.call("job.run", function="asking.colour", wait=False)
        real[examples.ASK] = (await asked.next()).data["ask_id"]
    if method == "events.unsubscribe":
        real[examples.SUBSCRIPTION] = (await client.subscribe("*")).id
    return real


async def _fill(client: Client, method: str, session_id: str) -> None:
    """Put in place what an example about playbooks, contexts and stores speaks of."""
    if method == "session.playbook_find":
        await client.call("session.playbook_add", session_id=session_id, text="!!play.echo content:hello")
    if ".db." in method and not method.endswith(".set"):
        about = {"session_id": session_id} if method.startswith("session.") else {}
        await client.call(f"{method.partition('.')[0]}.db.set", **about, key="colour", value="red")
    if method.startswith("contexts"):
        await client.call("context.get")


async def _held_job(server: Running) -> str:
    """Return a job of bob's that waits for anna's approval."""
    bob = await server.client("bob")
    await server.app.operate("operator.user_defer", name="bob", approver="anna")
    begun = await bob.call("job.run", function="asking.colour", wait=False)
    return str(begun["job_id"])


async def test_discover_shows_what_the_caller_may_call(server: Running) -> None:
    """A limited credential sees its methods only, and only the schemas they need; nobody sees the operator's."""
    await server.credential("anna")
    user = await server.services.store.read(lambda tx: tx.one("SELECT id FROM users WHERE name = 'anna'"))
    assert user is not None
    limited = await server.services.store.write(
        lambda tx: authenticator.issue(tx, user[0], "agent", ("session.*", "rpc.discover"))
    )
    async with Client(server.url, limited) as client:
        document = await client.call("rpc.discover")
        for name in ("jobs.list", "operator.user_add"):
            with pytest.raises(CallError):
                await client.call(name)
    names = {method["name"] for method in document["methods"]}
    assert names == {m.name for m in PUBLIC if m.name.startswith("session.") or m.is_open or not m.needs_auth}
    assert "Listing" in document["components"]["schemas"]
    assert "JobPage" not in document["components"]["schemas"]
    assert meta_schema_faults(document) == []


async def test_discover_before_authentication(server: Running) -> None:
    """Before authentication only what anybody may call is shown."""
    async with Client(server.url) as client:
        document = await client.call("rpc.discover")
    assert {one["name"] for one in document["methods"]} == {m.name for m in PUBLIC if not m.needs_auth}


def notification_faults(name: str, params: Any) -> list[str]:
    """Return where the params of a notification break the schemas that the document gives."""
    described = next(one for one in DOCUMENT["x-notifications"] if one["name"] == name)
    schema = {
        "type": "object",
        "required": [param["name"] for param in described["params"] if param["required"]],
        "properties": {param["name"]: param["schema"] for param in described["params"]},
        "additionalProperties": False,
        "components": DOCUMENT["components"],
    }
    return [f"{name} {error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(params)]


async def test_notifications_are_as_described(server: Running) -> None:
    """The hello and the events of a walk fit the schemas of their notifications."""
    client = await server.client("anna")
    assert notification_faults("$/hello", client.hello) == []
    subscription = await client.subscribe("*")
    session_id = await client.create_session("work")
    await client.cd(session_id, path="sessions")
    await client.call("session.update", session_id=session_id, name="reading")
    await client.action("bookmarks.add", session_id)
    await client.destroy_session(session_id)
    seen = set()
    while "session.destroyed" not in seen:
        event = await subscription.next()
        seen.add(event.topic)
        assert notification_faults(event.topic, event.model_dump(exclude={"topic"})) == []
    assert seen >= {"session.created", "session.entered", "session.left", "session.changed", "job.completed"}


def _strings(pattern: str) -> set[str]:
    found: set[str] = set()
    for room in ("rpcserver", "jobs"):
        for path in (ROOT / room).rglob("*.py"):
            if path.name not in ("notifications.py", "client.py"):
                found |= set(re.findall(pattern, path.read_text("utf-8")))
    return found


def test_every_notification_is_listed() -> None:
    """What the code sends and what the document lists are the same."""
    sent = _strings(r'encode_notification\(\s*"(\$/\w+)"') | _strings(r'append\(\s*tx, "([\w.]+)"')
    sent |= _strings(
        r'"((?:job|ask|schedule)\.(?:started|progress|completed|failed|cancelled|opened|resolved|missed|withdrawn))"'
    )
    assert sent == {told.name for told in NOTIFICATIONS}


def below(error: type[Exception]) -> list[type[Exception]]:
    """Return our classes of errors below one."""
    found = [one for near in error.__subclasses__() for one in (near, *below(near))]
    return [one for one in found if one.__module__.endswith(".errors")]


@pytest.mark.parametrize("root", get_args(errors.Told))
def test_what_a_client_is_told_stands_on_the_class(root: type[Any]) -> None:
    """Every kind of every room is listed with its code; what one kind stands for has one code, whatever raises it."""
    for error in (root, *below(root)):
        if hasattr(error, "kind"):
            assert errors.KINDS[error.kind][0] is errors.Code[error.code], error
            assert re.fullmatch("[A-Z_]+", error.kind) and error.__doc__, error


def test_every_kind_is_told_as_its_class_says() -> None:
    """An error is told with the code, kind and words of its class; a kind of no class is nowhere told."""
    told = errors.describe(own_errors.SessionNotReady("s_1", "creating"))
    assert (told.code, told.data["kind"], told.data["retryable"]) == (-32017, "SESSION_NOT_READY", True)
    assert errors.KINDS["SESSION_NOT_READY"] == (errors.Code.CONFLICT, "The session is being made or destroyed.")
    named = {kind for method in METHODS for kind in method.errors}
    assert {*named, *errors.ANY_CALL, *errors.AUTHENTICATED_CALL} <= set(errors.KINDS)


def test_every_error_of_the_core_has_a_kind() -> None:
    """Of its own, or of the error it is a case of; none is unforeseen, and none is only "the core refused"."""
    without = [one for one in below(core_errors.CoreError) if not hasattr(one, "kind")]
    assert without == [core_errors.NotFound, core_errors.Refused]
