"""The clients' connections, by user and by address: how many there may be, and what they may hold together."""

import math
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from rpcserver.ratelimit import Meter
from rpcserver.rpc.calls import Client
from rpcserver.settings import Settings

Holder = TypeVar("Holder")


class Pool(Generic[Holder]):
    """Bytes that several connections hold together, and how many they may."""

    __slots__ = ("_held", "limit", "used")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.used = 0
        self._held: dict[Holder, int] = {}

    def held(self, who: Holder) -> int:
        """Return what one of them holds."""
        return self._held.get(who, 0)

    def hold(self, who: Holder, size: int) -> Holder | None:
        """Count what one holds now. Returns who has to go when that made it too much: who holds most of all."""
        more = size - self._held.get(who, 0)
        self.used += more
        if size:
            self._held[who] = size
        else:
            self._held.pop(who, None)
        if more > 0 and self.used > self.limit:
            return max((who, *self._held), key=self._held.__getitem__)  # among equals who came over it
        return None


class Group:
    """The connections of one user or address.

    Attributes:
        incoming: bytes that came and are no whole message, or wait for their turn.
        outgoing: bytes that the clients have not taken.
    """

    __slots__ = ("connections", "incoming", "meter", "outgoing")

    def __init__(self, meter: Meter | None, max_incoming: float, max_outgoing: float) -> None:
        self.connections: set[Client] = set()
        self.meter = meter
        self.incoming = Pool[Any](max_incoming)
        self.outgoing = Pool[Any](max_outgoing)


class Groups:
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
        self._by_key: dict[str, Group] = {}

    def is_full(self, key: str, more: int = 0) -> bool:
        """Tell whether one more connection than `more` over the limit would be too many."""
        group = self._by_key.get(key)
        return group is not None and len(group.connections) >= self.limit + more

    def join(self, key: str, connection: Client) -> Group:
        """Count the connection in, and have its calls counted with the others'."""
        group = self._by_key.get(key)
        if group is None:
            meter = Meter(self._calls_per_s) if self._calls_per_s else None
            group = self._by_key[key] = Group(meter, self._max_incoming, self._max_outgoing)
        group.connections.add(connection)
        if group.meter is not None:
            connection.meters = (*connection.meters, group.meter)
        return group

    def leave(self, key: str, connection: Client) -> None:
        """Count the connection out."""
        group = self._by_key.get(key)
        if group is not None:
            group.connections.discard(connection)
            if not group.connections:
                del self._by_key[key]

    def of(self, key: str) -> frozenset[Client]:
        """Return the connections there are now."""
        group = self._by_key.get(key)
        return frozenset(group.connections) if group else frozenset()

    def __iter__(self) -> Iterator[Client]:
        """Yield every connection."""
        for group in tuple(self._by_key.values()):
            yield from tuple(group.connections)


class ConnectionRegistry:
    """Who is connected, and who is attached to which session."""

    def __init__(self, settings: Settings) -> None:
        self.users = Groups(
            settings.max_connections_per_user,
            settings.calls_per_s_per_user,
            settings.max_unfinished_bytes_per_user,
            settings.max_outbox_bytes_per_user,
        )
        self.addresses = Groups(settings.connections_per_address, settings.calls_per_s_per_address)

    def attached(self, user_id: str, session_id: str | None) -> list[Client]:
        """Return the user's connections that have used the session, for None all: to those go its jobs' questions."""
        found = self.users.of(user_id)
        return [client for client in found if session_id is None or session_id in client.sessions]

    def detach(self, user_id: str, session_id: str) -> None:
        """Forget who was attached to a session that is gone."""
        for client in self.users.of(user_id):
            client.sessions.discard(session_id)

    def close_ended(self) -> None:
        """Close the connections whose credential was revoked or whose user frozen; calls under way finish unheard."""
        for client in self.users:
            end = client.principal.grant.end if client.principal is not None else None
            if end == "revoked" or end == "frozen":
                client.shut(end)
