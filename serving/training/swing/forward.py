"""``python -m serving.training.swing.forward --data FOLDER --before INSTANT``: the ranker walking forward by years.

Every year is ranked with weights of what was known before it, twenty sessions left out; nothing that closes at
``--before`` or later is read, so that slice stays untouched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fusiontrade.errors import FusionTradeError
from serving.evaluation.cross_section import Panel
from serving.evaluation.cross_section.ranks import MeanTest, mean_test, rank_correlations
from serving.instants import instant_of
from serving.models.swing import HORIZONS
from serving.swing.ranking import scored
from serving.training.swing.config import RankerConfig
from serving.training.swing.daily import DailySeries, read_daily
from serving.training.swing.ranker import RankRows, fitted, rank_rows

__all__ = ["main", "walked"]

_DAY_MS = 86_400_000


def walked(
    rows: Mapping[str, RankRows], series: Sequence[DailySeries], config: RankerConfig, years: Iterable[int]
) -> dict[str, dict[int, MeanTest]]:
    """Return by universe and horizon the test of the rank correlations of all sessions of ``years``.

    Parameters
    ----------
    rows
        Of `rank_rows`, of the same series.
    """
    chosen = [(_beginning(year), _beginning(year + 1)) for year in years]
    weights = [fitted(rows, config, begin) for begin, _ in chosen]
    found = {}
    for name, one in rows.items():
        own = [stock for stock in series if stock.universe == name]
        panel = Panel.of(
            [stock.frame for stock in own],
            factors={stock.symbol: stock.factor for stock in own},
            jumps={stock.symbol: stock.jumps for stock in own},
        )
        places = np.array([panel.symbols.index(stock.symbol) for stock in own])
        told = np.full(panel.open.shape, np.nan)
        opens = one.closes[one.session] - _DAY_MS
        for (begin, end), by_universe in zip(chosen, weights, strict=True):
            part = np.flatnonzero((opens >= begin) & (opens < end))
            if name in by_universe and len(part):
                told[one.session[part], places[one.stock[part]]] = scored(one.columns[part], by_universe[name])
        found[name] = {
            days: mean_test(rank_correlations(told, panel.from_open(days), config.fewest), horizon=days)
            for days in HORIZONS
        }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each universe and horizon; return the exit code.

    2: the data or the arguments are unusable, or no stock of any universe can be ranked.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.training.swing.forward", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and daily tables")
    parser.add_argument("--before", required=True, help="ISO instant: later bars are not read")
    parser.add_argument("--first", type=int, default=2014, help="first year that is ranked, default: %(default)s")
    parser.add_argument("--penalty", type=float, default=RankerConfig().penalty, help="default: %(default)s")
    asked = parser.parse_args(arguments)
    try:
        until = instant_of(asked.before, "before")
        config = replace(RankerConfig(), penalty=asked.penalty)
        series = [one.until(until - 1) for one in read_daily(asked.data) if one.frame.close_time[0] < until]
        if not series:
            raise ValueError(f"no bars end before {asked.before}: name a later instant")
        newest = max(int(one.frame.close_time[-1]) for one in series)
        last = int(str(np.datetime64(newest - 1, "ms").astype("datetime64[Y]")))
        if asked.first > last:
            raise ValueError(f"first is {asked.first}, but bars end in {last}: name an earlier year")
        with threadpool_limits(1):
            found = walked(rank_rows(series, config, until), series, config, range(asked.first, last + 1))
    except (FusionTradeError, ValueError) as error:
        print(f"not walked: {error}", file=sys.stderr)
        return 2
    ranked = {name: tests for name, tests in found.items() if any(test.n for test in tests.values())}
    for name in sorted({one.universe for one in series} - set(ranked)):
        why = f"no session from {asked.first} on has {config.fewest} stocks that can be ranked by sessions before it"
        print(f"{name}: not walked, {why}", file=sys.stderr)
    for name, by_horizon in ranked.items():
        for days, test in by_horizon.items():
            print(f"{name} {days:2} sessions: {test.mean:+.4f} (t {test.statistic:.1f}, {test.n} sessions)")
    return 0 if ranked else 2


def _beginning(year: int) -> int:
    return int(np.datetime64(f"{year}-01-01", "ms").astype(np.int64))


if __name__ == "__main__":
    raise SystemExit(main())
