"""How old candles are, judged by the market's hours: a quiet weekend is not a dead feed."""

from __future__ import annotations

from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["fresh_until", "is_current", "is_late", "is_outlived"]

_MINUTE = 60_000
_DAY = 1440 * _MINUTE
_POLL = 30_000  # ms until a bar that should have been there is asked for again
_GRACE = 20 * _MINUTE  # exchanges hand prices to the public up to a quarter of an hour late
_HORIZON = 5 * _DAY  # how far ahead the next bar is looked for; a longer closure is looked at again by then


def is_current(frame: CandleFrame, symbol: Symbol, end: int) -> bool:
    """Whether the newest bar that should have been finished by ``end`` (ms) is there."""
    return int(frame.close_time[-1]) >= calendar_of(symbol).expected_last_close(frame.timeframe, end)


def is_late(frame: CandleFrame, symbol: Symbol, end: int) -> bool:
    """Whether the newest bar is missing for longer than a feed's usual delay (20 minutes; a day for daily bars, whose
    days begin at midnights of the provider's own)."""
    return not is_current(frame, symbol, end - (_DAY if frame.timeframe is Timeframe.D1 else _GRACE))


def is_outlived(close: int, symbol: Symbol, end: int) -> bool:
    """Whether a quarter of an hour that closed after ``close`` (ms) should long have been there at ``end``."""
    return calendar_of(symbol).expected_last_close(Timeframe.M15, end - _GRACE) > close


def fresh_until(frame: CandleFrame, symbol: Symbol, end: int) -> int:
    """Return the instant (ms, after ``end``) from which on a finished bar may exist that was not there at ``end``."""
    if not is_current(frame, symbol, end):
        return end + _POLL
    length, last = frame.timeframe.milliseconds, int(frame.close_time[-1])
    opens = calendar_of(symbol).bar_opens(frame.timeframe, end - length + 1, end + _HORIZON)
    until = int(opens[0]) + length if len(opens) else end + _HORIZON
    if frame.timeframe is Timeframe.D1:
        until = min(until, last + ((end - last) // length + 1) * length)
    return until
