"""Owners take turns: whoever has asked for much waits for it, and nobody else does."""

import heapq
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_GONE = 1000  # owners of whom nothing waits, and who are still known

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""In whose name runs what runs now: a user's id, or empty for what the server does by itself.

Set where a call or a job begins; tasks and timers inherit it.
"""


class RoundRobin(Generic[T]):
    """What waits, by owner: each owner's in the order it came, and whoever has had the least goes first.

    What an owner had counts from the moment at which something of theirs waits: nobody saves up turns. Items cost the
    same, unless whoever takes them says what each did cost (`charge`): then it is time that is shared, not turns.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}
        self._line: list[
            tuple[float, int, str]
        ] = []  # a heap: what each who waits has had, and in which order they came
        self._had: dict[str, float] = {}
        self._now = 0.0  # what whoever was served last had had
        self._arrivals = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def owners(self) -> int:
        """Of how many owners something waits."""
        return len(self._waiting)

    def waiting_of(self, owner: str) -> int:
        """Return how much of an owner's waits."""
        return len(self._waiting.get(owner, ()))

    def put(self, owner: str, item: T) -> None:
        """Add an item behind the owner's others."""
        waiting = self._waiting.get(owner)
        if waiting is None:
            if len(self._had) > 2 * len(self._waiting) + MAX_GONE:
                self._had = {one: had for one, had in self._had.items() if had > self._now or one in self._waiting}
            waiting = self._waiting[owner] = deque()
            self._line_up(owner, max(self._now, self._had.get(owner, 0.0)))
        waiting.append(item)
        self._count += 1

    def take(self, may: Callable[[str], bool] = lambda owner: True, cost: float = 1.0) -> T | None:
        """Return the next item of the owner whose turn it is, of those that `may`; None when there is none.

        Args:
            cost: of the item; 0: `charge` will say it.
        """
        item, passed = None, []
        while item is None and self._line:
            entry = heapq.heappop(self._line)
            had, _, owner = entry
            if had < self._had[owner]:
                self._line_up(owner, self._had[owner])  # it was charged since it lined up
            elif not may(owner):
                passed.append(entry)
            else:
                waiting, self._now, self._had[owner] = self._waiting[owner], had, had + cost
                item = waiting.popleft()
                self._count -= 1
                if waiting:
                    self._line_up(owner, had + cost)
                else:
                    del self._waiting[owner]
        for entry in passed:
            heapq.heappush(self._line, entry)
        return item

    def charge(self, owner: str, cost: float) -> None:
        """Count what an item did cost."""
        self._had[owner] = self._had.get(owner, self._now) + cost

    def _line_up(self, owner: str, had: float) -> None:
        self._arrivals += 1
        self._had[owner] = had
        heapq.heappush(self._line, (had, self._arrivals, owner))
