"""Scripts: programs that answer for an attribute or a rule, and what they remember. Running them is a job's business.

Source: sessions.md 4.3.
"""

import ast
import json
from dataclasses import dataclass, field, replace
from typing import Any

from core.calls import Scene, core_call
from core.durations import Pause
from core.errors import BadScript, NameTaken, ScriptNotFound, StillUsed
from core.names import checked_name
from core.quota import PIECE, are_many
from store import Tx, new_id

MAX_TEXT_CHARACTERS = 16 * 1024
MAX_STATE_BYTES = 16 * 1024
MAX_COOL_DOWN_S = 24 * 3600
COLUMNS = "id, owner_id, name, text, is_on, is_shared, initial_state, state, is_retired, extra_params, cool_down_s"


@dataclass(frozen=True, slots=True)
class Script:
    """A script. `initial_state` is what it remembers of a token it never met; `state` what it knows of all.

    `extra_params` it sees as `params`; `cool_down_s` is the least time between the beginnings of two runs.
    """

    id: str
    owner_id: str
    name: str
    text: str
    is_on: bool
    is_shared: bool
    initial_state: dict[str, Any]
    state: dict[str, Any]
    is_retired: bool = False
    extra_params: dict[str, Any] = field(default_factory=dict)
    cool_down_s: float = 0


@core_call("core.script.create")
def create(
    scene: Scene,
    name: str,
    text: str,
    initial_state: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    *,
    is_shared: bool = False,
    extra_params: dict[str, Any] | None = None,
    cool_down_s: Pause = 0,
) -> str:
    """Make a script and return its id. Raises BadScript or NameTaken.

    Args:
        initial_state: what it remembers of a token at first; state: of all tokens together.
        is_shared: let others have it answer for their tokens.
        extra_params: constants it sees as `params`.
        cool_down_s: the least time between the beginnings of two runs.
    """
    checked_name(name)
    if scene.tx.one("SELECT 1 FROM scripts WHERE owner_id = ? AND name = ?", scene.user_id, name):
        raise NameTaken(name)
    script_id = new_id("sc_")
    scene.tx.run(
        f"INSERT INTO scripts ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, 1, ?, ?, ?, 0, ?, ?, ?)",  # noqa: S608
        *(script_id, scene.user_id, name, parsed(text), int(is_shared)),
        *(_state(initial_state or {}), _state(state or {}), _state(extra_params or {})),
        *(_cool_down(cool_down_s), scene.tx.clock.now_ms()),
    )
    return script_id


def _edit_some(scene: Scene, script_id: str, *, text: str | None = None, **_: Any) -> bool:
    owned(scene, script_id)
    return text is not None and _forget_some(scene.tx, script_id)


@core_call("core.script.edit", before=_edit_some)
def edit(
    scene: Scene,
    script_id: str,
    *,
    text: str | None = None,
    is_on: bool | None = None,
    is_shared: bool | None = None,
    state: dict[str, Any] | None = None,
    is_retired: bool | None = None,
    extra_params: dict[str, Any] | None = None,
    cool_down_s: Pause | None = None,
) -> Script:
    """Change a script of the caller's and return it; a new text forgets what it remembered of tokens.

    The new text runs from now on, wherever it is attached. What is not given stays; the rest is as in
    core.script.create.

    Args:
        is_retired: nothing new may use it; what uses it goes on.
    """
    given: dict[str, Any] = {"text": text, "is_on": is_on, "is_shared": is_shared, "is_retired": is_retired}
    given |= {"state": state, "extra_params": extra_params, "cool_down_s": cool_down_s}
    given = {name: value for name, value in given.items() if value is not None}
    after = replace(owned(scene, script_id), **given)
    scene.tx.run(
        "UPDATE scripts SET text = ?, is_on = ?, is_shared = ?, state = ?, is_retired = ?, extra_params = ?,"
        " cool_down_s = ? WHERE id = ?",
        *(parsed(after.text), int(after.is_on), int(after.is_shared), _state(after.state), int(after.is_retired)),
        *(_state(after.extra_params), _cool_down(after.cool_down_s), script_id),
    )
    if text is not None:
        scene.tx.run("DELETE FROM script_states WHERE script_id = ?", script_id)
    return owned(scene, script_id)


@core_call("core.script.get", is_reading=True)
def get(scene: Scene, script_id: str) -> Script:
    """Return a script of the caller's."""
    return owned(scene, script_id)


@core_call("core.script.list", is_reading=True)
def list_(scene: Scene, *, limit: int = 50, after: tuple[str] | None = None) -> tuple[list[Script], tuple[str] | None]:
    """Return a page of the caller's scripts, the oldest first."""
    rows = scene.tx.all(
        f"SELECT {COLUMNS} FROM scripts WHERE owner_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        *(scene.user_id, after[0] if after else "", limit + 1),
    )
    found = [_script(row) for row in rows[:limit]]
    return found, (found[-1].id,) if len(rows) > limit else None


def _delete_some(scene: Scene, script_id: str) -> bool:
    owned(scene, script_id)
    refuse_if_used(scene.tx, scene.user_id, script_id)
    return _forget_some(scene.tx, script_id)


def _forget_some(tx: Tx, script_id: str) -> bool:
    """Forget some of what a script remembers of tokens, where that is much; False: it was not."""
    is_much = are_many(tx, "script_states", "script_id", script_id)
    if is_much:
        tx.run(
            "DELETE FROM script_states WHERE script_id = ?"
            " AND token_id IN (SELECT token_id FROM script_states WHERE script_id = ? LIMIT ?)",
            *(script_id, script_id, PIECE),
        )
    return is_much


@core_call("core.script.delete", before=_delete_some)
def delete(scene: Scene, script_id: str) -> None:
    """Delete a script of the caller's. Raises StillUsed while a token or rule of theirs names it."""
    owned(scene, script_id)
    refuse_if_used(scene.tx, scene.user_id, script_id)
    scene.tx.run("DELETE FROM scripts WHERE id = ?", script_id)


@core_call("core.script.load", is_reading=True)
def load(scene: Scene, script_id: str, owner_id: str, token_id: str | None) -> tuple[Script, dict[str, Any]]:
    """Return a script that answers for a token of `owner_id`, and what it remembers of that token.

    Raises ScriptNotFound.
    """
    script = find(scene.tx, script_id)
    if script is None or not (script.owner_id == owner_id or script.is_shared):
        raise ScriptNotFound(script_id)
    row = scene.tx.one("SELECT state FROM script_states WHERE token_id = ? AND script_id = ?", token_id, script_id)
    return script, json.loads(row[0]) if row else dict(script.initial_state)


@core_call("core.script.keep")
def keep(
    scene: Scene, script_id: str, token_id: str | None, local: dict[str, Any] | None, state: dict[str, Any] | None
) -> None:
    """Keep what a script now remembers of a token, and of all; None is unchanged."""
    if state is not None:
        scene.tx.run("UPDATE scripts SET state = ? WHERE id = ?", _state(state), script_id)
    if local is not None and token_id is not None and scene.tx.one("SELECT 1 FROM tokens WHERE id = ?", token_id):
        scene.tx.run(
            "INSERT INTO script_states (token_id, script_id, state) VALUES (?, ?, ?)"
            " ON CONFLICT (token_id, script_id) DO UPDATE SET state = excluded.state",
            *(token_id, script_id, _state(local)),
        )


def find(tx: Tx, script_id: str) -> Script | None:
    """Return the script whoever asks."""
    row = tx.one(f"SELECT {COLUMNS} FROM scripts WHERE id = ?", script_id)  # noqa: S608 (a constant)
    return _script(row) if row else None


def owned(scene: Scene, script_id: str) -> Script:
    """Return a script of the caller's. Raises ScriptNotFound."""
    script = find(scene.tx, script_id)
    if script is None or script.owner_id != scene.user_id:
        raise ScriptNotFound(script_id)
    return script


def parsed(text: str) -> str:
    """Return the text if it parses. Raises BadScript."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise BadScript(f"it is longer than {MAX_TEXT_CHARACTERS} characters")
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise BadScript(f"line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadScript("it cannot be read: it holds a NUL, or is nested too deeply") from error
    return text


def refuse_if_used(tx: Tx, user_id: str, id: str) -> None:
    """Raise StillUsed while a token or rule of the user names the script or remote."""
    # The id is random text of its own: wherever it stands, it is meant.
    if tx.one("SELECT 1 FROM rules WHERE owner_id = ? AND instr(decision, ?) > 0 LIMIT 1", user_id, id):
        raise StillUsed(id, "a rule")
    sources = """(instr(attributes, '"script"') > 0 OR instr(attributes, '"remote"') > 0)"""  # these have an index
    if tx.one(
        f"SELECT 1 FROM tokens WHERE owner_id = ? AND {sources} AND instr(attributes, ?) > 0 LIMIT 1",  # noqa: S608
        *(user_id, id),
    ):
        raise StillUsed(id, "a token")


def _script(row: tuple[Any, ...]) -> Script:
    id, owner_id, name, text, is_on, is_shared, initial, state, is_retired, params, cool_down_s = row
    states = (json.loads(initial), json.loads(state), bool(is_retired), json.loads(params))
    return Script(id, owner_id, name, text, bool(is_on), bool(is_shared), *states, cool_down_s)


def _state(state: dict[str, Any]) -> str:
    text = json.dumps(state)
    if len(text) > MAX_STATE_BYTES:
        raise BadScript(f"it remembers, or is given, more than {MAX_STATE_BYTES} bytes")
    return text


def _cool_down(seconds: float) -> float:
    if not 0 <= seconds <= MAX_COOL_DOWN_S:
        raise BadScript(f"cool_down_s must be from 0 to {MAX_COOL_DOWN_S}")
    return seconds
