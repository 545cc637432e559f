"""What a person sees when the stack is up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fusiontrade.market.timeframes import Timeframe
from infra.local.options import Options

__all__ = ["DEMO_EMAIL", "DEMO_PASSWORD", "show"]

DEMO_EMAIL, DEMO_PASSWORD = "devtest@fusiontrade.ai", "DevTest123!"
_TIMEFRAMES = tuple(timeframe.value for timeframe in Timeframe)
_MARKETS = {
    "yahoo": "yahoo: Yahoo Finance",
    "simulated": "simulated: invented prices, not a real market",
}


def show(console: Console, options: Options, told: Mapping[str, Any], seconds: float) -> None:
    """Print the table of addresses and what to try first."""
    broken = told.get("broken", "")
    title = f"FusionTrade is up{', but not all of it' if broken else ''} ({seconds:.1f} s)"
    table = Table(show_header=False, title=title, title_justify="left", expand=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("API", f"{options.url}/api/v1")
    table.add_row("documentation", f"{options.url}/docs")
    table.add_row("demo account", f"{DEMO_EMAIL}  {DEMO_PASSWORD}")
    table.add_row("market data", market(options))
    table.add_row("models", loaded(told.get("models", [])))
    for bundle in told.get("refused", []):
        table.add_row("refused", f"[red]{bundle['folder']}: {bundle['reason']}[/red]")
    if broken:
        table.add_row("cannot start", f"[red]{broken} (tried again when the code changes)[/red]")
    table.add_row("mail", f"{options.outbox}  (none leaves this machine)")
    table.add_row("emulated AWS", options.emulator_url)
    table.add_row("log", str(options.log_file))
    console.print(table)
    api = "" if options.port == Options.port else f" --api {options.url}"
    hint = f".venv/run/bin/fusiontrade signal EURUSD=X{api}"
    console.print(f"Try it in another terminal: [bold]{hint}[/bold]", highlight=False, soft_wrap=True)
    console.print("Ctrl-C ends everything.", highlight=False)


def market(options: Options) -> str:
    """Return the data source in words."""
    if options.market_data == "files":
        now = f", as of {options.market_data_as_of}" if options.market_data_as_of else ""
        return f"files: {options.market_data_dir}{now}"
    return _MARKETS[options.market_data]


def loaded(models: Sequence[dict[str, Any]]) -> str:
    """Return the models in a line for each kind, with the timeframes it serves; says so where there is none."""
    if not models:
        return "none (make train makes some)"
    kinds: dict[str, list[str]] = {}
    for model in models:
        kind, _, timeframe = str(model["id"]).rpartition("-")
        known = timeframe in _TIMEFRAMES
        kinds.setdefault(kind if known else model["id"], []).extend([timeframe] if known else [])
    return "\n".join(" ".join([kind, *sorted(frames, key=_TIMEFRAMES.index)]) for kind, frames in kinds.items())
