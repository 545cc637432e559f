"""What a set of forecasts came to: pure functions over records, exact decimals inside, JSON's numbers outside.

Always true here: what is undefined (a rate of nothing) is None; a profit factor without losses is `MOST_PROFIT_FACTOR`;
the order of the records changes nothing; equity and drawdown are ordered by the instant of the outcome. Moves are
counted in pips of their own symbol: sums over several asset classes add unlike things, so they also stand by class.

==================  ====================================================================================================
win_rate            wins / (wins + losses): of those that the market decided
profit_factor       pips gained / pips lost over everything settled, EXPIRED too
expectancy          mean pips of what is settled; equal to average_pips
max_drawdown        deepest fall of the equity curve below its earlier peak (or its start at 0), in pips, never negative
brier               mean of (probability - won)²; won is 1 for a WIN, else 0: EXPIRED is no win for ``p_win``
calibration         ten bins of the probability: how often it was a WIN against what was said
==================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Any, NamedTuple

from fusiontrade.journal.settlement import Status

__all__ = ["CALIBRATION_BINS", "MOST_CURVE_POINTS", "MOST_PROFIT_FACTOR", "Record", "statistics_of"]

MOST_PROFIT_FACTOR = 999.0
"""What a profit factor without losses, or beyond it, is given as."""
CALIBRATION_BINS = 10
MOST_CURVE_POINTS = 500
"""Points of an equity curve that is answered; of more, each stands for the last of several."""

_ZERO = Decimal(0)


class Record(NamedTuple):
    """One entry: ``status`` None is a HOLD, ``outcome_at`` (ms) and ``pips`` are None where nothing is settled."""

    id: str
    opened_at: int
    symbol: str
    interval: str
    status: Status | None
    outcome_at: int | None = None
    pips: Decimal | None = None
    probability: Decimal | None = None


class _Settled(NamedTuple):
    """A settled record, in the order of outcomes."""

    outcome_at: int
    id: str
    symbol: str
    status: Status
    pips: Decimal
    probability: Decimal | None


def statistics_of(records: Iterable[Record], asset_class: Callable[[str], str] | None = None) -> dict[str, Any]:
    """Return the statistics of ``records`` in the form of the API, instants in ms.

    Parameters
    ----------
    records
        In any order; each entry once.
    asset_class
        Names the class of a symbol; None leaves ``by_asset_class`` empty.
    """
    everything = list(records)
    settled = _settled(everything)
    return {
        **_summary(everything, settled),
        "max_drawdown": float(drawdown([each.pips for each in settled])),
        "by_symbol": _grouped(everything, lambda symbol: symbol),
        "by_asset_class": {} if asset_class is None else _grouped(everything, asset_class),
        "equity_curve": _curve(settled),
        **_reliability(settled),
    }


def drawdown(pips: Sequence[Decimal]) -> Decimal:
    """Return the deepest fall of the sum of ``pips``, taken in their order, below its earlier peak or 0; in pips."""
    peak = deepest = _ZERO
    for equity in accumulate(pips):
        peak = max(peak, equity)
        deepest = max(deepest, peak - equity)
    return deepest


def _settled(records: Iterable[Record]) -> list[_Settled]:
    return sorted(
        _Settled(each.outcome_at, each.id, each.symbol, each.status, each.pips, each.probability)
        for each in records
        if each.status is not None and each.outcome_at is not None and each.pips is not None
    )


def _summary(records: Sequence[Record], settled: Sequence[_Settled]) -> dict[str, Any]:
    counts = {status: sum(each.status is status for each in records) for status in (*Status, None)}
    wins, losses = counts[Status.WIN], counts[Status.LOSS]
    gained = sum((each.pips for each in settled if each.pips > 0), _ZERO)
    lost = -sum((each.pips for each in settled if each.pips < 0), _ZERO)
    average = _ratio(gained - lost, len(settled))
    return {
        "total": len(records),
        "pending": counts[Status.PENDING],
        "wins": wins,
        "losses": losses,
        "expired": counts[Status.EXPIRED],
        "holds": counts[None],
        "win_rate": _ratio(wins, wins + losses),
        "profit_factor": _profit_factor(gained, lost),
        "total_pips": float(gained - lost),
        "average_pips": average,
        "expectancy": average,
    }


def _ratio(part: Decimal | int, whole: int) -> float | None:
    return None if whole == 0 else float(part / Decimal(whole))


def _profit_factor(gained: Decimal, lost: Decimal) -> float | None:
    if lost == 0:
        return MOST_PROFIT_FACTOR if gained > 0 else None
    return min(float(gained / lost), MOST_PROFIT_FACTOR)


def _grouped(records: Sequence[Record], key: Callable[[str], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Record]] = {}
    for each in records:
        groups.setdefault(key(each.symbol), []).append(each)
    return {name: _summary(groups[name], _settled(groups[name])) for name in sorted(groups)}


def _curve(settled: Sequence[_Settled]) -> list[dict[str, Any]]:
    """Return the equity in pips after each outcome, thinned evenly where there are many; the last is always there."""
    equity = list(accumulate(each.pips for each in settled))
    step = -(-len(settled) // MOST_CURVE_POINTS) or 1
    kept = range(len(settled) - 1, -1, -step)
    return [{"at": settled[index].outcome_at, "equity": float(equity[index])} for index in reversed(kept)]


def _reliability(settled: Sequence[_Settled]) -> dict[str, Any]:
    """Return the Brier score and the calibration of the probabilities that were given."""
    given = [(each.probability, int(each.status is Status.WIN)) for each in settled if each.probability is not None]
    squares = sum(((probability - won) ** 2 for probability, won in given), _ZERO)
    bins: list[list[tuple[Decimal, int]]] = [[] for _ in range(CALIBRATION_BINS)]
    for probability, won in given:
        bins[min(int(probability * CALIBRATION_BINS), CALIBRATION_BINS - 1)].append((probability, won))
    return {
        "brier": _ratio(squares, len(given)),
        "calibration": [_bin(index, held) for index, held in enumerate(bins)],
    }


def _bin(index: int, held: Sequence[tuple[Decimal, int]]) -> dict[str, Any]:
    return {
        "from": index / CALIBRATION_BINS,
        "to": (index + 1) / CALIBRATION_BINS,
        "count": len(held),
        "predicted": _ratio(sum((probability for probability, _ in held), _ZERO), len(held)),
        "won": _ratio(sum(won for _, won in held), len(held)),
    }
