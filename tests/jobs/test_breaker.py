"""What keeps taking too long is left out, for whom it concerns, and is tried again later, by one."""

import pytest

from jobs.breaker import LONGEST_REST_S, Breaker

SLOW = ("slow", "session_pallet")


class Hand:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Hand:
    """A clock."""
    return Hand()


@pytest.fixture
def breaker(clock: Hand) -> Breaker:
    """A breaker that leaves out after two time-outs, for thirty seconds."""
    return Breaker(2, 30.0, clock)


def test_one_owner_leaves_a_thing_out_for_himself_alone(breaker: Breaker) -> None:
    """The reason may be his: others are asked still, and another thing is not touched."""
    breaker.late(SLOW, "anna")
    assert breaker.wait_s(SLOW, "anna") == 0
    breaker.late(SLOW, "anna")
    assert breaker.wait_s(SLOW, "anna") == 30.0
    assert breaker.wait_s(SLOW, "bob") == 0 and breaker.wait_s(("slow", "other"), "anna") == 0
    assert breaker.left_out("anna") == {SLOW: 30.0} and breaker.left_out("bob") == {}


def test_two_owners_leave_it_out_for_everybody(breaker: Breaker) -> None:
    """With an answer in between it is the owners, not the thing."""
    breaker.late(SLOW, "anna")
    breaker.answered(SLOW, "carol")
    breaker.late(SLOW, "bob")
    assert breaker.wait_s(SLOW, "dora") == 0
    breaker.late(SLOW, "anna")
    assert breaker.wait_s(SLOW, "dora") == 30.0 and breaker.left_out("eve") == {SLOW: 30.0}


def test_it_is_tried_again_by_one_and_longer_each_time(breaker: Breaker, clock: Hand) -> None:
    """While one tries it the others go on without; late again, it rests twice as long, up to a bound."""
    rest_s = 30.0
    breaker.late(SLOW, "anna")
    breaker.late(SLOW, "bob")
    for _ in range(8):
        assert breaker.wait_s(SLOW, "carol") == rest_s
        clock.now += rest_s
        assert breaker.wait_s(SLOW, "carol") == 0
        assert breaker.wait_s(SLOW, "dora") > 0
        breaker.late(SLOW, "carol")
        rest_s = min(2 * rest_s, LONGEST_REST_S)
    assert rest_s == LONGEST_REST_S


def test_an_answer_lets_it_in_again(breaker: Breaker, clock: Hand) -> None:
    """At once, for everybody, and with nothing held against it."""
    breaker.late(SLOW, "anna")
    breaker.late(SLOW, "bob")
    clock.now += 30
    assert breaker.wait_s(SLOW, "anna") == 0
    breaker.answered(SLOW, "anna")
    assert all(breaker.wait_s(SLOW, owner) == 0 for owner in ("anna", "bob", "carol"))
    breaker.late(SLOW, "carol")
    assert breaker.wait_s(SLOW, "carol") == 0
    assert not breaker.left_out("anna")


def test_what_was_asked_before_it_was_left_out_counts_once(breaker: Breaker) -> None:
    """Ten calls that were under way together, and are all late, do not make the rest longer."""
    for number in range(10):
        breaker.late(SLOW, f"user {number}")
    assert breaker.wait_s(SLOW, "anna") == 30.0


def test_a_try_that_nothing_is_heard_of_is_made_again(breaker: Breaker, clock: Hand) -> None:
    """Whoever tried it may have gone away: it is not left out for ever."""
    breaker.late(SLOW, "anna")
    breaker.late(SLOW, "bob")
    clock.now += 30
    assert breaker.wait_s(SLOW, "anna") == 0
    assert breaker.wait_s(SLOW, "bob") == 30.0
    clock.now += 30
    assert breaker.wait_s(SLOW, "bob") == 0
