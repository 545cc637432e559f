"""A fused forecast on a terminal: verdict, a table per timeframe, targets, warnings, and where the data is from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

__all__ = ["forecast_view"]

Forecast = dict[str, Any]
_TIMEFRAMES = ("15m", "30m", "1h", "4h")
_LEVELS = ("1", "1.5", "2", "3", "4")
_COLOURS = {"BUY": "green", "SELL": "red", "HOLD": "yellow", "N/A": "dim"}


def forecast_view(forecast: Forecast) -> RenderableType:
    """Return all of a *FusionResponse* that a trader reads."""
    parts: list[RenderableType] = [_head(forecast), _timeframes(forecast["timeframes"]), _targets(forecast)]
    parts.append(Text(forecast["reasoning"]))
    if forecast["warnings"]:
        parts.append(Text("\n".join(f"! {warning}" for warning in forecast["warnings"]), style="yellow"))
    return Group(*parts)


def _head(forecast: Forecast) -> RenderableType:
    source = forecast["data_source"]
    invented = source == "simulated"
    logic = forecast["logic"]
    lines = Text()
    lines.append(forecast["verdict"], style=f"bold {_colour(forecast['verdict'])}")
    lines.append(f"   score {forecast['master_fusion_score']:.2f} of 100")
    lines.append(f"   LSTM {logic['primary_lstm']}, PatchTST {logic['secondary_patchtst']}\n")
    lines.append(f"as of {forecast['as_of']}   market {'open' if forecast['market_open'] else 'closed'}   ")
    lines.append(f"data: {source}", style="bold" if not invented else "bold black on yellow")
    if invented:
        lines.append("  SIMULATED MARKET, invented prices", style="bold yellow")
    return Panel(lines, title=f"[bold]{forecast['symbol']}[/bold]", title_align="left")


def _colour(text: str) -> str:
    return next((colour for word, colour in _COLOURS.items() if word in text), "yellow")


def _timeframes(blocks: dict[str, Forecast]) -> Table:
    table = Table(show_edge=False, pad_edge=False, expand=False)
    table.add_column("")
    for name in _TIMEFRAMES:
        table.add_column(name, justify="right")
    for label, cell in _rows():
        table.add_row(label, *(cell(blocks[name]) for name in _TIMEFRAMES))
    return table


def _rows() -> Iterable[tuple[str, Callable[[Forecast], RenderableType]]]:
    yield "LSTM", lambda block: Text(block["lstm"], style=_COLOURS[block["lstm"]])
    yield "PatchTST", lambda block: Text(block["patchtst"], style=_COLOURS[block["patchtst"]])
    yield "agreement", lambda block: f"{block['agreement']:.1f}"
    yield (
        "confidence LSTM / PatchTST",
        lambda block: f"{_share(block['lstm_confidence'])} / {_share(block['patchtst_confidence'])}",
    )
    yield "chance of a rise (next bar)", lambda block: _share(block["calibrated_prob_up"], 1)
    yield "  measured accuracy", lambda block: _percent(block["lstm_direction_accuracy"])
    yield "price", lambda block: _price(block["current_price"])
    yield "next close", lambda block: _price(block["predicted_price"])
    yield "90 % interval, low", lambda block: _price(block["interval_90"] and block["interval_90"][0])
    yield "90 % interval, high", lambda block: _price(block["interval_90"] and block["interval_90"][1])
    yield "ATR(14)", lambda block: _price(block["atr"], 4)
    yield "range over the horizon", lambda block: _price(block["expected_range"], 4)
    for level in _LEVELS:
        yield f"touch +/- {level} ATR", _touch_cell(level)
    yield "bar closed", lambda block: (block["bar_close"] or "-").removesuffix("Z").replace("T", " ")[:16]


def _touch_cell(level: str) -> Callable[[Forecast], str]:
    def cell(block: Forecast) -> str:
        touch = block["touch"]
        return f"{_share(touch['up'][level])} / {_share(touch['down'][level])}" if touch else "-"

    return cell


def _targets(forecast: Forecast) -> RenderableType:
    targets = forecast["targets"]
    if targets["sl"] is None:
        return Text(
            f"No trade: targets need a direction. ATR {_price(targets['atr'], 4)} ({targets.get('timeframe') or '-'})."
        )
    side = "up" if targets["tp1"] > targets["sl"] else "down"
    other = "down" if side == "up" else "up"
    touch = targets.get("touch") or {"up": {}, "down": {}}
    table = Table(title="targets", title_justify="left", show_edge=False, pad_edge=False)
    moved = f"chance of that move on {targets.get('timeframe') or '-'}"
    for name in ("", "price", "distance", moved):
        table.add_column(name, justify="left" if not name else "right")
    if targets.get("entry") is not None:
        table.add_row("entry", _price(targets["entry"]), "", "")
    table.add_row("stop", _price(targets["sl"]), "1.5 ATR", _share(touch[other].get("1.5")))
    for name, level in (("tp1", "2"), ("tp2", "3"), ("tp3", "4")):
        table.add_row(name, _price(targets[name]), f"{level} ATR", _share(touch[side].get(level)))
    horizon = f"{targets['horizon_bars']} bars of {targets.get('timeframe')}" if targets["horizon_bars"] else "-"
    told = f"chance of tp1 before the stop {_share(targets['p_win'])}, within {horizon}"
    return Group(table, Text(told))


def _price(value: float | None, digits: int = 6) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


def _share(value: float | None, decimals: int = 0) -> str:
    return "-" if value is None else f"{value * 100:.{decimals}f} %"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"
