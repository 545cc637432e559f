"""Counts in the log: one line of CloudWatch's format each, and none on a laptop."""

from __future__ import annotations

import json

import pytest

from fusiontrade.figures import Figures


def test_counts_are_one_line_with_the_function_as_their_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    Figures("forecast_worker", "prod").count(ForecastsMade=31, ForecastsFailed=1)
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["ForecastsMade"], told["ForecastsFailed"], told["service"]) == ([31.0], [1.0], "forecast_worker")
    (directive,) = told["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("FusionTrade/prod", [["service"]])
    assert {(metric["Name"], metric["Unit"]) for metric in directive["Metrics"]} == {
        ("ForecastsMade", "Count"),
        ("ForecastsFailed", "Count"),
    }


def test_a_laptop_writes_none(capsys: pytest.CaptureFixture[str]) -> None:
    Figures("forecast_worker", "local").count(ForecastsMade=31)
    assert capsys.readouterr().out == ""
