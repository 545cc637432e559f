"""``make run``: the whole platform on this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from rich.console import Console

from infra.local.banner import show
from infra.local.log import Log
from infra.local.options import Options, PortInUse, parse
from infra.local.supervisor import StackFailure, Supervisor, only_one


async def _run(options: Options, log: Log, console: Console) -> None:
    began = time.monotonic()

    def started(chosen: Options, told: dict[str, Any]) -> None:
        show(console, chosen, told, time.monotonic() - began)

    await Supervisor(options, log).run(started)


def main(arguments: list[str]) -> int:
    """Run the stack; return the exit status: 0 after a Ctrl-C, 1 where it could not run or gave up."""
    console = Console()
    options = parse(arguments, os.environ)
    try:
        with only_one(options.folder):
            log = Log(options.log_file, console, verbose=options.verbose)
            try:
                asyncio.run(_run(options, log, console))
            finally:
                log.close()
    except (PortInUse, StackFailure) as failure:
        console.print(str(failure), style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print("everything has ended")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
