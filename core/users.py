"""Users: each has a token, a group of their own and a private home.

Source: sessions.md 1.2 (home), 1.3, 3.3 (job:create_user).
"""

from dataclasses import astuple, dataclass, replace
from typing import Any

from core import attribute_values, groups, members, sets, tokens
from core.access import readable_token
from core.calls import Scene, core_call, kept
from core.errors import BadValue, UserExists, UserNotFound
from core.names import checked_user_name
from store import Tx, new_id

COLUMNS = "id, name, token_id, group_id, home_set_id, is_frozen, created_at"


@dataclass(frozen=True, slots=True)
class User:
    """A row of `users`. `group_id` is their own group; a frozen user moves nowhere and is let in nowhere."""

    id: str
    name: str
    token_id: str
    group_id: str
    home_set_id: str
    is_frozen: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Profile(User):
    """A user as they are told of. `guid` is their id, which no other server gives to anybody.

    `token_type` is the type of their token; `attributes`, those of their token, are there when they were asked for.
    """

    guid: str = ""
    token_type: str = "user"
    attributes: dict[str, Any] | None = None


@core_call("core.user.create")
def create(scene: Scene, name: str) -> User:
    """Make a user with their token, group and home. Raises BadName or UserExists."""
    checked_user_name(name)
    tx = scene.tx
    if tx.one("SELECT 1 FROM users WHERE name = ?", name):
        raise UserExists(name)
    user_id = new_id("u_")
    token_id = tokens.insert(tx, "user", user_id, name, {})
    home = sets.define(tx, tokens.insert(tx, "set", user_id, f"{name}'s home", {}, is_public=False), None)
    user = User(user_id, name, token_id, new_id("g_"), home, 0, scene.tx.clock.now_ms())
    tx.run(f"INSERT INTO users ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", *astuple(user))  # noqa: S608 (a constant)
    groups.establish_own(tx, user.group_id, user.id, name)
    # Home membership is permanent: a token is always in at least one set.
    members.put(tx, home, token_id, "member", is_sticky=True)
    return user


@core_call("core.user.read", is_reading=True)
def read(scene: Scene, user_id: str | None = None, *, wide: bool = False, editable: bool = False) -> Profile:
    """Return a user: oneself, or one whose own group the caller is in. Raises UserNotFound.

    Args:
        wide: also the attributes of their token that the caller may read.
        editable: of these only those the caller may write.
    """
    user = _profile(scene, user_id or scene.user_id)
    if not (wide or editable):
        return user
    token = readable_token(scene, user.token_id)
    attributes = attribute_values.shown(scene, token, None)
    if editable:
        attributes = {
            name: value for name, value in attributes.items() if attribute_values.is_writable(scene, token, name, None)
        }
    return replace(user, attributes=attributes)


@kept
def _profile(scene: Scene, user_id: str) -> Profile:
    row = scene.tx.one(f"SELECT {COLUMNS}, id FROM users WHERE id = ?", user_id)  # noqa: S608 (constants)
    user = Profile(*row) if row else None
    if user is None or not (user.id == scene.user_id or groups.contains(scene.tx, user.group_id, scene.user_id)):
        raise UserNotFound(user_id)
    return user


@core_call("core.user.list", is_reading=True)
def list_(
    scene: Scene, *, is_frozen: bool | None = None, limit: int = 50, after: tuple[str] | None = None
) -> tuple[list[User], tuple[str] | None]:
    """Return a page of all users, the oldest first.

    Args:
        is_frozen: only those who are, or are not.
    """
    rows = scene.tx.all(
        f"SELECT {COLUMNS} FROM users WHERE id > ? AND (? IS NULL OR is_frozen = ?) ORDER BY id LIMIT ?",  # noqa: S608
        *(after[0] if after else "", is_frozen, is_frozen, limit + 1),
    )
    found = [User(*row) for row in rows[:limit]]
    return found, (found[-1].id,) if len(rows) > limit else None


@core_call("core.user.freeze")
def freeze(scene: Scene, user_id: str | None = None, name: str | None = None, *, is_frozen: bool = True) -> User:
    """Freeze a user, or let them move again: frozen, they are let in nowhere and their connections are closed.

    What they own stays. No place they stand in keeps a session of theirs from going home or from ending.

    Args:
        user_id, name: one of them says who. Raises UserNotFound.
    """
    if (user_id is None) == (name is None):
        raise BadValue("user_id", "give either user_id or name")
    user = find(scene.tx, user_id) if user_id is not None else find_by_name(scene.tx, name or "")
    if user is None:
        raise UserNotFound(user_id or name or "")
    scene.tx.run("UPDATE users SET is_frozen = ? WHERE id = ?", int(is_frozen), user.id)
    return replace(user, is_frozen=int(is_frozen))


@core_call("core.user.find", is_reading=True)
def find_named(scene: Scene, name: str) -> str:
    """Return the id of the user of that name. Raises UserNotFound."""
    user = find_by_name(scene.tx, name)
    if user is None:
        raise UserNotFound(name)
    return user.id


def find(tx: Tx, user_id: str) -> User | None:
    """Return the user whoever asks."""
    row = tx.one(f"SELECT {COLUMNS} FROM users WHERE id = ?", user_id)  # noqa: S608 (a constant)
    return User(*row) if row else None


def find_by_name(tx: Tx, name: str) -> User | None:
    """Return the user of that name."""
    row = tx.one(f"SELECT {COLUMNS} FROM users WHERE name = ?", name)  # noqa: S608 (a constant)
    return User(*row) if row else None
