"""Groups of people: members may read what a group reads, admins say who is in it.

Every user has one of their own, named `@user`: its members may read what is private of theirs, its admins write it.
Source: sessions.md 1.3.
"""

from dataclasses import dataclass

from core.calls import Scene, core_call
from core.errors import BadName, GroupNotFound, NameTaken, NotWritable, OwnGroup, StillUsed, UserNotFound
from core.names import checked_name
from core.quota import PIECE, are_many
from store import Tx, new_id

OWN = "@"  # begins the names of the users' own groups, and of no others


@dataclass(frozen=True, slots=True)
class Membership:
    """Somebody in a group; an admin says who else is."""

    user_id: str
    is_admin: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A group with its people, by the order of their ids."""

    id: str
    name: str
    owner_id: str
    members: list[Membership]


@core_call("core.group.create")
def create(scene: Scene, name: str) -> str:
    """Make a group of which the caller is the first admin, and return its id. Each user names their own: NameTaken."""
    if checked_name(name).startswith(OWN):
        raise BadName(name, f"a name that begins with {OWN} is that of a user's own group")
    if scene.tx.one("SELECT 1 FROM user_groups WHERE owner_id = ? AND name = ?", scene.user_id, name):
        raise NameTaken(name)
    return _establish(scene.tx, new_id("g_"), name, scene.user_id)


@core_call("core.group.read", is_reading=True)
def read(scene: Scene, group_id: str) -> Group:
    """Return a group the caller is in. Raises GroupNotFound."""
    row = scene.tx.one("SELECT id, name, owner_id FROM user_groups WHERE id = ?", group_id)
    if row is None or not (row[2] == scene.user_id or contains(scene.tx, group_id, scene.user_id)):
        raise GroupNotFound(group_id)
    people = scene.tx.all(
        "SELECT user_id, is_admin FROM user_group_members WHERE group_id = ? ORDER BY user_id", group_id
    )
    return Group(row[0], row[1], row[2], [Membership(user_id, bool(is_admin)) for user_id, is_admin in people])


@core_call("core.group.list", is_reading=True)
def list_(scene: Scene) -> list[Group]:
    """Return the groups the caller is in, the oldest first."""
    rows = scene.tx.all("SELECT group_id FROM user_group_members WHERE user_id = ? ORDER BY group_id", scene.user_id)
    return [read(scene, row[0]) for row in rows]


@core_call("core.group.member.add")
def add(scene: Scene, group_id: str, user_id: str, is_admin: bool = False) -> None:
    """Put a user into a group the caller administers, or change whether they are an admin of it.

    Into the caller's own group, `group_id` of core.user.read: then they may read all that is private of the caller's,
    and as an admin write it.
    """
    _administered(scene, group_id)
    if scene.tx.one("SELECT 1 FROM users WHERE id = ?", user_id) is None:
        raise UserNotFound(user_id)
    if not is_admin:
        _check_own(scene.tx, group_id, user_id)
    scene.tx.run("DELETE FROM user_group_members WHERE group_id = ? AND user_id = ?", group_id, user_id)
    _insert(scene.tx, group_id, user_id, is_admin)
    _still_led(scene.tx, group_id)


@core_call("core.group.member.remove")
def remove(scene: Scene, group_id: str, user_id: str) -> None:
    """Take a user out of a group the caller administers; anybody may take themselves out.

    The last admin stays, and a user in their own group.
    """
    if user_id != scene.user_id:
        _administered(scene, group_id)
    _check_own(scene.tx, group_id, user_id)
    gone = scene.tx.run("DELETE FROM user_group_members WHERE group_id = ? AND user_id = ?", group_id, user_id)
    if not gone:
        raise UserNotFound(user_id)
    _still_led(scene.tx, group_id)


def _delete_some(scene: Scene, group_id: str) -> bool:
    _check_deletable(scene, group_id)
    is_long = are_many(scene.tx, "user_group_members", "group_id", group_id)
    if is_long:
        scene.tx.run(
            "DELETE FROM user_group_members WHERE group_id = ? AND user_id IN"
            " (SELECT user_id FROM user_group_members WHERE group_id = ? AND user_id <> ? LIMIT ?)",
            *(group_id, group_id, scene.user_id, PIECE),
        )
    return is_long


@core_call("core.group.delete", before=_delete_some)
def delete(scene: Scene, group_id: str) -> None:
    """Delete a group the caller administers. Raises StillUsed while a type, attribute or remote names it; OwnGroup."""
    _check_deletable(scene, group_id)
    scene.tx.run("DELETE FROM user_groups WHERE id = ?", group_id)


def _check_deletable(scene: Scene, group_id: str) -> None:
    _administered(scene, group_id)
    _check_own(scene.tx, group_id)
    for table, column in (("types", "creators_group_id"), ("attribute_groups", "group_id"), ("remotes", "group_id")):
        if scene.tx.one(f"SELECT 1 FROM {table} WHERE {column} = ?", group_id):  # noqa: S608 (constants)
            raise StillUsed(group_id, table.split("_")[0])


def establish_own(tx: Tx, group_id: str, user_id: str, user_name: str) -> None:
    """Make a new user's own group."""
    _establish(tx, group_id, OWN + user_name, user_id)


def contains(tx: Tx, group_id: str, user_id: str) -> bool:
    """Tell whether the user is in the group."""
    return tx.one("SELECT 1 FROM user_group_members WHERE group_id = ? AND user_id = ?", group_id, user_id) is not None


def require(scene: Scene, group_id: str) -> None:
    """Raise GroupNotFound unless the caller is in such a group: whether there are others is not theirs to find out."""
    if scene.tx.one("SELECT 1 FROM user_groups WHERE id = ? AND owner_id = ?", group_id, scene.user_id) is None:
        if not contains(scene.tx, group_id, scene.user_id):
            raise GroupNotFound(group_id)


def _establish(tx: Tx, group_id: str, name: str, user_id: str) -> str:
    tx.run(
        "INSERT INTO user_groups (id, name, owner_id, created_at) VALUES (?, ?, ?, ?)",
        group_id,
        name,
        user_id,
        tx.clock.now_ms(),
    )
    _insert(tx, group_id, user_id, True)
    return group_id


def _check_own(tx: Tx, group_id: str, user_id: str | None = None) -> None:
    row = tx.one("SELECT id FROM users WHERE group_id = ?", group_id)
    if row is not None and user_id in (None, row[0]):
        raise OwnGroup(group_id)


def _administered(scene: Scene, group_id: str) -> None:
    group = read(scene, group_id)
    if Membership(scene.user_id, True) not in group.members:
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
