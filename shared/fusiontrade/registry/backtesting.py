"""The job ``backtest``: what trading the platform's signals of one symbol and interval would have come to.

A signal is a journal entry: the platform's own where it wrote one for that bar, else the forecast of today's models as
of that bar's close, made by the same service (`fusiontrade.fusion.service`) from bars that were finished by then.
Always true: a signal of a bar's close is filled at the next bar's open or later (`fusiontrade.trading.simulation`); a
bar whose forecast could not be made is no HOLD: it is counted and the reason told, and a span without any forecast
comes to nothing; how many backtests its owner has asked for of this symbol and interval counts as trials, and deflates
the Sharpe ratio.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fusiontrade.cloud.tables import Table, Update
from fusiontrade.errors import FusionTradeError, InvalidInput, Unavailable
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.registry.turns import CANCELLED, Again, Done

if TYPE_CHECKING:
    from fusiontrade.journal.entries import Entry
    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.registry.bundles import Objects

__all__ = ["KIND", "Backtest", "Signal", "signal_of"]

KIND = "backtest"
MOST_BARS = 2_000
FRACTION = 0.1
_SHOWN = 500


class Bars(Protocol):
    """Who has candles of a span."""

    def __call__(self, symbol: str, interval: str, since: int, until: int) -> CandleFrame:
        """Return the bars that opened from ``since`` and were finished by ``until`` (ms)."""
        ...


class Forecasts(Protocol):
    """Who forecasts as of a past instant."""

    def __call__(self, symbol: str, at: int) -> Entry:
        """Return the entry that a forecast of then would have been; raises `FusionTradeError`."""
        ...


class Entries(Protocol):
    """Who has the platform's journal."""

    def __call__(self, symbol: str, since: int, until: int) -> Iterable[Entry]:
        """Return its entries of a symbol and span."""
        ...


@dataclass(frozen=True)
class Signal:
    """What was said at a bar's close: ``side`` is +1, -1, or 0 for nothing to trade on this interval.

    ``missing`` says why there is no forecast; None where there is one.
    """

    at: int
    side: int
    stop: float | None
    target: float | None
    journaled: bool
    missing: str | None = None


def signal_of(entry: Entry, at: int, interval: str, *, journaled: bool) -> Signal:
    """Return the signal of an entry; one whose targets come from another interval says nothing of this one."""
    side = {"BUY": 1, "SELL": -1}.get(entry.signal, 0) if entry.interval == interval else 0
    if not side or entry.stop_loss is None or entry.tp1 is None:
        return Signal(at, 0, None, None, journaled)
    return Signal(at, side, float(entry.stop_loss), float(entry.tp1), journaled)


class Backtest:
    """Does jobs of this kind.

    Parameters
    ----------
    objects
        Keeps the signals between turns.
    table
        Counts trials.
    bars, forecasts, entries
        What the market did, what the models say of a past instant, and what the platform said then.
    turn
        Begins a turn; what it returns says whether there is time for one more forecast.
    """

    def __init__(
        self,
        objects: Objects,
        table: Table,
        *,
        bars: Bars,
        forecasts: Forecasts,
        entries: Entries,
        turn: Callable[[], Callable[[], bool]],
    ) -> None:
        self._objects, self._table = objects, table
        self._bars, self._forecasts, self._entries, self._turn = bars, forecasts, entries, turn

    def turn(self, order: JobOrder, kept: Mapping[str, Any], *, cancelled: bool) -> Again | Done:  # noqa: ARG002
        """Find more signals, or trade them where all are found."""
        if cancelled:
            raise FusionTradeError(CANCELLED)
        goes_on = self._turn()
        asked = order.request
        symbol, interval = str(asked["symbol"]), str(asked["interval"])
        since, until = int(asked["from"]), int(asked["to"])
        frame = self._bars(symbol, interval, since, until)
        if not len(frame):
            raise InvalidInput("body/from", f"there are no {interval} bars of {symbol} in that span")
        if len(frame) > MOST_BARS:
            raise InvalidInput(
                "body/from", f"{len(frame)} bars are too many for one backtest: {MOST_BARS} at most; ask for less time"
            )
        signals = self._known(order.id)
        self._find(signals, frame, (symbol, interval), (since, until), goes_on)
        if len(signals) < len(frame):
            self._objects.put(_key(order.id), json.dumps([asdict(one) for one in signals]).encode())
            step = f"signal {len(signals)} of {len(frame)}"
            return Again(0, max(0.01, 0.95 * len(signals) / len(frame)), step=step)
        return Done(self._traded(order, frame, signals))

    def abandon(self, order: JobOrder, kept: Mapping[str, Any]) -> None:
        """Nothing is held."""

    def _known(self, job: str) -> list[Signal]:
        return [Signal(**one) for one in json.loads(self._objects.get(_key(job)) or b"[]")]

    def _find(
        self,
        signals: list[Signal],
        frame: CandleFrame,
        of: tuple[str, str],
        span: tuple[int, int],
        goes_on: Callable[[], bool],
    ) -> None:
        symbol, interval = of
        before = len(signals)
        journaled = {entry.opened_at: entry for entry in self._entries(symbol, *span) if entry.interval == interval}
        for at in frame.close_time[len(signals) :].tolist():
            if signals and not goes_on():
                return
            entry = journaled.get(at)
            try:
                found = self._forecasts(symbol, at) if entry is None else entry
            except Unavailable:
                if len(signals) == before:
                    raise
                return  # what was found is kept; the rest is asked for in the next turn
            except InvalidInput as error:  # bars that lie too far back, or whose forecast cannot be an entry
                signals.append(Signal(at, 0, None, None, journaled=False, missing=str(error)))
                continue
            signals.append(signal_of(found, at, interval, journaled=entry is not None))

    def _traded(self, order: JobOrder, frame: CandleFrame, signals: Sequence[Signal]) -> dict[str, Any]:
        from fusiontrade.journal.outcomes import HORIZON_BARS
        from fusiontrade.trading.account import Order
        from fusiontrade.trading.costs import Costs
        from fusiontrade.trading.markets import backtest
        from fusiontrade.trading.reports import planned

        missing = [one.missing for one in signals if one.missing is not None]
        if len(missing) == len(signals):
            raise FusionTradeError(f"there is no forecast of any bar of that span: {missing[0]}")
        orders = {
            one.at: [Order(frame.symbol, one.side, FRACTION, HORIZON_BARS, one.stop, one.target)]
            for one in signals
            if one.side
        }
        journaled = sum(one.journaled for one in signals)
        counts = {
            "journaled": journaled,
            "made_now": len(signals) - journaled - len(missing),
            "without_forecast": len(missing),
            "ordered": len(orders),
        }
        bps = order.request.get("costs_bps")
        found = backtest(
            [frame],
            planned(orders),
            costs=None if bps is None else {frame.symbol: Costs(commission=float(bps))},
            trials=self._trials(order),
        )
        told = {"symbol": frame.symbol, "interval": str(frame.timeframe), "bars": len(frame), "signals": counts}
        shown = {"trades": found["trades"][-_SHOWN:], "equity": _thinned(found["equity"])}
        left_out = [
            f"of {len(found[name])} {what} {len(part)} are shown; every figure is of all of them"
            for (name, part), what in zip(shown.items(), ("trades the newest", "points of the equity"), strict=True)
            if len(part) < len(found[name])
        ]
        return {**told, **found, **shown, "warnings": [*found["warnings"], *_warnings(counts, missing), *left_out]}

    def _trials(self, order: JobOrder) -> int:
        """Count this backtest among its owner's of the same symbol and interval; a repeated turn counts once."""
        key = {"pk": "REGISTRY", "sk": f"TRIALS#{order.owner}#{order.request['symbol']}#{order.request['interval']}"}
        item = self._table.update(Update(key, add={"jobs": frozenset({order.id})}))
        return len(item["jobs"])


def _warnings(counts: Mapping[str, int], missing: Sequence[str | None]) -> list[str]:
    said = []
    if made_now := counts["made_now"]:
        said.append(
            f"{made_now} signals were made now by the models that serve now: where those learned from bars of this "
            "span, the result shows what they remember and not what they can foresee"
        )
    if missing:
        said.append(f"{len(missing)} bars have no forecast, and nothing was traded on them: {missing[0]}")
    if not counts["ordered"]:
        said.append(
            "there was no signal to trade: the platform said HOLD, or its targets were those of another interval"
        )
    return said


def _thinned(curve: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `_SHOWN` points, evenly spread, the last among them."""
    step = -(-len(curve) // _SHOWN)
    return [one for row, one in enumerate(curve) if row % step == 0 or row == len(curve) - 1]


def _key(job: str) -> str:
    return f"training/{job}/signals.json"
