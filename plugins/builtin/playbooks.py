"""Plugin: the actions `play.*`: say something, run a job, wait, ask a person.

`play.include` is followed when a playbook is added, so that its mistakes show before anything runs.
"""

import json
from typing import Any

from heroscript import Params
from jobs import JobError
from plugins.hooks import Play, plays

MAX_WAIT_S = 24 * 3600.0
_KINDS = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
}


@plays("play.echo", is_calling=True)
def echo(play: Play) -> str | None:
    """`!!play.echo content:'...'`, or words: write it into the play's log and result."""
    for action in play.find():
        text = action.params.get_default("content", " ".join(action.params.args))
        play.log(text)
        return text
    return None


@plays("play.include,core.include", is_calling=True)
def include(play: Play) -> str:
    """`!!play.include path:...`: what it names stands behind it already."""
    return "included"


@plays("play.wait", is_calling=True)
async def wait(play: Play) -> Any:
    """`!!play.wait seconds:1.5`, or `job:ID` until that job has ended."""
    for action in play.find():
        params = action.params
        if params.exists("job"):
            return await _ended(play, params.get("job"))
        seconds = params.get_float("seconds")
        if not 0 <= seconds <= MAX_WAIT_S:
            raise JobError(f"play.wait waits 0 to {MAX_WAIT_S:g} seconds.")
        await play.sleep(seconds)
    return None


@plays("play.run", is_calling=True)
async def run(play: Play) -> Any:
    """`!!play.run function:NAME data:'{...}'`: run a job function inside the play; other params are its data."""
    for action in play.find():
        params = action.params
        return await play.run_named(params.get("function"), data_of(params, ("function", "data", "as")))
    return None


@plays("play.ask", is_calling=True)
async def ask(play: Play) -> Any:
    """`!!play.ask question:'...' as:NAME`: ask, and remember the answer as the word `{NAME}`.

    Further: `default`, `choices` (a list), `type` (string, int, number, bool), `timeout_s`, and `secret`, whose answer
    is kept as the context's secret `{secret:NAME}` and shown nowhere.
    """
    for action in play.find():
        params = action.params
        name = params.get_default("as", params.get_default("key", ""))
        kind = params.get_default("type", "string")
        if kind not in _KINDS:
            raise JobError(f"The type of an answer is one of {', '.join(_KINDS)}.")
        form: dict[str, Any] = {"is_secret": params.get_default_false("secret")}
        if params.exists("choices"):
            form["choices"] = tuple(params.get_list("choices"))
        else:
            form["schema"] = _KINDS[kind]
        if params.exists("default"):
            form["default"] = _typed(params.get("default"), kind)
        if params.exists("timeout_s"):
            form["timeout_s"] = params.get_float("timeout_s")
        answer = await play.ask(params.get_default("question", params.get_default("text", "")), **form)
        if not form["is_secret"]:
            if name:
                play.env[name] = answer if isinstance(answer, str) else json.dumps(answer)
            return answer
        await play.call(
            "context.db.set", context_name=play.session.context_name, key=name, value=str(answer), secret=True
        )
        return "***"
    return None


def data_of(params: Params, own: tuple[str, ...]) -> dict[str, Any]:
    """Return what an action passes on: the object under `data`, and every parameter that is not its own, as text."""
    text = params.get_default("data", "{}")
    try:
        data = json.loads(text)
    except ValueError:
        raise JobError("The parameter 'data' must be a JSON object.") from None
    if not isinstance(data, dict):
        raise JobError("The parameter 'data' must be a JSON object.")
    return {**data, **{key: value for key, value in params.get_map().items() if key not in own}}


def _typed(text: str, kind: str) -> Any:
    params = Params({"value": text})
    try:
        if kind == "int":
            return params.get_i64("value")
        if kind == "number":
            return params.get_float("value")
    except ValueError:
        raise JobError(f"The default {text!r} is no {kind}.") from None
    return params.get_default_true("value") if kind == "bool" else text


async def _ended(play: Play, job_id: str) -> Any:
    while True:
        row = await play.call("job.wait", job_id=job_id, timeout_s=30.0)
        if row["state"] in ("failed", "cancelled", "lost"):
            raise JobError(f"The job {job_id} is {row['state']}: {(row['error'] or {}).get('message', '')}")
        if row["state"] == "succeeded":
            return row["result"]
