"""Targets are met, missed or not known by what the figures say, and by nothing else."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from sample_study import figure, timeframe_part

from serving.evaluation.study.acceptance import acceptance


@pytest.fixture
def part() -> dict[str, Any]:
    return deepcopy(timeframe_part())


def rows(part: dict[str, Any], row_id: str, name: str = "1h") -> list[dict[str, Any]]:
    return [row for row in acceptance({name: part}) if row["id"] == row_id]


def test_a_pooled_figure_is_held_against_its_limit_and_its_aim_for_each_scope(part: dict[str, Any]) -> None:
    five, every = rows(part, "pinball_ratio")
    assert (five["scope"], five["value"], five["met"], five["aim_met"]) == ("the reference five", 0.94, True, True)
    assert (every["scope"], every["value"], every["met"], every["aim_met"]) == ("all series", 0.95, True, False)
    part["lstm"]["figures"]["all"]["pinball_ratio"] = figure(0.956)
    assert [row["met"] for row in rows(part, "pinball_ratio")] == [True, False]


def test_a_skill_whose_interval_reaches_zero_misses_its_target(part: dict[str, Any]) -> None:
    part["lstm"]["figures"]["all"]["either_touch_skill_over_climatology"] = figure(0.06, half=0.07)
    assert [row["met"] for row in rows(part, "either_touch_skill_over_climatology")] == [True, False]


def test_every_series_has_to_stay_below_one_and_the_worst_is_named(part: dict[str, Any]) -> None:
    (row,) = rows(part, "pinball_ratio_each")
    assert (row["met"], row["worst"], row["exceptions"]) == (True, "EURUSD=X", [])
    part["lstm"]["figures"]["by_symbol"]["BTC-USD"]["pinball_ratio"] = figure(0.995)
    (row,) = rows(part, "pinball_ratio_each")
    assert (row["met"], row["worst"], row["exceptions"]) == (False, "BTC-USD", ["BTC-USD"])


def test_a_series_with_other_bars_neither_meets_nor_misses_a_target(part: dict[str, Any]) -> None:
    part["judged"]["series"] = ["BTC-USD"]
    part["lstm"]["figures"]["by_symbol"]["EURUSD=X"]["pinball_ratio"] = figure(1.5)
    (row,) = rows(part, "pinball_ratio_each")
    assert (row["met"], row["worst"]) == (True, "BTC-USD")


@pytest.mark.parametrize(
    ("value", "n", "met"), [(0.912, 6000, False), (0.888, 6000, False), (0.912, 5000, True), (0.865, 5000, False)]
)
def test_coverage_may_stray_further_in_a_small_series(part: dict[str, Any], value: float, n: int, met: bool) -> None:
    part["lstm"]["figures"]["by_symbol"]["BTC-USD"]["coverage_90"] = figure(value, n=n)
    (row,) = rows(part, "coverage_each")
    assert row["met"] is met
    assert row["worst"] == "BTC-USD" or met


def test_direction_may_not_lose_anywhere(part: dict[str, Any]) -> None:
    by_symbol = part["lstm"]["figures"]["by_symbol"]
    by_symbol["EURUSD=X"]["direction_log_loss_skill"] = figure(-0.00003)
    assert rows(part, "direction_skill_each")[0]["met"] is True
    by_symbol["EURUSD=X"]["direction_log_loss_skill"] = figure(-0.0002)
    (row,) = rows(part, "direction_skill_each")
    assert (row["met"], row["exceptions"]) == (False, ["EURUSD=X"])


def test_calibration_is_held_against_its_noise_floor_head_by_head(part: dict[str, Any]) -> None:
    (row,) = rows(part, "ece")
    assert row["met"] is True
    assert row["value"] == pytest.approx(0.006)
    assert row["worst"] == "touch_either_1"
    part["lstm"]["figures"]["all"]["direction_ece"] = {"value": 0.02, "noise_floor": 0.004, "n": 6000}
    (row,) = rows(part, "ece")
    assert (row["met"], row["exceptions"]) == (False, ["direction"])


def test_each_decile_of_p_win_has_to_lie_in_its_interval(part: dict[str, Any]) -> None:
    assert [row["met"] for row in rows(part, "win_long_reliability")] == [True]
    (own,), (joint,) = rows(part, "win_short_reliability"), rows(part, "win_short_joint_reliability")
    assert (own["met"], own["value"]) == (False, 9)  # 0.03 off, intervals reach 0.02
    assert (joint["met"], joint["value"]) == (True, 0)


def test_a_symbol_never_seen_loses_where_the_interval_of_the_difference_lies_below_zero(part: dict[str, Any]) -> None:
    (row,) = rows(part, "unseen_either_touch_auc")
    assert (row["scope"], row["met"]) == ("BTC-USD", False)
    part["left_out"]["by_symbol"]["BTC-USD"]["either_touch_auc"]["difference"] = figure(-0.005)
    assert rows(part, "unseen_either_touch_auc")[0]["met"] is True
    part["left_out"]["by_symbol"]["BTC-USD"]["pinball_ratio"] = {"difference": figure(0.02)}
    assert rows(part, "unseen_pinball_ratio")[0]["met"] is False


def test_a_missing_figure_is_not_known_rather_than_met_or_missed(part: dict[str, Any]) -> None:
    for figures in (part["lstm"]["figures"]["all"], part["lstm"]["figures"]["by_symbol"]["BTC-USD"]):
        del figures["pinball_ratio"]
    del part["lstm"]["coverage"]["quintile_spread"]
    part["lstm"]["reliability"] = {}
    assert rows(part, "pinball_ratio")[1]["met"] is None
    assert rows(part, "pinball_ratio_each")[0]["met"] is None
    assert rows(part, "coverage_quintiles")[0]["met"] is None
    assert rows(part, "win_long_reliability")[0]["met"] is None


def test_what_is_no_number_is_not_known(part: dict[str, Any]) -> None:
    by_symbol = part["lstm"]["figures"]["by_symbol"]
    by_symbol["BTC-USD"]["pinball_ratio"] = figure(float("nan"))
    (row,) = rows(part, "pinball_ratio_each")
    assert (row["met"], row["worst"], row["exceptions"]) == (None, "EURUSD=X", ["BTC-USD"])
    by_symbol["EURUSD=X"]["pinball_ratio"] = figure(float("nan"))
    assert rows(part, "pinball_ratio_each")[0]["met"] is None


def test_four_hours_are_asked_to_be_calibrated_and_not_to_be_skilful(part: dict[str, Any]) -> None:
    del part["left_out"]
    found = {row["id"] for row in acceptance({"4h": part})}
    assert {"coverage_each", "coverage_rolling_each", "ece", "ece_each"} <= found
    assert not found & {"pinball_ratio", "either_touch_skill_over_climatology", "touch_up_1_auc"}
    assert acceptance({"1d": part}) == []


def test_more_is_asked_of_several_models_together_than_of_one(part: dict[str, Any]) -> None:
    part["ensemble"] = part["lstm"]
    part["lstm"]["figures"]["reference_five"]["pinball_ratio"] = figure(0.952)
    part["lstm"]["figures"]["reference_five"]["either_touch_skill_over_climatology"] = figure(0.035)
    names = ("pinball_ratio", "either_touch_skill_over_climatology")
    assert [(rows(part, name)[0]["limit"], rows(part, name)[0]["met"]) for name in names] == [
        (0.95, False),
        (0.04, False),
    ]
    del part["ensemble"]
    assert [rows(part, name)[0]["met"] for name in names] == [True, True]


def test_every_series_is_held_against_quintiles_chance_and_any_500_bars(part: dict[str, Any]) -> None:
    btc = part["lstm"]["coverage"]["by_symbol"]["BTC-USD"]
    part["judged"]["series"] = ["BTC-USD"]
    names = ("coverage_quintiles_each", "coverage_quintiles_chance", "coverage_rolling_each")
    assert [rows(part, name)[0]["met"] for name in names] == [None, None, None]  # studies of before say neither
    btc |= {"spread_by_chance": 0.05, "lowest_rolling": 0.8, "quintile_spread": figure(0.045)}
    assert [rows(part, name)[0]["met"] for name in names] == [False, True, True]
    btc |= {"spread_by_chance": 0.044, "lowest_rolling": 0.798}
    assert [rows(part, name)[0]["met"] for name in names] == [False, False, False]
    part["judged"]["series"] = ["BTC-USD", "EURUSD=X"]
    few = figure(0.05, n=300)
    part["lstm"]["coverage"]["by_symbol"]["EURUSD=X"] = {"quintile_spread": few, "lowest_rolling": None}
    btc["lowest_rolling"] = 0.81
    assert rows(part, "coverage_rolling_each")[0]["met"] is True  # 300 bars have no 500 in a row


def test_calibration_is_held_against_the_floor_of_every_series_too(part: dict[str, Any]) -> None:
    assert rows(part, "ece_each")[0]["met"] is True
    part["lstm"]["figures"]["by_symbol"]["EURUSD=X"]["touch_either_1_ece"] = {
        "value": 0.03,
        "noise_floor": 0.006,
        "n": 9,
    }
    (row,) = rows(part, "ece_each")
    assert (row["met"], row["exceptions"]) == (False, ["EURUSD=X touch_either_1"])
