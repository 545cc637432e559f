"""Model inputs of the newest bar: what serving computes, of many frames at once and no row more than it needs.

Always the same numbers as `serving.features.inputs` cuts out of a whole history, to the last digits: the same functions
compute them. At the few hundred bars of a frame the time goes into calling numpy, not into what it does, so sixteen
frames together take little longer than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.activity import newest_volatility
from serving.features.bars import WINDOW, Bars
from serving.features.calendar import newest_calendar
from serving.features.columns import model_inputs, needs
from serving.features.inputs import (
    BARS_NEEDED,
    LSTM_LENGTH,
    PATCHTST_LENGTH,
    CandleWindows,
    Inputs,
    LstmWindows,
    Rows,
    candle_window,
)
from serving.features.rolling import mean_of
from serving.features.season import Slots, Week, newest_slots, with_own_times_of_day
from serving.markets import row_of

__all__ = ["NewestInputs", "lstm_inputs", "patchtst_inputs"]


class NewestInputs:
    """What the models see at the newest bar of each of several frames; nothing is computed before it is asked for.

    Parameters
    ----------
    frames
        Checked, finished bars, oldest first; of one length, 600 or more (659 for `lstm`), all with a volume or all
        without. Symbols and timeframes may differ.

    Raises
    ------
    BadCandles
        If a frame has fewer than 600 bars.
    ValueError
        If there is no frame, lengths differ, or only some have a volume.
    """

    def __init__(self, frames: Sequence[CandleFrame]) -> None:
        for frame in frames:
            needs(frame, WINDOW)
        if len({(len(frame), frame.volume is None) for frame in frames}) != 1:
            raise ValueError("frames must be of one length, and all with a volume or all without")
        self._frames = [frame.tail(BARS_NEEDED) for frame in frames]

    @cached_property
    def _bars(self) -> Bars:
        return Bars.of_many(self._frames, len(self._frames[0]) - WINDOW + 1)

    @cached_property
    def _calendar(self) -> Inputs:
        """(frames, 60, C)."""
        newest = ((frame.time[-LSTM_LENGTH:], frame.timeframe) for frame in self._frames)
        return np.array([newest_calendar(_bytes(time), timeframe) for time, timeframe in newest])

    @cached_property
    def _slots(self) -> list[Slots]:
        """Of each frame: those of the newest 599 bars."""
        return [newest_slots(_bytes(frame.time[1 - WINDOW :]), frame.timeframe) for frame in self._frames]

    @property
    def close(self) -> Floats:
        """(frames,): the newest close."""
        return self._bars.closes[:, -1]

    @property
    def atr(self) -> Floats:
        """(frames,): ATR(14) of the newest bar in prices, at least 1e-7 of the close."""
        return self._bars.unit[:, -1]

    def lstm(self) -> tuple[Inputs, Inputs]:
        """Return (frames, 60, 50) indicators and (frames, 60, C) calendar; `BadCandles` below 659 bars."""
        for frame in self._frames:
            needs(frame, BARS_NEEDED)
        return self._indicators, self._calendar

    def patchtst(self) -> tuple[Inputs, Inputs]:
        """Return (frames, 120, 5) candles and (frames, C) calendar."""
        return self._candles, self._calendar[:, -1]

    @cached_property
    def _indicators(self) -> Inputs:
        return model_inputs(self._bars)

    @cached_property
    def _candles(self) -> Inputs:
        bars = self._bars
        columns = (bars.opens, bars.highs, bars.lows, bars.closes)
        prices = np.log(np.stack([column[:, -PATCHTST_LENGTH:] for column in columns], axis=-1))
        if bars.volumes is None:
            traded, usual = np.zeros(prices.shape[:2]), np.zeros(len(prices))
        else:
            with np.errstate(over="ignore"):  # volumes of 1e306 are no volumes
                traded, usual = bars.volumes[:, -PATCHTST_LENGTH:], mean_of(bars.volumes, WINDOW, rows=1)[:, 0]
        return candle_window(prices, traded, self.atr / self.close, usual)

    def usual_week(
        self, season: Mapping[str, Sequence[float] | Floats | Week], market: str | None, place: int = 0
    ) -> Week:
        """Return what `serving.features.usual_week` does of the frame at ``place``."""
        frame = self._frames[place]
        usual = Week.of(row_of(season, frame.symbol, market))
        if frame.symbol in season:
            return usual
        sizes = self._bars.true_ranges[place, 1 - WINDOW :] / self._bars.closes[place, 1 - WINDOW :]
        return with_own_times_of_day(usual, sizes, self._slots[place])

    def volatility(self, usual: Sequence[Floats | Week]) -> Inputs:
        """Return (frames, 28) season-adjusted volatility, given each frame's usual activity (slots of its week,)."""
        weeks = [Week.of(week) for week in usual]
        return newest_volatility(self._bars, self._slots, weeks, rows=1)[:, -1]


def lstm_inputs(frame: CandleFrame, rows: Rows | None = None) -> tuple[Inputs, Inputs]:
    """Return what an LSTM bundle sees, before its scaler.

    Parameters
    ----------
    frame
        Checked, finished bars, oldest first; 659 or more.
    rows
        k rows of the frame at which the windows end, none before row 658; default: the last row alone.

    Returns
    -------
    (k, 60, 50) float32 indicators and (k, 60, C) float32 calendar.

    Raises
    ------
    BadCandles
        If the frame is too short.
    """
    return NewestInputs([frame]).lstm() if rows is None else LstmWindows.of(frame).gather(rows)


def patchtst_inputs(frame: CandleFrame, rows: Rows | None = None) -> tuple[Inputs, Inputs]:
    """Return what a PatchTST bundle sees: (k, 120, 5) float32 candles and (k, C) float32 calendar.

    Parameters and errors as for `lstm_inputs`; 600 bars are enough. Channels are `CANDLE_CHANNELS`.
    """
    return NewestInputs([frame]).patchtst() if rows is None else CandleWindows.of(frame).gather(rows)


def _bytes(time: NDArray[np.int64]) -> bytes:
    return np.asarray(time, np.int64).tobytes()
