"""Connections that share limits: those of one user, and those of one address."""

from typing import TYPE_CHECKING

from rpcserver.meters import Meter

if TYPE_CHECKING:
    from rpcserver.connection import Connection


class Crowd:
    """The connections of one user or address."""

    __slots__ = ("connections", "meter")

    def __init__(self, meter: Meter | None) -> None:
        self.connections: set[Connection] = set()
        self.meter = meter


class Crowds:
    """All of one kind, by user id or by address; one without connections is forgotten.

    Args:
        limit: connections one of them may have.
        calls_per_s: what its connections may call together; 0: no limit.
    """

    def __init__(self, limit: int, calls_per_s: float) -> None:
        self.limit = limit
        self._calls_per_s = calls_per_s
        self._by_key: dict[str, Crowd] = {}

    def is_full(self, key: str) -> bool:
        """Tell whether one more connection would be too many."""
        crowd = self._by_key.get(key)
        return crowd is not None and len(crowd.connections) >= self.limit

    def join(self, key: str, connection: "Connection") -> None:
        """Count the connection in, and have its calls counted with the others'."""
        crowd = self._by_key.get(key)
        if crowd is None:
            crowd = self._by_key[key] = Crowd(Meter(self._calls_per_s) if self._calls_per_s else None)
        crowd.connections.add(connection)
        if crowd.meter is not None:
            connection.meters = (*connection.meters, crowd.meter)

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
