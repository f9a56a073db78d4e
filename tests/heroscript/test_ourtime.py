"""Absolute and relative times."""

import pytest

from heroscript import OurTime
from heroscript.errors import MalformedTime

NOW = OurTime(1_000_000_000)


@pytest.mark.parametrize(
    ("text", "unix"),
    [
        ("1970-01-01", 0),
        ("1/1/1970", 0),
        ("1969-12-31 23:59:59", -1),
        ("2024-02-29 5", 1709182800),
        ("29-02-2024 05:00", 1709182800),
        ("2024-02-29T05:00:00Z", 1709182800),
        ("1709182800", 1709182800),
    ],
)
def test_reads_absolute_times(text: str, unix: int) -> None:
    """Year first or day first, with - or /, always UTC."""
    assert OurTime.parse(text).unix == unix


@pytest.mark.parametrize(
    ("text", "delta"),
    [
        ("", 0),
        ("0", 0),
        ("+5s", 5),
        ("-2m", -120),
        ("+1h30m", 5400),
        ("-1h30m", -5400),
        ("+1d 5h", 104400),
        (" + 1 w - 1 d ", 518400),
        ("+1M +1Q +1Y", 41904000),
        ("+100Y", 3153600000),
    ],
)
def test_reads_relative_times(text: str, delta: int) -> None:
    """Terms are summed; a term without a sign takes the one before it."""
    assert OurTime.parse(text, NOW).unix - NOW.unix == delta


@pytest.mark.parametrize(
    "text",
    ["2023-02-29", "2023-13-01", "2023-01-00", "2023/01-02", "23-01-02", "2023", "2023-01-02 24:00", "2023-01-02 1:60",
     "2023-01-02 :", "tomorrow", "+1", "+h", "+1H", "+1.5h", "2024-01-02 10:00:00.123", "2024-01-02 10:00:00,5",
     "2024-01-02T10:00:00.123Z", "2024-01-02 10:00.5", "1709182800.5", "+ +1h", "+9999999999Y", "１970-01-01"],
)  # fmt: skip
def test_refuses_what_is_no_time(text: str) -> None:
    """Impossible dates and unknown units are errors, not guesses."""
    with pytest.raises(MalformedTime):
        OurTime.parse(text, NOW)


def test_writes() -> None:
    """Four ways to write a moment."""
    moment = OurTime.parse("0099-03-04 05:06:07")
    assert str(moment) == "0099-03-04 05:06"
    assert (moment.key, moment.day, moment.dayhour) == ("0099_03_04_05_06_07", "0099-03-04", "0099-03-04 05")
    assert str(moment.warp("+1d")) == "0099-03-05 05:06"
