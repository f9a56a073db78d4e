"""What happened in the world, for whoever wants to hear of it after the commit.

Source: sessions.md 1.2 (names of the events), 3.4 (notices come after the commit and cannot fail the call).
"""

from collections.abc import Callable
from dataclasses import dataclass

from store import Tx

# notice -> when it is told
NOTICES: dict[str, str] = {
    "set_entered": "A session entered a set: told as session.entered, and in the set as session.contents_changed.",
    "set_left": "A session left a set: told as session.left, and in the set as session.contents_changed.",
    "set_created": "A set was made.",
    "set_destroyed": "A set was deleted.",
    "token_added": "A token was put into a set.",
    "token_removed": "A token was taken out of a set.",
    "child_added": "A set was put below another.",
    "link_created": "A set was linked to another.",
    "link_destroyed": "A link from a set to another was taken away.",
    "token_created": "A token was made.",
    "token_destroyed": "A token was deleted.",
    "value_changed": "An attribute of a token was written, or turned on or off.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user does: in or to which set, to which token, to which of its attributes; never a value.

    What goes is told before it is gone, in the same transaction. `place_id`: where a set is made or deleted.
    """

    event: str
    user_id: str
    set_id: str | None = None
    token_id: str | None = None
    attribute: str | None = None
    place_id: str | None = None


Tell = Callable[[Tx, Notice], None]
