"""``python -m serving.evaluation FOLDER``: the hold-out figures of every bundle in a folder, as Markdown tables.

What docs/training.md shows is this program's output: figures come from the reports beside the bundles, from nowhere
else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "tables"]

_ROWS: dict[str, dict[str, str]] = {
    "lstm": {
        "direction_auc": "direction: AUC",
        "baseline_logistic_direction_auc": "… logistic regression",
        "direction_log_loss_skill": "direction: log-loss skill over the training base rate",
        "direction_votes": "direction: share of rows with a vote",
        "direction_accuracy": "direction: accuracy of the votes",
        "baseline_persistence_accuracy": "… persistence",
        "direction_ece": "direction: ECE",
        "pinball_ratio": "next bar: pinball / rolling-500 quantiles",
        "coverage_90": "next bar: coverage of the 90 % interval",
        "either_touch_auc": "touch ±1 ATR, either side: AUC",
        "baseline_climatology_either_touch_auc": "… climatology",
        "baseline_logistic_either_touch_auc": "… logistic regression",
        "either_touch_skill_over_climatology": "touch ±1 ATR, either side: Brier skill over climatology",
        "touch_up_1_auc": "touch +1 ATR: AUC",
        "touch_down_1_auc": "touch -1 ATR: AUC",
        "touch_skill_over_climatology": "all ten touches: Brier skill over climatology",
        "touch_up_1_ece": "touch +1 ATR: ECE",
        "win_long_auc": "long trade wins: AUC",
        "win_short_auc": "short trade wins: AUC",
        "win_skill_over_climatology": "trade wins: Brier skill over climatology",
        "log_range_r2": "log range of 4 bars: R²",
    },
    "patchtst": {
        "accuracy": "accuracy of the likeliest class",
        "baseline_base_rate_accuracy": "… base rate",
        "baseline_logistic_accuracy": "… logistic regression",
        "log_loss_skill": "log-loss skill over the training base rate",
        "baseline_logistic_log_loss_skill": "… logistic regression",
        "up_against_down_auc": "up against down: AUC",
        "baseline_logistic_up_against_down_auc": "… logistic regression",
        "direction_accuracy": "votes that came true, of moves over 0.25 ATR",
        "votes_up": "share of votes up",
        "up_ece": "up: ECE",
    },
}
_ORDER = ("15m", "30m", "1h", "4h")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of the folder named on the command line; return 0, or 2 where it holds no report."""
    parser = argparse.ArgumentParser(prog="python -m serving.evaluation", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of bundles")
    reports = _reports(parser.parse_args(arguments).folder)
    if not reports:
        print("no report.json in any folder there")
        return 2
    print("\n".join(tables(reports)))
    return 0


def tables(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of one Markdown table per kind of model, a column per timeframe, intervals in brackets."""
    for kind, rows in _ROWS.items():
        chosen = sorted((r for r in reports if r["kind"] == kind), key=lambda r: _ORDER.index(r["timeframe"]))
        if not chosen:
            continue
        yield f"| {kind} | " + " | ".join(report["timeframe"] for report in chosen) + " |"
        yield "|---" * (len(chosen) + 1) + "|"
        yield "| rows of the test slice | " + " | ".join(f"{r['slices']['test']['rows']:,}" for r in chosen) + " |"
        yield "| its first day | " + " | ".join(r["slices"]["test"]["from"][:10] for r in chosen) + " |"
        for name, words in rows.items():
            cells = [_cell(report["figures"]["pooled"].get(name)) for report in chosen]
            yield f"| {words} | " + " | ".join(cells) + " |"
        yield ""


def _reports(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/report.json"))]


def _cell(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "–"
    if "noise_floor" in figure:
        return f"{figure['value']:.4f} (floor {figure['noise_floor']:.4f})"
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"


if __name__ == "__main__":
    raise SystemExit(main())
