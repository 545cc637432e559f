"""Our own datasets: a pool of training, its slices and what is fitted on them, as the checks read them.

torch comes in with `serving.training`, so this module is imported only where slices are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusiontrade.journal.outcomes import HORIZON_BARS
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.rollover import rolls_over
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from serving.card import ModelCard
from serving.features import BARS_NEEDED, INDICATORS, VOLATILITY, indicators
from serving.instants import instant_of
from serving.lookahead.checks.findings import Check, Finding, Unusable, instant, spread
from serving.lookahead.checks.futures import TOLERANCE, differences
from serving.lookahead.checks.scaling import Statistics, check_scaler
from serving.lookahead.checks.slices import DatasetRows
from serving.training.dataset import (
    Pool,
    Scaler,
    Slices,
    fit_scaler,
    fit_season,
    pool_of,
    robust_scaler,
    slices_at,
    volatility_of,
)

__all__ = ["check_known_at_entry", "check_pool_scalers", "pool_in", "rows_of_pool", "slices_like"]

Rows = NDArray[np.intp]
_NAMES = ("train", "validation", "calibration", "test")
_LONGEST_TAIL = 900


def pool_in(frames: Sequence[CandleFrame], timeframe: Timeframe) -> Pool:
    """Return the pool training would make of these bars; raises `Unusable` where none is long enough."""
    long = [frame for frame in frames if len(frame) > BARS_NEEDED + HORIZON_BARS]
    if not long:
        raise Unusable(
            f"--data: no {timeframe} series has the {BARS_NEEDED + HORIZON_BARS + 1} bars that training needs"
        )
    return pool_of(timeframe, [(frame, rolls_over(parse_symbol(frame.symbol))) for frame in long])


def slices_like(card: ModelCard, pool: Pool) -> Slices | None:
    """Return the slices at the cuts of a card, or None where the pool has no rows for one of them."""
    if card.windows.validation is None:
        return None
    training = card.config.get("training")
    judged_from = training.get("judged_from") if isinstance(training, dict) else None
    last_cut = (
        instant_of(judged_from, "judged_from") if isinstance(judged_from, str) and judged_from else card.windows.test[0]
    )
    try:
        return slices_at(pool, (card.windows.validation[0], card.windows.calibration[0], last_cut))
    except ValueError:
        return None


def rows_of_pool(pool: Pool, slices: Slices) -> DatasetRows:
    """Return every row of the slices with its instants; markets are asked anew, whatever the pool says of them."""
    numbers = np.concatenate([getattr(slices, name) for name in _NAMES])
    place = np.repeat(np.arange(len(_NAMES)), [len(getattr(slices, name)) for name in _NAMES])
    of = pool.series_of(numbers)
    closes = pool.column(lambda one: one.frame.close_time)
    rests = np.asarray([rolls_over(parse_symbol(one.symbol)) for one in pool.series])
    return DatasetRows(
        _NAMES,
        place.astype(np.intp),
        pool.entry[numbers],
        closes[numbers + HORIZON_BARS],
        pool.timeframe.milliseconds,
        symbol=np.asarray([one.symbol for one in pool.series])[of],
        bar_close=closes[numbers],
        rolls_over=rests[of],
    )


def check_known_at_entry(name: str, pool: Pool, slices: Slices, *, moments: int = 8) -> Check:
    """Return the check that a row's inputs are those of the bars that were finished at its entry, and of no other."""
    findings = []
    tried = np.concatenate([getattr(slices, part) for part in _NAMES])
    for place, one in enumerate(pool.series):
        own = np.sort(tried[pool.series_of(tried) == place])
        worst: tuple[float, int, NDArray[np.bool_]] = (0.0, 0, np.zeros(len(INDICATORS), np.bool_))
        for number in own[list(spread(moments, 0, len(own) - 1))] if len(own) else ():
            row = int(number - pool.starts[place])
            finished = one.frame.finished_by(int(pool.entry[number])).tail(_LONGEST_TAIL)
            known = indicators(finished).scaled[-1:].astype(np.float64)
            size = differences(one.lstm.features[row : row + 1].astype(np.float64), known)[0]
            if size.max() > max(worst[0], TOLERANCE):
                worst = float(size.max()), int(number), size > TOLERANCE
        if worst[0]:
            columns = np.asarray(INDICATORS)[worst[2]]
            findings.append(
                Finding(
                    f"{one.symbol} {', '.join(columns[:5])}{' …' if len(columns) > 5 else ''}",
                    f"differs by {worst[0]:.3g} from what the bars finished by the entry give: a bar of the inputs was "
                    "still open",
                    "enter at the close of the newest bar of the inputs (or cut the inputs one bar earlier)",
                    row=f"entry {instant(int(pool.entry[worst[1]]))}",
                    size=worst[0] if np.isfinite(worst[0]) else None,
                )
            )
    told = f"inputs come from bars finished at the entry ({len(pool.series)} series, {moments} rows each)"
    return Check.judged(name, findings, proved=told)


def check_pool_scalers(
    name: str,
    pool: Pool,
    slices: Slices,
    *,
    scaler: Statistics | None,
    season: Mapping[str, Sequence[float]] | None = None,
    volatility: Statistics | None = None,
) -> Iterator[Check]:
    """Yield the check of each thing that is fitted on the training slice: scalers, and the busy hours of the week."""
    if scaler is not None:
        seen = _seen(slices, lambda rows: fit_scaler(pool, rows))
        yield check_scaler(f"{name}: scaler", scaler, seen, INDICATORS)
    if season is None:
        return
    until = {"the training slice": slices.cuts[0], "all before calibration": slices.cuts[1]}
    until |= {"all before the test": slices.cuts[2], "all rows": 2**62}
    keys = sorted(season)
    fitted = {words: fit_season(pool, cut) for words, cut in until.items()}
    if any(set(one) != set(keys) for one in fitted.values()):
        yield Check.skipped(f"{name}: busy hours", "the data have other symbols than the bundle was trained on")
        return
    values = [(words, _plain(np.concatenate([one[key] for key in keys]))) for words, one in fitted.items()]
    columns = [f"{key} slot {slot}" for key in keys for slot in range(len(season[key]))]
    stored = _plain(np.concatenate([np.asarray(season[key], np.float64) for key in keys]))
    yield check_scaler(f"{name}: busy hours", stored, values, columns)
    if volatility is not None:
        rows = volatility_of(pool, {key: np.asarray(value, np.float64) for key, value in season.items()})
        seen = _seen(slices, lambda chosen: robust_scaler(rows[chosen]))
        yield check_scaler(f"{name}: volatility scaler", volatility, seen, VOLATILITY)


def _seen(slices: Slices, fit: Callable[[Rows], Scaler]) -> list[tuple[str, Statistics]]:
    parts = [getattr(slices, name) for name in _NAMES]
    words = ("the training slice", "train and validation", "train, validation and calibration", "all rows")
    fitted = [fit(np.concatenate(parts[: count + 1])) for count in range(len(parts))]
    return [(text, Statistics(one.center, one.scale)) for text, one in zip(words, fitted, strict=True)]


def _plain(values: NDArray[np.float64]) -> Statistics:
    return Statistics(values, np.ones(len(values)))
