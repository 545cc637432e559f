"""``python -m serving.training.job --root /opt/ml``: train what the job's parameters ask for.

Exit codes are SageMaker's: 0 where the bundle is in ``model/``, else 1 with the reason in ``output/failure``. A job
that was killed and is started again on the same folder continues from its last finished epoch.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fusiontrade.errors import FusionTradeError
from fusiontrade.inference.contract import ModelKind
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.rollover import rolls_over
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import read_bundle
from serving.card import ModelCard
from serving.features import BARS_NEEDED
from serving.instants import iso_of
from serving.models import ARCHITECTURES
from serving.training.config import PURGE_BARS, TrainingConfig
from serving.training.dataset import Pool, pool_of
from serving.training.fit import Epoch
from serving.training.job.contest import contest
from serving.training.job.layout import Layout
from serving.training.job.record import record_of
from serving.training.pipeline import train_bundle
from serving.training.prepared import Prepared, prepare

__all__ = ["main"]

_FITTED = 0.9
"""Share of the job's progress that its epochs are; the rest is calibration and judging."""

_FEWEST_BARS = BARS_NEEDED + 4 * PURGE_BARS
_PARTS = 10
_CHOSEN = ("kind", "timeframe", "begin_with_active")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job in the folder that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.training.job", description=__doc__)
    parser.add_argument("word", nargs="?", choices=["train"], help="SageMaker's name for this program")
    parser.add_argument("--root", type=Path, default=Path("/opt/ml"), help="the job's folder (default: %(default)s)")
    layout = Layout(parser.parse_args(arguments).root)
    try:
        _work(layout)
    except (FusionTradeError, ValueError, FloatingPointError) as error:
        layout.fail(str(error))
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    except Exception:
        layout.fail("the training program failed; its log says why")
        raise
    return 0


def _work(layout: Layout) -> None:
    parameters = layout.parameters()
    kind = _kind(parameters.get("kind", ""))
    timeframe = Timeframe.parse(parameters.get("timeframe", ""))
    config = _config(parameters)
    begin_with = layout.active if parameters.get("begin_with_active") == "true" else None
    if begin_with is None and "begin_with_active" in parameters:
        raise ValueError(f"there is no bundle of {kind} {timeframe} to begin with")
    told = _teller(layout, f"{kind}-{timeframe}", config.epochs)
    prepared = prepare(_pool(layout, timeframe), config)
    if begin_with is not None:
        _check_beginning(read_bundle(begin_with).card, prepared)
    made = train_bundle(prepared, kind, config, layout.checkpoints, progress=told, begin_with=begin_with)
    layout.model.mkdir(parents=True, exist_ok=True)
    placed = layout.model / made.name
    shutil.rmtree(placed, ignore_errors=True)
    shutil.copytree(made, placed)
    layout.finish(_outcome(layout, prepared, placed))
    layout.tell({"progress": 1.0, "model": made.name, "step": "done"})


def _check_beginning(card: ModelCard, prepared: Prepared) -> None:
    """Refuse weights that learned from what is to be held out from those that begin with them; raises ValueError."""
    spans = card.windows
    learned = spans.calibration[0] if spans.validation is None else spans.validation[1]
    reach = (PURGE_BARS if spans.validation is not None else 0) * prepared.pool.timeframe.milliseconds
    if learned + reach > (judged := prepared.slices.cuts[-1]):
        raise ValueError(
            f"version {card.version} learned from bars up to {iso_of(learned)}, and what begins with it would be "
            f"judged from {iso_of(judged)} on: ask again when there are newer bars, or train a version anew"
        )


def _outcome(layout: Layout, prepared: Prepared, placed: Path) -> Mapping[str, Any]:
    pool, rows = prepared.pool, prepared.slices.test
    comparison = None if layout.active is None else contest(placed, layout.active, pool, rows)
    return {
        "bundle": placed.name,
        "comparison": comparison,
        "record": record_of(placed, pool, rows),
    }


def _pool(layout: Layout, timeframe: Timeframe) -> Pool:
    frames = layout.frames(timeframe)
    enough = [(frame, rolls_over(parse_symbol(frame.symbol))) for frame in frames if len(frame) >= _FEWEST_BARS]
    if not enough:
        longest = max((len(frame) for frame in frames), default=0)
        raise ValueError(
            f"{longest} bars of {timeframe} are too few to train and to judge on: {_FEWEST_BARS} are needed at least"
        )
    for frame, _ in enough:
        _check_moves(frame)
    return pool_of(timeframe, enough)


def _check_moves(frame: CandleFrame) -> None:
    """Refuse bars whose price stands still for a tenth of the time; raises ValueError."""
    for rows in np.array_split(np.arange(len(frame)), _PARTS):
        if frame.high[rows].max() == frame.low[rows].min():
            first, last = (iso_of(int(frame.time[row])) for row in (rows[0], rows[-1]))
            raise ValueError(
                f"the price of {frame.symbol} does not move from {first} to {last}: there is nothing to learn from"
            )


def _teller(layout: Layout, name: str, epochs: int) -> Callable[[Epoch], None]:
    layout.tell({"progress": 0.0, "model": name, "epoch": 0, "epochs": epochs, "step": "preparing"})

    def told(epoch: Epoch) -> None:
        layout.tell(
            {
                "progress": round(_FITTED * epoch.number / epochs, 4),
                "model": name,
                "epoch": epoch.number,
                "epochs": epochs,
                "training_loss": round(epoch.training_loss, 6),
                "validation_loss": round(epoch.validation_loss, 6),
                "step": "fitting",
            }
        )
        print(
            f"{name} epoch {epoch.number}/{epochs}: loss {epoch.training_loss:.5f}, "
            f"validation {epoch.validation_loss:.5f}, {epoch.seconds:.1f} s",
            flush=True,
        )

    return told


def _config(parameters: Mapping[str, str]) -> TrainingConfig:
    """Return the training configuration of the job's parameters; raises ValueError for one that there is not."""
    defaults: dict[str, Any] = {field.name: field.default for field in fields(TrainingConfig)}
    chosen: dict[str, Any] = {}
    for name, text in parameters.items():
        if name in _CHOSEN:
            continue
        if name not in defaults:
            raise ValueError(f"{name} is no parameter of a training")
        chosen[name] = type(defaults[name])(text)
    return TrainingConfig(**chosen)


def _kind(text: str) -> ModelKind:
    for kind in ARCHITECTURES:
        if text == kind:
            return kind
    raise ValueError(f"{text!r} is no model: use one of {', '.join(ARCHITECTURES)}")


if __name__ == "__main__":
    raise SystemExit(main())
