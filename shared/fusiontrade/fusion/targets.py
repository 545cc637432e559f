"""Where to take profit and where to stop, in ATR(14) from the entry.

Always true here: no input, no output, no clock. Prices are null where there is no direction; the ATR and the
timeframe it comes from are given whenever any timeframe has one. Distances are fixed (stop 1.5 ATR against the
trade, targets 2, 3 and 4 ATR with it); the stop and the first target are settlement's own, on which ``p_win`` was
trained.

The ATR is that of the longest timeframe which votes for the fused direction; without a direction, that of the
longest timeframe which answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusiontrade.fusion.agreement import WEIGHTS, Fusion
from fusiontrade.journal.settlement import STOP_ATR, TARGET_ATR
from fusiontrade.market.timeframes import Timeframe

__all__ = ["TARGET_DISTANCES", "Outlook", "Targets", "targets_of"]

TARGET_DISTANCES: tuple[float, float, float] = (TARGET_ATR, 3.0, 4.0)


@dataclass(frozen=True)
class Outlook:
    """What targets need to know about one timeframe.

    Parameters
    ----------
    atr
        ATR(14) at its newest bar, in price units; positive.
    win_long, win_short
        Calibrated probability that the first target is touched before the stop before expiry; None where the LSTM
        is missing.
    horizon_bars
        Bars until expiry; None where the LSTM is missing.
    """

    atr: float
    win_long: float | None = None
    win_short: float | None = None
    horizon_bars: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.atr < math.inf:
            raise ValueError(f"atr is {self.atr}: targets need a positive one")


@dataclass(frozen=True)
class Targets:
    """Prices in the quote currency; all but ``timeframe``, ``atr`` and ``horizon_bars`` are None without direction."""

    timeframe: Timeframe | None = None
    entry: float | None = None
    tp1: float | None = None
    tp2: float | None = None
    tp3: float | None = None
    sl: float | None = None
    atr: float | None = None
    p_win: float | None = None
    horizon_bars: int | None = None


def targets_of(fusion: Fusion, outlooks: Mapping[Timeframe, Outlook], entry: float) -> Targets:
    """Return the targets of a fused answer.

    Parameters
    ----------
    fusion
        The votes and the verdict.
    outlooks
        ATR and win probabilities of each timeframe that answered.
    entry
        Close of the newest finished bar, in the quote currency.
    """
    direction = fusion.verdict.direction
    candidates: Sequence[Timeframe] = [vote.timeframe for vote in fusion.votes if vote.blended == direction]
    timeframe = _longest(outlooks, candidates if direction else tuple(WEIGHTS))
    if timeframe is None:
        return Targets()
    outlook = outlooks[timeframe]
    if not direction:
        return Targets(timeframe=timeframe, atr=outlook.atr, horizon_bars=outlook.horizon_bars)
    first, second, third = (entry + direction * distance * outlook.atr for distance in TARGET_DISTANCES)
    return Targets(
        timeframe=timeframe,
        entry=entry,
        tp1=first,
        tp2=second,
        tp3=third,
        sl=entry - direction * STOP_ATR * outlook.atr,
        atr=outlook.atr,
        p_win=outlook.win_long if direction > 0 else outlook.win_short,
        horizon_bars=outlook.horizon_bars,
    )


def _longest(outlooks: Mapping[Timeframe, Outlook], candidates: Sequence[Timeframe]) -> Timeframe | None:
    known = [timeframe for timeframe in candidates if timeframe in outlooks]
    return max(known, key=lambda timeframe: timeframe.milliseconds, default=None)
