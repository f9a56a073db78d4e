"""A subscription by itself: each event once, in order, whatever comes twice, early or while nobody reads."""

from typing import Any

import orjson

from rpcserver.events.subscriptions import MAX_KEPT_BYTES, Event, Policy, Subscription


class Outlet:
    """A connection that the test stalls."""

    def __init__(self) -> None:
        self.paused = False
        self.sent: list[Any] = []

    def send_soon(self, message: bytes) -> None:
        """Keep the message."""
        self.sent.append(orjson.loads(message))

    async def writable(self) -> None:
        """Return at once."""

    def heard(self) -> list[Any]:
        """Return the numbers of the events, and gaps as (from, to)."""
        return [
            (one["params"]["from"], one["params"]["to"]) if one["method"] == "$/gap" else one["params"]["seq"]
            for one in self.sent
        ]


def event(seq: int, size: int = 2) -> Event:
    """Return an event."""
    return Event(seq, "a.b", "user:u", '"' + "x" * (size - 2) + '"', 0)


def live(policy: Policy = "close", seq: int = 0) -> tuple[Subscription, Outlet]:
    """Return a subscription that is up to the present."""
    outlet = Outlet()
    subscription = Subscription("sub_1", "u", ["a.*"], "e", seq, outlet, policy)
    subscription.is_behind = False
    return subscription, outlet


def test_an_event_told_twice_is_said_once() -> None:
    """A page of the log may hold what is announced only afterwards."""
    subscription, outlet = live(seq=3)
    subscription.replay([event(4), event(5)], upto=6)
    for seq in (4, 5, 6, 7, 7):
        subscription.tell(event(seq))
    assert outlet.heard() == [4, 5, 7]


def test_while_behind_nothing_is_said_but_the_replay() -> None:
    """What is announced before the replay has caught up is in the log, and comes from there."""
    subscription, outlet = live()
    subscription.is_behind = True
    subscription.tell(event(9))
    subscription.replay([event(1)], upto=8)
    assert outlet.heard() == [1] and subscription.seq == 8


def test_what_was_kept_goes_before_what_comes() -> None:
    """After a stall the kept ones come first, also when the outlet stalls again in the middle of them."""
    subscription, outlet = live("drop_oldest")
    outlet.paused = True
    for seq in (1, 2):
        subscription.tell(event(seq))
    outlet.paused = False
    subscription.tell(event(3))
    subscription.go_on()
    subscription.tell(event(4))
    assert outlet.heard() == [1, 2, 3, 4]


def test_two_stalls_have_two_gaps() -> None:
    """Each gap names exactly what was dropped since the one before."""
    subscription, outlet = live("latest")
    for first in (1, 10):
        outlet.paused = True
        for seq in range(first, first + 4):
            subscription.tell(event(seq))
        outlet.paused = False
        subscription.go_on()
    assert outlet.heard() == [(1, 3), 4, (10, 12), 13]


def test_one_large_event_is_kept_whatever_its_size() -> None:
    """The bound on bytes never drops the newest."""
    subscription, outlet = live("drop_oldest")
    outlet.paused = True
    subscription.tell(event(1))
    subscription.tell(event(2, 2 * MAX_KEPT_BYTES))
    outlet.paused = False
    subscription.go_on()
    assert outlet.heard() == [(1, 1), 2]


def test_a_closed_one_is_silent() -> None:
    """After unsubscribing nothing is said, neither as it comes nor from the log."""
    subscription, outlet = live()
    subscription.is_open = False
    subscription.tell(event(1))
    subscription.replay([event(2)], upto=2)
    assert outlet.heard() == []
