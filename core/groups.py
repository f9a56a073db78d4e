"""Groups of people: members may read what a group reads, admins say who is in it. Source: sessions.md 1.3."""

from dataclasses import dataclass

from core.calls import Scene, core_call
from core.errors import GroupNotFound, NameTaken, NotWritable, StillUsed, UserNotFound
from core.names import checked_name
from store import Tx, new_id, now_ms


@dataclass(frozen=True, slots=True)
class Group:
    """A group with its people, as (user id, is admin), by the order of their ids."""

    id: str
    name: str
    owner_id: str
    members: list[tuple[str, bool]]


@core_call("core.group.create")
def create(scene: Scene, name: str) -> str:
    """Make a group of which the caller is the first admin, and return its id. Raises NameTaken."""
    if scene.tx.one("SELECT 1 FROM user_groups WHERE name = ?", checked_name(name)):
        raise NameTaken(name)
    group_id = new_id("g_")
    scene.tx.run(
        "INSERT INTO user_groups (id, name, owner_id, created_at) VALUES (?, ?, ?, ?)",
        group_id,
        name,
        scene.user_id,
        now_ms(),
    )
    _insert(scene.tx, group_id, scene.user_id, True)
    return group_id


@core_call("core.group.read", is_reading=True)
def read(scene: Scene, group_id: str) -> Group:
    """Return a group the caller is in. Raises GroupNotFound."""
    row = scene.tx.one("SELECT id, name, owner_id FROM user_groups WHERE id = ?", group_id)
    if row is None or not (row[2] == scene.user_id or contains(scene.tx, group_id, scene.user_id)):
        raise GroupNotFound(group_id)
    people = scene.tx.all(
        "SELECT user_id, is_admin FROM user_group_members WHERE group_id = ? ORDER BY user_id", group_id
    )
    return Group(row[0], row[1], row[2], [(user_id, bool(is_admin)) for user_id, is_admin in people])


@core_call("core.group.list", is_reading=True)
def list_(scene: Scene) -> list[Group]:
    """Return the groups the caller is in, the oldest first."""
    rows = scene.tx.all("SELECT group_id FROM user_group_members WHERE user_id = ? ORDER BY group_id", scene.user_id)
    return [read(scene, row[0]) for row in rows]


@core_call("core.group.member.add")
def add(scene: Scene, group_id: str, user_id: str, is_admin: bool = False) -> None:
    """Put a user into a group the caller administers, or change whether he is an admin of it."""
    _administered(scene, group_id)
    if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
        raise UserNotFound(user_id)
    scene.tx.run("DELETE FROM user_group_members WHERE group_id = ? AND user_id = ?", group_id, user_id)
    _insert(scene.tx, group_id, user_id, is_admin)
    _still_led(scene.tx, group_id)


@core_call("core.group.member.remove")
def remove(scene: Scene, group_id: str, user_id: str) -> None:
    """Take a user out of a group the caller administers; anybody may take himself out. The last admin stays."""
    if user_id != scene.user_id:
        _administered(scene, group_id)
    gone = scene.tx.run("DELETE FROM user_group_members WHERE group_id = ? AND user_id = ?", group_id, user_id)
    if not gone:
        raise UserNotFound(user_id)
    _still_led(scene.tx, group_id)


@core_call("core.group.delete")
def delete(scene: Scene, group_id: str) -> None:
    """Delete a group the caller administers. Raises StillUsed while a type or attribute names it."""
    _administered(scene, group_id)
    for table, column in (("types", "creators_group_id"), ("attribute_groups", "group_id")):
        if scene.tx.one(f"SELECT 1 FROM {table} WHERE {column} = ?", group_id):  # noqa: S608 (constants)
            raise StillUsed(group_id, table.split("_")[0])
    scene.tx.run("DELETE FROM user_groups WHERE id = ?", group_id)


def contains(tx: Tx, group_id: str, user_id: str) -> bool:
    """Tell whether the user is in the group."""
    return tx.one("SELECT 1 FROM user_group_members WHERE group_id = ? AND user_id = ?", group_id, user_id) is not None


def require(tx: Tx, group_id: str) -> None:
    """Raise GroupNotFound unless there is such a group."""
    if tx.one("SELECT 1 FROM user_groups WHERE id = ?", group_id) is None:
        raise GroupNotFound(group_id)


def _administered(scene: Scene, group_id: str) -> None:
    group = read(scene, group_id)
    if (scene.user_id, True) not in group.members:
        raise NotWritable(group_id, group.name)


def _insert(tx: Tx, group_id: str, user_id: str, is_admin: bool) -> None:
    tx.run(
        "INSERT INTO user_group_members (group_id, user_id, is_admin) VALUES (?, ?, ?)",
        group_id,
        user_id,
        int(is_admin),
    )


def _still_led(tx: Tx, group_id: str) -> None:
    if tx.one("SELECT 1 FROM user_group_members WHERE group_id = ? AND is_admin = 1", group_id) is None:
        raise StillUsed(group_id, "its people, who need an admin")
