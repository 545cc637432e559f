"""Targets: distances from the entry, which timeframe's ATR they use, and what stands on HOLD."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.fusion.agreement import Fusion, LstmView, PatchTstView, TimeframeView, fuse
from fusiontrade.fusion.targets import Outlook, Targets, targets_of
from fusiontrade.market.timeframes import Timeframe

OUTLOOKS = {
    Timeframe.M15: Outlook(0.5, 0.40, 0.35, 4),
    Timeframe.H1: Outlook(1.0, 0.41, 0.36, 4),
    Timeframe.H4: Outlook(2.0, 0.42, 0.37, 6),
}


def fusion_of(**votes: int) -> Fusion:
    """``h1=1``: both models vote so on that timeframe."""
    names = {"m15": Timeframe.M15, "h1": Timeframe.H1, "h4": Timeframe.H4}
    classes = {1: (0.6, 0.2, 0.2), 0: (0.2, 0.6, 0.2), -1: (0.2, 0.2, 0.6)}
    return fuse(
        [
            TimeframeView(names[name], LstmView(0.5 + vote / 4, 0.4, 0.6, vote / 2, 1.0), PatchTstView(*classes[vote]))
            for name, vote in votes.items()
        ]
    )


def test_buy_takes_distances_from_the_longest_timeframe_that_votes_for_it() -> None:
    targets = targets_of(fusion_of(m15=1, h1=1, h4=0), OUTLOOKS, entry=100.0)
    assert targets == Targets(
        timeframe=Timeframe.H1,
        entry=100.0,
        tp1=102.0,
        tp2=103.0,
        tp3=104.0,
        sl=98.5,
        atr=1.0,
        p_win=0.41,
        horizon_bars=4,
    )


def test_sell_mirrors_the_distances_and_takes_the_short_chance() -> None:
    targets = targets_of(fusion_of(m15=-1, h1=-1, h4=-1), OUTLOOKS, entry=100.0)
    assert (targets.sl, targets.tp1, targets.tp2, targets.tp3) == (103.0, 96.0, 94.0, 92.0)
    assert (targets.timeframe, targets.p_win, targets.horizon_bars) == (Timeframe.H4, 0.37, 6)


def test_hold_has_no_prices_but_the_longest_timeframes_atr() -> None:
    targets = targets_of(fusion_of(m15=0, h1=0, h4=0), OUTLOOKS, entry=100.0)
    assert targets == Targets(timeframe=Timeframe.H4, atr=2.0, horizon_bars=6)


def test_hold_takes_the_longest_timeframe_that_answered() -> None:
    answered = {Timeframe.M15: OUTLOOKS[Timeframe.M15], Timeframe.H1: OUTLOOKS[Timeframe.H1]}
    assert targets_of(fusion_of(m15=0, h1=0), answered, entry=100.0).timeframe is Timeframe.H1


def test_a_timeframe_without_atr_is_passed_over() -> None:
    answered = {Timeframe.M15: OUTLOOKS[Timeframe.M15]}
    assert targets_of(fusion_of(m15=1, h1=1), answered, entry=100.0).atr == 0.5
    assert targets_of(fusion_of(m15=1, h1=1), {}, entry=100.0) == Targets()


@pytest.mark.parametrize("atr", [0.0, -1.0, float("nan"), float("inf")])
def test_an_atr_that_is_no_unit_of_measure_is_refused(atr: float) -> None:
    with pytest.raises(ValueError, match=f"atr is {atr}"):
        Outlook(atr)


@given(st.floats(1e-4, 1e5), st.floats(1e-3, 0.2), st.sampled_from([1, -1]))
def test_stop_and_targets_lie_on_their_own_sides(entry: float, relative: float, direction: int) -> None:
    targets = targets_of(fusion_of(h1=direction), {Timeframe.H1: Outlook(entry * relative)}, entry)
    assert None not in (targets.sl, targets.tp1, targets.tp2, targets.tp3)
    along = [direction * (price - entry) for price in (targets.sl, targets.tp1, targets.tp2, targets.tp3)]  # type: ignore[operator]
    assert along == sorted(along)
    assert along[0] < 0 < along[1]
    assert along[1] / -along[0] == pytest.approx(2 / 1.5, rel=1e-6)
