"""``python -m serving.training.adopt``: teach a bundle the habits of a symbol that its training never saw.

The weights stay. Learned from the symbol's own bars, in the bundle's own slices: the busy hours of its week, from bars
of the training and validation slices, and, for an LSTM, what its interval and probabilities are moved by, from the
calibration slice. Direction stays that of its kind of market. Nothing of the judged slice is read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fusiontrade.errors import FusionTradeError
from fusiontrade.market.candles import CandleFrame
from serving.bundle import ELSEWHERE, GRAPH, REPORT, RUN, Bundle, kind_of, load_bundle
from serving.card import Adjustment, ModelCard
from serving.evaluation.answering import run_bundle
from serving.features import activity, slots
from serving.features.season import drawn_to
from serving.markets import row_of
from serving.training.bundle import F32_GRAPH, Finished, write_bundle
from serving.training.candles import read_candles
from serving.training.dataset import Pool, Series, pool_of
from serving.training.judging.judge import learned_adjustments
from serving.training.prepared import data_of, lstm_batches_as

__all__ = ["adopted", "main"]


def adopted(bundle: Bundle, pool: Pool) -> ModelCard:
    """Return the bundle's card with rows for those symbols of ``pool`` that it has none for.

    Parameters
    ----------
    pool
        Series of the bundle's timeframe.

    Raises
    ------
    ValueError
        If no symbol is new, or a new one has no bars before the calibration slice, or none in it.
    """
    card = bundle.card
    new = Pool(pool.timeframe, tuple(one for one in pool.series if one.symbol not in card.season))
    if not new.series:
        raise ValueError(f"{card.model_id} knows {', '.join(one.symbol for one in pool.series)} already")
    season = dict(card.season) | {one.symbol: _season(card, one) for one in new.series}
    changed = card.model_copy(
        update={"season": season, "adopted": (*card.adopted, *data_of(new).series)},
    )
    if card.is_sequence:
        changed = changed.model_copy(update={"adjustments": {**card.adjustments, **_adjustments(changed, bundle, new)}})
    return ModelCard.model_validate(changed.model_dump())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write each bundle that a symbol is new to anew; return the exit code (2: none was written, or one failed)."""
    chosen = _parser().parse_args(arguments)
    symbols = tuple(part.strip() for part in chosen.symbols.split(",") if part.strip())
    written = 0
    try:
        for folder in sorted(path.parent for path in chosen.bundles.glob("*/model.json")):
            if kind_of(folder) in ELSEWHERE:
                continue
            bundle = load_bundle(folder)
            if frames := _unknown(bundle.card, chosen.data, symbols):
                card = adopted(bundle, pool_of(bundle.card.timeframe, frames))
                print(f"wrote {write_bundle(_finished(folder, card), chosen.out)}", flush=True)
                written += 1
    except (FusionTradeError, ValueError) as error:
        print(f"{f'stopped after {written}' if written else 'nothing adopted'}: {error}", file=sys.stderr)
        return 2
    if not written:
        print(f"nothing adopted: no bundle of {chosen.bundles} has bars to learn from", file=sys.stderr)
    return 0 if written else 2


def _unknown(card: ModelCard, data: Path, symbols: Sequence[str]) -> list[tuple[CandleFrame, bool]]:
    """Return the bars of the symbols that a bundle has no row for, as `read_candles` does; say which it passes over."""
    if known := [symbol for symbol in symbols if symbol in card.season]:
        print(f"{card.model_id} knows {', '.join(known)} already")
    new = tuple(symbol for symbol in symbols if symbol not in card.season)
    frames = read_candles(data, card.timeframe, new) if new else []
    if missing := set(new) - {frame.symbol for frame, _ in frames}:
        print(f"{card.model_id}: {data} has too few bars of {', '.join(sorted(missing))}")
    return frames


def _season(card: ModelCard, series: Series) -> tuple[float, ...]:
    """Return the busy hours of a series from its bars before the calibration slice, drawn to those of its kind."""
    busy = activity(series.frame)
    seen = np.isfinite(busy) & (series.frame.close_time < card.windows.calibration[0])
    if not seen.any():
        raise ValueError(f"{series.symbol}: no {card.timeframe} bars before the calibration slice of {card.model_id}")
    kind = np.asarray(row_of(card.season, series.market, series.market), np.float64)
    own = drawn_to(kind, slots(series.frame.time[seen], card.timeframe), busy[seen])
    return tuple(np.round(own, 4).tolist())


def _adjustments(card: ModelCard, bundle: Bundle, pool: Pool) -> Mapping[str, Adjustment]:
    """Return what the calibration slice teaches about each series of the pool."""
    first, last = card.windows.calibration
    rows = pool.usable[(pool.entry[pool.usable] >= first) & (pool.entry[pool.usable] <= last)]
    counts = np.bincount(pool.series_of(rows), minlength=len(pool.series))
    if missing := [one.symbol for one, count in zip(pool.series, counts, strict=True) if not count]:
        raise ValueError(f"{', '.join(missing)}: no {card.timeframe} bars in the calibration slice of {card.model_id}")
    found = learned_adjustments(card, pool, rows, run_bundle(bundle, lstm_batches_as(card, pool), rows))
    return {one.symbol: found[one.symbol] for one in pool.series}


def _finished(folder: Path, card: ModelCard) -> Finished:
    report = json.loads((folder / REPORT).read_text("utf-8"))
    report["adopted"] = [
        {"symbol": one.symbol, "rows": one.rows, "sha256": one.sha256, "judged": False} for one in card.adopted
    ]
    run = json.loads((folder / RUN).read_text("utf-8")) if (folder / RUN).is_file() else {}
    f32 = (folder / F32_GRAPH).read_bytes() if (folder / F32_GRAPH).is_file() else None
    return Finished(card, (folder / GRAPH).read_bytes(), report, run, f32_graph=f32)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.training.adopt", description=__doc__)
    parser.add_argument("--bundles", type=Path, required=True, help="folder of bundle folders")
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument("--symbols", required=True, help="codes to adopt, with commas")
    parser.add_argument("--out", type=Path, required=True, help="folder the bundles go to")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
