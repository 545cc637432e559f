"""Where training reads its candles: a user's folder of Parquet bars, through the product's own provider.

4h bars are put together from 1h on our grids, and broker tick counts are masked, exactly as serving sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fusiontrade.journal.outcomes import HORIZON_BARS
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.providers.files import FilesProvider
from fusiontrade.market.rollover import rolls_over
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from serving.features import BARS_NEEDED

__all__ = ["read_candles"]


def read_candles(folder: Path, timeframe: Timeframe, symbols: tuple[str, ...] = ()) -> list[tuple[CandleFrame, bool]]:
    """Return each series of the folder with enough bars, and whether its rollover hours are left out.

    Parameters
    ----------
    folder
        Holds ``instruments.toml`` and the Parquet files it names.
    timeframe
        Series that the folder cannot answer at this timeframe are passed over.
    symbols
        Codes to keep; empty: every symbol of the folder.

    Raises
    ------
    fusiontrade.errors.InvalidInput, fusiontrade.errors.BadCandles
        If the folder's table is wrong or bars break their own rules.
    """
    return list(_series(FilesProvider(folder), timeframe, symbols))


def _series(
    provider: FilesProvider, timeframe: Timeframe, symbols: tuple[str, ...]
) -> Iterator[tuple[CandleFrame, bool]]:
    for code in provider.symbols():
        symbol = parse_symbol(code)
        if (symbols and code not in symbols) or timeframe not in provider.timeframes(symbol):
            continue
        frame = provider.history(symbol, timeframe)
        if len(frame) > BARS_NEEDED + HORIZON_BARS:
            yield frame, rolls_over(symbol)
