"""Scripts: programs that answer for an attribute or a rule, and what they remember. Running them is a job's business.

Source: sessions.md 4.3.
"""

import ast
import json
from dataclasses import dataclass
from typing import Any

from core.calls import Scene, core_call
from core.errors import BadScript, NameTaken, ScriptNotFound, StillUsed
from core.names import checked_name
from store import Tx, new_id, now_ms

MAX_TEXT_CHARACTERS = 16 * 1024
MAX_STATE_BYTES = 16 * 1024
COLUMNS = "id, owner_id, name, text, is_on, is_shared, initial_state, state"


@dataclass(frozen=True, slots=True)
class Script:
    """A script. `initial_state` is what it remembers of a token it never met; `state` what it knows of all."""

    id: str
    owner_id: str
    name: str
    text: str
    is_on: bool
    is_shared: bool
    initial_state: dict[str, Any]
    state: dict[str, Any]


@core_call("core.script.create")
def create(
    scene: Scene,
    name: str,
    text: str,
    initial_state: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    *,
    is_shared: bool = False,
) -> str:
    """Make a script and return its id. Raises BadScript, with the line, when it does not parse.

    Args:
        initial_state: what it remembers of a token at first; state: of all tokens together.
        is_shared: let others have it answer for their tokens.
    """
    checked_name(name)
    if scene.tx.one("SELECT 1 FROM scripts WHERE owner_id = ? AND name = ?", scene.user_id, name):
        raise NameTaken(name)
    script_id = new_id("sc_")
    scene.tx.run(
        f"INSERT INTO scripts ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",  # noqa: S608 (a constant)
        *(script_id, scene.user_id, name, parsed(text), int(is_shared)),
        *(_state(initial_state or {}), _state(state or {}), now_ms()),
    )
    return script_id


@core_call("core.script.edit")
def edit(
    scene: Scene,
    script_id: str,
    *,
    text: str | None = None,
    is_on: bool | None = None,
    is_shared: bool | None = None,
    state: dict[str, Any] | None = None,
) -> Script:
    """Change a script of the caller's and return it; a new text forgets what it remembered of tokens."""
    script = owned(scene, script_id)
    scene.tx.run(
        "UPDATE scripts SET text = ?, is_on = ?, is_shared = ?, state = ? WHERE id = ?",
        script.text if text is None else parsed(text),
        int(script.is_on if is_on is None else is_on),
        int(script.is_shared if is_shared is None else is_shared),
        _state(script.state if state is None else state),
        script_id,
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


@core_call("core.script.delete")
def delete(scene: Scene, script_id: str) -> None:
    """Delete a script of the caller's. Raises StillUsed while a token or rule of his names it."""
    owned(scene, script_id)
    refuse_if_used(scene.tx, scene.user_id, script_id)
    scene.tx.run("DELETE FROM scripts WHERE id = ?", script_id)


@core_call("core.script.load", is_reading=True)
def load(scene: Scene, script_id: str, owner_id: str, token_id: str | None) -> tuple[Script, dict[str, Any]]:
    """Return a script that answers for a token of `owner_id`, and what it remembers of that token."""
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
    if tx.one("SELECT 1 FROM tokens WHERE owner_id = ? AND instr(attributes, ?) > 0 LIMIT 1", user_id, id):
        raise StillUsed(id, "a token")


def _script(row: tuple[Any, ...]) -> Script:
    id, owner_id, name, text, is_on, is_shared, initial, state = row
    return Script(id, owner_id, name, text, bool(is_on), bool(is_shared), json.loads(initial), json.loads(state))


def _state(state: dict[str, Any]) -> str:
    text = json.dumps(state)
    if len(text) > MAX_STATE_BYTES:
        raise BadScript(f"it remembers more than {MAX_STATE_BYTES} bytes")
    return text
