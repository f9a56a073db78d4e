"""Cron lines in a time zone: when one is due, and how often in a stretch of time.

A line is that of Debian's cron: a time the clocks leave out when they go forward is run right after the change, one
they show twice is run the first time; lines with `*` in hours or minutes follow the real time.
"""

from bisect import bisect_right
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobs.errors import BadSchedule

FIELDS = 5
LONGEST_COUNT_MS = 10 * 366 * 24 * 3600 * 1000
_MINUTE_MS = 60_000
_A_DAY = timedelta(days=1)


class CronLine:
    """A cron line of five fields in a time zone; times are UTC milliseconds. Raises BadSchedule."""

    def __init__(self, line: str, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise BadSchedule(f"There is no time zone {zone[:80]!r}: give one such as Europe/Paris.") from error
        try:
            if len(line.split()) != FIELDS:
                raise CronSimError("Wrong number of fields")
            self._days = CronSim(line, datetime(2000, 1, 1, tzinfo=self._zone))
        except CronSimError as error:
            message = f"The cron line {line[:80]!r} is not one: {error}. It has five fields, as '0 7 * * 1'."
            raise BadSchedule(message) from error
        self._line = line
        self._minutes = sorted(hour * 60 + minute for hour in self._days.hours for minute in self._days.minutes)
        self.names_hours = not any(field.startswith("*") for field in line.split()[:2])

    def after(self, at: int) -> int | None:
        """Return when it is due next after a time; None when that never comes."""
        start = datetime.fromtimestamp(at / 1000, self._zone)
        begin, end = (datetime.combine(each, time(), self._zone) for each in (start.date(), start.date() + _A_DAY))
        found = [self._first(start, at)]
        if begin.utcoffset() != end.utcoffset():
            # CronSim goes on by whole hours: where the clocks went on by half of one, it passes by midnight.
            found.append(self._first(end - timedelta(minutes=1), at))
        return min((one for one in found if one is not None), default=None)

    def _first(self, start: datetime, at: int) -> int | None:
        # In the hour that the clocks show twice, what it finds first may be past.
        times = (_ms(found) for found in CronSim(self._line, start))
        return next((time for time in times if time > at), None)

    def count(self, after: int, upto: int) -> int:
        """Return how often it is due after one time and up to another, ten years at the most: by days, not by times."""
        after = max(after, upto - LONGEST_COUNT_MS)
        day = datetime.fromtimestamp(after / 1000, self._zone).date()
        last = datetime.fromtimestamp(upto / 1000, self._zone).date()
        total = 0
        while day <= last:
            total += self._in_day(day, after, upto)
            day += _A_DAY
        return total

    def _in_day(self, day: date, after: int, upto: int) -> int:
        begin, end = (datetime.combine(each, time(), self._zone) for each in (day, day + _A_DAY))
        if begin.utcoffset() != end.utcoffset():
            return self._in_changing_day(begin, after, min(upto, _ms(end) - 1))
        if day.month not in self._days.months or not self._days.match_day(day):
            return 0
        before, until = ((at - _ms(begin)) // _MINUTE_MS for at in (after, upto))
        return bisect_right(self._minutes, until) - bisect_right(self._minutes, before)

    def _in_changing_day(self, begin: datetime, after: int, upto: int) -> int:
        # Its hours are not what they are on other days: here, and only here, one after another is looked at.
        count, at = 0, max(after, _ms(begin) - 1)
        start = begin - timedelta(minutes=1) if after < _ms(begin) else datetime.fromtimestamp(after / 1000, self._zone)
        for found in CronSim(self._line, start):
            if _ms(found) > upto:
                break
            if _ms(found) > at:
                count, at = count + 1, _ms(found)
        return count


@lru_cache(maxsize=1000)
def cron_line(line: str, zone: str) -> CronLine:
    """Return the line, read once. Raises BadSchedule."""
    return CronLine(line, zone)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
