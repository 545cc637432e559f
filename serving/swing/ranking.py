"""The third member: what a stock's place among the others of its run says of its next sessions.

Always true: stocks are ranked with those of their universe whose newest bar is of the same session, whatever their
order; a stock of too small a group, or with two histories, has no score, and what the networks say of it stands
alone. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame
from serving.features.bars import WINDOW
from serving.features.swing import Market, cross_section
from serving.swing.card import HORIZONS, Ranked, SwingCard

__all__ = ["Ranking", "rank_scores", "scored"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """What the ranker says of n windows, and how it goes into the ensemble; (n, 3) each.

    Parameters
    ----------
    returns
        As fractions over 3, 5 and 10 sessions; NaN where a window was not ranked.
    networks, share
        What the returns of both networks together and the ranker's are multiplied by; 1 and 0 where it was not.
    """

    returns: Floats
    networks: Floats
    share: Floats

    @classmethod
    def of(cls, scores: Floats, ranked: Sequence[Ranked | None]) -> Ranking:
        """Return the ranking of (n,) scores, NaN where there is none, by what each is worth."""
        count = len(scores)
        found = cls(
            np.full((count, len(HORIZONS)), np.nan), np.ones((count, len(HORIZONS))), np.zeros((count, len(HORIZONS)))
        )
        for row, (score, worth) in enumerate(zip(scores.tolist(), ranked, strict=True)):
            if worth is not None and np.isfinite(score):
                found.returns[row] = np.asarray(worth.slope) * score
                found.networks[row], found.share[row] = worth.networks, worth.share
        return found

    @classmethod
    def none(cls, count: int) -> Ranking:
        """Return that of ``count`` windows that were not ranked."""
        return cls.of(np.full(count, np.nan), [None] * count)

    def joined(self, networks: Floats) -> Floats:
        """Return (n, 3) the ensemble of both networks' (n, 3) returns and the ranker's."""
        return np.asarray(self.networks * networks + self.share * np.nan_to_num(self.returns), np.float64)


def scored(columns: NDArray[np.float32], weights: Sequence[float]) -> Floats:
    """Return (k,) scores of (k, C) columns."""
    return np.asarray(columns.astype(np.float64) @ np.asarray(weights, np.float64), np.float64)


def rank_scores(card: SwingCard, frames: Mapping[str, CandleFrame]) -> dict[str, float]:
    """Return the scores of the stocks that can be ranked at their newest bars.

    Parameters
    ----------
    frames
        Checked, finished daily bars of the whole run, by whatever they are called in the answer. A symbol that stands
        here twice is ranked once; where the newest bars of both differ, not at all.
    """
    if card.ranker is None:
        return {}
    groups: dict[tuple[str, int], dict[str, str]] = {}
    doubtful: set[tuple[str, int]] = set()
    for key, frame in frames.items():
        name = card.universe(frame.symbol)
        if name in card.ranker.universes and len(frame) >= WINDOW:
            close = int(frame.close_time[-1])
            first = groups.setdefault((name, close), {}).setdefault(frame.symbol, key)
            if first != key and not _same(frames[first], frame):
                doubtful.add((frame.symbol, close))
    found: dict[tuple[str, int], dict[str, float]] = {}
    for (name, close), keys in groups.items():
        symbols = sorted(symbol for symbol in keys if (symbol, close) not in doubtful)
        newest = [frames[keys[symbol]].tail(WINDOW) for symbol in symbols]
        if not newest or len(np.unique(np.concatenate([one.close_time for one in newest]))) > 2 * WINDOW:
            continue  # no common calendar
        market = Market.of(newest)
        stocks, columns = cross_section(market, len(market.closes) - 1, fewest=card.ranker.fewest)
        scores = scored(columns, card.ranker.universes[name].weights).tolist()
        found[name, close] = {symbols[place]: score for place, score in zip(stocks.tolist(), scores, strict=True)}
    told = {}
    for key, frame in frames.items():
        group = found.get((card.universe(frame.symbol), int(frame.close_time[-1]) if len(frame) else 0), {})
        if frame.symbol in group and len(frame) >= WINDOW:
            told[key] = group[frame.symbol]
    return told


def _same(one: CandleFrame, other: CandleFrame) -> bool:
    """Tell whether the bars that would be ranked are the same."""
    if (one.volume is None) != (other.volume is None):
        return False
    return all(np.array_equal(mine, its) for mine, its in zip(_newest(one), _newest(other), strict=True))


def _newest(frame: CandleFrame) -> list[NDArray[np.float64] | NDArray[np.int64]]:
    columns = (frame.time, frame.open, frame.high, frame.low, frame.close, frame.volume)
    return [column[-WINDOW:] for column in columns if column is not None]
