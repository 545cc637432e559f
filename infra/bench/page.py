"""``docs/performance.md``: the tables are written here, between two marks; the words around them by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.bench.rows import ROOT, Row, written

__all__ = ["PAGE", "PUBLISHED", "publish"]

PAGE = ROOT / "docs" / "performance.md"
PUBLISHED = ROOT / "docs" / "performance.json"
_BEGIN, _END = "<!-- written by make bench ARGS=--publish -->", "<!-- end -->"


def publish(rows: Sequence[Row], date: str) -> None:
    """Write the JSON that later runs compare with, and the table of all rows it holds."""
    known = written(PUBLISHED, rows, date)["rows"]
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not mark or not end:
        raise RuntimeError(f"{PAGE.name} has lost its marks {_BEGIN} and {_END}")
    PAGE.write_text(f"{before}{_BEGIN}\n{_table(known)}\n{_END}{after}", encoding="utf-8")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["| what | against | ours | ratio (quartiles) | target | | measured |", "|---|---|---:|---:|---:|---|---|"]
    return "\n".join([*head, *map(_line, rows)])


def _line(row: Mapping[str, Any]) -> str:
    target = "" if row["target"] is None else f"{row['target']:.2f}×"
    verdict = {None: "", True: "met", False: "**missed**"}[row["met"]]
    note = f"<br>{row['note']}" if row["note"] else ""
    ratio = f"{row['ratio']:.2f}× ({row['low']:.2f}–{row['high']:.2f})"
    figure = f"{row['figure']:,.2f} {row['unit']}"
    return f"| {row['what']}{note} | {row['against']} | {figure} | {ratio} | {target} | {verdict} | {row['date']} |"
