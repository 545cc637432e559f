"""What a symbol loses when training never saw it: two bundles on the same rows of that symbol, each draw paired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.card import ModelCard
from serving.evaluation.held_out import HeldOut, taken
from serving.evaluation.lstm import SERVED_LEVELS, served_quantiles
from serving.evaluation.metrics import Figure, Sample, brier, pinball
from serving.evaluation.study.sections import Scopes
from serving.forecasting import LstmAnswers

__all__ = ["left_out_part"]

Floats = NDArray[np.float64]
Json = dict[str, Any]


def left_out_part(
    full: LstmAnswers, others: Sequence[tuple[ModelCard, LstmAnswers]], held: HeldOut, scopes: Scopes
) -> Json:
    """Return the figures of both bundles and their difference, for each symbol that the other never saw.

    Parameters
    ----------
    full
        Answers of the bundle that is judged.
    others
        Cards and answers of bundles trained without some symbols, to the same held-out rows.
    """
    by_symbol: Json = {}
    for card, answers in others:
        for place in scopes.counted:
            rows, symbol = held.place == place, scopes.names[place]
            if symbol in card.universe or not rows.any():
                continue
            sample = Sample(held.entry[rows], scopes.resamples, scopes.seed)
            by_symbol[symbol] = _compared(sample, taken(full, rows), taken(answers, rows), taken(held, rows)) | {
                "bundle": f"{card.model_id} {card.version}"
            }
    return {"by_symbol": by_symbol}


def _compared(sample: Sample, full: LstmAnswers, other: LstmAnswers, held: HeldOut) -> Json:
    """Return each figure of both, and the other's less the full one's."""
    scale = held.atr / held.close
    usual = pinball(held.rolling_served, SERVED_LEVELS, held.change) * scale
    widths = [pinball(served_quantiles(answers, held), SERVED_LEVELS, held.change) * scale for answers in (full, other)]
    touched = [answers.touch_either[:, 0] for answers in (full, other)]
    losses = [brier(said, held.either) for said in touched]
    climate = brier(held.climate_either, held.either)
    came = held.either > 0
    return {
        "pinball_ratio": _sides(
            sample.ratio(widths[0], usual),
            sample.ratio(widths[1], usual),
            sample.ratio(widths[1] - widths[0], usual),
        ),
        "either_touch_auc": _sides(
            sample.auc(touched[0], came),
            sample.auc(touched[1], came),
            sample.auc_difference(touched[1], touched[0], came),
        ),
        "either_touch_skill_over_climatology": _sides(
            sample.skill(losses[0], climate),
            sample.skill(losses[1], climate),
            sample.ratio(losses[0] - losses[1], climate),
        ),
    }


def _sides(full: Figure, other: Figure, difference: Figure) -> Json:
    return {"full": full.as_dict(), "left_out": other.as_dict(), "difference": difference.as_dict()}
