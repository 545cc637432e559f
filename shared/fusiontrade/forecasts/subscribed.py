"""The symbols that somebody listens to now: the channels ``signals:<symbol>`` of the table of connections.

Always true here: a subscription that is over counts for nothing, whether the table has removed it yet or not; a channel
that names no symbol is passed over.
"""

from __future__ import annotations

import logging

from fusiontrade.cloud.tables import Condition, Table
from fusiontrade.cloud.values import Item
from fusiontrade.errors import FusionTradeError
from fusiontrade.market.symbols import parse_symbol

__all__ = ["PREFIX", "subscribed_symbols"]

PREFIX = "signals:"

logger = logging.getLogger(__name__)


def subscribed_symbols(connections: Table, now: int) -> list[str]:
    """Return the codes of the symbols with a live subscription at ``now`` (ms), sorted; raises `StateUnavailable`.

    The table is read through once, channel names alone: half a read unit for 4 KB of subscriptions.
    """
    live = Condition(
        "begins_with(#channel, :prefix) AND (attribute_not_exists(#expires_at) OR #expires_at > :now)",
        {"prefix": PREFIX, "now": now // 1000},
    )
    found: set[str] = set()
    start: Item | None = None
    while True:
        page = connections.scan(condition=live, names=["channel"], start=start)
        found |= {item["channel"].removeprefix(PREFIX) for item in page.items}
        start = page.next_key
        if start is None:
            return sorted({code for name in found if (code := _code(name))})


def _code(name: str) -> str | None:
    try:
        return parse_symbol(name).code
    except FusionTradeError as error:
        logger.warning("a channel names no symbol: %s", error)
        return None
