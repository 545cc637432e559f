"""The slices a model card tells of: in order, apart by the labels' horizon and an embargo, within the data."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from serving.lookahead.checks.findings import Check, Finding, instant, span_of

__all__ = ["SLICES", "check_windows"]

SLICES = ("train", "validation", "calibration", "test")
"""Slices in the order of their use."""


def check_windows(
    windows: Mapping[str, tuple[int, int] | None], *, horizon: int, embargo: int, bar: int, name: str = "windows"
) -> Check:
    """Return the check of a card's windows.

    Parameters
    ----------
    windows
        First and last entry of each slice, ms; None where there is no such slice. Names outside `SLICES` come last.
    horizon
        Bars the labels look ahead.
    embargo
        Bars that have to be left out besides.
    bar
        Length of a bar, ms.
    name
        How the result calls the check.
    """
    ranked = sorted(windows, key=lambda slice_: SLICES.index(slice_) if slice_ in SLICES else len(SLICES))
    spans = [(slice_, span) for slice_ in ranked if (span := windows[slice_]) is not None]
    findings, shortest = [], None
    for (before, (_, ends)), (after, (begins, _)) in pairwise(spans):
        gap = begins - ends
        shortest = gap if shortest is None else min(shortest, gap)
        if gap <= 0:
            told = f"{before} ends {instant(ends)}, {after} begins {instant(begins)}: they overlap in time"
            remedy = "cut the slices in the order of time: train, validation, calibration, test"
        elif gap < horizon * bar:
            told = f"{span_of(gap, bar)} between {before} and {after}, the labels look {horizon} ahead: not purged"
            remedy = f"leave out the last {horizon} rows of {before}, and train anew"
        elif gap < (horizon + embargo) * bar:
            told = f"{span_of(gap, bar)} between {before} and {after}, {horizon} + {embargo} were asked for"
            remedy = f"leave out {horizon + embargo} rows before each cut, and train anew"
        else:
            continue
        findings.append(Finding(f"{before} and {after}", told, remedy, size=gap / bar))
    apart = "" if shortest is None else f", at least {span_of(shortest, bar)} apart"
    return Check.judged(name, findings, proved=f"{' < '.join(slice_ for slice_, _ in spans)}{apart}")
