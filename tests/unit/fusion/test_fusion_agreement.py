"""The agreement algorithm: the table of the published rules, and its invariants as properties."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.errors import InferenceUnavailable
from fusiontrade.fusion.agreement import (
    WEIGHTS,
    LstmView,
    PatchTstView,
    Signal,
    TimeframeView,
    Verdict,
    fuse,
    vote_on,
)
from fusiontrade.market.timeframes import INTRADAY, Timeframe

LSTM = {1: 0.75, 0: 0.5, -1: 0.25}
CLASSES = {1: (0.5, 0.25, 0.25), 0: (0.25, 0.5, 0.25), -1: (0.25, 0.25, 0.5)}  # each: confidence 0.25


def lstm(vote: int, confidence: float = 0.5) -> LstmView:
    return LstmView(LSTM[vote], 0.375, 0.625, confidence * (vote or 1), 1.0)


def patchtst(vote: int) -> PatchTstView:
    return PatchTstView(*CLASSES[vote])


def view(timeframe: Timeframe, first: int | None, second: int | None, confidence: float = 0.5) -> TimeframeView:
    return TimeframeView(
        timeframe,
        None if first is None else lstm(first, confidence),
        None if second is None else patchtst(second),
    )


def views(votes: dict[str, tuple[int | None, int | None]]) -> list[TimeframeView]:
    return [view(Timeframe(name), *pair) for name, pair in votes.items()]


@pytest.mark.parametrize(
    ("first", "second", "agreement"),
    [
        (1, 1, 1.0),
        (-1, -1, 1.0),
        (1, -1, 0.0),
        (-1, 1, 0.0),
        (1, 0, 0.5),
        (0, -1, 0.5),
        (0, 0, 0.5),
        (1, None, 0.5),
        (None, -1, 0.5),
        (0, None, 0.5),
        (None, None, 0.5),
    ],
)
def test_agreement_of_a_timeframe(first: int | None, second: int | None, agreement: float) -> None:
    assert vote_on(view(Timeframe.H1, first, second)).agreement == agreement


@pytest.mark.parametrize(
    ("probability", "vote"), [(0.4, -1), (0.45, 0), (0.5, 0), (0.55, 0), (0.56, 1), (0.44, -1), (1.0, 1), (0.0, -1)]
)
def test_lstm_abstains_inside_its_band_bounds_included(probability: float, vote: int) -> None:
    assert LstmView(probability, 0.45, 0.55, 0.1, 1.0).vote == vote


@pytest.mark.parametrize(
    ("classes", "vote", "confidence"),
    [
        ((0.5, 0.3, 0.2), 1, 0.25),
        ((0.2, 0.3, 0.5), -1, 0.25),
        ((0.1, 0.8, 0.1), 0, 0.7),
        ((1.0, 0.0, 0.0), 1, 1.0),
        ((1 / 3, 1 / 3, 1 / 3), 0, 0.0),
        ((0.4, 0.2, 0.4), 0, 0.1),
        ((0.4, 0.4, 0.2), 0, 0.1),
    ],
)
def test_patchtst_votes_for_its_strictly_likeliest_class(
    classes: tuple[float, float, float], vote: int, confidence: float
) -> None:
    said = PatchTstView(*classes)
    assert said.vote == vote
    assert said.confidence == pytest.approx(confidence, abs=1e-12)


@pytest.mark.parametrize("classes", [(0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.1, 0.8, 0.1)])
def test_patchtst_that_abstains_votes_for_nothing_and_keeps_its_confidence(classes: tuple[float, float, float]) -> None:
    said = PatchTstView(*classes, abstains=True)
    assert said.vote == 0
    assert said.confidence == PatchTstView(*classes).confidence


@pytest.mark.parametrize(("change", "confidence"), [(0.0, 0.0), (0.2, 0.5), (-0.2, 0.5), (0.4, 1.0), (-3.0, 1.0)])
def test_lstm_confidence_is_the_change_against_its_scale(change: float, confidence: float) -> None:
    assert LstmView(0.5, 0.4, 0.6, change, 0.4).confidence == confidence


def test_confidences_blend_sixty_to_forty() -> None:
    assert vote_on(view(Timeframe.H1, 1, 1)).confidence == pytest.approx(0.6 * 0.5 + 0.4 * 0.25)


def test_confidence_is_the_lstms_alone_where_patchtst_is_missing() -> None:
    assert vote_on(view(Timeframe.H1, 1, None)).confidence == 0.5


@pytest.mark.parametrize(
    ("first", "second", "blended"), [(1, -1, 1), (-1, 1, -1), (0, 1, 1), (0, -1, -1), (1, 0, 1), (None, -1, -1)]
)
def test_blended_vote_follows_the_lstm_unless_it_abstains(first: int | None, second: int, blended: int) -> None:
    assert vote_on(view(Timeframe.H1, first, second)).blended == blended


@pytest.mark.parametrize(
    ("votes", "primary", "secondary", "verdict"),
    [
        ({"15m": (1, 1), "30m": (1, 1), "1h": (1, 1), "4h": (1, 1)}, "BUY", "BUY", Verdict.BUY),
        ({"15m": (-1, -1), "30m": (0, 0), "1h": (-1, 0), "4h": (0, -1)}, "SELL", "SELL", Verdict.SELL),
        ({"15m": (0, 0), "30m": (0, 0), "1h": (0, 0), "4h": (0, 0)}, "HOLD", "HOLD", Verdict.HOLD),
        ({"15m": (1, -1), "30m": (1, -1), "1h": (1, -1), "4h": (1, -1)}, "BUY", "SELL", Verdict.DIVERGENT),
        ({"15m": (1, 0), "30m": (0, 0), "1h": (0, 0), "4h": (0, 0)}, "BUY", "HOLD", Verdict.DIVERGENT),
        ({"15m": (-1, 1), "30m": (-1, 1), "4h": (1, 1)}, "HOLD", "BUY", Verdict.DIVERGENT),
        ({"15m": (1, None), "1h": (1, None)}, "BUY", "N/A", Verdict.HOLD),
        ({"15m": (None, 1), "1h": (None, 1)}, "N/A", "BUY", Verdict.HOLD),
        ({"1h": (1, 1), "4h": (None, None)}, "BUY", "BUY", Verdict.BUY),
        ({"1h": (1, None), "4h": (None, 1)}, "BUY", "BUY", Verdict.BUY),
    ],
)
def test_verdict_needs_both_models(
    votes: dict[str, tuple[int | None, int | None]], primary: str, secondary: str, verdict: Verdict
) -> None:
    fusion = fuse(views(votes))
    assert (fusion.primary, fusion.secondary, fusion.verdict) == (Signal(primary), Signal(secondary), verdict)
    assert fusion.confluence == (verdict in (Verdict.BUY, Verdict.SELL))


def test_weights_tie_exactly_where_the_long_timeframe_meets_two_short_ones() -> None:
    assert fuse(views({"4h": (1, 1), "30m": (-1, 1), "15m": (-1, 1)})).primary is Signal.HOLD


def test_score_adds_confidence_agreement_and_weight_of_the_dominant_timeframes() -> None:
    fusion = fuse(views({"15m": (-1, -1), "30m": (1, 0), "1h": (1, 1), "4h": (1, 1)}))
    expected = 55 + 50 * (0.4 * 1.0 * 0.35 + 0.4 * 1.0 * 0.30 + 0.4 * 0.5 * 0.20)
    assert fusion.verdict is Verdict.BUY
    assert fusion.score == pytest.approx(expected)


def test_weights_are_renormalised_over_the_timeframes_that_answered() -> None:
    alone = fuse(views({"15m": (1, 1), "30m": (None, None), "1h": (None, None), "4h": (None, None)}))
    assert alone.score == pytest.approx(55 + 50 * 0.4)
    assert alone.score == fuse(views({"15m": (1, 1)})).score


@pytest.mark.parametrize("votes", [{"1h": (0, 0)}, {"1h": (1, -1)}, {"1h": (1, None)}])
def test_score_is_thirty_without_a_direction(votes: dict[str, tuple[int | None, int | None]]) -> None:
    assert fuse(views(votes)).score == 30.0


@pytest.mark.parametrize(
    ("confidence", "score", "text"),
    [(1.0, 87.0, "STRONG SELL"), (0.7, 78.0, "STRONG SELL"), (0.5, 72.0, "MODERATE SELL"), (0.0, 57.0, "WEAK SELL")],
)
def test_verdict_text_grades_the_score(confidence: float, score: float, text: str) -> None:
    fusion = fuse([TimeframeView(tf, lstm(-1, confidence), PatchTstView(0.3, 0.3, 0.4)) for tf in INTRADAY])
    assert fusion.score == pytest.approx(score)
    assert fusion.text == text


@pytest.mark.parametrize(
    ("votes", "text"),
    [({"1h": (0, 0)}, "HOLD"), ({"1h": (1, -1)}, "DIVERGENT (HOLD)"), ({"1h": (1, 0)}, "DIVERGENT (HOLD)")],
)
def test_verdict_text_without_a_direction(votes: dict[str, tuple[int, int]], text: str) -> None:
    assert fuse(views(votes)).text == text


def test_a_model_missing_everywhere_is_said() -> None:
    assert fuse(views({"1h": (1, None)})).warnings == (
        "no PatchTST model answered on any timeframe: without its confirmation the verdict is HOLD",
    )
    assert fuse(views({"1h": (1, 1), "4h": (1, None)})).warnings == ()


def test_no_model_at_all_is_an_error_and_never_a_hold() -> None:
    with pytest.raises(InferenceUnavailable, match="no model answered"):
        fuse(views({"1h": (None, None), "4h": (None, None)}))
    with pytest.raises(InferenceUnavailable):
        fuse([])


def test_views_are_checked_at_the_door() -> None:
    with pytest.raises(ValueError, match="twice"):
        fuse([view(Timeframe.H1, 1, 1), view(Timeframe.H1, 1, 1)])
    with pytest.raises(ValueError, match="does not weigh"):
        fuse([view(Timeframe.D1, 1, 1)])
    with pytest.raises(ValueError, match="change_scale is 0"):
        LstmView(0.5, 0.4, 0.6, 0.1, 0.0)
    with pytest.raises(ValueError, match="swap the bounds"):
        LstmView(0.5, 0.6, 0.4, 0.1, 1.0)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("probability", "change", "scale", "named"),
    [
        (NAN, 0.1, 1.0, "probability_up is nan"),
        (1.5, 0.1, 1.0, "probability_up is 1.5"),
        (-0.1, 0.1, 1.0, "probability_up is -0.1"),
        (0.5, NAN, 1.0, "change is nan"),
        (0.5, INFINITY, 1.0, "change is inf"),
        (0.5, 0.1, NAN, "change_scale is nan"),
        (0.5, 0.1, INFINITY, "change_scale is inf"),
    ],
)
def test_a_number_that_is_none_is_an_error_and_never_a_hold(
    probability: float, change: float, scale: float, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        LstmView(probability, 0.4, 0.6, change, scale)


@pytest.mark.parametrize(
    ("classes", "named"),
    [((NAN, 0.5, 0.5), "up is nan"), ((0.5, -0.5, 1.0), "flat is -0.5"), ((0.0, 0.0, 1.1), "down is 1.1")],
)
def test_class_probabilities_outside_their_range_are_refused(classes: tuple[float, float, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PatchTstView(*classes)


def test_weights_are_the_published_ones() -> None:
    assert {str(timeframe): weight for timeframe, weight in WEIGHTS.items()} == {
        "4h": 35,
        "1h": 30,
        "30m": 20,
        "15m": 15,
    }


# Probabilities are multiples of 1/256, so that 1 − p is exact and a flip of signs is a flip of signs.
fractions = st.integers(0, 256).map(lambda numerator: numerator / 256)
lstm_views = st.builds(
    lambda p, low, width, change, scale: LstmView(p, low / 2, low / 2 + width / 2, change, scale),
    fractions,
    fractions,
    fractions,
    st.floats(-10, 10),
    st.floats(1e-3, 10),
)
patchtst_views = (
    st.tuples(st.integers(0, 64), st.integers(0, 64), st.integers(0, 64))
    .filter(any)
    .map(lambda parts: PatchTstView(*(part / sum(parts) for part in parts)))
)
view_lists = st.lists(
    st.builds(
        TimeframeView, st.sampled_from(INTRADAY), st.none() | lstm_views, st.none() | patchtst_views
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda said: said.timeframe,
).filter(lambda said: any(one.answered for one in said))  # fmt: skip


def flipped(said: TimeframeView) -> TimeframeView:
    first, second = said.lstm, said.patchtst
    return TimeframeView(
        said.timeframe,
        first
        and LstmView(
            1 - first.probability_up,
            1 - first.abstain_above,
            1 - first.abstain_below,
            -first.change,
            first.change_scale,
        ),
        second and PatchTstView(second.down, second.flat, second.up),
    )


@given(view_lists)
def test_score_is_bounded_and_fits_the_verdict(said: list[TimeframeView]) -> None:
    fusion = fuse(said)
    assert 0.0 <= fusion.score <= 100.0
    assert fusion.score >= 55.0 if fusion.confluence else fusion.score == 30.0
    assert all(0.0 <= vote.confidence <= 1.0 and vote.agreement in (0.0, 0.5, 1.0) for vote in fusion.votes)


@given(view_lists)
def test_flipping_every_sign_flips_the_verdict_and_keeps_the_score(said: list[TimeframeView]) -> None:
    fusion, mirrored = fuse(said), fuse([flipped(one) for one in said])
    opposite = {Verdict.BUY: Verdict.SELL, Verdict.SELL: Verdict.BUY}
    assert mirrored.verdict is opposite.get(fusion.verdict, fusion.verdict)
    assert mirrored.score == fusion.score
    assert [vote.blended for vote in mirrored.votes] == [-vote.blended for vote in fusion.votes]


@given(view_lists, st.randoms(use_true_random=False))
def test_order_of_timeframes_changes_nothing(said: list[TimeframeView], chance: random.Random) -> None:
    assert fuse(chance.sample(said, len(said))) == fuse(said)


@given(view_lists, st.floats(0, 5), st.floats(1, 4))
def test_more_confidence_never_lowers_the_score(said: list[TimeframeView], more: float, factor: float) -> None:
    surer = [
        dataclasses.replace(
            one,
            lstm=one.lstm
            and dataclasses.replace(one.lstm, change=one.lstm.change * factor + more * (one.lstm.change > 0)),
        )
        for one in said
    ]
    assert fuse(surer).verdict is fuse(said).verdict
    assert fuse(surer).score >= fuse(said).score


@given(view_lists)
def test_timeframes_without_a_model_change_nothing_but_their_own_row(said: list[TimeframeView]) -> None:
    absent = [TimeframeView(tf, None, None) for tf in INTRADAY if tf not in {one.timeframe for one in said}]
    fusion, padded = fuse(said), fuse([*said, *absent])
    assert (padded.score, padded.verdict, padded.primary) == (fusion.score, fusion.verdict, fusion.primary)
