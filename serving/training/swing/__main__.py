"""``python -m serving.training.swing --data FOLDER --out FOLDER``: the swing bundle from daily tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from fusiontrade.errors import FusionTradeError
from serving.models.veto import VetoConfig
from serving.swing import Encoding
from serving.training.config import TrainingConfig
from serving.training.swing.config import SwingConfig
from serving.training.swing.daily import read_daily
from serving.training.swing.pipeline import train_swing

__all__ = ["main"]

_OWN = {
    "train": "share of the days before the untouched slice: to fit",
    "validation": "share to stop by",
    "stack": "share to learn what scores are worth and to grow the veto",
    "judged_from": "ISO instant at which the untouched slice begins, empty: two years before the last bar",
    "stride": "every k-th session is fitted",
    "held_stride": "every k-th session is stopped by, calibrated and proven on",
    "judged_stride": "every k-th session is judged",
    "cost": "of entering and leaving together, as a fraction",
    "fewest": "stocks that a session needs to be ranked",
}
_FITTING = {
    "batch": "rows per step",
    "epochs": "most passes over the data",
    "learning_rate": "Adam's first step",
    "patience": "epochs without progress before stopping",
    "halve_after": "epochs without progress before the learning rate is halved",
    "rows_per_epoch": "at most so many training rows an epoch, 0: all",
    "averaging": "decay of the average of the weights, 0: none",
    "seed": "of weights, order and trees",
    "threads": "of torch; part of what makes a run repeatable",
}

_RANKING = {
    "penalty": "of a ranking weight's distance from that of all universes",
    "share": "of the ranker in the ensemble, at equal spreads",
    "fewest": "stocks that a session needs to be a cross-section",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what the command line asks for; return the exit code (2: the data or the arguments cannot be used)."""
    chosen = _parser().parse_args(arguments)
    try:
        config = _config(chosen)
        names = [
            tuple(part.strip() for part in text.split(",") if part.strip())
            for text in (chosen.universes, chosen.symbols)
        ]
        series = read_daily(chosen.data, *names)
        print(f"{len(series)} stocks of {', '.join(sorted({one.universe for one in series}))}", flush=True)
        folder = train_swing(
            series,
            config,
            chosen.out,
            encoder=_encoder(chosen.encoder),
            keep_weights=not chosen.without_weights,
            told=lambda line: print(line, flush=True),
            kept=chosen.embeddings,
        )
    except (FusionTradeError, ValueError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 2
    print(f"wrote {folder}", flush=True)
    return 0


def _config(chosen: argparse.Namespace) -> SwingConfig:
    base = SwingConfig()
    fitting: TrainingConfig = replace(base.fitting, **{name: getattr(chosen, name) for name in _FITTING})
    trees: VetoConfig = replace(base.trees, rounds=chosen.rounds, seed=chosen.seed)
    ranker = replace(base.ranker, **{name: getattr(chosen, f"rank_{name}") for name in _RANKING})
    own = {name: getattr(chosen, name) for name in _OWN}
    return replace(base, preset=chosen.preset, fitting=fitting, trees=trees, ranker=ranker, **own)


def _encoder(folder: Path | None) -> Encoding | None:
    if folder is None:
        return None
    from serving.kronos.encoder import load_encoder

    return load_encoder(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.training.swing", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and daily tables")
    parser.add_argument("--out", type=Path, required=True, help="folder the bundle goes to")
    parser.add_argument("--encoder", type=Path, help="bundle folder of the encoder; without: no embeddings")
    parser.add_argument("--embeddings", type=Path, help="folder that keeps embeddings between runs")
    parser.add_argument("--universes", default="", help="tables to learn from, default: all of the folder")
    parser.add_argument("--symbols", default="", help="codes to learn from, default: all")
    parser.add_argument("--preset", choices=("full", "small"), default="small", help="sizes, default: %(default)s")
    parser.add_argument("--rounds", type=int, default=VetoConfig().rounds, help="most trees of the veto")
    parser.add_argument("--without-weights", action="store_true", help="leave the torch weights out of the bundle")
    base = SwingConfig()
    defaults = {field.name: getattr(base, field.name) for field in fields(base)}
    defaults |= {
        field.name: getattr(base.fitting, field.name) for field in fields(base.fitting) if field.name in _FITTING
    }
    for name, text in (_OWN | _FITTING).items():
        kind, usual = type(defaults[name]), defaults[name]
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=usual, help=f"{text} (default: {usual})")
    for name, text in _RANKING.items():
        usual = getattr(base.ranker, name)
        parser.add_argument(f"--rank-{name}", type=type(usual), default=usual, help=f"{text} (default: {usual})")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
