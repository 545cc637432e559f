"""Timeframes: the length of one bar."""

from __future__ import annotations

from enum import StrEnum

from fusiontrade.errors import InvalidInput

__all__ = ["INTRADAY", "Timeframe"]

_MINUTE = 60_000
_ALIASES = {"1min": "1m", "5min": "5m", "15min": "15m", "30min": "30m", "60min": "1h", "60m": "1h", "240m": "4h"}


class Timeframe(StrEnum):
    """The bar lengths the platform knows; the value is its name on the wire."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def milliseconds(self) -> int:
        """Nominal length of one bar in ms (an FX 4h bar cut short by the week's end still opens on its grid)."""
        return _LENGTH[self]

    @classmethod
    def parse(cls, text: str, *, field: str = "timeframe") -> Timeframe:
        """Return the timeframe ``text`` names (``1min``-style aliases included).

        Raises
        ------
        InvalidInput
            If there is no such timeframe.
        """
        name = _ALIASES.get(text, text)
        try:
            return cls(name)
        except ValueError:
            raise InvalidInput(field, f"{text!r} is no timeframe: use one of {', '.join(cls)}") from None


_LENGTH = {
    Timeframe.M1: _MINUTE,
    Timeframe.M5: 5 * _MINUTE,
    Timeframe.M15: 15 * _MINUTE,
    Timeframe.M30: 30 * _MINUTE,
    Timeframe.H1: 60 * _MINUTE,
    Timeframe.H4: 240 * _MINUTE,
    Timeframe.D1: 1440 * _MINUTE,
}

INTRADAY: tuple[Timeframe, ...] = (Timeframe.M15, Timeframe.M30, Timeframe.H1, Timeframe.H4)
"""The four timeframes of the intraday fusion, shortest first."""
