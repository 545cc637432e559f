"""The swing line as a decider of the event loop: claims of a session become orders for the next open.

Always true here: what backtests decide is what paper and live accounts decide, since this is the code of all three;
claims of one session are taken by confidence, the surest first, and what it has been given counts against the next;
every decision is kept with its reasons. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fusiontrade.swing.decisions import Decision, decided
from fusiontrade.swing.rules import Claim, Limits, Situation
from fusiontrade.trading.account import Order, Reason
from fusiontrade.trading.simulation import Moment

__all__ = ["Decided", "Proposal", "SwingTrader"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A claim about a symbol, and the levels its position would have, if any."""

    claim: Claim
    stop: float | None = None
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided of a symbol at an instant."""

    symbol: str
    at: int
    decision: Decision


@dataclass
class SwingTrader:
    """Decides by the rules; call it with each moment of one account.

    Parameters
    ----------
    proposals
        From an instant (the close of a session, ms UTC) to what is proposed of each symbol then.
    limits
        Of the rules.
    hold
        Sessions a position lives.
    market_open
        Whether an order in a symbol that is decided at an instant can be filled; default: always.
    """

    proposals: Callable[[int], Mapping[str, Proposal]]
    limits: Limits = field(default_factory=Limits)
    hold: int = 3
    market_open: Callable[[str, int], bool] = lambda _symbol, _at: True
    decisions: list[Decided] = field(default_factory=list)
    _sessions: dict[str, int] = field(default_factory=dict)
    _stopped: dict[str, int] = field(default_factory=dict)
    _seen: int = 0

    def __call__(self, moment: Moment) -> list[Order]:
        """Return the orders of a moment."""
        self._remember(moment)
        exposure = moment.invested / moment.equity if moment.equity > 0.0 else self.limits.exposure
        orders = []
        proposed = self.proposals(moment.at)
        for symbol in sorted(proposed, key=lambda one: (-proposed[one].claim.confidence, one)):
            if symbol in moment.held:
                continue
            found = decided(proposed[symbol].claim, self._situation(symbol, moment, exposure), self.limits)
            self.decisions.append(Decided(symbol, moment.at, found))
            if found.trade:
                one = proposed[symbol]
                fraction = found.size.fraction
                orders.append(Order(symbol, found.direction, fraction, self.hold, one.stop, one.target))
                exposure += fraction
        return orders

    def _situation(self, symbol: str, moment: Moment, exposure: float) -> Situation:
        stopped = self._stopped.get(symbol)
        since = None if stopped is None else self._sessions.get(symbol, 0) - stopped
        return Situation(self.market_open(symbol, moment.at), moment.step_return, exposure, since)

    def _remember(self, moment: Moment) -> None:
        """Count the sessions of each symbol, and note the stops since the last moment."""
        for symbol in moment.symbols:
            self._sessions[symbol] = self._sessions.get(symbol, 0) + 1
        for trade in moment.trades[self._seen :]:
            if trade.reason is Reason.STOP:
                self._stopped[trade.symbol] = self._sessions.get(trade.symbol, 0)
        self._seen = len(moment.trades)
