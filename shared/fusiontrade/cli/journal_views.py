"""Journal entries and their statistics on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["entries_view", "entry_view", "import_view", "job_line", "statistics_view"]

Entry = Mapping[str, Any]
_COLOURS = {"WIN": "green", "LOSS": "red", "EXPIRED": "yellow", "PENDING": "cyan", "BUY": "green", "SELL": "red"}
_WHOLE = (
    "id", "source", "symbol", "interval", "signal", "lstm_signal", "patchtst_signal", "fusion_score", "probability",
    "entry_price", "tp1", "tp2", "tp3", "stop_loss", "status", "outcome_price", "outcome_at", "pips", "opened_at",
    "expires_at", "data_source", "models",
)  # fmt: skip
_MOST_FAULTS = 20
_WIDE = 110


def entries_view(entries: Sequence[Entry], width: int) -> RenderableType:
    """Return a table, one row an entry; prices stand in it where ``width`` columns have room for them."""
    if not entries:
        return Text(
            "no entries; fusiontrade signal EURUSD=X --journal keeps a forecast, "
            "fusiontrade journal import FILE takes over an older log"
        )
    prices = ("entry_price", "tp1", "stop_loss") if width >= _WIDE else ()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("opened", "symbol", "tf", "signal"):
        table.add_column(name, no_wrap=True)
    for name in ("chance", *(price.removesuffix("_price").replace("_loss", "") for price in prices)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("pips", justify="right", no_wrap=True)
    table.add_column("id", overflow="fold", min_width=15)
    for each in entries:
        table.add_row(
            _minute(each["opened_at"]),
            Text(each["symbol"]),
            each["interval"],
            _coloured(each["signal"]),
            _share(each["probability"]),
            *(_price(each[name]) for name in prices),
            _coloured(
                "-" if each["signal"] == "HOLD" else each["status"]
            ),  # a HOLD claims nothing that could be settled
            _number(each["pips"], 1),
            each["id"],
        )
    return table


def entry_view(entry: Entry) -> RenderableType:
    """Return every field of an entry, and those that are new to this command too."""
    table = Table(show_header=False, show_edge=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name in (*_WHOLE, *sorted(entry.keys() - set(_WHOLE) - {"user_id"})):
        if name in entry:
            table.add_row(name.replace("_", " "), _coloured(entry[name]))
    return table


def statistics_view(told: Entry) -> RenderableType:
    """Return the figures, by symbol where there are several, and how true the probabilities were."""
    table = Table(show_header=False, show_edge=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right")
    for name in ("total", "pending", "wins", "losses", "expired", "holds"):
        if name in told:
            table.add_row(name, str(told[name]))
    table.add_row("win rate", _share(told["win_rate"], 1))
    table.add_row("profit factor", _number(told["profit_factor"], 2))
    table.add_row("pips in all", _number(told["total_pips"], 1))
    table.add_row("pips an entry", _number(told["average_pips"], 2))
    table.add_row("expectancy", _number(told["expectancy"], 2))
    table.add_row("deepest drawdown", _number(told["max_drawdown"], 1))
    table.add_row("Brier score", _number(told.get("brier"), 4))
    parts: list[RenderableType] = [table]
    if told.get("by_symbol"):
        parts.append(_by_symbol(told["by_symbol"]))
    if any(each["count"] for each in told.get("calibration") or []):
        parts.append(_calibration(told["calibration"]))
    return Group(*parts)


def _by_symbol(groups: Mapping[str, Entry]) -> Table:
    table = Table(title="by symbol", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("symbol")
    for name in ("total", "wins", "losses", "expired", "win rate", "profit factor", "pips"):
        table.add_column(name, justify="right")
    for symbol, each in groups.items():
        table.add_row(
            Text(symbol),
            *(str(each[name]) for name in ("total", "wins", "losses", "expired")),
            _share(each["win_rate"], 1),
            _number(each["profit_factor"], 2),
            _number(each["total_pips"], 1),
        )
    return table


def _calibration(bins: Sequence[Entry]) -> Table:
    table = Table(title="chances said and wins seen", title_justify="left", show_edge=False, pad_edge=False)
    for name in ("said", "entries", "mean said", "won"):
        table.add_column(name, justify="right")
    for each in bins:
        if each["count"]:
            span = f"{each['from']:.0%} to {each['to']:.0%}".replace("%", " %")
            table.add_row(span, str(each["count"]), _share(each["predicted"], 1), _share(each["won"], 1))
    return table


def job_line(job: Entry) -> str:
    """Return what came of a job, in one line."""
    told = f"job {job['id']}: {job['status']}"
    if job.get("error"):
        told += f": {job['error']}"
    if isinstance(job.get("result"), dict):
        figures = {name: value for name, value in job["result"].items() if value not in ({}, [], None)}
        told += "; " + ", ".join(f"{name.replace('_', ' ')} {_told(value)}" for name, value in figures.items())
    return told


def import_view(report: Entry) -> RenderableType:
    """Return what was taken over, or why nothing was."""
    faults = report["errors"]
    if not faults:
        return Text(f"{report['imported']} entries were imported, {report.get('skipped', 0)} were there already")
    lines = [f"nothing was imported, for there are {len(faults)} faults:"]
    lines += [_told(f"row {each['row']}, {each.get('field')}: {each['message']}") for each in faults[:_MOST_FAULTS]]
    if len(faults) > _MOST_FAULTS:
        lines.append(f"and {len(faults) - _MOST_FAULTS} more; --json names them all")
    return Text("\n".join(lines))


def _coloured(value: Any) -> Text:
    return Text(_told(value), style=_COLOURS.get(str(value), ""))


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "; ".join(_told(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "-" if value is None else str(value)
    return "".join(each if each.isprintable() else " " for each in text)


def _minute(instant: str | None) -> str:
    return "-" if instant is None else instant.removesuffix("Z").replace("T", " ")[:16]


def _price(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _share(value: float | None, decimals: int = 0) -> str:
    return "-" if value is None else f"{value * 100:.{decimals}f} %"
