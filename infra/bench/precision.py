"""The starters' graphs with integer products against f32, and how often they decide the same.

The agreement of an intraday kind is that of its report, on held-out windows; the daily networks' is counted here, on
invented bars, since their report has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.bench.rows import ROOT, Row, paired

__all__ = ["rows"]

STARTER = ROOT / "serving" / "starter"
_KINDS = ("lstm", "gru", "cnn", "transformer", "patchtst")
_BATCH, _STOCKS = 16, 100
_REQUIRED, _FASTER = 0.995, 2.0

Inputs = Mapping[str, Any]


def rows() -> Iterator[Row]:
    """Measure one timeframe of each intraday kind that is shipped, then the daily networks."""
    for kind in _KINDS:
        if (folder := STARTER / f"{kind}-1h").is_dir():
            yield _intraday(folder)
    if (folder := STARTER / "swing-1d").is_dir():
        yield _daily(folder)


def _intraday(folder: Path) -> Row:
    import numpy as np

    from serving.bundle import GRAPH, REPORT, load_bundle
    from serving.training.precision.variants import int8

    judged = json.loads((folder / REPORT).read_bytes())["precision"]
    bundle = load_bundle(folder)
    random = np.random.default_rng(4)
    inputs = {
        node.name: [_BATCH, *node.shape[1:]] for node in bundle.graph.session.get_inputs() if node.name != "masks"
    }
    window: dict[str, Any] = {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in inputs.items()}
    if (dropout := bundle.card.dropout) is not None:
        window["masks"] = np.repeat(dropout.masks[None], _BATCH, axis=0)
    f32 = (folder / GRAPH).read_bytes()
    found = _compared(f32, int8(f32), window)
    told = ", ".join(f"{name} {_agreement(one)}" for name, one in judged["variants"].items())
    note = f"decisions as in f32, of {judged['windows']:,} held-out windows (least of a kind of decision): {told}; "
    note += f"{judged['required_agreement']:.1%} of each kind are asked for: {judged['chosen']} serves"
    return Row.of(f"{folder.name}, {_BATCH} windows, int8", "f32", found, None, note)


def _agreement(one: Mapping[str, Any]) -> str:
    if "agreement" not in one:
        return "–"
    return f"{100 * one['agreement']:.2f} % ({100 * one['least_agreement']:.2f} %)"


def _compared(f32: bytes, other: bytes, window: Inputs) -> Any:
    from serving.graph import session_of

    sessions = [session_of(content, "cpu", 1) for content in (other, f32)]
    ours, theirs = (lambda session=session: session.run(None, dict(window)) for session in sessions)
    return paired(ours, theirs, rounds=30, repeat=3)


def _daily(folder: Path) -> Row:
    """StockFormer and TFT over the windows of a hundred stocks, and whether their ensemble points the same way."""
    import numpy as np

    from infra.bench.ensemble import daily_walk
    from serving.bundle import GRAPH
    from serving.features.swing import EMBEDDING_NAMES, context, price_windows
    from serving.graph import session_of
    from serving.swing import load_swing
    from serving.swing.bundle import TFT
    from serving.swing.forecasting import returns_of, units_of
    from serving.training.precision.variants import int8

    bundle = load_swing(folder)
    frames = [daily_walk(number) for number in range(_STOCKS)]
    newest = np.array([len(frames[0]) - 1], np.intp)
    embedding = np.random.default_rng(5).normal(0, 1, (_STOCKS, len(EMBEDDING_NAMES))).astype(np.float32)
    given = {
        "prices": np.concatenate([price_windows(frame, newest) for frame in frames]),
        "context": np.concatenate([context(frame)[-1:] for frame in frames]),
        "embedding": embedding,
    }
    graphs = [(folder / name).read_bytes() for name in (GRAPH, TFT)]
    sides = [[session_of(one, "cpu", 1) for one in made] for made in ([int8(one) for one in graphs], graphs)]
    names = [[node.name for node in session.get_outputs()] for session in sides[0]]

    def run(side: list[Any]) -> tuple[Any, Any]:
        former, tft = (
            dict(zip(name, one.run(name, given), strict=True)) for name, one in zip(names, side, strict=True)
        )
        return former, tft

    units = units_of(given["context"])
    ours, theirs = (returns_of(bundle.card, former, tft, units).ensemble for former, tft in map(run, sides))
    same = float((np.sign(ours) == np.sign(theirs)).mean())
    found = paired(lambda: run(sides[0]), lambda: run(sides[1]), rounds=15)
    passes = same >= _REQUIRED
    note = f"{same:.2%} of {ours.size} directions (3, 5, 10 sessions) of invented stocks as in f32; "
    note += f"{_REQUIRED:.1%} are asked for: {'int8 may serve' if passes else 'f32 serves'}"
    return Row.of(f"StockFormer and TFT, {_STOCKS} stocks, int8", "f32", found, _FASTER if passes else None, note)
