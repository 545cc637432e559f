"""The rows of a swing study: what the models take of a stock on a day, what came, and its rank among the others.

Always true: a row's inputs end with its day, its returns begin at the next open; rows of one day and universe are
ranked against each other; slices are cut at instants common to all stocks, and before each cut the last
`PURGE_SESSIONS` sessions are left out, so that no label looks into the next slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata  # type: ignore[import-untyped]

from serving.features.bars import WINDOW
from serving.features.swing import CROSS_SECTION_NAMES, Market, context, cross_section, price_windows
from serving.instants import instant_of
from serving.swing import Encoding
from serving.training.swing.config import PURGE_SESSIONS, SwingConfig
from serving.training.swing.daily import DailySeries, returns_ahead
from serving.training.swing.embedding import embedded

__all__ = ["SwingBatches", "SwingSlices", "SwingTable", "scores_of", "split", "table_of"]

Rows = NDArray[np.intp]
Array = NDArray[np.float32]
_YEAR_MS = 31_556_952_000


@dataclass(frozen=True, eq=False)
class SwingTable:
    """k rows, universe after universe, day after day.

    Parameters
    ----------
    day
        (k,) instant at which the row's bar closes, ms UTC.
    universe, stock
        (k,) places in ``universes`` and ``stocks``.
    session
        (k,) number of the day among all days of its universe.
    prices, embedding, context
        (k, 120, 5), (k, 512), (k, 29) float32 inputs.
    ranks
        (k, C) float32 `CROSS_SECTION_NAMES`, 0 where the row is not ranked.
    ranked
        (k,) bool: whether the stock is ranked among the others of the day and universe.
    returns
        (k, 3) what came, as fractions.
    score
        (k, 3) float32 normal scores of ``returns`` among the rows of the day and universe.
    """

    universes: tuple[str, ...]
    stocks: tuple[str, ...]
    day: NDArray[np.int64]
    universe: NDArray[np.intp]
    stock: NDArray[np.intp]
    session: NDArray[np.intp]
    prices: Array
    embedding: Array
    context: Array
    ranks: Array
    ranked: NDArray[np.bool_]
    returns: NDArray[np.float64]
    score: Array

    def groups(self, rows: Rows) -> NDArray[np.intp]:
        """Return (len(rows),) a number for each day and universe, rising."""
        keys = self.universe[rows] * (int(self.session.max(initial=0)) + 1) + self.session[rows]
        return np.asarray(np.unique(keys, return_inverse=True)[1], np.intp)


@dataclass(frozen=True, eq=False)
class SwingSlices:
    """Row numbers of each slice, and the four instants between them, ms UTC."""

    train: Rows
    validation: Rows
    stack: Rows
    calibration: Rows
    test: Rows
    cuts: tuple[int, ...]


class SwingBatches:
    """Rows of a table as the models' inputs and targets."""

    def __init__(self, table: SwingTable) -> None:
        self._table = table

    def inputs(self, rows: Rows) -> tuple[Array, ...]:
        """Return (k, 120, 5) prices, (k, 512) embeddings and (k, 29) contexts."""
        return self._table.prices[rows], self._table.embedding[rows], self._table.context[rows]

    def targets(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Return (k, 3) scores."""
        return {"score": self._table.score[rows]}


def table_of(
    series: Sequence[DailySeries],
    config: SwingConfig,
    encoder: Encoding | None = None,
    told: Callable[[str], None] = lambda _: None,
    *,
    unknown: bool = False,
    kept: Path | None = None,
) -> SwingTable:
    """Return the rows of all stocks on every k-th session, as ``config`` says, before and in the untouched slice.

    Parameters
    ----------
    unknown
        Keep rows whose returns are not all known, too; they have no scores.
    kept
        Folder of embeddings that earlier runs made; None: nothing is kept.

    Raises
    ------
    ValueError
        If no day has enough stocks.
    """
    universes = tuple(sorted({one.universe for one in series}))
    cuts = _cuts(series, config)
    parts: list[tuple[Any, ...]] = []
    for stock, one in enumerate(series):
        place = universes.index(one.universe)
        calendar = _calendar([other for other in series if other.universe == one.universe])
        session = np.searchsorted(calendar, one.frame.close_time)
        held = np.where(one.frame.close_time >= cuts[-1], config.judged_stride, config.held_stride)
        stride = np.where(one.frame.close_time < cuts[0], config.stride, held)
        returns = returns_ahead(one)
        chosen = (session % stride == 0) & (unknown | np.isfinite(returns).all(axis=1))
        chosen[: WINDOW - 1] = False
        rows = np.flatnonzero(chosen).astype(np.intp)
        if not len(rows):
            continue
        contexts = context(one.frame)[rows]
        sound = np.isfinite(contexts).all(axis=1)
        rows, contexts = rows[sound], contexts[sound]
        count = len(rows)
        numbers = (np.full(count, place, np.intp), np.full(count, stock, np.intp), session[rows].astype(np.intp))
        inputs = (price_windows(one.frame, rows), embedded(one.frame, rows, encoder, kept), contexts)
        parts.append((one.frame.close_time[rows], *numbers, *inputs, returns[rows]))
        told(f"{one.symbol}: {count} rows")
    if not parts:
        raise ValueError(f"no stock has more than {WINDOW} daily bars and what came after them")
    return _ordered(universes, series, [np.concatenate(part) for part in zip(*parts, strict=True)], config)


def _ordered(
    universes: tuple[str, ...], series: Sequence[DailySeries], columns: list[NDArray[Any]], config: SwingConfig
) -> SwingTable:
    """Return the table of unsorted columns, without days that have too few stocks."""
    day, universe, stock, session, prices, embedding, contexts, returns = columns
    order = np.lexsort((stock, session, universe))
    keys = universe[order] * (int(session.max()) + 1) + session[order]
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = order[counts[group] >= config.fewest]
    if not len(order):
        raise ValueError(f"no day has {config.fewest} stocks to rank: lower fewest, or give more")
    keys = universe[order] * (int(session.max()) + 1) + session[order]
    places = universe[order], stock[order], session[order]
    ranks, ranked = _ranks(universes, series, places, config.ranker.fewest)
    return SwingTable(
        universes=universes,
        stocks=tuple(one.symbol for one in series),
        day=day[order],
        universe=universe[order],
        stock=stock[order],
        session=session[order],
        prices=prices[order],
        embedding=embedding[order],
        context=contexts[order],
        ranks=ranks,
        ranked=ranked,
        returns=returns[order],
        score=scores_of(returns[order], np.unique(keys, return_inverse=True)[1].astype(np.intp)),
    )


def _ranks(
    universes: tuple[str, ...],
    series: Sequence[DailySeries],
    places: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
    fewest: int,
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the cross-section's columns of sorted rows, and which rows have them.

    Parameters
    ----------
    places
        (k,) numbers of universe, stock and session each.
    """
    universe, stock, session = places
    found = np.zeros((len(stock), len(CROSS_SECTION_NAMES)), np.float32)
    known = np.zeros(len(stock), np.bool_)
    for place, name in enumerate(universes):
        members = [number for number, one in enumerate(series) if one.universe == name]
        market = Market.of([series[number].frame for number in members])
        own = np.flatnonzero(universe == place)
        for rows in np.split(own, np.flatnonzero(np.diff(session[own])) + 1):
            if len(rows):
                stocks, columns = cross_section(market, int(session[rows[0]]), fewest=fewest)
                at = {members[number]: row for row, number in enumerate(stocks.tolist())}
                known[rows] = [number in at for number in stock[rows].tolist()]
                found[rows[known[rows]]] = columns[[at[number] for number in stock[rows[known[rows]]].tolist()]]
    return found, known


def scores_of(returns: NDArray[np.float64], group: NDArray[np.intp]) -> Array:
    """Return (k, h) float32 normal scores of (k, h) returns within each group (k,), numbered from 0 and rising."""
    found = np.empty(returns.shape, np.float32)
    starts = np.searchsorted(group, np.arange(group.max(initial=-1) + 2))
    for first, last in pairwise(starts):
        ranks = rankdata(returns[first:last], axis=0)
        found[first:last] = norm.ppf((ranks - 0.5) / (last - first))
    return found


def judged_from(series: Sequence[DailySeries], config: SwingConfig) -> int:
    """Return the instant at which the untouched slice begins, ms UTC."""
    if config.judged_from:
        return instant_of(config.judged_from, "judged_from")
    return max(int(one.frame.close_time[-1]) for one in series) - 2 * _YEAR_MS


def split(table: SwingTable, series: Sequence[DailySeries], config: SwingConfig) -> SwingSlices:
    """Return the slices of a table, purged by sessions before each cut; raises ValueError where one would be empty."""
    cuts = _cuts(series, config)
    edges = (-(2**62), *cuts, 2**62)
    parts: list[list[Rows]] = [[] for _ in edges[1:]]
    for place, name in enumerate(table.universes):
        calendar = _calendar([one for one in series if one.universe == name])
        own = np.flatnonzero(table.universe == place)
        for part, (begin, end) in zip(parts, pairwise(edges), strict=True):
            last = np.searchsorted(calendar, end) - (PURGE_SESSIONS if end != edges[-1] else 0)
            chosen = (table.day[own] >= begin) & (table.session[own] < last)
            part.append(own[chosen].astype(np.intp))
    found = [np.concatenate(part) for part in parts]
    for name, rows in zip(("train", "validation", "stack", "calibration", "test"), found, strict=True):
        if not len(rows):
            raise ValueError(f"no rows for the {name} slice: give more history")
    train, validation, stack, calibration, test = found
    return SwingSlices(train, validation, stack, calibration, test, cuts)


def _cuts(series: Sequence[DailySeries], config: SwingConfig) -> tuple[int, ...]:
    """Return the four instants between the slices, shares counted over the sessions on which a stock is warm."""
    judged = judged_from(series, config)
    warm = [one.frame.close_time[WINDOW - 1 :] for one in series if len(one.frame) >= WINDOW]
    days = np.unique(np.concatenate(warm)) if warm else np.empty(0, np.int64)
    days = days[days < judged]
    if not len(days):
        raise ValueError(f"no stock has {WINDOW} daily bars before the untouched slice, which begins at {judged}")
    shares = np.cumsum([config.train, config.validation, config.stack])
    return (*(int(days[int(share * len(days))]) for share in shares), judged)


def _calendar(series: Sequence[DailySeries]) -> NDArray[np.int64]:
    """Return the closes of all sessions of a universe, rising."""
    return np.unique(np.concatenate([one.frame.close_time for one in series]))
