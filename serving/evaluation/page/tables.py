"""The tables of a study, as text: what the page and the documentation both show.

A figure that is missing is ``N/A``, never 0. Every cell comes from the study's JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusiontrade.inference.contract import FUSED, SEQUENCE_KINDS

__all__ = [
    "BASELINES",
    "KINDS",
    "MISSING",
    "ROWS",
    "Cell",
    "Table",
    "acceptance_table",
    "baseline_words",
    "bundle_table",
    "chance",
    "comparison_table",
    "coverage_table",
    "data_table",
    "figure_table",
    "left_out_table",
    "number",
    "ordered",
    "series_table",
    "table",
    "told",
    "walk_forward_table",
]

Json = Mapping[str, Any]
MISSING = "N/A"
_LEVEL = 0.05
_ORDER = ("15m", "30m", "1h", "4h")

ENSEMBLE = "ensemble"
"""What a study calls the mean of all models of 60 bars."""
KINDS: tuple[str, ...] = (*FUSED, *(kind for kind in SEQUENCE_KINDS if kind not in FUSED), ENSEMBLE)
"""Whose figures are shown, in this order."""

ROWS: dict[str, dict[str, str]] = {
    "lstm": {
        "pinball_ratio": "next bar: pinball loss / rolling-500 quantiles",
        "crps_ratio": "next bar: CRPS of five quantiles / rolling-500 quantiles",
        "coverage_90": "next bar: coverage of the 90 % interval",
        "either_touch_auc": "±1 ATR touched, either side: AUC",
        "either_touch_skill_over_climatology": "±1 ATR touched, either side: Brier skill over climatology",
        "touch_either_1_ece": "±1 ATR touched, either side: ECE",
        "touch_up_1_auc": "+1 ATR touched: AUC",
        "touch_down_1_auc": "-1 ATR touched: AUC",
        "touch_up_1_ece": "+1 ATR touched: ECE",
        "touch_down_1_ece": "-1 ATR touched: ECE",
        "touch_skill_over_climatology": "all touches: Brier skill over climatology",
        "touch_skill_over_base_rate": "all touches: Brier skill over base rate",
        "log_range_r2": "log range of the next 4 bars: R²",
        "win_long_auc": "long trade wins: AUC",
        "win_short_auc": "short trade wins: AUC",
        "win_long_ece": "long trade wins: ECE",
        "win_short_ece": "short trade wins: ECE",
        "win_skill_over_climatology": "trade wins: Brier skill over climatology",
        "accuracy": "direction: accuracy of the likelier side, every row",
        "direction_auc": "direction: AUC",
        "direction_log_loss_skill": "direction: log-loss skill over the training base rate",
        "direction_brier_skill": "direction: Brier skill over the training base rate",
        "direction_votes": "direction: share of rows with a vote",
        "direction_accuracy": "direction: accuracy of the votes",
        "direction_precision": "direction: precision of votes up",
        "direction_recall": "direction: recall of votes up",
        "direction_f1": "direction: F1 of votes up",
        "direction_ece": "direction: ECE",
    },
    "patchtst": {
        "accuracy": "accuracy of the likeliest class",
        "log_loss_skill": "log-loss skill over the training base rate",
        "up_against_down_auc": "up against down: AUC",
        "flat_auc": "flat against moved: AUC",
        "direction_accuracy": "votes that came true, of moves over 0.25 ATR",
        "direction_votes": "share of rows with a vote",
        "votes_up": "share of votes up",
        "up_ece": "up: ECE",
        "flat_ece": "flat: ECE",
        "down_ece": "down: ECE",
    },
}
"""What is shown of each kind of model, and its words."""

BASELINES: dict[str, str] = {
    "rolling": "rolling-500 quantiles",
    "base_rate": "base rate",
    "persistence": "persistence",
    "climatology": "weekday × hour climatology",
    "logistic": "logistic regression",
    "lightgbm": "LightGBM",
    "ewma": "EWMA × season",
    "garch": "GARCH(1,1)-t × season",
}
"""The baselines, and their words."""

_BY_SYMBOL = {
    "lstm": {
        "pinball_ratio": "pinball ratio",
        "coverage_90": "coverage",
        "either_touch_auc": "touch AUC",
        "either_touch_skill_over_climatology": "touch skill",
        "direction_log_loss_skill": "direction skill",
        "direction_votes": "votes",
        "direction_accuracy": "accuracy",
    },
    "patchtst": {
        "accuracy": "accuracy",
        "log_loss_skill": "log-loss skill",
        "up_against_down_auc": "up/down AUC",
        "direction_accuracy": "votes true",
    },
}


@dataclass(frozen=True)
class Cell:
    """What a cell says; ``tone`` is ``good``, ``bad``, ``unknown`` or empty."""

    text: str
    tone: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row names it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> Iterator[str]:
        """Yield the lines of a Markdown table, the caption first."""
        yield f"**{self.caption}**"
        yield ""
        yield "| " + " | ".join(self.columns) + " |"
        yield "|---" * len(self.columns) + "|"
        for row in self.rows:
            yield "| " + " | ".join(cell.text.replace("|", "\\|") for cell in row) + " |"
        yield ""


def told(figure: Json | None, digits: int = 4) -> str:
    """Return a figure in words: its value with its interval, or with its noise floor; ``N/A`` where there is none."""
    if figure is None or figure.get("value") is None:
        return MISSING
    value = f"{figure['value']:.{digits}f}"
    if figure.get("noise_floor") is not None:
        return f"{value} (floor {figure['noise_floor']:.{digits}f})"
    if figure.get("low") is None or figure.get("high") is None:
        return value
    return f"{value} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> Table:
    """Return a table of words and cells."""
    cells = tuple(tuple(one if isinstance(one, Cell) else Cell(one) for one in row) for row in rows)
    return Table(caption, tuple(columns), cells)


def ordered(timeframes: Json) -> list[str]:
    """Return the names of timeframes, shortest first."""
    return sorted(timeframes, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def acceptance_table(rows: Sequence[Json]) -> Table:
    """Return the targets, a line each: criterion and scope against timeframes, met or missed.

    What is asked of symbols left out of training has a table of its own: `left_out_table`.
    """
    shown = [row for row in rows if not row["id"].startswith(("unseen_", "adopted_"))]
    columns = ordered({row["timeframe"]: None for row in shown})
    lines = dict.fromkeys((row["id"], row["criterion"], row["scope"]) for row in shown)
    found = {(row["id"], row["scope"], row["timeframe"]): row for row in shown}
    return table(
        "Targets set before training, and what was reached",
        ("target", "measured on", *columns),
        [
            [criterion, scope, *(_verdict(found.get((row_id, scope, column))) for column in columns)]
            for row_id, criterion, scope in lines
        ],
    )


def _verdict(row: Json | None) -> Cell:
    if row is None or row["met"] is None:
        return Cell(MISSING, "unknown")
    words = ("met, aim too" if row["aim_met"] else "met") if row["met"] else "missed"
    worst = f"{row['worst']}: " if row["worst"] else ""
    others = f"; missed by {', '.join(row['exceptions'])}" if row["exceptions"] else ""
    value = f"{row['value']:.0f}" if row["id"].endswith("_reliability") else told(row)
    return Cell(f"{worst}{value} – {words}{others}", "good" if row["met"] else "bad")


def figure_table(timeframes: Json, kind: str, scope: str, words: str) -> Table | None:
    """Return the figures of one kind of model, a column per timeframe; baselines under each, but for members beside."""
    columns = [name for name in ordered(timeframes) if _figures(timeframes[name], kind, scope)]
    if not columns:
        return None
    figures = {name: _figures(timeframes[name], kind, scope) for name in columns}
    known = set().union(*figures.values())
    rows: list[list[str]] = [["rows judged", *(f"{_rows(figures[name]):,}" for name in columns)]]
    for figure, label in _rows_of(ROWS, kind).items():
        if figure not in known:
            continue
        rows.append([label, *(told(figures[name].get(figure)) for name in columns)])
        for baseline, whose in BASELINES.items() if kind in (*FUSED, ENSEMBLE) else ():
            if (key := f"baseline_{baseline}_{figure}") in known:
                rows.append([f"… {whose}", *(told(figures[name].get(key)) for name in columns)])
    return table(f"{kind}, {words}: value [95 % interval]", ("figure", *columns), rows)


def _rows_of(table: Mapping[str, dict[str, str]], kind: str) -> dict[str, str]:
    """Return the words for a kind: those of the LSTM for all that answer as it does."""
    return table.get(kind, table["lstm"])


def _figures(part: Json, kind: str, scope: str) -> Json:
    found: Json = (part.get(kind) or {}).get("figures", {}).get(scope) or {}
    return found


def _rows(figures: Json) -> int:
    return max((figure.get("n") or 0 for figure in figures.values()), default=0)


def series_table(name: str, part: Json, kind: str) -> Table | None:
    """Return the figures of each series of one timeframe."""
    by_symbol = (part.get(kind) or {}).get("figures", {}).get("by_symbol")
    if not by_symbol:
        return None
    chosen = _rows_of(_BY_SYMBOL, kind)
    counted = part["judged"]["series"]
    rows = [
        [
            symbol if symbol in counted else f"{symbol} (other bars, in no pooled figure)",
            f"{_rows(figures):,}",
            *(told(figures.get(figure)) for figure in chosen),
        ]
        for symbol, figures in sorted(by_symbol.items())
    ]
    return table(f"{kind}, {name}: each series", ("series", "rows", *chosen.values()), rows)


def coverage_table(name: str, part: Json) -> Table | None:
    """Return the coverage of the 90 % interval by quintile of volatility, pooled and of each series.

    It is the ensemble's where there are several models.
    """
    kind = ENSEMBLE if part.get(ENSEMBLE) else "lstm"
    coverage: Json = (part.get(kind) or {}).get("coverage") or {}
    if not coverage:
        return None
    found = {"all series": coverage} | dict(sorted(coverage.get("by_symbol", {}).items()))
    rows = [
        [
            whose,
            *(told(figure, 3) for figure in one["by_quintile"]),
            told(one["quintile_spread"], 3),
            number(one.get("spread_by_chance")),
            number(one.get("lowest_rolling")),
        ]
        for whose, one in found.items()
    ]
    columns = (
        *("series", "calmest fifth", "second", "third", "fourth", "wildest fifth", "largest less smallest"),
        *("by chance below", "lowest of 500 bars"),
    )
    return table(f"{kind}, {name}: coverage of the 90 % interval by volatility", columns, rows)


def comparison_table(name: str, part: Json, kind: str) -> Table | None:
    """Return the Diebold-Mariano tests of one timeframe: over how many series the model beats each baseline."""
    tests = (part.get(kind) or {}).get("against")
    if not tests:
        return None
    rows = []
    for test in tests:
        series = {symbol: one for symbol, one in sorted(test["by_symbol"].items()) if one["adjusted"] is not None}
        better = [symbol for symbol, one in series.items() if one["adjusted"] <= _LEVEL]
        worse = [symbol for symbol, one in series.items() if 1 - one["p_better"] <= _LEVEL]
        cells = ", ".join(f"{symbol} {chance(one['adjusted'])}" for symbol, one in series.items())
        counted = [f"{len(found)} of {len(test['by_symbol'])}" for found in (better, worse)]
        rows.append([test["loss"], BASELINES.get(test["baseline"], test["baseline"]), *counted, cells or MISSING])
    caption = f"{kind}, {name}: Diebold-Mariano tests at 5 %; p that the loss is smaller, after Benjamini-Hochberg"
    return table(caption, ("loss", "baseline", "better", "worse (uncorrected)", "adjusted p"), rows)


def chance(p: float) -> str:
    """Return a p-value in words."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float | None) -> str:
    """Return a number in words, empty where there is none."""
    return "" if value is None else f"{value:.4f}"


def data_table(name: str, part: Json) -> Table:
    """Return the series of one timeframe, and whether they are those the bundles were trained on."""
    words = {
        "same": Cell("the same bars", "good"),
        "differs": Cell("other bars than the bundle's", "bad"),
        "missing": Cell("not in this folder", "unknown"),
    }
    rows: list[list[str | Cell]] = [
        [
            one["symbol"],
            words[one["status"]],
            f"{one['rows']:,}" if one["rows"] else MISSING,
            one["first"] or MISSING,
            one["last"] or MISSING,
            f"{one['judged_rows']:,}",
        ]
        for one in part["data"]["series"]
    ]
    return table(f"{name}: candles", ("series", "against the bundle", "bars", "first", "last", "rows judged"), rows)


def bundle_table(bundles: Sequence[Json]) -> Table:
    """Return the bundles that were judged."""
    rows = [
        [
            one["model_id"],
            one["version"],
            f"{one['trained_from'][:10]} to {one['trained_until'][:10]}",
            one["judged_from"][:10],
            str(len(one["universe"])),
            str(one["seed"]),
            one["code_version"],
        ]
        for one in bundles
    ]
    columns = ("bundle", "version", "trained on", "judged from", "series", "seed", "code")
    return table("Bundles", columns, rows)


def left_out_table(timeframes: Json, targets: Sequence[Json]) -> Table | None:
    """Return what symbols that training never saw lose against a bundle that saw them; ``targets`` say what is met."""
    met = {(row["timeframe"], row["scope"], row["id"]): row["met"] for row in targets}
    verdicts = {True: (" – met", "good"), False: (" – missed", "bad"), None: ("", "")}
    words = {
        "pinball_ratio": "pinball ratio",
        "either_touch_auc": "touch AUC",
        "either_touch_skill_over_climatology": "touch skill",
    }
    rows: list[list[str | Cell]] = []
    for name in ordered(timeframes):
        for how, (key, so) in {"left_out": ("unseen", "as it comes"), "adopted": ("adopted", "adopted")}.items():
            part = timeframes[name].get(how) or {"by_symbol": {}}
            for symbol, figures in sorted(part["by_symbol"].items()):
                for figure, label in words.items():
                    one = figures.get(figure, {})
                    verdict, tone = verdicts[met.get((name, symbol, f"{key}_{figure}"))]
                    difference = Cell(told(one.get("difference")) + verdict, tone)
                    rows.append([name, symbol, so, label, told(one.get("full")), told(one.get("left_out")), difference])
    if not rows:
        return None
    columns = ("timeframe", "left out", "asked", "figure", "trained on it", "never saw it", "difference")
    return table("Symbols left out of training, on the same rows", columns, rows)


def walk_forward_table(name: str, part: Json) -> Table | None:
    """Return how the baselines did fold after fold of the span before the judged slice."""
    folds: Sequence[Json] = part.get("walk_forward") or ()
    if not folds:
        return None
    rows = [["rows judged", *(f"{fold['rows']:,}" for fold in folds)]]
    for key in dict.fromkeys(key for fold in folds for key in fold["figures"]):
        rows.append([baseline_words(key), *(told(fold["figures"].get(key)) for fold in folds)])
    caption = f"{name}: walk-forward, baselines refitted on all before each fold of the development span"
    columns = [f"{fold['from'][:10]} to {fold['to'][:10]}" for fold in folds]
    return table(caption, ("figure", *columns), rows)


def baseline_words(key: str) -> str:
    """Return what ``baseline_<baseline>_<figure>`` means, or the key where it is not known."""
    for baseline, whose in BASELINES.items():
        figure = key.removeprefix(f"baseline_{baseline}_")
        if figure != key and figure in ROWS["lstm"]:
            return f"{whose}: {ROWS['lstm'][figure]}"
    return key
