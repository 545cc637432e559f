"""Models: what a model knows of later bars shows in its answers, whichever way it came to know them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from training_data import candles

from fusiontrade.market.candles import CandleFrame
from serving.lookahead.checks import Check, Outcome, Unusable, check_model, row_model

FRAMES = [candles("BTC-USD", 900, 5)]


def checked(function: Any) -> list[Check]:
    return check_model("mine", row_model("--model mine", function), FRAMES, first=100, moments=4)


def test_a_model_of_the_last_bar_that_keeps_nothing_passes() -> None:
    checks = checked(lambda frame: {"up": frame.close[-1] > frame.open[-1], "range": frame.high[-20:].max()})
    assert [check.outcome for check in checks] == [Outcome.PASS, Outcome.PASS]
    assert "2 numbers, 1 series, 4 moments each" in checks[0].told


def test_a_model_that_is_given_all_bars_and_uses_those_up_to_the_row_passes() -> None:
    checks = checked(lambda frame, row: frame.close[: row + 1].mean())
    assert [check.outcome for check in checks] == [Outcome.PASS, Outcome.PASS]


def test_a_model_that_scales_by_all_bars_is_found() -> None:
    altered, _ = checked(lambda frame, row: {"score": (frame.close[row] - frame.close.mean()) / frame.close.std()})
    assert altered.outcome is Outcome.FOUND
    assert altered.findings[0].where == "BTC-USD score"
    assert altered.findings[0].size > 0.01
    assert "when later bars are" in altered.findings[0].told


def test_the_smallest_difference_is_found() -> None:
    altered, _ = checked(lambda frame, row: frame.close[row] + 1e-9 * frame.close[row + 1])
    assert altered.outcome is Outcome.FOUND


def test_a_model_that_remembers_what_it_was_shown_is_found() -> None:
    highest: dict[str, float] = {}

    def remembers(frame: CandleFrame) -> float:
        highest[frame.symbol] = max(highest.get(frame.symbol, 0.0), float(frame.high.max()))
        return float(frame.close[-1]) / highest[frame.symbol]

    _, memory = checked(remembers)
    assert memory.outcome is Outcome.FOUND
    assert memory.findings[0].told == "answers another number after it was shown another future"


@pytest.mark.parametrize("key", ["instant", "row"])
def test_a_model_that_keeps_what_it_once_said_of_a_bar_is_found(key: str) -> None:
    said: dict[tuple[str, int], float] = {}

    def keeps(frame: CandleFrame, row: int) -> float:
        place = (frame.symbol, row if key == "row" else int(frame.time[row]))
        return said.setdefault(place, float((frame.close[row] - frame.close.mean()) / frame.close.std()))

    altered, memory = checked(keeps)
    assert altered.outcome is Outcome.PASS  # what was said first is said again, whatever comes later
    assert memory.outcome is Outcome.FOUND
    assert memory.findings[0].told.startswith("answers the same when every bar is another")
    assert "caches" in memory.findings[0].remedy


def test_a_model_of_the_clock_alone_passes_and_is_called_one() -> None:
    checks = checked(lambda frame: float(frame.time[-1] // 3_600_000 % 24))
    assert [check.outcome for check in checks] == [Outcome.PASS, Outcome.PASS]
    assert "no answer depends on the bars" in checks[0].told


def test_a_model_that_never_answers_a_number_proves_nothing() -> None:
    checks = checked(lambda frame: float("nan"))
    assert [check.outcome for check in checks] == [Outcome.SKIPPED, Outcome.SKIPPED]
    assert "no answer is a number" in checks[0].told


def test_a_model_that_follows_its_rows_to_what_comes_later_is_found() -> None:
    def peeks(frame: CandleFrame) -> float:
        behind = frame.close if frame.close.base is None else frame.close.base
        return float(behind[-1])

    assert checked(peeks)[0].outcome is Outcome.FOUND


def test_a_model_that_draws_lots_is_found_as_such() -> None:
    random = np.random.default_rng(1)
    (check,) = checked(lambda frame: random.normal())
    assert check.findings[0].told == "answers another number when asked again"
    assert "Monte-Carlo" in check.findings[0].remedy


def test_an_answer_that_comes_and_goes_is_found() -> None:
    altered, _ = checked(
        lambda frame, row: {"a": 1.0} | ({"b": 2.0} if frame.close[-1] > 1.2 * frame.close[row] else {})
    )
    assert [finding.where for finding in altered.findings] == ["BTC-USD b"]


def test_too_few_bars_are_skipped() -> None:
    checks = check_model("mine", row_model("mine", lambda frame: 1.0), FRAMES, first=880)
    assert [check.outcome for check in checks] == [Outcome.SKIPPED] * 2
    assert "no series has 921 bars" in checks[0].told


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda frame: "up", "answered str"),
        (lambda frame: [], "answered list"),
        (lambda frame: frame.nothing, "failed on .* AttributeError"),
        (lambda: 1.0, "takes 0 arguments"),
        (lambda a, b, c: 1.0, "takes 3 arguments"),
    ],
)
def test_a_function_that_is_no_model_is_unusable(function: Any, told: str) -> None:
    with pytest.raises(Unusable, match=told):
        checked(function)
