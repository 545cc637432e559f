"""What a check says: passed, found, or skipped with the reason; and each finding with its place, size and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

__all__ = ["Check", "Finding", "Outcome", "Unusable", "instant", "span_of", "spread"]


class Outcome(StrEnum):
    """How a check ended."""

    PASS = "PASS"  # noqa: S105 - no password
    FOUND = "FOUND"
    SKIPPED = "SKIPPED"


class Unusable(Exception):
    """What was handed in cannot be checked; the message names the option and the remedy. A wrong usage: exit code 2."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Parameters
    ----------
    where
        The column, slice, series or figure.
    told
        What was seen.
    remedy
        What to do about it.
    row
        The row where it is largest, in words.
    size
        How large it is there, in the unit that ``told`` names; None where a size has no meaning.
    """

    where: str
    told: str
    remedy: str
    row: str | None = None
    size: float | None = None


@dataclass(frozen=True)
class Check:
    """One line of the result; ``told`` says what was proved, found, or why it was not looked at."""

    name: str
    outcome: Outcome
    told: str
    findings: tuple[Finding, ...] = ()

    @classmethod
    def judged(cls, name: str, findings: Iterable[Finding], *, proved: str) -> Check:
        """Return a check that passed with what it ``proved``, or found something."""
        found = tuple(findings)
        if not found:
            return cls(name, Outcome.PASS, proved)
        return cls(name, Outcome.FOUND, f"{len(found)} finding{'s' if len(found) > 1 else ''}", found)

    @classmethod
    def skipped(cls, name: str, reason: str) -> Check:
        """Return a check that was not made."""
        return cls(name, Outcome.SKIPPED, reason)


def instant(milliseconds: int) -> str:
    """Return an instant (ms UTC) as people write it."""
    return f"{np.datetime64(int(milliseconds), 'ms').astype('datetime64[m]')}Z"


def span_of(milliseconds: int, bar: int) -> str:
    """Return a length of time in bars of ``bar`` ms."""
    bars = milliseconds / bar
    return f"{bars:.4g} bar{'' if bars == 1 else 's'}"


def spread(count: int, first: int, last: int) -> Sequence[int]:
    """Return at most ``count`` whole numbers, evenly from ``first`` to ``last``, both included."""
    return [int(place) for place in np.unique(np.linspace(first, last, count).round().astype(np.int64))]
