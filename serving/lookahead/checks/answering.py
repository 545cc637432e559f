"""Models: what is answered for a bar may not depend on any bar after it.

A model is asked about a bar three times over: with the history as it was, with every later bar altered, and once
more after it has been shown other futures, so that what it kept in memory has its chance to show. The answers have to
be the same, bit for bit. A model whose answers stay the same even when every bar is altered is asked about those bars
at other instants: what it says of them shows whether it reads the clock alone, or remembers what it once said.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame
from serving.lookahead.checks.altering import all_altered, altered_futures, copied, earlier
from serving.lookahead.checks.findings import Check, Finding, Unusable, instant, spread
from serving.lookahead.checks.futures import TOLERANCE, differences

__all__ = ["Answers", "RowModel", "check_model", "row_model"]

Answers = Mapping[str, NDArray[np.float64]]
RowModel = Callable[[CandleFrame, int], Answers]
"""From a frame and a row of it to named arrays: what is answered at the close of that row's bar. Bars after the row may
be in the frame; they have to be ignored."""

_AFTER = 20
_Words = tuple[str, str]  # when it differs, and the remedy
_CUT = "cut the history at the row before anything is fitted, scaled or looked up"
_SHOWN = (
    "after it was shown another future",
    "keep nothing between calls that later bars can change: caches, running statistics, files written",
)
_KEPT = (
    "when every bar is another, but not for those bars at other instants: it keeps what it once said of a bar",
    "caches hide which bars an answer was made of: switch them off, or key them by the bars themselves",
)
_AGAIN = ("when asked again", "seed what is random (Monte-Carlo dropout too), so that equal bars get equal answers")


def check_model(
    name: str,
    model: RowModel,
    frames: Sequence[CandleFrame],
    *,
    first: int,
    moments: int = 8,
    seed: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Check]:
    """Return the checks of one model over several series.

    Parameters
    ----------
    name
        How the result calls it.
    model
        See `RowModel`.
    frames
        Checked bars; series without 20 bars after row ``first`` are passed over.
    first
        The first row that may be asked for.
    moments
        How many rows of each series are tried.
    seed
        Of the altered bars.
    advance
        Called after each series.

    Raises
    ------
    Unusable
        If the model fails, or answers nothing that is a number.
    """
    altered: list[Finding] = []
    memory: list[Finding] = []
    tried, outputs, numbers, deaf = 0, 0, 0, True
    names = [f"{name}: alter the future", f"{name}: remember the future"]
    random = np.random.default_rng(seed)
    for frame in frames:
        if len(frame) > first + 2 * _AFTER:
            rows = spread(moments, first + 1, len(frame) - 1 - _AFTER)
            again = model(copied(frame), rows[0]), model(copied(frame), rows[0])
            if unsteady := list(_differences(frame, rows[0], again, _AGAIN)):
                return [Check.judged(f"{name}: the same bars, the same answers", unsteady, proved="")]
            before = {row: model(copied(frame), row) for row in rows}
            for row in rows:
                for done, other in altered_futures(frame, row, random):
                    words = (f"when later bars are {done}", _CUT)
                    altered += _differences(frame, row, (before[row], model(other, row)), words)
                    model(other, len(frame) - _AFTER // 2)  # shown to it, not compared
                memory += _differences(frame, row, (before[row], model(copied(frame), row)), _SHOWN)
            unmoved, kept = _kept(model, frame, before, seed)
            deaf &= unmoved
            memory += kept
            tried, outputs = tried + 1, sum(np.size(part) for part in before[rows[0]].values())
            numbers += sum(int(np.isfinite(part).sum()) for answers in before.values() for part in answers.values())
        advance()
    if not tried:
        return [Check.skipped(one, f"no series has {first + 2 * _AFTER + 1} bars; give longer ones") for one in names]
    if not numbers and not (altered or memory):
        return [Check.skipped(one, "no answer is a number at any of the moments tried") for one in names]
    told = "no answer depends on the bars; " if deaf and not memory else ""
    told += f"{outputs} number{'' if outputs == 1 else 's'}, {tried} series, {moments} moments each"
    return [
        Check.judged(names[0], _worst(altered), proved=f"answers stay the same bit for bit ({told})"),
        Check.judged(names[1], _worst(memory), proved="answers stay the same after it was shown other futures"),
    ]


def _kept(model: RowModel, frame: CandleFrame, before: Mapping[int, Answers], seed: int) -> tuple[bool, list[Finding]]:
    """Return whether no answer follows when every bar is altered, and the finding that they had been remembered."""
    other = all_altered(frame, np.random.default_rng(seed))
    if any(_apart(answers, model(other, row)) for row, answers in before.items()):
        return False, []
    moved = earlier(other)
    apart = [row for row, answers in before.items() if _apart(answers, model(moved, row - 1))]
    if 2 * len(apart) <= len(before):  # a few: an hour may change with the clocks
        return True, []
    told, remedy = _KEPT
    at = f"row {apart[0]}, bar of {instant(int(frame.time[apart[0]]))}"
    return True, [Finding(frame.symbol, f"answers the same {told}", remedy, row=at)]


def _apart(before: Answers, after: Answers) -> bool:
    """Return whether any answer is another shape, or another number beyond rounding."""
    if {name: part.shape for name, part in before.items()} != {name: part.shape for name, part in after.items()}:
        return True
    return any((differences(part, after[name]) > TOLERANCE).any() for name, part in before.items())


def row_model(name: str, function: Callable[..., object]) -> RowModel:
    """Return a user's function as a model.

    ``function(frame)`` is called with the bars up to the row and answers for the last of them; ``function(frame, row)``
    is called with all bars. The answer is a number, an array, or a mapping of names to such.
    """
    try:
        needed = [
            one
            for one in inspect.signature(function).parameters.values()
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and one.default is one.empty
        ]
    except (TypeError, ValueError):
        needed = [inspect.Parameter("frame", inspect.Parameter.POSITIONAL_ONLY)]
    if len(needed) not in (1, 2):
        raise Unusable(f"{name} takes {len(needed)} arguments: it has to be function(frame) or function(frame, row)")
    with_row = len(needed) == 2

    def answered(frame: CandleFrame, row: int) -> Answers:
        try:
            # rows of the frame share its memory on purpose: a model that follows them to what comes later is caught
            answer = function(frame, row) if with_row else function(frame.rows(slice(0, row + 1)))
        except (Exception, SystemExit) as error:
            raise Unusable(
                f"{name} failed on {row + 1} valid bars of {frame.symbol}: {type(error).__name__}: {error}. "
                "Where it needs more bars, say so with --window"
            ) from error
        return _named(name, answer)

    return answered


def _named(name: str, answer: Any) -> Answers:
    parts = answer if isinstance(answer, Mapping) else {"answer": answer}
    try:
        named = {str(key): np.atleast_1d(np.asarray(value, np.float64)) for key, value in parts.items()}
    except (TypeError, ValueError):
        named = {}
    if not named or not all(part.size for part in named.values()):
        raise Unusable(
            f"{name} answered {type(answer).__name__}: return a number, an array, or a mapping of names to such"
        )
    return named


def _differences(frame: CandleFrame, row: int, pair: tuple[Answers, Answers], words: _Words) -> Iterator[Finding]:
    (before, after), (told, remedy) = pair, words
    at = f"row {row}, bar of {instant(int(frame.time[row]))}"
    for name in before.keys() | after.keys():
        old, new = (np.asarray(answers.get(name, np.nan), np.float64) for answers in (before, after))
        if old.shape != new.shape:
            yield Finding(f"{frame.symbol} {name}", f"answers another shape {told}", remedy, row=at)
        elif not np.array_equal(old, new, equal_nan=True):
            size = float(differences(old, new).max())
            known = size if np.isfinite(size) else None
            yield Finding(f"{frame.symbol} {name}", f"answers another number {told}", remedy, row=at, size=known)


def _worst(findings: list[Finding]) -> list[Finding]:
    """Return the largest finding of each place."""
    largest: dict[str, Finding] = {}
    for finding in findings:
        known = largest.setdefault(finding.where, finding)
        if (finding.size or 0.0) > (known.size or 0.0):
            largest[finding.where] = finding
    return [largest[where] for where in sorted(largest)]
