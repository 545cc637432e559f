"""What a daily training learns from, what it learned, and what its bundle says of both: card and report."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fusiontrade
from serving.card import DataFingerprint, Metric, Windows
from serving.card import Series as CardSeries
from serving.features.swing import SWING_VERSION
from serving.instants import iso_of
from serving.sealed import Source
from serving.swing import SwingCard
from serving.swing.card import Ranker, ReturnMap, Universe
from serving.training.bundle import libraries
from serving.training.dataset import fingerprint
from serving.training.swing.config import SwingConfig
from serving.training.swing.daily import DailySeries
from serving.training.swing.judging import pooled_figures
from serving.training.swing.networks import FittedNetwork
from serving.training.swing.table import SwingSlices, SwingTable
from serving.training.swing.worth import RankSkill, proven

__all__ = ["SLICES", "Given", "Learned", "card_of", "judged_card", "report_of"]

Rows = NDArray[np.intp]
Json = dict[str, Any]
SLICES = ("train", "validation", "stack", "calibration", "test")


@dataclass(frozen=True, eq=False)
class Given:
    """What a training learns from; ``encoder`` names what made the embeddings, None: nothing did."""

    series: Sequence[DailySeries]
    config: SwingConfig
    encoder: str | None
    table: SwingTable
    slices: SwingSlices
    data: DataFingerprint

    @classmethod
    def of(
        cls,
        series: Sequence[DailySeries],
        config: SwingConfig,
        encoder: str | None,
        table: SwingTable,
        slices: SwingSlices,
    ) -> Given:
        """Return the same with the fingerprint of the data."""
        return cls(series, config, encoder, table, slices, _data(series))

    @property
    def choices(self) -> Json:
        """The configuration as a card holds it."""
        found: Json = json.loads(json.dumps(asdict(self.config)))
        return found

    @property
    def identity(self) -> str:
        """What a checkpoint has to be of."""
        return json.dumps([self.data.fingerprint, self.encoder, self.choices])


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned of the networks' answers, on slices that fitted no weight of them.

    Parameters
    ----------
    maps
        By network, what its scores are worth.
    ranker, ranked
        The third member, None where nothing is ranked; by universe the rows it was fitted to.
    trees, text, graph
        Of the veto: how many, as LightGBM writes them, and as a graph.
    calibration, tried
        Of the veto's logit, and the held log loss of each kind that was tried.
    skills
        By universe, how well the ensemble ranked.
    """

    maps: Mapping[str, ReturnMap]
    ranker: Ranker | None
    ranked: Mapping[str, int]
    trees: int
    text: bytes
    graph: bytes
    calibration: Any
    tried: Mapping[str, float]
    skills: Mapping[str, list[RankSkill]]


def card_of(model_id: str, given: Given, learned: Learned) -> SwingCard:
    """Return the card before anything was judged."""
    is_proven = proven(learned.skills)
    return SwingCard(
        model_id=model_id,
        config=given.choices,
        source=Source(how="trained"),
        code_version=fusiontrade.__version__,
        libraries=libraries() | {"lightgbm": importlib.metadata.version("lightgbm")},
        features=SWING_VERSION,
        encoder=given.encoder,
        stockformer=learned.maps["stockformer"],
        tft=learned.maps["tft"],
        ranker=learned.ranker,
        veto=learned.calibration,
        universes={
            name: Universe(symbols=_symbols(given.series, name), abstains=not is_proven[name])
            for name in given.table.universes
        },
        data=given.data,
        windows=_windows(given.table, given.slices),
        seed=given.config.fitting.seed,
    )


def judged_card(card: SwingCard, by_universe: Mapping[str, Any]) -> SwingCard:
    """Return the card with the figures of the untouched slice."""
    figures = {name: Metric(**values).model_dump() for name, values in pooled_figures(by_universe).items()}
    return SwingCard.model_validate(card.model_dump() | {"metrics": figures})


def report_of(
    given: Given, networks: Mapping[str, FittedNetwork], learned: Learned, by_universe: Mapping[str, Any]
) -> Json:
    """Return what ``report.json`` says."""
    return {
        "kind": "swing",
        "data_fingerprint": given.data.fingerprint,
        "encoder": given.encoder,
        "slices": {name: _slice(given.table, getattr(given.slices, name)) for name in SLICES},
        "models": {name: _network(one) for name, one in networks.items()},
        "ranker": dict(learned.ranked),
        "veto": {
            "trees": learned.trees,
            "held_log_loss": {key: round(loss, 6) for key, loss in learned.tried.items()},
        },
        "before_judging": {name: [one.as_dict() for one in found] for name, found in learned.skills.items()},
        "figures": {"pooled": pooled_figures(by_universe), "by_universe": by_universe},
        "survivorship": "both lists are today's members: what a portfolio made is flattered",
    }


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


def _slice(table: SwingTable, rows: Rows) -> Json:
    by_universe = {name: int((table.universe[rows] == place).sum()) for place, name in enumerate(table.universes)}
    first, last = int(table.day[rows].min()), int(table.day[rows].max())
    return {"rows": len(rows), "from": iso_of(first), "to": iso_of(last), "rows_by_universe": by_universe}


def _network(fitted: FittedNetwork) -> Json:
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
