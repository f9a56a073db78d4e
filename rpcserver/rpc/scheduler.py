"""Turns on the event loop: who asks for much waits for himself, and for nobody else.

Each user has a share of the loop's time; those who have not said who they are have one together, parted by address. Who
asks for little is served at once. What is over a share's allowance waits in line, where shares, and within a share its
connections and calls, take turns of the same length. Time is counted, not frames, calls or tasks.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")

now_s = time.perf_counter

WINDOW_S = 0.010
ALLOWED_S = 0.001  # of each window, at once
SLICE_S = 0.0003  # of each turn in line
# For all who stand in line, between two looks at the sockets. Short: what others do takes many turns of the loop, and
# a thread that needs the interpreter gets it only between them.
ROUND_S = 0.0003
MOST_STEPS = 8  # of a share's calls that are let go on in a turn: what they take is known only afterwards
MOST_OWED_S = 0.050


class Work(Protocol):
    """What can go on for a while and then stop."""

    cost_s: float  # what it will take besides, once it was let go on
    owed_s: float  # what it has taken more than its turns

    def go(self, until: float) -> bool:
        """Go on until the clock says so; tell whether something is left."""


class Share:
    """What one of many gets of the loop's time.

    Args:
        above: the share that it is part of; None: the whole.
    """

    __slots__ = (
        "__weakref__",
        "_above",
        "_is_in_line",
        "_line",
        "_part_of",
        "_spent_s",
        "_window_at",
        "cost_s",
        "owed_s",
        "step_s",
    )

    def __init__(self, above: "Share | None") -> None:
        self._above = above
        self._part_of = above if type(above) is Share else None  # the whole itself is not counted
        self._line: deque[Work] = deque()
        self._is_in_line = False
        self._window_at = 0.0
        self._spent_s = 0.0
        self.cost_s = self.owed_s = 0.0
        self.step_s = 0.0001  # what a step of a call takes, rather too much

    def is_spent(self, now: float) -> bool:
        """Tell whether what comes now has to stand in line."""
        if self._line:
            return True
        if now - self._window_at > WINDOW_S:
            self._window_at, self._spent_s = now, 0.0
        if self._spent_s > ALLOWED_S:
            return True
        return self._part_of is not None and self._part_of.is_spent(now)

    def spend(self, seconds: float) -> None:
        """Count time that was taken."""
        self._spent_s += seconds
        if self._part_of is not None:
            self._part_of.spend(seconds)

    def step(self, seconds: float) -> None:
        """Count a step of a call."""
        self.step_s = max(seconds, self.step_s + (seconds - self.step_s) / 16)
        self.owed_s = min(self.owed_s + max(0.0, seconds - SLICE_S), MOST_OWED_S)
        self.spend(seconds)

    def line_up(self, work: Work) -> None:
        """Have work go on when it is its turn."""
        self._line.append(work)
        if not self._is_in_line:
            self._is_in_line = True
            self._call()

    def go(self, until: float) -> bool:
        """Let those in line go on, one after another, until the clock says so; tell whether any are left."""
        line, now = self._line, now_s()
        self.cost_s = 0.0
        while line:
            work = line.popleft()
            if work.owed_s > 0 and line:
                # What cannot be cut took longer than its turn: it lets the others pass until that is made good.
                work.owed_s -= SLICE_S
                line.append(work)
                continue
            is_left = True  # one that fails comes again: what was at fault is behind it
            began = now
            try:
                is_left = work.go(min(until, began + SLICE_S))
            finally:
                if is_left:
                    line.append(work)
            until -= work.cost_s
            self.cost_s += work.cost_s
            now = now_s()
            work.owed_s = min(work.owed_s + max(0.0, now - began - SLICE_S), MOST_OWED_S) if line else 0.0
            if now >= until:
                break
        self._is_in_line = bool(line)
        return self._is_in_line

    def _call(self) -> None:
        if self._above is not None:
            self._above.line_up(self)


class Scheduler(Share):
    """The whole of a loop's time.

    Attributes:
        strangers: the share of those who have not said who they are.
    """

    __slots__ = ("_loop", "_shares", "strangers")

    def __init__(self) -> None:
        super().__init__(None)
        self._loop = asyncio.get_running_loop()
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self.strangers = Share(self)

    def of_user(self, user_id: str) -> Share:
        """Return the share of a user."""
        return self._share(user_id, self)

    def of_stranger(self, address: str) -> Share:
        """Return the share of an address from which nobody has said who they are."""
        return self._share(f"address {address}", self.strangers)

    def _share(self, key: str, above: Share) -> Share:
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = Share(above)
        return share

    def _call(self) -> None:
        self._loop.call_soon(self._round)

    def _round(self) -> None:
        # Between two rounds the loop looks at its sockets: who asks for little comes in between.
        try:
            self.go(now_s() + ROUND_S)
        finally:
            if self._line:
                self._call()


class Paced(Generic[T]):
    """Awaits a coroutine, each of its steps in the turn of a share."""

    __slots__ = ("_share", "_work")

    def __init__(self, share: Share, work: Coroutine[Any, Any, T]) -> None:
        self._share = share
        self._work = work

    def __await__(self) -> Generator[Any, Any, T]:
        share, work = self._share, self._work
        error: BaseException | None = None
        while True:
            began = now_s()
            if error is None and share.is_spent(began):
                try:
                    yield from _turn(share)
                except BaseException as interrupted:
                    error = interrupted
                began = now_s()
            try:
                awaited = work.send(None) if error is None else work.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                share.step(now_s() - began)
            error = None
            try:
                yield awaited
            except BaseException as interrupted:
                # The coroutine's own affair, as if nobody stood between it and its task.
                error = interrupted


class _Turn:
    """A place in line of one step."""

    __slots__ = ("came", "cost_s", "owed_s")

    def __init__(self, share: Share) -> None:
        self.cost_s = max(share.step_s, SLICE_S / MOST_STEPS)
        self.owed_s = 0.0
        self.came = asyncio.get_running_loop().create_future()

    def go(self, until: float) -> bool:
        """Let the step go on, in a moment."""
        if not self.came.done():
            self.came.set_result(None)
        return False


def _turn(share: Share) -> Generator[Any, None, None]:
    turn = _Turn(share)
    share.line_up(turn)
    yield from turn.came.__await__()
