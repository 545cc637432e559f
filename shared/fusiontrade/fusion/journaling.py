"""Fused forecasts as journal entries: written once for the platform, and once more for a user who asks.

Always true here: an entry says what the answer said, from the bars it was made from, whoever asked and however often:
one forecast (symbol, timeframe of the targets, newest bar, bundles) is one entry of each owner. A forecast whose
outcome may be known to somebody already, because newer bars than it was made from should exist, is never written.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, cast, get_args

from fusiontrade.clock import parse_iso
from fusiontrade.errors import FusionTradeError, InvalidInput, StateUnavailable
from fusiontrade.journal.entries import HOLD, PLATFORM, Entry, Model, Signal, Source, decimal_of
from fusiontrade.journal.horizons import due, expiry
from fusiontrade.journal.outcomes import HORIZON_BARS

if TYPE_CHECKING:
    from fusiontrade.deadline import Deadline
    from fusiontrade.fusion.ports import Forecast
    from fusiontrade.fusion.response import FusionResponse
    from fusiontrade.journal.store import Journal
    from fusiontrade.market.symbols import Symbol

__all__ = ["NOT_WRITTEN", "SECONDS_TO_WRITE", "STALE", "JournalOfForecasts", "entry_of"]

SECONDS_TO_WRITE = 2.0
"""The most that one entry may take: a second to connect and one to write. With less left, none is begun."""

NOT_WRITTEN = "this forecast could not be written to the platform's journal now and will not count in its statistics"
STALE = (
    "journal=true had no effect: newer bars than this forecast was made from should exist, so its outcome may be "
    "known already"
)
_REMEMBERED = 4096

logger = logging.getLogger(__name__)


def entry_of(symbol: Symbol, response: FusionResponse, *, owner: str, source: Source) -> Entry:
    """Return the entry of a fused forecast.

    Raises
    ------
    InvalidInput
        If it cannot be one: no timeframe has an ATR, a level is not a positive price, or the market's hours are not
        known that far.
    """
    targets = response.targets
    if targets.timeframe is None:
        raise InvalidInput("interval", "a forecast without an ATR on any timeframe cannot be journaled")
    opened_at = parse_iso(response.as_of)
    signal = _signal(response.verdict)
    claims = signal != HOLD
    return Entry(
        owner=owner,
        source=source,
        symbol=symbol.code,
        interval=targets.timeframe.value,
        signal=signal,
        opened_at=opened_at,
        expires_at=expiry(symbol, targets.timeframe, opened_at, targets.horizon_bars or HORIZON_BARS),
        due_at=due(symbol, targets.timeframe, opened_at) if claims else None,
        data_source=response.data_source,
        verdict=response.verdict,
        lstm_signal=response.logic.primary_lstm,
        patchtst_signal=response.logic.secondary_patchtst,
        fusion_score=decimal_of(response.master_fusion_score),
        probability=_decimal(targets.p_win),
        models=tuple(Model(model.timeframe.value, model.id, model.version) for model in response.models),
        entry_price=_decimal(targets.entry),
        tp1=_decimal(targets.tp1),
        tp2=_decimal(targets.tp2),
        tp3=_decimal(targets.tp3),
        stop_loss=_decimal(targets.sl),
        atr=_decimal(targets.atr),
    )


class JournalOfForecasts:
    """Writes forecasts to the journal.

    Parameters
    ----------
    journal
        Where entries are kept.
    missed
        Called where an answer goes out that the platform's journal does not have: for a metric.
    """

    def __init__(self, journal: Journal, *, missed: Callable[[], object] = lambda: None) -> None:
        self._journal = journal
        self._missed = missed
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, forecast: Forecast, *, user_id: str | None, deadline: Deadline) -> tuple[str, ...]:
        """Write ``forecast`` for the platform, and for the user where one asked; return what the reader should know.

        Raises
        ------
        StateUnavailable
            If the user's own entry cannot be written, or no time is left to.
        """
        if forecast.is_stale:
            return (STALE,) if user_id else ()
        notes = self._noted_for_the_platform(forecast, deadline)
        if user_id:
            try:
                _check_time(deadline)
                self.write(forecast, owner=user_id, source="manual")
            except StateUnavailable:
                raise
            except FusionTradeError as error:
                notes = (*notes, f"journal=true had no effect: {error}")
        return notes

    def write(self, forecast: Forecast, *, owner: str = PLATFORM, source: Source) -> bool:
        """Write ``forecast`` for ``owner``; False where it is there already. At most one round trip.

        Raises
        ------
        InvalidInput
            As `entry_of`.
        StateUnavailable
            If the database does not answer.
        """
        entry = entry_of(forecast.symbol, forecast.response, owner=owner, source=source)
        key = (owner, entry.id)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return False
        added = self._journal.add(entry)
        with self._lock:
            self._known[key] = None
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return added

    def _noted_for_the_platform(self, forecast: Forecast, deadline: Deadline) -> tuple[str, ...]:
        try:
            _check_time(deadline)
            self.write(forecast, source="manual")
        except FusionTradeError as error:
            logger.warning("the forecast of %s is missing from the journal: %s", forecast.symbol.code, error)
            self._missed()
            return (NOT_WRITTEN,)
        return ()


def _check_time(deadline: Deadline) -> None:
    if deadline.remaining() < SECONDS_TO_WRITE:
        raise StateUnavailable("no time is left to write to the journal", retry_after=5)


def _decimal(number: float | None) -> Decimal | None:
    return None if number is None else decimal_of(number)


def _signal(verdict: str) -> Signal:
    word = verdict.rsplit(maxsplit=1)[-1].strip("()") if verdict else ""
    if word not in get_args(Signal):
        raise InvalidInput("verdict", f"{verdict!r} is no verdict: an entry that claims nothing must say HOLD")
    return cast(Signal, word)
