"""The sections of a timeframe's part: figures, tests, reliability, coverage and curves of one model's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.evaluation import HeldOut, judge_lstm, judge_patchtst
from serving.evaluation.coverage import (
    coverage_by_month,
    coverage_by_volatility,
    inside,
    lowest_rolling,
    spread_by_chance,
    volatility_quintiles,
)
from serving.evaluation.curves import (
    abstention_sweep,
    precision_recall_points,
    reliability,
    roc_points,
    threshold_sweep,
)
from serving.evaluation.held_out import taken
from serving.evaluation.lstm import served_quantiles
from serving.evaluation.metrics import Figure, Sample, classified, published, quantile_crps
from serving.evaluation.study.contests import lstm_contests, patchtst_contests, tested
from serving.evaluation.study.report import finite
from serving.evaluation.study.rivals import Rivals, lstm_rival_figures, patchtst_rival_figures
from serving.forecasting import LstmAnswers
from serving.models.lstm import QUANTILES

__all__ = ["Scopes", "lstm_part", "patchtst_part"]

Floats = NDArray[np.float64]
Json = dict[str, Any]
Rows = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scopes:
    """Which rows count where.

    Parameters
    ----------
    names
        Symbol of each series number.
    counted, five
        Numbers of the series that all pooled figures, and those of the reference five, are made of.
    resamples, seed
        Of the bootstrap.
    """

    names: Sequence[str]
    counted: NDArray[np.intp]
    five: NDArray[np.intp]
    resamples: int
    seed: int

    @property
    def bootstrap(self) -> dict[str, int]:
        """Settings of the functions that judge."""
        return {"resamples": self.resamples, "seed": self.seed}


def lstm_part(answers: LstmAnswers, held: HeldOut, told: Rivals, scopes: Scopes) -> Json:
    """Return what is published of an LSTM's calibrated answers to the held-out rows."""

    def judged(rows: Rows) -> Json:
        own = taken(held, rows)
        found = judge_lstm(taken(answers, rows), own, scopes.names, **scopes.bootstrap)
        rivals = lstm_rival_figures(taken(told, rows), own, **scopes.bootstrap)
        return found | {"pooled": found["pooled"] | rivals | _of_every_row(taken(answers, rows), own, scopes)}

    figures = _by_scope(judged, held, scopes)
    rows = np.isin(held.place, scopes.counted)
    answers, held, told = taken(answers, rows), taken(held, rows), taken(told, rows)
    sample = Sample(held.entry, scopes.resamples, scopes.seed)
    said = _lstm_heads(answers, held)
    events = {head: (probability, truth > 0) for head, (probability, truth) in said.items()}
    ranked = events | {"climatology": (held.climate_either, held.either > 0)}
    return {
        "figures": figures,
        "against": tested(lstm_contests(answers, held, told), held, scopes.names),
        "reliability": _reliabilities(sample, said),
        "coverage": _coverage(answers, held, sample, scopes),
        "curves": {
            "roc": {head: roc_points(*one) for head, one in ranked.items()},
            "pr": {head: precision_recall_points(*one) for head, one in ranked.items()},
            "sweep": {
                "direction": abstention_sweep(*events["direction"]),
                "touch_either_1": threshold_sweep(*events["touch_either_1"]),
                "win_long": threshold_sweep(*events["win_long"]),
                "win_short": threshold_sweep(*events["win_short"]),
            },
        },
    }


def _of_every_row(answers: LstmAnswers, held: HeldOut, scopes: Scopes) -> Json:
    """Return figures that training's report leaves out: direction without abstaining, votes up, the CRPS."""
    sample, rose = Sample(held.entry, scopes.resamples, scopes.seed), held.direction > 0
    served = served_quantiles(answers, held)
    five = np.sort(np.concatenate((served, answers.quantiles[:, [1, 3]]), axis=1), axis=1)
    scale = held.atr / held.close
    mine, usual = (quantile_crps(one, QUANTILES, held.change) * scale for one in (five, held.rolling))
    votes = classified(sample, answers.vote > 0, rose)
    found = {
        "accuracy": sample.ratio(((answers.probability_up > 0.5) == rose).astype(np.float64)),
        "baseline_base_rate_accuracy": sample.ratio(((held.rate_direction > 0.5) == rose).astype(np.float64)),
        "crps_ratio": sample.mean_of_ratios(mine, usual, held.place),
    }
    if (answers.vote > 0).any():
        found |= {f"direction_{name}": votes[name] for name in ("precision", "recall", "f1")}
    return published(found)


def patchtst_part(probability: Floats, held: HeldOut, told: Rivals, scopes: Scopes) -> Json:
    """Return what is published of (n, 3) calibrated probabilities of up, flat and down."""

    def judged(rows: Rows) -> Json:
        own = taken(held, rows)
        found = judge_patchtst(probability[rows], own, scopes.names, **scopes.bootstrap)
        rivals = patchtst_rival_figures(taken(told, rows), own, **scopes.bootstrap)
        return found | {"pooled": found["pooled"] | rivals}

    figures = _by_scope(judged, held, scopes)
    rows = np.isin(held.place, scopes.counted)
    probability, held, told = probability[rows], taken(held, rows), taken(told, rows)
    said = {
        name: (probability[:, column], (held.classes == column).astype(np.float64))
        for column, name in enumerate(("up", "flat", "down"))
    }
    events = {head: (one, truth > 0) for head, (one, truth) in said.items()}
    return {
        "figures": figures,
        "against": tested(patchtst_contests(probability, held, told), held, scopes.names),
        "reliability": _reliabilities(Sample(held.entry, scopes.resamples, scopes.seed), said),
        "curves": {
            "roc": {head: roc_points(*one) for head, one in events.items()},
            "pr": {head: precision_recall_points(*one) for head, one in events.items()},
        },
    }


def _by_scope(judged: Callable[[Rows], Json], held: HeldOut, scopes: Scopes) -> Json:
    """Return the figures of all counted series, of the reference five, and of each series, counted or not."""
    counted, five = np.isin(held.place, scopes.counted), np.isin(held.place, scopes.five)
    every = judged(np.ones(len(held), np.bool_))
    found: Json = {"all": every["pooled"] if counted.all() else judged(counted)["pooled"]}
    if five.any():
        found["reference_five"] = found["all"] if (five == counted).all() else judged(five)["pooled"]
    return found | {"by_symbol": every["by_symbol"]}


def _lstm_heads(answers: LstmAnswers, held: HeldOut) -> dict[str, tuple[Floats, Floats]]:
    """Return probability and outcome of each head that is shown."""
    return {
        "touch_either_1": (answers.touch_either[:, 0], held.either),
        "touch_up_1": (answers.touch_up[:, 0], held.touch[:, 0]),
        "touch_down_1": (answers.touch_down[:, 0], held.touch[:, held.touch.shape[1] // 2]),
        "win_long": (answers.win_long, held.win[:, 0]),
        "win_short": (answers.win_short, held.win[:, 1]),
        "direction": (answers.probability_up, held.direction),
    }


def _reliabilities(sample: Sample, said: Mapping[str, tuple[Floats, Floats]]) -> Json:
    return {head: [one.as_dict() for one in reliability(sample, *pair)] for head, pair in said.items()}


def _coverage(answers: LstmAnswers, held: HeldOut, sample: Sample, scopes: Scopes) -> Json:
    """Return the coverage of the served 90 % intervals by quintile of volatility, and by month of each series."""
    within = inside(answers.low, answers.high, held.close + held.change * held.atr)
    quintiles, spread = coverage_by_volatility(sample, within, volatility_quintiles(held.atr, held.close, held.place))
    by_symbol, by_month = {}, {}
    for place in np.unique(held.place):
        rows, name = held.place == place, scopes.names[place]
        own = Sample(held.entry[rows], scopes.resamples, scopes.seed)
        quintile = volatility_quintiles(held.atr[rows], held.close[rows], held.place[rows])
        by_symbol[name] = _quintiles(*coverage_by_volatility(own, within[rows], quintile)) | {
            "spread_by_chance": round(spread_by_chance(int(rows.sum()), float(within[rows].mean()), scopes.seed), 6),
            "lowest_rolling": finite(round(lowest_rolling(within[rows], held.entry[rows]), 6)),
        }
        months, figures = coverage_by_month(own, within[rows], held.entry[rows])
        by_month[name] = [{"month": month} | one.as_dict() for month, one in zip(months, figures, strict=True)]
    return _quintiles(quintiles, spread) | {"by_symbol": by_symbol, "by_month": by_month}


def _quintiles(figures: Sequence[Figure], spread: Figure) -> Json:
    return {"by_quintile": [one.as_dict() for one in figures], "quintile_spread": spread.as_dict()}
