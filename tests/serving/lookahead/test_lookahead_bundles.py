"""Bundles: against what their card and report tell, against the data they were made of, and on other futures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_bundles import build_bundle
from training_data import candles, two_series

from fusiontrade.market.candles import CandleFrame
from serving.bundle import REPORT, load_bundle, write_manifest
from serving.lookahead.bundles import bundle_model
from serving.lookahead.checks import Outcome, check_figures, check_model, check_windows
from serving.lookahead.checks.answering import Answers
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool, fit_scaler, fit_season
from serving.training.prepared import Prepared, prepare

HOUR = 3_600_000
SLICES = ("train", "validation", "calibration", "test")


@pytest.fixture(scope="module")
def prepared(pool: Pool) -> Prepared:
    return prepare(pool, TrainingConfig())


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bars of the pool as a folder of a user's."""
    folder = tmp_path_factory.mktemp("market")
    listing = []
    for frame, _ in two_series():
        columns = {name: getattr(frame, name) for name in ("open", "high", "low", "close")}
        columns["volume"] = np.ones(len(frame)) if frame.volume is None else frame.volume
        table = pa.table({"timestamp": frame.time.astype("datetime64[ms]"), **columns})
        pq.write_table(table, folder / f"{frame.symbol[:3]}.parquet")
        listing.append(f'[symbols."{frame.symbol}"]\nfiles = {{ "1h" = "{frame.symbol[:3]}.parquet" }}\n')
    (folder / "instruments.toml").write_text("\n".join(listing))
    return folder


def scaler(center: np.ndarray, scale: np.ndarray) -> dict[str, Any]:
    return {"center": np.round(center, 9).tolist(), "scale": np.round(scale, 9).tolist(), "clip": 5.0}


def trained(prepared: Prepared, kind: str = "lstm") -> dict[str, Any]:
    """The fields of a card as training writes them."""
    entry = prepared.pool.entry
    spans = {
        name: [int(entry[rows].min()), int(entry[rows].max())]
        for name in SLICES
        for rows in (getattr(prepared.slices, name),)
    }
    volatility = prepared.volatility_scaler
    return {
        "universe": [one.symbol for one in prepared.pool.series],
        "windows": spans,
        "scaler": scaler(prepared.scaler.center, prepared.scaler.scale) if kind == "lstm" else None,
        "season": {name: usual.tolist() for name, usual in prepared.season.items()},
        "volatility_scaler": scaler(volatility.center, volatility.scale),
        "data": prepared.data.model_dump(mode="json"),
    }


def report(folder: Path, prepared: Prepared, change: Callable[[dict[str, Any]], None] = lambda content: None) -> Path:
    """Give the bundle the report of its rows."""
    content = json.loads((folder / REPORT).read_text())
    content["slices"] = {name: {"rows": len(getattr(prepared.slices, name))} for name in SLICES}
    content["rollover_hours_left_out"] = ["EURUSD=X"]
    change(content)
    (folder / REPORT).write_text(json.dumps(content))
    write_manifest(folder)
    return folder


def found(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in checks.items() if check["outcome"] == "FOUND"]


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_a_bundle_as_training_makes_it_is_clean(
    lookahead: Any, market: Path, prepared: Prepared, tmp_path: Path, kind: str
) -> None:
    folder = report(build_bundle(tmp_path / "bundles", kind, **trained(prepared, kind)), prepared)
    code, checks = lookahead.checks("--bundle", str(folder), "--data", str(market), "--moments", "3")
    assert (code, found(checks)) == (0, [])
    passed = {name.partition(": ")[2] for name, check in checks.items() if check["outcome"] == "PASS"}
    assert passed >= {
        "files",
        "windows",
        "figures",
        "data",
        "order of the slices",
        "labels that overlap",
        "embargo",
        "unfinished bars",
        "rollover hours",
        "known at the entry",
        "rows",
        "rollover hours in the report",
        "busy hours",
        "volatility scaler",
        "answers: alter the future",
        "answers: remember the future",
    }
    assert ("scaler" in passed) == (kind == "lstm")


def test_a_bundle_whose_scaler_saw_all_rows_is_found(
    lookahead: Any, market: Path, prepared: Prepared, tmp_path: Path
) -> None:
    everything = np.concatenate([getattr(prepared.slices, name) for name in SLICES])
    leaky = fit_scaler(prepared.pool, everything)
    changes = trained(prepared) | {"scaler": scaler(leaky.center, leaky.scale)}
    folder = report(build_bundle(tmp_path / "bundles", **changes), prepared)
    code, checks = lookahead.checks("--bundle", str(folder), "--data", str(market), "--moments", "2")
    assert (code, found(checks)) == (1, ["lstm-1h: scaler"])
    assert "equals the statistics of all rows" in checks["lstm-1h: scaler"]["findings"][0]["told"]


def test_a_bundle_whose_busy_hours_saw_all_bars_is_found(
    lookahead: Any, market: Path, prepared: Prepared, tmp_path: Path
) -> None:
    season = {name: usual.tolist() for name, usual in fit_season(prepared.pool, 2**62).items()}
    folder = report(build_bundle(tmp_path / "bundles", **trained(prepared) | {"season": season}), prepared)
    code, checks = lookahead.checks("--bundle", str(folder), "--data", str(market), "--moments", "2")
    assert code == 1
    assert "lstm-1h: busy hours" in found(checks)


def test_other_bars_are_named_and_what_needs_the_same_is_skipped(
    lookahead: Any, market: Path, prepared: Prepared, tmp_path: Path
) -> None:
    changes = trained(prepared)
    changes["data"]["series"][0] |= {"sha256": "0" * 64}
    changes["data"]["series"].append(changes["data"]["series"][0] | {"symbol": "SOL-USD"})
    folder = report(build_bundle(tmp_path / "bundles", **changes), prepared)
    code, checks = lookahead.checks("--bundle", str(folder), "--data", str(market), "--moments", "2")
    assert (code, found(checks)) == (1, ["lstm-1h: data"])
    told = {finding["where"]: finding["told"] for finding in checks["lstm-1h: data"]["findings"]}
    assert "with other prices or volumes" in told["BTC-USD"]
    assert told["SOL-USD"] == "is not in the data"
    assert checks["lstm-1h: dataset and scalers"]["outcome"] == "SKIPPED"


def test_bars_that_came_after_training_do_not_matter(
    lookahead: Any, market: Path, prepared: Prepared, tmp_path: Path
) -> None:
    folder = report(build_bundle(tmp_path / "bundles", **trained(prepared)), prepared)
    longer = tmp_path / "longer"
    longer.mkdir()
    for path in market.iterdir():
        (longer / path.name).write_bytes(path.read_bytes())
    frame = candles("BTC-USD", 3400, 2)
    whole, _ = two_series()[1]
    later = frame.rows(frame.time > whole.time[-1])
    columns = {
        name: np.concatenate((getattr(whole, name), getattr(later, name)))
        for name in ("open", "high", "low", "close", "volume")
    }
    time = np.concatenate((whole.time, later.time)).astype("datetime64[ms]")
    pq.write_table(pa.table({"timestamp": time, **columns}), longer / "BTC.parquet")
    code, checks = lookahead.checks("--bundle", str(folder), "--data", str(longer), "--moments", "2")
    assert (code, found(checks)) == (0, [])
    assert checks["lstm-1h: data"]["outcome"] == "PASS"


def test_kept_rollover_hours_and_other_row_counts_are_found(
    lookahead: Any, market: Path, prepared: Prepared, tmp_path: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["rollover_hours_left_out"] = []
        content["slices"]["train"]["rows"] += 200

    folder = report(build_bundle(tmp_path / "bundles", **trained(prepared)), prepared, change)
    code, checks = lookahead.checks("--bundle", str(folder), "--data", str(market), "--moments", "2")
    assert code == 1
    finding = checks["lstm-1h: rows"]["findings"][0]
    assert (finding["where"], finding["size"]) == ("train", 200)
    told = lookahead.run("--bundle", str(folder), "--moments", "2").stdout
    assert "EURUSD=X: entries from 16:00 to 18:59 New York were kept" in told


def test_without_data_a_bundle_is_judged_by_its_card_and_tried_on_invented_bars(lookahead: Any, tmp_path: Path) -> None:
    build_bundle(tmp_path / "bundles", "lstm", **unpurged())
    build_bundle(tmp_path / "bundles", "patchtst", "4h")
    (tmp_path / "bundles" / "patchtst-4h" / "model.onnx").write_bytes(b"spoiled")
    code, checks = lookahead.checks("--bundle", "bundles", "--moments", "2")
    assert (code, found(checks)) == (1, ["lstm-1h: windows", "patchtst-4h: files"])
    assert "serving refuses it: model.onnx has sha256" in checks["patchtst-4h: files"]["findings"][0]["told"]
    assert checks["lstm-1h: data"]["told"] == "give the bars it was trained on: --data FOLDER"
    assert checks["lstm-1h: answers: alter the future"]["outcome"] == "PASS"


def unpurged() -> dict[str, Any]:
    at = [1_700_000_000_000 + HOUR * bars for bars in (0, 100, 102, 200, 270, 400, 500, 600)]
    return {"windows": dict(zip(SLICES, ([at[n], at[n + 1]] for n in range(0, 8, 2)), strict=True))}


@pytest.mark.parametrize(
    ("gap", "outcome", "told"),
    [
        (64, Outcome.PASS, "train < test, at least 64 bars apart"),
        (63, Outcome.FOUND, "63 bars between train and test, 4 + 60 were asked for"),
        (3, Outcome.FOUND, "the labels look 4 ahead: not purged"),
        (0, Outcome.FOUND, "they overlap in time"),
        (-5, Outcome.FOUND, "they overlap in time"),
    ],
)
def test_windows_have_to_be_apart_by_the_horizon_and_the_embargo(gap: int, outcome: Outcome, told: str) -> None:
    windows = {"test": ((200 + gap) * HOUR, 400 * HOUR), "train": (0, 200 * HOUR), "validation": None}
    check = check_windows(windows, horizon=4, embargo=60, bar=HOUR)
    assert check.outcome is outcome
    assert told in (check.findings[0].told if check.findings else check.told)


def pooled(**figures: float) -> dict[str, Any]:
    return {"figures": {"pooled": {name: {"value": value} for name, value in figures.items()}}}


@pytest.mark.parametrize(
    ("name", "good", "too_good"),
    [
        ("direction_accuracy", 0.546, 0.56),
        ("direction_auc", 0.531, 0.57),
        ("up_against_down_auc", 0.53, 0.57),
        ("direction_log_loss_skill", 0.004, 0.03),
        ("pinball_ratio", 0.945, 0.89),
        ("either_touch_auc", 0.75, 0.83),
        ("touch_up_1_auc", 0.645, 0.73),
        ("log_range_r2", 0.45, 0.7),
    ],
)
def test_figures_that_nobody_reached_are_suspicious(name: str, good: float, too_good: float) -> None:
    assert check_figures(pooled(**{name: good})).outcome is Outcome.PASS
    check = check_figures(pooled(**{name: too_good}))
    assert check.outcome is Outcome.FOUND
    assert check.findings[0].size == too_good
    assert "good models reach" in check.findings[0].told
    assert "leak until proven otherwise" in check.findings[0].remedy


def test_a_small_series_is_judged_by_its_interval_and_baselines_not_at_all() -> None:
    by_chance = {"direction_auc": {"value": 0.58, "low": 0.52, "high": 0.64}}
    proven = {"direction_auc": {"value": 0.68, "low": 0.63, "high": 0.73}}
    content = {"figures": {"by_symbol": {"SOL-USD": by_chance, "EURUSD=X": proven}}}
    assert [finding.where for finding in check_figures(content).findings] == ["by_symbol EURUSD=X"]
    assert "direction AUC 0.680 [0.630, 0.730] is above 0.56" in check_figures(content).findings[0].told
    baseline = {"figures": {"pooled": {"baseline_logistic_direction_auc": {"value": 0.9}}}}
    assert check_figures(baseline).outcome is Outcome.SKIPPED


@pytest.mark.parametrize(("skill", "outcome"), [(0.02, Outcome.PASS), (0.3, Outcome.FOUND), (None, Outcome.FOUND)])
def test_a_touch_that_the_hour_of_the_week_foretells_is_no_leak(skill: float | None, outcome: Outcome) -> None:
    over_climatology = {} if skill is None else {"either_touch_skill_over_climatology": skill}
    assert check_figures(pooled(either_touch_auc=0.84, touch_up_1_auc=0.74, **over_climatology)).outcome is outcome


@pytest.mark.parametrize(
    ("votes", "accuracy", "outcome"),
    [(1.0, 0.56, Outcome.FOUND), (0.1, 0.56, Outcome.PASS), (0.1, 0.615, Outcome.FOUND), (0.5, 0.57, Outcome.FOUND)],
)
def test_the_surest_rows_may_be_right_as_often_as_a_believable_auc_makes_them(
    votes: float, accuracy: float, outcome: Outcome
) -> None:
    assert check_figures(pooled(direction_accuracy=accuracy, direction_votes=votes)).outcome is outcome


def test_a_suspicious_report_ends_with_one(lookahead: Any, tmp_path: Path) -> None:
    metrics = {"direction_accuracy": {"value": 0.61, "low": 0.58, "high": 0.64, "n": 1000}}
    build_bundle(tmp_path / "bundles", metrics=metrics)
    result = lookahead.run("--bundle", "bundles", "--moments", "2")
    assert result.exit_code == 1
    assert "direction accuracy 0.610 [0.580, 0.640] is above 0.55" in result.stdout


def test_a_bundle_that_is_fed_the_next_bar_is_found(tmp_path: Path) -> None:
    honest = bundle_model(load_bundle(build_bundle(tmp_path, "lstm")))

    def one_bar_late(frame: CandleFrame, row: int) -> Answers:
        return honest(frame, row + 1)

    frames = [candles("BTC-USD", 1000, 7)]
    clean = check_model("answers", honest, frames, first=659, moments=3)
    leaky = check_model("answers", one_bar_late, frames, first=659, moments=3)
    assert [check.outcome for check in clean] == [Outcome.PASS] * 2
    assert leaky[0].outcome is Outcome.FOUND
    assert {finding.where for finding in leaky[0].findings} >= {"BTC-USD direction", "BTC-USD touch"}
