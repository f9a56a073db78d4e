"""One subscription: what a connection wants to hear, how far it has heard, and what becomes of what it is too slow for.

It is born behind: a replay reads the log up to the present, and only then is it told of events as they come, so that
each comes once and in order. Source: protocol.md 4.
"""

import fnmatch
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import orjson

from rpcserver.rpc.jsonrpc import encode_notification
from rpcserver.rpc.scheduler import Share

Policy = Literal["close", "drop_oldest", "latest"]

MAX_KEPT = {"drop_oldest": 256, "latest": 1}
ENVELOPE_BYTES = 200  # around an event's data, about
MAX_KEPT_BYTES = 8 * 1024  # of one subscription; 64 of them together stay below what a stalled client may cost


@dataclass(frozen=True, slots=True)
class Event:
    """A row of `events`; `data` is JSON text."""

    seq: int
    topic: str
    audience: str
    data: str
    at: int


class Outlet(Protocol):
    """What a subscription needs of a connection."""

    paused: bool
    share: Share

    def owe(self, size: int) -> None:
        """Count what is read from the log for it later; who is owed too much is cut off."""

    def send_soon(self, message: bytes) -> None:
        """Send a message with this turn's others."""

    async def writable(self) -> None:
        """Wait until the client has read enough for more to be sent."""


def matcher(topics: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether a topic is one of these names with `*`."""
    match = re.compile("|".join(fnmatch.translate(topic) for topic in topics)).match
    return lambda topic: match(topic) is not None


class Subscription:
    """A list of topics with `*`, for one connection of one user.

    Args:
        seq: the position after which to begin.
        policy: what becomes of events while the client does not read: with `close` they stay in the log, and it is
            read from there once the client reads on; `drop_oldest` keeps the newest few; `latest` keeps one. What was
            dropped is told by `$/gap`.
        sees: whether the connection's credential may hear of an event; None: it may hear of all.
        catch_up: called when the log is to be read.
    """

    __slots__ = (
        "_catch_up",
        "_gap_from",
        "_gap_to",
        "_head",
        "_kept",
        "_is_waiting",
        "_kept_bytes",
        "_matches",
        "_max_kept",
        "id",
        "is_behind",
        "is_lossy",
        "is_open",
        "outlet",
        "sees",
        "seq",
        "user_id",
    )

    def __init__(
        self,
        id: str,
        user_id: str,
        topics: Iterable[str],
        epoch: str,
        seq: int,
        outlet: Outlet,
        policy: Policy = "close",
        sees: Callable[[Event], bool] | None = None,
        catch_up: Callable[["Subscription"], None] = lambda subscription: None,
    ) -> None:
        self.id = id
        self.user_id = user_id
        self.sees = sees
        self._matches = matcher(topics)
        self.seq = seq
        self.outlet = outlet
        self.is_behind = True
        self.is_open = True
        self.is_lossy = policy != "close"
        self._catch_up = catch_up
        self._is_waiting = False
        self._max_kept = MAX_KEPT.get(policy, 0)
        self._kept: deque[Event] = deque()
        self._kept_bytes = 0
        self._gap_from = self._gap_to = 0
        self.name(epoch)

    def name(self, epoch: str) -> None:
        """Give the epoch with all that is said from now on."""
        self._head = orjson.dumps({"subscription": self.id, "epoch": epoch})[:-1]

    def wants(self, event: Event) -> bool:
        """Tell whether an event is one of its topics, and one that its connection's credential may hear of."""
        return self._matches(event.topic) and (self.sees is None or self.sees(event))

    def tell(self, event: Event) -> None:
        """Hear of an event as it comes. While behind it is left to the replay, which finds it in the log."""
        if self._is_waiting and self.is_open:
            self.outlet.owe(len(event.data) + ENVELOPE_BYTES)
        if self.is_behind or not self.is_open or event.seq <= self.seq:
            return
        if not self.is_lossy and self.outlet.paused:
            self.is_behind = self._is_waiting = True
            self.outlet.owe(len(event.data) + ENVELOPE_BYTES)
            return
        self.seq = event.seq
        if self.is_lossy and (self.outlet.paused or self._kept):
            self._keep(event)
        else:
            self._say(event)

    def replay(self, events: Iterable[Event], upto: int) -> None:
        """Hear of a page of missed events, as far as the client reads; `upto` is how far the page looked."""
        for event in events:
            if self.outlet.paused:
                return
            if self.is_open and event.seq > self.seq:
                self.seq = event.seq
                self._say(event)
        self.seq = max(self.seq, upto)

    def skip(self, upto: int) -> None:
        """Tell that everything up to an event is gone, if there was anything; what was kept goes with it."""
        if upto <= self.seq:
            return
        kept, self.seq = self._kept[0].seq if self._kept else self.seq + 1, upto
        self._gap_from, self._gap_to = self._gap_from or kept, upto
        self._kept.clear()
        self._kept_bytes = 0
        self._say_kept()

    def go_on(self) -> None:
        """Say what was kept, or stayed in the log, while the client did not read."""
        if self._is_waiting:
            self._is_waiting = False
            self._catch_up(self)
        self._say_kept()

    def _say_kept(self) -> None:
        """Say what was dropped, which is older, and what was kept, as far as the client reads."""
        if self._gap_from and not (self.is_lossy and self.outlet.paused):
            gap = {"subscription": self.id, "from": self._gap_from, "to": self._gap_to}
            self._gap_from = 0
            self.outlet.send_soon(encode_notification("$/gap", gap))
        while self._kept and not self.outlet.paused:
            event = self._kept.popleft()
            self._kept_bytes -= len(event.data)
            self._say(event)

    def _keep(self, event: Event) -> None:
        self._kept.append(event)
        self._kept_bytes += len(event.data)
        while len(self._kept) > self._max_kept or (self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1):
            dropped = self._kept.popleft()
            self._kept_bytes -= len(dropped.data)
            self._gap_from = self._gap_from or dropped.seq
            self._gap_to = dropped.seq

    def _say(self, event: Event) -> None:
        self.outlet.send_soon(
            b'{"jsonrpc":"2.0","method":%b,"params":%b,"seq":%d,"at":%d,"data":%b}}'
            % (orjson.dumps(event.topic), self._head, event.seq, event.at, event.data.encode())
        )
