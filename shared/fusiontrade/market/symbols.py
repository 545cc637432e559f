"""Symbols: what is traded, in Yahoo's notation, and what every part needs to know about it.

Always true: a `Symbol` has been parsed, so its code is safe in a path, a key and a log line (upper-case ASCII letters,
digits and ``. & - =``, at most 20 characters). Whether anybody has bars for it is the provider's to say; parsing only
refuses what cannot exist.

Pip sizes, the unit in which moves are counted in the journal:

================  =========================================================================
FX                0.0001; 0.01 where the quote currency is the yen
gold, platinum,   0.1 US dollar an ounce (the convention of brokers who count gold in dimes); silver 0.01
palladium
crypto            a fixed power of ten near a hundredth of a percent of the coin's usual price: BTC 1.0, SOL 0.01,
                  ADA 0.0001; 0.0001 for a coin that is not in the catalogue
equities          0.01 of the quote currency
================  =========================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

from fusiontrade.errors import InvalidInput, UnknownSymbol

__all__ = [
    "DEFAULT_SYMBOLS",
    "AssetClass",
    "CalendarName",
    "Symbol",
    "is_listed",
    "listed_symbols",
    "parse_symbol",
    "universe",
]

CalendarName = Literal["FX", "24/7", "XNYS", "XNSE"]

_LONGEST = 20
_WELL_FORMED = re.compile(r"\^?[A-Z0-9][A-Z0-9&.\-]*(=[XF])?")
_PAIR = re.compile(r"([A-Z]{3})?([A-Z]{3})=X")
_COIN = re.compile(r"([A-Z0-9]{1,10})-(USDT|USDC|[A-Z]{3})")
_EXCHANGE_COIN = re.compile(r"([A-Z0-9]{2,10}?)(USDT|USDC)")
_NSE_TICKER = re.compile(r"[A-Z0-9][A-Z0-9&\-]*\.NS")
_US_TICKER = re.compile(r"[A-Z]{1,5}(-[A-Z]{1,2})?")

# ISO 4217 codes in use that are quoted against others somewhere.
_CURRENCIES = frozenset(
    re.findall(
        r"[A-Z]{3}",
        """
        AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
        CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL
        HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL
        MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON
        RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH
        UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW
        """,
    )
)

_METALS: dict[str, tuple[str, str, float]] = {
    "GC=F": ("Gold", "XAU", 0.1),
    "SI=F": ("Silver", "XAG", 0.01),
    "PL=F": ("Platinum", "XPT", 0.1),
    "PA=F": ("Palladium", "XPD", 0.1),
}
_METAL_OF_BASE = {base: code for code, (_, base, _) in _METALS.items()}

_COINS: dict[str, tuple[str, float]] = {
    "BTC": ("Bitcoin", 1.0),
    "ETH": ("Ethereum", 0.1),
    "BNB": ("BNB", 0.1),
    "BCH": ("Bitcoin Cash", 0.1),
    "SOL": ("Solana", 0.01),
    "LTC": ("Litecoin", 0.01),
    "AVAX": ("Avalanche", 0.001),
    "ATOM": ("Cosmos", 0.001),
    "LINK": ("Chainlink", 0.001),
    "DOT": ("Polkadot", 0.001),
    "XRP": ("XRP", 0.0001),
    "ADA": ("Cardano", 0.0001),
    "DOGE": ("Dogecoin", 0.00001),
}
_OTHER_COIN_PIP = 0.0001

_UNIVERSES = ("nifty100", "sp500")


class AssetClass(StrEnum):
    """The kinds of thing that are traded; the value is its name on the wire."""

    FX = "fx"
    METAL = "metal"
    CRYPTO = "crypto"
    EQUITY = "equity"


@dataclass(frozen=True)
class Symbol:
    """One traded thing.

    Parameters
    ----------
    code
        Yahoo's code, e.g. ``EURUSD=X``.
    name
        What a person calls it, e.g. ``EUR/USD``.
    asset_class
        Its kind.
    pip_size
        One pip in units of the quote currency; see the module's table.
    calendar
        When it trades: ``FX`` (metals too, with their daily break), ``24/7``, ``XNYS`` or ``XNSE``.
    base
        What is bought, e.g. ``EUR``, ``XAU``, ``BTC``; None for equities.
    quote
        The currency prices are in.
    has_volume
        False for FX and metals, whose volume is a broker's tick count (spot gold stands in for the future in many
        sources, so the future's own volume is masked as well: models must see one convention).
    """

    code: str
    name: str
    asset_class: AssetClass
    pip_size: float
    calendar: CalendarName
    base: str | None
    quote: str
    has_volume: bool

    def __str__(self) -> str:
        return self.code


DEFAULT_SYMBOLS: tuple[str, ...] = ("EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD")
"""What a newcomer is shown first."""


def parse_symbol(text: str, *, field: str = "symbol") -> Symbol:
    """Return the symbol that ``text`` names: Yahoo's notation in any case, or an exchange's (``BTCUSDT``, ``EURUSD``).

    Parameters
    ----------
    text
        Already percent-decoded.
    field
        Where the text came from, named by the error.

    Raises
    ------
    InvalidInput
        If the text is malformed: empty, too long, or with characters that no symbol has.
    UnknownSymbol
        If it is well-formed but names nothing that can exist, e.g. ``XXXYYY=X`` or an exchange that is not covered.
    """
    code = text.upper() if text.isascii() else ""
    if len(code) > _LONGEST or not _WELL_FORMED.fullmatch(code) or ".." in code:
        shown = repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
        raise InvalidInput(
            field,
            f"{shown} is no symbol: use Yahoo's notation with at most {_LONGEST} characters, "
            "e.g. EURUSD=X, GC=F, BTC-USD, RELIANCE.NS, AAPL",
        )
    return _resolve(code)


@cache
def universe(name: str) -> tuple[str, ...]:
    """Return the codes of a shipped list of equities: ``nifty100`` or ``sp500``.

    Raises
    ------
    InvalidInput
        If there is no list of that name.
    """
    if name not in _UNIVERSES:
        raise InvalidInput("universe", f"{name!r} is no universe: use one of {', '.join(_UNIVERSES)}")
    text = resources.files("fusiontrade.market").joinpath(f"universes/{name}.txt").read_text("utf-8")
    return tuple(line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#"))


def is_listed(symbol: Symbol) -> bool:
    """Whether the symbol is in the shipped catalogue: every currency pair, the metals, known coins in US dollars and
    the equities of the shipped lists."""
    if symbol.asset_class is AssetClass.EQUITY:
        return symbol.code in _listed_equities()
    if symbol.asset_class is AssetClass.CRYPTO:
        return symbol.base in _COINS and symbol.quote == "USD"
    return True


@cache
def listed_symbols() -> tuple[str, ...]:
    """Return the codes of the catalogue that are worth a list: metals, coins and equities (pairs are too many)."""
    return (*_METALS, *(f"{coin}-USD" for coin in _COINS), *(code for name in _UNIVERSES for code in universe(name)))


@cache
def _listed_equities() -> frozenset[str]:
    return frozenset(code for name in _UNIVERSES for code in universe(name))


@lru_cache(maxsize=4096)  # bounded: its keys come from callers
def _resolve(code: str) -> Symbol:
    if pair := _PAIR.fullmatch(code):
        return _pair(pair[1] or "USD", pair[2], code)
    if code in _METALS:
        return _metal(code)
    if coin := _COIN.fullmatch(code):
        quote = _dollar(coin[2])
        if quote in _CURRENCIES:
            return _coin(coin[1], quote)
    if alias := _exchange_name(code):
        return alias
    return _equity(code)


def _exchange_name(code: str) -> Symbol | None:
    """Return what an exchange's or a broker's name means (``BTCUSDT``, ``EURUSD``, ``XAUUSD``), or None."""
    if coin := _EXCHANGE_COIN.fullmatch(code):
        return _metal(_METAL_OF_BASE[coin[1]]) if coin[1] in _METAL_OF_BASE else _coin(coin[1], "USD")
    base, quote = code[:-3], code[-3:]
    if quote == "USD" and base in _COINS:
        return _coin(base, quote)
    if quote in _CURRENCIES and (base in _CURRENCIES or base in _METAL_OF_BASE):
        return _pair(base, quote, code)
    return None


def _dollar(quote: str) -> str:
    return "USD" if quote in {"USDT", "USDC"} else quote


def _pair(base: str, quote: str, code: str) -> Symbol:
    if base in _METAL_OF_BASE and quote == "USD":
        return _metal(_METAL_OF_BASE[base])
    if base == quote or base not in _CURRENCIES or quote not in _CURRENCIES:
        raise UnknownSymbol(code)
    pip = 0.01 if quote == "JPY" else 0.0001
    return Symbol(f"{base}{quote}=X", f"{base}/{quote}", AssetClass.FX, pip, "FX", base, quote, has_volume=False)


def _metal(code: str) -> Symbol:
    name, base, pip = _METALS[code]
    return Symbol(code, name, AssetClass.METAL, pip, "FX", base, "USD", has_volume=False)


def _coin(base: str, quote: str) -> Symbol:
    if base == quote:
        raise UnknownSymbol(f"{base}-{quote}")
    name, pip = _COINS.get(base, (base, _OTHER_COIN_PIP))
    return Symbol(f"{base}-{quote}", name, AssetClass.CRYPTO, pip, "24/7", base, quote, has_volume=True)


def _equity(code: str) -> Symbol:
    if _NSE_TICKER.fullmatch(code):
        return Symbol(code, code.removesuffix(".NS"), AssetClass.EQUITY, 0.01, "XNSE", None, "INR", has_volume=True)
    if _US_TICKER.fullmatch(code):
        return Symbol(code, code, AssetClass.EQUITY, 0.01, "XNYS", None, "USD", has_volume=True)
    raise UnknownSymbol(code)
