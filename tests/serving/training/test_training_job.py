"""A training job in SageMaker's layout: from channels to a bundle beside the active one, and words where it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.registry.training import packed
from serving.bundle import load_bundle
from serving.instants import iso_of
from serving.training.dataset import pool_of
from serving.training.job import __main__ as job
from serving.training.job import record
from serving.training.job.__main__ import main
from serving.training.job.layout import Layout
from tests.serving.training_data import candles

PARAMETERS = {
    "kind": "lstm",
    "timeframe": "1h",
    "epochs": "1",
    "batch": "256",
    "rows_per_epoch": "256",
    "bootstrap": "10",
    "precision": "f32",
}


def lay_out(root: Path, *frames: CandleFrame, active: Path | None = None, **changed: str) -> Path:
    """What SageMaker lays out before it starts the program."""
    bars = root / "input" / "data" / "candles"
    bars.mkdir(parents=True)
    for frame in frames:
        (bars / f"{frame.symbol}.npz").write_bytes(packed(frame))
    if active is not None:
        shutil.copytree(active, root / "input" / "data" / "active")
    configuration = root / "input" / "config"
    configuration.mkdir()
    (configuration / "hyperparameters.json").write_text(json.dumps({**PARAMETERS, **changed}))
    return root


def failure(root: Path) -> str:
    return (root / "output" / "failure").read_text()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = lay_out(tmp_path_factory.mktemp("job") / "ml", candles("BTC-USD", 2600, 2))
    assert main(["train", "--root", str(root)]) == 0
    return root


def outcome(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "model" / "outcome.json").read_text())
    return found


def test_a_job_leaves_a_bundle_that_may_serve_with_its_curves_and_says_that_it_is_done(done: Path) -> None:
    told = outcome(done)
    folder = done / "model" / told["bundle"]
    card, curves = load_bundle(folder).card, json.loads((folder / "report.json").read_text())["curves"]
    assert (card.model_id, card.universe) == ("lstm-1h", ("BTC-USD",))
    assert told["comparison"] is None
    assert set(curves["heads"]) == {"touch_up_1", "touch_down_1", "touch_either_1", "win_long", "win_short"}
    for head in curves["heads"].values():
        assert set(head) == {"roc", "precision_recall", "thresholds", "reliability"}
        assert head["roc"]["true_positive_rate"][-1] == 1.0
    assert [one["month"] for one in curves["coverage_90"]]
    progress = json.loads((done / "checkpoints" / "progress.json").read_text())
    assert (progress["progress"], progress["step"]) == (1.0, "done")


def test_a_record_counts_each_vote_as_the_journal_would(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = outcome(done)["record"]
    assert told["source"] == "held_out"
    layout = Layout(done)
    pool = pool_of(Timeframe("1h"), [(frame, False) for frame in layout.frames(Timeframe("1h"))])
    rows = pool.usable[-200:]
    labels = pool.series[0].labels
    bundle = done / "model" / "lstm-1h"
    for vote, place in ((1, 0), (-1, 1)):
        monkeypatch.setattr(record, "_votes", lambda bundle, pool, rows, vote=vote: np.full(len(rows), vote))
        found = record.record_of(bundle, pool, rows)
        assert found["wins"] == labels.win[rows, place].sum()
        assert found["wins"] + found["losses"] + found["expired"] == 200
        assert found["win_rate"] == pytest.approx(found["wins"] / (found["wins"] + found["losses"]))
        assert found["profit_factor"] > 0
    monkeypatch.setattr(record, "_votes", lambda bundle, pool, rows: np.zeros(len(rows)))
    found = record.record_of(bundle, pool, rows)
    assert (found["wins"], found["win_rate"], found["profit_factor"]) == (0, None, None)


def test_a_bundle_is_not_worse_than_itself_and_the_same_job_makes_the_same_manifest(done: Path, tmp_path: Path) -> None:
    active = done / "model" / "lstm-1h"
    root = lay_out(tmp_path / "ml", candles("BTC-USD", 2600, 2), active=active)
    assert main(["--root", str(root)]) == 0
    found = outcome(root)["comparison"]
    assert found["against"] == load_bundle(active).card.version
    assert found["not_worse"] is True
    assert {name: one["difference"] for name, one in found["losses"].items()} == {
        "chances_log_loss": 0.0, "quantiles_pinball": 0.0,
    }  # fmt: skip
    assert found["held_out"]["symbols"] == ["BTC-USD"]
    assert (root / "model" / "lstm-1h" / "manifest.json").read_text() == (active / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"kind": "oracle"}, "'oracle' is no model"),
        ({"epochs": "0"}, "epochs must be at least 1"),
        ({"patients": "3"}, "patients is no parameter of a training"),
        ({"begin_with_active": "true"}, "there is no bundle of lstm 1h to begin with"),
    ],
)
def test_what_cannot_be_trained_is_told_in_words(tmp_path: Path, changed: dict[str, str], why: str) -> None:
    root = lay_out(tmp_path / "ml", candles("BTC-USD", 1600, 2), **changed)
    assert main(["--root", str(root)]) == 1
    assert why in failure(root)
    assert not (root / "model").exists()


def test_what_learned_from_bars_that_would_be_held_out_is_not_begun_with(done: Path, tmp_path: Path) -> None:
    active, frame = done / "model" / "lstm-1h", candles("BTC-USD", 2600, 2)
    learned = load_bundle(active).card.windows.validation
    assert learned is not None
    root = lay_out(tmp_path / "ml", frame.rows(slice(2100)), active=active, begin_with_active="true")
    assert main(["--root", str(root)]) == 1
    assert f"learned from bars up to {iso_of(learned[1])}" in failure(root)
    assert not (root / "model").exists()


def test_too_few_bars_are_counted(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml", candles("BTC-USD", 100, 2))
    assert main(["--root", str(root)]) == 1
    assert "100 bars of 1h are too few" in failure(root)


@pytest.mark.parametrize("still", [slice(None), slice(1500, None)])
def test_a_price_that_stands_still_is_told_in_words(tmp_path: Path, still: slice) -> None:
    frame = candles("BTC-USD", 2600, 2)
    for column in (frame.open, frame.high, frame.low, frame.close):
        column[still] = 100.0
    root = lay_out(tmp_path / "ml", frame)
    assert main(["--root", str(root)]) == 1
    assert "the price of BTC-USD does not move from " in failure(root)


def test_no_folder_of_the_machine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lay_out(tmp_path / "ml", candles("BTC-USD", 100, 2))
    (root / "input" / "config" / "hyperparameters.json").unlink()
    assert main(["--root", str(root)]) == 1
    assert failure(root) == "hyperparameters.json cannot be read: FileNotFoundError"
    (root / "input" / "config" / "hyperparameters.json").write_text(json.dumps(PARAMETERS))

    def broken(*given: Any) -> None:
        raise TypeError(f"unhashable {root}")

    monkeypatch.setattr(job, "prepare", broken)
    monkeypatch.setattr(job, "_pool", lambda *given: None)
    with pytest.raises(TypeError):
        main(["--root", str(root)])
    assert failure(root) == "the training program failed; its log says why"


def test_a_channel_brings_the_bars_as_they_were_and_refuses_others(tmp_path: Path) -> None:
    frame = candles("EURUSD=X", 50, 1, volume=False)
    layout = Layout(lay_out(tmp_path / "ml", frame, candles("BTC-USD", 40, 2)))
    coin, pair = layout.frames(frame.timeframe)
    assert (coin.symbol, pair.symbol, pair.volume) == ("BTC-USD", "EURUSD=X", None)
    assert np.array_equal(pair.close, frame.close)
    assert coin.volume is not None
    (layout.root / "input" / "data" / "candles" / "GC=F.npz").write_bytes(b"no bars")
    with pytest.raises(ValueError, match="holds no bars"):
        layout.frames(frame.timeframe)
