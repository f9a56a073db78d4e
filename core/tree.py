"""Many sets and tokens at once: a whole tree is built aside, batch after batch, and shown when it is complete."""

from collections.abc import Iterable
from dataclasses import dataclass

from core import members, quota, sets, tokens
from core.access import readable_place, writable_place
from core.calls import Scene, core_call
from core.names import sort_key
from core.rules import guard_set


@dataclass(frozen=True, slots=True)
class Node:
    """A token to be, and the set it defines when `set_id` is given. `attributes` is JSON text.

    `rank` is its place in the order of arrival in its parent, from 1; the root has no parent.
    """

    token_id: str
    parent_id: str | None
    rank: int
    type: str
    name: str
    attributes: str
    set_id: str | None = None


@core_call("core.tree.add")
def add(scene: Scene, nodes: Iterable[Node], is_public: bool, filled: dict[str, int]) -> None:
    """Add nodes owned by the caller. A parent must come before what stands in it, in this call or an earlier one.

    Args:
        is_public: let everybody read the sets; their files are open to whoever reads the set.
        filled: sets that are complete, with the number of tokens in them.
    """
    now = scene.tx.clock.now_ms()
    rows = list(nodes)
    size = sum(len(node.name) + len(node.attributes) for node in rows)
    quota.require(scene.tx, scene.quota, scene.user_id, len(rows), size)
    quota.note(scene.tx, scene.user_id, len(rows), size)
    scene.tx.many(
        "INSERT INTO tokens (id, type, owner_id, name, attributes, is_public, is_human, revision, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, 1, 1, ?)",
        [
            (n.token_id, n.type, scene.user_id, n.name, n.attributes, int(is_public or n.set_id is None), now)
            for n in rows
        ],
    )
    scene.tx.many(
        "INSERT INTO sets (id, token_id, parent_id, enter_policy, next_rank, created_at)"
        " VALUES (?, ?, ?, 'readers', 1, ?)",
        [(node.set_id, node.token_id, node.parent_id, now) for node in rows if node.set_id is not None],
    )
    scene.tx.many(
        "INSERT INTO members (set_id, token_id, kind, sort, rank, is_sticky, session_id)"
        " VALUES (?, ?, ?, ?, ?, 0, NULL)",
        [
            (node.parent_id, node.token_id, "child" if node.set_id else "member", sort_key(node.name), node.rank)
            for node in rows
            if node.parent_id is not None
        ],
    )
    scene.tx.many("UPDATE sets SET next_rank = ? WHERE id = ?", [(count + 1, id) for id, count in filled.items()])


@core_call("core.tree.attach")
def attach(scene: Scene, set_id: str, parent_id: str) -> None:
    """Show a finished tree below a set the caller may write."""
    parent, place = writable_place(scene, parent_id), readable_place(scene, set_id)
    guard_set(scene, "child_adding", parent, place.token_id)
    members.put(scene.tx, parent_id, place.token_id, "child")
    scene.say("child_added", set_id=parent_id, token_id=place.token_id)
    scene.tx.run("UPDATE sets SET parent_id = ? WHERE id = ?", parent_id, set_id)


@core_call("core.tree.delete")
def delete(scene: Scene, set_id: str, limit: int) -> bool:
    """Delete up to `limit` parts of a tree that was never attached, from its leaves, and tell whether all is gone."""
    left = limit
    while left > 0:
        leaf = _deepest(scene, set_id)
        if leaf is None:
            return True
        for token_id in members.only_here(scene.tx, leaf, scene.user_id, left):
            tokens.erase(scene.tx, token_id)
            left -= 1
        if left > 0:
            sets.delete(scene, leaf)
            left -= 1
    return False


def _deepest(scene: Scene, set_id: str) -> str | None:
    if scene.tx.one("SELECT 1 FROM sets WHERE id = ?", set_id) is None:
        return None
    while (row := scene.tx.one("SELECT id FROM sets WHERE parent_id = ? LIMIT 1", set_id)) is not None:
        set_id = row[0]
    return set_id
