"""Datasets: what each row knew and when its label was known, against the slices it was put into.

A slice is fitted, chosen or judged on as a whole, so every instant is compared over all symbols together: a label of
one symbol that ends inside the next slice tells about the other symbols there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.rollover import in_rollover
from serving.lookahead.checks.findings import Check, Finding, instant, span_of

__all__ = ["DatasetRows", "check_rows"]

Instants = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DatasetRows:
    """The rows of a dataset; all instants are ms since 1970-01-01 UTC.

    Parameters
    ----------
    order
        Names of the slices in the order of their use: the one that is fitted on first, the one that is judged last.
    place
        (n,) which of ``order`` a row belongs to.
    entry
        (n,) the instant the forecast is made.
    label_end
        (n,) the instant the label is known.
    bar
        Length of a bar, ms.
    symbol
        (n,) what the row is of; None where all are of one.
    bar_close
        (n,) the instant at which the newest bar that the inputs use was finished; None where it is not known.
    rolls_over
        (n,) whether the row's market has rollover hours (FX, metals); None where it is not known.
    """

    order: tuple[str, ...]
    place: NDArray[np.intp]
    entry: Instants
    label_end: Instants
    bar: int
    symbol: NDArray[np.str_] | None = None
    bar_close: Instants | None = None
    rolls_over: Mask | None = None

    def slices(self) -> Iterator[tuple[str, Mask]]:
        """Yield each slice that has rows: its name and its (n,) mask."""
        for number, name in enumerate(self.order):
            mask = self.place == number
            if mask.any():
                yield name, mask

    def row(self, mask: Mask) -> str:
        """Return the first row of ``mask`` in words."""
        number = int(np.flatnonzero(mask)[0])
        of = "" if self.symbol is None else f" of {self.symbol[number]}"
        return f"row {number}{of}, entry {instant(int(self.entry[number]))}"


def check_rows(rows: DatasetRows, *, embargo: int, as_of: int, name: str = "dataset") -> list[Check]:
    """Return the checks of a dataset.

    Parameters
    ----------
    rows
        What is checked.
    embargo
        Bars that have to lie between the end of the last label of a slice and the first entry of the next.
    as_of
        The instant at which the data were taken, or now, ms: nothing of it can have been finished later.
    name
        How the result calls the dataset.
    """
    unfinished = f"{name}: unfinished bars"
    rollover = f"{name}: rollover hours"
    checks = [
        _order(rows, f"{name}: order of the slices"),
        _overlap(rows, f"{name}: labels that overlap"),
        _embargo(rows, f"{name}: embargo", embargo),
        _unfinished(rows, unfinished, as_of),
    ]
    if rows.bar_close is None and checks[-1].outcome == "PASS":
        checks[-1] = Check.skipped(unfinished, "no bar_close: when was the newest bar of each row's inputs finished?")
    if len(names := [slice_ for slice_, _ in rows.slices()]) < 2:
        reason = f"one slice alone, {', '.join(names)}: there is no other that it could reach into"
        checks[1:3] = [Check.skipped(check.name, reason) for check in checks[1:3]]
        checks[0] = checks[0] if checks[0].findings else Check.skipped(checks[0].name, reason)
    if rows.rolls_over is None:
        return [*checks, Check.skipped(rollover, "no symbol names the market of a row: give symbol, or rolls_over")]
    return [*checks, _rollover(rows, rows.rolls_over, rollover)]


def _order(rows: DatasetRows, name: str) -> Check:
    findings = []
    for (before, first), (after, second) in pairwise(rows.slices()):
        begins = int(rows.entry[second].min())
        late = first & (rows.entry >= begins)
        if late.any():
            findings.append(
                Finding(
                    f"{before} and {after}",
                    f"{late.sum()} rows of {before} are entered at or after {instant(begins)}, where {after} begins",
                    "cut the slices at instants common to all symbols, never by shuffling or by symbol",
                    row=rows.row(late),
                    size=float(late.sum()),
                )
            )
    findings += _repeated(rows)
    told = ", ".join(f"{slice_} {mask.sum():,}" for slice_, mask in rows.slices())
    return Check.judged(name, findings, proved=f"each slice ends before the next begins ({told} rows)")


def _repeated(rows: DatasetRows) -> Iterator[Finding]:
    """Yield a finding where one entry of one symbol is there more than once."""
    symbol = np.zeros(len(rows.entry), np.intp)
    if rows.symbol is not None:
        symbol = np.unique(rows.symbol, return_inverse=True)[1].reshape(-1).astype(np.intp)
    elif len(np.unique(rows.entry)) < 0.9 * len(rows.entry):
        return  # several symbols without their names: equal entries are to be expected
    pairs = np.stack((symbol, rows.entry))
    _, first, counts = np.unique(pairs, axis=1, return_index=True, return_counts=True)
    if (counts > 1).any():
        again = np.isin(np.arange(len(rows.entry)), first[counts > 1])
        yield Finding(
            "all slices",
            f"{int((counts - 1).sum())} rows are there more than once",
            "drop duplicates before the slices are cut: a row of two slices is trained on and judged",
            row=rows.row(again),
            size=float((counts - 1).sum()),
        )


def _overlap(rows: DatasetRows, name: str) -> Check:
    findings = []
    for (before, first), (after, second) in pairwise(rows.slices()):
        begins = int(rows.entry[second].min())
        over = first & (rows.label_end > begins) & (rows.entry < begins)
        if over.any():
            longest = int(rows.label_end[over].max()) - begins
            findings.append(
                Finding(
                    f"{before} and {after}",
                    f"{over.sum()} labels of {before} are only known after {instant(begins)}, where {after} begins: "
                    f"up to {span_of(longest, rows.bar)} later",
                    f"purge: leave out the last rows of {before} whose label ends later than that",
                    row=rows.row(over),
                    size=longest / rows.bar,
                )
            )
    return Check.judged(name, findings, proved="every label is known before the next slice begins")


def _embargo(rows: DatasetRows, name: str, embargo: int) -> Check:
    findings, shortest = [], np.inf
    for (before, first), (after, second) in pairwise(rows.slices()):
        begins = int(rows.entry[second].min())
        inside = first & (rows.entry < begins)
        if not inside.any():
            continue
        gap = max(0, begins - int(rows.label_end[inside].max()))  # overlap is a check of its own
        shortest = min(shortest, gap / rows.bar)
        if gap < embargo * rows.bar:
            short = first & (rows.label_end > begins - embargo * rows.bar)
            findings.append(
                Finding(
                    f"{before} and {after}",
                    f"{span_of(gap, rows.bar)} between the last label of {before} and {after}, "
                    f"{embargo} were asked for",
                    f"leave out {short.sum()} more rows at the end of {before} (one window of inputs is usual)",
                    row=rows.row(short),
                    size=gap / rows.bar,
                )
            )
    told = f", the shortest is {shortest:.4g}" if np.isfinite(shortest) else ""
    return Check.judged(name, findings, proved=f"at least {embargo} bars lie between two slices{told}")


def _unfinished(rows: DatasetRows, name: str, as_of: int) -> Check:
    late: list[tuple[str, Callable[[], Instants], Instants, str]] = []
    if rows.bar_close is not None:
        late.append(("inputs", lambda: rows.entry, rows.bar_close, "enter at the close of the newest bar, not before"))
    late.append(("labels", lambda: np.full(len(rows.entry), as_of), rows.label_end, "drop the bar that was still open"))
    findings = []
    for what, limit, closes, remedy in late:
        ahead = closes - limit()
        if (ahead > 0).any():
            worst = int(ahead.max())
            than = "the row's entry" if what == "inputs" else instant(as_of)
            findings.append(
                Finding(
                    what,
                    f"{(ahead > 0).sum()} rows have {what} from a bar that was finished after {than}, "
                    f"up to {span_of(worst, rows.bar)} later: its high, low and close were not there yet",
                    remedy,
                    row=rows.row(ahead > 0),
                    size=worst / rows.bar,
                )
            )
    return Check.judged(name, findings, proved="every bar of the inputs was finished at the entry")


def _rollover(rows: DatasetRows, rolls_over: Mask, name: str) -> Check:
    kept = rolls_over & in_rollover(rows.entry) & (rows.place >= 0)
    findings = []
    for slice_, mask in rows.slices():
        if (mask & kept).any():
            count = int((mask & kept).sum())
            findings.append(
                Finding(
                    slice_,
                    f"{count} entries of FX or metals from 16:00 to 18:59 New York: spreads widen there and only the "
                    "bid is in the data, so a direction seems to be known",
                    "leave those entries out of every slice (fusiontrade.market.rollover.in_rollover)",
                    row=rows.row(mask & kept),
                    size=float(count),
                )
            )
    return Check.judged(name, findings, proved=f"none in {int(rolls_over.sum()):,} entries of FX and metals")
