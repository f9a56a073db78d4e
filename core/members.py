"""Members: which token stands in which set, and as what."""

from collections.abc import Sequence
from typing import Literal

from core.errors import AlreadyMember, NotMember
from core.names import sort_key
from core.types import COMMAND, is_a
from store import Tx

Kind = Literal["member", "child", "link", "visitor", "gift"]
ALL = 2**31


def put(
    tx: Tx, set_id: str, token_id: str, kind: Kind, *, is_sticky: bool = False, session_id: str | None = None
) -> None:
    """Put a token into a set, last in rank. Raises AlreadyMember."""
    if not put_if_new(tx, set_id, token_id, kind, is_sticky=is_sticky, session_id=session_id):
        raise AlreadyMember(set_id, token_id)


def put_if_new(
    tx: Tx, set_id: str, token_id: str, kind: Kind, *, is_sticky: bool = False, session_id: str | None = None
) -> bool:
    """Put a token that is not in a set into it, last in rank; tell whether it was not."""
    row = tx.one(
        "SELECT name, type, EXISTS (SELECT 1 FROM members WHERE set_id = ? AND token_id = ?) FROM tokens WHERE id = ?",
        *(set_id, token_id, token_id),
    )
    if row is not None and row[2]:
        return False
    rank = tx.one("UPDATE sets SET next_rank = next_rank + 1 WHERE id = ? RETURNING next_rank - 1", set_id)
    if row is None or rank is None:
        raise NotMember(set_id, token_id)
    tx.run(
        "INSERT INTO members (set_id, token_id, kind, sort, rank, is_sticky, session_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
        set_id,
        token_id,
        kind,
        sort_key(row[0]),
        rank[0],
        int(is_sticky),
        session_id,
    )
    # A plain word that is not `command` is no command: users' types alone are looked up.
    if row[1] == COMMAND or ("." in row[1] and is_a(tx, row[1], COMMAND)):
        tx.run("INSERT INTO commands (set_id, token_id) VALUES (?, ?)", set_id, token_id)
    return True


def take(tx: Tx, set_id: str, token_id: str, *, kind: Kind | None = None) -> None:
    """Take a token out of a set. Raises NotMember when it is not there (as that kind) or its place is permanent."""
    taken = tx.run(
        "DELETE FROM members WHERE set_id = ? AND token_id = ? AND is_sticky = 0 AND (? IS NULL OR kind = ?)",
        set_id,
        token_id,
        kind,
        kind,
    )
    if not taken:
        raise NotMember(set_id, token_id)


def take_out(tx: Tx, set_id: str, token_id: str, *, is_forced: bool = False) -> None:
    """Take a member, or a gift for everybody, out of a set. Raises NotMember, as for a permanent place without force.

    A user's token stays in their home whatever is forced: a token is always in at least one set.
    """
    taken = tx.run(
        "DELETE FROM members WHERE set_id = ? AND token_id = ? AND kind IN ('member', 'gift') AND session_id IS NULL"
        " AND (is_sticky = 0 OR (? = 1 AND NOT EXISTS (SELECT 1 FROM users u WHERE u.token_id = members.token_id"
        " AND u.home_set_id = members.set_id)))",
        *(set_id, token_id, int(is_forced)),
    )
    if not taken:
        raise NotMember(set_id, token_id)


def loose(tx: Tx, set_id: str, limit: int = ALL) -> list[tuple[str, Kind]]:
    """Return what can be taken out of a set: members, links and gifts for everybody that have no permanent place."""
    return [
        (token_id, kind)
        for token_id, kind in tx.all(
            "SELECT token_id, kind FROM members WHERE set_id = ? AND kind IN ('member', 'link', 'gift')"
            " AND is_sticky = 0 AND session_id IS NULL ORDER BY rank LIMIT ?",
            set_id,
            limit,
        )
    ]


def clear(tx: Tx, set_id: str, limit: int = ALL) -> None:
    """Take places out of a set that is about to go, permanent ones and presence included; the tokens stay."""
    tx.run(
        "DELETE FROM presence WHERE session_id IN (SELECT session_id FROM presence WHERE set_id = ? LIMIT ?)",
        *(set_id, limit),
    )
    tx.run(
        "DELETE FROM members WHERE set_id = ? AND token_id IN (SELECT token_id FROM members WHERE set_id = ? LIMIT ?)",
        *(set_id, set_id, limit),
    )


def holds(tx: Tx, set_id: str, token_id: str, kind: Kind | None = None) -> bool:
    """Tell whether the token stands in the set (as that kind)."""
    row = tx.one("SELECT kind FROM members WHERE set_id = ? AND token_id = ?", set_id, token_id)
    return row is not None and (kind is None or row[0] == kind)


def gifts(tx: Tx, set_id: str, session_id: str | None = None, limit: int = ALL) -> list[str]:
    """Return the tokens given to a session in the set, or to all sessions there."""
    rows = tx.all(
        "SELECT token_id FROM members WHERE set_id = ? AND kind = 'gift'"
        " AND session_id IS NOT NULL AND (? IS NULL OR session_id = ?) LIMIT ?",
        *(set_id, session_id, session_id, limit),
    )
    return [row[0] for row in rows]


def only_here(tx: Tx, set_id: str, owner_id: str, limit: int = ALL, among: Sequence[str] = ()) -> list[str]:
    """Return a user's tokens that stand in this set and in no other, those that define sets or are users' left out.

    Args:
        among: the only ones to look at; empty: all.
    """
    marks = f" AND m.token_id IN ({', '.join('?' * len(among))})" if among else ""
    rows = tx.all(
        "SELECT m.token_id FROM members m JOIN tokens t ON t.id = m.token_id WHERE m.set_id = ? AND t.owner_id = ?"  # noqa: S608
        " AND t.type NOT IN ('set', 'user') AND NOT EXISTS (SELECT 1 FROM sets s WHERE s.token_id = m.token_id)"
        " AND NOT EXISTS (SELECT 1 FROM members o WHERE o.token_id = m.token_id AND o.set_id <> m.set_id)"
        f"{marks} LIMIT ?",
        *(set_id, owner_id, *among, limit),
    )
    return [row[0] for row in rows]
