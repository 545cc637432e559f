"""How far a study is: a bar for each timeframe on a terminal, a plain line for each step elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from fusiontrade.market.timeframes import Timeframe

__all__ = ["shown"]

Told = Callable[[Timeframe, str], None]


@contextmanager
def shown(timeframes: Sequence[Timeframe], steps: Sequence[str], stream: TextIO) -> Iterator[Told]:
    """Give the function that is told each step of each timeframe when it is done."""
    if not stream.isatty():
        yield lambda timeframe, step: print(f"{timeframe}: {step} done", file=stream, flush=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<4}"), BarColumn(), TextColumn("{task.fields[step]:<22}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(file=stream)) as progress:
        tasks = {one: progress.add_task(str(one), total=len(steps), step=steps[0]) for one in timeframes}

        def told(timeframe: Timeframe, step: str) -> None:
            done = steps.index(step) + 1
            following = steps[done] if done < len(steps) else "done"
            progress.update(tasks[timeframe], completed=done, step=following)

        yield told
