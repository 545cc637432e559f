"""The plots of a study as SVG images in data URIs: drawn from its JSON, the same bytes for the same JSON.

Text and axes take the reader's colour scheme, so a plot is legible on a light and on a dark page; nothing in an image
names another address.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from serving.evaluation.page.tables import KINDS, baseline_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Plot", "all_plots", "timeframe_plots"]

Json = Mapping[str, Any]

_INK = "#010203"  # stands for the reader's text colour until the image is written
_STYLE = b"<style>:root{color:#24292f}@media (prefers-color-scheme:dark){:root{color:#d5dae0}}</style>"
_COLOURS = ("#3b82c4", "#d9822b", "#2e9e6b", "#a05fc4", "#c2455a", "#7a8490", "#b59b2f", "#2aa5a5")
_CURVES = {"roc": "ROC", "pr": "precision and recall"}
_HEADS = {
    "direction": "direction up",
    "touch_either_1": "±1 ATR, either side",
    "climatology": "the same by weekday × hour",
    "touch_up_1": "+1 ATR",
    "touch_down_1": "-1 ATR",
    "win_long": "long trade wins",
    "win_short": "short trade wins",
    "up": "up",
    "flat": "flat",
    "down": "down",
}


@dataclass(frozen=True)
class Plot:
    """An image: its address, its caption, and what it shows in words."""

    source: str
    caption: str
    alternative: str


def all_plots(timeframes: Json) -> Iterator[Plot]:
    """Yield the plots over all timeframes: pinball ratio by series, walk-forward skill."""
    ratios = {name: found for name, part in timeframes.items() if (found := _by_symbol(part))}
    if ratios:
        yield _drawn(
            [partial(_pinball, ratios=ratios)],
            "Pinball loss of the next bar relative to rolling-500 quantiles, each series with its 95 % interval",
            height=0.9 + 0.16 * sum(map(len, ratios.values())),
        )
    folds = {name: part["walk_forward"] for name, part in timeframes.items() if part.get("walk_forward")}
    if folds:
        yield _drawn(
            [partial(_folds, name=name, folds=found) for name, found in folds.items()],
            "Walk-forward: skill of refitted baselines, fold after fold before the judged slice",
            height=3.8,
        )


def timeframe_plots(name: str, part: Json) -> Iterator[Plot]:
    """Yield the plots of one timeframe, those whose figures exist."""
    for kind in KINDS:
        if judged := part.get(kind):
            yield from _judged_plots(f"{name} {kind}", judged)


def _judged_plots(title: str, judged: Json) -> Iterator[Plot]:
    curves: Json = judged.get("curves") or {}
    if ranks := [partial(_ranking, key=key, curves=curves[key]) for key in ("roc", "pr") if curves.get(key)]:
        yield _drawn(ranks, f"{title}: ROC and precision against recall; dotted: guessing")
    reliability: Json = judged.get("reliability") or {}
    if bins := [partial(_reliability, head=head, bins=found) for head, found in reliability.items() if found]:
        yield _drawn(
            bins,
            f"{title}: what came true against what was said, by deciles: bars hold 95 % each, the band all together",
        )
    if sweeps := [partial(_sweep, key=key, sweep=one) for key, one in (curves.get("sweep") or {}).items()]:
        yield _drawn(sweeps, f"{title}: threshold sweep")
    if months := (judged.get("coverage") or {}).get("by_month"):
        yield _drawn(
            [partial(_months, by_symbol=months)],
            f"{title}: coverage of the 90 % interval, month after month, each series",
        )


def _drawn(panels: Sequence[Callable[[Axes], None]], caption: str, *, height: float = 3.0) -> Plot:
    """Return the plot of some panels, two in a row, each ``height`` inches high."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "font.size": 8,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "svg.hashsalt": "fusiontrade",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 8.5,
        "legend.fontsize": 7,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    }
    across = min(len(panels), 2)
    rows = -(-len(panels) // across)
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(7.2, height * rows), layout="constrained")
        grid = figure.subplots(rows, across, squeeze=False).ravel()
        for axis, draw in zip(grid, panels, strict=False):
            draw(axis)
        for unused in grid[len(panels) :]:
            unused.set_axis_off()
        return Plot(_address(figure), caption, caption)


def _address(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None})
    image = buffer.getvalue()
    image = image[image.index(b"<svg") :].replace(_INK.encode(), b"currentColor")
    opened = image.index(b">") + 1
    image = image[:opened] + _STYLE + image[opened:]
    return "data:image/svg+xml;base64," + base64.b64encode(image).decode("ascii")


def _by_symbol(part: Json) -> dict[str, Json]:
    """Return the pinball ratio of each series that has one."""
    figures: Json = (part.get("lstm") or {}).get("figures", {}).get("by_symbol", {})
    return {symbol: one["pinball_ratio"] for symbol, one in sorted(figures.items()) if "pinball_ratio" in one}


def _pinball(axis: Axes, ratios: Mapping[str, Mapping[str, Json]]) -> None:
    rows = [(f"{symbol} {name}", name, one) for name, found in ratios.items() for symbol, one in found.items()]
    names = list(ratios)
    for place, (_, name, one) in enumerate(reversed(rows)):
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        axis.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=1.4)
        axis.plot([one["value"]], [place], "o", color=colour, markersize=3)
    axis.axvline(1.0, color=_INK, linestyle=":", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [label for label, _, _ in reversed(rows)])
    axis.set_xlabel("pinball ratio (below 1: better than rolling-500 quantiles)")
    axis.set_ylim(-0.6, len(rows) - 0.4)


def _folds(axis: Axes, name: str, folds: Sequence[Json]) -> None:
    """Draw skills; a ratio of losses is drawn as what it saves."""
    figures = [key for key in dict.fromkeys(key for fold in folds for key in fold["figures"]) if _is_skill(key)]
    for colour, key in zip(_COLOURS, figures, strict=False):
        saved = key.endswith("_ratio")
        known = [(place, one) for place, fold in enumerate(folds) if (one := fold["figures"].get(key))]
        middle = [1 - one["value"] if saved else one["value"] for _, one in known]
        reach = [[abs(one["value"] - one[end]) for _, one in known] for end in ("low", "high")]
        label = f"{baseline_words(key)}{' (saved)' if saved else ''}"
        axis.errorbar(
            [place for place, _ in known],
            middle,
            reach[::-1] if saved else reach,
            marker="o",
            markersize=3,
            linewidth=1,
            color=colour,
            label=label,
        )
    axis.axhline(0.0, color=_INK, linestyle=":", linewidth=0.8)
    axis.set_xticks(range(len(folds)), [fold["from"][:10] for fold in folds], rotation=30, ha="right")
    axis.set_title(f"{name}, folds by their first day")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=6)


def _is_skill(key: str) -> bool:
    return key.endswith("_ratio") or "skill" in key


def _ranking(axis: Axes, key: str, curves: Json) -> None:
    across, up = ("false_positive_rate", "true_positive_rate") if key == "roc" else ("recall", "precision")
    for colour, (head, curve) in zip(_COLOURS, curves.items(), strict=False):
        axis.plot(curve[across], curve[up], color=colour, linewidth=1.1, label=_HEADS.get(head, head))
    if key == "roc":
        axis.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=0.8)
    axis.set(title=_CURVES[key], xlabel=across.replace("_", " "), ylabel=up.replace("_", " "), ylim=(-0.02, 1.02))
    axis.legend()


def _reliability(axis: Axes, head: str, bins: Sequence[Json]) -> None:
    said, came = [one["forecast"] for one in bins], [one["observed"] for one in bins]
    lower = [max(one["observed"] - one["low"], 0.0) for one in bins]
    upper = [max(one["high"] - one["observed"], 0.0) for one in bins]
    ends = [min(said + came), max(said + came)]
    band = [one["joint_low"] for one in bins], [one["joint_high"] for one in bins]
    axis.plot(ends, ends, color=_INK, linestyle=":", linewidth=0.8)
    axis.fill_between(said, *band, color=_COLOURS[0], alpha=0.2, linewidth=0)
    axis.errorbar(said, came, (lower, upper), fmt="o", markersize=3, linewidth=1, color=_COLOURS[0])
    axis.set(title=_HEADS.get(head, head), xlabel="said", ylabel="came true")


def _sweep(axis: Axes, key: str, sweep: Json) -> None:
    across = "threshold" if "threshold" in sweep else "share"
    lines = [name for name in ("share", "precision", "recall", "f1", "accuracy") if name in sweep and name != across]
    for colour, name in zip(_COLOURS, lines, strict=False):
        axis.plot(sweep[across], sweep[name], color=colour, linewidth=1.1, label=name)
    if "standard_error" in sweep:
        error = [2 * one for one in sweep["standard_error"]]
        low = [value - by for value, by in zip(sweep["accuracy"], error, strict=True)]
        high = [value + by for value, by in zip(sweep["accuracy"], error, strict=True)]
        axis.fill_between(sweep[across], low, high, color=_COLOURS[0], alpha=0.2, linewidth=0)
    axis.set(title=_HEADS.get(key, key), xlabel="share of rows with a vote" if across == "share" else across)
    axis.legend()


def _months(axis: Axes, by_symbol: Mapping[str, Sequence[Json]]) -> None:
    months = sorted({one["month"] for found in by_symbol.values() for one in found})
    for place, (symbol, found) in enumerate(sorted(by_symbol.items())):
        x = [months.index(one["month"]) for one in found]
        style = ("-", "--", "-.")[place // len(_COLOURS) % 3]
        colour = _COLOURS[place % len(_COLOURS)]
        axis.plot(x, [one["value"] for one in found], style, color=colour, linewidth=1, label=symbol)
    axis.axhspan(0.89, 0.91, color=_INK, alpha=0.08, linewidth=0)
    axis.axhline(0.9, color=_INK, linestyle=":", linewidth=0.8)
    axis.set_xticks(range(len(months)), months, rotation=30, ha="right")
    axis.set_ylabel("coverage")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.85), max(high, 0.95))
    axis.legend(ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
