"""One bundle from one pool: fit, export, prove, calibrate, choose the precision, judge, write.

The order is the guarantee: the graph is exported before anything is calibrated, and calibrated anew where another
precision was chosen, so calibration and evaluation see the numbers that will be served; the test slice is read once,
after every choice has been made.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fusiontrade
from fusiontrade.inference.contract import ModelKind
from fusiontrade.journal.outcomes import HORIZON_BARS
from serving.card import Dropout, FeatureList, Windows
from serving.card import Scaler as CardScaler
from serving.features import (
    CALENDAR,
    CANDLE_CHANNELS,
    FEATURE_VERSION,
    INDICATORS,
    LSTM_LENGTH,
    PATCHTST_LENGTH,
    VOLATILITY,
    WINDOW,
)
from serving.instants import iso_of
from serving.models import ARCHITECTURES, PatchTstForecaster
from serving.models.sequence import SequenceConfig
from serving.models.transformer import TransformerConfig
from serving.training.beginning import begun_with
from serving.training.bundle import Finished, libraries, write_bundle
from serving.training.config import TrainingConfig
from serving.training.dataset import Scaler
from serving.training.export import export, largest_difference, run_graph
from serving.training.fit import Batches, Epoch, Progress, deterministic, fit, predict
from serving.training.judging.curves import curves_of
from serving.training.judging.judge import Answer, calibrated_patchtst, calibrated_sequence, judged
from serving.training.judging.references import held_out
from serving.training.precision.cost import BATCHES, measured
from serving.training.precision.intraday import chosen_for, inputs_of
from serving.training.prepared import Prepared, batches_of
from serving.training.slimming import slim

__all__ = ["train_bundle"]

Rows = NDArray[np.intp]
_PROOF_WINDOWS = 512
_BATCH = 1024
_CHECKPOINTS = ".checkpoints"


@dataclass(frozen=True, eq=False)
class _Trained:
    """A fitted model as its f32 graph, what a graph of it takes and answers, and how it was fitted."""

    graph: bytes
    epochs: list[Epoch]
    difference: float
    answering: Callable[[bytes], Answer]
    weights: dict[str, torch.Tensor]


def train_bundle(
    prepared: Prepared,
    kind: ModelKind,
    config: TrainingConfig,
    out: Path,
    *,
    progress: Progress | None = None,
    keep_weights: bool = True,
    overrides: Mapping[str, Any] | None = None,
    begin_with: Path | None = None,
) -> Path:
    """Train one model and write its bundle; return the bundle's folder.

    An interrupted run continues from its last finished epoch when it is started again with the same data and
    configuration.

    Parameters
    ----------
    prepared
        From `prepare` with the same ``config``.
    out
        The bundle goes to ``out/<kind>-<timeframe>``.
    progress
        Called after each epoch.
    keep_weights
        Put the torch weights into the bundle as well.
    overrides
        Sizes of the network other than those of its ``Config``.
    begin_with
        Folder of a bundle of the same kind and sizes whose weights the network starts from, instead of random ones.

    Raises
    ------
    ValueError
        If that bundle is of another kind, has other sizes, or has no weights.
    fusiontrade.errors.BundleRefused
        If it fails its checksums, or what was trained would not be served.
    """
    started = time.time()
    model_id = f"{kind}-{prepared.pool.timeframe}"
    checkpoint = out / _CHECKPOINTS / f"{model_id}.safetensors"
    with deterministic(config.threads):
        model, batches = _model(prepared, kind, config, overrides or {})
        choices: dict[str, Any] = {"model": asdict(model.config), "training": asdict(config)}
        if begin_with is not None:
            choices["begun_with"] = begun_with(model, kind, begin_with)
        trained = _fitted(model, batches, prepared, config, checkpoint=checkpoint, choices=choices, progress=progress)
        fitted_at = time.time()
        known, report = _known(prepared, kind, config, choices), _report(prepared, kind, trained)
        known["dropout"] = _dropout(model.config)
        calibrated = calibrated_sequence if model.takes == "indicators" else calibrated_patchtst
        card, found = calibrated(known, prepared, trained.answering(trained.graph))
        choice = chosen_for(card, trained.graph, prepared, batches, config.precision)
        answer = trained.answering(choice.graph)
        if choice.precision != "f32":
            card, found = calibrated(known | {"precision": choice.precision}, prepared, answer)
        card, figures = judged(card, prepared, held_out(prepared), answer, config)
        untouched = prepared.slices.test
        curves = curves_of(card, answer(untouched), prepared.pool, untouched)
    report |= found | {"precision": {"judged": choice.precision} | choice.report, "figures": figures, "curves": curves}
    few = inputs_of(kind, batches, prepared.slices.calibration[: max(BATCHES)])
    run = {
        "started": round(started),
        "seconds_fitting": round(fitted_at - started, 1),
        "seconds_calibrating_and_judging": round(time.time() - fitted_at, 1),
        "seconds_per_epoch": [round(epoch.seconds, 1) for epoch in trained.epochs],
        "precision_microseconds": measured(choice.graphs, few),
    }
    weights = trained.weights if keep_weights else None
    folder = write_bundle(Finished(card, choice.graph, report, run, weights, f32_graph=trained.graph), out)
    checkpoint.unlink(missing_ok=True)
    if not any(checkpoint.parent.iterdir()):
        checkpoint.parent.rmdir()
    return folder


def _model(
    prepared: Prepared, kind: ModelKind, config: TrainingConfig, overrides: Mapping[str, Any]
) -> tuple[torch.nn.Module, Batches]:
    torch.manual_seed(config.seed)
    made = ARCHITECTURES[kind]
    model = made(made.config_type(**{"calendar": len(CALENDAR), "volatility": len(VOLATILITY), **overrides}))
    if isinstance(model, PatchTstForecaster):
        classes = prepared.pool.column(lambda one: one.labels.classes)[prepared.slices.train]
        counts = np.bincount(classes, minlength=3).astype(np.float64)
        moved = (counts[0] + counts[2]) / 2
        model.class_weights.copy_(torch.tensor([moved / max(counts[0], 1), 1.0, moved / max(counts[2], 1)]))
    return model, batches_of(prepared, model.takes, masked=getattr(model.config, "masked", 0))


def _dropout(sizes: SequenceConfig) -> Dropout | None:
    if not isinstance(sizes, TransformerConfig):
        return None
    return Dropout(columns=sizes.masked, rate=sizes.dropout, samples=sizes.samples, seed=sizes.sampling_seed)


def _fitted(
    model: torch.nn.Module,
    batches: Batches,
    prepared: Prepared,
    config: TrainingConfig,
    *,
    checkpoint: Path,
    choices: dict[str, Any],
    progress: Progress | None,
) -> _Trained:
    """Fit, export, and prove the graph on real windows of the test slice's inputs (its labels stay unread)."""
    slices = prepared.slices
    identity = hashlib.sha256(json.dumps([prepared.data.fingerprint, choices]).encode()).hexdigest()
    epochs = fit(
        model,
        batches,
        slices.train,
        slices.validation,
        config,
        checkpoint=checkpoint,
        identity=identity,
        progress=progress,
    )
    if isinstance(model, PatchTstForecaster):
        model.centre(torch.from_numpy(predict(model, batches, slices.validation)["classes"]))
    graph = slim(export(model)) if model.slims else export(model)
    names, outputs = model.inputs, model.outputs

    def answering(content: bytes) -> Answer:
        def answer(rows: Rows) -> dict[str, NDArray[np.float32]]:
            parts = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
            return run_graph(content, (dict(zip(names, batches.inputs(part), strict=True)) for part in parts), outputs)

        return answer

    proof = slices.test[:: max(1, len(slices.test) // _PROOF_WINDOWS)]
    difference = largest_difference(predict(model, batches, proof), dict(answering(graph)(proof)))
    return _Trained(graph, epochs, difference, answering, model.state_dict())


def _known(prepared: Prepared, kind: ModelKind, config: TrainingConfig, choices: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the card that are known before calibration: the data and the choices."""
    slices, entry = prepared.slices, prepared.pool.entry
    spans = {
        name: (int(entry[rows].min()), int(entry[rows].max()))
        for name in ("train", "validation", "calibration", "test")
        for rows in (getattr(slices, name),)
    }
    indicators = ARCHITECTURES[kind].takes == "indicators"
    return {
        "model_id": f"{kind}-{prepared.pool.timeframe}",
        "kind": kind,
        "timeframe": prepared.pool.timeframe,
        "universe": tuple(one.symbol for one in prepared.pool.series),
        "horizon_bars": HORIZON_BARS,
        "features": FeatureList(
            name="indicators" if indicators else "candles",
            version=FEATURE_VERSION,
            window=WINDOW,
            columns=INDICATORS if indicators else CANDLE_CHANNELS,
            calendar=CALENDAR,
            volatility=VOLATILITY,
            sequence=LSTM_LENGTH if indicators else PATCHTST_LENGTH,
        ),
        "config": json.loads(json.dumps(choices)),
        "scaler": _scaler(prepared.scaler) if indicators else None,
        "season": {name: tuple(usual.tolist()) for name, usual in prepared.season.items()},
        "volatility_scaler": _scaler(prepared.volatility_scaler),
        "data": prepared.data,
        "windows": Windows(**spans),
        "code_version": fusiontrade.__version__,
        "seed": config.seed,
        "libraries": libraries(),
    }


def _scaler(fitted: Scaler) -> CardScaler:
    return CardScaler(
        center=tuple(np.round(fitted.center, 9).tolist()),
        scale=tuple(np.round(fitted.scale, 9).tolist()),
        clip=fitted.clip,
    )


def _report(prepared: Prepared, kind: ModelKind, trained: _Trained) -> dict[str, Any]:
    """Return the part of the report that is known before judging."""
    pool, slices = prepared.pool, prepared.slices
    best = min(trained.epochs, key=lambda epoch: epoch.validation_loss)
    counted = {}
    for name in ("train", "validation", "calibration", "test"):
        rows = getattr(slices, name)
        counts = np.bincount(pool.series_of(rows), minlength=len(pool.series))
        counted[name] = {
            "rows": len(rows),
            "from": iso_of(int(pool.entry[rows].min())),
            "to": iso_of(int(pool.entry[rows].max())),
            "rows_by_symbol": {one.symbol: int(count) for one, count in zip(pool.series, counts, strict=True) if count},
        }
    return {
        "model_id": f"{kind}-{pool.timeframe}",
        "kind": kind,
        "timeframe": str(pool.timeframe),
        "data_fingerprint": prepared.data.fingerprint,
        "horizon_bars": HORIZON_BARS,
        "slices": counted,
        "rollover_hours_left_out": [one.symbol for one in pool.series if one.rollover],
        "training": {
            "best_epoch": best.number,
            "epochs": [
                {
                    "number": epoch.number,
                    "training_loss": round(epoch.training_loss, 6),
                    "validation_loss": round(epoch.validation_loss, 6),
                    "learning_rate": epoch.learning_rate,
                }
                for epoch in trained.epochs
            ],
        },
        "export": {"largest_difference_from_torch": float(f"{trained.difference:.3g}"), "bytes": len(trained.graph)},
    }
