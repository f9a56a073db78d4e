"""What happened in the world, for whoever wants to hear of it after the commit.

Source: sessions.md 1.2 (names of the events), 3.4 (notices come after the commit and cannot fail the call).
"""

from collections.abc import Callable
from dataclasses import dataclass

from store import Tx


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user did: in or to which set, to which token, to which of its attributes; never a value."""

    event: str
    user_id: str
    set_id: str | None = None
    token_id: str | None = None
    attribute: str | None = None


Tell = Callable[[Tx, Notice], None]
