"""The candles a study reads, held against what its bundles were trained on.

Always true: the judged rows are those that training left untouched, cut by the card's own instants with training's
own labels, purge and rollover rule; a series whose bars are not the bundle's is marked and kept out of pooled figures,
unless no series is the bundle's, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import InvalidInput
from fusiontrade.journal.outcomes import HORIZON_BARS
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.card import ModelCard
from serving.card import Series as CardSeries
from serving.evaluation.held_out import HeldOut
from serving.features import BARS_NEEDED
from serving.instants import iso_of
from serving.training.candles import read_candles
from serving.training.dataset import Pool, fingerprint, pool_of
from serving.training.prepared import Prepared

__all__ = ["REFERENCE_FIVE", "Candles", "SeriesState", "judged_part", "read"]

REFERENCE_FIVE = ("BTC-USD", "EURUSD=X", "GC=F", "SOL-USD", "USDJPY=X")
"""The series that the targets were measured on with simple models."""


@dataclass(frozen=True, slots=True)
class SeriesState:
    """One series of the bundles' universe; ``status`` is ``same``, ``differs`` or ``missing``, instants are ms UTC."""

    symbol: str
    status: str
    rows: int = 0
    first: int | None = None
    last: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, eq=False)
class Candles:
    """The pool of one timeframe, and how its series stand to those of the bundles."""

    pool: Pool
    states: tuple[SeriesState, ...]

    @property
    def all_differ(self) -> bool:
        """Whether no series is the bundles'."""
        return not any(state.status == "same" for state in self.states)

    @property
    def counted(self) -> tuple[str, ...]:
        """Symbols of the series that pooled figures are made of."""
        return tuple(s.symbol for s in self.states if s.status == "same" or (self.all_differ and s.status == "differs"))

    def places(self, symbols: Sequence[str]) -> NDArray[np.intp]:
        """Return the numbers of those series of the pool that are among ``symbols``."""
        return np.asarray([n for n, one in enumerate(self.pool.series) if one.symbol in symbols], np.intp)


def read(folder: Path, timeframe: Timeframe, cards: Sequence[ModelCard], until: int | None = None) -> Candles:
    """Return the candles of the bundles' universe, bars closed after ``until`` (ms UTC) never used.

    Raises
    ------
    fusiontrade.errors.InvalidInput, fusiontrade.errors.BadCandles
        If the folder cannot be read, or answers none of the bundles' symbols at this timeframe.
    """
    universe = tuple(sorted({symbol for card in cards for symbol in card.universe}))
    known = [{series.symbol: series for series in card.data.series} for card in cards]
    frames, states = [], {symbol: SeriesState(symbol, "missing") for symbol in universe}
    for frame, rollover in read_candles(folder, timeframe, universe):
        states[frame.symbol] = _state(frame, [series[frame.symbol] for series in known if frame.symbol in series])
        kept = frame if until is None else frame.finished_by(until)
        if len(kept) > BARS_NEEDED + HORIZON_BARS:
            frames.append((kept, rollover))
    if not frames:
        raise InvalidInput(
            "data",
            f"{folder.name} has too few {timeframe} bars of {', '.join(universe)}: give the folder the bundles were "
            "trained on, or train bundles on yours (make train)",
        )
    return Candles(pool_of(timeframe, frames), tuple(states.values()))


def judged_part(candles: Candles, prepared: Prepared, held: HeldOut) -> dict[str, Any]:
    """Return, for JSON, which bars were read and which rows of them are judged."""
    names = [one.symbol for one in candles.pool.series]
    counts = dict(zip(names, np.bincount(held.place, minlength=len(names)).tolist(), strict=True))
    series = [
        {
            "symbol": state.symbol,
            "status": state.status,
            "rows": state.rows,
            "first": None if state.first is None else iso_of(state.first),
            "last": None if state.last is None else iso_of(state.last),
            "sha256": state.sha256,
            "judged_rows": counts.get(state.symbol, 0),
        }
        for state in candles.states
    ]
    rows = np.isin(held.place, candles.places(candles.counted))
    entry = held.entry[rows] if rows.any() else held.entry
    return {
        "data": {"series": series, "same": all(state.status == "same" for state in candles.states)},
        "judged": {
            "rows": int(rows.sum()),
            "series": [names[place] for place in np.unique(held.place[rows])],
            "from": iso_of(int(entry.min())),
            "to": iso_of(int(entry.max())),
            "cuts": [iso_of(cut) for cut in prepared.slices.cuts],
            "rollover_hours_left_out": [one.symbol for one in candles.pool.series if one.rollover],
        },
    }


def _state(frame: CandleFrame, known: Sequence[CardSeries]) -> SeriesState:
    found = fingerprint(frame)
    same = bool(known) and all(series.sha256 == found for series in known)
    times = int(frame.time[0]), int(frame.time[-1])
    return SeriesState(frame.symbol, "same" if same else "differs", len(frame), *times, found)
