"""``python -m infra.load SCENARIO ... [--requests N] [--clients N]``: run scenarios, print figures, end with 1 where
one fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from infra.load import faults, scenarios
from infra.load.checks import Check, Options

SCENARIOS: dict[str, Callable[[Options], Iterator[Check]]] = {
    "alike": scenarios.alone_and_together,
    "overload": scenarios.overload,
    "swaps": scenarios.swaps,
    "drained": scenarios.drained,
    "killed": faults.killed,
    "bundles": faults.bad_bundles,
    "leaving": faults.leaving,
    "slow": faults.slow,
    "memory": scenarios.memory,
}


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; return 0 only if every condition held."""
    told = "\n".join(f"  {name:<9} {(scenario.__doc__ or '').splitlines()[0]}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m infra.load", epilog=told, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Load and faults for the serving program, on loopback.",
    )  # fmt: skip
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all of them where none is named")
    parser.add_argument("--requests", type=int, help="how many, instead of the scenario's own number")
    parser.add_argument("--clients", type=int, help="how many at the same time, instead of the scenario's own number")
    options = parser.parse_args(arguments)
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.scenarios or SCENARIOS:
        scenario, begun = SCENARIOS[name], time.monotonic()
        print(f"{name}: {(scenario.__doc__ or '').splitlines()[0]}", flush=True)
        for check in scenario(Options(options.requests, options.clients)):
            print(check, flush=True)
            failed += not check.held
        print(f"  {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{failed} conditions did not hold" if failed else "every condition held")
    return min(1, failed)


if __name__ == "__main__":
    sys.exit(main())
