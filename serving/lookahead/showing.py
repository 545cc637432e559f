"""The result on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serving.lookahead.checks.findings import Check, Finding, Outcome

__all__ = ["as_json", "view"]

_COLOURS = {Outcome.PASS: "green", Outcome.FOUND: "bold red", Outcome.SKIPPED: "yellow"}
_SHOWN = 5


def view(checks: Sequence[Check]) -> RenderableType:
    """Return the table of checks, what was found in each, and the sum."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("check", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("what was proved, or why it was not", overflow="fold")
    for check in checks:
        table.add_row(Text(check.name), Text(check.outcome, style=_COLOURS[check.outcome]), Text(check.told))
    found = [part for check in checks if check.findings for part in _findings(check)]
    return Group(table, *found, Text(f"\n{_sum(checks)}"))


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the result as JSON values; every finding is there."""
    return {
        "clean": not any(check.outcome is Outcome.FOUND for check in checks),
        "checks": [{**asdict(check), "outcome": check.outcome.value} for check in checks],
    }


def _findings(check: Check) -> list[Text]:
    lines = [Text(f"\n{check.name}", style="bold")]
    for finding in check.findings[:_SHOWN]:
        lines.append(_line(finding))
    if len(check.findings) > _SHOWN:
        lines.append(Text(f"  and {len(check.findings) - _SHOWN} more (--json has all)"))
    for remedy in dict.fromkeys(finding.remedy for finding in check.findings[:_SHOWN]):
        lines.append(Text(f"  → {remedy}"))
    return lines


def _line(finding: Finding) -> Text:
    line = Text("  ")
    line.append(finding.where, style="red")
    line.append(f": {finding.told}")
    if finding.row:
        line.append(f" ({finding.row})", style="dim")
    return line


def _sum(checks: Sequence[Check]) -> str:
    counts = {outcome: sum(check.outcome is outcome for check in checks) for outcome in Outcome}
    told = f"{counts[Outcome.PASS]} passed, {counts[Outcome.FOUND]} found something, {counts[Outcome.SKIPPED]} skipped"
    return told if counts[Outcome.PASS] + counts[Outcome.FOUND] else f"{told}: nothing was proved"
