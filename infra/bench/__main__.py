"""``python -m infra.bench [GROUP ...] [--publish]``: measure, print, write down."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from infra.bench import page, rows

RESULTS = rows.ROOT / "build" / "bench.json"


def indicators() -> Iterable[rows.Row]:
    """Features against TA-Lib and ``ta``."""
    from infra.bench import features

    return features.rows()


def smart_money() -> Iterable[rows.Row]:
    """Smart-money columns against the library that is usual for them."""
    from infra.bench import smart_money as measured

    return measured.rows()


def payload() -> Iterable[rows.Row]:
    """Reading a request's body."""
    from infra.bench import payload as measured

    return measured.rows()


def inference() -> Iterable[rows.Row]:
    """The graphs against eager torch."""
    from infra.bench import models

    return models.rows()


def ensemble() -> Iterable[rows.Row]:
    """Sampled dropout and daily stocks."""
    from infra.bench import ensemble as measured

    return measured.rows()


def precision() -> Iterable[rows.Row]:
    """Integer products against f32, and how often they decide the same."""
    from infra.bench import precision as measured

    return measured.rows()


def starts() -> Iterable[rows.Row]:
    """Fresh interpreters: handlers and the serving program."""
    from infra.bench import starts as measured

    return measured.rows()


def runs() -> Iterable[rows.Row]:
    """The daily run of a hundred symbols, from its schedule to its end."""
    from infra.bench import runs as measured

    return measured.rows()


def serving() -> Iterable[rows.Row]:
    """The serving program under load, against LitServe and against itself without batching."""
    from infra.bench import serving as measured

    return measured.rows()


GROUPS: dict[str, Callable[[], Iterable[rows.Row]]] = {
    "indicators": indicators,
    "smart_money": smart_money,
    "payload": payload,
    "inference": inference,
    "ensemble": ensemble,
    "precision": precision,
    "starts": starts,
    "runs": runs,
    "serving": serving,
}


def main() -> int:
    """Run the comparisons that are asked for, print the table, write the JSON; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.bench", description="Speed as ratios, both sides in turn.")
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"one of {', '.join(GROUPS)}; all where none is named"
    )
    parser.add_argument("--publish", action="store_true", help="also write docs/performance.{json,md}")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    today = datetime.now(UTC).date().isoformat()
    earlier = rows.read(RESULTS) or rows.read(page.PUBLISHED)
    print(f"{rows.machine()}, {today}; ratios are medians of neighbouring runs (quartiles)\n")
    found: list[rows.Row] = []
    for name in options.groups or GROUPS:
        for row in GROUPS[name]():
            found.append(row)
            print(*rows.table([row], earlier), sep="\n", flush=True)
            if row.note:
                print(f"    {row.note}", flush=True)
    rows.written(RESULTS, found, today)
    print(f"\nwritten to {RESULTS.relative_to(rows.ROOT)}")
    if options.publish:
        page.publish(found, today)
        print(f"published in {page.PAGE.relative_to(rows.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
