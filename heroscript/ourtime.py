"""Times as heroscript writes them: `2025-03-01 10:20`, `01/03/2025`, `+1h -2m`; always UTC, whole seconds."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from heroscript.errors import MalformedTime

_YEAR_FIRST = r"(?P<y>\d{4})(?P<s>[-/])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})"
_DAY_FIRST = r"(?P<d2>\d{1,2})(?P<s2>[-/])(?P<m2>\d{1,2})(?P=s2)(?P<y2>\d{4})"
_CLOCK = r"(?:[ \tT]+(?P<H>\d{1,2})(?::(?P<M>\d{1,2})(?::(?P<S>\d{1,2})(?P<f>[.,]\d+)?)?)?Z?)?"
_ABSOLUTE = re.compile(rf"(?:{_YEAR_FIRST}|{_DAY_FIRST}){_CLOCK}", re.ASCII)
_EPOCH = re.compile(r"\d{9,12}", re.ASCII)
_RELATIVE = re.compile(r"(?:[+-]?\d{1,15}[smhdwMQY])+", re.ASCII)
_TERM = re.compile(r"([+-]?)(\d+)([smhdwMQY])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 30 * 86400, "Q": 90 * 86400, "Y": 365 * 86400}
_START = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62135596800, 253402300799


@dataclass(frozen=True, slots=True, order=True)
class OurTime:
    """A moment, in seconds since 1970 UTC. Source: heroscript.md 9."""

    unix: int

    def __post_init__(self) -> None:
        if not _FIRST <= self.unix <= _LAST:
            raise MalformedTime("a time must lie in the years 1 to 9999")

    @classmethod
    def now(cls) -> "OurTime":
        """Give the present moment."""
        return cls(int(time.time()))

    @classmethod
    def parse(cls, text: str, now: "OurTime | None" = None) -> "OurTime":
        """Read an absolute or a relative time; an empty text or `0` is now.

        Args:
            text: a month is 30 days, a quarter 90, a year 365; a term without its own sign takes the one before it.
            now: what a relative time starts from; None is the present moment.

        Raises:
            MalformedTime: the text is no time, or lies outside the years 1 to 9999.
        """
        stripped = text.strip()
        if stripped in ("", "0"):
            return now or cls.now()
        if stripped[0] in "+-":
            return (now or cls.now()).warp(stripped)
        if _EPOCH.fullmatch(stripped):
            return cls(int(stripped))
        return cls(_absolute(stripped))

    def warp(self, relative: str) -> "OurTime":
        """Give the moment `relative` (`+1h`, `-2d +5m`) away from this one.

        Raises:
            MalformedTime: the text is no relative time, or leads outside the years 1 to 9999.
        """
        return OurTime(self.unix + _delta(relative))

    @property
    def moment(self) -> datetime:
        """The same moment as an aware `datetime`."""
        return _START + timedelta(seconds=self.unix)

    @property
    def key(self) -> str:
        """`YYYY_MM_DD_HH_MM_SS`, which sorts and is a safe name."""
        return self.moment.isoformat()[:19].translate(str.maketrans("-T:", "___"))

    @property
    def day(self) -> str:
        """`YYYY-MM-DD`."""
        return self.moment.isoformat()[:10]

    @property
    def dayhour(self) -> str:
        """`YYYY-MM-DD HH`."""
        return self.moment.isoformat(" ")[:13]

    def __str__(self) -> str:
        return self.moment.isoformat(" ")[:16]


def _absolute(text: str) -> int:
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise MalformedTime(f"{text!r} is no time: write YYYY-MM-DD HH:MM:SS, DD-MM-YYYY or +1h")
    part = match.groupdict(default="")
    if part["f"]:
        raise MalformedTime(f"{text!r} is no time: a time has whole seconds, so leave {part['f']!r} out")
    numbers = [part["y"] or part["y2"], part["m"] or part["m2"], part["d"] or part["d2"]]
    clock = [part[name] or "0" for name in "HMS"]
    try:
        moment = datetime(*map(int, numbers + clock), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError as error:
        raise MalformedTime(f"{text!r} is no time: {error}") from None
    return (moment - _START) // timedelta(seconds=1)


def _delta(text: str) -> int:
    joined = "".join(text.split())
    if not _RELATIVE.fullmatch(joined):
        raise MalformedTime(f"{text!r} is no relative time: write +1h, -2d +5m; units are s m h d w M Q Y")
    total, sign = 0, 1
    for mark, number, unit in _TERM.findall(joined):
        sign = {"+": 1, "-": -1, "": sign}[mark]
        total += sign * int(number) * _SECONDS[unit]
    return total
