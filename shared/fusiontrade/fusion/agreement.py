"""How two models on four timeframes become one score and one verdict.

Always true here: no input, no output, no clock; the order of the timeframes changes nothing; flipping the sign of
every vote flips the verdict and keeps the score; more confidence never lowers the score; the score lies in [0, 100].
Weighted votes are counted in whole percent, so that a tie (4h against 30m and 15m together) is exactly a tie.

Chosen on purpose: a model that is missing is not a model that says HOLD. It is shown as ``N/A``; where no PatchTST
answers on any timeframe (or no LSTM does) nothing can be confirmed, so the verdict is HOLD and a warning says why;
where no model answers at all `InferenceUnavailable` is raised, because an error never looks like HOLD.
The formulas are those of the published algorithm; ``docs/decisions/010`` and ``011`` say where it left a choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fusiontrade.errors import InferenceUnavailable
from fusiontrade.market.timeframes import Timeframe

__all__ = [
    "WEIGHTS",
    "Fusion",
    "LstmView",
    "PatchTstView",
    "Signal",
    "TimeframeView",
    "TimeframeVote",
    "Verdict",
    "fuse",
    "vote_on",
]

WEIGHTS: dict[Timeframe, int] = {Timeframe.H4: 35, Timeframe.H1: 30, Timeframe.M30: 20, Timeframe.M15: 15}
"""Weight of each timeframe in percent, before renormalisation over those that answered."""

LSTM_SHARE = 0.60
PATCHTST_SHARE = 0.40
BASE_SCORE = 55.0
NO_DIRECTION_SCORE = 30.0
AGREEMENT_POINTS = 50.0
STRONG_FROM = 75.0
MODERATE_FROM = 60.0


class Signal(StrEnum):
    """A vote in words; ``N/A`` is a model that did not answer."""

    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"
    MISSING = "N/A"

    @classmethod
    def of(cls, vote: float | None) -> Signal:
        """Return the word for the sign of ``vote``; None is a missing model."""
        if vote is None:
            return cls.MISSING
        return cls.BUY if vote > 0 else cls.SELL if vote < 0 else cls.HOLD


class Verdict(StrEnum):
    """What both models together say; only BUY and SELL have targets."""

    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"
    DIVERGENT = "DIVERGENT (HOLD)"

    @property
    def direction(self) -> int:
        """+1 for BUY, −1 for SELL, 0 otherwise."""
        return {Verdict.BUY: 1, Verdict.SELL: -1}.get(self, 0)


@dataclass(frozen=True)
class LstmView:
    """What an LSTM bundle says about one timeframe.

    Parameters
    ----------
    probability_up
        Calibrated probability that the next bar closes above the last, in [0, 1].
    abstain_below, abstain_above
        The band of that probability inside which (bounds included) the direction head abstains.
    change
        Predicted change of the next bar's close, in ATR.
    change_scale
        95th percentile of |predicted change| on the calibration slice, in ATR; positive.
    """

    probability_up: float
    abstain_below: float
    abstain_above: float
    change: float
    change_scale: float

    def __post_init__(self) -> None:
        _check_probability("probability_up", self.probability_up)
        if not math.isfinite(self.change):
            raise ValueError(f"change is {self.change}: a forecast is a finite number")
        if not 0 < self.change_scale < math.inf:
            raise ValueError(f"change_scale is {self.change_scale}: the bundle must store a positive scale")
        if not self.abstain_below <= self.abstain_above:
            raise ValueError(
                f"abstain_below is {self.abstain_below}, above abstain_above {self.abstain_above}: swap the bounds"
            )

    @property
    def vote(self) -> int:
        """+1, −1, or 0 inside the abstention band."""
        return int(self.probability_up > self.abstain_above) - int(self.probability_up < self.abstain_below)

    @property
    def confidence(self) -> float:
        """Magnitude of the predicted change against its scale, in [0, 1]."""
        return min(1.0, abs(self.change) / self.change_scale)


@dataclass(frozen=True)
class PatchTstView:
    """Calibrated class probabilities of a PatchTST bundle; they sum to 1. One that ``abstains`` has no vote."""

    up: float
    flat: float
    down: float
    abstains: bool = False

    def __post_init__(self) -> None:
        for name in ("up", "flat", "down"):
            _check_probability(name, getattr(self, name))

    @property
    def vote(self) -> int:
        """+1 or −1 where that class is strictly the likeliest; 0 else (a tie is no direction) and where it abstains."""
        if self.abstains:
            return 0
        return int(self.up > max(self.flat, self.down)) - int(self.down > max(self.flat, self.up))

    @property
    def confidence(self) -> float:
        """The largest class probability, rescaled from [1/3, 1] to [0, 1]."""
        return min(1.0, max(0.0, (max(self.up, self.flat, self.down) * 3.0 - 1.0) / 2.0))


@dataclass(frozen=True)
class TimeframeView:
    """What the models say about one timeframe; a model that did not answer is None."""

    timeframe: Timeframe
    lstm: LstmView | None
    patchtst: PatchTstView | None

    @property
    def answered(self) -> bool:
        """Whether any model answered."""
        return self.lstm is not None or self.patchtst is not None


@dataclass(frozen=True)
class TimeframeVote:
    """The votes of one timeframe.

    Parameters
    ----------
    lstm, patchtst
        Each model's vote: +1, −1, 0, or None where it is missing.
    lstm_confidence, patchtst_confidence
        Each model's confidence in [0, 1], or None where it is missing.
    blended
        Sign of 0.60·LSTM + 0.40·PatchTST of the votes (the one that is there, where one is missing).
    confidence
        The same blend of the confidences, in [0, 1]; 0 where no model answered.
    agreement
        1.0 same direction, 0.5 one or both missing or HOLD, 0.0 contradiction.
    """

    timeframe: Timeframe
    lstm: int | None
    patchtst: int | None
    lstm_confidence: float | None
    patchtst_confidence: float | None
    blended: int
    confidence: float
    agreement: float


@dataclass(frozen=True)
class Fusion:
    """The fused answer; ``votes`` are ordered from the longest timeframe to the shortest."""

    votes: tuple[TimeframeVote, ...]
    primary: Signal
    secondary: Signal
    verdict: Verdict
    score: float
    warnings: tuple[str, ...]

    @property
    def confluence(self) -> bool:
        """Whether both models point in the same direction."""
        return self.verdict.direction != 0

    @property
    def text(self) -> str:
        """The verdict as clients show it: ``STRONG BUY``, ``HOLD``, ``DIVERGENT (HOLD)`` and so on."""
        if not self.confluence:
            return self.verdict.value
        strength = "STRONG" if self.score >= STRONG_FROM else "MODERATE" if self.score >= MODERATE_FROM else "WEAK"
        return f"{strength} {self.verdict.value}"


def fuse(views: Sequence[TimeframeView]) -> Fusion:
    """Fuse what the models say about each timeframe.

    Parameters
    ----------
    views
        One view a timeframe, in any order; timeframes that did not answer may be left out or have no models.

    Raises
    ------
    InferenceUnavailable
        If no model answered on any timeframe.
    ValueError
        If a timeframe comes twice or has no weight.
    """
    _check(views)
    votes = tuple(vote_on(view) for view in sorted(views, key=lambda view: -WEIGHTS[view.timeframe]))
    answered = [vote for vote in votes if vote.lstm is not None or vote.patchtst is not None]
    if not answered:
        raise InferenceUnavailable("no model answered on any timeframe; there is no forecast to give")
    primary = _weighted_sign([(WEIGHTS[vote.timeframe], vote.lstm) for vote in answered])
    secondary = _weighted_sign([(WEIGHTS[vote.timeframe], vote.patchtst) for vote in answered])
    verdict = _verdict(primary, secondary)
    return Fusion(
        votes=votes,
        primary=Signal.of(primary),
        secondary=Signal.of(secondary),
        verdict=verdict,
        score=_score(answered, verdict.direction),
        warnings=_missing_everywhere(primary, secondary),
    )


def vote_on(view: TimeframeView) -> TimeframeVote:
    """Return the votes, confidences and agreement of one timeframe."""
    lstm = None if view.lstm is None else view.lstm.vote
    patchtst = None if view.patchtst is None else view.patchtst.vote
    lstm_confidence = None if view.lstm is None else view.lstm.confidence
    patchtst_confidence = None if view.patchtst is None else view.patchtst.confidence
    return TimeframeVote(
        timeframe=view.timeframe,
        lstm=lstm,
        patchtst=patchtst,
        lstm_confidence=lstm_confidence,
        patchtst_confidence=patchtst_confidence,
        blended=_sign(_blend(lstm, patchtst)),
        confidence=_blend(lstm_confidence, patchtst_confidence),
        agreement=_agreement(lstm or 0, patchtst or 0),
    )


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:  # NaN as well: every comparison with it is false, which would read as HOLD
        raise ValueError(f"{name} is {value}: a probability lies in [0, 1]")


def _check(views: Sequence[TimeframeView]) -> None:
    timeframes = [view.timeframe for view in views]
    if len(set(timeframes)) < len(timeframes):
        raise ValueError(f"views name a timeframe twice: {timeframes}; give one view a timeframe")
    if stray := [timeframe for timeframe in timeframes if timeframe not in WEIGHTS]:
        raise ValueError(f"views name {stray}, which the fusion does not weigh; use {list(WEIGHTS)}")


def _sign(value: float) -> int:
    return int(value > 0) - int(value < 0)


def _blend(lstm: float | None, patchtst: float | None) -> float:
    """Return 0.60·LSTM + 0.40·PatchTST, the one that is there where one is missing, 0 where both are."""
    if lstm is None:
        return 0.0 if patchtst is None else float(patchtst)
    return float(lstm) if patchtst is None else LSTM_SHARE * lstm + PATCHTST_SHARE * patchtst


def _agreement(lstm: int, patchtst: int) -> float:
    return 0.5 + 0.5 * lstm * patchtst


def _weighted_sign(votes: Sequence[tuple[int, int | None]]) -> int | None:
    """Return the sign of the weighted sum of the votes that are there, None where there are none."""
    given = [weight * vote for weight, vote in votes if vote is not None]
    return _sign(sum(given)) if given else None


def _verdict(primary: int | None, secondary: int | None) -> Verdict:
    if primary is None or secondary is None:
        return Verdict.HOLD
    if primary != secondary:
        return Verdict.DIVERGENT
    return {1: Verdict.BUY, -1: Verdict.SELL, 0: Verdict.HOLD}[primary]


def _score(answered: Sequence[TimeframeVote], direction: int) -> float:
    if direction == 0:
        return NO_DIRECTION_SCORE
    total = sum(WEIGHTS[vote.timeframe] for vote in answered)
    points = math.fsum(
        vote.confidence * vote.agreement * WEIGHTS[vote.timeframe] / total * AGREEMENT_POINTS
        for vote in answered
        if vote.blended == direction
    )
    return min(100.0, BASE_SCORE + points)


def _missing_everywhere(primary: int | None, secondary: int | None) -> tuple[str, ...]:
    absent = [name for name, sign in (("LSTM", primary), ("PatchTST", secondary)) if sign is None]
    return tuple(
        f"no {name} model answered on any timeframe: without its confirmation the verdict is HOLD" for name in absent
    )
