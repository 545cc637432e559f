"""The command of a study on a terminal: its progress, and options that make no sense."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fusiontrade.market.timeframes import Timeframe
from serving.evaluation.__main__ import main
from serving.evaluation.study.progress import shown
from serving.evaluation.study.timeframe import STEPS

H1 = Timeframe.H1


def test_a_terminal_gets_a_bar_for_each_timeframe() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with shown([H1, Timeframe.M15], STEPS, stream) as told:
        for step in STEPS:
            told(H1, step)
        told(Timeframe.M15, STEPS[0])
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "1h" in line and "done" in line]
    assert [line for line in lines if "15m" in line and STEPS[1] in line]
    assert not [line for line in lines if "15m" in line and "done" in line]


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--data", "", "name a folder of candles, make evaluate MARKET_DATA_DIR=folder"),
        ("--seed", "-1", "must be a whole number, at least 0, got '-1'"),
        ("--resamples", "many", "must be a whole number, at least 1, got 'many'"),
        ("--processes", "0", "must be a whole number, at least 1, got '0'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_before_any_work(
    option: str, value: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--data": "data", "--bundles": "bundles", "--out": str(tmp_path / "out")} | {option: value}
    with pytest.raises(SystemExit) as ended:
        main([f"{name}={text}" for name, text in given.items()])
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
