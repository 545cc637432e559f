"""From raw outputs of a graph to calibrated answers: the single place where that happens, at rest and in evaluation.

Always true of what leaves here: probabilities lie in [0, 1]; touch probabilities never rise with distance; either side
is touched no less often than the likelier one and no more often than both together; a trade wins no more often than
its target is touched; quantiles are sorted; ``0 < low < high``; class probabilities sum to 1. Pure numpy: no I/O, no
clock, no session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusiontrade.inference.contract import (
    CHANCES,
    TOUCH_LEVELS,
    CalibrationState,
    LstmForecast,
    Market,
    PatchTstForecast,
)
from fusiontrade.inference.intervals import corrected
from fusiontrade.inference.probabilities import logits, moved
from serving.card import TOUCH_SIDES, Adjustment, ModelCard
from serving.markets import key_of, row_of

__all__ = [
    "Adjustments",
    "Asking",
    "LstmAnswers",
    "Newest",
    "Outputs",
    "Subject",
    "chances_of",
    "class_probabilities",
    "consistent",
    "leans_of",
    "lstm_answers",
    "lstm_forecast",
    "lstm_forecasts",
    "patchtst_forecasts",
    "widened",
]

Floats = NDArray[np.float64]
Outputs = Mapping[str, NDArray[np.float32]]
"""Raw outputs by name, batch axis first, as the graph contract of `serving.bundle` lists them."""

Subject = tuple[str, Market | None]
"""A symbol's code and its kind of market."""

_TARGET = TOUCH_LEVELS.index(2.0)  # the distance of the first target, in ATR
_TOUCHES = len(TOUCH_SIDES) * len(TOUCH_LEVELS)  # heads before the two wins
_LEAST = 1e-8  # of the close: least price, and least width of an interval
_WIDEST_LOG_RANGE = 10.0


class Asking(Protocol):
    """Who asks for a forecast: the part of a request's item that the answer depends on besides its candles."""

    @property
    def symbol(self) -> str:
        """The symbol's code."""

    @property
    def market(self) -> Market | None:
        """Its kind of market."""

    @property
    def state(self) -> CalibrationState | None:
        """What earlier outcomes taught, None for the bundle's own."""


@dataclass(frozen=True, eq=False)
class Newest:
    """What the newest bars of n windows say besides the inputs of a graph.

    Parameters
    ----------
    close, atr
        (n,) last close and its ATR(14) in the quote currency; ``atr`` is positive.
    unrest
        (n,) log of the ATR over what it usually is, `serving.features.unrest_of`.
    """

    close: ArrayLike
    atr: ArrayLike
    unrest: ArrayLike


@dataclass(frozen=True, eq=False)
class Adjustments:
    """What n forecasts are moved by, as `serving.card.Adjustment` says: (n,) sides, (n, CHANCES) the others."""

    lower: Floats
    upper: Floats
    offsets: Floats
    slopes: Floats
    bends: Floats

    @classmethod
    def of(cls, rows: Sequence[Adjustment | CalibrationState]) -> Adjustments:
        """Return them by row."""
        table = np.array([(row.lower, row.upper, *row.offsets, *row.slopes, *row.bends) for row in rows], np.float64)
        lower, upper, steps = np.split(table.reshape(-1, 2 + 3 * CHANCES), (1, 2), axis=1)
        return cls(lower[:, 0], upper[:, 0], *np.split(steps, 3, axis=1))

    def move(self, chances: Floats, leans: Floats) -> Floats:
        """Return (n, CHANCES) probabilities of ``leans`` as moved, in agreement with each other."""
        return consistent(moved(chances, leans, self.offsets, self.slopes, self.bends))


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
        Its 90 % interval as the quantiles give it, its width freed of what unrest does to it, and the same as
        corrected by the interval's sides.
    expected_range
        High minus low over the horizon, in the quote currency.
    leans
        (n, CHANCES) logits of the touch and win probabilities before anything moved them, less what is usual.
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
    leans: Floats

    @property
    def vote(self) -> NDArray[np.int64]:
        """(n,) 1 up, -1 down, 0 where the direction head abstains."""
        up, down = self.probability_up > self.abstain_above, self.probability_up < self.abstain_below
        return np.asarray(up.astype(np.int64) - down, np.int64)


def lstm_answers(
    card: ModelCard,
    outputs: Outputs,
    newest: Newest,
    subjects: Sequence[Subject],
    *,
    adjustments: Adjustments | None = None,
) -> LstmAnswers:
    """Return the calibrated answers of n windows.

    Parameters
    ----------
    card
        Of a bundle that answers as an LSTM.
    outputs
        Finite raw outputs: direction (n,), change (n,), quantiles (n, 5), touch (n, 15), win (n, 2), log_range (n,).
    newest
        Of the n windows.
    subjects
        Whose window each of the n is.
    adjustments
        What each window's interval and probabilities are moved by; by default the bundle's own.

    Raises
    ------
    ValueError
        If the card is of another kind.
    """
    if not card.is_sequence:
        raise ValueError(f"{card.model_id} is no lstm, nor answers as one")
    price, unit = np.asarray(newest.close, np.float64), np.asarray(newest.atr, np.float64)
    direction, change, log_range = (
        np.asarray(outputs[name], np.float64) for name in ("direction", "change", "log_range")
    )
    probability, (below, above) = _directions(card, direction, subjects)
    if adjustments is None:
        adjustments = Adjustments.of([row_of(card.adjustments, *subject) for subject in subjects])
    chances = chances_of(card, outputs)
    leans = leans_of(card, chances)
    chances = adjustments.move(chances, leans)
    touch = chances[:, :_TOUCHES].reshape(-1, len(TOUCH_SIDES), len(TOUCH_LEVELS))
    quantiles = np.sort(np.asarray(outputs["quantiles"], np.float64), axis=1)
    least = price * _LEAST
    ends = widened(quantiles[:, 0], quantiles[:, -1], newest.unrest, card.unrest_exponent)
    raw_low, raw_high = _interval(price + ends[0] * unit, price + ends[1] * unit, least)
    low, high = _interval(*corrected(raw_low, raw_high, adjustments.lower, adjustments.upper), least)
    return LstmAnswers(
        probability_up=probability,
        abstain_below=below,
        abstain_above=above,
        change=change,
        quantiles=quantiles,
        predicted_price=np.maximum(price + change * unit, least),
        raw_low=raw_low,
        raw_high=raw_high,
        low=low,
        high=high,
        expected_range=np.exp(np.clip(log_range, -_WIDEST_LOG_RANGE, _WIDEST_LOG_RANGE)) * unit,
        touch_up=touch[:, 0],
        touch_down=touch[:, 1],
        touch_either=touch[:, 2],
        win_long=chances[:, _TOUCHES],
        win_short=chances[:, _TOUCHES + 1],
        leans=leans,
    )


def chances_of(card: ModelCard, outputs: Outputs) -> Floats:
    """Return (n, CHANCES) touch and win probabilities in the order of ``HEADS``, each through the map of its head."""
    raw = np.concatenate((outputs["touch"], outputs["win"]), axis=1).astype(np.float64)
    return card.chance_maps[0].apply(raw)


def leans_of(card: ModelCard, chances: Floats) -> Floats:
    """Return (n, CHANCES) the logits of probabilities less the usual ones of their heads."""
    return logits(chances) - card.chance_maps[1]


def consistent(chances: Floats) -> Floats:
    """Return (n, CHANCES) probabilities that agree with each other, changed no more than that takes.

    No distance is touched more often than a nearer one, either side as often as the two sides allow, and no trade
    wins more often than its target is touched.
    """
    agreed = chances.copy()
    touch, win = agreed[:, :_TOUCHES].reshape(-1, len(TOUCH_SIDES), len(TOUCH_LEVELS)), agreed[:, _TOUCHES:]
    np.minimum.accumulate(touch, axis=2, out=touch)
    up, down, either = touch[:, 0], touch[:, 1], touch[:, 2]
    np.maximum(either, np.maximum(up, down), out=either)
    np.minimum(either, np.minimum(up + down, 1.0), out=either)
    np.minimum(win, touch[:, :2, _TARGET], out=win)
    return agreed


def widened(low: Floats, high: Floats, unrest: ArrayLike, exponent: float) -> tuple[Floats, Floats]:
    """Return the ends of intervals whose width is multiplied by exp(``exponent`` · ``unrest``); any common shape.

    The middle stays where it is, and where the product is 0 the ends stay as they are, to the last bit.
    What networks learn of wild and of calm days is too wide on the ones and too narrow on the others, or the other
    way round: an exponent of the calibration slice (`serving.training.judging.widths`) takes that out.
    """
    more = (high - low) / 2.0 * np.expm1(exponent * np.asarray(unrest, np.float64))
    return low - more, high + more


def lstm_forecasts(card: ModelCard, outputs: Outputs, newest: Newest, items: Sequence[Asking]) -> list[LstmForecast]:
    """Return the answer to each of n items, as it goes over the wire.

    Parameters
    ----------
    card, outputs, newest
        As for `lstm_answers`.
    items
        Who asks for each window; a calibration state of another version of the bundle is not used.
    """
    if card.thresholds is None:
        raise ValueError(f"{card.model_id} is no lstm: its card has no thresholds")
    states = [_state(card, item) for item in items]
    subjects: list[Subject] = [(item.symbol, item.market) for item in items]
    answers = lstm_answers(card, outputs, newest, subjects, adjustments=Adjustments.of(states))
    columns = {name: values.tolist() for name, values in vars(answers).items()}
    accuracy = card.metrics.get("direction_accuracy")
    return [
        LstmForecast(
            model=card.reference,
            probability_up=columns["probability_up"][row],
            abstain_below=columns["abstain_below"][row],
            abstain_above=columns["abstain_above"][row],
            direction_accuracy=None
            if accuracy is None or row_of(card.directions, *subjects[row]).never_votes
            else 100.0 * accuracy.value,
            change=columns["change"][row],
            change_scale=card.thresholds.change_scale,
            predicted_price=columns["predicted_price"][row],
            interval_90=(columns["low"][row], columns["high"][row]),
            interval_raw=(columns["raw_low"][row], columns["raw_high"][row]),
            state=state,
            horizon_bars=card.horizon_bars,
            expected_range=columns["expected_range"][row],
            touch_up=columns["touch_up"][row],
            touch_down=columns["touch_down"][row],
            touch_either=columns["touch_either"][row],
            win_long=columns["win_long"][row],
            win_short=columns["win_short"][row],
            leans=columns["leans"][row],
        )
        for row, state in enumerate(states)
    ]


def lstm_forecast(card: ModelCard, outputs: Outputs, newest: Newest, item: Asking) -> LstmForecast:
    """Return the answer to one item; see `lstm_forecasts`."""
    return lstm_forecasts(card, outputs, newest, [item])[0]


def class_probabilities(card: ModelCard, outputs: Outputs) -> Floats:
    """Return (n, 3) calibrated probabilities of up, flat, down from ``classes`` (n, 3) logits."""
    return np.asarray(card.calibration["classes"].apply(outputs["classes"]), np.float64)


def patchtst_forecasts(card: ModelCard, outputs: Outputs) -> list[PatchTstForecast]:
    """Return one answer per window, as it goes over the wire."""
    return [
        PatchTstForecast(model=card.reference, up=up, flat=flat, down=down, abstains=card.abstains)
        for up, flat, down in class_probabilities(card, outputs).tolist()
    ]


def _state(card: ModelCard, item: Asking) -> CalibrationState:
    """Return the state that an item came with if it is of this bundle's version, else the bundle's own."""
    if item.state is not None and item.state.version == card.version:
        return item.state
    return row_of(card.states, item.symbol, item.market)


def _directions(card: ModelCard, logits: Floats, subjects: Sequence[Subject]) -> tuple[Floats, Floats]:
    """Return (n,) probability up, and (2, n) the lower and upper ends of the abstention band."""
    place = {key: number for number, key in enumerate(card.directions)}
    places = np.array([place[key_of(place, *subject)] for subject in subjects], np.intp)
    maps, bands = card.direction_maps
    return maps.apply_each(logits, places), bands[:, places]


def _interval(low: Floats, high: Floats, least: Floats) -> tuple[Floats, Floats]:
    """Return the bounds made positive and at least ``least`` apart: quantiles may coincide, and reach below 0."""
    middle, half = (low + high) / 2.0, np.maximum((high - low) / 2.0, least / 2.0)
    positive = np.maximum(middle - half, least)
    return positive, np.maximum(middle + half, positive + least)
