"""The third member fitted: ridge regression of scores on what a stock is among the others, on every session.

Always true: weights that say what a slice is worth were fitted before it; a target ends before the instant it is fitted
up to, `PURGE_SESSIONS` earlier at least. A universe's weights are pulled towards those of all universes, these to 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.features.swing import CROSS_SECTION_NAMES, CROSS_SECTION_VERSION, Market, cross_section
from serving.models.swing import HORIZONS
from serving.swing.card import ANY, Ranked, Ranker
from serving.swing.ranking import Ranking, scored
from serving.training.swing.config import PURGE_SESSIONS, RankerConfig
from serving.training.swing.daily import DailySeries, returns_ahead
from serving.training.swing.table import SwingTable, scores_of
from serving.training.swing.worth import within

__all__ = ["RankRows", "fitted", "fitted_on", "rank_rows", "ranker_of", "ranking_of", "worth_of"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Weights = Mapping[str, tuple[float, ...]]
_TARGETS = (0, 1)  # of `HORIZONS`: their ranks are the least noisy
_SPREAD = np.sqrt(12.0)  # ranks within ±0.5 times this have a variance of 1
_LEAST = 1e-6
_DIGITS = 9


@dataclass(frozen=True, eq=False)
class RankRows:
    """k ranked stocks of all sessions of a universe.

    Parameters
    ----------
    closes
        (T,) instants of its sessions, ms UTC.
    session
        (k,) rows of ``closes``, rising.
    stock
        (k,) places among the universe's series.
    columns
        (k, C) `CROSS_SECTION_NAMES`.
    target
        (k,) mean normal score of what came over 3 and 5 sessions.
    """

    closes: NDArray[np.int64]
    session: Rows
    stock: Rows
    columns: NDArray[np.float32]
    target: Floats


def rank_rows(
    series: Sequence[DailySeries], config: RankerConfig, until: int, days: NDArray[np.int64] | None = None
) -> dict[str, RankRows]:
    """Return by universe the ranked stocks whose bar closes before ``until`` (ms UTC) and whose returns are known.

    A universe of which too few stocks are old enough is left out.

    Parameters
    ----------
    days
        Closes of the sessions to rank, ms UTC; None: all.
    """
    found = {}
    for name in sorted({one.universe for one in series}):
        own = [one for one in series if one.universe == name]
        market = Market.of([one.frame for one in own])
        ahead = np.full((*market.close.shape, len(HORIZONS)), np.nan)
        for place, one in enumerate(own):
            ahead[np.searchsorted(market.closes, one.frame.close_time), place] = returns_ahead(one)
        parts = []
        asked = market.closes < until if days is None else (market.closes < until) & np.isin(market.closes, days)
        for session in np.flatnonzero(asked).tolist():
            stocks, columns = cross_section(market, session, fewest=config.fewest)
            came = ahead[session, stocks][:, _TARGETS]
            known = np.isfinite(came).all(axis=1)
            if known.sum() >= config.fewest:
                group = np.zeros(int(known.sum()), np.intp)
                target = scores_of(came[known], group).mean(axis=1).astype(np.float64)
                parts.append((np.full(len(group), session, np.intp), stocks[known], columns[known], target))
        if parts:
            found[name] = RankRows(market.closes, *(np.concatenate(part) for part in zip(*parts, strict=True)))
    return found


def fitted(rows: Mapping[str, RankRows], config: RankerConfig, until: int) -> dict[str, tuple[float, ...]]:
    """Return weights by universe, and those of all under `ANY`, of what was known at ``until`` (ms UTC).

    Scores have a deviation of 1 over the rows they were fitted to. Empty where nothing can be fitted.
    """
    last = {name: int(np.searchsorted(one.closes, until)) - PURGE_SESSIONS for name, one in rows.items()}
    return fitted_on(rows, config, {name: one.session < last[name] for name, one in rows.items()})


def fitted_on(
    rows: Mapping[str, RankRows], config: RankerConfig, chosen: Mapping[str, NDArray[np.bool_]]
) -> dict[str, tuple[float, ...]]:
    """Return the same as `fitted` of the (k,) rows that are ``chosen``, by universe."""
    known = {
        name: (one.columns[chosen[name]].astype(np.float64) * _SPREAD, one.target[chosen[name]])
        for name, one in rows.items()
        if chosen[name].any()
    }
    if not known:
        return {}
    width = len(CROSS_SECTION_NAMES)
    columns, target = (np.concatenate(parts) for parts in zip(*known.values(), strict=True))
    together = _ridge(columns, target, config.penalty, np.zeros(width))
    found = {name: _ridge(*part, config.penalty, together) for name, part in known.items()}
    scaled = {name: _scaled(weights, known[name][0]) for name, weights in found.items()}
    return scaled | {ANY: _scaled(together, columns)}


def ranking_of(table: SwingTable, rows: Rows, weights: Weights, worth: Mapping[str, Ranked]) -> Ranking:
    """Return the ranking of a table's rows by ``weights`` and what they are worth, by universe."""
    scores, names = scores_at(table, rows, weights), [table.universes[place] for place in table.universe[rows]]
    return Ranking.of(scores, [worth.get(name) for name in names])


def scores_at(table: SwingTable, rows: Rows, weights: Weights) -> Floats:
    """Return (len(rows),) scores, NaN where a row was not ranked."""
    found = np.full(len(rows), np.nan)
    for place, name in enumerate(table.universes):
        if name in weights:
            own = np.flatnonzero((table.universe[rows] == place) & table.ranked[rows])
            found[own] = scored(table.ranks[rows[own]], weights[name])
    return found


def worth_of(
    table: SwingTable, rows: Rows, weights: Weights, networks: Floats, config: RankerConfig
) -> dict[str, Ranked]:
    """Return what the scores are worth on ``rows``, which fitted neither them nor a network, by universe.

    Parameters
    ----------
    networks
        (len(rows), 3) what both networks come to.
    """
    scores, found = scores_at(table, rows, weights), {}
    known = np.isfinite(scores)
    places = {name: known & (table.universe[rows] == place) for place, name in enumerate(table.universes)}
    for name, own in (places | {ANY: known}).items():
        if name in weights and own.any():
            group = table.groups(rows[own])
            parts = (within(values[own], group) for values in (scores[:, None], networks, table.returns[rows]))
            found[name] = _worth(weights[name], *parts, share=config.share)
    return found


def ranker_of(weights: Weights, worth: Mapping[str, Ranked], config: RankerConfig) -> Ranker | None:
    """Return the card's part: newer ``weights`` with what earlier ones were worth; None where there are none."""
    universes = {
        name: one.model_copy(update={"weights": weights[name]}) for name, one in worth.items() if name in weights
    }
    if not universes:
        return None
    return Ranker(
        features=CROSS_SECTION_VERSION, columns=CROSS_SECTION_NAMES, fewest=config.fewest, universes=universes
    )


def _ridge(columns: Floats, target: Floats, penalty: float, towards: Floats) -> Floats:
    width, count = columns.shape[1], len(columns)
    square = columns.T @ columns / count + penalty * np.eye(width)
    return np.asarray(np.linalg.solve(square, columns.T @ target / count + penalty * towards), np.float64)


def _scaled(weights: Floats, columns: Floats) -> tuple[float, ...]:
    """Return the weights of ranks whose scores have a deviation of 1."""
    spread = max(float((columns @ weights).std()), _LEAST)
    return tuple(np.round(weights * _SPREAD / spread, _DIGITS).tolist())


def _worth(weights: tuple[float, ...], of_scores: Floats, of_networks: Floats, came: Floats, *, share: float) -> Ranked:
    """Return slopes of what came on the scores, and on the mix of scores and networks at equal spreads.

    A slope is never below `_LEAST`: the order of the stocks is kept even where it was worth nothing on these rows.

    Parameters
    ----------
    of_scores, of_networks, came
        (k, 1), (k, 3) and (k, 3), each less the mean of its day and universe.
    """
    slope = np.maximum((of_scores * came).mean(axis=0) / max(float((of_scores**2).mean()), _LEAST), _LEAST)
    spread = np.sqrt((of_networks**2).mean(axis=0))
    usable = spread > _LEAST
    of_each = np.where(usable, (1.0 - share) / np.where(usable, spread, 1.0), 0.0)
    of_one = share / max(float(of_scores.std()), _LEAST)
    mixed = of_each * of_networks + of_one * of_scores
    gain = np.maximum((mixed * came).mean(axis=0) / np.maximum((mixed**2).mean(axis=0), _LEAST), _LEAST)
    parts = (slope, gain * of_each, gain * of_one / slope)
    told = [tuple(np.round(part, _DIGITS).tolist()) for part in parts]
    return Ranked(weights=weights, slope=told[0], networks=told[1], share=told[2])
