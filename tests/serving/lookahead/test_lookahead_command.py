"""The command: five planted leaks each end with 1 and their honest counterparts with 0; wrong usage ends with 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_data import START

from serving.lookahead.command import app

ROOT = Path(__file__).resolve().parents[3]
HOUR = 3_600_000
FEATURES = """
import numpy as np

def returns(frame):
    out = np.full(len(frame), np.nan)
    out[1:] = np.log(frame.close[1:] / frame.close[:-1])
    return out

def honest(frame):
    return {"returns": returns(frame), "body": (frame.close - frame.open) / frame.close}

def shifted(frame):
    return {"returns": returns(frame), "returns_next": np.append(returns(frame)[1:], np.nan)}
"""
MODEL = """
def honest(frame, row):
    past = frame.close[: row + 1]
    return {"score": (past[-1] - past.mean()) / past.std()}

def leaky(frame, row):
    return {"score": (frame.close[row] - frame.close.mean()) / frame.close.std()}
"""


def rows(*, purge: int = 10, symbol: str = "BTC-USD", bars: int = 1200) -> dict[str, Any]:
    """A user's dataset of four slices of hourly bars, with two columns of features that drift."""
    row = np.arange(bars)
    quarter = bars // 4
    row = row[(row % quarter < quarter - purge) | (row >= 3 * quarter)]
    entry = START + HOUR * (row + 1)
    random = np.random.default_rng(2)
    return {
        "slice": np.array(["train", "validation", "calibration", "test"])[row // quarter],
        "entry": entry,
        "label_end": entry + 4 * HOUR,
        "bar_close": entry,
        "symbol": np.full(len(row), symbol),
        "features": random.normal(size=(len(row), 2)) + row[:, None] / bars,
        "columns": np.array(["spread", "momentum"]),
    }


def outside_rollover(arrays: dict[str, Any]) -> dict[str, Any]:
    hour = arrays["entry"] // HOUR % 24
    kept = (hour < 21) & (hour > 0)
    return {name: values[kept] if name != "columns" else values for name, values in arrays.items()}


def scaler(features: np.ndarray) -> str:
    return json.dumps({"kind": "standard", "center": features.mean(0).tolist(), "scale": features.std(0).tolist()})


def test_leak_one_a_feature_shifted_by_one_bar(lookahead: Any) -> None:
    lookahead.write("leak_one.py", FEATURES)
    clean, _ = lookahead.checks("--features", "leak_one:honest", "--window", "50")
    code, checks = lookahead.checks("--features", "leak_one:shifted", "--window", "50")
    assert (clean, code) == (0, 1)
    found = checks["leak_one:shifted: cut the future"]
    assert found["outcome"] == "FOUND"
    assert {finding["where"] for finding in found["findings"]} == {"EURUSD=X returns_next", "BTC-USD returns_next"}


def test_leak_two_a_scaler_fitted_on_all_rows(lookahead: Any) -> None:
    arrays = rows()
    lookahead.save("rows.npz", arrays)
    lookahead.write("honest.json", scaler(arrays["features"][arrays["slice"] == "train"]))
    lookahead.write("leaky.json", scaler(arrays["features"]))
    clean, _ = lookahead.checks("--rows", "rows.npz", "--scaler", "honest.json", "--embargo", "6")
    code, checks = lookahead.checks("--rows", "rows.npz", "--scaler", "leaky.json", "--embargo", "6")
    assert (clean, code) == (0, 1)
    assert [check for check, told in checks.items() if told["outcome"] == "FOUND"] == ["rows: scaler"]
    finding = checks["rows: scaler"]["findings"][0]
    assert finding["where"] in ("spread", "momentum")
    assert "equals the statistics of all slices up to test" in finding["told"]


def test_leak_three_labels_that_overlap_the_next_slice(lookahead: Any) -> None:
    lookahead.save("honest.npz", rows())
    lookahead.save("leaky.npz", rows(purge=0))
    clean, _ = lookahead.checks("--rows", "honest.npz", "--embargo", "6")
    code, checks = lookahead.checks("--rows", "leaky.npz", "--embargo", "0")
    assert (clean, code) == (0, 1)
    found = checks["leaky: labels that overlap"]["findings"]
    assert [finding["where"] for finding in found] == [
        "train and validation",
        "validation and calibration",
        "calibration and test",
    ]
    assert found[0]["size"] == 3


def test_leak_four_the_unfinished_bar(lookahead: Any) -> None:
    arrays = rows()
    lookahead.save("honest.npz", arrays)
    lookahead.save("leaky.npz", arrays | {"entry": arrays["entry"] - HOUR, "label_end": arrays["label_end"] - HOUR})
    clean, _ = lookahead.checks("--rows", "honest.npz", "--embargo", "6")
    code, checks = lookahead.checks("--rows", "leaky.npz", "--embargo", "6")
    assert (clean, code) == (0, 1)
    assert [check for check, told in checks.items() if told["outcome"] == "FOUND"] == ["leaky: unfinished bars"]
    assert checks["leaky: unfinished bars"]["findings"][0]["size"] == 1


def test_leak_five_rollover_hours_kept(lookahead: Any) -> None:
    lookahead.save("honest.npz", outside_rollover(rows(symbol="EURUSD=X")))
    lookahead.save("leaky.npz", rows(symbol="EURUSD=X"))
    clean, _ = lookahead.checks("--rows", "honest.npz", "--embargo", "6")
    code, checks = lookahead.checks("--rows", "leaky.npz", "--embargo", "6")
    assert (clean, code) == (0, 1)
    assert [check for check, told in checks.items() if told["outcome"] == "FOUND"] == ["leaky: rollover hours"]


def test_a_users_model_is_tried_on_other_futures(lookahead: Any) -> None:
    lookahead.write("tried_model.py", MODEL)
    clean, _ = lookahead.checks("--model", "tried_model:honest", "--window", "100")
    code, checks = lookahead.checks("--model", "tried_model:leaky", "--window", "100")
    assert (clean, code) == (0, 1)
    assert checks["tried_model:leaky: alter the future"]["outcome"] == "FOUND"


def test_what_a_users_function_prints_is_no_part_of_the_result(lookahead: Any) -> None:
    lookahead.write("talkative.py", "def model(frame):\n    print('thinking')\n    return frame.close[-1]\n")
    result = lookahead.run("--model", "talkative:model", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["clean"] is True
    assert "thinking" in result.stderr


def test_with_nothing_named_the_products_features_are_checked_and_the_rest_is_said_to_be_left_out(
    lookahead: Any,
) -> None:
    code, checks = lookahead.checks("--moments", "2")
    assert code == 0
    passed = [name for name, check in checks.items() if check["outcome"] == "PASS"]
    assert len(passed) == 18
    skipped = {name: check["told"] for name, check in checks.items() if check["outcome"] == "SKIPPED"}
    assert skipped.keys() == {"models", "dataset", "bundles"}
    assert "--data FOLDER" in skipped["dataset"]


def test_the_table_shows_outcomes_findings_and_remedies(lookahead: Any) -> None:
    lookahead.save("leaky.npz", rows(purge=0))
    result = lookahead.run("--rows", "leaky.npz", "--embargo", "0")
    assert result.exit_code == 1
    for told in (
        "leaky: labels that overlap",
        "FOUND",
        "PASS",
        "SKIPPED",
        "none named: --scaler FILE.json",
        "3 labels of train are only known after",
        "→ purge: leave out the last rows of train",
        "4 passed, 1 found something, 4 skipped",
    ):
        assert told in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--features", "nothing"), "--features 'nothing': write package.module:function"),
        (("--features", "usage_module.py:compute"), "a module's name and no file's"),
        (("--features", "folder/usage_module:compute"), "a module's name and no file's"),
        (("--features", "usage_program:compute"), "SystemExit: 2 (put what runs as a program under if __name__"),
        (("--features", "no_such_module:f"), "importing no_such_module failed with ModuleNotFoundError"),
        (("--features", "usage_module:f"), "usage_module has no function 'f'; it has compute"),
        (
            ("--features", "usage_module:compute"),
            "--features usage_module:compute answered something else for 2400 bars",
        ),
        (("--model", "usage_module:number"), "--model 'usage_module:number': usage_module has no function"),
        (("--rows", "absent.npz"), "--rows absent.npz"),
        (("--rows", "text.npz"), "save it with numpy.savez"),
        (("--rows", "partly.npz"), "has no array slice, label_end"),
        (("--rows", "uneven.npz"), "entry has 2 rows, but {'slice': 3}"),
        (("--rows", "seconds.npz"), "entry has to be datetime64, or whole milliseconds"),
        (("--rows", "backwards.npz"), "label_end lies before entry in 2 rows"),
        (("--rows", "none.npz"), "--rows none.npz: has no rows"),
        (("--rows", "gaps.npz"), "entry is no instant (NaT) in 1 rows"),
        (("--rows", "words.npz"), "features has to be numbers, (rows, columns)"),
        (("--rows", "strange.npz"), "source knows the symbol 'NOSUCHTICKER'"),
        (("--scaler", "text.npz"), "--scaler: the rows it was fitted on are needed too: --rows FILE.npz"),
        (("--rows", "plain.npz", "--scaler", "text.npz"), "has no array features"),
        (("--rows", "good.npz", "--scaler", "text.npz"), "--scaler text.npz"),
        (("--rows", "good.npz", "--scaler", "narrow.json"), "the features of --rows have 2 columns"),
        (("--bundle", "empty"), "--bundle empty: no manifest.json"),
        (("--data", "empty"), "--data empty"),
        (("--timeframe", "7h"), "--timeframe: '7h' is no timeframe: use one of"),
    ],
)
def test_wrong_usage_names_the_option_and_the_remedy(lookahead: Any, arguments: tuple[str, ...], told: str) -> None:
    lookahead.write("usage_module.py", "number = 1\ndef compute(frame):\n    return 'up'\n")
    lookahead.write("usage_program.py", "import sys\nsys.exit(2)\n")
    lookahead.write("text.npz", "text")
    lookahead.write("narrow.json", '{"center": [1.0], "scale": [1.0]}')
    (lookahead.folder / "empty").mkdir()
    at = START + HOUR * np.arange(2)
    plain = {"slice": np.array(["train", "test"]), "entry": at, "label_end": at}
    lookahead.save("good.npz", rows())
    lookahead.save("plain.npz", plain)
    lookahead.save("partly.npz", {"entry": at})
    lookahead.save("uneven.npz", plain | {"slice": np.array(["train"] * 3)})
    lookahead.save("seconds.npz", plain | {"entry": at // 1000})
    lookahead.save("backwards.npz", plain | {"entry": at + HOUR})
    lookahead.save("none.npz", {name: values[:0] for name, values in plain.items()})
    lookahead.save("gaps.npz", plain | {"entry": np.array([at[0], "NaT"], "datetime64[ms]")})
    lookahead.save("words.npz", plain | {"features": np.array([["a"], ["b"]])})
    lookahead.save("strange.npz", plain | {"symbol": np.array(["NOSUCHTICKER"] * 2)})
    result = lookahead.run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.startswith("fusiontrade lookahead: ")
    assert result.stdout == ""


def test_an_unknown_option_is_wrong_usage(lookahead: Any) -> None:
    assert lookahead.run("--no-such-option").exit_code == 2
    assert lookahead.run("--window", "0").exit_code == 2


def test_datetimes_and_slices_of_other_names_are_understood(lookahead: Any) -> None:
    arrays = rows()
    arrays |= {name: arrays[name].astype("datetime64[ms]") for name in ("entry", "label_end", "bar_close")}
    arrays["slice"] = np.char.add("fold ", arrays["slice"])
    lookahead.save("folds.npz", arrays)
    code, checks = lookahead.checks("--rows", "folds.npz", "--embargo", "6")
    assert code == 0
    assert (
        "fold train 290, fold validation 290, fold calibration 290, fold test 300 rows"
        in (checks["folds: order of the slices"]["told"])
    )


def test_the_module_is_the_same_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "serving.lookahead", "--timeframe", "7h"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "fusiontrade lookahead: --timeframe: '7h' is no timeframe" in ran.stderr


def test_the_entry_point_of_the_project_is_this_command() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["fusiontrade.commands"]["lookahead"].partition(":")
    assert getattr(__import__(module, fromlist=[name]), name) is app
