"""Rules, size and decision of the swing line."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.swing.decisions import decided
from fusiontrade.swing.rules import Claim, Limits, Rule, Situation, refusals, timeframe_score
from fusiontrade.swing.sizing import position_size

GOOD = Claim(1, 0.80, 0.012, 0.011, 0.013, (1, 1, 0, 0, -1))
CALM = Situation()
returns = st.floats(-0.2, 0.2)
votes = st.lists(st.sampled_from((-1, 0, 1)), min_size=5, max_size=5)


def claims() -> st.SearchStrategy[Claim]:
    made = st.builds(Claim, st.just(0), st.floats(0, 1), returns, returns, returns, votes)
    return st.builds(lambda one, held: one if held else replace(one, direction=sign(one)), made, st.booleans())


def sign(claim: Claim) -> int:
    return (claim.expected_return > 0) - (claim.expected_return < 0)


def situations() -> st.SearchStrategy[Situation]:
    since = st.none() | st.integers(0, 10)
    return st.builds(Situation, st.booleans(), st.floats(-0.1, 0.1), st.floats(0, 2), since)


def flipped(claim: Claim) -> Claim:
    alignment = [-vote for vote in claim.alignment]
    return Claim(-claim.direction, claim.confidence, -claim.expected_return, -claim.stockformer, -claim.tft, alignment)


@pytest.mark.parametrize(
    ("claim", "situation", "rule"),
    [
        (replace(GOOD, direction=0), CALM, Rule.HOLD),
        (replace(GOOD, confidence=0.649), CALM, Rule.CONFIDENCE),
        (replace(GOOD, expected_return=0.0049), CALM, Rule.RETURN),
        (replace(GOOD, alignment=(-1, 1, -1, 0, 0)), CALM, Rule.ALIGNMENT),
        (replace(GOOD, tft=-0.001), CALM, Rule.AGREEMENT),
        (GOOD, Situation(market_open=False), Rule.MARKET_CLOSED),
        (GOOD, Situation(day_return=-0.03), Rule.DAILY_LOSS),
        (GOOD, Situation(exposure=1.0), Rule.EXPOSURE),
        (GOOD, Situation(sessions_since_stop=2), Rule.COOL_DOWN),
    ],
)
def test_each_rule_fails_alone_with_its_own_reason(claim: Claim, situation: Situation, rule: Rule) -> None:
    (found,) = refusals(claim, situation)
    assert found.rule is rule
    assert found.told
    assert not decided(claim, situation).trade


def test_at_the_limits_a_claim_passes() -> None:
    claim = Claim(-1, 0.65, -0.005, -0.004, -0.006, (0, 0, 0, 0, 0))
    assert refusals(claim, Situation(day_return=-0.0299, exposure=0.99, sessions_since_stop=3)) == ()


def test_a_limit_of_no_loss_lets_nothing_follow_a_loss() -> None:
    strict = Limits(daily_loss=0.0)
    assert [one.rule for one in refusals(GOOD, Situation(day_return=-1e-6), strict)] == [Rule.DAILY_LOSS]
    assert refusals(GOOD, Situation(day_return=0.0), strict) == ()


def test_what_is_missing_is_an_error_and_no_hold() -> None:
    for name in ("confidence", "expected_return", "stockformer", "tft"):
        with pytest.raises(TypeError):
            replace(GOOD, **{name: None})


def test_every_rule_that_fails_is_told() -> None:
    claim = Claim(1, 0.1, 0.0, -0.01, 0.01, (-1, -1, -1, -1, -1))
    found = [one.rule for one in refusals(claim, Situation(False, -0.5, 3.0, 0))]
    assert found == [rule for rule in Rule if rule is not Rule.HOLD]
    assert len(decided(claim, CALM).reasons) == 4


def test_the_size_is_the_formula_of_the_specification() -> None:
    assert position_size(0.8, 0.01).fraction == pytest.approx(0.10 * 0.8 * 0.5)
    assert position_size(0.8, -0.05).fraction == pytest.approx(0.08)
    assert position_size(1.0, 0.02).fraction == 0.10
    assert position_size(0.0, 0.02).fraction == 0.0


def test_every_clamp_is_recorded_in_its_order() -> None:
    size = position_size(1.0, 0.02, exposure_left=0.06, cash_left=0.01, largest=0.08)
    assert size.fraction == 0.01
    assert [(one.reason, one.before, one.after) for one in size.clamps] == [
        ("position limit", 0.10, 0.08),
        ("exposure limit", 0.08, 0.06),
        ("cash", 0.06, 0.01),
    ]
    told = decided(GOOD, Situation(exposure=0.99)).reasons
    assert told == ("exposure limit: 1.00% instead of 4.80%",)


def test_what_is_no_number_permits_nothing() -> None:
    for wrong in (
        lambda: replace(GOOD, confidence=math.nan),
        lambda: replace(GOOD, direction=2),
        lambda: replace(GOOD, direction=math.nan),
        lambda: replace(GOOD, direction=-1),
        lambda: replace(GOOD, confidence=1.01),
        lambda: replace(GOOD, confidence=-0.01),
        lambda: replace(GOOD, tft=math.inf),
        lambda: replace(GOOD, alignment=(1, 1, math.nan, 1, 1)),
        lambda: replace(GOOD, alignment=(5,)),
        lambda: Situation(day_return=math.nan),
        lambda: Situation(exposure=math.inf),
        lambda: Situation(exposure=-0.1),
        lambda: Situation(sessions_since_stop=-1),
        lambda: position_size(0.7, math.nan),
        lambda: position_size(1.2, 0.01),
        lambda: position_size(0.7, 0.01, exposure_left=math.nan),
        lambda: Limits(confidence=65),
        lambda: Limits(cool_down=-1),
        lambda: Limits(daily_loss=math.nan),
    ):
        with pytest.raises(ValueError, match=r"must|no number"):
            wrong()


def test_without_timeframes_none_speaks_against_a_signal() -> None:
    assert timeframe_score(()) == 0.0
    assert refusals(replace(GOOD, alignment=()), CALM) == ()


@given(claims(), situations())
def test_a_mirrored_claim_is_judged_alike(claim: Claim, situation: Situation) -> None:
    here, there = decided(claim, situation), decided(flipped(claim), situation)
    assert [one.rule for one in here.refusals] == [one.rule for one in there.refusals]
    assert here.size == there.size
    assert here.direction == -there.direction


@given(claims(), situations(), st.floats(0, 1), st.floats(0, 1))
def test_risk_only_ever_shrinks_a_position(claim: Claim, situation: Situation, cash: float, more: float) -> None:
    free = position_size(claim.confidence, claim.expected_return)
    found = decided(claim, situation, cash_left=cash)
    assert 0.0 <= found.size.fraction <= min(free.fraction, 0.10)
    assert found.trade <= (claim.direction != 0)
    if not found.trade and free.fraction and cash > 0:
        assert found.reasons
    worse = replace(situation, exposure=situation.exposure + more)
    assert decided(claim, worse, cash_left=cash).size.fraction <= found.size.fraction
    assert all(one.after < one.before for one in found.size.clamps)
