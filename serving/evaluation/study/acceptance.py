"""The targets a set of bundles was made for, each with what was reached: computed from the figures, never typed.

Always true: a target is met, missed, or not known (``met`` is None where its figure is missing); limits stand in this
file alone, as spec'd before anything was fitted. A figure with an interval is judged by its value, and by the bound of
its interval where the target says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.evaluation.coverage import ROLLING

__all__ = ["TARGET_TIMEFRAMES", "acceptance"]

TARGET_TIMEFRAMES = ("15m", "30m", "1h", "4h")
"""The timeframes the targets are set for: all are to be calibrated, those below 4h to be skilful too."""
_CALIBRATED_ALONE = ("4h",)

Json = dict[str, Any]
Figure = Mapping[str, Any]

_FEW = 5000  # rows of a series at and below which coverage may stray further
_COVERAGE, _COVERAGE_OF_FEW = (0.89, 0.91), (0.87, 0.93)
_QUINTILE_SPREAD = 0.04
_LEAST_ROLLING = 0.80
_ECE_OVER_FLOOR = 0.01
_SCOPES = {"reference_five": "the reference five", "all": "all series"}


def acceptance(timeframes: Mapping[str, Json]) -> list[Json]:
    """Return one row per target, timeframe and scope.

    Parameters
    ----------
    timeframes
        The part of each timeframe, as `serving.evaluation.study.timeframe` makes it; the ensemble's figures count
        where there are several models, else the LSTM's.

    Returns
    -------
    Rows with ``id``, ``criterion``, ``scope``, ``timeframe``, ``value``, ``low``, ``high``, ``n``, ``limit``, ``aim``,
    ``met``, ``aim_met``, ``worst`` and ``exceptions``, the series or heads behind a miss.
    """
    rows: list[Json] = []
    for name in TARGET_TIMEFRAMES:
        part = timeframes.get(name, {})
        if (lstm := part.get("ensemble") or part.get("lstm")) is None:
            continue
        series = part["judged"]["series"]
        found = [*_each_series(lstm, series), *_calibrated(lstm)]
        if name not in _CALIBRATED_ALONE:
            limits = _OF_ENSEMBLE if "ensemble" in part else _OF_ONE
            found = [*_skilful(lstm["figures"], limits, series), *found]
        rows += [row | {"timeframe": name} for row in found]
    for name, part in timeframes.items():
        for how in _TRANSFERS:
            rows += [row | {"timeframe": name} for row in _left_out(part, how)]
    return rows


def _row(row_id: str, criterion: str, scope: str, figure: Figure | None, **others: Any) -> Json:
    """Return a row with every field, those that are not given None."""
    empty = dict.fromkeys(("value", "low", "high", "n", "limit", "aim", "met", "aim_met", "worst"))
    measured = {key: (figure or {}).get(key) for key in ("value", "low", "high", "n")}
    return {"id": row_id, "criterion": criterion, "scope": scope, **empty, **measured, "exceptions": [], **others}


@dataclass(frozen=True)
class _Limits:
    """What an LSTM alone was made for, and what is asked of several models together."""

    pinball: float
    skill: float


_OF_ONE, _OF_ENSEMBLE = _Limits(pinball=0.955, skill=0.03), _Limits(pinball=0.95, skill=0.04)


def _skilful(figures: Json, limits: _Limits, series: Sequence[str]) -> Iterator[Json]:
    for scope in _SCOPES:
        yield from _headlines(figures.get(scope), scope, limits)
    yield _each(
        "pinball_ratio_each",
        "pinball ratio of every series: its interval below 1",
        {symbol: figures["by_symbol"].get(symbol, {}).get("pinball_ratio") for symbol in series},
        lambda figure: float(figure["high"]) - 1.0,
    )


def _headlines(figures: Mapping[str, Figure] | None, scope: str, limits: _Limits) -> Iterator[Json]:
    """Yield the targets of pooled figures: mean pinball ratio, touches."""
    found = figures or {}
    words = _SCOPES[scope]

    def at_least(name: str, criterion: str, limit: float, aim: float | None, bound: float | None = None) -> Json:
        figure = found.get(name)
        met = None if figure is None else figure["value"] >= limit and (bound is None or figure["low"] > bound)
        reached = None if figure is None or aim is None else figure["value"] >= aim
        return _row(name, criterion, words, figure, limit=limit, aim=aim, met=met, aim_met=reached)

    pinball = found.get("pinball_ratio")
    yield _row(
        "pinball_ratio",
        f"mean pinball loss over rolling-500 quantiles: at most {limits.pinball:g}",
        words,
        pinball,
        limit=limits.pinball,
        aim=0.945,
        met=None if pinball is None else pinball["value"] <= limits.pinball,
        aim_met=None if pinball is None else pinball["value"] <= 0.945,
    )
    yield at_least("either_touch_auc", "±1 ATR touched on either side: AUC at least 0.73", 0.73, 0.75)
    yield at_least(
        "either_touch_skill_over_climatology",
        f"the same: Brier skill over climatology at least {limits.skill:.0%}, interval above 0".replace("%", " %"),
        *(limits.skill, 0.05, 0.0),
    )
    yield at_least("touch_up_1_auc", "+1 ATR touched: AUC at least 0.63", 0.63, 0.645)
    yield at_least("touch_down_1_auc", "-1 ATR touched: AUC at least 0.63", 0.63, 0.645)


def _each_series(lstm: Json, series: Sequence[str]) -> Iterator[Json]:
    """Yield the targets that every series has to meet; a row shows the series that is worst off."""
    by_symbol = {symbol: lstm["figures"]["by_symbol"].get(symbol, {}) for symbol in series}
    coverage = lstm.get("coverage", {}).get("by_symbol", {})
    yield _each(
        "coverage_each",
        "coverage of the 90 % interval, every series: 89-91 % (87-93 % up to 5,000 rows)",
        {symbol: figures.get("coverage_90") for symbol, figures in by_symbol.items()},
        _straying,
    )
    yield _each(
        "coverage_quintiles_each",
        "coverage over quintiles of volatility, every series: spread at most 0.04",
        {symbol: _spread(coverage.get(symbol)) for symbol in series},
        lambda figure: float(figure["value"]) - _QUINTILE_SPREAD,
    )
    yield _each(
        "coverage_quintiles_chance",
        "the same: above 0.04 by no more than chance gives (95 % of samples of that size)",
        {symbol: _spread(coverage.get(symbol)) for symbol in series},
        lambda figure: float(figure["value"]) - max(_QUINTILE_SPREAD, float(figure["by_chance"])),
    )
    yield _each(
        "coverage_rolling_each",
        "coverage of any 500 bars in a row, every series: at least 80 %",
        {symbol: _lowest(coverage.get(symbol)) for symbol in series if not _too_short(coverage.get(symbol))},
        lambda figure: _LEAST_ROLLING - float(figure["value"]),
    )
    yield _each(
        "ece_each",
        "expected calibration error of every head of every series: at most 0.01 above its noise floor",
        dict(_excesses(by_symbol)),
        lambda figure: float(figure["value"]) - _ECE_OVER_FLOOR,
    )
    yield _each(
        "direction_skill_each",
        "next-bar direction, every series: log-loss skill not below 0 (to 0.01 %)",
        {symbol: figures.get("direction_log_loss_skill") for symbol, figures in by_symbol.items()},
        lambda figure: -round(float(figure["value"]), 4),
    )


def _spread(coverage: Json | None) -> Figure | None:
    """Return the spread over quintiles of one series, with what chance alone gives."""
    if not coverage or coverage.get("spread_by_chance") is None:
        return None
    return dict(coverage["quintile_spread"]) | {"by_chance": coverage["spread_by_chance"]}


def _lowest(coverage: Json | None) -> Figure | None:
    lowest = (coverage or {}).get("lowest_rolling")
    return None if lowest is None else {"value": lowest}


def _too_short(coverage: Json | None) -> bool:
    return bool(coverage) and (coverage or {}).get("quintile_spread", {}).get("n", ROLLING) < ROLLING


def _excesses(by_symbol: Mapping[str, Mapping[str, Figure]]) -> Iterator[tuple[str, Figure | None]]:
    """Yield by how much the calibration error of each series and head is above its noise floor."""
    for symbol, figures in by_symbol.items():
        heads = {head: figure for head, figure in figures.items() if "noise_floor" in figure}
        if not heads:
            yield symbol, None
        for head, figure in heads.items():
            yield f"{symbol} {head.removesuffix('_ece')}", {"value": figure["value"] - figure["noise_floor"]}


def _straying(figure: Figure) -> float:
    low, high = _COVERAGE if figure["n"] > _FEW else _COVERAGE_OF_FEW
    return max(low - float(figure["value"]), float(figure["value"]) - high)


def _each(row_id: str, criterion: str, figures: Mapping[str, Figure | None], fault: Callable[[Figure], float]) -> Json:
    """Return the row of a target that every series meets where ``fault`` of its figure is not above 0.

    A figure that is absent or not a number is not known, and neither met nor missed.
    """
    known = {symbol: figure for symbol, figure in figures.items() if figure is not None}
    faults = {symbol: by for symbol, figure in known.items() if not math.isnan(by := fault(figure))}
    if not faults:
        return _row(row_id, criterion, "every series", None)
    worst = max(faults, key=lambda symbol: faults[symbol])
    missed, unknown = sorted(s for s, by in faults.items() if by > 0), sorted(set(figures) - set(faults))
    met = False if missed else (None if unknown else True)
    return _row(row_id, criterion, "every series", known[worst], met=met, exceptions=missed + unknown, worst=worst)


def _calibrated(lstm: Json) -> Iterator[Json]:
    """Yield the targets of calibration: spread over volatility quintiles, ECE, reliability of p_win."""
    spread = lstm.get("coverage", {}).get("quintile_spread")
    yield _row(
        "coverage_quintiles",
        "coverage over quintiles of volatility: spread at most 0.04",
        "all series",
        spread,
        limit=_QUINTILE_SPREAD,
        aim=0.03,
        met=None if spread is None else spread["value"] <= _QUINTILE_SPREAD,
        aim_met=None if spread is None else spread["value"] <= 0.03,
    )
    excess = {
        head.removesuffix("_ece"): figure["value"] - figure["noise_floor"]
        for head, figure in lstm["figures"]["all"].items()
        if "noise_floor" in figure
    }
    worst = max(excess, key=lambda head: excess[head]) if excess else None
    yield _row(
        "ece",
        "expected calibration error of every head: at most 0.01 above its noise floor",
        "all series",
        {"value": excess[worst]} if worst else None,
        limit=_ECE_OVER_FLOOR,
        met=None if worst is None else excess[worst] <= _ECE_OVER_FLOOR,
        exceptions=sorted(head for head, above in excess.items() if above > _ECE_OVER_FLOOR),
        worst=worst,
    )
    for head, side in (("win_long", "long"), ("win_short", "short")):
        yield from _reliable(head, side, lstm.get("reliability", {}).get(head) or ())


def _reliable(head: str, side: str, bins: Sequence[Figure]) -> Iterator[Json]:
    """Yield whether the deciles of p_win came true: each within its own interval, and all within their joint band."""
    for name, low, high, words in (
        ("reliability", "low", "high", "every decile within its own 95 % interval"),
        ("joint_reliability", "joint_low", "joint_high", "all deciles within their joint 95 % band"),
    ):
        outside = [f"decile {n}" for n, one in enumerate(bins, 1) if not one[low] <= one["forecast"] <= one[high]]
        yield _row(
            f"{head}_{name}",
            f"p_win of a {side} trade: {words} (deciles outside)",
            "all series",
            {"value": len(outside), "n": sum(one["n"] for one in bins)} if bins else None,
            limit=0,
            met=None if not bins else not outside,
            exceptions=outside,
        )


def _left_out(part: Json, how: str) -> Iterator[Json]:
    """Yield whether a symbol that training never saw loses anything beyond the interval of the difference."""
    name_of, left_out = _TRANSFERS[how]
    for symbol, figures in sorted(part.get(how, {"by_symbol": {}})["by_symbol"].items()):
        for name, words, better in _TRANSFER:
            difference = figures.get(name, {}).get("difference")
            lost = difference is not None and (difference["high"] < 0 if better > 0 else difference["low"] > 0)
            yield _row(
                f"{name_of}_{name}",
                f"{left_out}: {words}, difference from the bundle that saw it",
                symbol,
                difference,
                limit=0.0,
                met=None if difference is None else not lost,
            )


_TRANSFERS = {
    "left_out": ("unseen", "a symbol left out of training"),
    "adopted": ("adopted", "a symbol left out of training, and adopted"),
}
_TRANSFER = (
    ("pinball_ratio", "pinball ratio", -1),
    ("either_touch_auc", "AUC of ±1 ATR touched on either side", 1),
    ("either_touch_skill_over_climatology", "its Brier skill over climatology", 1),
)
