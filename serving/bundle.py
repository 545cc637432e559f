"""Bundles: a folder with one model, read so that nothing unverified is ever run.

``model.json`` (the card), ``model.onnx`` (the graph), ``report.json`` (how it was measured), optionally more plain
files, and ``manifest.json`` with the sha256 of each of them. ``run.json`` (dates, timings) stands outside the
manifest. Always true of a `Bundle`: every file was the one the manifest names, the bytes that were hashed are the
bytes that run, the card is of this schema, asks for exactly the features this program computes, the report is of this
model and these data and holds the card's metrics, and the graph answered a neutral window with finite numbers of the
right shapes. Anything else is `BundleRefused`, with the reason.

The graph contract (batch axis free, float32)::

    lstm      features (N, 60, 50) scaled by the card's scaler, calendar (N, 60, C), volatility (N, V) scaled likewise
              → direction (N), change (N), quantiles (N, 5), touch (N, 15), win (N, 2), log_range (N)
    gru, cnn, transformer  as an lstm; a transformer takes masks (N, S, M) as well and answers samples (N, S, 18)
    patchtst  candles (N, 120, 5), calendar (N, C), volatility (N, V)
              → classes (N, 3) logits up, flat, down
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fusiontrade.errors import BundleRefused
from serving.card import SCHEMA_VERSION, ModelCard

if TYPE_CHECKING:
    from serving.graph import Graph

__all__ = [
    "CARD",
    "ELSEWHERE",
    "GRAPH",
    "MANIFEST",
    "REPORT",
    "RUN",
    "Bundle",
    "SealedBundle",
    "kind_of",
    "load_bundle",
    "read_bundle",
    "said_by",
    "verified_files",
    "write_card",
    "write_manifest",
]

CARD, GRAPH, REPORT, MANIFEST, RUN = "model.json", "model.onnx", "report.json", "manifest.json", "run.json"
ELSEWHERE = frozenset({"swing", "kronos", "sentiment"})
"""Kinds of bundles whose cards are others than `ModelCard`; they have loaders of their own."""
_REQUIRED = (CARD, GRAPH, REPORT)
_OUTSIDE = {MANIFEST, RUN}
_LONGEST_GRAPH = 2**31  # bytes: protobuf's own limit
_LONGEST_TEXT = 64 * 2**20  # of manifest, card and report: reports have 0.15 MB
_TEXTS = {MANIFEST, CARD, REPORT}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified model, ready to run."""

    folder: Path
    card: ModelCard
    graph: Graph


@dataclass(frozen=True, eq=False)
class SealedBundle:
    """A bundle whose files were verified and whose graph was not opened yet."""

    folder: Path
    card: ModelCard
    graph: bytes

    def opened(self, *, device: str = "cpu", threads: int = 1) -> Bundle:
        """Return the bundle ready to run; parameters and errors as for `load_bundle`."""
        from serving.graph import open_graph

        return Bundle(self.folder, self.card, open_graph(self.graph, self.card, device=device, threads=threads))


def load_bundle(folder: Path, *, device: str = "cpu", threads: int = 1) -> Bundle:
    """Verify the bundle in ``folder`` and make it ready to run.

    Parameters
    ----------
    folder
        The bundle's folder.
    device
        ``cpu``, ``cuda`` or ``auto`` (cuda where ONNX Runtime has it).
    threads
        Threads ONNX Runtime may use inside one call.

    Raises
    ------
    BundleRefused
        With the first reason why this bundle must not serve.
    """
    return read_bundle(folder).opened(device=device, threads=threads)


def read_bundle(folder: Path) -> SealedBundle:
    """Verify the files of the bundle in ``folder``; raises `BundleRefused` as `load_bundle` does."""
    contents = verified_files(folder)
    card = _card(contents[CARD])
    _check_features(card)
    _check_report(_json_object(contents[REPORT], REPORT), card)
    if card.version != (expected := card.stamped(contents[GRAPH]).version):
        raise BundleRefused(f"{CARD} says version {card.version!r}, but its content is version {expected!r}")
    return SealedBundle(folder, card, contents[GRAPH])


def write_card(folder: Path, card: ModelCard) -> ModelCard:
    """Write ``card`` beside the graph already in ``folder``, stamped with their common version; return it so."""
    stamped = card.stamped((folder / GRAPH).read_bytes())
    _write_json(folder / CARD, stamped.model_dump(mode="json"))
    return stamped


def write_manifest(folder: Path) -> dict[str, str]:
    """Write ``manifest.json`` over the files now in ``folder`` (the last step of making a bundle); return it."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in _OUTSIDE)
    files = {name: _sha256((folder / name).read_bytes()) for name in names}
    _write_json(folder / MANIFEST, {"files": files})
    return files


def said_by(folder: Path) -> dict[str, Any]:
    """Return what the card in ``folder`` says, empty where there is none; nothing is verified."""
    try:
        return _json_object(_content(folder / CARD), CARD)
    except (BundleRefused, OSError):
        return {}


def kind_of(folder: Path) -> str:
    """Return the kind that the card in ``folder`` names, empty where there is none; nothing is verified."""
    kind = said_by(folder).get("kind")
    return kind if isinstance(kind, str) else ""


def verified_files(folder: Path, required: tuple[str, ...] = _REQUIRED) -> dict[str, bytes]:
    """Return the bytes of every file of the manifest, read once and equal to their checksum.

    Raises
    ------
    BundleRefused
        If a file differs, is missing or is not in the manifest, or one of ``required`` is not.
    """
    if not (folder / MANIFEST).is_file():
        raise BundleRefused(f"{folder.name} has no {MANIFEST}")
    manifest = _json_object(_content(folder / MANIFEST), MANIFEST).get("files")
    if not isinstance(manifest, dict):
        raise BundleRefused(f"{MANIFEST} has no object 'files'")
    for name in manifest:
        if not _PLAIN_NAME.fullmatch(name) or name in _OUTSIDE:
            raise BundleRefused(f"{MANIFEST} names {name!r}, which is no plain file of this folder")
    for name in required:
        if name not in manifest:
            raise BundleRefused(f"{MANIFEST} does not name {name}")
    for path in sorted(folder.iterdir()):
        if path.name not in manifest and path.name not in _OUTSIDE:
            raise BundleRefused(f"{path.name} is not in {MANIFEST}")
    return {name: _verified(folder / name, checksum) for name, checksum in manifest.items()}


def _verified(path: Path, checksum: object) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise BundleRefused(f"{path.name} is in {MANIFEST} but not a file of the folder")
    content = _content(path)
    if (actual := _sha256(content)) != checksum:
        raise BundleRefused(f"{path.name} has sha256 {actual[:12]}…, {MANIFEST} says {str(checksum)[:12]}…")
    return content


def _content(path: Path) -> bytes:
    """Return what is in a file, which neither lets wait without end, as a pipe does, nor fills the memory."""
    if not path.is_file():
        raise BundleRefused(f"{path.name} is no file")
    most = _LONGEST_TEXT if path.name in _TEXTS else _LONGEST_GRAPH
    if (size := path.stat().st_size) > most:
        raise BundleRefused(f"{path.name} has {size} bytes, {most} are the most that are read")
    with path.open("rb") as file:
        return file.read(most)


def _card(content: bytes) -> ModelCard:
    version = _json_object(content, CARD).get("schema_version")
    if version != SCHEMA_VERSION:
        known = f"this program reads {SCHEMA_VERSION}: train it anew"
        raise BundleRefused(f"{CARD} has schema version {version!r}, {known}")
    try:
        return ModelCard.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleRefused(f"{CARD}: {where + ': ' if where else ''}{first['msg']}") from None


def _check_features(card: ModelCard) -> None:
    """Refuse a card that asks for other features than this program computes."""
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

    indicators = ("indicators", LSTM_LENGTH, INDICATORS)
    candles = ("candles", PATCHTST_LENGTH, CANDLE_CHANNELS)
    name, sequence, columns = indicators if card.is_sequence else candles
    expected: dict[str, object] = {
        "version": FEATURE_VERSION,
        "name": name,
        "sequence": sequence,
        "window": WINDOW,
        "columns": columns,
        "calendar": CALENDAR,
        "volatility": VOLATILITY,
    }
    for field, value in expected.items():
        asked = getattr(card.features, field)
        if asked != value:
            raise BundleRefused(f"features.{field} of {card.model_id}: {_difference(asked, value)}")


def _check_report(report: dict[str, Any], card: ModelCard) -> None:
    """Refuse a report that is not of this model and these data, or does not hold the figures the card shows."""
    named = {"model_id": card.model_id, "timeframe": card.timeframe.value, "data_fingerprint": card.data.fingerprint}
    for field, value in named.items():
        if report.get(field) != value:
            raise BundleRefused(f"{REPORT} has {field} {report.get(field)!r}, {CARD} says {value!r}")
    figures = report.get("figures")
    pooled = figures.get("pooled") if isinstance(figures, dict) else None
    if not isinstance(pooled, dict) or not pooled:
        raise BundleRefused(f"{REPORT} holds no figures: a model that was not measured must not serve")
    for name, metric in card.metrics.items():
        figure = pooled.get(name)
        if not isinstance(figure, dict) or figure.get("value") != metric.value:
            raise BundleRefused(f"{REPORT} does not hold {name} {metric.value} of {CARD}")


def _difference(asked: object, computed: object) -> str:
    if (
        isinstance(asked, tuple)
        and isinstance(computed, tuple)
        and (unknown := [n for n in asked if n not in computed])
    ):
        return f"asks for unknown {', '.join(map(repr, unknown[:5]))}"
    return f"asks for {asked!r}, this program computes {computed!r}"


def _json_object(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleRefused(f"{name} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleRefused(f"{name} is no JSON object")
    return value


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
