"""``python -m serving.kronos.training``: train the stand-in encoder on the bars of a folder and write its bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fusiontrade.errors import FusionTradeError
from serving.kronos.training.config import Recipe
from serving.kronos.training.run import train_encoder
from serving.kronos.training.windows import read_pool
from serving.training.export import ExportFailure

__all__ = ["main"]

_HELP = {
    "until": "ISO instant from which on no bar is seen",
    "tokenizer_steps": "steps of the tokenizer",
    "decoder_steps": "steps of the decoder",
    "batch": "windows of a step",
    "learning_rate": "Adam's largest step",
    "judged": "held-out windows behind the figures",
    "seed": "of weights and windows",
    "threads": "torch threads; part of what makes a run repeatable",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what the command line asks for; return the exit code (2: the data or the arguments cannot be used)."""
    chosen = _parser().parse_args(arguments)
    try:
        recipe = Recipe(**{name: getattr(chosen, name) for name in _HELP})
        pool = read_pool(chosen.data, recipe)
        counts = [f"{len(ends)} {code}" for (code, _), ends in zip(recipe.timeframes, pool.train.ends, strict=True)]
        print(f"{len(pool.data.series)} series before {recipe.until}, windows: {', '.join(counts)}", flush=True)
        folder = train_encoder(pool, recipe, chosen.out, model_id=chosen.name, told=_told, checkpoint=chosen.checkpoint)
    except (FusionTradeError, ExportFailure, ValueError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 2
    print(f"wrote {folder}", flush=True)
    return 0


def _told(name: str, step: int, steps: int, loss: float) -> None:
    print(f"{name} step {step}/{steps}: loss {loss:.4f}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.kronos.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder the bundle goes to; what was interrupted goes on there"
    )
    parser.add_argument("--name", default="kronos-compact", help="the bundle's name (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="keep the torch weights here, in the published layout")
    defaults = Recipe()
    for name, text in _HELP.items():
        value = getattr(defaults, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"{text} (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
