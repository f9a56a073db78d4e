"""Plugin: the actions `session.*`, `context.*` and the settings under `core.*`: what a session can do, from a script.

Each goes through the method of the API that does it, so that a script can do what its user can, and nothing else.
"""

import json
from typing import Any

from heroscript import Params
from jobs import JobError
from plugins.builtin.playbooks import data_of
from plugins.hooks import Play, plays


@plays("session.cd", is_calling=True)
async def cd(play: Play) -> Any:
    """`!!session.cd path:a/b`, `set:ID` or `to:back|forward|up|home`."""
    for action in play.find():
        names = {"path": "path", "set": "set_id", "set_id": "set_id", "to": "to"}
        target = {names[key]: value for key, value in action.params.get_map().items() if key in names}
        if action.params.args and not target:
            target = {"path": action.params.args[0]}
        listing = await play.call("session.cd", session_id=play.session.id, **target)
        return {"set": listing["current_set"]["id"], "name": listing["current_set"]["set_name"]}
    return None


@plays("session.ls", is_calling=True)
async def ls(play: Play) -> Any:
    """`!!session.ls`: the names of the first 200 tokens of the working set."""
    for _ in play.find():
        listing = await play.call("session.ls", session_id=play.session.id, limit=200, sections=["contents"])
        return [token["name"] for token in listing["contents"]["tokens"]]
    return None


@plays("session.action", is_calling=True)
async def act(play: Play) -> Any:
    """`!!session.action command:ID value:...`: run a command of the pallet; other params are its arguments."""
    for action in play.find():
        params = action.params
        given: dict[str, Any] = {"args": data_of(params, ("command", "value", "data", "as"))}
        if params.exists("value"):
            given["value"] = params.get("value")
        command = params.get("command")
        answer = await play.call("session.action", session_id=play.session.id, token_id=command, **given)
        return answer["response"]
    return None


@plays("session.create", is_calling=True)
async def create(play: Play) -> Any:
    """`!!session.create name:... as:NAME`: make another session."""
    for action in play.find():
        params = action.params
        given = {key: params.get(key) for key in ("name", "context_name", "set_id", "coderoot") if params.exists(key)}
        return (await play.call("session.create", **given))["session_id"]
    return None


@plays("session.call", is_calling=True)
async def call(play: Play) -> Any:
    """`!!session.call method:NAME data:'{...}' as:NAME`: call any method of the API."""
    for action in play.find():
        params = action.params
        return await play.call(params.get("method"), **data_of(params, ("method", "data", "as")))
    return None


@plays("session.env_set,session.env_set_once,session.env_delete", is_calling=True)
def env(play: Play) -> str | None:
    """`!!session.env_set key:NAME val:...`: the word `{NAME}` in the actions behind it; `json:'{...}'` for several."""
    for action in play.find():
        if action.name == "env_set" and action.params.exists("json"):
            words = {name: str(value) for name, value in _given(action.params, is_json=True).items()}
            play.env.update(words)
            return ", ".join(words)
        key = action.params.get("key")
        if action.name == "env_delete":
            play.env.pop(key, None)
            return key
        if action.name == "env_set_once" and key in play.env:
            raise JobError(f"The word {key!r} is set already.")
        play.env[key] = action.params.get_default("val", action.params.get_default("value", ""))
        return key
    return None


@plays("session.params_set,core.params_session_set,context.params_set,core.params_context_set", is_calling=True)
async def params_set(play: Play) -> Any:
    """`!!core.params_session_set k:v ...`: parameters of the session, or of its context; `json:'{...}'` for others."""
    for action in play.find():
        is_context = "context" in (action.actor, action.name.split("_")[1])
        about = {"context_name": play.session.context_name} if is_context else {"session_id": play.session.id}
        noun = "context" if is_context else "session"
        found = await play.call(f"{noun}.get", **about)
        params = {**found["params"], **_given(action.params, is_json=action.name == "params_set")}
        await play.call(f"{noun}.update", **about, params=params)
        return sorted(params)
    return None


@plays("session.priorities_add", is_calling=True)
async def priorities_add(play: Play) -> Any:
    """`!!session.priorities_add nr:10 filter:'gittools.*'`, or several as `json:'{"10": ...}'`: what is played when."""
    for action in play.find():
        params = action.params
        is_json = params.exists("json")
        priorities = _given(params, is_json=True) if is_json else {params.get("nr"): params.get("filter")}
        return await play.call("session.playbook_priorities_add", session_id=play.session.id, priorities=priorities)
    return None


@plays("core.session_define,session.configure,core.configure", is_calling=True)
async def define(play: Play) -> Any:
    """`!!core.session_define name:... context:... start:... end:... interactive:... coderoot:...`: become that session.

    A name that another session of the user has there is passed over.
    """
    for action in play.find():
        params = action.params
        context = params.get_default("context", play.session.context_name)
        changes: dict[str, Any] = {key: params.get(key) for key in ("start", "end", "coderoot") if params.exists(key)}
        if params.exists("interactive"):
            changes["interactive"] = params.get_default_true("interactive")
        if params.exists("options"):
            changes["options"] = json.loads(params.get("options"))
        if context != play.session.context_name:
            changes["context_name"] = context
        name = params.get_default("name", play.session.name)
        if name != play.session.name and not await _is_taken(play, context, name):
            changes["name"] = name
        if changes:
            await play.call("session.update", session_id=play.session.id, **changes)
        return sorted(changes)
    return None


@plays("core.context_define,context.configure", is_calling=True)
async def context_define(play: Play) -> Any:
    """`!!context.configure name:... coderoot:... interactive:...`: settings of a context, this session's by default."""
    for action in play.find():
        params = action.params
        changes: dict[str, Any] = {"coderoot": params.get("coderoot")} if params.exists("coderoot") else {}
        if params.exists("interactive"):
            changes["interactive"] = params.get_default_true("interactive")
        name = params.get_default("name", play.session.context_name)
        await play.call("context.update", context_name=name, **changes)
        return sorted(changes)
    return None


@plays("core.coderoot_set", is_calling=True)
async def coderoot_set(play: Play) -> str | None:
    """`!!core.coderoot_set coderoot:...`: where the session's checkouts lie."""
    for action in play.find():
        coderoot = action.params.get("coderoot")
        await play.call("session.update", session_id=play.session.id, coderoot=coderoot)
        return coderoot
    return None


def _given(params: Params, is_json: bool) -> dict[str, Any]:
    if not is_json or not params.exists("json"):
        return {**dict.fromkeys(params.args, ""), **params.get_map()}
    try:
        given = json.loads(params.get("json"))
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise JobError("The parameter 'json' must be a JSON object.")
    return given


async def _is_taken(play: Play, context_name: str, name: str) -> bool:
    cursor = None
    while True:
        page = await play.call("sessions.list", context_name=context_name, limit=200, cursor=cursor)
        if any(session["name"] == name for session in page["items"]):
            return True
        cursor = page["next_cursor"]
        if cursor is None:
            return False
