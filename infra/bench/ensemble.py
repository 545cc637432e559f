"""The models beside the fused ones: sampled dropout in one batch, and daily stocks from bars to signals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.bench.rows import ROOT, Row, paired

__all__ = ["daily_walk", "rows"]

STARTER = ROOT / "serving" / "starter"
_STOCKS, _BARS, _SECONDS = 100, 600, 5


def rows() -> Iterator[Row]:
    """Measure what the shipped starters have; nothing of a kind that is not shipped."""
    if (folder := _first("transformer")) is not None:
        yield _sampling(folder)
    if (folder := _first("swing")) is not None:
        yield from _stocks(folder)


def _sampling(folder: Path) -> Row:
    """One window, every sample in one batch, against a pass for each."""
    import numpy as np

    from serving.bundle import load_bundle

    bundle = load_bundle(folder)
    features, dropout = bundle.card.features, bundle.card.dropout
    if dropout is None:
        raise ValueError(f"{bundle.card.model_id} samples nothing")
    random = np.random.default_rng(3)
    shapes = {
        "features": (1, features.sequence, len(features.columns)),
        "calendar": (1, features.sequence, len(features.calendar)),
        "volatility": (1, len(features.volatility)),
    }
    window = {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    single = [window | {"masks": mask[None, None]} for mask in dropout.masks]
    found = paired(
        lambda: bundle.graph.run(window),
        lambda: [bundle.graph.run(one) for one in single],
        rounds=30,
        repeat=5,
    )
    return Row.of(f"Monte-Carlo dropout, {dropout.samples} samples", f"{dropout.samples} passes", found, 5.0)


def _stocks(folder: Path) -> Iterator[Row]:
    """Bars of many stocks to signals, features and embeddings included, in one batch against one by one."""
    from serving.kronos.encoder import load_encoder
    from serving.swing import load_swing

    bundle = load_swing(folder)
    place = None if bundle.card.encoder is None else STARTER / bundle.card.encoder.partition("@")[0]
    frames = {f"S{number}": daily_walk(number) for number in range(_STOCKS)}

    def together() -> object:
        encoder = None if place is None else load_encoder(place)  # anew: it remembers what it embedded
        return bundle.answer(frames, encoder)

    def alone() -> object:
        encoder = None if place is None else load_encoder(place)
        return [bundle.answer({name: frame}, encoder) for name, frame in frames.items()]

    found = paired(together, alone, rounds=3)
    what, note = f"daily stocks, {_STOCKS} from bars to signals", "features, embeddings, all models, one thread"
    yield Row.of(what, "one stock at a time", found, None, note)
    taken = found.milliseconds
    asked = 1000 * _SECONDS / taken
    yield Row(what, f"{_SECONDS} s", taken, "ms", asked, asked, asked, 1.0, note)


def daily_walk(seed: int) -> Any:
    """Return 600 daily bars of a seeded random walk."""
    import numpy as np

    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.market.timeframes import Timeframe

    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.015, _BARS)))
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close) * 1.003, np.minimum(opened, close) * 0.997
    time = 1_600_041_600_000 + 86_400_000 * np.arange(_BARS, dtype=np.int64)
    volume = random.lognormal(10, 0.4, _BARS)
    return CandleFrame(f"S{seed}", Timeframe.D1, time, opened, high, low, close, volume).checked()


def _first(kind: str) -> Path | None:
    from serving.bundle import MANIFEST, kind_of

    found = sorted(path.parent for path in STARTER.glob(f"*/{MANIFEST}"))
    return next((folder for folder in found if kind_of(folder) == kind), None)
