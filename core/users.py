"""Users: each has a token, a private home, a public landing set and a wallet below home.

Source: sessions.md 1.2 (home, landing, wallet), 3.3 (job:create_user).
"""

from dataclasses import dataclass

from core import members, sets, tokens
from core.calls import Scene, core_call
from core.errors import NameTaken, UserNotFound
from core.names import checked_user_name
from store import Tx, new_id, now_ms

COLUMNS = "id, name, token_id, home_set_id, landing_set_id, wallet_set_id, is_frozen, created_at"


@dataclass(frozen=True, slots=True)
class User:
    """A row of `users`."""

    id: str
    name: str
    token_id: str
    home_set_id: str
    landing_set_id: str
    wallet_set_id: str
    is_frozen: int
    created_at: int


@core_call("core.user.create")
def create(scene: Scene, name: str) -> User:
    """Make a user with his token and sets. Raises BadName or NameTaken."""
    checked_user_name(name)
    tx = scene.tx
    if tx.one("SELECT 1 FROM users WHERE name = ?", name):
        raise NameTaken(name)
    user_id = new_id("u_")
    token_id = tokens.insert(tx, "user", user_id, name, {})
    home = _own_set(tx, user_id, f"{name}'s home", None, is_public=False)
    landing = _own_set(tx, user_id, f"{name}'s landing", None, is_public=True)
    wallet = _own_set(tx, user_id, "wallet", home, is_public=False)
    user = User(user_id, name, token_id, home, landing, wallet, 0, now_ms())
    tx.run(
        f"INSERT INTO users ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
        user.id,
        user.name,
        user.token_id,
        user.home_set_id,
        user.landing_set_id,
        user.wallet_set_id,
        user.is_frozen,
        user.created_at,
    )
    # Home membership is permanent: a token is always in at least one set.
    members.put(tx, home, token_id, "member", is_sticky=True)
    link = tx.one("SELECT token_id FROM sets WHERE id = ?", landing)
    if link:
        members.put(tx, home, link[0], "link")
    return user


@core_call("core.user.read", is_reading=True)
def read(scene: Scene, user_id: str | None = None) -> User:
    """Return a user: oneself."""
    user = find(scene.tx, user_id or scene.user_id)
    if user is None or user.id != scene.user_id:
        raise UserNotFound(user_id or scene.user_id)
    return user


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


def _own_set(tx: Tx, user_id: str, name: str, parent_id: str | None, *, is_public: bool) -> str:
    token_id = tokens.insert(tx, "set", user_id, name, {}, is_public=is_public)
    return sets.define(tx, token_id, parent_id)
