"""A session of the rows as heroscript: the language's own session, filled in, and where it stands.

Whoever plays it in a session of any context ends in a session of the picture's: `core.session_define` goes there first.

Source: heroscript.md 5.4 (what `session.heroscript()` printed).
"""

from collections.abc import Mapping
from typing import Any

import orjson

from core import sets
from core.calls import Scene
from core.errors import CoreError
from heroscript import OurTime, Params
from heroscript import session as language
from rpcserver.playbooks import rows as playbooks
from rpcserver.sessions import contexts
from rpcserver.sessions.rows import Session
from store import Tx


def session_text(tx: Tx, session: Session, home_set_id: str) -> str:
    """Return the text up to the playbook."""
    row = contexts.find(tx, session.core_user_id, session.context_name)
    shared = _params("context.params_set", {} if row is None else orjson.loads(row.params))
    own = _params("session.params_set", orjson.loads(session.params))
    context = language.Context(None, session.context_name, params=shared[0])
    if row is not None:
        context.id, context.interactive, context.coderoot = row.number, bool(row.is_interactive), row.coderoot or ""
    filled = language.Session(
        session.name,
        context,
        own[0],
        OurTime(session.start_at // 1000),
        OurTime(session.end_at // 1000) if session.end_at else None,
        bool(session.is_interactive),
        coderoot=session.coderoot or "",
    )
    filled.playbook_priorities_add(playbooks.priorities(tx, session.id))
    more = [shared[1], own[1], *(_word(name, value) for name, value in playbooks.env(tx, session.id).items())]
    if session.working_set_id not in (None, home_set_id):
        more.append(language.action_line("session.cd", _place(tx, session, home_set_id)))
    options = orjson.loads(session.options)
    about = {"options": orjson.dumps(options).decode()} if any(options.values()) else {}
    return "".join(f"{line}\n" for line in filled.head(about, more))


def _params(with_json: str, values: Mapping[str, Any]) -> tuple[Params, str]:
    """Return values as parameters when they come back as they were, else with the action that sets them by JSON."""
    if language.comes_back(values):
        return language.params_of(values), ""
    return Params(), language.action_line(with_json, {"json": language.as_json(values)})


def _word(name: str, value: str) -> str:
    plain = {"key": name, "val": value}
    given = plain if language.comes_back(plain) else {"json": language.as_json({name: value})}
    return language.action_line("session.env_set", given)


def _place(tx: Tx, session: Session, home_set_id: str) -> dict[str, str]:
    """Return the working set by its names from home, so that it is found in another world built alike, else its id."""
    by_id = {"set": str(session.working_set_id)}
    scene, names, place = Scene(tx, session.core_user_id), list[str](), by_id["set"]
    try:
        while place != home_set_id:
            shown = sets.show(scene, place)
            if shown.parent_id is None:
                return by_id
            names.append(shown.name)
            place = shown.parent_id
        path = "/".join(["~", *reversed(names)])
        return {"path": path} if sets.resolve(scene, home_set_id, path, home_set_id) == by_id["set"] else by_id
    except CoreError:
        return by_id  # a set above it is not to be seen, or a name cannot stand in a path
