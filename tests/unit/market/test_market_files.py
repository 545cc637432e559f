"""A user's folder of Parquet bars: what it answers, what it refuses, and that it never looks ahead."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fusiontrade.clock import iso, parse_iso
from fusiontrade.errors import InvalidInput, UnknownSymbol
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.providers.base import HistoryUnavailable, Provider, TimeframeUnavailable
from fusiontrade.market.providers.files import FilesProvider
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from tests.support.market_folder import START, ask, bars, listing, write

EURUSD, BTC, GOLD = (parse_symbol(code) for code in ("EURUSD=X", "BTC-USD", "GC=F"))
COLUMNS = ("time", "open", "high", "low", "close")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """EURUSD in 15m and 1h from the same market, BTC in 15m, and two equities in one daily table."""
    write(tmp_path, "fx/eurusd_15m.parquet", bars(Timeframe.M15, 400))
    write(tmp_path, "fx/eurusd_1h.parquet", bars(Timeframe.H1, 100, seed=2))
    write(tmp_path, "fx/eurusd_4h.parquet", bars(Timeframe.H4, 25, seed=3))
    write(tmp_path, "btc_15m.parquet", bars(Timeframe.M15, 402, seed=4))
    one, two = bars(Timeframe.D1, 5, seed=5), bars(Timeframe.D1, 4, seed=6)
    names = {"symbol": np.array(["TCS", "M&M"] * 4 + ["TCS"])}
    mixed = {key: np.empty(9, one[key].dtype) for key in one}
    for key, column in mixed.items():
        column[names["symbol"] == "TCS"], column[names["symbol"] == "M&M"] = one[key], two[key]
    write(tmp_path, "nse_1d.parquet", names | mixed)
    return listing(
        tmp_path,
        """
        [symbols."EURUSD=X"]
        files = { "15m" = "fx/eurusd_15m.parquet", "1h" = "fx/eurusd_1h.parquet", "4h" = "fx/eurusd_4h.parquet" }

        [symbols."BTCUSDT"]
        stands_in = "BTCUSDT spot for BTC-USD"
        files = { "15m" = "btc_15m.parquet" }

        [[tables]]
        path = "nse_1d.parquet"
        timeframe = "1d"
        suffix = ".NS"
        """,
    )


def same(one: CandleFrame, other: CandleFrame) -> bool:
    return all(np.array_equal(getattr(one, column), getattr(other, column)) for column in COLUMNS)


def test_files_provider_is_a_provider_called_files(folder: Path) -> None:
    provider = FilesProvider(folder)
    assert isinstance(provider, Provider)
    assert (provider.name, provider.notice) == ("files", None)


def test_candles_are_the_files_own_bars_finished_by_end(folder: Path) -> None:
    written = bars(Timeframe.M15, 400)
    frame = ask(FilesProvider(folder), "EURUSD=X", Timeframe.M15, "2025-07-28T01:10:00Z", count=3)
    assert [iso(int(time))[11:16] for time in frame.time] == ["00:15", "00:30", "00:45"]
    assert frame.close.tolist() == written["close"][1:4].tolist()
    assert frame.symbol == "EURUSD=X"


def test_a_bar_counts_from_the_moment_it_closes(folder: Path) -> None:
    provider = FilesProvider(folder)
    at, before = (ask(provider, "BTC-USD", Timeframe.M15, START + 900_000 * 4 - late) for late in (0, 1))
    assert (len(at), len(before)) == (4, 3)


def test_fx_has_no_volume_and_crypto_has_its_own(folder: Path) -> None:
    provider = FilesProvider(folder)
    assert ask(provider, "EURUSD=X", Timeframe.M15).volume is None
    btc = ask(provider, "BTC-USD", Timeframe.M15)
    assert btc.volume is not None
    assert btc.volume[:3].tolist() == bars(Timeframe.M15, 402, seed=4)["volume"][:3].tolist()


def test_unlisted_timeframe_is_put_together_from_the_nearest_finer_one(folder: Path) -> None:
    provider = FilesProvider(folder)
    half, quarter = ask(provider, "EURUSD=X", Timeframe.M30, count=1), ask(provider, "EURUSD=X", Timeframe.M15, count=2)
    assert half.open[0] == quarter.open[0]
    assert half.close[0] == quarter.close[1]
    day, hour = ask(provider, "EURUSD=X", Timeframe.D1), ask(provider, "EURUSD=X", Timeframe.H1)
    rows = (hour.time >= day.time[0]) & (hour.time < day.time[0] + 86_400_000)
    assert day.high[0] == hour.high[rows].max()


def test_four_hour_bars_come_from_one_hour_bars_even_where_a_file_has_them(folder: Path) -> None:
    provider = FilesProvider(folder)
    four, hour = ask(provider, "EURUSD=X", Timeframe.H4), ask(provider, "EURUSD=X", Timeframe.H1)
    assert iso(int(four.time[0])) == "2025-07-28T01:00:00Z"  # 21:00 New York
    assert four.open[0] == hour.open[1]
    assert four.close[0] == hour.close[4]


def test_four_hour_bars_are_made_through_one_hour_bars_where_there_are_none(folder: Path) -> None:
    provider = FilesProvider(folder)
    four, quarter = ask(provider, "BTC-USD", Timeframe.H4), ask(provider, "BTC-USD", Timeframe.M15)
    assert four.close[0] == quarter.close[15]
    assert iso(int(four.time[1])) == "2025-07-28T04:00:00Z"


def test_stand_in_is_told_in_the_folders_words(folder: Path) -> None:
    provider = FilesProvider(folder)
    assert provider.stand_in(BTC) == "BTCUSDT spot for BTC-USD"
    assert provider.stand_in(EURUSD) is None
    assert provider.stand_in(GOLD) is None


def test_now_is_the_close_of_the_symbols_last_bar_or_the_configured_moment(folder: Path) -> None:
    assert iso(FilesProvider(folder).now(EURUSD)) == "2025-08-01T04:00:00Z"
    assert iso(FilesProvider(folder).now(BTC)) == "2025-08-01T04:30:00Z"
    assert FilesProvider(folder, as_of=START).now(BTC) == START


def test_long_table_serves_each_symbol_its_own_rows(folder: Path) -> None:
    provider = FilesProvider(folder)
    tcs, mahindra = (ask(provider, code, Timeframe.D1, "2025-09-01T00:00:00Z") for code in ("TCS.NS", "M&M.NS"))
    assert tcs.close.tolist() == bars(Timeframe.D1, 5, seed=5)["close"].tolist()
    assert mahindra.close.tolist() == bars(Timeframe.D1, 4, seed=6)["close"].tolist()
    assert mahindra.volume is not None


def test_symbols_and_timeframes_list_what_can_be_asked(folder: Path) -> None:
    provider = FilesProvider(folder)
    assert provider.symbols() == ("EURUSD=X", "BTC-USD", "TCS.NS", "M&M.NS")
    assert [str(one) for one in provider.timeframes(BTC)] == ["15m", "30m", "1h", "4h", "1d"]
    assert [str(one) for one in provider.timeframes(parse_symbol("TCS.NS"))] == ["1d"]


def test_history_is_every_finished_bar_and_cannot_be_changed(folder: Path) -> None:
    provider = FilesProvider(folder)
    history = provider.history(BTC, Timeframe.H4)
    assert iso(int(history.close_time[-1])) == "2025-08-01T04:00:00Z"
    with pytest.raises(ValueError, match="read-only"):
        provider.history(BTC, Timeframe.M15).close[0] = 1.0


def dated_files(folder: Path, end: int) -> list[tuple[str, dict[str, np.ndarray], np.ndarray]]:
    """Each intraday file with its columns and which of its bars were not finished by ``end``."""
    found = []
    for path in folder.rglob("*_*[mh].parquet"):
        table = pq.read_table(path)
        columns = {name: table[name].to_numpy() for name in table.column_names}
        length = Timeframe(path.stem.split("_")[1]).milliseconds
        found.append((str(path.relative_to(folder)), columns, columns["timestamp"].astype(np.int64) + length > end))
    assert len(found) == 4
    return found


@pytest.mark.parametrize("timeframe", [Timeframe.M15, Timeframe.M30, Timeframe.H1, Timeframe.H4, Timeframe.D1])
@pytest.mark.parametrize("code", ["EURUSD=X", "BTC-USD"])
def test_bars_after_end_change_nothing_whether_altered_or_absent(folder: Path, code: str, timeframe: Timeframe) -> None:
    end = parse_iso("2025-07-30T13:20:00Z")
    before = ask(FilesProvider(folder), code, timeframe, end)
    for path, columns, later in dated_files(folder, end):
        tripled = {name: np.where(later, columns[name] * 3, columns[name]) for name in COLUMNS[1:]}
        write(folder, path, columns | tripled)
    altered = ask(FilesProvider(folder), code, timeframe, end)
    for path, columns, later in dated_files(folder, end):
        write(folder, path, {name: column[~later] for name, column in columns.items()})
    absent = ask(FilesProvider(folder), code, timeframe, end)
    assert len(before) >= 1
    assert same(before, altered)
    assert same(before, absent)


def test_many_threads_get_the_same_bars_from_one_read(folder: Path) -> None:
    provider = FilesProvider(folder)
    found: list[CandleFrame] = []
    threads = [threading.Thread(target=lambda: found.append(ask(provider, "EURUSD=X", Timeframe.H4))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.shares_memory(found[0].close, frame.close) for frame in found)


def test_unknown_symbol_is_said_to_be_unknown(folder: Path) -> None:
    provider = FilesProvider(folder)
    for code in ("GBPUSD=X", "AAPL", "NOSUCH.NS"):
        with pytest.raises(UnknownSymbol):
            ask(provider, code, Timeframe.D1)
    with pytest.raises(UnknownSymbol):
        provider.now(GOLD)


def test_a_moment_before_the_first_bar_is_named_with_the_first_moment_there_is(folder: Path) -> None:
    with pytest.raises(HistoryUnavailable, match="the first one closed at 2025-07-28T00:15:00Z") as caught:
        ask(FilesProvider(folder), "EURUSD=X", Timeframe.M15, START)
    assert caught.value.field == "query/as_of"
    assert isinstance(caught.value, InvalidInput)


def test_a_timeframe_shorter_than_all_files_is_refused_naming_what_there_is(folder: Path) -> None:
    with pytest.raises(TimeframeUnavailable, match=r"no 5m bars of BTC-USD .* it has 15m"):
        ask(FilesProvider(folder), "BTC-USD", Timeframe.M5)
    with pytest.raises(TimeframeUnavailable, match="it has 1d"):
        ask(FilesProvider(folder), "TCS.NS", Timeframe.H4)


def test_too_few_bars_for_one_longer_bar_is_said(tmp_path: Path) -> None:
    write(tmp_path, "x.parquet", bars(Timeframe.H1, 2, start=START + 3_600_000))
    listing(tmp_path, '[symbols."BTC-USD"]\nfiles = { "1h" = "x.parquet" }')
    with pytest.raises(HistoryUnavailable, match="too few 1h bars of BTC-USD for one of 4h"):
        ask(FilesProvider(tmp_path), "BTC-USD", Timeframe.H4)


@pytest.mark.parametrize("timeframe", [Timeframe.H1, Timeframe.H4])
def test_the_last_longer_bar_is_left_out_where_the_files_end_within_it(folder: Path, timeframe: Timeframe) -> None:
    ended = START + 100 * 3_600_000 + 1_800_000  # 402 quarters of an hour
    late = ask(FilesProvider(folder), "BTC-USD", timeframe, ended + 24 * 3_600_000)
    assert int(late.close_time[-1]) == START + 100 * 3_600_000
    assert same(late, ask(FilesProvider(folder), "BTC-USD", timeframe, ended))
