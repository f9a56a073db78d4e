"""Connections that share limits: those of one user, and those of one address."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rpcserver.transport.ratelimit import Meter

if TYPE_CHECKING:
    from rpcserver.transport.connection import Connection


@dataclass(slots=True, eq=False)
class Pool:
    """Bytes that several connections hold together, and how many they may."""

    limit: float
    used: int = 0

    @property
    def is_over(self) -> bool:
        """They hold more than they may."""
        return self.used > self.limit


class Crowd:
    """The connections of one user or address.

    Attributes:
        incoming: bytes that came and are no whole message, or wait for their turn.
        outgoing: bytes that the clients have not taken.
    """

    __slots__ = ("connections", "incoming", "meter", "outgoing")

    def __init__(self, meter: Meter | None, max_incoming: float, max_outgoing: float) -> None:
        self.connections: set[Connection] = set()
        self.meter = meter
        self.incoming = Pool(max_incoming)
        self.outgoing = Pool(max_outgoing)


class Crowds:
    """All of one kind, by user id or by address; one without connections is forgotten.

    Args:
        limit: connections one of them may have.
        calls_per_s: what its connections may call together; 0: no limit.
        max_incoming, max_outgoing: bytes its connections may hold together.
    """

    def __init__(
        self, limit: int, calls_per_s: float, max_incoming: float = math.inf, max_outgoing: float = math.inf
    ) -> None:
        self.limit = limit
        self._calls_per_s = calls_per_s
        self._max_incoming = max_incoming
        self._max_outgoing = max_outgoing
        self._by_key: dict[str, Crowd] = {}

    def is_full(self, key: str, more: int = 0) -> bool:
        """Tell whether one more connection than `more` over the limit would be too many."""
        crowd = self._by_key.get(key)
        return crowd is not None and len(crowd.connections) >= self.limit + more

    def join(self, key: str, connection: "Connection") -> Crowd:
        """Count the connection in, and have its calls counted with the others'."""
        crowd = self._by_key.get(key)
        if crowd is None:
            meter = Meter(self._calls_per_s) if self._calls_per_s else None
            crowd = self._by_key[key] = Crowd(meter, self._max_incoming, self._max_outgoing)
        crowd.connections.add(connection)
        if crowd.meter is not None:
            connection.meters = (*connection.meters, crowd.meter)
        return crowd

    def leave(self, key: str, connection: "Connection") -> None:
        """Count the connection out."""
        crowd = self._by_key.get(key)
        if crowd is not None:
            crowd.connections.discard(connection)
            if not crowd.connections:
                del self._by_key[key]

    def of(self, key: str) -> "frozenset[Connection]":
        """Return the connections there are now."""
        crowd = self._by_key.get(key)
        return frozenset(crowd.connections) if crowd else frozenset()
