"""One swing bundle from daily series: fit networks and ranks, export, prove, learn worth, grow the veto, judge, write.

The order is the guarantee: graphs are exported before anything is learned from what they say; what scores are worth
and the veto come from the stack slice, the veto's calibration from the next, and which universe abstains from both,
with ranks that were fitted before them; the ranks that serve are fitted again up to the untouched slice, which is read
once, after every choice has been made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save

from serving.bundle import GRAPH
from serving.features.swing import VETO_NAMES, swing_vectors, veto_vectors
from serving.instants import iso_of
from serving.models.veto import converted, grown
from serving.sealed import write_sealed
from serving.swing import Encoding, SwingCard, load_swing
from serving.swing.bundle import TFT, VETO, VETO_TEXT
from serving.swing.card import Ranked, ReturnMap
from serving.swing.forecasting import Returns, returns_of, units_of, veto_extras, veto_probability
from serving.training.fit import deterministic
from serving.training.judging.calibrate import fit_binary
from serving.training.precision.daily import compared
from serving.training.precision.intraday import held_out_rows
from serving.training.swing.config import SwingConfig
from serving.training.swing.daily import DailySeries, apart
from serving.training.swing.judging import judged, trades_of
from serving.training.swing.networks import INPUTS, NETWORKS, FittedNetwork, fitted_network, said_by, trees_say
from serving.training.swing.ranker import Weights, fitted, rank_rows, ranker_of, ranking_of, worth_of
from serving.training.swing.records import SLICES, Given, Learned, card_of, judged_card, report_of
from serving.training.swing.table import SwingBatches, SwingSlices, SwingTable, split, table_of
from serving.training.swing.worth import map_of, rank_skill

__all__ = ["train_swing"]

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]
Told = Callable[[str], None]
_CHECKPOINTS = ".checkpoints"
_HELD = 0.25  # of the stack slice, its end, decides how many trees are kept


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
    began = time.time()
    with deterministic(config.fitting.threads):
        given = _given(series, config, encoder, kept, told)
        read = time.time()
        checkpoints = {name: out / _CHECKPOINTS / f"{model_id}.{name}.safetensors" for name in NETWORKS}
        networks = {
            name: fitted_network(
                name,
                given.table,
                given.slices,
                config,
                checkpoint=checkpoint,
                identity=given.identity,
                told=told,
            )
            for name, checkpoint in checkpoints.items()
        }
        fitted_at = time.time()
        judge, learned = _learned(given, {name: one.graph for name, one in networks.items()}, told)
        card = card_of(model_id, given, learned)
        returns, veto = judge.answers(given.slices.test, learned.graph, card)
        precision = _precision(given, networks, learned)
        by_universe = judged(card, given.table, given.slices, config, returns=returns, veto=veto, rates=judge.rates())
    run = {
        "started": round(began),
        "seconds_reading": round(read - began, 1),
        "seconds_fitting": round(fitted_at - read, 1),
        "seconds_calibrating_and_judging": round(time.time() - fitted_at, 1),
    }
    files = _files(networks, learned, keep_weights=keep_weights)
    report = report_of(given, networks, learned, by_universe) | {"precision": precision}
    folder = write_sealed(out, judged_card(card, by_universe), files, report, run, load=load_swing)
    _forget(checkpoints.values())
    return folder


def _given(
    series: Sequence[DailySeries], config: SwingConfig, encoder: Encoding | None, kept: Path | None, told: Told
) -> Given:
    """Return the rows to learn from, in their slices."""
    table = table_of(series, config, encoder, told, kept=kept)
    slices = split(table, series, config)
    told(", ".join(f"{name}: {len(getattr(slices, name))} rows" for name in SLICES))
    named = None if encoder is None else f"{encoder.card.model_id}@{encoder.card.version}"
    return Given.of(series, config, named, table, slices)


def _learned(given: Given, graphs: Mapping[str, bytes], told: Told) -> tuple[_Judge, Learned]:
    """Return what was learned of the answers of ``graphs``, and who tells them."""
    config, cuts = given.config.ranker, given.slices.cuts
    ranks = rank_rows(given.series, config, cuts[-1])
    told(", ".join(f"{name}: {len(one.target)} ranked rows" for name, one in ranks.items()) or "nothing is ranked")
    judge = _Judge(given.table, given.slices, given.config, graphs, fitted(ranks, config, cuts[1]))
    booster = judge.trees()
    graph = converted(booster)
    calibration, tried = judge.veto_map(graph)
    return judge, Learned(
        maps=judge.maps,
        ranker=ranker_of(fitted(ranks, config, cuts[-1]), judge.worth, config),
        ranked={name: len(one.target) for name, one in ranks.items()},
        trees=booster.num_trees(),
        text=booster.model_to_string().encode(),
        graph=graph,
        calibration=calibration,
        tried=tried,
        skills=judge.skills(),
    )


def _precision(given: Given, networks: Mapping[str, FittedNetwork], learned: Learned) -> dict[str, dict[str, Any]]:
    """Return by network how much graphs of lower precision would decide otherwise, on the calibration slice."""
    table, rows = given.table, held_out_rows(given.slices.calibration)
    windows, group, days = SwingBatches(table).inputs(rows), table.groups(rows), table.day[rows]
    told = {"slice": "calibration", "from": iso_of(int(days.min())), "to": iso_of(int(days.max()))}
    named = dict(zip(INPUTS, windows, strict=True))
    return {name: told | compared(one.graph, named, learned.maps[name].centre, group) for name, one in networks.items()}


def _files(networks: Mapping[str, FittedNetwork], learned: Learned, *, keep_weights: bool) -> dict[str, bytes]:
    """Return what stands beside the card, by name."""
    files = {GRAPH: networks["stockformer"].graph, TFT: networks["tft"].graph}
    files |= {VETO: learned.graph, VETO_TEXT: learned.text}
    if keep_weights:
        files |= {f"{name}.safetensors": save(one.weights) for name, one in networks.items()}
    return files


def _forget(checkpoints: Collection[Path]) -> None:
    """Remove the checkpoints, and their folder where it is empty then."""
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    for folder in {checkpoint.parent for checkpoint in checkpoints}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


class _Judge:
    """What is learned from the graphs' answers, and what they say in the end."""

    def __init__(
        self,
        table: SwingTable,
        slices: SwingSlices,
        config: SwingConfig,
        graphs: Mapping[str, bytes],
        weights: Weights,
    ) -> None:
        self._table, self._slices, self._config, self._graphs = table, slices, config, graphs
        self._weights, rows = weights, slices.stack
        outputs = said_by(graphs, table, rows)
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
        raw = np.clip(trees_say(graph, vectors).astype(np.float64), 1e-7, 1 - 1e-7)
        return fit_binary(np.log(raw / (1 - raw)), wins)

    def skills(self) -> dict[str, Any]:
        """Return the rank skill of the ensemble by universe, on slices that fitted no weight."""
        rows = np.sort(np.concatenate((self._slices.stack, self._slices.calibration)))
        ahead, found = self._returns(rows).ensemble, {}
        for place, name in enumerate(self._table.universes):
            own = np.flatnonzero(self._table.universe[rows] == place)
            found[name] = rank_skill(ahead[own], self._table, rows[own], self._config.held_stride)
        return found

    def rates(self) -> dict[str, float]:
        """Return by universe how often the ensemble's trades won on the stack slice."""
        rows = self._slices.stack
        wins = trades_of(self._table.returns[rows], self._returns(rows).ensemble, self._config.cost)
        places = {name: self._table.universe[rows] == place for place, name in enumerate(self._table.universes)}
        return {name: float(wins[own].mean()) for name, own in places.items() if own.any()}

    def answers(self, rows: Rows, graph: bytes, card: SwingCard) -> tuple[Returns, Floats]:
        """Return what the bundle says of ``rows``."""
        newest = {} if card.ranker is None else {name: one.weights for name, one in card.ranker.universes.items()}
        vectors, _ = self._vectors(rows)
        return self._returns(rows, newest), veto_probability(card.veto, trees_say(graph, vectors))

    def _vectors(self, rows: Rows) -> tuple[NDArray[np.float32], Floats]:
        table, returns = self._table, self._returns(rows)
        vectors = swing_vectors(table.embedding[rows], table.context[rows])
        wins = trades_of(table.returns[rows], returns.ensemble, self._config.cost)
        return veto_vectors(vectors, *veto_extras(returns)), wins

    def _returns(self, rows: Rows, weights: Weights | None = None) -> Returns:
        outputs, units = said_by(self._graphs, self._table, rows), units_of(self._table.context[rows])
        ranking = ranking_of(self._table, rows, self._weights if weights is None else weights, self.worth)
        return returns_of(self.maps, outputs["stockformer"], outputs["tft"], units, ranking)
