"""Speed as ratios: ``make bench`` runs both sides of each row in turn, in one run, and prints how they compare.

Machines are noisy, so each row is the median of the ratios of neighbouring runs, never one absolute time; nothing
here is asserted. Results go to ``build/bench.json`` with machine and date, so that a later run can be compared.
Rows beyond these (throughput under load, swing inference) come with the parts they measure.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "bench.json"
STARTERS = ROOT / "serving" / "starter"


@dataclass(frozen=True)
class Row:
    """One comparison: how many times as long ``against`` takes as ``what``; ``target`` is the least that counts."""

    what: str
    against: str
    milliseconds: float
    ratio: float
    target: float

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.ratio >= self.target


def paired(ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int) -> tuple[float, float]:
    """Return our median time in ms and the median over neighbouring runs of theirs / ours, after one warm-up each."""
    ours(), theirs()
    own, ratios = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        ours()
        between = time.perf_counter()
        theirs()
        own.append(between - started)
        ratios.append((time.perf_counter() - between) / own[-1])
    return 1000 * median(own), median(ratios)


def indicator_rows() -> list[Row]:
    """Compare the 50 indicators with TA-Lib's own functions, and with ``ta``, over 1,000 and 10,000 rows."""
    from infra.bench_opponents import ta_indicators, talib_indicators, walk
    from serving.features import indicators

    rows = []
    for count, rounds in ((1_000, 60), (10_000, 20)):
        frame = walk(count)
        own, ratio = paired(lambda f=frame: indicators(f), lambda f=frame: talib_indicators(f), rounds=rounds)
        rows.append(Row(f"50 indicators, {count:,} rows", "TA-Lib functions + numpy", own, ratio, 1.0))
    frame = walk(1_000)
    own, ratio = paired(lambda: indicators(frame), lambda: ta_indicators(frame), rounds=5)
    rows.append(Row("50 indicators, 1,000 rows", "ta 0.11", own, ratio, 300.0))
    return rows


def inference_rows() -> list[Row]:
    """Compare all starter graphs at batch one with the same networks in eager torch, one thread each."""
    from infra.bench_opponents import eager_models, inputs_of
    from serving.bundle import load_bundle

    bundles = [load_bundle(folder) for folder in sorted(STARTERS.glob("*-*"))]
    models = eager_models(bundles)
    feeds = [inputs_of(bundle) for bundle in bundles]
    own, ratio = paired(
        lambda: [bundle.graph.run(feed) for bundle, feed in zip(bundles, feeds, strict=True)],
        lambda: [model(feed) for model, feed in zip(models, feeds, strict=True)],
        rounds=100,
    )
    return [Row(f"fusion inference, {len(bundles)} models, batch of one", "eager torch", own, ratio, 4.0)]


def start_rows() -> list[Row]:
    """Compare fresh interpreters: the serving program's imports and bundles, and a light handler's first answer."""
    serve = "from pathlib import Path; from serving.engine import load_engine; load_engine(Path('serving/starter'))"
    own, ratio = paired(_fresh(serve), _fresh("import torch, transformers"), rounds=5)
    rows = [Row("serving program: imports and bundles", "import torch, transformers", own, ratio, 3.0)]
    light = "from infra.bench_opponents import first_answer; first_answer()"
    plain = "from infra.bench_opponents import plain_first_answer; plain_first_answer()"
    own, ratio = paired(_fresh(light), _fresh(plain), rounds=9)
    return [
        *rows,
        Row("auth handler, fresh interpreter to first answer", "FastAPI + Mangum alone", own, ratio, 1 / 1.6),
    ]


def _fresh(code: str) -> Callable[[], object]:
    environment = {**os.environ, "STAGE": "local", "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return lambda: subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def machine() -> str:
    """Return what ran this."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


def main() -> int:
    """Run every comparison, print the table, write the JSON."""
    now = datetime.now(UTC).date().isoformat()
    print(f"{machine()}, {now}\n")
    print(f"{'what':<52} {'ms':>8}  {'against':<28} {'ratio':>8} {'target':>8}")
    rows = []
    for measure in (indicator_rows, inference_rows, start_rows):
        for row in measure():
            rows.append(row)
            verdict = "met" if row.met else "MISSED"
            line = f"{row.what:<52} {row.milliseconds:>8.2f}  {row.against:<28} {row.ratio:>7.2f}x {row.target:>7.2f}x"
            print(f"{line}  {verdict}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    result = {"machine": machine(), "date": now, "rows": [asdict(row) | {"met": row.met} for row in rows]}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {RESULTS.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
