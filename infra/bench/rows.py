"""Rows of the table: two sides measured in turn, what came out, and how it differs from an earlier run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

__all__ = ["ROOT", "Paired", "Row", "fresh", "machine", "paired", "read", "table", "written"]

ROOT = Path(__file__).resolve().parents[2]

Side = Callable[[], object]


@dataclass(frozen=True)
class Paired:
    """Our median time in ms, and theirs / ours: the median over neighbouring runs and the quartiles around it."""

    milliseconds: float
    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Paired:
        """Return the comparison of seconds that were measured in turn."""
        ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
        low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return cls(1000 * median(ours), middle, low, high)


@dataclass(frozen=True)
class Row:
    """One comparison: how many times as long, or as much, ``against`` takes as ``what``.

    Parameters
    ----------
    target
        The least ratio that counts; None where the row only tells.
    figure, unit
        Our own absolute figure, for orientation: it holds for one machine and one hour.
    note
        What one has to know to read the row.
    """

    what: str
    against: str
    figure: float
    unit: str
    ratio: float
    low: float
    high: float
    target: float | None
    note: str = ""

    @classmethod
    def of(cls, what: str, against: str, found: Paired, target: float | None, note: str = "") -> Row:
        """Return the row of a comparison of times."""
        return cls(what, against, found.milliseconds, "ms", found.ratio, found.low, found.high, target, note)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.ratio >= self.target

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED``, or nothing."""
        return {None: "", True: "met", False: "MISSED"}[self.met]


def paired(ours: Side, theirs: Side, *, rounds: int, repeat: int = 1) -> Paired:
    """Measure both sides in turn after one warm-up each.

    Parameters
    ----------
    rounds
        How often each side is measured.
    repeat
        Calls of one measurement; more than one lets each side find its own data in the caches, as a program does
        that goes on doing the same.
    """
    ours(), theirs()
    own, other = [], []
    for _ in range(rounds):
        own.append(_seconds(ours, repeat))
        other.append(_seconds(theirs, repeat))
    return Paired.of(own, other)


def _seconds(side: Side, repeat: int) -> float:
    begun = time.perf_counter()
    for _ in range(repeat):
        side()
    return (time.perf_counter() - begun) / repeat


def fresh(python: Path, code: str, environment: Mapping[str, str], *flags: str) -> Side:
    """Return a call that runs ``code`` in a new interpreter with exactly ``environment``, and fails where it does."""
    command = [str(python), *flags, "-c", code]

    def run() -> None:
        told = subprocess.run(
            command, cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if told.returncode:
            raise RuntimeError(f"{code!r} ended with {told.returncode}: {told.stderr.strip()[-2000:]}")

    return run


def machine() -> str:
    """Return what ran this."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def table(rows: Sequence[Row], earlier: Mapping[str, float]) -> list[str]:
    """Return one line of text for each row; ``earlier`` holds ratios by row, of the run to compare with."""
    return [_line(row, earlier.get(_key(row))) for row in rows]


def _line(row: Row, before: float | None) -> str:
    target = "" if row.target is None else f"{row.target:.2f}x"
    change = "" if before is None else f"{100 * (row.ratio / before - 1):+.0f} %"
    spread = f"({row.low:.2f}-{row.high:.2f})"
    figure = f"{row.figure:,.2f} {row.unit}"
    return (
        f"{row.what:<56} {figure:>14}  {row.against:<40} {row.ratio:>8.2f}x {spread:<16} {target:>8}  "
        f"{row.verdict:<7} {change:>7}"
    ).rstrip()


def _key(row: Row) -> str:
    return f"{row.what} | {row.against}"


def written(path: Path, rows: Sequence[Row], date: str) -> dict[str, Any]:
    """Write the result of a run to ``path``, keeping what it held of rows that were not measured; return it."""
    known: dict[str, Any] = {}
    if path.is_file():
        known = {f"{one['what']} | {one['against']}": one for one in json.loads(path.read_text())["rows"]}
    known |= {_key(row): asdict(row) | {"met": row.met, "machine": machine(), "date": date} for row in rows}
    result = {"rows": list(known.values())}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return result


def read(path: Path) -> dict[str, float]:
    """Return the ratios of an earlier run by row; none where there was no run."""
    if not path.is_file():
        return {}
    return {f"{row['what']} | {row['against']}": row["ratio"] for row in json.loads(path.read_text())["rows"]}
