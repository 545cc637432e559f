"""``python -m serving.evaluation --data FOLDER --bundles FOLDER --out FOLDER``: the bundles judged anew.

Writes ``evaluation.json`` and ``evaluation.html``, a page that needs nothing else. Nothing is trained or chosen: the
rows are those that training left untouched.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from fusiontrade.errors import FusionTradeError
from fusiontrade.market.timeframes import Timeframe
from serving.instants import instant_of

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge what the command line names; return 0, or 2 where its folders cannot be used."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    from serving.evaluation.study.progress import shown
    from serving.evaluation.study.report import write
    from serving.evaluation.study.running import find_bundles, study
    from serving.evaluation.study.swing import swing_folder
    from serving.evaluation.study.timeframe import STEPS, Plan

    try:
        _check_out(chosen.out)
        timeframes = [Timeframe.parse(one.strip()) for one in chosen.timeframes.split(",") if one.strip()]
        plan = Plan(
            data=chosen.data,
            bundles=find_bundles(chosen.bundles, timeframes),
            left_out=_merged(map(find_bundles, chosen.left_out)),
            until=None if chosen.until is None else instant_of(chosen.until, "--until"),
            resamples=chosen.resamples,
            seed=chosen.seed,
            embeddings=chosen.embeddings,
            daily_stride=chosen.daily_stride,
            swing=swing_folder(chosen.bundles) if not timeframes or Timeframe.D1 in timeframes else None,
        )
        with shown(list(plan.bundles), STEPS, sys.stderr) as told:
            found = study(plan, _command(arguments), told, chosen.processes)
        paths = write(found, chosen.out)
    except BrokenProcessPool:
        print("evaluation stopped: a process was ended from outside, out of memory? Use --processes 1", file=sys.stderr)
        return 2
    except (FusionTradeError, ValueError, OSError) as error:
        print(f"evaluation stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluation stopped: nothing was written", file=sys.stderr)
        return 130
    met = [row["met"] for row in found["acceptance"]]
    print(f"targets: {met.count(True)} met, {met.count(False)} missed, {met.count(None)} not known")
    print(*(f"wrote {path}" for path in paths), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.evaluation", description=__doc__)
    parser.add_argument("--data", type=_candles, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument("--bundles", type=Path, required=True, help="folder of the bundles to judge")
    parser.add_argument("--out", type=Path, required=True, help="folder the two files go to")
    parser.add_argument("--timeframes", default="", help="default: every timeframe there is a bundle for")
    unseen = "folder of LSTM bundles trained without some symbols; may be given again"
    parser.add_argument("--left-out", type=Path, action="append", default=[], help=unseen)
    kept = "folder that keeps embeddings of daily bars between runs (making them takes longest)"
    parser.add_argument("--embeddings", type=Path, help=kept)
    every = "every k-th session of daily bars is judged (default: %(default)s)"
    parser.add_argument("--daily-stride", type=_positive, default=1, help=every)
    parser.add_argument("--until", help="use no bar that closed after this ISO instant, e.g. 2025-03-01T00:00:00Z")
    parser.add_argument("--resamples", type=_positive, default=500, help="behind each interval (default: %(default)s)")
    parser.add_argument("--seed", type=_seed, default=20240, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--processes", type=_positive, default=2, help="timeframes at a time (default: %(default)s)")
    return parser


def _merged(found: Iterable[dict[Timeframe, list[Path]]]) -> dict[Timeframe, list[Path]]:
    merged: dict[Timeframe, list[Path]] = {}
    for one in found:
        for timeframe, folders in one.items():
            merged.setdefault(timeframe, []).extend(folders)
    return merged


def _candles(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty: name a folder of candles, make evaluate MARKET_DATA_DIR=folder")
    return Path(text)


def _positive(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least {least}, got {text!r}")
    return int(text)


def _check_out(out: Path) -> None:
    """Refuse a place that could not be written to, before minutes of work."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"--out {out}: {there} is no folder that can be written to; name another")


def _command(arguments: Sequence[str] | None) -> str:
    return shlex.join(["python", "-m", "serving.evaluation", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    raise SystemExit(main())
