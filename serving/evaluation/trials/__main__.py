"""``python -m serving.evaluation.trials --data FOLDER --bundles FOLDER``: ways to calibrate, on the calibration slice.

Prints two Markdown tables, of intervals and of probabilities, with a row for each timeframe and way. Each LSTM bundle's
calibration slice is cut in two: maps are fitted on its earlier 40 %, every way walks through it, its later 60 % is
judged. Nothing of the untouched slice is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fusiontrade.errors import FusionTradeError
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import load_bundle
from serving.evaluation.study.running import find_bundles
from serving.evaluation.trials.chances import chance_trials
from serving.evaluation.trials.intervals import interval_trials
from serving.evaluation.trials.slice import slice_of

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return 0, or 2 where the folders cannot be used."""
    chosen = _parser().parse_args(arguments)
    intervals: list[dict[str, Any]] = []
    chances: list[dict[str, Any]] = []
    try:
        timeframes = [Timeframe.parse(one.strip()) for one in chosen.timeframes.split(",") if one.strip()]
        with threadpool_limits(1):
            for folders in find_bundles(chosen.bundles, timeframes).values():
                for bundle in (one for one in map(load_bundle, folders) if one.card.kind == "lstm"):
                    given = slice_of(bundle, chosen.data)
                    intervals += interval_trials(given)
                    chances += chance_trials(given)
                    print(f"{given.timeframe} is done", file=sys.stderr, flush=True)
    except (FusionTradeError, ValueError, OSError) as error:
        print(f"trials stopped: {error}", file=sys.stderr)
        return 2
    print(*_table(intervals), "", *_table(chances), sep="\n")
    return 0


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table of ``rows``, which have the same columns."""
    names = list(rows[0]) if rows else []
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(value: Any) -> str:
    return "N/A" if value is None else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.evaluation.trials", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument("--bundles", type=Path, required=True, help="folder of bundles with LSTMs among them")
    parser.add_argument("--timeframes", default="", help="default: every timeframe there is a bundle for")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
