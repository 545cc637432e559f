"""Which markets the direction head may vote on, and what it says of the others: their base rate, and no vote.

Direction is barely predictable, and on most series not at all. One map is fitted for all rows of the calibration
slice, its slope halved (what was found on one span comes back weaker on the next), and moved to each market's base
rate of the training span. A symbol, or a kind of market, keeps it only where it beats that base rate on the slice
beyond doubt, one-sided Diebold-Mariano test of the log losses, Benjamini-Hochberg over the symbols, and in each third
of the slice. The others answer the base rate itself, so their log-loss skill is zero by construction, not negative by
chance; so does ``any``: what one kind of market proved is not proven of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.calibration import CalibrationMap, Platt, sigmoid
from serving.card import DirectionRule
from serving.evaluation.metrics import log_loss
from serving.evaluation.significance import Comparison, adjusted, compare
from serving.markets import ANY
from serving.training.judging.calibrate import abstention_band, at_base_rate, fit_binary

__all__ = ["Directions", "base_rates", "direction_rules"]

Floats = NDArray[np.float64]
_FALSE_DISCOVERIES = 1e-4
_KEPT = 0.5  # of the slope
_PARTS = 3


@dataclass(frozen=True, eq=False)
class Directions:
    """n rows of the calibration slice in the order of time, and the base rates of the training span.

    Parameters
    ----------
    logits, truth
        (n,) raw logits of the direction head; 1 where the next close was above the last, else 0.
    instants
        (n,) ms UTC.
    symbol, market
        (n,) whose row it is.
    rates
        Share of rising bars in the training span by symbol, kind of market and ``any``.
    """

    logits: Floats
    truth: Floats
    instants: NDArray[np.int64]
    symbol: NDArray[np.str_]
    market: NDArray[np.str_]
    rates: Mapping[str, float]

    def rows_of(self, name: str) -> NDArray[np.bool_]:
        """Return (n,) which rows a row of the card's table is about."""
        if name == ANY:
            return np.ones(len(self.logits), np.bool_)
        return np.asarray((self.symbol == name) | (self.market == name), np.bool_)


def direction_rules(given: Directions) -> tuple[dict[str, DirectionRule], dict[str, Any]]:
    """Return the rule of every market with a base rate, and how it was found, for the report."""
    fitted, tried = fit_binary(given.logits, given.truth, isotonic=False)
    common = _halved(fitted)
    maps = {name: _moved(common, given, name) for name in given.rates}
    tests = {name: _compared(maps[name], given, name) for name in given.rates}
    symbols = [name for name in given.rates if name in set(given.symbol)]
    tests |= adjusted({name: tests[name] for name in symbols})
    skilled = {
        name
        for name, test in tests.items()
        if name != ANY and test.adjusted < _FALSE_DISCOVERIES and _everywhere_better(maps[name], given, name)
    }
    rows = np.isin(given.symbol, sorted(skilled & set(symbols)))
    probability = np.empty(len(given.logits))
    for name in symbols:
        own = given.rows_of(name)
        probability[own] = maps[name].apply(given.logits[own])
    band, chosen_by = abstention_band(probability[rows], given.truth[rows]) if rows.any() else ((0.0, 1.0), {})
    rules = {
        name: DirectionRule(calibration=maps[name], abstain_below=band[0], abstain_above=band[1])
        if name in skilled and band != (0.0, 1.0)
        else _base_rate(given.rates[name])
        for name in given.rates
    }
    report = {
        "chosen": fitted.kind,
        "held_log_loss": {kind: round(loss, 6) for kind, loss in tried.items()},
        "band": band,
        **chosen_by,
        "markets": {
            name: {
                "base_rate": round(given.rates[name], 6),
                "against_base_rate": tests[name].as_dict(),
                "votes": name in skilled,
            }
            for name in given.rates
        },
    }
    return rules, report


def base_rates(rates: Floats) -> Floats:
    """Return (n,) base rates to the last bit as a market that abstains answers them: its map keeps a rounded logit."""
    return sigmoid(_logits(rates))


def _moved(common: CalibrationMap, given: Directions, name: str) -> CalibrationMap:
    rows = given.rows_of(name)
    return at_base_rate(common, given.logits[rows], given.rates[name]) if rows.any() else common


def _halved(fitted: CalibrationMap) -> Platt:
    """Return the logistic map nearest to ``fitted`` with half its slope."""
    slope = fitted.a if isinstance(fitted, Platt) else 1.0
    return Platt(a=round(slope * _KEPT, 6), b=0.0)


def _compared(chosen: CalibrationMap, given: Directions, name: str) -> Comparison:
    """Return the test of the map against the base rate; undefined where the market has no rows."""
    loss, usual, rows = _losses(chosen, given, name)
    return compare(loss, usual, given.instants[rows], horizon=1)


def _everywhere_better(chosen: CalibrationMap, given: Directions, name: str) -> bool:
    """Tell whether the map beats the base rate in each part of the slice."""
    loss, usual, _ = _losses(chosen, given, name)
    return all(part.mean() < 0 for part in np.array_split(loss - usual, _PARTS))


def _losses(
    chosen: CalibrationMap, given: Directions, name: str
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.bool_]]:
    rows = given.rows_of(name)
    truth = given.truth[rows]
    usual = log_loss(np.full(len(truth), given.rates[name]), truth)
    return log_loss(chosen.apply(given.logits[rows]), truth), usual, rows


def _base_rate(rate: float) -> DirectionRule:
    constant = Platt(a=0.0, b=float(_logits(np.array([rate]))[0]))
    return DirectionRule(calibration=constant, abstain_below=0.0, abstain_above=1.0)


def _logits(rates: Floats) -> Floats:
    return np.asarray(np.round(np.log(rates / (1 - rates)), 6), np.float64)
