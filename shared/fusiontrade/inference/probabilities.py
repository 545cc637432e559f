"""Online calibration of probabilities: each is moved along the logit scale by what came of earlier ones.

A probability of logit z becomes one of logit ``z + offset + slope * lean + bend * curve(lean)``, where the lean is z
less what is usual for its head: the offset mends probabilities that are too high or too low, the slope such that
promise too much at both ends, or too little, the bend such that are too high in the middle and too low at both ends,
or the other way round. A step for every outcome, the gradient of the log loss (online gradient descent; Zinkevich,
2003, over the parameters of Platt, 1999, and a square): ``offset += RATE * (came - probability)``, ``slope += RATE *
(came - probability) * lean``, ``bend += BEND_RATE * (came - probability) * curve(lean)``. Over T outcomes the mean of
(came - probability) is (change of the offset) / (RATE · T), and those of (came - probability) times the lean and its
curve likewise, whatever the market does, as long as none is at an end: probabilities are right on average, right on
average on both sides of usual, and near it as far from it, by construction.

Always true: what moves a forecast is made of outcomes that were known when it was made; the same outcomes in the same
order give the same; of two probabilities of a head the larger stays the larger. Pure: no I/O, no clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BEND_RATE", "FARTHEST", "RATE", "SHARPEST", "STEEPEST", "advance", "logits", "moved"]

Floats = NDArray[np.float64]

RATE = 0.005
"""Step of an offset and a slope per outcome, in logits for each unit of (came - probability)."""
BEND_RATE = 0.0025
"""The same of a bend: what it multiplies reaches from -1 to 3."""
FARTHEST = 2.0
"""Where an offset ends on either side, in logits."""
STEEPEST = 0.5
"""Where a slope ends on either side."""
SHARPEST = 0.1
"""Where a bend ends on either side: with the steepest slope, logits still rise by a tenth of what they rose."""
_WIDEST_LEAN = 2.0  # beyond it the curve is flat
_SURE = 1e-9  # probabilities of 0 and 1 have no logit


def logits(probability: ArrayLike) -> Floats:
    """Return the logits of probabilities of any shape, finite at 0 and 1 too; NaN stays NaN."""
    inner = np.clip(np.asarray(probability, np.float64), _SURE, 1.0 - _SURE)
    return np.asarray(np.log(inner / (1.0 - inner)), np.float64)


def moved(
    probability: ArrayLike, lean: ArrayLike, offset: ArrayLike, slope: ArrayLike, bend: ArrayLike = 0.0
) -> Floats:
    """Return the probabilities with ``offset + slope * lean + bend * curve(lean)`` added to their logits.

    Any shapes that broadcast. Where that is 0 a probability stays as it is, to the last bit; NaN stays NaN.
    """
    leaning = np.asarray(lean, np.float64)
    step = np.asarray(offset, np.float64) + np.asarray(slope, np.float64) * leaning
    step = step + np.asarray(bend, np.float64) * _curve(leaning)
    chances, steps = np.broadcast_arrays(np.asarray(probability, np.float64), step)
    inner = np.clip(chances, _SURE, 1.0 - _SURE)
    odds = inner / (1.0 - inner) * np.exp(steps)
    return np.where(steps == 0.0, chances, odds / (1.0 + odds))


def advance(
    offset: ArrayLike, slope: ArrayLike, bend: ArrayLike, *, lean: ArrayLike, probability: ArrayLike, came: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Return offsets, slopes and bends after forecasts of ``probability`` met their outcomes, 0 or 1; of one shape."""
    missed = np.asarray(came, np.float64) - np.asarray(probability, np.float64)
    leaning = np.asarray(lean, np.float64)
    offsets = np.asarray(offset, np.float64) + RATE * missed
    slopes = np.asarray(slope, np.float64) + RATE * missed * leaning
    bends = np.asarray(bend, np.float64) + BEND_RATE * missed * _curve(leaning)
    return (
        np.clip(offsets, -FARTHEST, FARTHEST),
        np.clip(slopes, -STEEPEST, STEEPEST),
        np.clip(bends, -SHARPEST, SHARPEST),
    )


def _curve(lean: Floats) -> Floats:
    """Return the square of leans up to two, less one: -1 at usual, 0 one logit from it, 3 two logits from it."""
    return np.square(np.clip(lean, -_WIDEST_LEAN, _WIDEST_LEAN)) - 1.0
