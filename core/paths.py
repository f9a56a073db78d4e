"""Paths: names joined by `/` that lead from one set to another."""

from core.access import rights
from core.calls import Scene, core_call
from core.errors import SetNotFound
from core.names import sort_key
from core.sets import find, show


@core_call("core.set.resolve", is_reading=True)
def resolve(scene: Scene, set_id: str, path: str, home_set_id: str) -> str:
    """Follow a path of names joined by `/` and return the set it leads to.

    `..` is the parent, `.` stays, `~` (first) is home, a leading `/` begins at the topmost set above this one.
    A name means a child set, then a linked one; case counts only when two differ in nothing else.
    Raises SetNotFound, naming the part that led nowhere.
    """
    here = show(scene, set_id)
    parts = path.split("/")
    if parts[0] == "~":
        here, parts = show(scene, home_set_id), parts[1:]
    elif path.startswith("/"):
        while here.parent_id is not None and (above := find(scene.tx, scene.user_id, here.parent_id)):
            if not above.rights.can_read:
                break
            here = above
    for part in parts:
        if part in ("", "."):
            continue
        onward = here.parent_id if part == ".." else _named(scene, here.id, part)
        if onward is None:
            raise SetNotFound(part)
        here = show(scene, onward)
    return here.id


def _named(scene: Scene, set_id: str, name: str) -> str | None:
    rows = scene.tx.all(
        "SELECT s.id, t.name, t.owner_id, t.is_public, t.id FROM members m JOIN sets s ON s.token_id = m.token_id"
        " JOIN tokens t ON t.id = m.token_id WHERE m.set_id = ? AND m.sort = ? AND m.kind IN ('child', 'link')"
        " ORDER BY m.kind, m.token_id",
        set_id,
        sort_key(name),
    )
    seen = [row for row in rows if rights(scene.tx, scene.user_id, row[4], row[2], row[3]).can_read]
    exact = [row for row in seen if row[1] == name]
    found = exact or seen
    return found[0][0] if found else None
