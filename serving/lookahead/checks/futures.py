"""Features: row t may be a function of the newest ``window`` bars up to t, and of nothing else.

Three proofs at sampled moments t, each by calculating the features anew: on bars that end at t; on bars whose
continuation after t was altered; on the ``window`` bars up to t alone. In the first two no row up to t may differ, in
the third not row t. A feature that peeks once a month can escape a few moments: ask for more of them.

A function that keeps what it once said of a bar would answer all three with it. So a column that stays the same though
every bar was altered is asked for those bars at other instants too: what stays is of the clock, or a constant; what
becomes another number had been remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from serving.lookahead.checks.altering import all_altered, altered_futures, copied, earlier
from serving.lookahead.checks.findings import Check, Finding, Unusable, instant, spread

__all__ = ["TOLERANCE", "FeatureSet", "Table", "check_features"]

TOLERANCE = 1e-6
"""The most a value may differ, absolute below 1 and relative above."""
_AFTER = 20  # bars that are left after the last moment
_USE_THE_PAST = "use bars up to the row itself: shift by a positive number, average over the past, no centred windows"
_KEEP_THE_WINDOW = "start sums and averages at the left edge of the window, or declare a longer one with --window"
_KEEP_NOTHING = (
    "keep nothing between two calls: a cache by symbol, instant or row hides which bars a number was made of"
)
_BE_REPEATABLE = "seed what is random, and keep nothing between two calls"


@dataclass(frozen=True, eq=False)
class Table:
    """What a feature function answered: names, and (n, columns) float64."""

    columns: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """A feature function under its name.

    Parameters
    ----------
    name
        How the result calls it.
    compute
        From a frame of n bars to an (n, columns) or (n,) array, a mapping of names to (n,) arrays, or a pandas frame.
    window
        Bars a row may depend on, itself included.
    columns
        Names of the columns where ``compute`` answers an array.
    """

    name: str
    compute: Callable[[CandleFrame], object]
    window: int = 600
    columns: tuple[str, ...] = ()

    def table(self, frame: CandleFrame) -> Table:
        """Return the features of a frame; raises `Unusable` where the function fails or answers something else."""
        try:
            answer = self.compute(frame)
        except (Exception, SystemExit) as error:
            told = f"{type(error).__name__}: {error}"
            hint = "" if len(frame) > self.window else "; where it needs more bars, say so with --window"
            raise Unusable(
                f"{self.name} failed on {len(frame)} valid bars of {frame.symbol}: {told}. It is called with histories "
                f"of different lengths and has to answer each{hint}"
            ) from error
        table = _table(answer, self.columns)
        if table is None or len(table.values) != len(frame):
            shape = "something else" if table is None else f"{len(table.values)} rows"
            raise Unusable(
                f"{self.name} answered {shape} for {len(frame)} bars: return an array (bars, columns), a mapping of "
                "column names to arrays of one value a bar, or a pandas frame with one row a bar; NaN while warming up"
            )
        return table


@dataclass(frozen=True)
class _Worst:
    """The largest change of one column: its size, the moment, what was done to the future, how far ahead it saw."""

    size: float
    moment: int
    done: str
    ahead: int
    everything: bool


def check_features(
    features: FeatureSet,
    frames: Sequence[CandleFrame],
    *,
    moments: int = 8,
    seed: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Check]:
    """Return the three checks of a feature set over several series.

    Parameters
    ----------
    features
        What is checked.
    frames
        Checked bars, each series longer than the window by 40 at least; others are passed over.
    moments
        How many rows of each series are tried.
    seed
        Of the altered bars.
    advance
        Called after each series.

    Raises
    ------
    Unusable
        If the function fails, or answers anything but one row a bar.
    """
    cut: list[Finding] = []
    altered: list[Finding] = []
    past: list[Finding] = []
    empty: list[set[str]] = []
    columns = 0
    for frame in frames:
        if len(frame) >= features.window + 2 * _AFTER:
            whole = features.table(copied(frame))
            if unsteady := list(_changed(whole, features.table(copied(frame)), len(frame) - 1)):
                return [_unsteady(features, whole, unsteady)]
            at = spread(moments, features.window, len(frame) - 1 - _AFTER)
            shorter = list(_cut_futures(features, frame, whole, at))
            others = list(_altered_futures(features, frame, whole, at, seed))
            cut += _findings(frame, whole, shorter)
            altered += [*_findings(frame, whole, others), *_remembered(features, frame, whole, seed)]
            past += _past(features, frame, whole, at, {place for place, _ in (*shorter, *others)})
            silent = np.flatnonzero(~np.isfinite(whole.values[at]).any(axis=0))
            empty.append({whole.columns[place] for place in silent})
            columns = len(whole.columns)
        advance()
    names = [f"{features.name}: {what}" for what in ("cut the future", "alter the future", "cut the far past")]
    if not empty:
        reason = f"no series has {features.window + 2 * _AFTER} bars; give longer ones, or a shorter --window"
        return [Check.skipped(name, reason) for name in names]
    never = set.intersection(*empty)
    if len(never) == columns and not (cut or altered or past):
        reason = f"no column has a number at any of the moments tried; after {features.window} bars it should"
        return [Check.skipped(name, reason) for name in names]
    told = f"{columns - len(never)} columns, {len(empty)} series, {moments} moments each"
    told += f"; always empty: {', '.join(sorted(never)[:3])}" if never else ""
    excepted = "; columns that look ahead are not judged by it" if cut or altered else ""
    proved = (
        f"no row moves when the bars after it are left out ({told})",
        "no row moves when the bars after it are multiplied, shuffled, scattered",
        f"no row remembers more than {features.window} bars{excepted}",
    )
    return [
        Check.judged(name, findings, proved=words)
        for name, findings, words in zip(names, (cut, altered, past), proved, strict=True)
    ]


def _cut_futures(
    features: FeatureSet, frame: CandleFrame, whole: Table, at: Sequence[int]
) -> Iterator[tuple[int, _Worst]]:
    for moment in at:
        yield from _changed(whole, features.table(copied(frame, slice(0, moment + 1))), moment, "left out")


def _altered_futures(
    features: FeatureSet, frame: CandleFrame, whole: Table, at: Sequence[int], seed: int
) -> Iterator[tuple[int, _Worst]]:
    random = np.random.default_rng(seed)
    for moment in at:
        for done, other in altered_futures(frame, moment, random):
            yield from _changed(whole, features.table(other), moment, done)


def _remembered(features: FeatureSet, frame: CandleFrame, whole: Table, seed: int) -> Iterator[Finding]:
    """Yield the columns that answer altered bars as before, and those same bars at other instants otherwise."""
    other = all_altered(frame, np.random.default_rng(seed))
    moved = _apart(whole, features.table(other), features.window).any(axis=0)
    if moved.all():
        return
    later = Table(whole.columns, whole.values[1:])
    apart = _apart(later, features.table(earlier(other)), features.window)
    known = np.isfinite(later.values[features.window :]).sum(axis=0)
    for place in np.flatnonzero(~moved & (apart.sum(axis=0) > known / 2)):  # half: an hour may change with the clocks
        told = (
            "stays the same when every bar is altered, unless the bars are of other instants: it remembers what it said"
        )
        yield Finding(f"{frame.symbol} {whole.columns[place]}", told, _KEEP_NOTHING)


def _apart(before: Table, after: Table, first: int) -> NDArray[np.bool_]:
    """Return (n - first, columns) whether a value of the rows from ``first`` on differs."""
    _same_columns(before, after)
    return differences(before.values[first:], after.values[first:]) > TOLERANCE


def _changed(before: Table, after: Table, moment: int, done: str = "asked for again") -> Iterator[tuple[int, _Worst]]:
    """Yield each column that differs in a row up to ``moment``, with its largest difference."""
    _same_columns(before, after)
    old = before.values[: moment + 1]
    size = differences(old, after.values[: moment + 1])
    worst = size.max(axis=0)
    for place in np.flatnonzero(worst > TOLERANCE):
        rows = np.flatnonzero(size[:, place] > TOLERANCE)
        first_known = int(np.argmax(np.isfinite(old[:, place])))
        ahead = moment - int(rows[0]) + 1
        yield int(place), _Worst(float(worst[place]), moment, done, ahead, int(rows[0]) <= first_known)


def _same_columns(before: Table, after: Table) -> None:
    if before.columns != after.columns:
        raise Unusable(
            f"the feature function names its columns {before.columns[:3]} … and then {after.columns[:3]} …: "
            "it has to answer the same columns whatever the bars"
        )


def differences(before: Floats, after: Floats) -> Floats:
    """Return |difference|, relative where ``before`` exceeds 1; infinite where only one of the two is a number."""
    known = np.isfinite(before), np.isfinite(after)
    both = known[0] & known[1]
    size = np.zeros(before.shape)
    np.subtract(before, after, out=size, where=both)
    size = np.abs(size)
    np.divide(size, np.maximum(np.abs(before), 1.0), out=size, where=both)
    size[known[0] != known[1]] = np.inf
    return size


def _findings(frame: CandleFrame, whole: Table, changes: Sequence[tuple[int, _Worst]]) -> list[Finding]:
    """Return one finding per column: its largest change, and the farthest it was seen to look."""
    worst: dict[int, _Worst] = {}
    for place, change in changes:
        known = worst.get(place, change)
        larger = change if change.size > known.size else known
        ahead, everything = max(change.ahead, known.ahead), change.everything or known.everything
        worst[place] = _Worst(larger.size, larger.moment, larger.done, ahead, everything)
    return [
        Finding(
            where=f"{frame.symbol} {whole.columns[place]}",
            row=_row(frame, change.moment),
            size=change.size if np.isfinite(change.size) else None,
            told=f"{_moves(change.size)} when the bars after the row are {change.done}; {_reach(change)}",
            remedy=_USE_THE_PAST,
        )
        for place, change in sorted(worst.items())
    ]


def _past(features: FeatureSet, frame: CandleFrame, whole: Table, at: Sequence[int], ahead: set[int]) -> list[Finding]:
    """Return one finding per column that remembers too much, but for those that look ``ahead`` anyway."""
    worst: dict[int, tuple[float, int]] = {}
    for moment in at:
        short = features.table(copied(frame, slice(moment - features.window + 1, moment + 1)))
        size = differences(whole.values[moment], short.values[-1])
        for place in set(np.flatnonzero(size > TOLERANCE).tolist()) - ahead:
            worst[place] = max(worst.get(place, (0.0, 0)), (float(size[place]), moment))
    return [
        Finding(
            where=f"{frame.symbol} {whole.columns[place]}",
            row=_row(frame, moment),
            size=size if np.isfinite(size) else None,
            told=f"{_moves(size)} when all but {features.window} bars are left out: serving would see another number",
            remedy=_KEEP_THE_WINDOW,
        )
        for place, (size, moment) in sorted(worst.items())
    ]


def _unsteady(features: FeatureSet, whole: Table, changes: list[tuple[int, _Worst]]) -> Check:
    findings = [
        Finding(whole.columns[place], "differs between two calls with the same bars", _BE_REPEATABLE, size=change.size)
        for place, change in changes
    ]
    return Check.judged(f"{features.name}: the same bars, the same numbers", findings, proved="")


def _moves(size: float) -> str:
    return f"moves by {size:.3g}" if np.isfinite(size) else "appears or disappears"


def _reach(change: _Worst) -> str:
    if change.everything:
        return "even the first row knows them: something is fitted on all bars"
    return f"it looks {change.ahead} bar{'s' if change.ahead > 1 else ''} ahead, or more"


def _row(frame: CandleFrame, row: int) -> str:
    return f"row {row}, bar of {instant(int(frame.time[row]))}"


def _table(answer: object, names: tuple[str, ...]) -> Table | None:
    """Return an answer as a table, or None where it is none."""
    if isinstance(answer, Mapping):
        names, answer = tuple(map(str, answer)), list(answer.values())
        if not names or len({np.shape(column) for column in answer}) > 1:
            return None
        answer = np.stack([np.asarray(column) for column in answer], axis=-1)
    elif hasattr(answer, "columns") and hasattr(answer, "to_numpy"):
        names, answer = tuple(map(str, answer.columns)), answer.to_numpy()
    try:
        values: NDArray[np.float64] = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        return None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.shape[1]:
        return None
    if len(names) != values.shape[1]:
        names = tuple(f"column {place}" for place in range(values.shape[1]))
    return Table(names, values)
