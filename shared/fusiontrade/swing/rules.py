"""Whether a swing prediction is traded: every rule that fails gives its own reason, and all that fail are told.

Always true here: a rule refuses or stays silent, it never turns a refusal into a trade or one direction into another;
a prediction without a direction (HOLD) is not traded and says so. What is not a number, or contradicts itself, is an
error and no HOLD. Pure: no I/O, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Claim", "Limits", "Refusal", "Rule", "Situation", "refusals", "timeframe_score"]


class Rule(StrEnum):
    """Why a prediction was not traded; the value is the word on the wire."""

    HOLD = "hold"
    CONFIDENCE = "confidence"
    RETURN = "return"
    ALIGNMENT = "alignment"
    AGREEMENT = "agreement"
    MARKET_CLOSED = "market_closed"
    DAILY_LOSS = "daily_loss"
    EXPOSURE = "exposure"
    COOL_DOWN = "cool_down"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule that failed, and the sentence that tells it with its numbers."""

    rule: Rule
    told: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules compare with.

    Parameters
    ----------
    confidence
        Least confidence, 0 to 1.
    expected_return
        Least size of the expected 3-day return, a fraction.
    daily_loss
        Loss of a day, as a fraction of the equity it began with, from which on nothing is opened; 0: any loss.
    exposure
        Most that all positions together may be worth, long and short added, as a fraction of the equity.
    cool_down
        Sessions after a stop in a symbol during which it is left alone.
    """

    confidence: float = 0.65
    expected_return: float = 0.005
    daily_loss: float = 0.03
    exposure: float = 1.0
    cool_down: int = 3

    def __post_init__(self) -> None:
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence}")
        for name in ("expected_return", "daily_loss", "exposure"):
            if not (value := getattr(self, name)) >= 0.0:
                raise ValueError(f"{name} must be a fraction, 0 or more, got {value}")
        if self.cool_down < 0:
            raise ValueError(f"cool_down must be a number of sessions, 0 or more, got {self.cool_down}")


@dataclass(frozen=True, slots=True)
class Claim:
    """What the ensemble says of a symbol.

    Parameters
    ----------
    direction
        +1 to buy, -1 to sell, 0 to do neither; never against the sign of ``expected_return``.
    confidence
        The veto's probability that the trade wins, 0 to 1.
    expected_return
        Of the ensemble over 3 sessions, a fraction.
    stockformer, tft
        The 3-day returns of both models.
    alignment
        -1, 0 or +1 of each timeframe.
    """

    direction: int
    confidence: float
    expected_return: float
    stockformer: float
    tft: float
    alignment: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"direction must be -1, 0 or 1, got {self.direction}")
        for name in ("confidence", "expected_return", "stockformer", "tft"):
            if not math.isfinite(value := getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, got {value}: an error is no HOLD")
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if self.direction * self.expected_return < 0:
            raise ValueError(
                f"direction must be the sign of expected_return, got {self.direction} and {self.expected_return}"
            )
        if wrong := [vote for vote in self.alignment if vote not in (-1, 0, 1)]:
            raise ValueError(f"alignment must be -1, 0 or 1 of each timeframe, got {wrong[0]}: an error is no vote")


@dataclass(frozen=True, slots=True)
class Situation:
    """What the account and the market are like when the decision is made.

    Parameters
    ----------
    market_open
        Whether the market the order goes to has a session that the order can be filled in.
    day_return
        Of the equity since the day began, a fraction.
    exposure
        Worth of all positions, long and short added, over the equity.
    sessions_since_stop
        Since the newest stop in this symbol; None where there was none.
    """

    market_open: bool = True
    day_return: float = 0.0
    exposure: float = 0.0
    sessions_since_stop: int | None = None

    def __post_init__(self) -> None:
        for name in ("day_return", "exposure"):
            if not math.isfinite(value := getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, got {value}: what is not known permits nothing")
        if self.exposure < 0.0:
            raise ValueError(f"exposure must be 0 or more, got {self.exposure}: shorts add to it")
        if self.sessions_since_stop is not None and self.sessions_since_stop < 0:
            raise ValueError(f"sessions_since_stop must be 0 or more, or None, got {self.sessions_since_stop}")


def timeframe_score(alignment: Sequence[int]) -> float:
    """Return the mean of the timeframes' votes, -1 to +1; 0 without any."""
    return sum(alignment) / len(alignment) if alignment else 0.0


def refusals(claim: Claim, situation: Situation, limits: Limits | None = None) -> tuple[Refusal, ...]:
    """Return every rule that speaks against the trade, in a fixed order; an empty tuple lets it pass."""
    limits = limits or Limits()
    return (*_of_claim(claim, limits), *_of_situation(situation, limits))


def _of_claim(claim: Claim, limits: Limits) -> Iterator[Refusal]:
    if claim.direction == 0:
        yield Refusal(Rule.HOLD, "the ensemble says HOLD")
    if claim.confidence < limits.confidence:
        yield Refusal(Rule.CONFIDENCE, f"confidence {claim.confidence:.2f} is below {limits.confidence:.2f}")
    if abs(claim.expected_return) < limits.expected_return:
        told = f"expected 3-day return {claim.expected_return:+.2%} is smaller than {limits.expected_return:.2%}"
        yield Refusal(Rule.RETURN, told)
    score = timeframe_score(claim.alignment)
    if claim.direction * score < 0:
        yield Refusal(Rule.ALIGNMENT, f"timeframes point the other way (score {score:+.2f})")
    if claim.stockformer * claim.tft <= 0:
        told = f"StockFormer ({claim.stockformer:+.2%}) and TFT ({claim.tft:+.2%}) do not agree in sign"
        yield Refusal(Rule.AGREEMENT, told)


def _of_situation(situation: Situation, limits: Limits) -> Iterator[Refusal]:
    if not situation.market_open:
        yield Refusal(Rule.MARKET_CLOSED, "the market has no session to fill the order in")
    if situation.day_return < 0 and situation.day_return <= -limits.daily_loss:
        told = f"the day has lost {-situation.day_return:.2%}, the limit is {limits.daily_loss:.2%}"
        yield Refusal(Rule.DAILY_LOSS, told)
    if situation.exposure >= limits.exposure:
        told = f"positions are worth {situation.exposure:.0%} of the equity, the limit is {limits.exposure:.0%}"
        yield Refusal(Rule.EXPOSURE, told)
    since = situation.sessions_since_stop
    if since is not None and since < limits.cool_down:
        told = f"stopped out {since} sessions ago, it rests for {limits.cool_down}"
        yield Refusal(Rule.COOL_DOWN, told)
