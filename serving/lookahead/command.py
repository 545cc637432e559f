"""``fusiontrade lookahead``, also ``python -m serving.lookahead``.

Exit codes: 0 nothing found, 1 findings, 2 wrong usage, 5 a library that it needs is not here. The result goes to
stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from serving.lookahead.checks.findings import Check
    from serving.lookahead.plan import Asked

__all__ = ["app"]

_UNAVAILABLE = 5

app = typer.Typer(name="lookahead", add_completion=False, pretty_exceptions_enable=False)


@app.command(name="lookahead")
def lookahead(  # noqa: PLR0917 - its options
    data: Annotated[Path | None, typer.Option(help="Folder with instruments.toml and Parquet bars.")] = None,
    timeframe: Annotated[str, typer.Option(help="Length of the bars; a bundle has its own.")] = "1h",
    symbols: Annotated[str, typer.Option(help="Codes of the folder, by commas; default: all.")] = "",
    bundle: Annotated[list[Path] | None, typer.Option(help="A bundle, or a folder of them; may be repeated.")] = None,
    features: Annotated[
        list[str] | None, typer.Option(help="Your features: package.module:function; may be repeated.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Your model: package.module:function; may be repeated.")
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="Your dataset: .npz with slice, entry, label_end …")] = None,
    scaler: Annotated[Path | None, typer.Option(help="Your scaler: .json with center and scale.")] = None,
    window: Annotated[int, typer.Option(min=1, help="Bars a row may depend on, or your model needs.")] = 600,
    embargo: Annotated[int, typer.Option(min=0, help="Bars to lie between two slices.")] = 60,
    moments: Annotated[int, typer.Option(min=1, help="Rows of each series that are tried.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the altered bars.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Look for the future in features, datasets, scalers, models and bundles; exits with 1 where some is found.

    With nothing named: in the product's own features, and with --data in its dataset and scalers.
    """
    try:
        from fusiontrade.errors import InvalidInput
        from fusiontrade.market.timeframes import Timeframe
        from serving.lookahead.checks.findings import Outcome, Unusable
        from serving.lookahead.plan import Asked
    except ModuleNotFoundError as error:
        told = f"{error.name} is not installed here: use an environment of the repository that has it (run, train, dev)"
        typer.echo(f"fusiontrade lookahead: {told}", err=True)
        raise typer.Exit(_UNAVAILABLE) from None

    try:
        asked = Asked(
            data=data,
            timeframe=Timeframe.parse(timeframe, field="--timeframe"),
            symbols=tuple(code.strip() for code in symbols.split(",") if code.strip()),
            bundles=tuple(bundle or ()),
            features=tuple(features or ()),
            models=tuple(model or ()),
            rows=rows,
            scaler=scaler,
            window=window,
            embargo=embargo,
            moments=moments,
            seed=seed,
            now=round(time.time() * 1000),
        )
        checks = _run(asked)
    except (Unusable, InvalidInput) as error:
        field = f"{error.field}: " if isinstance(error, InvalidInput) else ""
        typer.echo(f"fusiontrade lookahead: {field}{error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        from serving.lookahead.showing import as_json as values

        typer.echo(json.dumps(values(checks), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from serving.lookahead.showing import view

        Console().print(view(checks))
    if any(check.outcome is Outcome.FOUND for check in checks):
        raise typer.Exit(1)


def _run(asked: Asked) -> list[Check]:
    """Do the work of the plan, with a bar on stderr where a person is looking."""
    from serving.lookahead.plan import steps

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        todo = steps(asked)
        task = bar.add_task("", total=len(todo))
        checks: list[Check] = []
        for step in todo:
            bar.update(task, description=step.told)
            with redirect_stdout(sys.stderr):  # what a user's function prints is no part of the result
                checks += step.run(partial(_tell, bar, task, step.told, count(1)))
            bar.advance(task)
    return checks


def _tell(bar: Progress, task: TaskID, told: str, series: Iterator[int]) -> None:
    bar.update(task, description=f"{told}, {next(series)} series")
