"""Remotes: calls to the outside that answer for an attribute or a rule. Making them is a job's business.

Source: sessions.md 4.2, 4.4.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from core import groups
from core.calls import Scene, core_call
from core.definitions import Definition, checked
from core.errors import NameTaken, RemoteNotFound
from core.names import checked_name
from core.scripts import refuse_if_used
from store import Tx, new_id

Kind = Literal["url", "manual"]
COLUMNS = "id, owner_id, name, kind, definition, is_on, is_shared, is_retired, group_id"


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote. A `manual` one has no address: a person answers, its owner or the owner of the token.

    `group_id` are those who may use it besides its owner, None: all or nobody, as `is_shared` says.
    """

    id: str
    owner_id: str
    name: str
    kind: str
    definition: Definition
    is_on: bool
    is_shared: bool
    is_retired: bool = False
    group_id: str | None = None


@core_call("core.remote.create")
def create(
    scene: Scene,
    name: str,
    definition: Definition,
    kind: Kind = "url",
    *,
    is_shared: bool = False,
    group_id: str | None = None,
) -> str:
    """Make a remote and return its id. Whether the server may call its address is the operator's to say.

    Args:
        definition: how it is called; its fields stand under The definition of a remote.
        is_shared: let others have it answer for their tokens.
        group_id: let the members of this group do so, and nobody else.

    Raises BadRemote for what makes no sense, NameTaken or GroupNotFound.
    """
    checked_name(name)
    if scene.tx.one("SELECT 1 FROM remotes WHERE owner_id = ? AND name = ?", scene.user_id, name):
        raise NameTaken(name)
    if group_id is not None:
        groups.require(scene, group_id)
    remote_id = new_id("rm_")
    scene.tx.run(
        f"INSERT INTO remotes ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?, 1, ?, 0, ?, ?)",  # noqa: S608
        *(remote_id, scene.user_id, name, kind, _text(kind, definition), int(is_shared)),
        *(group_id, scene.tx.clock.now_ms()),
    )
    return remote_id


@core_call("core.remote.edit")
def edit(
    scene: Scene,
    remote_id: str,
    *,
    definition: Definition | None = None,
    is_on: bool | None = None,
    is_shared: bool | None = None,
    is_retired: bool | None = None,
    group_id: str | None = None,
) -> Remote:
    """Change a remote of the caller's, or turn it off and on, and return it. What is not given stays.

    Args:
        is_retired: nothing new may use it; what uses it goes on.
        group_id: as in core.remote.create; empty text: none.

    Raises BadRemote.
    """
    remote = owned(scene, remote_id)
    if group_id:
        groups.require(scene, group_id)
    scene.tx.run(
        "UPDATE remotes SET definition = ?, is_on = ?, is_shared = ?, is_retired = ?, group_id = ? WHERE id = ?",
        _text(remote.kind, definition or remote.definition),
        int(remote.is_on if is_on is None else is_on),
        int(remote.is_shared if is_shared is None else is_shared),
        int(remote.is_retired if is_retired is None else is_retired),
        (remote.group_id if group_id is None else group_id) or None,
        remote_id,
    )
    return owned(scene, remote_id)


@core_call("core.remote.get", is_reading=True)
def get(scene: Scene, remote_id: str) -> Remote:
    """Return a remote of the caller's."""
    return owned(scene, remote_id)


@core_call("core.remote.list", is_reading=True)
def list_(scene: Scene, *, limit: int = 50, after: tuple[str] | None = None) -> tuple[list[Remote], tuple[str] | None]:
    """Return a page of the caller's remotes, the oldest first."""
    rows = scene.tx.all(
        f"SELECT {COLUMNS} FROM remotes WHERE owner_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        *(scene.user_id, after[0] if after else "", limit + 1),
    )
    found = [_remote(row) for row in rows[:limit]]
    return found, (found[-1].id,) if len(rows) > limit else None


@core_call("core.remote.delete")
def delete(scene: Scene, remote_id: str) -> None:
    """Delete a remote of the caller's. Raises StillUsed while a token or rule of his names it."""
    owned(scene, remote_id)
    refuse_if_used(scene.tx, scene.user_id, remote_id)
    scene.tx.run("DELETE FROM remotes WHERE id = ?", remote_id)


@core_call("core.remote.load", is_reading=True)
def load(scene: Scene, remote_id: str, owner_id: str) -> tuple[Remote, str]:
    """Return the remote that answers for a token of `owner_id`, and its own owner's name. Raises RemoteNotFound."""
    remote = find(scene.tx, remote_id)
    if remote is None or not is_usable(scene.tx, remote, owner_id):
        raise RemoteNotFound(remote_id)
    row = scene.tx.one("SELECT name FROM users WHERE id = ?", remote.owner_id)
    return remote, row[0] if row else ""


def is_usable(tx: Tx, remote: Remote, user_id: str) -> bool:
    """Tell whether a user may have the remote answer for his tokens and rules."""
    if remote.owner_id == user_id:
        return True
    return groups.contains(tx, remote.group_id, user_id) if remote.group_id else remote.is_shared


def find(tx: Tx, remote_id: str) -> Remote | None:
    """Return the remote whoever asks."""
    row = tx.one(f"SELECT {COLUMNS} FROM remotes WHERE id = ?", remote_id)  # noqa: S608 (a constant)
    return _remote(row) if row else None


def owned(scene: Scene, remote_id: str) -> Remote:
    """Return a remote of the caller's. Raises RemoteNotFound."""
    remote = find(scene.tx, remote_id)
    if remote is None or remote.owner_id != scene.user_id:
        raise RemoteNotFound(remote_id)
    return remote


def _remote(row: tuple[Any, ...]) -> Remote:
    id, owner_id, name, kind, definition, is_on, is_shared, is_retired, group_id = row
    flags = (bool(is_on), bool(is_shared), bool(is_retired))
    return Remote(id, owner_id, name, kind, Definition(**json.loads(definition)), *flags, group_id)


def _text(kind: str, definition: Definition) -> str:
    checked(kind, definition)
    return json.dumps(definition.given())
