"""Events: every one is a row before it is a message, announced after its commit to those who may see it.

A user's event is kept only when a client of his holds a position it could come back with: from his first subscription
on, until none was open for as long as events are kept. Age takes nothing from who is connected, however short it is or
the clock is set. Source: protocol.md 4.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import orjson
import structlog

from rpcserver.events.subscriptions import Event, Outlet, Subscription
from rpcserver.rpc.scheduler import Paced, Share, now_s
from store import Row, Store, StoreError, Tx, new_id

log = structlog.get_logger("events")

Present = Callable[[Tx, str], list[str]]
Places = Callable[[Tx, str], list[str]]
MaySee = Callable[[Tx, str, list[str]], set[str]]
Spawn = Callable[[Coroutine[Any, Any, None]], object]

EVERYBODY = "all"
RUNS_KEPT = 1000
FORGOTTEN_AT_ONCE = 500  # events or listeners of one transaction
TRIMMED_EVERY = 100  # events; each time more than that may go
FEW = 16  # subscriptions: so many of a user's are told of an event at once, and between two turns of theirs
LATE_PAGE = 100  # events
_COLUMNS = "seq, topic, audience, data, at"
_NOBODY = ""  # no user's id: what he may read, everybody may


@dataclass(frozen=True, slots=True)
class Kept:
    """How many events are kept, and for how many seconds, for clients that come back."""

    max_events: int
    max_age_s: float


class Events:
    """Writes events and hands them to the open subscriptions after the commit.

    Args:
        present: `present(tx, set_id)` names the users who stand in a set.
        places: `places(tx, user_id)` names the sets in which a user stands.
        may_see: `may_see(tx, user_id, set_ids)` names those of the sets that the user can read.
        spawn: starts a task that ends with the server.
    """

    def __init__(
        self,
        store: Store,
        kept: Kept,
        present: Present,
        places: Places,
        may_see: MaySee,
        spawn: Spawn,
    ) -> None:
        self.epoch = ""  # of this run; a server has one from its start on
        self.last_seq = 0
        self._ended: dict[str, int] = {}  # the epochs of earlier runs, and how far their events go in this history
        self._store = store
        self._clock = store.clock
        self._kept = kept
        self._max_age_ms = int(kept.max_age_s * 1000)
        self._present = present
        self._places = places
        self._may_see = may_see
        self._spawn = spawn
        self._by_user: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._by_outlet: WeakKeyDictionary[Outlet, dict[str, Subscription]] = WeakKeyDictionary()
        self._late: dict[str, int] = {}  # user with many, who is told in his turn -> up to which event he was
        # User -> the event after which his are kept: changed by commits alone, on the writer's thread, whose next
        # transactions look there; `_heard_at` follows on the loop.
        self._listeners: dict[str, int] = {}
        self._heard_at: dict[str, int] = {}

    async def load(self) -> None:
        """Forget what grew too old while no server ran; find where the log ends, and who listens to it."""

        def look(tx: Tx) -> tuple[int, list[Row]]:
            return _newest(tx), tx.all("SELECT user_id, from_seq, heard_at FROM listeners")

        await self._forget()
        self.last_seq, listeners = await self._store.read(look)
        for user_id, from_seq, heard_at in listeners:
            self._listeners[user_id] = from_seq
            self._heard_at[user_id] = heard_at

    async def begin_run(self) -> None:
        """Begin an epoch: positions given from now on can be told from those of a history that was rolled back.

        Whatever put an older state of the database in place (a copy of the folder or of the file, a snapshot of the
        disk, a log that lost its end), the events after it get numbers that were given before. A position is its
        epoch and its number: one beyond what this history has of that epoch was given by another.
        """
        epoch = new_id("e_")

        def begin(tx: Tx) -> None:
            newest = _newest(tx)
            tx.run("UPDATE event_runs SET last_seq = ? WHERE last_seq IS NULL", newest)
            tx.run("INSERT INTO event_runs (epoch) VALUES (?)", epoch)
            tx.run("DELETE FROM event_runs WHERE number <= (SELECT max(number) FROM event_runs) - ?", RUNS_KEPT)
            ended = tx.all("SELECT epoch, last_seq FROM event_runs WHERE last_seq IS NOT NULL")
            tx.after_commit(lambda: self._began(epoch, dict(ended)))

        await self._store.write(begin)

    def _began(self, epoch: str, ended: dict[str, int]) -> None:
        self.epoch, self._ended = epoch, ended
        for subscribed in self._by_user.values():
            for subscription in subscribed:
                subscription.name(epoch)

    def append(self, tx: Tx, topic: str, audience: str, data: dict[str, Any]) -> None:
        """Add an event to the transaction that makes it true, if anybody could come to hear of it.

        Args:
            audience: `user:ID`, those who stand in a set and can read it as `set:ID`, or `all`.
        """
        seers = self._seers(tx, audience)
        if not seers:
            return
        at = tx.clock.now_ms()
        text = orjson.dumps(data).decode()
        row = tx.one(
            "INSERT INTO events (topic, audience, data, at, age_from) VALUES (?, ?, ?, ?, ?) RETURNING seq",
            topic,
            audience,
            text,
            at,
            tx.clock.steady_ms(),
        )
        seq: int = row[0] if row else 0
        if seq % TRIMMED_EVERY == 0:
            self._trim(tx)
        event = Event(seq, topic, audience, text, at)
        tx.after_commit(lambda: self._announce(event, seers))

    @property
    def listeners(self) -> Collection[str]:
        """The users whose events are kept, for the writer's thread to look at."""
        return self._listeners.keys()

    async def listen(self, user_id: str) -> None:
        """Keep the user's events from now on: all that is committed after this returns."""
        is_known = user_id in self._listeners
        if is_known and self._heard_at.get(user_id, 0) > self._clock.steady_ms() - self._max_age_ms // 4:
            return
        # Through the writer: what it has begun before is announced before this returns, and finds no listener;
        # what it begins after finds one. So nothing is between the two.
        await self._store.write(lambda tx: self._hear(tx, [user_id], self._clock.steady_ms()))

    @property
    def upkeep_s(self) -> float:
        """How often `upkeep` has to be called: so old is what is known of who listens."""
        return max(1.0, self._kept.max_age_s / 4)

    async def upkeep(self) -> None:
        """Note who still listens, then forget what is too old and who has not listened for as long, piece by piece."""
        now, connected = self._clock.steady_ms(), tuple(self._by_user)
        for start in range(0, len(connected), FORGOTTEN_AT_ONCE):
            some = connected[start : start + FORGOTTEN_AT_ONCE]
            lost = [user_id for user_id in some if user_id not in self._listeners]  # never silently, however that came
            await self._store.write(partial(self._hear, user_ids=some, now=now))
            for subscription in [each for user_id in lost for each in self._by_user.get(user_id, ())]:
                subscription.skip(self.last_seq)
        await self._forget()

    def open(self, subscription: Subscription) -> None:
        """Begin to hand events to a subscription."""
        self._by_user[subscription.user_id].add(subscription)
        self._by_outlet.setdefault(subscription.outlet, {})[subscription.id] = subscription

    def close(self, subscription: Subscription) -> None:
        """Send it nothing more."""
        subscription.is_open = False
        self._by_outlet.get(subscription.outlet, {}).pop(subscription.id, None)
        subscribed = self._by_user.get(subscription.user_id)
        if subscribed:
            subscribed.discard(subscription)
            if not subscribed:
                del self._by_user[subscription.user_id]

    def of(self, outlet: Outlet) -> Mapping[str, Subscription]:
        """Return the open subscriptions of a connection by their ids; what is returned follows what becomes of them."""
        return self._by_outlet.setdefault(outlet, {})

    def count(self, user_id: str) -> int:
        """Return how many subscriptions a user has open."""
        return len(self._by_user.get(user_id, ()))

    async def can_resume(self, user_id: str, epoch: str, seq: int) -> bool:
        """Tell whether every event of a user after a position is still kept."""
        from_seq = self._listeners.get(user_id)
        end = self.last_seq if epoch == self.epoch else self._ended.get(epoch)
        if from_seq is None or end is None or not from_seq <= seq <= end:
            return False
        return await self._store.read(lambda tx: seq >= _oldest(tx) - 1)

    async def replay(self, subscription: Subscription, page: int) -> None:
        """Bring a subscription to the present, a page at a time and no faster than its client reads."""
        try:
            while subscription.is_open and self.last_seq > subscription.seq:
                since = subscription.seq
                events, upto, lost = await self._store.read(
                    lambda tx: self._missed(tx, subscription.user_id, since, page)  # noqa: B023
                )
                if lost:
                    # Thrown away while the client was too slow to take it: told, as every drop is.
                    subscription.skip(lost)
                else:
                    subscription.replay(filter(subscription.wants, events), upto)
                await subscription.outlet.writable()
        except (StoreError, OSError) as error:
            log.info("replay_ended", subscription=subscription.id, reason=str(error))
            return
        # No await since the comparison above: whatever is announced from here on is told as it comes.
        subscription.is_behind = False

    def history(
        self, tx: Tx, user_id: str, wants: Callable[[Event], bool], before: int | None, limit: int, most: int
    ) -> tuple[list[Event], int | None]:
        """Return the newest events a user may see, and before which to go on (None at the end).

        Args:
            wants: tells which of them are asked for.
            most: how many rows to look at; fewer than `limit` events may be found among them.
        """
        audiences = self._audiences(tx, user_id)
        marks = ", ".join("?" * len(audiences))
        rows = tx.all(
            f"SELECT {_COLUMNS} FROM events WHERE audience IN ({marks}) AND seq < ? ORDER BY seq DESC LIMIT ?",  # noqa: S608
            *audiences,
            2**62 if before is None else before,
            most,
        )
        found: list[Event] = []
        for row in rows:
            event = Event(*row)
            if wants(event):
                found.append(event)
                if len(found) == limit:
                    return found, event.seq
        return found, rows[-1][0] if len(rows) == most else None

    async def _tell_late(self, user_id: str) -> None:
        """Tell a user's subscriptions what they were not told when it came, a few of them in each turn."""
        try:
            while user_id in self._by_user and (since := self._late[user_id]) < self.last_seq:
                # No further than is announced: a subscription that is opened meanwhile begins there.
                announced = self.last_seq
                events, upto, lost = await self._store.read(lambda tx: self._missed(tx, user_id, since, LATE_PAGE))  # noqa: B023
                subscribed = tuple(self._by_user.get(user_id, ()))
                for subscription in subscribed:
                    if lost and not subscription.is_behind:
                        subscription.skip(lost)
                for event in takewhile(lambda event: event.seq <= announced, events):  # noqa: B023
                    for start in range(0, len(subscribed), FEW):
                        await asyncio.sleep(0)
                        _tell(subscribed[start : start + FEW], event)
                self._late[user_id] = min(lost or upto, announced)
        except (StoreError, OSError) as error:
            log.warning("told_of_a_gap", user_id=user_id, reason=str(error))
            for subscription in self._by_user.get(user_id, ()):
                subscription.skip(self.last_seq)
        finally:
            # No await since the comparison above: whatever is announced from here on is told as it comes.
            del self._late[user_id]

    def _missed(self, tx: Tx, user_id: str, since: int, page: int) -> tuple[list[Event], int, int]:
        """Return a user's events after `since`, how far this looked, and up to where they are lost (0: none is)."""
        newest, oldest = _newest(tx), _oldest(tx)
        if since < oldest - 1:
            return [], since, oldest - 1
        audiences = self._audiences(tx, user_id)
        marks = ", ".join("?" * len(audiences))
        rows = tx.all(
            f"SELECT {_COLUMNS} FROM events WHERE audience IN ({marks}) AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
            *audiences,
            since,
            page,
        )
        return [Event(*row) for row in rows], (rows[-1][0] if len(rows) == page else newest), 0

    def _audiences(self, tx: Tx, user_id: str) -> list[str]:
        # Looked up now, not then: who has lost a right since does not hear of what happened before either.
        seen = self._may_see(tx, user_id, self._places(tx, user_id))
        return [f"user:{user_id}", EVERYBODY, *(f"set:{set_id}" for set_id in sorted(seen))]

    def _seers(self, tx: Tx, audience: str) -> list[str]:
        listeners = self._listeners
        kind, _, id = audience.partition(":")
        if kind == "user":
            return [id] if id in listeners else []
        if kind == EVERYBODY:
            return list(listeners)
        seers = [user_id for user_id in self._present(tx, id) if user_id in listeners] if listeners else []
        if seers and not self._may_see(tx, _NOBODY, [id]):
            seers = [user_id for user_id in seers if self._may_see(tx, user_id, [id])]
        return seers

    def _hear(self, tx: Tx, user_ids: Sequence[str], now: int) -> None:
        newest = _newest(tx)
        tx.many(
            "INSERT INTO listeners (user_id, from_seq, heard_at) VALUES (?, ?, ?)"
            " ON CONFLICT (user_id) DO UPDATE SET heard_at = excluded.heard_at",
            [(user_id, newest, now) for user_id in user_ids],
        )
        heard = dict.fromkeys(user_ids, newest)
        tx.at_commit(lambda: self._listeners.update({**heard, **self._listeners}))
        tx.after_commit(lambda: self._heard_at.update(dict.fromkeys(user_ids, now)))

    async def _forget(self) -> None:
        cutoff = self._clock.steady_ms() - self._max_age_ms
        # What is known of a listener is as old as the time between two upkeeps when he leaves.
        silent_since = cutoff - int(self.upkeep_s * 1000)
        # What is to be told to who is connected is not too old, however slowly he reads.
        awaited = [one.seq for subscribed in self._by_user.values() for one in subscribed if one.is_behind]
        upto = min([*awaited, *self._late.values()], default=2**62)
        for some in (
            partial(self._forget_listeners, silent_since=silent_since),
            partial(_forget_events, cutoff=cutoff, upto=upto),
            self._trim,
        ):
            while await self._store.write(some):
                pass

    def _forget_listeners(self, tx: Tx, silent_since: int) -> bool:
        """Forget some who did not listen since a time; tell whether there may be more."""
        rows = tx.all("SELECT user_id FROM listeners WHERE heard_at <= ? LIMIT ?", silent_since, FORGOTTEN_AT_ONCE)
        tx.many("DELETE FROM listeners WHERE user_id = ?", rows)

        def forget(known: dict[str, int]) -> None:
            for (user_id,) in rows:
                known.pop(user_id, None)

        tx.at_commit(lambda: forget(self._listeners))
        tx.after_commit(lambda: forget(self._heard_at))
        return len(rows) == FORGOTTEN_AT_ONCE

    def _trim(self, tx: Tx) -> bool:
        """Take some of the oldest events away when there are too many; tell whether there still are."""
        last = _newest(tx) - max(1, self._kept.max_events)
        upto = min(last, _oldest(tx) + FORGOTTEN_AT_ONCE)
        tx.run("DELETE FROM events WHERE seq <= ?", upto)
        return upto < last

    def _announce(self, event: Event, seers: list[str]) -> None:
        self.last_seq = event.seq
        for user_id in seers:
            subscribed = self._by_user.get(user_id)
            if not subscribed or user_id in self._late:
                continue
            if len(subscribed) > FEW:
                share = next(iter(subscribed)).outlet.share
                if share.is_spent(now_s()):
                    self._late[user_id] = event.seq - 1
                    self._spawn(_paced(share, self._tell_late(user_id)))
                    continue
                began = now_s()
                _tell(subscribed, event)
                share.spend(now_s() - began)
            else:
                _tell(subscribed, event)


def _tell(subscribed: Iterable[Subscription], event: Event) -> None:
    for subscription in subscribed:
        if subscription.wants(event):
            subscription.tell(event)


async def _paced(share: Share, work: Coroutine[Any, Any, None]) -> None:
    await Paced(share, work)


def forget_runs(tx: Tx) -> None:
    """Forget every epoch: no position that was ever given can be resumed."""
    tx.run("DELETE FROM event_runs")


def _forget_events(tx: Tx, cutoff: int, upto: int) -> bool:
    """Forget some events up to a time and a number, from the oldest on; tell whether there may be more.

    What is left has no holes. The newest stays however old it is: by it a returning client's position is known to be
    the past, and no number is given twice.
    """
    oldest = tx.all(
        "SELECT seq, age_from FROM events WHERE seq <= ? AND seq < (SELECT max(seq) FROM events) ORDER BY seq LIMIT ?",
        upto,
        FORGOTTEN_AT_ONCE,
    )
    old = list(takewhile(lambda row: row[1] <= cutoff, oldest))
    if old:
        tx.run("DELETE FROM events WHERE seq <= ?", old[-1][0])
    return len(old) == FORGOTTEN_AT_ONCE


def _newest(tx: Tx) -> int:
    row = tx.one("SELECT coalesce(max(seq), 0) FROM events")
    return row[0] if row else 0


def _oldest(tx: Tx) -> int:
    row = tx.one("SELECT coalesce(min(seq), 0) FROM events")
    return row[0] if row else 0
