"""Events: every one is a row before it is a message, announced after its commit to those who may see it.

A subscription is a list of topics with `*`; it can begin after any event still kept, so that nothing is missed over
a dropped socket or a restart. Source: protocol.md 4.
"""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from store import Store, Tx, now_ms

Send = Callable[[bytes], None]
Present = Callable[[Tx, str], list[str]]
MaySee = Callable[[Tx, str, list[str]], set[str]]


@dataclass(frozen=True, slots=True)
class Event:
    """A row of `events`; `data` is JSON text."""

    seq: int
    topic: str
    audience: str
    data: str
    at: int


@dataclass(frozen=True, slots=True)
class Kept:
    """How many events are kept, and for how many seconds, for clients that come back."""

    max_events: int
    max_age_s: float


class Subscription:
    """What one connection wants to hear, and how far it has heard. It holds events back until it is released."""

    __slots__ = ("_head", "_held", "_send", "id", "matches", "seq", "user_id")

    def __init__(self, id: str, user_id: str, topics: Iterable[str], epoch: str, seq: int, send: Send) -> None:
        self.id = id
        self.user_id = user_id
        self.matches = re.compile("|".join(fnmatch.translate(topic) for topic in topics)).match
        self.seq = seq
        self._send = send
        self._held: list[Event] | None = []
        self._head = orjson.dumps({"subscription": id, "epoch": epoch})[:-1]

    def tell(self, event: Event) -> None:
        """Send the event, unless it was sent before; while held, keep it."""
        if self._held is not None:
            self._held.append(event)
        elif event.seq > self.seq:
            self.seq = event.seq
            self._send(
                b'{"jsonrpc":"2.0","method":%b,"params":%b,"seq":%d,"at":%d,"data":%b}}'
                % (orjson.dumps(event.topic), self._head, event.seq, event.at, event.data.encode())
            )

    def release(self, missed: list[Event]) -> None:
        """Send what was missed, then what came meanwhile, and from now on at once: each event once, in order."""
        held, self._held = self._held or [], None
        for event in (*missed, *held):
            self.tell(event)


class Events:
    """Writes events and hands them to the open subscriptions after the commit.

    Args:
        present: `present(tx, set_id)` names the users who stand in a set.
        may_see: `may_see(tx, user_id, set_ids)` names those of the sets that the user can read.
    """

    def __init__(self, store: Store, epoch: str, kept: Kept, present: Present, may_see: MaySee) -> None:
        self.epoch = epoch
        self._store = store
        self._kept = kept
        self._present = present
        self._may_see = may_see
        self._by_user: defaultdict[str, set[Subscription]] = defaultdict(set)
        self.last_seq = 0

    async def load(self) -> None:
        """Find where the log ends, and forget what grew too old while no server ran."""
        await self._store.write(self._forget)
        row = await self._store.read(lambda tx: tx.one("SELECT max(seq) FROM events"))
        self.last_seq = row[0] or 0 if row else 0

    def append(self, tx: Tx, topic: str, audience: str, data: dict[str, Any]) -> None:
        """Add an event to the transaction that makes it true.

        Args:
            audience: `user:ID`, or a set's visitors as `set:ID`.
        """
        at = now_ms()
        text = orjson.dumps(data).decode()
        row = tx.one(
            "INSERT INTO events (topic, audience, data, at) VALUES (?, ?, ?, ?) RETURNING seq",
            topic,
            audience,
            text,
            at,
        )
        seq: int = row[0] if row else 0
        if seq % 1000 == 0:
            self._forget(tx)
        kind, _, id = audience.partition(":")
        seers = [id] if kind == "user" else self._present(tx, id)
        event = Event(seq, topic, audience, text, at)
        tx.after_commit(lambda: self._announce(event, seers))

    def open(self, subscription: Subscription) -> None:
        """Begin to hand events to a subscription."""
        self._by_user[subscription.user_id].add(subscription)

    def close(self, subscription: Subscription) -> None:
        """Send it nothing more."""
        subscribed = self._by_user.get(subscription.user_id)
        if subscribed:
            subscribed.discard(subscription)
            if not subscribed:
                del self._by_user[subscription.user_id]

    def missed(self, tx: Tx, subscription: Subscription, since: int) -> list[Event] | None:
        """Return the events after `since` that the subscriber may see, None when some are no longer kept."""
        row = tx.one("SELECT coalesce(min(seq), 0) FROM events")
        oldest = row[0] if row else 0
        if since > self.last_seq or (oldest and since < oldest - 1):
            return None
        rows = tx.all("SELECT seq, topic, audience, data, at FROM events WHERE seq > ? ORDER BY seq", since)
        events = [event for event in (Event(*row) for row in rows) if subscription.matches(event.topic)]
        own = f"user:{subscription.user_id}"
        sets = {event.audience.removeprefix("set:") for event in events if event.audience.startswith("set:")}
        seen = {f"set:{set_id}" for set_id in self._may_see(tx, subscription.user_id, sorted(sets))} | {own}
        return [event for event in events if event.audience in seen]

    def _forget(self, tx: Tx) -> None:
        # The newest stays however old it is: by it a returning client's position is known to be the past.
        row = tx.one("SELECT max(seq) FROM events")
        newest: int = (row[0] if row else None) or 0
        tx.run(
            "DELETE FROM events WHERE seq < ? AND (seq <= ? OR at < ?)",
            newest,
            newest - self._kept.max_events,
            now_ms() - int(self._kept.max_age_s * 1000),
        )

    def _announce(self, event: Event, seers: list[str]) -> None:
        self.last_seq = event.seq
        for user_id in seers:
            for subscription in self._by_user.get(user_id, ()):
                if subscription.matches(event.topic):
                    subscription.tell(event)
