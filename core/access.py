"""Who may read and write what: one predicate, asked of one token or, as SQL, of all that a statement looks at.

A token is read by everybody when it is public, by its owner, by those granted to, and by the people of its owner's
own group; it is written by its owner, by those granted that, and by the admins of that group. A set is read and
written by whoever reads and writes its defining token. Source: sessions.md 1.3.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from core.calls import Scene
from core.errors import NotWritable, SetNotFound, TokenNotFound
from store import Tx

Access = Literal["read", "write"]

_GRANT = "SELECT g.access FROM grants g WHERE g.token_id = {token} AND g.user_id = ?"
_GROUP = (
    "SELECT p.is_admin FROM users o JOIN user_group_members p ON p.group_id = o.group_id"
    " WHERE o.id = {owner} AND p.user_id = ?"
)
_HELD = f"SELECT ({_GRANT.format(token='?')}), ({_GROUP.format(owner='?')})"


def readable_by(alias: str) -> str:
    """Return the condition that a token may be read; its values are those of `asker`.

    Args:
        alias: of `tokens` in the statement.
    """
    grant, group = _GRANT.format(token=f"{alias}.id"), _GROUP.format(owner=f"{alias}.owner_id")
    return f"({alias}.is_public = 1 OR {alias}.owner_id = ? OR EXISTS ({grant}) OR EXISTS ({group}))"


def asker(user_id: str) -> tuple[str, str, str]:
    """Return the values of `readable_by` for a user."""
    return user_id, user_id, user_id


@dataclass(frozen=True, slots=True)
class Rights:
    """What one user may do with one token, and with the set it defines."""

    is_owner: bool
    can_read: bool
    can_write: bool


OWNER = Rights(True, True, True)


def rights(tx: Tx, user_id: str, token_id: str, owner_id: str, is_public: int) -> Rights:
    """Decide from the owner, the public flag, the user's grant and the owner's own group."""
    if owner_id == user_id:
        return OWNER
    grant, is_admin = tx.one(_HELD, token_id, user_id, owner_id, user_id) or (None, None)
    can_read = bool(is_public) or grant is not None or is_admin is not None
    return Rights(False, can_read, grant == "write" or is_admin == 1)


def allow(tx: Tx, token_id: str, user_id: str, access: Access | None) -> None:
    """Keep what a user may do with a token beyond what everybody may; None: nothing."""
    tx.run("DELETE FROM grants WHERE token_id = ? AND user_id = ?", token_id, user_id)
    if access is not None:
        tx.run("INSERT INTO grants (token_id, user_id, access) VALUES (?, ?, ?)", token_id, user_id, access)


TOKEN_COLUMNS = "id, type, owner_id, name, attributes, is_public, is_human, revision, created_at"
_STANDS = (
    "SELECT 1 FROM members m JOIN sets s ON s.id = m.set_id JOIN tokens d ON d.id = s.token_id"  # noqa: S608 (constants)
    f" WHERE m.token_id = ? AND {readable_by('d')} LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A row of `tokens`; `attributes` is still JSON text, decoded only when somebody looks."""

    id: str
    type: str
    owner_id: str
    name: str
    attributes: str
    is_public: int
    is_human: int
    revision: int
    created_at: int

    @property
    def values(self) -> dict[str, Any]:
        """The attributes by name."""
        values: dict[str, Any] = json.loads(self.attributes)
        return values


def find_token(tx: Tx, token_id: str) -> Token | None:
    """Return the token whoever asks: permission is the caller's business."""
    row = tx.one(f"SELECT {TOKEN_COLUMNS} FROM tokens WHERE id = ?", token_id)  # noqa: S608 (a constant)
    return Token(*row) if row else None


def readable_token(scene: Scene, token_id: str) -> Token:
    """Return a token the caller may read. Raises TokenNotFound.

    A public token is open to whoever can read a set it stands in: alone, its id opens nothing.
    """
    token = find_token(scene.tx, token_id)
    if token is None or not (rights_in(scene, token).can_read or _is_seen(scene, token)):
        raise TokenNotFound(token_id)
    return token


def rights_in(scene: Scene, token: Token) -> Rights:
    """Return what the caller may do with a token by its owner, grant or group; that it is public says nothing yet."""
    return rights(scene.tx, scene.user_id, token.id, token.owner_id, 0)


def _is_seen(scene: Scene, token: Token) -> bool:
    if not token.is_public:
        return False
    if token.type == "set" or scene.tx.one("SELECT 1 FROM sets WHERE token_id = ?", token.id):
        return True
    return scene.tx.one(_STANDS, token.id, *asker(scene.user_id)) is not None


def writable_token(scene: Scene, token_id: str) -> Token:
    """Return a token the caller may write. Raises TokenNotFound or NotWritable."""
    token = readable_token(scene, token_id)
    if not rights_in(scene, token).can_write:
        raise NotWritable(token_id, token.name)
    return token


@dataclass(frozen=True, slots=True)
class Place:
    """A set together with its defining token, of the type `type`, and what the caller may do there.

    `counts` (member, child, link, visitor, gift) and `can_enter` are there when they were asked for.
    """

    id: str
    token_id: str
    type: str
    name: str
    owner_id: str
    owner_name: str
    parent_id: str | None
    enter_policy: str
    rights: Rights
    counts: dict[str, int] | None = None
    can_enter: bool | None = None


def find_place(tx: Tx, user_id: str, set_id: str) -> Place | None:
    """Return the set and the user's rights in it, whether they can read it or not."""
    return tx.kept(_find_place, user_id, set_id)


def _find_place(tx: Tx, user_id: str, set_id: str) -> Place | None:
    row = tx.one(
        "SELECT s.token_id, t.type, t.name, t.owner_id, coalesce(u.name, ''), s.parent_id, s.enter_policy, t.is_public"
        " FROM sets s JOIN tokens t ON t.id = s.token_id LEFT JOIN users u ON u.id = t.owner_id"
        " WHERE s.id = ?",
        set_id,
    )
    if row is None:
        return None
    token_id, type, name, owner_id, owner_name, parent_id, enter_policy, is_public = row
    held = rights(tx, user_id, token_id, owner_id, is_public)
    return Place(set_id, token_id, type, name, owner_id, owner_name, parent_id, enter_policy, held)


def readable_among(tx: Tx, user_id: str, set_ids: list[str]) -> set[str]:
    """Return those of the sets that the user can read."""
    found = ((set_id, find_place(tx, user_id, set_id)) for set_id in set_ids)
    return {set_id for set_id, place in found if place is not None and place.rights.can_read}


def readable_place(scene: Scene, set_id: str) -> Place:
    """Return the set, or raise SetNotFound: also when it is there and the caller cannot read it."""
    place = find_place(scene.tx, scene.user_id, set_id)
    if place is None or not place.rights.can_read:
        raise SetNotFound(set_id)
    return place


def writable_place(scene: Scene, set_id: str) -> Place:
    """Return a set the caller may change. Raises SetNotFound or NotWritable."""
    place = readable_place(scene, set_id)
    if not place.rights.can_write:
        raise NotWritable(set_id, place.name)
    return place
