"""The 50 indicators against TA-Lib's own functions with numpy between them, and against ``ta``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from infra.bench.opponents import ta_indicators, talib_indicators, walk
from infra.bench.rows import Row, paired

__all__ = ["rows"]


def rows() -> Iterator[Row]:
    """Measure 1,000 and 10,000 rows, one thread."""
    from serving.features import indicators

    for count, rounds in ((1_000, 60), (10_000, 20)):
        frame = walk(count)
        found = paired(partial(indicators, frame), partial(talib_indicators, frame), rounds=rounds, repeat=5)
        yield Row.of(f"50 indicators, {count:,} rows", "TA-Lib functions + numpy", found, 1.0)
    frame = walk(1_000)
    found = paired(partial(indicators, frame), partial(ta_indicators, frame), rounds=5)
    yield Row.of("50 indicators, 1,000 rows", "ta 0.11", found, 300.0)
