"""What callers may write for a symbol, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.errors import InvalidInput, UnknownSymbol
from fusiontrade.market.symbols import (
    DEFAULT_SYMBOLS,
    AssetClass,
    Symbol,
    is_listed,
    listed_symbols,
    parse_symbol,
    universe,
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("EURUSD=X", "EURUSD=X"),
        ("eurusd=x", "EURUSD=X"),
        ("EURUSD", "EURUSD=X"),
        ("JPY=X", "USDJPY=X"),
        ("XAUUSD", "GC=F"),
        ("XAUUSD=X", "GC=F"),
        ("XAGUSD", "SI=F"),
        ("XAUUSDT", "GC=F"),
        ("GC=F", "GC=F"),
        ("BTC-USD", "BTC-USD"),
        ("BTCUSDT", "BTC-USD"),
        ("btcusdt", "BTC-USD"),
        ("BTCUSDC", "BTC-USD"),
        ("BTCUSD", "BTC-USD"),
        ("BTC-USDT", "BTC-USD"),
        ("1INCHUSDT", "1INCH-USD"),
        ("ETH-EUR", "ETH-EUR"),
        ("RELIANCE.NS", "RELIANCE.NS"),
        ("M&M.NS", "M&M.NS"),
        ("BAJAJ-AUTO.NS", "BAJAJ-AUTO.NS"),
        ("AAPL", "AAPL"),
        ("BRK-B", "BRK-B"),
    ],
)
def test_parse_symbol_accepts_yahoo_and_exchange_notation(text: str, code: str) -> None:
    assert parse_symbol(text).code == code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("EURUSD=X", Symbol("EURUSD=X", "EUR/USD", AssetClass.FX, 0.0001, "FX", "EUR", "USD", has_volume=False)),
        ("USDJPY=X", Symbol("USDJPY=X", "USD/JPY", AssetClass.FX, 0.01, "FX", "USD", "JPY", has_volume=False)),
        ("GC=F", Symbol("GC=F", "Gold", AssetClass.METAL, 0.1, "FX", "XAU", "USD", has_volume=False)),
        ("SI=F", Symbol("SI=F", "Silver", AssetClass.METAL, 0.01, "FX", "XAG", "USD", has_volume=False)),
        ("BTC-USD", Symbol("BTC-USD", "Bitcoin", AssetClass.CRYPTO, 1.0, "24/7", "BTC", "USD", has_volume=True)),
        ("ADA-USD", Symbol("ADA-USD", "Cardano", AssetClass.CRYPTO, 0.0001, "24/7", "ADA", "USD", has_volume=True)),
        ("PEPE-USD", Symbol("PEPE-USD", "PEPE", AssetClass.CRYPTO, 0.0001, "24/7", "PEPE", "USD", has_volume=True)),
        ("AAPL", Symbol("AAPL", "AAPL", AssetClass.EQUITY, 0.01, "XNYS", None, "USD", has_volume=True)),
        ("TCS.NS", Symbol("TCS.NS", "TCS", AssetClass.EQUITY, 0.01, "XNSE", None, "INR", has_volume=True)),
    ],
)
def test_parse_symbol_knows_what_each_market_is(code: str, expected: Symbol) -> None:
    assert parse_symbol(code) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "EUR USD",
        " EURUSD=X",
        "EURUSD=X\n",
        "EURUSD=X\x00",
        "../x",
        "..",
        "A..B",
        "a/b",
        "a\\b",
        "%2e%2e%2fx",
        "EURUSD%3DX",
        "EURUSD=Y",
        "=X",
        "-",
        "AAPL;DROP",
        "ÄÖÜ",
        "ſ",
        "AAPL😀",
        "A" * 21,
        "A" * 100_000,
    ],
)
def test_parse_symbol_refuses_malformed_text_naming_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no symbol: use Yahoo's notation") as caught:
        parse_symbol(text, field="path/symbol")
    assert caught.value.field == "path/symbol"
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "text",
    ["XXXYYY=X", "EURXXX=X", "EUREUR=X", "USD=X", "CL=F", "^GSPC", "VOD.L", "ABCDEFG", "USD-USD", "XAUEUR=X", "ETHBTC"],
)
def test_parse_symbol_says_unknown_for_well_formed_text_that_names_nothing(text: str) -> None:
    with pytest.raises(UnknownSymbol):
        parse_symbol(text)


@given(st.text(max_size=25))
def test_parse_symbol_answers_any_text_with_a_safe_code_or_a_known_error(text: str) -> None:
    try:
        symbol = parse_symbol(text)
    except (InvalidInput, UnknownSymbol):
        return
    assert set(symbol.code) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.&-=")
    assert len(symbol.code) <= 20
    assert parse_symbol(symbol.code) == symbol


@given(st.sampled_from(listed_symbols()))
def test_listed_symbols_parse_to_themselves_and_are_listed(code: str) -> None:
    symbol = parse_symbol(code)
    assert symbol.code == code
    assert is_listed(symbol)


def test_is_listed_refuses_equities_and_coins_outside_the_catalogue() -> None:
    assert not is_listed(parse_symbol("ZZZZ"))
    assert not is_listed(parse_symbol("NOSUCH.NS"))
    assert not is_listed(parse_symbol("PEPE-USD"))
    assert not is_listed(parse_symbol("BTC-EUR"))
    assert is_listed(parse_symbol("TRYJPY=X"))


def test_default_symbols_are_the_four_of_the_first_run() -> None:
    assert DEFAULT_SYMBOLS == ("EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD")


def test_universe_lists_codes_once_each_and_names_what_exists() -> None:
    nifty, sp500 = universe("nifty100"), universe("sp500")
    assert "RELIANCE.NS" in nifty
    assert all(code.endswith(".NS") for code in nifty)
    assert "AAPL" in sp500
    assert len(set(nifty)) == len(nifty) >= 80
    assert len(set(sp500)) == len(sp500) >= 130
    with pytest.raises(InvalidInput, match="use one of nifty100, sp500"):
        universe("ftse")
