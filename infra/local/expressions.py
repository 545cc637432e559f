"""When a schedule fires: EventBridge's ``rate(15 minutes)`` and ``cron(0 6 * * ? *)``, in UTC.

Always true here: an expression that is wrong, or says what is not known here, is refused with its reason and never
fires at a guessed time; `after` is a pure function, so a schedule fires at the same moments however often the stack
is started. A rate counts from midnight of 1970-01-01 UTC (AWS counts from when the schedule was made and promises no
other alignment), so ``rate(15 minutes)`` is at :00, :15, :30 and :45.

The source: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

__all__ = ["Cron", "ExpressionError", "Rate", "parse"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"minute": 60, "hour": 3600, "day": 86400}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIRST_YEAR, _LAST_YEAR = 1970, 2199

IsDay = Callable[[date], bool]


class ExpressionError(ValueError):
    """A schedule's expression cannot be read; the message quotes it and says why."""


@dataclass(frozen=True)
class Rate:
    """Every ``seconds``."""

    seconds: int

    def after(self, moment: datetime) -> datetime | None:
        """Return the first firing after ``moment`` (aware)."""
        passed = int((moment - _EPOCH).total_seconds())
        return _EPOCH + timedelta(seconds=(passed // self.seconds + 1) * self.seconds)


@dataclass(frozen=True)
class Cron:
    """At each of ``minutes`` of each of ``hours`` of the days that ``is_day`` accepts in ``months`` of ``years``."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    years: tuple[int, ...]
    is_day: IsDay

    def after(self, moment: datetime) -> datetime | None:
        """Return the first firing after ``moment`` (aware), None where there is none any more."""
        start = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for year in self.years:
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in range(1, calendar.monthrange(year, month)[1] + 1):
                    if (found := self._on(date(year, month, day), start)) is not None:
                        return found
        return None

    def _on(self, day: date, start: datetime) -> datetime | None:
        """Return the first firing on ``day`` that is not before ``start``."""
        if day < start.date() or not self.is_day(day):
            return None
        for hour in self.hours:
            for minute in self.minutes:
                moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                if moment >= start:
                    return moment
        return None


def parse(text: str) -> Rate | Cron:
    """Return when ``text`` fires.

    Raises
    ------
    ExpressionError
        If it is neither a rate nor a cron expression of AWS.
    """
    found = re.fullmatch(r"(rate|cron)\((.*)\)", text.strip())
    if found is None:
        raise ExpressionError(f"{text!r} is neither rate(...) nor cron(...)")
    kind, inner = found.groups()
    try:
        return _rate(inner) if kind == "rate" else _cron(inner.split())
    except ExpressionError as error:
        raise ExpressionError(f"{text!r}: {error}") from None


def _rate(inner: str) -> Rate:
    found = re.fullmatch(r"([1-9][0-9]*) (minute|hour|day)s?", inner.strip())
    if found is None:
        raise ExpressionError("a rate is a whole number and minutes, hours or days")
    return Rate(int(found[1]) * _UNITS[found[2]])


def _cron(fields: Sequence[str]) -> Cron:
    if len(fields) != 6:
        raise ExpressionError(f"six fields are needed (minutes hours day month weekday year), here are {len(fields)}")
    minutes, hours, days, months, weekdays, years = (field.upper() for field in fields)
    if (days == "?") == (weekdays == "?"):
        raise ExpressionError("either the day of the month or the weekday is ?, and the other one is not")
    return Cron(
        minutes=_numbers(minutes, 0, 59),
        hours=_numbers(hours, 0, 23),
        months=_numbers(months, 1, 12, _MONTHS),
        years=_numbers(years, _FIRST_YEAR, _LAST_YEAR),
        is_day=_any_of(days, _of_month) if weekdays == "?" else _any_of(weekdays, _of_week),
    )


def _numbers(field: str, low: int, high: int, names: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the numbers that a field of ``*``, ``a``, ``a-b``, ``a/step`` and commas names, in order."""
    numbers: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if step and not (step.isdecimal() and int(step)):
            raise ExpressionError(f"{part!r}: a step is a whole number above 0")
        first, dash, last = span.partition("-")
        begin = low if span == "*" else _number(first, low, high, names)
        end = _number(last, low, high, names) if dash else high if span == "*" or step else begin
        if end < begin:
            raise ExpressionError(f"{part!r} runs backwards")
        numbers.update(range(begin, end + 1, int(step or 1)))
    return tuple(sorted(numbers))


def _number(text: str, low: int, high: int, names: Sequence[str]) -> int:
    value = names.index(text) + low if text in names else int(text) if text.isdecimal() else None
    if value is None or not low <= value <= high:
        raise ExpressionError(f"{text!r} is no number from {low} to {high}")
    return value


def _any_of(field: str, reader: Callable[[str], IsDay]) -> IsDay:
    readers = [reader(part) for part in field.split(",")]
    return lambda day: any(is_day(day) for is_day in readers)


def _of_month(part: str) -> IsDay:
    if part == "L":
        return lambda day: day.day == _last(day)
    if part.endswith("W"):
        number = _number(part[:-1], 1, 31, ())
        return lambda day: day.day == _nearest_working_day(day, number)
    numbers = frozenset(_numbers(part, 1, 31))
    return lambda day: day.day in numbers


def _of_week(part: str) -> IsDay:
    if part == "L":
        part = "SAT"
    if "#" in part:
        name, _, count = part.partition("#")
        weekday, which = _number(name, 1, 7, _DAYS), _number(count, 1, 5, ())
        return lambda day: _weekday(day) == weekday and (day.day - 1) // 7 + 1 == which
    if part.endswith("L"):
        last = _number(part[:-1], 1, 7, _DAYS)
        return lambda day: _weekday(day) == last and day.day > _last(day) - 7
    numbers = frozenset(_numbers(part, 1, 7, _DAYS))
    return lambda day: _weekday(day) in numbers


def _weekday(day: date) -> int:
    """AWS counts from 1, Sunday, to 7, Saturday."""
    return day.isoweekday() % 7 + 1


def _last(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_working_day(day: date, number: int) -> int:
    """Return the working day of ``day``'s month that is nearest to its ``number``-th, 0 where the month is shorter."""
    last = _last(day)
    if number > last:
        return 0
    weekday = day.replace(day=number).isoweekday()
    if weekday == 6:
        return number - 1 if number > 1 else number + 2
    if weekday == 7:
        return number + 1 if number < last else number - 2
    return number
