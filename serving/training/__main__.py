"""``python -m serving.training --data FOLDER --out FOLDER``: one bundle per model and timeframe, ``swing`` of days."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from fusiontrade.errors import FusionTradeError
from fusiontrade.inference.contract import ModelKind
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from serving.models import ARCHITECTURES
from serving.training.candles import read_candles
from serving.training.config import TrainingConfig
from serving.training.dataset import pool_of
from serving.training.fit import Epoch
from serving.training.pipeline import train_bundle
from serving.training.precision.settings import SETTINGS
from serving.training.prepared import prepare

SWING = "swing"
_Value = TypeVar("_Value")
_HELP = {
    "batch": "rows per step",
    "learning_rate": "Adam's first step",
    "epochs": "most passes over the data",
    "patience": "epochs without progress before stopping",
    "halve_after": "epochs without progress before the learning rate is halved",
    "rows_per_epoch": "at most so many training rows an epoch, 0: all",
    "rows_per_evaluation": "at most so many validation rows an epoch, 0: all",
    "bootstrap": "resamples behind each interval of the report",
    "train": "share of the rows to fit",
    "validation": "share to stop by",
    "calibration": "share to calibrate on",
    "judged_from": "ISO instant at which the untouched slice begins, empty: the last 18 %% of the rows",
    "precision": f"of the served graph: {', '.join(SETTINGS)}",
    "averaging": "decay of the average of the weights, 0: none",
    "seed": "of weights, order and bootstrap",
    "threads": "torch threads; part of what makes a run repeatable",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what the command line asks for; return the exit code (2: the data or the arguments cannot be used)."""
    chosen = _parser().parse_args(arguments)
    try:
        config = TrainingConfig(**{name: getattr(chosen, name) for name in _HELP})
        named = _listed(chosen.models, str)
        kinds = [_kind(name) for name in named if name != SWING]
        for timeframe in _listed(chosen.timeframes, Timeframe.parse) if kinds else ():
            _train_timeframe(timeframe, kinds, chosen, config)
        if SWING in named:
            _train_swing(chosen, config)
    except (FusionTradeError, ValueError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 2
    return 0


def _train_swing(chosen: argparse.Namespace, config: TrainingConfig) -> None:
    """Train the daily bundle as the intraday ones are asked to be; `serving.training.swing` has choices of its own."""
    from serving.kronos.encoder import load_encoder
    from serving.training.swing import SwingConfig, read_daily, train_swing

    def told(line: str) -> None:
        print(line, flush=True)

    given = replace(SwingConfig(), fitting=replace(config, judged_from=""), judged_from=config.judged_from)
    given = replace(given, trees=replace(given.trees, seed=config.seed))
    encoder = None if chosen.encoder is None else load_encoder(chosen.encoder)
    series = read_daily(chosen.data, symbols=tuple(_listed(chosen.symbols, str)))
    keep = not chosen.without_weights
    told(f"wrote {train_swing(series, given, chosen.out, encoder=encoder, keep_weights=keep, told=told)}")


def _train_timeframe(
    timeframe: Timeframe, kinds: Sequence[ModelKind], chosen: argparse.Namespace, config: TrainingConfig
) -> None:
    frames = read_candles(chosen.data, timeframe, tuple(_listed(chosen.symbols, str)))
    if not frames:
        raise ValueError(f"{chosen.data} has no series with enough {timeframe} bars")
    prepared = prepare(pool_of(timeframe, frames), config)
    slices = prepared.slices
    print(
        f"{timeframe}: {len(frames)} series, {len(slices.train)} rows to train, {len(slices.validation)} to validate, "
        f"{len(slices.calibration)} to calibrate, {len(slices.test)} to test",
        flush=True,
    )
    for kind in kinds:

        def told(epoch: Epoch, name: str = f"{kind}-{timeframe}") -> None:
            print(
                f"{name} epoch {epoch.number}/{config.epochs}: loss {epoch.training_loss:.5f}, "
                f"validation {epoch.validation_loss:.5f}, learning rate {epoch.learning_rate:.1e}, "
                f"{epoch.seconds:.0f} s",
                flush=True,
            )

        folder = train_bundle(
            prepared, kind, config, chosen.out, progress=told, keep_weights=not chosen.without_weights
        )
        print(f"wrote {folder}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument("--out", type=Path, required=True, help="folder the bundles go to")
    parser.add_argument("--timeframes", default=",".join(INTRADAY), help="default: %(default)s")
    parser.add_argument("--models", default=",".join(ARCHITECTURES), help=f"{SWING} may be one; default: %(default)s")
    parser.add_argument("--encoder", type=Path, help=f"bundle folder of the encoder of {SWING}")
    parser.add_argument("--symbols", default="", help="codes to train on, default: all of the folder")
    parser.add_argument("--without-weights", action="store_true", help="leave the torch weights out of the bundle")
    defaults = {field.name: field.default for field in fields(TrainingConfig)}
    for name, text in _HELP.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(defaults[name]),
            default=defaults[name],
            help=f"{text} (default: %(default)s)",
        )
    return parser


def _listed(text: str, parse: Callable[[str], _Value]) -> list[_Value]:
    return [parse(part.strip()) for part in text.split(",") if part.strip()]


def _kind(text: str) -> ModelKind:
    for kind in ARCHITECTURES:
        if text == kind:
            return kind
    raise ValueError(f"{text!r} is no model: use one of {', '.join([*ARCHITECTURES, SWING])}")


if __name__ == "__main__":
    raise SystemExit(main())
