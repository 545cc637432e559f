"""The twelve smart-money columns against ``smartmoneyconcepts`` 0.0.27, both in one process of its environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from infra import environment
from infra.bench.rows import ROOT, Paired, Row

__all__ = ["measured", "rows"]

_AGAINST = "smartmoneyconcepts 0.0.27"


def rows() -> Iterator[Row]:
    """Measure 1,000 and 10,000 rows, one thread; the first row's note says how many of its events are ours."""
    found = measured()
    note = _told(found["agreement"])
    for bars, seconds in found["seconds"].items():
        compared = Paired.of(seconds["ours"], seconds["theirs"])
        yield Row.of(f"12 smart-money columns, {int(bars):,} rows", _AGAINST, compared, 100.0, note)
        note = ""


def measured() -> dict[str, Any]:
    """Return what `infra.bench.smart_money_sides` prints in the environment that has the library."""
    variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", "SMC_CREDIT": "0", "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [str(environment.interpreter("bench")), "-m", "infra.bench.smart_money_sides"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        raise RuntimeError(f"the comparison ended with {told.returncode}: {told.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def _told(agreement: Mapping[str, Mapping[str, int]]) -> str:
    shown = [
        f"{kind}: {counts['both']} of its {counts['both'] + counts['theirs alone']}"
        for kind, counts in agreement.items()
        if "both" in counts
    ]
    return f"events of the library that are ours, 3,000 rows: {'; '.join(shown)}"
