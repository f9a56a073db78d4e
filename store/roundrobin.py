"""Owners take turns: whoever has asked for much waits for it, and nobody else does."""

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""In whose name runs what runs now: a user's id, or empty for what the server does by itself.

Set where a call or a job begins; tasks and timers inherit it.
"""


class RoundRobin(Generic[T]):
    """What waits, by owner: each owner's in the order it came, the owners one after another."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}
        self._turns: deque[str] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def owners(self) -> int:
        """Of how many owners something waits."""
        return len(self._turns)

    def waiting_of(self, owner: str) -> int:
        """Return how much of an owner's waits."""
        return len(self._waiting.get(owner, ()))

    def put(self, owner: str, item: T) -> None:
        """Add an item behind the owner's others."""
        waiting = self._waiting.get(owner)
        if waiting is None:
            waiting = self._waiting[owner] = deque()
            self._turns.append(owner)
        waiting.append(item)
        self._count += 1

    def take(self, may: Callable[[str], bool] = lambda owner: True) -> T | None:
        """Return the next item of the owner whose turn it is, of those that `may`; None when there is none."""
        for _ in range(len(self._turns)):
            owner = self._turns.popleft()
            if not may(owner):
                self._turns.append(owner)
                continue
            waiting = self._waiting[owner]
            item = waiting.popleft()
            self._count -= 1
            if waiting:
                self._turns.append(owner)
            else:
                del self._waiting[owner]
            return item
        return None
