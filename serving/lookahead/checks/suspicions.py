"""Figures that are too good to be true: nobody has measured such skill on real candles without a leak.

The bars are those of what simple and good models reach on foreign exchange, metals and coins at 15m to 4h, with room
above: direction beyond them has always been the future, the rollover hours or a trend. A figure over all series is
judged by its value; one of a single series or part, which small samples push about, by its interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

from serving.lookahead.checks.findings import Check, Finding

__all__ = ["check_figures"]

_WHOLE = "pooled"
_PARTS = 200
_BASELINE = "baseline_"
_REMEDY = (
    "take it for a leak until proven otherwise: run the dataset and feature checks on its data, look at the figure "
    "without the hours around 17:00 New York, and at the same model with its inputs one bar older"
)


@dataclass(frozen=True)
class _Bar:
    """A figure's name, the most (or least) that is believed, and what good models reach.

    ``by_the_hour``: the time of the week alone may reach far, so where little is gained over it the figure is believed.
    ``of_votes``: the figure is of the rows a model is surest of, whose accuracy is higher than that of all.
    """

    words: str
    limit: float
    reached: str
    least: bool = False
    by_the_hour: bool = False
    of_votes: bool = False

    def exceeded(self, value: float) -> bool:
        return value < self.limit if self.least else value > self.limit


_VOTES, _MOST_AUC = "direction_votes", 0.56
_SKILL, _MOST_SKILL = "either_touch_skill_over_climatology", 0.10
_BARS = {
    "direction_accuracy": _Bar("direction accuracy", 0.55, "0.517, more where they may abstain", of_votes=True),
    "direction_auc": _Bar("direction AUC", _MOST_AUC, "0.52 to 0.532"),
    "up_against_down_auc": _Bar("AUC of up against down", _MOST_AUC, "0.52 to 0.53"),
    "direction_log_loss_skill": _Bar("direction log-loss skill", 0.02, "0.001 to 0.004"),
    "pinball_ratio": _Bar("pinball against rolling quantiles", 0.90, "0.945 to 0.98", least=True),
    "either_touch_auc": _Bar("touch AUC, either side", 0.82, "0.734 to 0.75", by_the_hour=True),
    _SKILL: _Bar("touch skill over climatology", _MOST_SKILL, "0.03 to 0.05"),
    "touch_up_1_auc": _Bar("touch AUC, one side", 0.72, "0.63 to 0.645", by_the_hour=True),
    "touch_down_1_auc": _Bar("touch AUC, one side", 0.72, "0.63 to 0.645", by_the_hour=True),
    "log_range_r2": _Bar("R² of the log range", 0.60, "0.38 to 0.45"),
    "rank_ic": _Bar("RankIC", 0.12, "0.035 to 0.06"),
}


def check_figures(report: Mapping[str, object], *, name: str = "figures") -> Check:
    """Return the check of a report's figures.

    Parameters
    ----------
    report
        ``report.json``: anywhere in it a name of the table and under it ``value``, ``low``, ``high``; what stands under
        ``pooled``, or under nothing, is of all series together. Baselines are not judged.
    name
        How the result calls the check.
    """
    read, findings = 0, []
    for path, bar, figure in _figures(report, ()):
        read += 1
        value, bound = figure["value"], figure.get("high" if bar.least else "low")
        whole = not path or path[-1] == _WHOLE
        judged = value if whole or bound is None else bound
        if bar.exceeded(judged):
            words = " ".join(path) or "all series"
            interval = f" [{figure['low']:.3f}, {figure['high']:.3f}]" if {"low", "high"} <= figure.keys() else ""
            side = "below" if bar.least else "above"
            told = f"{bar.words} {value:.3f}{interval} is {side} {bar.limit:g}; good models reach {bar.reached}"
            findings.append(Finding(words, told, _REMEDY, size=value))
    if not read:
        return Check.skipped(name, "the report has none of the figures that are known: " + ", ".join(_BARS))
    return Check.judged(name, findings, proved=f"{read} figures, none too good to be true")


def _figures(
    part: Mapping[str, object], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], _Bar, dict[str, float]]]:
    for key, content in part.items():
        if not isinstance(content, Mapping) or key.startswith(_BASELINE) or key == "baselines":
            continue
        bar, figure = _BARS.get(key), _numbers(content)
        if bar is not None and "value" in figure:
            skill = _numbers(part.get(_SKILL)).get("value", 1.0)
            if bar.by_the_hour and skill <= _MOST_SKILL:
                bar = replace(bar, limit=1.0)
            if bar.of_votes:
                votes = _numbers(part.get(_VOTES)).get("value", 1.0)
                bar = replace(bar, limit=max(bar.limit, _accuracy_of_surest(votes)))
            yield path, bar, figure
        else:
            yield from _figures(content, (*path, key) if key != "figures" else path)


def _accuracy_of_surest(share: float) -> float:
    """Return the accuracy that an AUC of 0.56 gives the surest ``share`` of rows.

    Scores of rising and falling bars normal, a common deviation, their means d apart: AUC = Φ(d / √2), and a score x
    between the means is right with the chance 1 / (1 + exp(-d |x|)).
    """
    normal = NormalDist()
    apart = math.sqrt(2.0) * normal.inv_cdf(_MOST_AUC)
    share = min(max(share, 1e-4), 1.0)
    cuts = [normal.inv_cdf(1.0 - share / 2.0 * (1.0 - (part + 0.5) / _PARTS)) for part in range(_PARTS)]
    return sum(1.0 / (1.0 + math.exp(-apart * cut)) for cut in cuts) / _PARTS


def _numbers(content: object) -> dict[str, float]:
    if not isinstance(content, Mapping):
        return {}
    return {
        str(key): float(value)
        for key, value in content.items()
        if isinstance(value, int | float) and math.isfinite(float(value))
    }
