"""The fused graphs of the starters, batch of one, one thread, against the same networks in eager torch."""

from __future__ import annotations

from collections.abc import Iterator

from infra.bench.opponents import eager_models, inputs_of
from infra.bench.rows import ROOT, Row, paired

__all__ = ["rows"]


def rows() -> Iterator[Row]:
    """Measure ten passes of each side in turn: a server goes on running the same models."""
    from fusiontrade.inference.contract import FUSED
    from serving.bundle import kind_of, load_bundle

    folders = sorted((ROOT / "serving" / "starter").glob("*-*"))
    bundles = [load_bundle(folder) for folder in folders if kind_of(folder) in FUSED]
    models = eager_models(bundles)
    feeds = [inputs_of(bundle) for bundle in bundles]
    found = paired(
        lambda: [bundle.graph.run(feed) for bundle, feed in zip(bundles, feeds, strict=True)],
        lambda: [model(feed) for model, feed in zip(models, feeds, strict=True)],
        rounds=40,
        repeat=10,
    )
    yield Row.of(f"fusion inference, {len(bundles)} models, batch of one", "eager torch, one thread", found, 4.0)
