"""Whose turn it is: calls on one session run one after another, in the order sent; other sessions run beside them.

A call that asks the client something gives its turn away until it is answered, so that what the client does to find
the answer cannot wait for the call that waits for it. Source: protocol.md 2 (a lock per session).
"""

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpcserver.calls import Call

# The call whose task runs: a request to the client made anywhere below it gives the call's turn away meanwhile.
CURRENT: ContextVar["Call | None"] = ContextVar("call", default=None)


class Turns:
    """The queues, one for each key in use; a key whose turn is taken is in the table."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Call | asyncio.Future[None]]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    def take(self, call: "Call", key: str) -> bool:
        """Take the turn, or stand in line and return False."""
        # Before the first await: forty pipelined calls on one session keep their order.
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(call)
            return False
        self._waiting[key] = deque()
        call.has_turn = True
        return True

    def next(self, key: str) -> "Call | None":
        """End a turn and return the call whose turn begins; None when a call came back, or nobody waits."""
        waiting = self._waiting[key]
        while waiting:
            item = waiting.popleft()
            if not isinstance(item, asyncio.Future):
                item.has_turn = True
                return item
            if not item.done():
                item.set_result(None)
                return None
        del self._waiting[key]
        return None

    def leave(self, call: "Call", key: str) -> None:
        """Stand in line no more."""
        waiting = self._waiting.get(key)
        if waiting is not None and call in waiting:
            waiting.remove(call)

    async def take_back(self, call: "Call", key: str) -> None:
        """Wait for the turn before all who have not begun. Cancelled: the turn is not the call's."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
        else:
            back = asyncio.get_running_loop().create_future()
            waiting.appendleft(back)
            try:
                await back
            except asyncio.CancelledError:
                # Given in the very turn in which the wait was cancelled: the caller passes it on.
                call.has_turn = back.done() and not back.cancelled()
                raise
        call.has_turn = True
