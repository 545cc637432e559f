"""What the simulated market believes about each symbol: usual price, volatility, hours of activity, volume.

Rough figures of recent years, so that invented prices look familiar; none is used for anything else.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from fusiontrade.market.candles import Floats, Instants
from fusiontrade.market.providers.synthesis import Character
from fusiontrade.market.symbols import AssetClass, Symbol
from fusiontrade.market.zones import NEW_YORK, wall_clock

__all__ = ["character_of", "decimals_of", "season_of", "volume_of"]

_HOUR = 3_600_000
_DAY = 24 * _HOUR

# US dollars for one unit; a currency that is not listed counts as one tenth of a dollar.
_DOLLARS = {
    "USD": 1.0, "EUR": 1.10, "GBP": 1.29, "CHF": 1.15, "AUD": 0.66, "NZD": 0.61, "CAD": 0.73, "JPY": 1 / 148,
    "SEK": 0.098, "NOK": 0.095, "DKK": 0.148, "PLN": 0.255, "CZK": 0.044, "HUF": 0.0028, "TRY": 0.030, "ZAR": 0.055,
    "MXN": 0.055, "BRL": 0.18, "INR": 0.0119, "CNY": 0.139, "CNH": 0.139, "HKD": 0.128, "SGD": 0.75, "KRW": 0.00073,
    "THB": 0.029, "IDR": 0.000062, "ILS": 0.27,
}  # fmt: skip
_METALS = {"XAU": (2400.0, 0.021), "XAG": (29.0, 0.038), "XPT": (980.0, 0.032), "XPD": (1000.0, 0.045)}
_COINS = {
    "BTC": 60_000.0, "ETH": 3_000.0, "BNB": 580.0, "BCH": 400.0, "SOL": 140.0, "LTC": 80.0, "AVAX": 30.0, "ATOM": 6.0,
    "LINK": 14.0, "DOT": 6.0, "XRP": 0.6, "ADA": 0.45, "DOGE": 0.14,
}  # fmt: skip
_MAJORS = frozenset(["USD", "EUR", "GBP", "CHF", "AUD", "NZD", "CAD", "JPY"])
_COIN_TURNOVER = 1.5e9  # quote currency a day
_SHARES_A_DAY = 4e6

# (hour, width in hours, weight): the busy hours, on the wall clock of New York for FX, UTC for coins
_FX_HOURS = ((20.0, 2.0, 0.35), (3.5, 2.0, 0.80), (9.5, 2.0, 1.0))
_COIN_HOURS = ((1.0, 2.5, 0.25), (14.5, 3.0, 0.60))
_QUIET = 0.45
_COIN_WEEKEND = 0.7


@lru_cache(maxsize=4096)
def character_of(symbol: Symbol) -> Character:
    """Return how the symbol's invented prices behave."""
    if symbol.asset_class is AssetClass.FX:
        major = {symbol.base, symbol.quote} <= _MAJORS
        level = _DOLLARS.get(symbol.base or "", 0.1) / _DOLLARS.get(symbol.quote, 0.1)
        return Character(level, 0.011 if major else 0.014, session_gap=0.0, week_gap=0.08)
    if symbol.asset_class is AssetClass.METAL:
        level, volatility = _METALS[symbol.base or ""]
        return Character(level, volatility, session_gap=0.03, week_gap=0.10)
    if symbol.asset_class is AssetClass.CRYPTO:
        volatility = 0.065 if symbol.base in {"BTC", "ETH"} else 0.085
        return Character(_COINS.get(symbol.base or "", 1.0), volatility, session_gap=0.0, week_gap=0.0)
    usual = 1500.0 if symbol.quote == "INR" else 150.0
    return Character(usual * np.exp(0.8 * (2 * _fraction(symbol) - 1)), 0.037, session_gap=0.22, week_gap=0.30)


def decimals_of(symbol: Symbol) -> int:
    """Return how many decimals its prices are quoted with: six digits for FX and coins, cents at most for the rest."""
    digits = 5 - int(np.floor(np.log10(character_of(symbol).level)))
    return min(2, digits) if symbol.asset_class in {AssetClass.METAL, AssetClass.EQUITY} else max(2, digits)


def season_of(symbol: Symbol, times: Instants, opens: Instants, closes: Instants) -> Floats:
    """Return (n,) usual relative volatility at each of ``times``, which lie in the sessions ``[opens, closes)``."""
    if symbol.asset_class is AssetClass.EQUITY:
        session = np.searchsorted(opens, times, side="right") - 1
        since, until = (times - opens[session]) / 60_000, (closes[session] - times) / 60_000
        return np.asarray(0.7 + 0.9 * np.exp(-since / 30) + 0.35 * np.exp(-until / 30), np.float64)
    if symbol.asset_class is AssetClass.CRYPTO:
        weekend = (times // _DAY + 3) % 7 >= 5  # 1970-01-01 was a Thursday, weekday 3
        return _busy(times, _COIN_HOURS) * np.where(weekend, _COIN_WEEKEND, 1.0)
    return _busy(wall_clock(NEW_YORK, times), _FX_HOURS)


def volume_of(symbol: Symbol, activity: Floats) -> Floats:
    """Return (n,) volume a minute, in coins or shares, for an ``activity`` that is 1 on average."""
    if symbol.asset_class is AssetClass.CRYPTO:
        return np.round(_COIN_TURNOVER / 1440 / character_of(symbol).level * activity, 5)
    return np.round(_SHARES_A_DAY * (0.3 + 1.4 * _fraction(symbol)) / 390 * activity)


def _busy(wall: Instants, hours: tuple[tuple[float, float, float], ...]) -> Floats:
    hour = wall % _DAY / _HOUR
    total = np.full(len(wall), _QUIET)
    for centre, width, weight in hours:
        distance = np.abs(hour - centre)
        distance = np.minimum(distance, 24 - distance)
        total += weight * np.exp(-0.5 * (distance / width) ** 2)
    return total


def _fraction(symbol: Symbol) -> float:
    """Return a number in [0, 1) that is the symbol's own."""
    return int.from_bytes(hashlib.sha256(symbol.code.encode()).digest()[:8], "big") / 2.0**64
