"""From raw outputs of a graph to calibrated answers: the single place where that happens, at rest and in evaluation.

Always true of what leaves here: probabilities lie in [0, 1]; touch probabilities never rise with distance; either side
is touched no less often than the likelier one and no more often than both together; a trade wins no more often than
its target is touched; quantiles are sorted; ``0 < low < high``; class probabilities sum to 1. Pure numpy: no I/O, no
clock, no session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusiontrade.inference.contract import (
    TOUCH_LEVELS,
    ForecastItem,
    IntervalState,
    LstmForecast,
    Market,
    PatchTstForecast,
)
from fusiontrade.inference.intervals import corrected
from serving.card import HEADS, DirectionRule, ModelCard
from serving.markets import row_of

__all__ = [
    "LstmAnswers",
    "Outputs",
    "Subject",
    "class_probabilities",
    "lstm_answers",
    "lstm_forecast",
    "patchtst_forecasts",
]

Floats = NDArray[np.float64]
Outputs = Mapping[str, NDArray[np.float32]]
"""Raw outputs by name, batch axis first, as the graph contract of `serving.bundle` lists them."""

Subject = tuple[str, Market | None]
"""A symbol's code and its kind of market."""

_TARGET = TOUCH_LEVELS.index(2.0)  # the distance of the first target, in ATR
_LEAST = 1e-8  # of the close: least price, and least width of an interval
_WIDEST_LOG_RANGE = 10.0


@dataclass(frozen=True, eq=False)
class LstmAnswers:
    """Calibrated answers of n windows; (n,) float64 unless said otherwise.

    Parameters
    ----------
    probability_up, win_long, win_short
        Probabilities.
    abstain_below, abstain_above
        The band of ``probability_up`` inside which the direction head abstains.
    change
        Next-bar change of the close in ATR.
    quantiles
        (n, 5) of that change in ATR at 5, 25, 50, 75, 95 %, sorted.
    predicted_price
        Next close, in the quote currency.
    raw_low, raw_high, low, high
        Its 90 % interval as the quantiles give it, and as corrected by the interval's sides.
    expected_range
        High minus low over the horizon, in the quote currency.
    touch_up, touch_down, touch_either
        (n, 5) probabilities to touch ``TOUCH_LEVELS`` ATR within the horizon above, below, on either side.
    """

    probability_up: Floats
    abstain_below: Floats
    abstain_above: Floats
    change: Floats
    quantiles: Floats
    predicted_price: Floats
    raw_low: Floats
    raw_high: Floats
    low: Floats
    high: Floats
    expected_range: Floats
    touch_up: Floats
    touch_down: Floats
    touch_either: Floats
    win_long: Floats
    win_short: Floats

    @property
    def vote(self) -> NDArray[np.int64]:
        """(n,) 1 up, -1 down, 0 where the direction head abstains."""
        up, down = self.probability_up > self.abstain_above, self.probability_up < self.abstain_below
        return np.asarray(up.astype(np.int64) - down, np.int64)


def lstm_answers(
    card: ModelCard,
    outputs: Outputs,
    close: ArrayLike,
    atr: ArrayLike,
    subjects: Sequence[Subject],
    *,
    sides: tuple[ArrayLike, ArrayLike] | None = None,
) -> LstmAnswers:
    """Return the calibrated answers of n windows.

    Parameters
    ----------
    card
        Of an LSTM bundle.
    outputs
        Finite raw outputs: direction (n,), change (n,), quantiles (n, 5), touch (n, 15), win (n, 2), log_range (n,).
    close, atr
        (n,) last close and its ATR(14) in the quote currency; ``atr`` is positive.
    subjects
        Whose window each of the n is.
    sides
        (n,) lower and (n,) upper corrections of the interval; by default the bundle's own.

    Raises
    ------
    ValueError
        If the card is no LSTM's.
    """
    if card.kind != "lstm":
        raise ValueError(f"{card.model_id} is no lstm")
    price, unit = np.asarray(close, np.float64), np.asarray(atr, np.float64)
    raw = {name: np.asarray(values, np.float64) for name, values in outputs.items()}
    probability, below, above, lower, upper = _by_subject(card, raw["direction"], subjects)
    if sides is not None:
        lower, upper = (np.asarray(side, np.float64) for side in sides)
    up, down, either = _touches(card, raw["touch"])
    win = _calibrated(card, ("win_long", "win_short"), raw["win"])
    quantiles = np.sort(raw["quantiles"], axis=1)
    least = price * _LEAST
    raw_low, raw_high = _interval(price + quantiles[:, 0] * unit, price + quantiles[:, -1] * unit, least)
    low, high = _interval(*corrected(raw_low, raw_high, lower, upper), least)
    return LstmAnswers(
        probability_up=probability,
        abstain_below=below,
        abstain_above=above,
        change=raw["change"],
        quantiles=quantiles,
        predicted_price=np.maximum(price + raw["change"] * unit, least),
        raw_low=raw_low,
        raw_high=raw_high,
        low=low,
        high=high,
        expected_range=np.exp(np.clip(raw["log_range"], -_WIDEST_LOG_RANGE, _WIDEST_LOG_RANGE)) * unit,
        touch_up=up,
        touch_down=down,
        touch_either=either,
        win_long=np.minimum(win[:, 0], up[:, _TARGET]),
        win_short=np.minimum(win[:, 1], down[:, _TARGET]),
    )


def lstm_forecast(card: ModelCard, outputs: Outputs, close: float, atr: float, item: ForecastItem) -> LstmForecast:
    """Return the answer to one item, as it goes over the wire.

    Parameters
    ----------
    outputs
        Raw outputs of one window, batch axis first; the others as for `lstm_answers`.
    item
        Who asks; an interval state of another version of the bundle is not used.
    """
    if card.thresholds is None:
        raise ValueError(f"{card.model_id} is no lstm: its card has no thresholds")
    state = item.interval
    if state is None or state.version != card.version:
        own = row_of(card.intervals, item.symbol, item.market)
        state = IntervalState(
            version=card.version,
            lower=own.lower,
            upper=own.upper,
            revision=0,
            as_of=card.windows.calibration[1] + card.timeframe.milliseconds,
        )
    subjects: list[Subject] = [(item.symbol, item.market)]
    answers = lstm_answers(card, outputs, [close], [atr], subjects, sides=([state.lower], [state.upper]))
    rule = _direction_rule(card, item.symbol, item.market)
    accuracy = None if rule.never_votes else card.metrics.get("direction_accuracy")
    return LstmForecast(
        model=card.reference,
        probability_up=float(answers.probability_up[0]),
        abstain_below=float(answers.abstain_below[0]),
        abstain_above=float(answers.abstain_above[0]),
        direction_accuracy=None if accuracy is None else 100.0 * accuracy.value,
        change=float(answers.change[0]),
        change_scale=card.thresholds.change_scale,
        predicted_price=float(answers.predicted_price[0]),
        interval_90=(float(answers.low[0]), float(answers.high[0])),
        interval_raw=(float(answers.raw_low[0]), float(answers.raw_high[0])),
        interval_state=state,
        horizon_bars=card.horizon_bars,
        expected_range=float(answers.expected_range[0]),
        touch_up=answers.touch_up[0].tolist(),
        touch_down=answers.touch_down[0].tolist(),
        touch_either=answers.touch_either[0].tolist(),
        win_long=float(answers.win_long[0]),
        win_short=float(answers.win_short[0]),
    )


def class_probabilities(card: ModelCard, outputs: Outputs) -> Floats:
    """Return (n, 3) calibrated probabilities of up, flat, down from ``classes`` (n, 3) logits."""
    return np.asarray(card.calibration["classes"].apply(outputs["classes"]), np.float64)


def patchtst_forecasts(card: ModelCard, outputs: Outputs) -> list[PatchTstForecast]:
    """Return one answer per window, as it goes over the wire."""
    return [
        PatchTstForecast(model=card.reference, up=up, flat=flat, down=down)
        for up, flat, down in class_probabilities(card, outputs).tolist()
    ]


def _direction_rule(card: ModelCard, symbol: str, market: Market | None) -> DirectionRule:
    """Return the rule of a symbol; nothing is proven of a kind of market that has none, so it abstains always."""
    rule = row_of(card.directions, symbol, market)
    return rule if symbol in card.directions or market in card.directions else rule.silenced


def _by_subject(card: ModelCard, logits: Floats, subjects: Sequence[Subject]) -> tuple[Floats, ...]:
    """Return (n,) each: probability up, the abstention band, the interval's lower and upper side."""
    found = np.empty((5, len(logits)))
    whose = np.asarray([f"{symbol}|{market}" for symbol, market in subjects])
    for subject in set(subjects):
        rows = whose == f"{subject[0]}|{subject[1]}"
        rule, side = _direction_rule(card, *subject), row_of(card.intervals, *subject)
        found[0, rows] = np.clip(rule.calibration.apply(logits[rows]), 0.0, 1.0)
        found[1:, rows] = np.array([[rule.abstain_below, rule.abstain_above, side.lower, side.upper]]).T
    return tuple(found)


def _touches(card: ModelCard, logits: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (n, 5) each: up, down, either, made consistent with each other."""
    chances = _calibrated(card, HEADS["lstm"][: logits.shape[1]], logits)
    up, down, either = (np.minimum.accumulate(side, axis=1) for side in np.split(chances, 3, axis=1))
    either = np.clip(either, np.maximum(up, down), np.minimum(up + down, 1.0))
    return up, down, either


def _calibrated(card: ModelCard, heads: tuple[str, ...], logits: Floats) -> Floats:
    """Return (n, len(heads)) probabilities, each column through the map of its own head."""
    columns = [card.calibration[head].apply(logits[:, column]) for column, head in enumerate(heads)]
    return np.clip(np.stack(columns, axis=1), 0.0, 1.0)


def _interval(low: Floats, high: Floats, least: Floats) -> tuple[Floats, Floats]:
    """Return the bounds made positive and at least ``least`` apart: quantiles may coincide, and reach below 0."""
    middle, half = (low + high) / 2.0, np.maximum((high - low) / 2.0, least / 2.0)
    positive = np.maximum(middle - half, least)
    return positive, np.maximum(middle + half, positive + least)
