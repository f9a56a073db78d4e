"""Whose turn it is: calls on one session run one after another, in the order sent; other sessions run beside them.

A call in which a job asks a person gives its turn away until that is answered, so that what they do to find the answer
cannot wait for the call that waits for it. Source: protocol.md 2 (a lock per session).
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpcserver.calls import Call


class Turns:
    """The queues, one for each key in use; a key whose turn is taken is in the table."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Call]] = {}

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
        if not waiting:
            del self._waiting[key]
            return None
        call = waiting.popleft()
        call.has_turn = True
        if call.returning is None:
            return call
        call.returning.set_result(None)
        call.returning = None
        return None

    def leave(self, call: "Call", key: str) -> None:
        """Stand in line no more."""
        waiting = self._waiting.get(key)
        if waiting is not None and call in waiting:
            waiting.remove(call)

    async def take_back(self, call: "Call", key: str) -> None:
        """Wait for the turn before all who have not begun; whoever else waits for the same call waits along."""
        if call.returning is None:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque()
                call.has_turn = True
                return
            call.returning = asyncio.get_running_loop().create_future()
            waiting.appendleft(call)
        await asyncio.shield(call.returning)
