"""What the votes of a new bundle on its untouched rows would have come to in the journal: won, lost, expired.

The journal's own settlement and its own figures: an entry at the close of each row that the bundle votes on, the target
at 2 ATR, the stop at 1.5 ATR, the horizon's bars in their order. Gains and losses are counted in ATR, in which one
symbol's weigh as another's. A bundle that abstains from every row has no such figures.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.journal.outcomes import HORIZON_BARS
from fusiontrade.journal.settlement import Bar, Direction, levels, settle
from fusiontrade.journal.statistics import Record, statistics_of
from serving.bundle import Bundle, load_bundle
from serving.features import unrest_of
from serving.forecasting import Newest, class_probabilities, lstm_answers
from serving.instants import iso_of
from serving.training.dataset import Pool, Series
from serving.training.job.contest import answers_of

__all__ = ["record_of"]

_PRICES = ("open", "high", "low", "close")
_SHOWN = ("wins", "losses", "expired", "win_rate", "profit_factor")

Rows = NDArray[np.intp]


def record_of(folder: Path, pool: Pool, rows: Rows) -> dict[str, Any]:
    """Return the record of the bundle in ``folder`` on ``rows`` (n,) of the pool, ready for JSON.

    Returns
    -------
    dict
        ``source`` (``held_out``), ``wins``, ``losses``, ``expired``, ``win_rate`` and ``profit_factor`` (None where
        nothing was voted on), ``from`` and ``to``.
    """
    bundle = load_bundle(folder)
    votes = _votes(bundle, pool, rows)
    voted = np.flatnonzero(votes)
    place = pool.series_of(rows)
    records = [
        _settled(pool.series[place[each]], int(rows[each] - pool.starts[place[each]]), int(votes[each]), str(each))
        for each in voted
    ]
    told = statistics_of(records)
    entry = pool.entry[rows]
    span = {"from": iso_of(int(entry.min())), "to": iso_of(int(entry.max()))}
    return {"source": "held_out", **{name: told[name] for name in _SHOWN}, **span}


def _votes(bundle: Bundle, pool: Pool, rows: Rows) -> NDArray[np.int64]:
    """Return (n,) 1 for up, -1 for down, 0 where the bundle abstains."""
    outputs = answers_of(bundle, pool, rows)
    if bundle.card.is_sequence:
        newest = Newest(
            close=pool.column(lambda one: one.frame.close)[rows],
            atr=pool.column(lambda one: one.atr)[rows],
            unrest=pool.column(lambda one: unrest_of(one.lstm.features))[rows],
        )
        subjects = [(pool.series[place].symbol, pool.series[place].market) for place in pool.series_of(rows)]
        return lstm_answers(bundle.card, outputs, newest, subjects).vote
    if bundle.card.abstains:
        return np.zeros(len(rows), np.int64)
    said = class_probabilities(bundle.card, outputs)
    likeliest = said.argmax(axis=1)
    alone = (said == said.max(axis=1)[:, None]).sum(axis=1) == 1
    return np.where(alone & (likeliest != 1), 1 - likeliest, 0)


def _settled(series: Series, row: int, vote: int, identity: str) -> Record:
    """Return the journal's record of a vote at the close of ``row``."""
    frame, unit = series.frame, float(series.atr[row])
    direction = Direction.BUY if vote > 0 else Direction.SELL
    entry, expires = float(frame.close[row]), int(frame.close_time[row + HORIZON_BARS])
    target, stop = levels(direction, entry, unit)
    bars = [
        Bar(
            int(frame.time[each]), int(frame.close_time[each]), *(float(getattr(frame, name)[each]) for name in _PRICES)
        )
        for each in range(row + 1, row + 1 + HORIZON_BARS)
    ]
    came = settle(direction, entry, target, stop, bars, expires_at=expires, closed_by=expires)
    gained = vote * ((came.price or entry) - entry) / unit
    return Record(
        id=identity,
        opened_at=int(frame.close_time[row]),
        symbol=series.symbol,
        interval=str(frame.timeframe),
        status=came.status,
        outcome_at=came.at,
        pips=Decimal(repr(round(gained, 6))),
    )
