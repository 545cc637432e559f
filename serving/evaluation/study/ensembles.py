"""The mean of several models: how it is taken is chosen on bars before the judged slice, and said beside the rest.

Always true: a way to combine the members, and the weights it takes, know the calibration slice alone. Weights are
learned on outcomes known in its earlier part, the ways are compared on its later one, and the chosen way learns its
weights anew on the whole of it before the judged slice is read. Members with equal weights are always among the ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import TOUCH_LEVELS, ModelKind
from fusiontrade.inference.intervals import corrected
from fusiontrade.journal.outcomes import HORIZON_BARS
from serving.card import TOUCH_SIDES, Adjustment, ModelCard
from serving.evaluation.answering import averaged
from serving.evaluation.coverage import inside
from serving.evaluation.held_out import HeldOut, taken
from serving.evaluation.lstm import SERVED_LEVELS, served_quantiles
from serving.evaluation.metrics import Sample, brier, pinball
from serving.evaluation.significance import compare
from serving.evaluation.study.sections import Scopes
from serving.forecasting import Adjustments, LstmAnswers, Subject
from serving.markets import row_of
from serving.training.judging.judge import walked_moves

__all__ = ["WAYS", "Ensemble", "Members", "Way", "combined_by", "compared", "lattice", "said"]

Floats = NDArray[np.float64]
Json = dict[str, Any]
Weights = tuple[float, ...]

_STEPS = 10  # weights are multiples of one tenth
_EARLIER = 0.6  # of the calibration slice: weights are learned here, ways compared on the rest
_HALF_LIFE_DAYS = 60.0
_DAY_MS = 86_400_000
_TOUCHES = len(TOUCH_SIDES) * len(TOUCH_LEVELS)
_LEAST = 1e-8


@dataclass(frozen=True)
class Way:
    """How members become one: whether weights are ``learned``, of ``recent`` bars above all, and the mean ``walked``.

    A walked mean takes quantiles and logits before anything moved them, and is moved by its own outcomes; the others
    are the mean of what each member serves.
    """

    name: str
    learned: bool = False
    recent: bool = False
    walked: bool = False


EQUAL = "equal weights"
WAYS = (
    Way(EQUAL),
    Way("equal weights, moved by its own outcomes", walked=True),
    Way("weights of the calibration slice", learned=True),
    Way("weights of the calibration slice, moved by its own outcomes", learned=True, walked=True),
    Way("weights of its newest months above all", learned=True, recent=True),
)
"""What is tried, simplest first."""


@dataclass(frozen=True, eq=False)
class Members:
    """Models that answered the same rows: cards and walked answers by kind, and whose the series numbers are."""

    cards: Mapping[ModelKind, ModelCard]
    answers: Mapping[ModelKind, LstmAnswers]
    held: HeldOut
    whose: Sequence[Subject]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A way with its weights by member, and its figures on the later part of the calibration slice."""

    way: Way
    weights: Mapping[str, float]
    before: Json


def combined_by(members: Members) -> tuple[Ensemble, dict[str, Ensemble]]:
    """Return the way that was best on the later part of the calibration slice, and every way by its name.

    Best has the smallest sum of pinball ratio and Brier loss of touches over climatology's.

    Parameters
    ----------
    members
        On the calibration slice.
    """
    held = members.held
    cut = np.quantile(held.entry, _EARLIER)
    earlier, later = held.known_at <= cut, held.entry > cut
    found: dict[str, Ensemble] = {}
    for way in WAYS:
        answers = said(way, _weights(way, members, earlier), members)
        figures = _scored(taken(answers, later), taken(held, later))
        whole = _weights(way, members, np.ones(len(held), np.bool_))
        found[way.name] = Ensemble(way, dict(zip(members.cards, whole, strict=True)), figures)
    return min(found.values(), key=lambda one: float(one.before["score"])), found


def said(way: Way, weights: Sequence[float], members: Members) -> LstmAnswers:
    """Return what the members say together."""
    mean = averaged(list(members.answers.values()), weights)
    return _walked(mean, weights, members) if way.walked else mean


def _walked(mean: LstmAnswers, weights: Sequence[float], members: Members) -> LstmAnswers:
    """Return the mean moved by its own outcomes: quantiles and logits before any move, beginning at the mean state."""
    held, shares = members.held, np.asarray(weights) / np.sum(weights)
    centres = sum(share * card.chance_maps[1] for share, card in zip(shares, members.cards.values(), strict=True))
    chances = 1.0 / (1.0 + np.exp(-(mean.leans + centres)))
    states = [[row_of(card.adjustments, *one) for card in members.cards.values()] for one in members.whose]
    starts = [_mean_start(rows, shares) for rows in states]
    moves = walked_moves(mean, chances, held, starts)
    found = moves.move(chances, mean.leans)
    touch = found[:, :_TOUCHES].reshape(-1, len(TOUCH_SIDES), len(TOUCH_LEVELS))
    low, high = corrected(mean.raw_low, mean.raw_high, moves.lower, moves.upper)
    least = held.close * _LEAST
    low = np.maximum(low, least)
    return replace(
        mean,
        low=low,
        high=np.maximum(high, low + least),
        touch_up=touch[:, 0],
        touch_down=touch[:, 1],
        touch_either=touch[:, 2],
        win_long=found[:, _TOUCHES],
        win_short=found[:, _TOUCHES + 1],
    )


def _mean_start(rows: Sequence[Adjustment], shares: Floats) -> Adjustment:
    table = Adjustments.of(rows)
    return Adjustment(
        lower=float(shares @ table.lower),
        upper=float(shares @ table.upper),
        offsets=tuple((shares @ table.offsets).tolist()),
        slopes=tuple((shares @ table.slopes).tolist()),
        bends=tuple((shares @ table.bends).tolist()),
    )


def lattice(members: int, steps: int = _STEPS) -> Iterator[Weights]:
    """Yield every weighting of the members by multiples of ``1 / steps`` that sum to 1."""
    for first in product(range(steps + 1), repeat=members - 1):
        if (rest := steps - sum(first)) >= 0:
            yield (*(one / steps for one in first), rest / steps)


def _weights(way: Way, members: Members, rows: NDArray[np.bool_]) -> Weights:
    """Return a weight for each member, of ``rows`` where they are learned."""
    count = len(members.answers)
    if not way.learned:
        return (1.0 / count,) * count
    held = taken(members.held, rows)
    parts = [taken(one, rows) for one in members.answers.values()]
    age = (held.entry.max() - held.entry) / (_DAY_MS * _HALF_LIFE_DAYS)
    counted = 0.5**age if way.recent else np.ones(len(held))
    scale = held.atr / held.close * counted
    quantiles = np.stack([served_quantiles(one, held) for one in parts])
    touched = np.stack([one.touch_either[:, 0] for one in parts])
    usual = (pinball(held.rolling_served, SERVED_LEVELS, held.change) * scale).sum()
    climate = (brier(held.climate_either, held.either) * counted).sum()

    def loss(weights: Weights) -> float:
        mixed = np.tensordot(weights, quantiles, 1)
        missed = (pinball(mixed, SERVED_LEVELS, held.change) * scale).sum() / usual
        return float(missed + (brier(weights @ touched, held.either) * counted).sum() / climate)

    return min(lattice(count), key=loss)


def _scored(answers: LstmAnswers, held: HeldOut) -> Json:
    """Return the figures a way is chosen by: pinball ratio, mean over series, and Brier skill over climatology."""
    mine, usual = _widths(answers, held)
    ratios = [mine[held.place == one].sum() / usual[held.place == one].sum() for one in np.unique(held.place)]
    either, climate = _touched(answers, held)
    skill = 1.0 - either.sum() / climate.sum()
    ratio = float(np.mean(ratios))
    return {
        "pinball_ratio": round(ratio, 6),
        "either_touch_skill_over_climatology": round(float(skill), 6),
        "score": round(ratio + 1.0 - float(skill), 6),
        "n": len(held),
    }


def compared(ensemble: LstmAnswers, others: Mapping[str, LstmAnswers], held: HeldOut, scopes: Scopes) -> list[Json]:
    """Return each of the others beside the ensemble on the same rows: its figures, the ensemble's less its, and p.

    Returns
    -------
    A row each with ``name``, ``coverage_90``, and of ``pinball_ratio`` and ``either_touch_skill_over_climatology`` the
    figure, the ``difference`` with its interval and the two-sided ``p_value`` of a Diebold-Mariano test.
    """
    rows = np.isin(held.place, scopes.counted)
    held, ensemble = taken(held, rows), taken(ensemble, rows)
    sample = Sample(held.entry, scopes.resamples, scopes.seed)
    mine, usual = _widths(ensemble, held)
    missed, climate = _touched(ensemble, held)
    found = []
    for name, answers in others.items():
        own = taken(answers, rows)
        (theirs, _), (lost, _) = _widths(own, held), _touched(own, held)
        within = inside(own.low, own.high, held.close + held.change * held.atr)
        found.append(
            {
                "name": name,
                "coverage_90": sample.ratio(within).as_dict(),
                "pinball_ratio": sample.mean_of_ratios(theirs, usual, held.place).as_dict()
                | {"difference": sample.mean_of_ratios(mine - theirs, usual, held.place).as_dict()}
                | _p_value(mine, theirs, held, 1),
                "either_touch_skill_over_climatology": sample.skill(lost, climate).as_dict()
                | {"difference": sample.ratio(lost - missed, climate).as_dict()}
                | _p_value(missed, lost, held, HORIZON_BARS),
            }
        )
    return found


def _p_value(mine: Floats, theirs: Floats, held: HeldOut, horizon: int) -> Json:
    return {"p_value": compare(mine, theirs, held.entry, horizon=horizon).as_dict()["p_value"]}


def _widths(answers: LstmAnswers, held: HeldOut) -> tuple[Floats, Floats]:
    """Return (n,) pinball losses as shares of the close: of the answers as served, of rolling-500 quantiles."""
    scale = held.atr / held.close
    mine = pinball(served_quantiles(answers, held), SERVED_LEVELS, held.change) * scale
    return np.asarray(mine), np.asarray(pinball(held.rolling_served, SERVED_LEVELS, held.change) * scale)


def _touched(answers: LstmAnswers, held: HeldOut) -> tuple[Floats, Floats]:
    """Return (n,) Brier losses of ±1 ATR on either side: of the answers, of climatology."""
    return (
        np.asarray(brier(answers.touch_either[:, 0], held.either)),
        np.asarray(brier(held.climate_either, held.either)),
    )
