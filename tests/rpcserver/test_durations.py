"""Every duration a caller can give: too short to be meant, or longer than anybody waits, is refused by its name."""

import json
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from rpcserver.methods import METHODS
from rpcserver.openrpc.document import Description
from tests.conftest import Running
from tests.rpcserver.test_openrpc import PUBLIC, real_params

TOO_SHORT, TOO_LONG = (5e-324, 1e-9), (1e308, 1e12)
DURATIONS = [
    (method["name"], param["name"])
    for method in Description(METHODS).whole()["methods"]
    for param in method["params"]
    if param["name"].endswith("_s") or param["name"] == "seconds"
]
EXAMPLES = {method.name: method for method in PUBLIC}
# Of those whose example says another time, or that have none.
BASE: dict[str, dict[str, Any]] = {
    "job.schedule": {"function": "core.user.read"},
    "core.session.remember": {"name": "offer", "value": 5},
    "core.script.create": {"name": "a script", "text": "1"},
}


async def refusal(client: Client, method: str, params: dict[str, Any]) -> CallError:
    """Return the error a call is answered with."""
    with pytest.raises(CallError) as caught:
        await client.call(method, **params)
    return caught.value


def test_the_table_knows_them() -> None:
    """It is made from the document: what is added is in it."""
    known = {("job.run", "delay_s"), ("job.run", "timeout_s"), ("job.schedule", "every_s"), ("job.wait", "timeout_s")}
    known |= {("credential.create", "expires_in_s"), ("credential.create", "interval_s"), ("job.log", "timeout_s")}
    assert known < set(DURATIONS)


@pytest.mark.parametrize(("method", "param"), DURATIONS, ids=".".join)
async def test_a_duration_nobody_means_is_refused(server: Running, anna: Client, method: str, param: str) -> None:
    """The error is -32602 and names the parameter."""
    base = BASE.get(method)
    if base is None:
        examples = EXAMPLES[method].examples if method in EXAMPLES else ()
        base = await real_params(server, anna, method, examples[0]) if examples else {}
    client = anna if method in EXAMPLES else await server.operator()
    for seconds in (*TOO_SHORT, *TOO_LONG):
        error = await refusal(client, method, {**base, param: seconds})
        assert error.code == -32602, (seconds, error)
        assert f"{param}: " in str(error) or f"{param} is" in str(error), (seconds, error)


@pytest.mark.parametrize("deadline_ms", [5e-324, 0.5, 1e308, 10**18, 0, -1])
async def test_a_deadline_nobody_means_is_refused(anna: Client, deadline_ms: float) -> None:
    """The same goes for the time a call gives itself."""
    error = await refusal(anna, "session.get", {"_meta": {"deadline_ms": deadline_ms}})
    assert error.code == -32602 and "_meta.deadline_ms" in str(error)


@pytest.mark.parametrize("at", [-1, 0, 1, 2**63 - 1, 10**18, 253_402_300_800_000])
async def test_a_moment_nobody_means_is_refused(anna: Client, at: int) -> None:
    """A moment is one that a calendar has, and to come."""
    error = await refusal(anna, "job.schedule", {"function": "core.user.read", "at": at})
    assert error.code == -32602 and ("params: at: " in str(error) or "moment is past" in str(error))


@pytest.mark.parametrize(
    ("definition", "param"),
    [
        ({"url": "https://a.example", "per_s": 5e-324}, "per_s"),
        ({"url": "https://a.example", "per_s": 1e308}, "per_s"),
        ({"url": "https://a.example", "cache_s": 5e-324}, "cache_s"),
        ({"url": "https://a.example", "cache_s": 1e308}, "cache_s"),
        ({"url": "https://a.example", "cool_down_s": 5e-324}, "cool_down_s"),
        ({"question": "Well?", "timeout_s": 5e-324}, "timeout_s"),
        ({"question": "Well?", "timeout_s": 1e308}, "timeout_s"),
    ],
)
async def test_durations_of_a_remote(anna: Client, definition: dict[str, Any], param: str) -> None:
    """Those inside a definition are told by name too."""
    kind = "manual" if "question" in definition else "http"
    error = await refusal(anna, "core.remote.create", {"name": "one", "kind": kind, "definition": definition})
    assert error.code == -32602 and param in json.dumps([error.message, error.data])


@pytest.mark.parametrize("timeout_s", ["5e-324", "1e308", "0", "-3"])
async def test_a_question_of_a_playbook(anna: Client, timeout_s: str) -> None:
    """A play says which parameter of which action makes no sense, and no traceback does."""
    await anna.call("session.playbook_add", text=f"!!play.ask question:'Well?' timeout_s:'{timeout_s}'")
    job_id = (await anna.call("session.play"))["job_id"]
    record = await anna.call("job.wait", job_id=job_id, timeout_s=20)
    told = json.dumps(record)
    assert "timeout_s" in told and "server's log" not in told, told
