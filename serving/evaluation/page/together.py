"""The table of the ensemble: its members and the ways to take their mean, before the judged slice and on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.evaluation.page.tables import MISSING, Cell, Table, chance, number, ordered, table, told

__all__ = ["ensemble_table"]

Json = Mapping[str, Any]


def ensemble_table(timeframes: Json) -> Table | None:
    """Return the ensemble beside each member and each way to take the mean: before the judged slice, and on it."""
    rows: list[list[str | Cell]] = []
    for name in ordered(timeframes):
        together: Json = timeframes[name].get("ensemble") or {}
        ways = {way["name"]: way for way in together.get("ways", ())}
        for one in together.get("compared", ()):
            way: Json = ways.get(one["name"]) or {"before": {}, "weights": {}, "chosen": False}
            pinball, touch = one["pinball_ratio"], one["either_touch_skill_over_climatology"]
            rows.append(
                [
                    name,
                    Cell(one["name"] + (" (chosen)" if way["chosen"] else ""), "good" if way["chosen"] else ""),
                    ", ".join(f"{kind} {weight:.2f}" for kind, weight in way["weights"].items() if weight) or "alone",
                    number(way["before"].get("pinball_ratio")),
                    number(way["before"].get("either_touch_skill_over_climatology")),
                    told(pinball),
                    *(("–", "–") if way["chosen"] else _less(pinball)),
                    told(touch),
                    *(("–", "–") if way["chosen"] else _less(touch)),
                    told(one["coverage_90"], 3),
                ]
            )
    if not rows:
        return None
    columns = (
        *("timeframe", "beside the ensemble", "weights", "before: pinball ratio", "before: touch skill"),
        *("pinball ratio", "ensemble less it", "p", "touch skill", "ensemble less it", "p", "coverage"),
    )
    return table("The ensemble, its members, and other ways to take their mean, on the same rows", columns, rows)


def _less(figure: Json) -> tuple[str, str]:
    p = figure.get("p_value")
    return told(figure["difference"]), MISSING if p is None else chance(p)
