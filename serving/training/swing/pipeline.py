"""One swing bundle from daily series: fit networks and ranks, export, prove, learn worth, grow the veto, judge, write.

The order is the guarantee: graphs are exported before anything is learned from what they say; what scores are worth
and the veto come from the stack slice, the veto's calibration from the next, and which universe abstains from both,
with ranks that were fitted before them; the ranks that serve are fitted again up to the untouched slice, which is read
once, after every choice has been made.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

import fusiontrade
from serving.bundle import GRAPH
from serving.card import DataFingerprint, Metric, Windows
from serving.card import Series as CardSeries
from serving.features.swing import SWING_VERSION, VETO_NAMES, swing_vectors, veto_vectors
from serving.instants import iso_of
from serving.models import stockformer, tft
from serving.models.veto import converted, grown
from serving.sealed import Source, write_sealed
from serving.swing import Encoding, SwingCard, load_swing
from serving.swing.bundle import TFT, VETO, VETO_TEXT
from serving.swing.card import Ranked, ReturnMap, Universe
from serving.swing.forecasting import Outputs, Returns, returns_of, units_of, veto_extras, veto_probability
from serving.training.bundle import libraries
from serving.training.dataset import fingerprint
from serving.training.export import export, largest_difference, run_graph
from serving.training.fit import Epoch, deterministic, fit, predict
from serving.training.judging.calibrate import fit_binary
from serving.training.swing.config import SwingConfig
from serving.training.swing.daily import DailySeries, apart
from serving.training.swing.judging import judged, pooled_figures, trades_of
from serving.training.swing.ranker import Weights, fitted, rank_rows, ranker_of, ranking_of, worth_of
from serving.training.swing.table import SwingBatches, SwingSlices, SwingTable, split, table_of
from serving.training.swing.worth import map_of, proven, rank_skill

__all__ = ["train_swing"]

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]
Told = Callable[[str], None]
_PROOF = 256
_BATCH = 1024
_CHECKPOINTS = ".checkpoints"
_MODELS: dict[str, tuple[Any, Any]] = {
    "stockformer": (stockformer.StockformerModel, stockformer.PRESETS),
    "tft": (tft.TftModel, tft.PRESETS),
}
_HELD = 0.25  # of the stack slice, its end, decides how many trees are kept


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A network as its graph, with how it was fitted."""

    graph: bytes
    weights: dict[str, torch.Tensor]
    epochs: list[Epoch]
    difference: float
    parameters: int


def train_swing(
    series: Sequence[DailySeries],
    config: SwingConfig,
    out: Path,
    *,
    encoder: Encoding | None = None,
    model_id: str = "swing-1d",
    keep_weights: bool = True,
    told: Told = lambda _: None,
    kept: Path | None = None,
) -> Path:
    """Train StockFormer, TFT, ranker and veto, write their bundle to ``out/<model_id>`` and return that folder.

    The same series, configuration, encoder, library versions and machine type give the same manifest. An interrupted
    run continues from the last finished epoch of the network it was fitting.

    Parameters
    ----------
    encoder
        Makes the embeddings; None: they are zeros, and the card says that there is no encoder.
    keep_weights
        Put the torch weights into the bundle as well.
    told
        Called with a line for each step.
    kept
        Folder of embeddings that earlier runs made, read and added to; None: nothing is kept.

    Raises
    ------
    InvalidInput
        Before anything is fitted, if a symbol stands in two universes, or a universe is called ``any``.
    ValueError
        If the series are too few or too short for the slices.
    """
    apart(series)
    started = time.time()
    checkpoints = {name: out / _CHECKPOINTS / f"{model_id}.{name}.safetensors" for name in _MODELS}
    with deterministic(config.fitting.threads):
        table = table_of(series, config, encoder, told, kept=kept)
        slices = split(table, series, config)
        told(", ".join(f"{name}: {len(getattr(slices, name))} rows" for name in _SLICES))
        tabled = time.time()
        choices = json.loads(json.dumps(asdict(config)))
        encoded = None if encoder is None else f"{encoder.card.model_id}@{encoder.card.version}"
        data = _data(series)
        identity = json.dumps([data.fingerprint, encoded, choices])
        networks = {
            name: _fitted(name, table, slices, config, checkpoint=checkpoints[name], identity=identity, told=told)
            for name in _MODELS
        }
        fitted_at = time.time()
        graphs = {name: one.graph for name, one in networks.items()}
        ranks = rank_rows(series, config.ranker, slices.cuts[-1])
        told(", ".join(f"{name}: {len(one.target)} ranked rows" for name, one in ranks.items()) or "nothing is ranked")
        judge = _Judge(table, slices, config, graphs, fitted(ranks, config.ranker, slices.cuts[1]))
        booster = judge.trees()
        files = {GRAPH: graphs["stockformer"], TFT: graphs["tft"], VETO: converted(booster)}
        files[VETO_TEXT] = booster.model_to_string().encode()
        calibration, tried = judge.veto_map(files[VETO])
        skills = judge.skills()
        abstaining = {name: not is_proven for name, is_proven in proven(skills).items()}
        card = SwingCard(
            model_id=model_id,
            config=choices,
            source=Source(how="trained"),
            code_version=fusiontrade.__version__,
            libraries=libraries() | {"lightgbm": importlib.metadata.version("lightgbm")},
            features=SWING_VERSION,
            encoder=encoded,
            stockformer=judge.maps["stockformer"],
            tft=judge.maps["tft"],
            ranker=ranker_of(fitted(ranks, config.ranker, slices.cuts[-1]), judge.worth, config.ranker),
            veto=calibration,
            universes={
                name: Universe(symbols=_symbols(series, name), abstains=abstaining[name]) for name in table.universes
            },
            data=data,
            windows=_windows(table, slices),
            seed=config.fitting.seed,
        )
        returns, veto = judge.answers(slices.test, files[VETO], card)
        by_universe = judged(card, table, slices, config, returns=returns, veto=veto)
    figures = pooled_figures(by_universe)
    card = SwingCard.model_validate(
        card.model_dump() | {"metrics": {name: Metric(**values).model_dump() for name, values in figures.items()}}
    )
    if keep_weights:
        files |= {f"{name}.safetensors": save(one.weights) for name, one in networks.items()}
    report = {
        "kind": "swing",
        "data_fingerprint": data.fingerprint,
        "encoder": encoded,
        "slices": {name: _slice(table, getattr(slices, name)) for name in _SLICES},
        "models": {name: _told_of(one) for name, one in networks.items()},
        "ranker": {name: len(one.target) for name, one in ranks.items()},
        "veto": {"trees": booster.num_trees(), "held_log_loss": {key: round(loss, 6) for key, loss in tried.items()}},
        "before_judging": {name: [one.as_dict() for one in found] for name, found in skills.items()},
        "figures": {"pooled": figures, "by_universe": by_universe},
        "survivorship": "both lists are today's members: what a portfolio made is flattered",
    }
    run = {
        "started": round(started),
        "seconds_reading": round(tabled - started, 1),
        "seconds_fitting": round(fitted_at - tabled, 1),
        "seconds_calibrating_and_judging": round(time.time() - fitted_at, 1),
    }
    folder = write_sealed(out, card, files, report, run, load=load_swing)
    for checkpoint in checkpoints.values():
        checkpoint.unlink(missing_ok=True)
    if (out / _CHECKPOINTS).is_dir() and not any((out / _CHECKPOINTS).iterdir()):
        (out / _CHECKPOINTS).rmdir()
    return folder


_SLICES = ("train", "validation", "stack", "calibration", "test")


class _Judge:
    """What is learned from the graphs' answers, and what they say in the end."""

    def __init__(
        self,
        table: SwingTable,
        slices: SwingSlices,
        config: SwingConfig,
        graphs: dict[str, bytes],
        weights: Weights,
    ) -> None:
        self._table, self._slices, self._config, self._graphs = table, slices, config, graphs
        self._weights, rows = weights, slices.stack
        outputs = self._outputs(rows)
        self.maps: dict[str, ReturnMap] = {name: map_of(name, outputs[name], table, rows) for name in graphs}
        self.worth: dict[str, Ranked] = {}
        self.worth = worth_of(table, rows, weights, self._returns(rows).networks, config.ranker)

    def trees(self) -> Any:
        """Return the veto's trees, grown on the stack slice; its newest days decide how many."""
        rows = self._slices.stack
        days = np.unique(self._table.day[rows])
        cut = days[int((1 - _HELD) * len(days))]
        early = self._table.day[rows] < cut
        vectors, wins = self._vectors(rows)
        return grown(
            vectors[early], wins[early], vectors[~early], wins[~early], config=self._config.trees, names=VETO_NAMES
        )

    def veto_map(self, graph: bytes) -> tuple[Any, dict[str, float]]:
        """Return the calibration of the trees' logit, and the held log loss of each kind that was tried."""
        rows = self._slices.calibration
        rows = rows[np.argsort(self._table.day[rows], kind="stable")]
        vectors, wins = self._vectors(rows)
        raw = np.clip(_trees(graph, vectors).astype(np.float64), 1e-7, 1 - 1e-7)
        return fit_binary(np.log(raw / (1 - raw)), wins)

    def skills(self) -> dict[str, Any]:
        """Return the rank skill of the ensemble by universe, on slices that fitted no weight."""
        rows = np.sort(np.concatenate((self._slices.stack, self._slices.calibration)))
        ahead, found = self._returns(rows).ensemble, {}
        for place, name in enumerate(self._table.universes):
            own = np.flatnonzero(self._table.universe[rows] == place)
            found[name] = rank_skill(ahead[own], self._table, rows[own], self._config.held_stride)
        return found

    def answers(self, rows: Rows, graph: bytes, card: SwingCard) -> tuple[Returns, Floats]:
        """Return what the bundle says of ``rows``."""
        newest = {} if card.ranker is None else {name: one.weights for name, one in card.ranker.universes.items()}
        vectors, _ = self._vectors(rows)
        return self._returns(rows, newest), veto_probability(card.veto, _trees(graph, vectors))

    def _vectors(self, rows: Rows) -> tuple[NDArray[np.float32], Floats]:
        table, returns = self._table, self._returns(rows)
        vectors = swing_vectors(table.embedding[rows], table.context[rows])
        wins = trades_of(table.returns[rows], returns.ensemble, self._config.cost)
        return veto_vectors(vectors, *veto_extras(returns)), wins

    def _returns(self, rows: Rows, weights: Weights | None = None) -> Returns:
        outputs, units = self._outputs(rows), units_of(self._table.context[rows])
        ranking = ranking_of(self._table, rows, self._weights if weights is None else weights, self.worth)
        return returns_of(self.maps, outputs["stockformer"], outputs["tft"], units, ranking)

    def _outputs(self, rows: Rows) -> dict[str, Outputs]:
        return {
            name: _answers(graph, SwingBatches(self._table), rows, _MODELS[name][0].outputs)
            for name, graph in self._graphs.items()
        }


def _fitted(
    name: str,
    table: SwingTable,
    slices: SwingSlices,
    config: SwingConfig,
    *,
    checkpoint: Path,
    identity: str,
    told: Told,
) -> _Fitted:
    """Fit one network, export it, and prove the graph on windows of the calibration slice."""
    kind, presets = _MODELS[name]
    torch.manual_seed(config.fitting.seed)
    model = kind(presets[config.preset])
    batches = SwingBatches(table)

    def progress(epoch: Epoch) -> None:
        told(
            f"{name} epoch {epoch.number}/{config.fitting.epochs}: loss {epoch.training_loss:.5f}, "
            f"validation {epoch.validation_loss:.5f}, {epoch.seconds:.0f} s"
        )

    epochs = fit(
        model,
        batches,
        slices.train,
        slices.validation,
        config.fitting,
        checkpoint=checkpoint,
        identity=hashlib.sha256(f"{name}{identity}".encode()).hexdigest(),
        progress=progress,
    )
    graph = export(model)
    proof = slices.calibration[:: max(1, len(slices.calibration) // _PROOF)]
    difference = largest_difference(predict(model, batches, proof), _answers(graph, batches, proof, model.outputs))
    parameters = sum(one.numel() for one in model.parameters())
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    return _Fitted(graph, weights, epochs, difference, parameters)


def _answers(
    graph: bytes, batches: SwingBatches, rows: Rows, outputs: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    names = ("prices", "embedding", "context")
    parts = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    return run_graph(graph, (dict(zip(names, batches.inputs(part), strict=True)) for part in parts), outputs)


def _trees(graph: bytes, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = ({"features": vectors[start : start + _BATCH]} for start in range(0, len(vectors), _BATCH))
    return run_graph(graph, parts, ("probability",))["probability"]


def _symbols(series: Sequence[DailySeries], universe: str) -> tuple[str, ...]:
    return tuple(one.symbol for one in series if one.universe == universe)


def _data(series: Sequence[DailySeries]) -> DataFingerprint:
    found = []
    for one in series:
        digest = hashlib.sha256(fingerprint(one.frame).encode())
        digest.update(one.factor.astype("<f8").tobytes() + one.jumps.tobytes())
        found.append(
            CardSeries(
                symbol=one.symbol,
                rows=len(one.frame),
                first=int(one.frame.time[0]),
                last=int(one.frame.time[-1]),
                sha256=digest.hexdigest(),
            )
        )
    whole = hashlib.sha256("".join(one.sha256 for one in found).encode()).hexdigest()
    return DataFingerprint(fingerprint=whole, series=tuple(found))


def _windows(table: SwingTable, slices: SwingSlices) -> Windows:
    spans = {name: (int(table.day[rows].min()), int(table.day[rows].max())) for name, rows in _spans(slices).items()}
    return Windows(**spans)


def _spans(slices: SwingSlices) -> dict[str, Rows]:
    """Return the slices as a card names them: what learned worth and veto is calibration there."""
    return {
        "train": slices.train,
        "validation": slices.validation,
        "calibration": np.concatenate((slices.stack, slices.calibration)),
        "test": slices.test,
    }


def _slice(table: SwingTable, rows: Rows) -> dict[str, Any]:
    by_universe = {name: int((table.universe[rows] == place).sum()) for place, name in enumerate(table.universes)}
    first, last = int(table.day[rows].min()), int(table.day[rows].max())
    return {"rows": len(rows), "from": iso_of(first), "to": iso_of(last), "rows_by_universe": by_universe}


def _told_of(fitted: _Fitted) -> dict[str, Any]:
    best = min(fitted.epochs, key=lambda epoch: epoch.validation_loss)
    return {
        "parameters": fitted.parameters,
        "best_epoch": best.number,
        "epochs": [
            {
                "number": epoch.number,
                "training_loss": round(epoch.training_loss, 6),
                "validation_loss": round(epoch.validation_loss, 6),
            }
            for epoch in fitted.epochs
        ],
        "largest_difference_from_torch": float(f"{fitted.difference:.3g}"),
        "bytes": len(fitted.graph),
    }
