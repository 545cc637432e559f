"""``fusiontrade train | backtest | registry | promote``: model versions, from a terminal.

Each starts a job and stays with it, with a bar that follows its progress; the job goes on where the command is ended.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from fusiontrade.cli.api import FAILED, UNAVAILABLE, Api, CommandFailure
from fusiontrade.cli.common import (
    LOCAL_STACK,
    ApiUrl,
    AsJson,
    failures_are_exits,
    patiently,
    print_json,
    signed_in,
    tell,
    waiting,
)

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["backtest", "promote", "registry", "train"]

_LOOK_AGAIN_SECONDS = 1.0
_COLOURS = {"ACTIVE": "green", "CANDIDATE": "cyan", "DEGRADED": "yellow", "RETIRED": "dim"}

Job = dict[str, Any]
Symbol = Annotated[str, typer.Argument(help="Yahoo's symbol, e.g. EURUSD=X, GC=F, BTC-USD.")]
Interval = Annotated[str, typer.Option(help="The timeframe: 15m, 30m, 1h, 4h.")]
Wait = Annotated[bool, typer.Option(help="Stay until it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to stay at most.")]


def train(
    *,
    symbol: Symbol,
    interval: Interval = "1h",
    model: Annotated[str, typer.Option(help="lstm, patchtst, gru, cnn or transformer.")] = "lstm",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most passes over the data (default: 20, of a fine-tuning 3).")
    ] = None,
    bars: Annotated[
        int | None, typer.Option(min=2000, help="Newest bars of each symbol to learn from (default: 20000).")
    ] = None,
    beside: Annotated[str, typer.Option("--symbols", help="More symbols to learn from, with commas.")] = "",
    tune: Annotated[bool, typer.Option("--finetune", help="Begin with the version that serves.")] = False,
    wait: Wait = True,
    seconds: Timeout = 6 * 3600.0,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Train a model (admin), or fine-tune the one that serves; it ends as a version in the registry."""
    body: dict[str, Any] = {"symbol": symbol, "model_type": model}
    if tune:
        path = "/api/v1/fusion/finetune"
        if bars is not None or beside:
            raise typer.BadParameter("a fine-tuning has the symbols of the version that serves, and bars of its own")
        body |= {"timeframe": interval} | ({} if epochs is None else {"epochs": epochs})
    else:
        path = "/api/v1/ml/train"
        more = [part.strip() for part in beside.split(",") if part.strip()]
        body |= {"interval": interval, "epochs": epochs or 20, "bars": bars or 20_000, "symbols": more}
    job = _worked(api, path, body, wait=wait, seconds=seconds, text=f"training {model} {interval}", as_json=as_json)
    if as_json or not (result := job.get("result")):
        return
    typer.echo(f"{result['model_id']} version {result['version']} is a {result['status']}")
    if "promotion" not in result:
        typer.echo(f"let it serve with: fusiontrade promote {result['model_id']} {result['version']}")
        return
    with failures_are_exits():  # fine-tuning goes on to the exchange by itself
        exchange = {"id": result["promotion"], "status": "QUEUED"}
        exchange = _followed(Api(api), exchange, seconds, f"exchanging {result['model_id']}")
        if not (told := exchange.get("result")):
            raise CommandFailure(str(exchange.get("error") or "it failed"), FAILED)
    typer.echo(f"it serves: {told['reason']}")


def backtest(
    *,
    symbol: Symbol,
    since: Annotated[str, typer.Option("--from", help="An instant or a UTC day.")],
    until: Annotated[str, typer.Option("--to", help="An instant or a UTC day.")],
    interval: Interval = "1h",
    costs: Annotated[
        float | None,
        typer.Option("--costs-bps", min=0, help="Of each side of a trade (default: usual ones of the asset class)."),
    ] = None,
    wait: Wait = True,
    seconds: Timeout = 3600.0,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Trade the platform's signals of a symbol on paper, over a past span."""
    body: dict[str, Any] = {"symbol": symbol, "interval": interval, "from": since, "to": until}
    body |= {} if costs is None else {"costs_bps": costs}
    path = "/api/v1/ml/backtest/trigger"
    job = _worked(api, path, body, wait=wait, seconds=seconds, text=f"backtest of {symbol} {interval}", as_json=as_json)
    if not as_json and (result := job.get("result")):
        Console().print(_backtest_view(result))
        for warning in result.get("warnings", ()):
            tell(f"note: {warning}")


def promote(
    *,
    model_id: Annotated[str, typer.Argument(help="The model, as the registry names it.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    force: Annotated[bool, typer.Option("--force", help="Also where nothing shows that it is not worse.")] = False,
    seconds: Timeout = 1800.0,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Let a version serve (admin); the one before serves until this one has answered its self-test."""
    body = {"model_id": model_id, "version": version, "force": force}
    path, text = "/api/v1/ml/model/load", f"exchanging {model_id}"
    job = _worked(api, path, body, wait=True, seconds=seconds, text=text, as_json=as_json)
    if not as_json and (result := job.get("result")):
        typer.echo(f"{model_id} version {version} serves: {result['reason']}")


def registry(as_json: AsJson = False, api: ApiUrl = LOCAL_STACK) -> None:
    """List every version of every model."""
    with failures_are_exits():
        stack, items = Api(api), []
        cursor: str | None = None
        with waiting("reading the registry"):
            while True:
                params = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
                page = signed_in(stack, lambda token, params=params: _page(stack, token, params))  # type: ignore[misc]
                items += page["items"]
                if (cursor := page["next_cursor"]) is None:
                    break
        if as_json:
            print_json(items)
        else:
            Console().print(_registry_view(items))


def _page(stack: Api, token: str, params: Mapping[str, str]) -> dict[str, Any]:
    return stack.asked("GET", "/api/v1/ml/registry", token=token, params=params, holds=("items", "next_cursor"))


def _worked(
    api: str, path: str, body: Mapping[str, Any], *, wait: bool, seconds: float, text: str, as_json: bool
) -> Job:
    """Return the job that ``path`` starts, finished where it is to be waited for; a failed one ends the command."""
    with failures_are_exits():
        stack, headers = Api(api), {"Idempotency-Key": uuid.uuid4().hex}
        job = signed_in(
            stack,
            lambda token: stack.asked("POST", path, token=token, json=body, headers=headers, holds=("id", "status")),
        )
        if wait:
            job = _followed(stack, job, seconds, text)
        if as_json:
            print_json(job)
        elif not wait:
            typer.echo(f"job {job['id']}: {job['status']}")
        if job["status"] == "FAILED":
            raise CommandFailure(str(job.get("error") or "it failed"), FAILED)
        return job


def _followed(stack: Api, job: Job, seconds: float, text: str) -> Job:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    until, path = time.monotonic() + seconds, f"/api/v1/ml/jobs/{quote(str(job['id']), safe='')}"
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(text, total=1.0)
        while job["status"] not in ("SUCCEEDED", "FAILED"):
            if time.monotonic() >= until:
                told = f"the job {job['id']} is not done yet; it goes on without this command"
                raise CommandFailure(told, UNAVAILABLE)
            time.sleep(_LOOK_AGAIN_SECONDS)
            job = patiently(
                stack, lambda token: stack.asked("GET", path, token=token, holds=("id", "status")), until=until
            )
            step = f": {job['step']}" if job.get("step") else ""
            shown.update(task, completed=float(job.get("progress") or 0), description=f"{text}{step}")
    return job


def _registry_view(items: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "version", "status", "symbols", "learned until", "made")
    for one in items:
        table.add_row(
            one["model_id"],
            one["version"],
            Text(one["status"], style=_COLOURS.get(one["status"], "")),
            str(len(one.get("symbols", ()))),
            str(one["trained_on"].get("to") or "-")[:10],
            one["created_at"][:10],
        )
    return table


def _backtest_view(result: Mapping[str, Any]) -> Table:
    from rich.table import Table

    performance, deflated = result["performance"], result["deflated_sharpe"]
    of_trades = performance["of_trades"]
    table = Table("figure", "value", title=f"{result['symbol']} {result['interval']}, {result['bars']} bars")
    rows = {
        "from, to": f"{result['from']} - {result['to']}",
        "capital, final": f"{result['capital']:,.0f}, {result['final']:,.2f}",
        "trades": str(of_trades["n"]),
        "win rate": _figure(of_trades["win_rate"]),
        "profit factor": _figure(of_trades["profit_factor"]),
        "largest drawdown": _figure(performance["max_drawdown"]),
        "Sharpe ratio": _figure(deflated["sharpe"]),
        f"deflated, {deflated['trials']} trials": _figure(deflated["probability"]),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
