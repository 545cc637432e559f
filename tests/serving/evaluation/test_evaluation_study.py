"""A study of tiny bundles over small candles: what it reads, what it leaves out, what it says, how it ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_bundles import build_bundle
from training_data import HOUR, candles

from fusiontrade.inference.intervals import walk
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import load_bundle, write_card, write_manifest
from serving.evaluation.__main__ import main
from serving.evaluation.baselines import BoostingSettings
from serving.evaluation.page.tables import figure_table
from serving.evaluation.study.judged import read
from serving.evaluation.study.running import find_bundles, study
from serving.evaluation.study.timeframe import STEPS, Plan, lstm_answers_of
from serving.training.candles import read_candles
from serving.training.config import TrainingConfig
from serving.training.dataset import fingerprint, pool_of, split
from serving.training.judging.references import held_out
from serving.training.prepared import prepared_as

H1 = Timeframe.H1
FRAMES = {"BTC-USD": candles("BTC-USD", 3300, 2), "EURUSD=X": candles("EURUSD=X", 2400, 1)}


def folder_of(place: Path, frames: dict[str, CandleFrame]) -> Path:
    """Write a folder of candles as users keep them."""
    place.mkdir(parents=True)
    lines = []
    for number, (symbol, frame) in enumerate(sorted(frames.items())):
        columns = {name: getattr(frame, name) for name in ("open", "high", "low", "close", "volume")}
        pq.write_table(
            pa.table({"timestamp": frame.time.astype("datetime64[ms]"), **columns}), place / f"{number}.parquet"
        )
        lines.append(f'[symbols."{symbol}"]\nfiles = {{ "1h" = "{number}.parquet" }}\n')
    (place / "instruments.toml").write_text("\n".join(lines))
    return place


def bundles_for(data: Path, place: Path, kinds: tuple[str, ...] = ("lstm", "patchtst"), **changes: Any) -> Path:
    """Write tiny bundles whose cards say they were trained on the candles of ``data``."""
    frames = read_candles(data, H1)
    pool = pool_of(H1, frames)
    slices = split(pool, TrainingConfig())
    spans = {
        name: [int(pool.entry[rows].min()), int(pool.entry[rows].max())]
        for name in ("train", "validation", "calibration", "test")
        for rows in (getattr(slices, name),)
    }
    series = [
        {
            "symbol": frame.symbol,
            "rows": len(frame),
            "first": int(frame.time[0]),
            "last": int(frame.time[-1]),
            "sha256": fingerprint(frame),
        }
        for frame, _ in frames
    ]
    known = {
        "universe": [frame.symbol for frame, _ in frames],
        "data": {"fingerprint": "tiny", "series": series},
        "windows": spans,
    }
    for kind in kinds:
        build_bundle(place, kind, "1h", **known | changes)
    return place


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("study") / "data", FRAMES)


@pytest.fixture(scope="module")
def bundles(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles_for(data, tmp_path_factory.mktemp("study") / "bundles")


def plan_of(data: Path, bundles: Path, **changes: Any) -> Plan:
    known = {"data": data, "bundles": find_bundles(bundles), "left_out": {}, "until": None, "resamples": 8, "seed": 3}
    return Plan(**known | {"boosting": BoostingSettings(rounds=4, threads=1)} | changes)


def quiet(timeframe: Timeframe, step: str) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def found(data: Path, bundles: Path) -> dict[str, Any]:
    return study(plan_of(data, bundles), "again", quiet, processes=1)


def test_the_judged_rows_are_those_that_training_left_untouched(found: dict[str, Any], data: Path) -> None:
    pool = pool_of(H1, read_candles(data, H1))
    rows = split(pool, TrainingConfig()).test
    judged = found["timeframes"]["1h"]["judged"]
    assert judged["rows"] == len(rows)
    assert judged["from"] == f"{np.datetime64(int(pool.entry[rows].min()), 'ms').astype('datetime64[s]')}Z"
    assert judged["rollover_hours_left_out"] == ["EURUSD=X"]
    counts = {one["symbol"]: one["judged_rows"] for one in found["timeframes"]["1h"]["data"]["series"]}
    assert counts == {one.symbol: int((pool.series_of(rows) == place).sum()) for place, one in enumerate(pool.series)}


def test_figures_are_given_for_all_for_the_reference_five_and_for_each_series(found: dict[str, Any]) -> None:
    figures = found["timeframes"]["1h"]["lstm"]["figures"]
    assert set(figures) == {"all", "reference_five", "by_symbol"}
    assert set(figures["by_symbol"]) == {"BTC-USD", "EURUSD=X"}
    assert figures["reference_five"] == figures["all"]  # both series are of the five
    for name in ("pinball_ratio", "coverage_90", "either_touch_auc", "direction_log_loss_skill"):
        one = figures["all"][name]
        assert one["low"] <= one["value"] <= one["high"]
        assert one["n"] == found["timeframes"]["1h"]["judged"]["rows"]
    assert set(found["timeframes"]["1h"]["patchtst"]["figures"]["by_symbol"]) == {"BTC-USD", "EURUSD=X"}


def test_direction_is_scored_on_every_row_too_beside_persistence_and_the_base_rate(
    found: dict[str, Any], data: Path, bundles: Path
) -> None:
    figures = found["timeframes"]["1h"]["lstm"]["figures"]["all"]
    bundle = load_bundle(bundles / "lstm-1h")
    pool = pool_of(H1, read_candles(data, H1))
    held = held_out(prepared_as(bundle.card, pool))
    answers, rose = lstm_answers_of(bundle, pool, held), held.direction > 0
    assert figures["accuracy"]["value"] == pytest.approx(((answers.probability_up > 0.5) == rose).mean(), abs=1e-6)
    assert figures["baseline_base_rate_accuracy"]["value"] == pytest.approx(
        ((held.rate_direction > 0.5) == rose).mean(), abs=1e-6
    )
    assert figures["baseline_persistence_accuracy"]["value"] == pytest.approx(
        ((held.last_change > 0) == rose).mean(), abs=1e-6
    )
    up = answers.vote > 0
    expected = (up & rose).sum() / up.sum() if up.any() else None
    assert figures.get("direction_precision", {}).get("value") == (expected and pytest.approx(expected, abs=1e-6))
    assert ("direction_recall" in figures) == bool(up.any())
    assert 0.5 < figures["crps_ratio"]["value"] < 5
    table = figure_table(found["timeframes"], "lstm", "all", "all series")
    names = [row[0].text for row in table.rows]
    assert names[names.index("direction: accuracy of the likelier side, every row") + 2] == "… persistence"


def test_the_study_holds_tests_reliability_coverage_and_curves(found: dict[str, Any]) -> None:
    lstm = found["timeframes"]["1h"]["lstm"]
    whom = {one["baseline"] for one in lstm["against"]}
    assert whom == {"rolling", "ewma", "garch", "lightgbm", "climatology", "logistic", "base_rate"}
    assert set(lstm["against"][0]["by_symbol"]) == {"BTC-USD", "EURUSD=X"}
    assert sum(one["n"] for one in lstm["reliability"]["win_long"]) == found["timeframes"]["1h"]["judged"]["rows"]
    assert len(lstm["coverage"]["by_quintile"]) == len(lstm["coverage"]["by_symbol"]["BTC-USD"]["by_quintile"]) == 5
    assert lstm["coverage"]["by_month"]["BTC-USD"][0]["month"].startswith("2024-")
    assert lstm["curves"]["roc"]["touch_either_1"]["true_positive_rate"][-1] == 1.0
    assert {row["id"] for row in found["acceptance"]} >= {
        "pinball_ratio",
        "ece",
        "coverage_each",
        "win_long_reliability",
    }


def test_several_models_are_judged_together_by_a_way_chosen_before(data: Path, tmp_path: Path) -> None:
    folder = bundles_for(data, tmp_path, ("lstm",))
    place = Path(shutil.copytree(folder / "lstm-1h", folder / "gru-1h"))
    write_card(place, load_bundle(place).card.model_copy(update={"kind": "gru", "model_id": "gru-1h"}))
    (place / "report.json").write_text((place / "report.json").read_text().replace("lstm-1h", "gru-1h"))
    write_manifest(place)
    part = study(plan_of(data, folder), "x", quiet, processes=1)["timeframes"]["1h"]
    together = part["ensemble"]
    assert together["members"] == ["lstm", "gru"]
    (chosen,) = [way for way in together["ways"] if way["chosen"]]
    assert chosen["before"]["score"] == min(way["before"]["score"] for way in together["ways"])
    beside = {one["name"]: one for one in together["compared"]}
    assert list(beside) == ["lstm", "gru", *(way["name"] for way in together["ways"])]
    assert beside["lstm"]["pinball_ratio"] == beside["equal weights"]["pinball_ratio"]  # the tiny graphs are the same
    for name in ("pinball_ratio", "coverage_90"):
        assert together["figures"]["all"][name]["value"] == beside[together["way"]][name]["value"]
    assert 0 < together["coverage"]["by_symbol"]["BTC-USD"]["spread_by_chance"] < 1


def test_folds_follow_one_another_before_the_judged_slice(found: dict[str, Any]) -> None:
    part = found["timeframes"]["1h"]
    folds = part["walk_forward"]
    assert len(folds) == 4
    assert [fold["to"] for fold in folds[:-1]] == [fold["from"] for fold in folds[1:]]
    assert folds[-1]["to"] == part["judged"]["cuts"][2] <= part["judged"]["from"]
    assert [fold["trained_on"] for fold in folds] == sorted(fold["trained_on"] for fold in folds)
    assert "baseline_lightgbm_pinball_ratio" in folds[0]["figures"]


def test_the_same_inputs_give_the_same_study_apart_from_the_run(
    found: dict[str, Any], data: Path, bundles: Path
) -> None:
    again = study(plan_of(data, bundles), "again", quiet, processes=1)
    assert set(again) == set(found)
    assert {k: v for k, v in again.items() if k != "run"} == {k: v for k, v in found.items() if k != "run"}
    assert found["run"]["command"] == "again"
    assert found["settings"]["seed"] == 3


def test_intervals_are_walked_through_each_series_from_the_state_of_the_bundle(data: Path, bundles: Path) -> None:
    bundle = load_bundle(bundles / "lstm-1h")
    pool = read(data, H1, [bundle.card]).pool
    held = held_out(prepared_as(bundle.card, pool))
    answers = lstm_answers_of(bundle, pool, held)
    outcome = held.close + held.change * held.atr
    for place, one in enumerate(pool.series):
        rows = held.place == place
        state = bundle.card.adjustments.get(one.symbol, bundle.card.adjustments["any"])
        raw = answers.raw_low[rows], answers.raw_high[rows]
        lower, upper, *_ = walk(*raw, outcome[rows], state.lower, state.upper)
        width = raw[1] - raw[0]
        assert answers.low[rows] == pytest.approx(raw[0] - lower * width)
        assert answers.high[rows] == pytest.approx(raw[1] + upper * width)
        assert len(set(lower)) > 1


def test_a_series_with_other_bars_is_said_and_kept_out_of_pooled_figures(bundles: Path, tmp_path: Path) -> None:
    other = FRAMES | {"EURUSD=X": candles("EURUSD=X", 2400, 77)}
    found = study(plan_of(folder_of(tmp_path / "data", other), bundles), "x", quiet, processes=1)
    part = found["timeframes"]["1h"]
    status = {one["symbol"]: one["status"] for one in part["data"]["series"]}
    assert status == {"BTC-USD": "same", "EURUSD=X": "differs"}
    assert part["data"]["same"] is False
    assert part["lstm"]["figures"]["all"]["pinball_ratio"]["n"] == part["judged"]["rows"]
    assert part["judged"]["rows"] == part["lstm"]["figures"]["by_symbol"]["BTC-USD"]["pinball_ratio"]["n"]
    assert "EURUSD=X" in part["lstm"]["figures"]["by_symbol"]
    assert "EURUSD=X" not in part["lstm"]["against"][0]["by_symbol"]
    assert part["judged"]["series"] == ["BTC-USD"]
    assert any("not those of the bundles: EURUSD=X" in warning for warning in found["warnings"])


def test_wholly_other_candles_are_judged_with_a_warning(bundles: Path, tmp_path: Path) -> None:
    other = {"BTC-USD": candles("BTC-USD", 3300, 78)}
    found = study(plan_of(folder_of(tmp_path / "data", other), bundles), "x", quiet, processes=1)
    series = found["timeframes"]["1h"]["data"]["series"]
    assert {one["symbol"]: one["status"] for one in series} == {"BTC-USD": "differs", "EURUSD=X": "missing"}
    assert found["timeframes"]["1h"]["judged"]["rows"] > 100
    assert any("not to be compared with published ones" in warning for warning in found["warnings"])
    assert any("too few bars: EURUSD=X" in warning for warning in found["warnings"])


def test_no_bar_after_until_is_used(found: dict[str, Any], data: Path, bundles: Path) -> None:
    until = int(FRAMES["EURUSD=X"].close_time[-1]) - 200 * HOUR
    shorter = study(plan_of(data, bundles, until=until), "x", quiet, processes=1)
    part = shorter["timeframes"]["1h"]
    assert part["judged"]["to"] < f"{np.datetime64(until, 'ms').astype('datetime64[s]')}Z"
    assert part["judged"]["rows"] < found["timeframes"]["1h"]["judged"]["rows"]
    assert part["data"]["same"] is True  # the fingerprint is of the whole file
    assert shorter["settings"]["until"] is not None


def test_a_symbol_left_out_of_training_is_set_beside_the_bundle_that_saw_it(
    data: Path, bundles: Path, tmp_path: Path
) -> None:
    other = bundles_for(data, tmp_path / "without", ("lstm",), universe=["BTC-USD"], seed=9)
    plan = plan_of(data, bundles, left_out=find_bundles(other))
    found = study(plan, "x", quiet, processes=1)["timeframes"]["1h"]
    part = found["left_out"]["by_symbol"]
    assert set(part) == set(found["adopted"]["by_symbol"]) == {"EURUSD=X"}
    for name in ("pinball_ratio", "either_touch_auc", "either_touch_skill_over_climatology"):
        sides = part["EURUSD=X"][name]
        assert sides["full"] == sides["left_out"]  # the tiny graphs are the same
        assert (sides["difference"]["value"], sides["difference"]["low"], sides["difference"]["high"]) == (0, 0, 0)


def test_bundles_that_left_nothing_out_are_said_to_compare_nothing(
    data: Path, bundles: Path, found: dict[str, Any]
) -> None:
    again = study(plan_of(data, bundles, left_out=find_bundles(bundles)), "x", quiet, processes=1)
    assert again["timeframes"]["1h"]["left_out"] == {"by_symbol": {}}
    assert "1h: no LSTM bundle of --left-out was trained without a symbol that is judged here." in again["warnings"]
    assert not any("--left-out" in warning for warning in found["warnings"])


def test_several_folders_of_bundles_may_be_set_beside_the_full_ones(data: Path, bundles: Path, tmp_path: Path) -> None:
    options = ["--data", str(data), "--bundles", str(bundles), "--out", str(tmp_path / "out"), "--resamples", "5"]
    for symbol, seed in (("BTC-USD", 8), ("EURUSD=X", 9)):
        folder = bundles_for(data, tmp_path / f"with-{seed}", ("lstm",), universe=[symbol], seed=seed)
        options += ["--left-out", str(folder)]
    assert main([*options, "--processes", "1"]) == 0
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert set(written["timeframes"]["1h"]["left_out"]["by_symbol"]) == {"BTC-USD", "EURUSD=X"}


def test_the_command_writes_both_files_and_tells_its_steps_in_plain_lines(
    data: Path, bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [
        "--data",
        str(data),
        "--bundles",
        str(bundles),
        "--out",
        str(out),
        "--resamples",
        "5",
        "--processes",
        "1",
    ]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == [f"1h: {step} done" for step in STEPS]
    assert f"wrote {out / 'evaluation.html'}" in told.out
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert written["run"]["command"].startswith("python -m serving.evaluation --data")
    assert (out / "evaluation.html").stat().st_size > 10_000


def test_two_processes_give_what_one_gives(found: dict[str, Any], data: Path, bundles: Path) -> None:
    steps: list[str] = []
    apart = study(plan_of(data, bundles), "again", lambda _, step: steps.append(step), processes=2)
    assert apart["timeframes"] == found["timeframes"]
    assert steps == list(STEPS)


def _no_data(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    return ["--data", str(tmp_path), "--bundles", str(bundles), "--out", str(tmp_path / "out")]


def _no_bundles(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    return ["--data", str(data), "--bundles", str(tmp_path), "--out", str(tmp_path / "out")]


def _no_such_timeframe(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    return ["--data", str(data), "--bundles", str(bundles), "--out", str(tmp_path / "out"), "--timeframes", "15m"]


def _too_early(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    until = ["--until", "2024-02-20T00:00:00Z"]
    return ["--data", str(data), "--bundles", str(bundles), "--out", str(tmp_path / "out"), *until]


def _no_instant(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    return ["--data", str(data), "--bundles", str(bundles), "--out", str(tmp_path / "out"), "--until", "yesterday"]


def _out_is_a_file(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "file").write_text("mine")
    return ["--data", str(data), "--bundles", str(bundles), "--out", str(tmp_path / "file" / "out")]


def _two_of_a_kind(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    shutil.copytree(bundles / "lstm-1h", tmp_path / "bundles" / "lstm-1h")
    shutil.copytree(bundles / "lstm-1h", tmp_path / "bundles" / "lstm-1h-before")
    return ["--data", str(data), "--bundles", str(tmp_path / "bundles"), "--out", str(tmp_path / "out")]


def _cut_elsewhere(data: Path, bundles: Path, tmp_path: Path) -> list[str]:
    shutil.copytree(bundles, tmp_path / "bundles")
    place = tmp_path / "bundles" / "patchtst-1h"
    card = load_bundle(place).card
    later = (card.windows.test[0] + 3_600_000, card.windows.test[1])
    write_card(place, card.model_copy(update={"windows": card.windows.model_copy(update={"test": later})}))
    write_manifest(place)
    return ["--data", str(data), "--bundles", str(tmp_path / "bundles"), "--out", str(tmp_path / "out")]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (_cut_elsewhere, "bundles of one timeframe must be cut alike to be judged together"),
        (_out_is_a_file, "is no folder that can be written to; name another"),
        (_two_of_a_kind, "are both lstm bundles of 1h: give a folder with one of them"),
        (_no_data, "instruments.toml"),
        (_no_bundles, "give a folder that make train wrote"),
        (_no_such_timeframe, "no bundle for 15m"),
        (_too_early, "--until 2024-02-20T00:00:00Z: lstm-1h is judged from"),
        (_no_instant, "--until is no instant with a zone"),
    ],
)
def test_what_cannot_be_used_is_said_with_the_remedy(
    arguments: Callable[[Path, Path, Path], list[str]],
    remedy: str,
    data: Path,
    bundles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments(data, bundles, tmp_path), "--processes", "1"]) == 2
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_goes_wrong_in_another_process_is_said_the_same_way(
    bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path), "--bundles", str(bundles), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "instruments.toml" in told
    assert "Traceback" not in told


def test_a_bundle_that_was_tampered_with_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundles_for(data, tmp_path / "bundles", ("lstm",)) / "lstm-1h"
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")
    assert main(["--data", str(data), "--bundles", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "sha256" in capsys.readouterr().err
