"""A session as heroscript: who it is, what it knows, where it stands, and its playbook; played, it is made again.

Whoever plays it in a session of any context ends in a session of the picture's: `core.session_define` goes there first.

Source: heroscript specification, section 5.4 (what `session.heroscript()` printed).
"""

import re
from datetime import UTC, datetime
from typing import Any

import orjson

from core import paths, sets
from core.calls import Scene
from core.errors import CoreError
from play import Params
from play.errors import PlayError
from play.layout import action_text
from rpcserver import contexts, playbooks
from rpcserver.sessions import Session
from store import Tx

_REFERENCE = re.compile(r"\{(?=\w+\}|secret:)")  # what a play would replace: {NAME}, {secret:NAME}


def heroscript(tx: Tx, session: Session, home_set_id: str) -> str:
    """Return the text up to the playbook."""
    parts = [_context(tx, session), _definition(session), _context_params(tx, session), _params(session)]
    parts += [_word(name, value) for name, value in playbooks.env(tx, session.id).items()]
    if session.working_set_id not in (None, home_set_id):
        parts.append(_line("session.cd", _place(tx, session, home_set_id)))
    # Last, and all at once: from then on they order what is left, and nothing above may be left then.
    parts.append(_priorities(playbooks.priorities(tx, session.id)))
    return "".join(f"{part}\n" for part in parts if part)


def _context(tx: Tx, session: Session) -> str:
    context = contexts.find(tx, session.core_user_id, session.context_name)
    if context is None:
        return ""
    about = {"name": context.name, "interactive": str(bool(context.is_interactive)).lower()}
    if context.coderoot:
        about["coderoot"] = context.coderoot
    return _line("core.context_define", about)


def _context_params(tx: Tx, session: Session) -> str:
    context = contexts.find(tx, session.core_user_id, session.context_name)
    params = orjson.loads(context.params) if context is not None else {}
    return _words("core.params_context_set", "context.params_set", params) if params else ""


def _definition(session: Session) -> str:
    options = orjson.loads(session.options)
    about = {
        "name": session.name,
        "context": session.context_name,
        "start": _time(session.start_at),
        "interactive": str(bool(session.is_interactive)).lower(),
    }
    if session.end_at:
        about["end"] = _time(session.end_at)
    if session.coderoot:
        about["coderoot"] = session.coderoot
    if any(options.values()):
        about["options"] = orjson.dumps(options).decode()
    return _line("core.session_define", about)


def _params(session: Session) -> str:
    params = orjson.loads(session.params)
    return _words("core.params_session_set", "session.params_set", params) if params else ""


def _words(plain: str, with_json: str, values: Any) -> str:
    """Write parameters as such when they come back as they were, else as JSON."""
    return _line(plain, values) if _comes_back(values) else _line(with_json, {"json": _json(values)})


def _word(name: str, value: str) -> str:
    plain = {"key": name, "val": value}
    return _line("session.env_set", plain if _comes_back(plain) else {"json": _json({name: value})})


def _comes_back(values: dict[str, Any]) -> bool:
    if "id" in values or not all(isinstance(text, str) and not _REFERENCE.search(text) for text in values.values()):
        return False
    params = Params()
    try:
        for key, value in values.items():
            params.set(key, value)
        return Params.parse(params.heroscript()).get_map() == values
    except PlayError:
        return False  # a name that no parameter can have


def _json(values: Any) -> str:
    """Write an object so that neither a word nor a line break is put into it when it is played."""
    text = orjson.dumps(values).decode().replace("\\\\", "\\u005c").replace("<", "\\u003c")
    return _REFERENCE.sub(r"\\u007b", text)


def _priorities(found: dict[int, str]) -> str:
    if len(found) > 1:
        return _line("session.priorities_add", {"json": orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS).decode()})
    return "".join(_line("session.priorities_add", {"nr": str(nr), "filter": text}) for nr, text in found.items())


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
        return {"path": path} if paths.resolve(scene, home_set_id, path, home_set_id) == by_id["set"] else by_id
    except CoreError:
        return by_id  # a set above it is not to be seen, or a name cannot stand in a path


def _line(name: str, values: dict[str, str]) -> str:
    return action_text(f"!!{name}", "", [(key, value, "") for key, value in values.items()], (), ())


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
