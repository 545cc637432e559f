"""What serves beside the forecasters: at most one encoder of bars, one scorer of texts and one model of daily stocks.

Always true here: a bundle that must not serve keeps the one that it would have replaced, and is told with its reason;
one whose folder is gone is withdrawn, unless another of its kind was refused. Of several encoders the one serves that
the daily model learned from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusiontrade.errors import BundleRefused
from serving.bundle import MANIFEST, kind_of, said_by
from serving.engine import RefusedBundle
from serving.kronos.encoder import KIND as KRONOS
from serving.kronos.encoder import Encoder, EncoderCard, read_encoder
from serving.sealed import SealedCard, read_sealed
from serving.sentiment.scorer import KIND as SENTIMENT
from serving.sentiment.scorer import Classifier, SentimentCard, load_classifier
from serving.swing.bundle import SwingBundle, read_swing
from serving.swing.card import KIND as SWING
from serving.swing.card import SwingCard

__all__ = ["Companions"]

_log = logging.getLogger(__name__)

_CARDS: Mapping[str, type[SealedCard]] = {KRONOS: EncoderCard, SENTIMENT: SentimentCard, SWING: SwingCard}
_LOADERS: Mapping[str, Callable[..., Any]] = {
    KRONOS: read_encoder,
    SENTIMENT: load_classifier,
    SWING: read_swing,
}
_WHEN_ASKED = (KRONOS, SWING)  # whose graphs a start does not open


@dataclass(frozen=True, eq=False)
class Companions:
    """The bundles of other kinds than a forecaster's, and what was found and not loaded."""

    encoder: Encoder | None = None
    classifier: Classifier | None = None
    swing: SwingBundle | None = None
    refused: tuple[RefusedBundle, ...] = ()

    @classmethod
    def read(cls, folder: Path, *, device: str, threads: int, before: Companions | None = None) -> Companions:
        """Return what ``folder`` holds; a bundle of the version that serves already is not opened again.

        Parameters
        ----------
        folder
            Of bundle folders, or one bundle.
        before
            What serves until then; None at a start, which opens the graphs of encoder and daily model when they are
            first asked: a fifth of a second that no start has to wait for.
        """
        old: Mapping[str, Any] = {}
        if before is not None:
            old = {KRONOS: before.encoder, SENTIMENT: before.classifier, SWING: before.swing}
        found: dict[str, Any] = {}
        refused: list[RefusedBundle] = []
        failed: set[str] = set()
        for place in _folders(folder):
            kind = kind_of(place)
            try:
                if kind in found:
                    raise BundleRefused(f"{found[kind].folder.name} already serves as {kind}")
                found[kind] = _opened(place, kind, old.get(kind), device=device, threads=threads)
                if kind in _WHEN_ASKED and before is not None:
                    found[kind].open()
            except (BundleRefused, OSError) as error:
                refused.append(RefusedBundle(place.name, str(error)))
                _log.error("bundle refused", extra={"bundle": refused[-1].folder, "reason": refused[-1].reason})
                failed.add(kind)
            except Exception as error:  # whatever it breaks, the others are to be opened
                _log.exception("a bundle could not be opened", extra={"bundle": place.name})
                refused.append(RefusedBundle(place.name, f"could not be opened: {type(error).__name__}"))
                failed.add(kind)
        kept = {kind: old[kind] for kind in failed if kind not in found and old.get(kind) is not None}
        serving = {**kept, **found}
        return cls(serving.get(KRONOS), serving.get(SENTIMENT), serving.get(SWING), tuple(refused))

    def told(self) -> list[dict[str, Any]]:
        """Return what ``/models`` says of them."""
        rows: list[dict[str, Any]] = []
        if self.encoder is not None:
            card = self.encoder.card
            rows.append(_row(card, KRONOS) | {"width": card.width, "bars": card.sequence, "stand_in": card.stand_in})
        if self.classifier is not None:
            rows.append(_row(self.classifier.card, SENTIMENT))
        if self.swing is not None:
            one = self.swing.card
            told = {name: universe.abstains for name, universe in one.universes.items()}
            rows.append(_row(one, SWING) | {"encoder": one.encoder, "abstains": told})
        return rows


def _folders(folder: Path) -> list[Path]:
    """Return the folders of kinds that belong here, first the encoder that a daily model among them learned from."""
    if (folder / MANIFEST).is_file():
        return [folder] if kind_of(folder) in _CARDS else []
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    places = [path for path in found if kind_of(path) in _CARDS]
    learned = {str(_said(path).get("encoder")) for path in places if kind_of(path) == SWING}
    return sorted(places, key=lambda path: "{model_id}@{version}".format_map(_said(path)) not in learned)


def _said(place: Path) -> Mapping[str, Any]:
    """Return what the card in ``place`` says, of which nothing is verified."""
    return {"model_id": "", "version": ""} | said_by(place)


def _opened(place: Path, kind: str, old: Any, *, device: str, threads: int) -> Any:
    if old is not None:
        card, _ = read_sealed(place, _CARDS[kind])
        if card.version == old.card.version:
            return old
    opened = _LOADERS[kind](place, device=device, threads=threads)
    _log.info("bundle loaded", extra={"bundle": opened.card.model_id, "version": opened.card.version})
    return opened


def _row(card: SealedCard, kind: str) -> dict[str, Any]:
    return {"id": card.model_id, "version": card.version, "kind": kind, "precision": card.precision}
