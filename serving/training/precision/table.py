"""The figures behind a choice as rows of a Markdown table."""

from __future__ import annotations

from serving.training.precision.choosing import Choice
from serving.training.precision.cost import BATCHES, Timings

__all__ = ["HEAD", "rows_of"]

_COLUMNS = (
    "bundle",
    "variant",
    "agree, all decisions",
    "least agreed",
    "largest difference: probability",
    "quantile, ATR",
    "kB",
    "counted cost, 1 / 16",
    "measured time, 1 / 16",
    "chosen",
)
HEAD = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
"""The head of the table."""


def rows_of(name: str, choice: Choice, timings: Timings) -> str:
    """Return a row for f32 and each variant of the bundle ``name``; costs and times are shares of f32's."""
    report = choice.report
    rows = [[name, "f32", "", "", "", "", _kilobytes(report["f32"]["bytes"]), "1", _own(timings), _mark(report, "f32")]]
    for variant, figures in report["variants"].items():
        if "agreement" not in figures:
            rows.append([name, variant, figures["refused"], *[""] * 6, "no"])
            continue
        worst = figures["largest_difference"]
        rows.append(
            [
                name,
                variant,
                f"{figures['agreement']:.3%}",
                f"{figures['least_agreed']} {figures['least_agreement']:.3%}",
                f"{worst['probability']:.2g}",
                f"{worst['quantile_atr']:.2g}" if "quantile_atr" in worst else "",
                _kilobytes(figures["bytes"]),
                " / ".join(f"{figures['counted_ratio'][str(batch)]:.2f}" for batch in BATCHES),
                " / ".join(f"{timings[variant][str(batch)] / timings['f32'][str(batch)]:.2f}" for batch in BATCHES),
                _mark(report, variant),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _kilobytes(size: int) -> str:
    return f"{size / 1000:.0f}"


def _own(timings: Timings) -> str:
    return " / ".join(f"{timings['f32'][str(batch)]:.0f} µs" for batch in BATCHES)


def _mark(report: dict[str, object], name: str) -> str:
    return "**yes**" if report["chosen"] == name else "no"
