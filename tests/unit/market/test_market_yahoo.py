"""The real Yahoo client (yfinance and curl_cffi) against a loopback server that plays Yahoo well and badly."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusiontrade.clock import iso, parse_iso
from fusiontrade.errors import ProviderUnavailable, UnknownSymbol
from fusiontrade.market.providers.base import HistoryUnavailable, Provider
from fusiontrade.market.providers.yahoo import YahooProvider, own_folder
from fusiontrade.market.resampling import grid_of, resample
from fusiontrade.market.retry import AskedToWait
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from tests.support.yahoo_server import NOT_FOUND, NOW, Act, YahooServer, price

EURUSD, GOLD, BITCOIN, APPLE = map(parse_symbol, ("EURUSD=X", "GC=F", "BTC-USD", "AAPL"))


def ask(provider: YahooProvider, symbol=EURUSD, timeframe=Timeframe.H1, *, end=NOW, count=50, timeout=10.0):
    return provider.candles(symbol, timeframe, end=end, count=count, timeout=timeout)


def quotes(result: dict[str, Any]) -> dict[str, list[float | None]]:
    return result["indicators"]["quote"][0]


# ---------------------------------------------------------------- good answers


def test_the_provider_is_one(provider: YahooProvider) -> None:
    assert isinstance(provider, Provider)
    assert (provider.name, provider.notice, provider.stand_in(GOLD), provider.now(GOLD)) == ("yahoo", None, None, NOW)


@pytest.mark.parametrize(
    ("symbol", "timeframe", "last_close"),
    [
        (EURUSD, Timeframe.M1, "2025-07-23T15:07:00Z"),
        (EURUSD, Timeframe.M15, "2025-07-23T15:00:00Z"),
        (EURUSD, Timeframe.M30, "2025-07-23T15:00:00Z"),
        (EURUSD, Timeframe.H1, "2025-07-23T15:00:00Z"),
        (EURUSD, Timeframe.H4, "2025-07-23T13:00:00Z"),
        (EURUSD, Timeframe.D1, "2025-07-23T00:00:00Z"),
        (GOLD, Timeframe.H4, "2025-07-23T13:00:00Z"),
        (BITCOIN, Timeframe.M15, "2025-07-23T15:00:00Z"),
        (BITCOIN, Timeframe.H4, "2025-07-23T12:00:00Z"),
        (APPLE, Timeframe.M15, "2025-07-23T15:00:00Z"),
        (APPLE, Timeframe.H1, "2025-07-23T14:30:00Z"),
        (APPLE, Timeframe.D1, "2025-07-23T00:00:00Z"),
    ],
)
def test_a_good_answer_holds_the_newest_finished_bars(
    provider: YahooProvider, symbol, timeframe: Timeframe, last_close: str
) -> None:
    frame = ask(provider, symbol, timeframe, count=60)
    assert (frame.symbol, frame.timeframe, len(frame)) == (symbol.code, timeframe, 60)
    assert iso(int(frame.close_time[-1])) == last_close
    assert frame.faults() == []
    if symbol is not APPLE:  # whose bars of a day begin hours before its session
        opened = int(frame.time[-1]) / 1000
        assert frame.open[-1] == pytest.approx(price(symbol.code, opened), rel=1e-12)
        assert frame.close[-1] == pytest.approx(price(symbol.code, int(frame.close_time[-1]) / 1000), rel=1e-12)


def test_volume_is_masked_where_the_market_has_no_real_one(provider: YahooProvider) -> None:
    assert ask(provider, EURUSD).volume is None
    assert ask(provider, GOLD).volume is None
    volume = ask(provider, BITCOIN).volume
    assert volume is not None
    assert volume[-1] == 1000 + (parse_iso("2025-07-23T14:00:00Z") // 1000) % 977


def test_four_hours_are_put_together_from_one_on_the_new_york_grid(provider: YahooProvider) -> None:
    frame = ask(provider, EURUSD, Timeframe.H4, count=30)
    assert {datetime.fromtimestamp(at / 1000, UTC).hour for at in frame.time} == {1, 5, 9, 13, 17, 21}
    hours = ask(provider, EURUSD, Timeframe.H1, count=400)
    expected = resample(hours, Timeframe.H4, grid_of(EURUSD)).tail(30)
    np.testing.assert_array_equal(frame.close, expected.close)


def test_a_half_hour_with_a_late_quarter_is_left_out(yahoo: YahooServer, provider: YahooProvider) -> None:
    def quarter_is_late(result: dict[str, Any]) -> None:
        late = parse_iso("2025-07-23T14:45:00Z") // 1000
        kept = [row for row, at in enumerate(result["timestamp"]) if at < late]
        result["timestamp"] = [result["timestamp"][row] for row in kept]
        result["indicators"]["quote"] = [{name: [v[row] for row in kept] for name, v in quotes(result).items()}]

    yahoo.plays(Act(edit=quarter_is_late))
    frame = ask(provider, EURUSD, Timeframe.M30)
    assert iso(int(frame.close_time[-1])) == "2025-07-23T14:30:00Z"


def test_a_past_moment_is_answered_with_bars_finished_by_then(yahoo: YahooServer, provider: YahooProvider) -> None:
    end = parse_iso("2025-07-10T09:59:59Z")
    frame = ask(provider, EURUSD, Timeframe.M15, end=end)
    assert iso(int(frame.close_time[-1])) == "2025-07-10T09:45:00Z"
    assert int(yahoo.charts[-1]["period2"]) * 1000 <= end + 1000


def test_an_end_in_the_future_does_not_let_the_running_bar_in(provider: YahooProvider) -> None:
    assert iso(int(ask(provider, end=NOW + 7_200_000).close_time[-1])) == "2025-07-23T15:00:00Z"


def test_fewer_bars_than_asked_are_answered_where_history_begins_within_them(provider: YahooProvider) -> None:
    assert 500 < len(ask(provider, APPLE, Timeframe.M30, count=700)) < 700


def test_daily_prices_are_adjusted(yahoo: YahooServer, provider: YahooProvider) -> None:
    def halve(result: dict[str, Any]) -> None:
        result["indicators"]["adjclose"] = [{"adjclose": [close / 2 for close in quotes(result)["close"]]}]

    plain = ask(provider, APPLE, Timeframe.D1)
    yahoo.plays(Act(edit=halve))
    adjusted = ask(provider, APPLE, Timeframe.D1)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(getattr(adjusted, name), getattr(plain, name) / 2, rtol=1e-12)


def test_daily_bars_of_equities_carry_the_date_of_their_session(provider: YahooProvider) -> None:
    frame = ask(provider, APPLE, Timeframe.D1, count=3)
    assert [iso(int(at)) for at in frame.time] == [f"2025-07-{day}T00:00:00Z" for day in (18, 21, 22)]


# ---------------------------------------------------------------- rows that are not what they seem


def test_a_live_row_off_the_grid_and_a_repeated_one_are_left_out(yahoo: YahooServer, provider: YahooProvider) -> None:
    def add(result: dict[str, Any]) -> None:
        times = result["timestamp"]
        times[:] = [*times[:-1], times[-2], NOW // 1000 - 5]
        for values in quotes(result).values():
            values[:] = [*values[:-1], values[-2], values[-1]]

    whole = ask(provider, count=20)
    yahoo.plays(Act(edit=add))
    frame = ask(provider, count=20)
    np.testing.assert_array_equal(frame.time, whole.time)
    np.testing.assert_array_equal(frame.close, whole.close)


@pytest.mark.parametrize("timeframe", [Timeframe.M15, Timeframe.M30, Timeframe.H1])
def test_a_live_row_that_happens_on_a_full_minute_is_no_bar(timeframe: Timeframe) -> None:
    def add_last_trade_of_the_week(result: dict[str, Any]) -> None:
        result["timestamp"].append(parse_iso("2025-07-25T22:04:00Z") // 1000)
        for values in quotes(result).values():
            values.append(values[-1])
        for name in ("open", "high", "low"):
            quotes(result)[name][-1] = quotes(result)["close"][-1]

    end = parse_iso("2025-07-26T12:00:00Z")
    with YahooServer(end // 1000) as yahoo:
        provider = YahooProvider(base_url=yahoo.url, clock=lambda: end)
        whole = ask(provider, EURUSD, timeframe, end=end)
        yahoo.plays(Act(edit=add_last_trade_of_the_week))
        frame = ask(provider, EURUSD, timeframe, end=end)
        provider.close()
    np.testing.assert_array_equal(frame.time, whole.time)
    np.testing.assert_array_equal(frame.close, whole.close)


# ---------------------------------------------------------------- bad answers


def drop(*path: str | int) -> Act:
    """An answer that lacks one part."""

    def edit(result: dict[str, Any]) -> None:
        part: Any = result
        for step in path[:-1]:
            part = part[step]
        del part[path[-1]]

    return Act(edit=edit)


def put(value: Any, *path: str | int) -> Act:
    """An answer of which one part is something else."""

    def edit(result: dict[str, Any]) -> None:
        part: Any = result
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value

    return Act(edit=edit)


def rename(old: str, new: str) -> Act:
    def edit(result: dict[str, Any]) -> None:
        quotes(result)[new] = quotes(result).pop(old)

    return Act(edit=edit)


def empty(result: dict[str, Any]) -> None:
    del result["timestamp"]
    result["indicators"] = {"quote": [{}], "adjclose": [{}]}


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (Act(500, b"oops"), "Yahoo answered with status 500"),
        (Act.html(), "text/html instead of JSON"),
        (Act.html(502), "status 502"),
        (Act(200, b"[]", {"Content-Type": "application/json"}), "a JSON list instead of an object"),
        (Act(200, b"{}", {"Content-Type": "application/json"}), "lacks 'chart'"),
        (Act(200, b'{"chart": {"result": [], "error": null}}'), "empty answer for EURUSD=X"),
        (Act(edit=empty), "Yahoo knows EURUSD=X but sent no bars"),
        (rename("close", "close_price"), "lacks 'close'"),
        (drop("indicators", "quote", 0, "volume"), "lacks 'volume'"),
        (drop("timestamp"), "lacks 'timestamp'"),
        (put(None, "timestamp", -1), "cannot be read"),
        (put("", "timestamp", -5), "cannot be read"),
        (put("x", "indicators", "quote", 0, "low", -5), "cannot be read"),
        (put(["1h"], "meta", "dataGranularity"), "cannot be read"),
        (drop("meta", "tradingPeriods"), "tradingPeriods"),
        (drop("meta", "exchangeTimezoneName"), "exchangeTimezoneName"),
        (Act.refusal(200, "Internal Server Error", "try later"), "Internal Server Error: try later"),
    ],
)
def test_a_bad_answer_is_an_unavailable_provider(
    yahoo: YahooServer, provider: YahooProvider, act: Act, words: str
) -> None:
    yahoo.plays(act)
    with pytest.raises(ProviderUnavailable, match=words):
        ask(provider)


def test_raw_prices_never_pass_for_adjusted_ones(yahoo: YahooServer, provider: YahooProvider) -> None:
    yahoo.plays(drop("indicators", "adjclose"))
    with pytest.raises(ProviderUnavailable, match="lacks 'adjclose'"):
        ask(provider, APPLE, Timeframe.D1)


def test_a_symbol_yahoo_does_not_know_is_unknown(yahoo: YahooServer, provider: YahooProvider) -> None:
    yahoo.known.clear()
    for symbol in (EURUSD, GOLD, BITCOIN, APPLE):
        with pytest.raises(UnknownSymbol):
            ask(provider, symbol)


def test_a_delisted_symbol_is_unknown_whatever_the_status(yahoo: YahooServer, provider: YahooProvider) -> None:
    yahoo.plays(Act(200, NOT_FOUND.body))
    with pytest.raises(UnknownSymbol):
        ask(provider, APPLE)


def test_a_range_yahoo_does_not_keep_is_no_history(yahoo: YahooServer, provider: YahooProvider) -> None:
    words = "15m data not available for startTime=1. The requested range must be within the last 60 days."
    yahoo.plays(Act.refusal(422, "Unprocessable Entity", words))
    with pytest.raises(HistoryUnavailable, match="within the last 60 days") as raised:
        ask(provider, EURUSD, Timeframe.M15)
    assert raised.value.field == "query/as_of"


@pytest.mark.parametrize(("timeframe", "days"), [(Timeframe.M15, 60), (Timeframe.M30, 60), (Timeframe.H4, 731)])
def test_a_moment_before_what_yahoo_keeps_is_refused_without_asking(
    yahoo: YahooServer, provider: YahooProvider, timeframe: Timeframe, days: int
) -> None:
    with pytest.raises(HistoryUnavailable, match="Yahoo keeps"):
        ask(provider, EURUSD, timeframe, end=NOW - days * 86_400_000)
    assert yahoo.charts == []


@pytest.mark.parametrize(("header", "seconds"), [({"Retry-After": "17"}, 17), ({}, 60), ({"Retry-After": "soon"}, 60)])
def test_too_many_requests_say_for_how_long(
    yahoo: YahooServer, provider: YahooProvider, header: dict[str, str], seconds: int
) -> None:
    yahoo.always = Act(429, b"Too Many Requests", header)
    with pytest.raises(AskedToWait) as raised:
        ask(provider)
    assert raised.value.retry_after == seconds


@pytest.mark.parametrize("act", [Act(hang=True), Act(body=b"{" * 400, drip=True)])
def test_a_server_that_hangs_or_drips_costs_no_more_than_the_timeout(
    yahoo: YahooServer, provider: YahooProvider, act: Act
) -> None:
    ask(provider)  # imports are not on the clock
    yahoo.plays(act)
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="did not answer within"):
        ask(provider, timeout=0.5)
    assert time.monotonic() - begun < 5


def test_a_failure_is_not_remembered_for_the_same_question(yahoo: YahooServer, provider: YahooProvider) -> None:
    end = parse_iso("2025-07-10T09:59:59Z")  # yfinance itself would keep the failed answer of a past range
    yahoo.plays(Act(500, b""))
    with pytest.raises(ProviderUnavailable):
        ask(provider, end=end)
    assert len(ask(provider, end=end)) == 50


def test_signing_in_happens_once_and_only_when_yahoo_wants_it(yahoo: YahooServer, provider: YahooProvider) -> None:
    ask(provider)
    assert [path for path, _ in yahoo.requests] == ["/v8/finance/chart/EURUSD=X"]
    yahoo.needs_crumb = True
    ask(provider)
    ask(provider)
    chart = "/v8/finance/chart/EURUSD=X"
    assert [path for path, _ in yahoo.requests[1:]] == [chart, "/", "/v1/test/getcrumb", chart, chart]
    assert yahoo.charts[-1]["crumb"] == "cr.umb"


@pytest.mark.parametrize("page", ["<html></html>", "Too Many Requests", ""])
def test_a_sign_in_that_fails_is_not_repeated_for_every_request(
    yahoo: YahooServer, provider: YahooProvider, page: str
) -> None:
    yahoo.needs_crumb, yahoo.crumb = True, page
    for _ in range(3):
        with pytest.raises(ProviderUnavailable, match="status 401"):
            ask(provider)
    assert [path for path, _ in yahoo.requests].count("/v1/test/getcrumb") == 1


def test_a_sign_in_that_hangs_leaves_the_deadline_as_it_is(yahoo: YahooServer, provider: YahooProvider) -> None:
    ask(provider)
    yahoo.needs_crumb, yahoo.hangs = True, {"/"}
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        ask(provider, timeout=0.5)
    assert time.monotonic() - begun < 5


def test_bars_too_few_for_one_longer_bar_are_no_history(yahoo: YahooServer, provider: YahooProvider) -> None:
    def only_the_last(result: dict[str, Any]) -> None:
        result["timestamp"] = result["timestamp"][-2:]
        result["indicators"]["quote"] = [{name: values[-2:] for name, values in quotes(result).items()}]

    yahoo.plays(Act(edit=only_the_last))
    with pytest.raises(HistoryUnavailable, match="no 4h bar of EURUSD=X finished by 2025-07-23T15:07:12Z"):
        ask(provider, timeframe=Timeframe.H4)


def test_files_of_yfinance_go_to_a_folder_nobody_else_can_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = own_folder()
    assert (usual.parent, usual.stat().st_mode & 0o777, own_folder()) == (tmp_path, 0o700, usual)
    usual.rmdir()
    (tmp_path / "elsewhere").mkdir()
    usual.symlink_to(tmp_path / "elsewhere")
    assert own_folder() not in {usual, tmp_path / "elsewhere"}
