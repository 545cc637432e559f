"""From raw outputs of the daily graphs to returns, intervals and a veto: the one place where that happens.

Always true of what leaves here: quantiles rise; a signal is never given where the veto's probability is below the
card's threshold, the universe abstains, or a stock was not ranked that has to be; both networks come to 0.35
StockFormer, 0.30 TFT and 0.35 the mean of both, and the ensemble is that and the ranker as the card weighs them. Pure
numpy: no I/O, no clock, no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.calibration import Identity, Isotonic, Platt
from serving.features.swing import CONTEXT_NAMES
from serving.swing.card import ReturnMap, SwingCard
from serving.swing.ranking import Ranking

__all__ = [
    "Returns",
    "Signal",
    "SwingForecast",
    "forecasts_of",
    "returns_of",
    "together",
    "units_of",
    "veto_extras",
    "veto_probability",
]

Floats = NDArray[np.float64]
Outputs = Mapping[str, NDArray[np.float32]]
Signal = Literal["BUY", "SELL", "HOLD"]

_NORMAL_WIDTH = 2.5631  # from the 10 % to the 90 % quantile of a standard normal
_SURE = 1e-7
_LEAST = 1e-4  # of the close: a smaller ATR is none
_ATR = CONTEXT_NAMES.index("atr")


@dataclass(frozen=True, eq=False)
class Returns:
    """What the models and their ensemble say of n windows, as fractions; (n, 3) float64 each, unless said otherwise.

    Parameters
    ----------
    stockformer, tft, networks
        Returns of 3, 5 and 10 sessions; what both come to.
    ranker
        Returns by the ranks, NaN where a window was not ranked.
    ensemble
        What all of them come to.
    deviation
        StockFormer's uncertainty.
    low, median, high
        TFT's quantiles at 10, 50 and 90 %.
    attention
        (n, 24) TFT's weights, the oldest stretch of five bars first.
    """

    stockformer: Floats
    tft: Floats
    networks: Floats
    ranker: Floats
    ensemble: Floats
    deviation: Floats
    low: Floats
    median: Floats
    high: Floats
    attention: Floats


@dataclass(frozen=True, slots=True)
class SwingForecast:
    """The answer to one symbol; returns as fractions over 3, 5 and 10 sessions from the next open.

    ``confidence`` is the veto's probability that the trade wins, 0 with HOLD; ``veto`` that probability whatever the
    signal. ``ranker`` is None where the stock was not ranked in its run.
    """

    symbol: str
    bar_close: int
    signal: Signal
    confidence: float
    veto: float
    abstains: bool
    returns: tuple[float, ...]
    stockformer: tuple[float, ...]
    tft: tuple[float, ...]
    ranker: tuple[float, ...] | None
    uncertainty: tuple[float, ...]
    p10: tuple[float, ...]
    p50: tuple[float, ...]
    p90: tuple[float, ...]
    attention: tuple[float, ...]


def units_of(contexts: NDArray[np.float32]) -> Floats:
    """Return (n, 1) what spreads are measured in: ATR over close, of (n, 29) contexts; how wild a stock is now."""
    return np.maximum(contexts[:, _ATR].astype(np.float64), _LEAST)[:, None]


def together(stockformer: Floats, tft: Floats) -> Floats:
    """Return the returns of both networks together: 0.35 StockFormer, 0.30 TFT and 0.35 the mean of both."""
    return np.asarray(0.35 * stockformer + 0.30 * tft + 0.35 * (stockformer + tft) / 2, np.float64)


def returns_of(
    card: SwingCard | Mapping[str, ReturnMap],
    stockformer: Outputs,
    tft: Outputs,
    units: Floats,
    ranking: Ranking | None = None,
) -> Returns:
    """Return what raw outputs of both graphs for the same n windows come to.

    Parameters
    ----------
    units
        (n, 1) of `units_of` for the same windows.
    card
        Of the bundle, or the maps of ``stockformer`` and ``tft`` by name.
    stockformer, tft
        As `serving.models` documents them.
    ranking
        Of the same windows; None: none was ranked.
    """
    ranking = Ranking.none(len(units)) if ranking is None else ranking
    former, temporal = (
        (card.stockformer, card.tft) if isinstance(card, SwingCard) else (card["stockformer"], card["tft"])
    )
    first, second = _mapped(former, stockformer["returns"]), _mapped(temporal, tft["returns"])
    quantiles = np.asarray(tft["quantiles"], np.float64)
    middle = quantiles[:, :, 1]
    whole = np.add(former.below, former.above) / _NORMAL_WIDTH
    networks = together(first, second)
    deviation = np.asarray(stockformer["uncertainty"], np.float64) * units * whole
    return Returns(
        stockformer=first,
        tft=second,
        networks=networks,
        ranker=ranking.returns,
        ensemble=ranking.joined(networks),
        deviation=deviation,
        low=second - np.maximum(middle - quantiles[:, :, 0], _SURE) * units * np.asarray(temporal.below),
        median=second,
        high=second + np.maximum(quantiles[:, :, 2] - middle, _SURE) * units * np.asarray(temporal.above),
        attention=np.asarray(tft["attention"], np.float64),
    )


def veto_extras(returns: Returns) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (n, 6) predictions and (n, 4) uncertainties, in the orders of `serving.features.swing`."""
    width = returns.high - returns.low
    weights = np.maximum(returns.attention, 1e-12)
    entropy = -(weights * np.log(weights)).sum(axis=1)
    predictions = np.concatenate((returns.stockformer, returns.tft), axis=1)
    uncertainties = (returns.deviation[:, 0], width.mean(axis=1) / _NORMAL_WIDTH, width[:, 0], entropy)
    return predictions.astype(np.float32), np.stack(uncertainties, axis=1).astype(np.float32)


def veto_probability(chosen: Identity | Platt | Isotonic, probability: NDArray[np.float32]) -> Floats:
    """Return (n,) the trees' probabilities through the calibration of their logit."""
    sure = np.clip(np.asarray(probability, np.float64), _SURE, 1.0 - _SURE)
    return np.asarray(chosen.apply(np.log(sure / (1.0 - sure))), np.float64)


def forecasts_of(
    card: SwingCard, returns: Returns, veto: Floats, symbols: list[str], closes: list[int]
) -> list[SwingForecast]:
    """Return one answer per window: below the threshold HOLD with confidence 0, else the sign of the 3-day return."""
    columns = {name: getattr(returns, name).tolist() for name in vars(returns)}
    ranked = np.isfinite(returns.ranker[:, 0]).tolist()
    answers = []
    for row, (symbol, probability) in enumerate(zip(symbols, veto.tolist(), strict=True)):
        abstains, ahead = card.abstains(symbol, ranked=ranked[row]), columns["ensemble"][row][0]
        silent = abstains or probability < card.threshold or ahead == 0
        answers.append(
            SwingForecast(
                symbol=symbol,
                bar_close=closes[row],
                signal="HOLD" if silent else "BUY" if ahead > 0 else "SELL",
                confidence=0.0 if silent else probability,
                veto=probability,
                abstains=abstains,
                returns=tuple(columns["ensemble"][row]),
                stockformer=tuple(columns["stockformer"][row]),
                tft=tuple(columns["tft"][row]),
                ranker=tuple(columns["ranker"][row]) if ranked[row] else None,
                uncertainty=tuple(columns["deviation"][row]),
                p10=tuple(columns["low"][row]),
                p50=tuple(columns["median"][row]),
                p90=tuple(columns["high"][row]),
                attention=tuple(columns["attention"][row]),
            )
        )
    return answers


def _mapped(chosen: ReturnMap, scores: NDArray[np.float32]) -> Floats:
    return np.asarray((np.asarray(scores, np.float64) - chosen.centre) * np.asarray(chosen.slope), np.float64)
