"""Bundles for scenarios: copies of the starters, changed so that they are new, spoiled so that they must not serve."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.bundle import CARD, GRAPH, write_card, write_manifest
from serving.card import ModelCard
from serving.settings import STARTER_BUNDLES

__all__ = ["SPOILED", "changed", "copied"]


def copied(target: Path) -> Path:
    """Copy the starters to ``target`` and return it."""
    return Path(shutil.copytree(STARTER_BUNDLES, target))


def changed(bundle: Path, remark: dict[str, Any]) -> str:
    """Give ``bundle`` another version by a remark in its card; return the version. Files change one by one, as a
    careless upload's would."""
    card = ModelCard.model_validate_json((bundle / CARD).read_bytes())
    card = write_card(bundle, card.model_copy(update={"config": {**card.config, **remark}}))
    write_manifest(bundle)
    return card.version


def _flipped(bundle: Path) -> None:
    """Flip one bit of the graph: its checksum is wrong."""
    content = bytearray((bundle / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / GRAPH).write_bytes(bytes(content))


def _cut(bundle: Path) -> None:
    """Cut the card in half: an upload that is not done."""
    content = (bundle / CARD).read_bytes()
    (bundle / CARD).write_bytes(content[: len(content) // 2])


def _no_graph(bundle: Path) -> None:
    """Put noise where the graph was, with checksum and version as they should be."""
    (bundle / GRAPH).write_bytes(b"\x08\x07 this is no graph")
    changed(bundle, {})


def _not_a_number(bundle: Path) -> None:
    """Make weights NaN: well-formed, and every answer nonsense."""
    import numpy as np
    import onnx

    model = onnx.load_from_string((bundle / GRAPH).read_bytes())
    weights = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) == 2]
    for one in weights:
        spoiled = np.full(tuple(one.dims), np.nan, np.float32)
        one.CopyFrom(onnx.numpy_helper.from_array(spoiled, one.name))
    (bundle / GRAPH).write_bytes(model.SerializeToString())
    changed(bundle, {})


SPOILED: dict[str, Callable[[Path], None]] = {
    "a flipped bit": _flipped,
    "a card cut short": _cut,
    "noise for a graph": _no_graph,
    "weights of NaN": _not_a_number,
}
"""Ways to make a bundle one that must not serve."""
