"""Whether the work that runs here has stored anything, or done anything outside, that a second try would repeat."""

import asyncio
from contextvars import ContextVar
from typing import Any


class Effects:
    """The writes of one piece of work, and what it did outside of the store."""

    def __init__(self) -> None:
        self.is_outside = False
        self._writes: list[asyncio.Future[Any]] = []

    def note(self, write: asyncio.Future[Any]) -> None:
        """Count a write, as soon as it is promised."""
        self._writes.append(write)

    @property
    def are_any(self) -> bool:
        """Tell whether something was done, or may have been: a wait that was cancelled does not undo its write."""
        return self.is_outside or any(
            not write.done() or write.cancelled() or write.exception() is None for write in self._writes
        )


# Of the work that runs here, in this task or one it started; None: nobody wants to know.
EFFECTS: ContextVar[Effects | None] = ContextVar("effects", default=None)


def note_outside() -> None:
    """Count something that is about to be done outside of the store."""
    effects = EFFECTS.get()
    if effects is not None:
        effects.is_outside = True
