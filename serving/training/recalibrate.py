"""``python -m serving.training.recalibrate``: calibrate and judge finished bundles anew, their graphs as they are.

For bundles made before the way of calibrating changed: maps, direction rules, adjustments and figures come out as a
training of today would write them, from the bundle's own slices; nothing is fitted but those.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fusiontrade.errors import FusionTradeError
from serving.bundle import ELSEWHERE, GRAPH, REPORT, RUN, kind_of, load_bundle
from serving.card import ModelCard
from serving.evaluation.answering import run_bundle
from serving.training.bundle import F32_GRAPH, WEIGHTS, Finished, write_bundle
from serving.training.candles import read_candles
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool, pool_of
from serving.training.judging.curves import curves_of
from serving.training.judging.judge import calibrated_patchtst, calibrated_sequence, judged
from serving.training.judging.references import held_out
from serving.training.prepared import Prepared, batches_of, data_of, prepare

__all__ = ["main", "recalibrated"]

_FOUND = {"calibration", "directions", "centres", "unrest_exponent", "adjustments", "thresholds", "abstains", "metrics"}


def recalibrated(folder: Path, pool: Pool) -> Finished:
    """Return the bundle of ``folder`` with its calibration and figures found anew.

    Parameters
    ----------
    pool
        The series it was trained on.

    Raises
    ------
    ValueError
        If the pool is not what the bundle was trained on, its inputs would be scaled otherwise today, or the bundle
        was adopted by a symbol: adopt it again after the bundle that was trained has been recalibrated.
    """
    bundle = load_bundle(folder)
    card = bundle.card
    if card.adopted:
        raise ValueError(f"{card.model_id} was adopted by {', '.join(one.symbol for one in card.adopted)}")
    if data_of(pool).fingerprint != card.data.fingerprint:
        raise ValueError(f"{card.model_id} was trained on other candles: {', '.join(card.universe)} must be the same")
    config = TrainingConfig(**card.config["training"])  # type: ignore[arg-type]
    prepared = prepare(pool, config)
    if not _prepared_alike(prepared, card):
        raise ValueError(f"{card.model_id} was prepared otherwise than a training of today prepares: train it anew")
    answer = partial(run_bundle, bundle, batches_of(prepared, "indicators" if card.is_sequence else "candles"))
    known = {name: value for name, value in card if name not in _FOUND | {"version"}}
    calibrated = calibrated_sequence if card.is_sequence else calibrated_patchtst
    fresh, found = calibrated(known, prepared, answer)
    fresh, figures = judged(fresh, prepared, held_out(prepared), answer, config)
    curves = curves_of(fresh, answer(prepared.slices.test), pool, prepared.slices.test)
    report = json.loads((folder / REPORT).read_text("utf-8")) | found | {"figures": figures, "curves": curves}
    run = json.loads((folder / RUN).read_text("utf-8")) if (folder / RUN).is_file() else {}
    weights = load_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
    f32 = (folder / F32_GRAPH).read_bytes() if (folder / F32_GRAPH).is_file() else None
    return Finished(fresh, (folder / GRAPH).read_bytes(), report, run, weights, f32_graph=f32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write each bundle that is chosen anew; return the exit code (2: none was there, or one failed)."""
    chosen = _parser().parse_args(arguments)
    kinds = {part.strip() for part in chosen.models.split(",") if part.strip()}
    found = [path.parent for path in sorted(chosen.bundles.glob("*/model.json"))]
    folders = [one for one in found if (kind := kind_of(one)) not in ELSEWHERE and (not kinds or kind in kinds)]
    if not folders:
        print(f"nothing recalibrated: {chosen.bundles} has no bundle of a timeframe and such a kind", file=sys.stderr)
        return 2
    try:
        with threadpool_limits(1):
            for folder in folders:
                card = load_bundle(folder).card
                pool = pool_of(card.timeframe, read_candles(chosen.data, card.timeframe, card.universe))
                print(f"wrote {write_bundle(recalibrated(folder, pool), chosen.out)}", flush=True)
    except (FusionTradeError, ValueError, OSError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 2
    return 0


def _prepared_alike(prepared: Prepared, card: ModelCard) -> bool:
    """Return whether graphs would be asked what they were taught; a card keeps 9 digits of its scalers."""
    fitted, kept = [prepared.volatility_scaler], [card.volatility_scaler]
    if card.scaler is not None:
        fitted, kept = [*fitted, prepared.scaler], [*kept, card.scaler]
    close = (
        np.allclose(getattr(made, part), getattr(own, part), rtol=0.0, atol=1e-9)
        for made, own in zip(fitted, kept, strict=True)
        for part in ("center", "scale")
    )
    return all(close) and {name: tuple(week.tolist()) for name, week in prepared.season.items()} == card.season


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.training.recalibrate", description=__doc__)
    parser.add_argument("--bundles", type=Path, required=True, help="folder of bundle folders")
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument("--out", type=Path, required=True, help="folder the bundles go to; may be the same")
    parser.add_argument("--models", default="", help="kinds, with commas (default: all that are there)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
