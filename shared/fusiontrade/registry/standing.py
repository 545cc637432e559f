"""May a candidate take the place of the version that serves? Pure.

Always true here: a yes rests on both versions' losses on the same held-out bars (the paired comparison that the
training made), or, where both reports speak of the same held-out bars, on the published figures: none of the
candidate's may lie below the interval of the one that serves. Anything else is a no, with the reason in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusiontrade.registry.versions import ModelVersion

__all__ = ["Standing", "standing_of"]

FIGURES = {"touch_skill_over_climatology": 1, "win_skill_over_climatology": 1, "pinball_ratio": -1, "log_loss_skill": 1}
"""Figures that have to hold, and whether more (1) or less (-1) is better."""


@dataclass(frozen=True)
class Standing:
    """Whether a candidate may serve, and why (not)."""

    may_serve: bool
    reason: str


def standing_of(
    candidate: ModelVersion,
    active: ModelVersion | None,
    candidate_report: Mapping[str, Any],
    active_report: Mapping[str, Any] | None,
) -> Standing:
    """Return whether ``candidate`` may take the place of ``active``, by what is known of both."""
    if active is None:
        return Standing(True, "no other version serves")
    if candidate.status == "RETIRED" and candidate.activated_at is not None:
        return Standing(True, "it served before")
    if missing := sorted(set(active.symbols) - set(candidate.symbols)):
        return Standing(
            False,
            f"it neither learned from nor was judged on {', '.join(missing)}, which version {active.version} serves",
        )
    if candidate.comparison is not None and candidate.comparison.get("against") == active.version:
        return _by_comparison(candidate.comparison, active.version)
    if active_report is not None and _held_out(candidate_report) == _held_out(active_report):
        return _by_figures(candidate_report, active_report)
    return Standing(
        False, f"it was judged on other held-out bars than version {active.version}, so nothing says which is better"
    )


def _by_comparison(comparison: Mapping[str, Any], version: str) -> Standing:
    worse = [
        f"{name} {one['candidate']:.4f} against {one['active']:.4f}"
        for name, one in comparison.get("losses", {}).items()
        if not one.get("not_worse")
    ]
    if worse or not comparison.get("not_worse"):
        return Standing(False, f"on the same held-out bars it may be worse than version {version}: {', '.join(worse)}")
    return Standing(True, f"on the same held-out bars it is not worse than version {version}")


def _held_out(report: Mapping[str, Any]) -> tuple[Any, ...]:
    test = report.get("slices", {}).get("test", {})
    return (report.get("data_fingerprint"), test.get("from"), test.get("to"), test.get("rows"))


def _by_figures(candidate: Mapping[str, Any], active: Mapping[str, Any]) -> Standing:
    mine, theirs = (report.get("figures", {}).get("pooled", {}) for report in (candidate, active))
    shared = [name for name in FIGURES if name in mine and name in theirs]
    if not shared:
        return Standing(False, "the two reports have no figure in common")
    worse = [name for name in shared if not _holds(mine[name], theirs[name], FIGURES[name])]
    if worse:
        return Standing(False, f"its {', '.join(worse)} lie outside the interval of the version that serves")
    return Standing(True, f"its {', '.join(shared)} lie within the interval of the version that serves")


def _holds(mine: Mapping[str, Any], theirs: Mapping[str, Any], sign: int) -> bool:
    value, end = mine.get("value"), theirs.get("low" if sign > 0 else "high")
    return value is not None and end is not None and sign * (value - end) >= 0
