"""Run by the interpreter of the environment ``bench``: ours and ``smartmoneyconcepts`` on the same bars, in turn.

``python -m infra.bench.smart_money_sides`` prints one JSON object: the seconds of both sides for each number of bars,
and how many of the library's events are ours. The library is given our distance of confirmation, five bars.
Seconds are the processor's, of one thread: a side that is interrupted by other programs is not slower for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame
from infra.bench.opponents import walk
from serving.features.swing.smart_money import smart_money
from serving.features.swing.structure import REACH, SWING_BARS, Structure, structure

__all__ = ["compared", "main"]

_ROUNDS = {1_000: 9, 10_000: 5}
_OURS = 5
"""Runs of ours in a row, of which the mean counts: one alone is too short to be timed."""

Table = Any
Events = set[tuple[Any, ...]]


def main() -> None:
    """Measure, compare, print."""
    timed = {}
    for bars, rounds in _ROUNDS.items():
        frame = walk(bars)
        ours, theirs = partial(smart_money, frame), _library(frame)
        ours(), theirs()
        own, other = [], []
        for _ in range(rounds):
            own.append(_seconds(ours, _OURS) / _OURS)
            other.append(_seconds(theirs))
        timed[bars] = {"ours": own, "theirs": other}
    print(json.dumps({"seconds": timed, "agreement": compared(walk(3_000))}))


def _seconds(side: Callable[[], object], runs: int = 1) -> float:
    begun = time.process_time()
    for _ in range(runs):
        side()
    return time.process_time() - begun


def _table(frame: CandleFrame) -> Table:
    import pandas as pd

    return pd.DataFrame({name: getattr(frame, name) for name in ("open", "high", "low", "close", "volume")})


def _library(frame: CandleFrame) -> Callable[[], object]:
    """Return a call that finds the library's counterparts of our columns."""
    from smartmoneyconcepts import smc  # type: ignore[import-not-found]

    table = _table(frame)

    def run() -> object:
        swings = smc.swing_highs_lows(table, swing_length=SWING_BARS)
        found = (smc.bos_choch(table, swings), smc.ob(table, swings), smc.liquidity(table, swings))
        return smc.fvg(table), *found

    return run


def compared(frame: CandleFrame) -> dict[str, dict[str, int]]:
    """Return by kind of event how many of the library's are ours, how many are not, and how many only we have.

    gaps
        Place, side, both edges, and the bar that touches the gap.
    swings
        Of each run of highs without a low between them the library keeps the highest, which it knows afterwards; so do
        we here. ``swings as they come``: ours without that.
    blocks
        Candle, side, both edges; the library is given our swings. It takes back every block that was traded through.
    breaks
        Row and side of those whose broken swing is our newest confirmed one; the others of the library are counted in
        ``breaks of an older swing``. ``their kind``: of the same, whether both call it a change of character.
    """
    from smartmoneyconcepts import smc

    table, found = _table(frame), structure(frame)
    swings = smc.swing_highs_lows(table, swing_length=SWING_BARS)
    given = swings.assign(HighLow=_marks(found.swings), Level=0.0)
    theirs = _events(swings["HighLow"].to_numpy()[1:-1], 1)  # the first and the last row are marked by hand there
    own, same, kinds, older = _breaks(found, smc.bos_choch(table, swings))
    return {
        "gaps": _counted(_our_gaps(found), _their_gaps(smc.fvg(table), len(frame))),
        "swings": _counted(_alternating(found.swings, frame), theirs),
        "swings as they come": _counted(_events(_marks(found.swings), 0), theirs),
        "blocks": _counted(_blocks(found), _their_blocks(smc.ob(table, given))),
        "breaks": _counted(own, same),
        "breaks of an older swing": {"theirs alone": older},
        "their kind": kinds,
    }


def _counted(ours: Events, theirs: Events) -> dict[str, int]:
    return {"both": len(ours & theirs), "ours alone": len(ours - theirs), "theirs alone": len(theirs - ours)}


def _marks(swings: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (n,) 1 at swing highs, -1 at swing lows, else NaN; a bar that is both is a high, as in the library."""
    return np.where(swings[0], 1.0, np.where(swings[1], -1.0, np.nan))


def _events(marks: NDArray[np.float64], first: int) -> Events:
    return {(int(row) + first, int(marks[row])) for row in np.flatnonzero(~np.isnan(marks))}


def _alternating(swings: NDArray[np.bool_], frame: CandleFrame) -> Events:
    """Return of each run of highs (lows) without a low (high) between them the outermost: known only afterwards."""
    marks = _marks(swings)
    kept: list[tuple[int, int, float]] = []
    for row in np.flatnonzero(~np.isnan(marks)).tolist():
        side = int(marks[row])
        level = side * float(frame.high[row] if side > 0 else frame.low[row])
        if kept and kept[-1][1] == side:
            if level > kept[-1][2]:
                kept[-1] = (row, side, level)
        else:
            kept.append((row, side, level))
    return {(row, side) for row, side, _ in kept}


def _sign(side: NDArray[np.intp]) -> list[int]:
    return [1 - 2 * one for one in side.tolist()]


def _our_gaps(found: Structure) -> Events:
    one = found.gaps
    ends = np.where(one.ends < one.born + REACH, one.ends, -1)
    columns = (one.place.tolist(), _sign(one.side), one.top.tolist(), one.bottom.tolist(), ends.tolist())
    return set(zip(*columns, strict=True))


def _their_gaps(gaps: Table, rows: int) -> Events:
    events: Events = set()
    for row in np.flatnonzero(gaps["FVG"].notna()).tolist():
        side, top, bottom, touched = (float(gaps[name][row]) for name in ("FVG", "Top", "Bottom", "MitigatedIndex"))
        ends = int(touched) if touched else rows
        events.add((row, int(side), top, bottom, ends if ends < row + 1 + REACH else -1))
    return events


def _blocks(found: Structure) -> Events:
    one = found.blocks
    edges = (one.top.astype(np.float32).tolist(), one.bottom.astype(np.float32).tolist())
    return set(zip(one.place.tolist(), _sign(one.side), *edges, strict=True))


def _their_blocks(blocks: Table) -> Events:
    rows = np.flatnonzero(blocks["OB"].notna())
    return {(int(row), int(blocks["OB"][row]), float(blocks["Top"][row]), float(blocks["Bottom"][row])) for row in rows}


def _breaks(found: Structure, breaks: Table) -> tuple[Events, Events, dict[str, int], int]:
    """Return our breaks, theirs of a swing that is our newest, how their kinds agree, and how many theirs there are."""
    one = found.breaks
    ours = dict(zip(zip(one.row.tolist(), _sign(one.side), strict=True), one.change.tolist(), strict=True))
    same, kinds, older = set(), {"both": 0, "theirs alone": 0}, 0
    for name, change in (("BOS", False), ("CHOCH", True)):
        for swing in np.flatnonzero(breaks[name].notna()).tolist():
            side, row = int(breaks[name][swing]), int(breaks["BrokenIndex"][swing])
            newest = np.flatnonzero(found.swings[0 if side > 0 else 1][: row - SWING_BARS + 1])[-1]
            if newest != swing:
                older += 1
                continue
            same.add((row, side))
            kinds["both" if ours.get((row, side)) == change else "theirs alone"] += 1
    return set(ours), same, kinds, older


if __name__ == "__main__":
    main()
