"""A session as heroscript: who it is, what it knows, where it stands, and its playbook; played, it is made again.

Source: heroscript specification, section 5.4 (what `session.heroscript()` printed).
"""

from datetime import UTC, datetime
from typing import Any

import orjson

from play import Params
from play.errors import PlayError
from play.layout import action_text
from rpcserver import contexts, playbooks
from rpcserver.sessions import Session
from store import Tx


def heroscript(tx: Tx, session: Session, home_set_id: str, show_done: bool) -> str:
    """Return the text; with `show_done` the actions that are done stand in it too."""
    parts = [_context(tx, session), _definition(session), _params(session)]
    parts += [
        _line("session.env_set", {"key": name, "val": value}) for name, value in playbooks.env(tx, session.id).items()
    ]
    parts += [
        _line("session.priorities_add", {"nr": str(number), "filter": filters})
        for number, filters in playbooks.priorities(tx, session.id).items()
    ]
    if session.working_set_id not in (None, home_set_id):
        parts.append(_line("session.cd", {"set": str(session.working_set_id)}))
    steps = playbooks.find(tx, session.id, include_done=show_done)
    return "\n".join(part for part in [*parts, playbooks.heroscript(steps)] if part)


def _context(tx: Tx, session: Session) -> str:
    context = contexts.find(tx, session.core_user_id, session.context_name)
    if context is None:
        return ""
    about = {"name": context.name, "interactive": str(bool(context.is_interactive)).lower()}
    if context.coderoot:
        about["coderoot"] = context.coderoot
    text = _line("core.context_define", about)
    params = orjson.loads(context.params)
    return text + (_words("core.params_context_set", "context.params_set", params) if params else "")


def _definition(session: Session) -> str:
    options = orjson.loads(session.options)
    about = {
        "name": session.name,
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
    if all(isinstance(value, str) for value in values.values()):
        params = Params()
        try:
            for key, value in values.items():
                params.set(key, value)
            if "id" not in values and Params.parse(params.heroscript()).get_map() == values:
                return _line(plain, values)
        except PlayError:
            pass  # a name that no parameter can have
    return _line(with_json, {"json": orjson.dumps(values).decode()})


def _line(name: str, values: dict[str, str]) -> str:
    return action_text(f"!!{name}", "", [(key, value, "") for key, value in values.items()], (), ())


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
