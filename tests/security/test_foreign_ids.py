"""An id of somebody else's opens nothing and says nothing: every method, with every id there is, as somebody else.

The table is made from the methods, so a new one, or a new param that takes an id, is in it by itself.
"""

import json
import re
from pathlib import Path
from typing import Any

from rpcserver.client import CallError, Client
from rpcserver.methods import METHODS
from rpcserver.openrpc.document import Description
from tests.builders import dump, make_place
from tests.conftest import Running, run_server
from tests.rpcserver.test_every_call import Stage, ask_the_desk
from tests.rpcserver.test_openrpc import PUBLIC

IDS = re.compile(r"(^|_)ids?$")
SECRET = "private-name-of-annas"
# What makes the rest of a call good enough to be looked at; what is not here is taken from the method's example.
REST: dict[str, Any] = {
    **{"name": "a name", "type": "note", "text": "1", "attribute": "text", "value": 1, "access": "read"},
    **{"key": "k", "event": "custom.ring", "decision": "never", "kind": "manual", "definition": {"question": "Well?"}},
    **{"function": "bookmarks.list", "enter_policy": "members", "is_on": True, "is_sticky": True, "order": []},
}


async def foreign(server: Running) -> tuple[Stage, dict[str, list[str]]]:
    """Make what is anna's alone, and return the ids of each kind, by what params that take them are called."""
    anna, bob = await server.client("anna"), await server.client("bob")
    stage = Stage(server, anna, bob, await server.operator())
    await stage.build()
    await ask_the_desk(stage)
    session = await anna.create_session(SECRET)
    await anna.call("session.playbook_add", session_id=session, text="!!db.set key:a value:b")
    who = await anna.call("auth.whoami")
    await anna.action("bookmarks.add")
    job = (await anna.list_jobs())[0].job_id
    planned = {"function": "bookmarks.list", "data": {"home_set_id": who["home_set"]}, "every_s": 3600}
    schedule = (await anna.call("job.schedule", **planned))["schedule_id"]
    credential = (await anna.call("credential.create", label=SECRET, max_calls=9))["credential_id"]
    asked = (await anna.call("asks.list"))["items"]
    private = await make_place(anna, SECRET)  # her home holds what is public
    sets, tokens = [stage.hidden, private], [stage.note, stage.other, stage.me]
    found = {
        **{"session": [session], "set": sets, "parent": sets, "token": tokens, "job": [job], "schedule": [schedule]},
        **{"credential": [credential], "group": [stage.group], "script": [stage.script], "remote": [stage.remote]},
        **{"rule": [stage.rule], "ask": [one["ask_id"] for one in asked] or ["k_none"], "home_set": sets},
    }
    return stage, found


def kind_of(param: str) -> str:
    """Return of what a param takes the id."""
    stem = param.removesuffix("s").removesuffix("_id")
    return next((kind for kind in ("session", "credential", "job", "ask") if stem == kind), stem.rpartition("_")[2])


def params_of(method: str, ids: dict[str, Any]) -> dict[str, Any]:
    """Return params for a method: these ids, and for the rest what fits."""
    example = next((each.params for each in ALL[method].examples), {})
    params = {name: given for name, given in example.items() if not IDS.search(name)}
    for one in DESCRIBED[method]["params"]:
        name, schema = one["name"], one["schema"]
        if name in ids:
            params[name] = [ids[name]] if "array" in json.dumps(schema)[:200] and name.endswith("s") else ids[name]
        elif one["required"] and name not in params:
            params[name] = REST.get(name, {})
    return params


DESCRIBED = {method["name"]: method for method in Description(METHODS).whole()["methods"]}
ALL = {method.name: method for method in PUBLIC}
SPARED = ("auth.logout", "events.subscribe", "events.unsubscribe")  # they end, or begin, what the test listens with


async def test_no_id_of_another_s_opens_or_says_anything(tmp_path: Path) -> None:
    """Bob is answered alike for an id of anna's and for one that never was; nothing of hers is told, nor changed."""
    async with run_server(tmp_path / "data", calls_per_s_per_user=0) as server:
        stage, found = await foreign(server)
        bob = stage.clients["bob"]
        his_session = await bob.create_session("mine")
        his = {"session_id": his_session, "set_id": stage.bobs}
        tried, reached, wrong = 0, set[str](), []
        before = await dump(server.services.store)

        async def answer(method: str, ids: dict[str, Any]) -> str:
            got = await answered(bob, method, params_of(method, ids))
            text = json.dumps(got, sort_keys=True)
            for one in sorted((str(given) for given in ids.values()), key=len, reverse=True):
                text = text.replace(one, "ID")
            return re.sub(r'("ref": )"[^"]*"', r"\1REF", text)

        for method in ALL:
            takes = [one["name"] for one in DESCRIBED[method]["params"] if IDS.search(one["name"])]
            if method in SPARED or not takes:
                continue
            for param in takes:
                for given in found.get(kind_of(param), []):
                    others = {name: his[name] for name in takes if name in his and name != param}
                    never = re.sub(r"[0-9a-f]", "0", given)
                    theirs = await answer(method, {**others, param: given})
                    nobodys = await answer(method, {**others, param: never})
                    tried += 1
                    reached |= {method} if '"code"' in theirs and "INVALID_PARAMS" not in theirs else set()
                    if theirs != nobodys or SECRET in theirs:
                        wrong.append((method, param, theirs[:300], nobodys[:300]))
        assert wrong == []
        assert tried > 100 and len(reached) > 60, (tried, sorted(set(ALL) - reached))
        after = await dump(server.services.store)
        for table, rows in before.items():
            hers = [row for row in rows if stage.me in row or found["session"][0] in row]
            assert all(row in after[table] for row in hers), table


async def answered(client: Client, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the raw answer to a call."""
    try:
        return {"result": await client.call(method, **params)}
    except CallError as error:
        return {"error": error.as_dict()}
