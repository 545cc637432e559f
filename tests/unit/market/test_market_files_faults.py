"""A user's folder of Parquet bars: files and listings that are refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusiontrade.errors import BadCandles, InvalidInput, ProviderUnavailable
from fusiontrade.market.providers.files import FilesProvider
from fusiontrade.market.timeframes import Timeframe
from tests.support.market_folder import START, ask, bars, listing, write


def only_btc(folder: Path, columns: dict[str, np.ndarray]) -> FilesProvider:
    write(folder, "x.parquet", columns)
    return FilesProvider(listing(folder, '[symbols."BTC-USD"]\nfiles = { "15m" = "x.parquet" }'))


def test_missing_file_is_named(tmp_path: Path) -> None:
    provider = FilesProvider(listing(tmp_path, '[symbols."BTC-USD"]\nfiles = { "15m" = "gone.parquet" }'))
    with pytest.raises(ProviderUnavailable, match=r"gone\.parquet, named by instruments\.toml, is not in the data"):
        ask(provider, "BTC-USD", Timeframe.M15)


def test_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("timestamp,open\n")
    provider = FilesProvider(listing(tmp_path, '[symbols."BTC-USD"]\nfiles = { "15m" = "x.parquet" }'))
    with pytest.raises(ProviderUnavailable, match=r"x\.parquet cannot be read as Parquet"):
        ask(provider, "BTC-USD", Timeframe.M15)


@pytest.mark.parametrize("column", ["timestamp", "close", "volume"])
def test_missing_column_is_named_with_its_file(tmp_path: Path, column: str) -> None:
    columns = bars(Timeframe.M15, 10)
    del columns[column]
    with pytest.raises(BadCandles, match=rf"x\.parquet: no column {column}"):
        ask(only_btc(tmp_path, columns), "BTC-USD", Timeframe.M15)


def test_fx_file_needs_no_volume_column(tmp_path: Path) -> None:
    columns = bars(Timeframe.M15, 10)
    del columns["volume"]
    write(tmp_path, "x.parquet", columns)
    provider = FilesProvider(listing(tmp_path, '[symbols."EURUSD=X"]\nfiles = { "15m" = "x.parquet" }'))
    assert len(ask(provider, "EURUSD=X", Timeframe.M15)) == 10


@pytest.mark.parametrize(
    ("column", "row", "value", "fault"),
    [
        ("close", 2, np.nan, "price is NaN or infinite at 2025-07-28T00:30:00.000Z"),
        ("low", 1, -1.0, "price is zero or negative at 2025-07-28T00:15:00.000Z"),
        ("high", 3, 1.0, "high below low at 2025-07-28T00:45:00.000Z"),
        ("volume", 3, -1.0, "volume is NaN, infinite or negative"),
        ("timestamp", 1, np.datetime64(START, "ms"), "duplicate open time at 2025-07-28T00:00:00.000Z"),
        ("timestamp", 2, np.datetime64(START, "ms"), "open time out of order at 2025-07-28T00:00:00.000Z"),
        (
            "timestamp",
            1,
            np.datetime64(START + 60_000, "ms"),
            "bar opens off the grid of 15m bars at 2025-07-28T00:01:00Z",
        ),
    ],
)
def test_faulty_bars_are_refused_naming_file_and_fault(
    tmp_path: Path, column: str, row: int, value: float, fault: str
) -> None:
    columns = bars(Timeframe.M15, 10)
    columns[column][row] = value
    with pytest.raises(BadCandles, match=rf"x\.parquet: BTC-USD 15m: {fault}"):
        ask(only_btc(tmp_path, columns), "BTC-USD", Timeframe.M15)


def test_empty_file_is_a_fault_not_an_empty_answer(tmp_path: Path) -> None:
    with pytest.raises(BadCandles, match=r"x\.parquet: BTC-USD 15m: no bars"):
        ask(only_btc(tmp_path, bars(Timeframe.M15, 0)), "BTC-USD", Timeframe.M15)


def test_columns_of_a_wrong_type_are_named(tmp_path: Path) -> None:
    words = bars(Timeframe.M15, 2) | {"close": np.array(["a", "b"])}
    with pytest.raises(BadCandles, match=r"x\.parquet: column close is string, not numbers"):
        ask(only_btc(tmp_path, words), "BTC-USD", Timeframe.M15)
    dates = bars(Timeframe.M15, 2) | {"timestamp": np.array(["a", "b"])}
    with pytest.raises(BadCandles, match=r"x\.parquet: column timestamp is string, not a timestamp"):
        ask(only_btc(tmp_path, dates), "BTC-USD", Timeframe.M15)


def test_holes_in_the_time_column_are_counted(tmp_path: Path) -> None:
    columns = bars(Timeframe.M15, 3)
    columns["timestamp"][1] = np.datetime64("NaT", "ns")
    with pytest.raises(BadCandles, match=r"x\.parquet: column timestamp has 1 empty rows"):
        ask(only_btc(tmp_path, columns), "BTC-USD", Timeframe.M15)


@pytest.mark.parametrize("kind", ["ns", "us", "s", "zone", "integers", "float32"])
def test_times_and_prices_of_any_width_are_understood(tmp_path: Path, kind: str) -> None:
    columns: dict[str, object] = dict(bars(Timeframe.M15, 4))
    time = bars(Timeframe.M15, 4)["timestamp"]
    if kind == "integers":
        columns["timestamp"] = time.astype(np.int64)
    elif kind == "float32":
        columns["close"] = bars(Timeframe.M15, 4)["close"].astype(np.float32)
    elif kind == "zone":
        columns["timestamp"] = pa.array(time.astype(np.int64), pa.timestamp("ms", "UTC"))
    else:
        columns["timestamp"] = time.astype(f"datetime64[{kind}]")
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    provider = FilesProvider(listing(tmp_path, '[symbols."BTC-USD"]\nfiles = { "15m" = "x.parquet" }'))
    frame = ask(provider, "BTC-USD", Timeframe.M15)
    assert frame.time.tolist() == time.astype(np.int64).tolist()
    assert frame.close.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[symbols", r"instruments\.toml: "),
        ("symbols = 1", "symbols must be a table"),
        ('[symbols]\n"BTC-USD" = 1', "files must be a table"),
        ('[symbols."BTC-USD"]\nstands_in = "x"', "lists no files"),
        ('[symbols."BTC-USD"]\nfiles = { "2h" = "x" }', "BTC-USD: '2h' is no timeframe"),
        ('[symbols."../x"]\nfiles = { "1h" = "x" }', "'../x' is no symbol"),
        ('[symbols."XXXYYY=X"]\nfiles = { "1h" = "x" }', "XXXYYY=X"),
        ('[symbols."BTC-USD"]\nfiles = { "1h" = "../x.parquet" }', r"'\.\./x\.parquet' leaves the folder"),
        ('[symbols."BTC-USD"]\nfiles = { "1h" = "/etc/passwd" }', "'/etc/passwd' leaves the folder"),
        ('[symbols."BTC-USD"]\nfiles = { "1h" = 5 }', "5 leaves the folder"),
        ('[[tables]]\npath = "x"', "every entry of tables needs path and timeframe"),
        ('[[tables]]\npath = "../x"\ntimeframe = "1d"', "leaves the folder"),
        ("tables = [1]", "every entry of tables needs path and timeframe"),
        ("tables = 1", "tables must be a list"),
    ],
)
def test_instruments_that_cannot_be_followed_are_refused_naming_the_entry(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        FilesProvider(listing(tmp_path, text))
    assert caught.value.field == "MARKET_DATA_DIR"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    write(outside, "x.parquet", bars(Timeframe.M15, 4))
    (inside / "x.parquet").symlink_to(outside / "x.parquet")
    with pytest.raises(InvalidInput, match="leaves the folder"):
        FilesProvider(listing(inside, '[symbols."BTC-USD"]\nfiles = { "15m" = "x.parquet" }'))


def test_a_folder_without_instruments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no readable instruments\.toml in .*: No such file"):
        FilesProvider(tmp_path)


def test_empty_names_in_a_long_table_are_refused(tmp_path: Path) -> None:
    columns: dict[str, object] = dict(bars(Timeframe.D1, 2)) | {"symbol": pa.array(["AAPL", None])}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    provider = FilesProvider(listing(tmp_path, '[[tables]]\npath = "t.parquet"\ntimeframe = "1d"'))
    with pytest.raises(BadCandles, match=r"t\.parquet: column symbol has empty rows"):
        ask(provider, "AAPL", Timeframe.D1)
