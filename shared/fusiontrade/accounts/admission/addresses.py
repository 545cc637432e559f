"""Counters of callers who have no token yet: by network address and group of routes, one item for each window.

Layout: (``ADDRESS#<hash>``, ``COUNT#<group>#<end of the window, s>``) with ``count`` and ``expires_at`` (s, TTL).
Always true here: the address itself is never stored, only what the derivation secret makes of it; an IPv6 caller is
counted by the /64 that a household is given, because each holds more addresses than could ever be counted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from fusiontrade.accounts.admission.gate import allowance_after
from fusiontrade.accounts.admission.limits import LIMITS, Allowance, Limit, limit_of
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Table, Update
from fusiontrade.derivation import Derivation

__all__ = ["Addresses", "counted_address"]

_PREFIX_V6 = 64


def counted_address(text: str) -> str:
    """Return what callers from the address ``text`` are counted under; text that is no address stands for itself."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _PREFIX_V6), strict=False))


class Addresses:
    """The address counters of one Accounts table."""

    def __init__(
        self, table: Table, derivation: Derivation, clock: Clock, limits: Mapping[str, Limit] = LIMITS
    ) -> None:
        self._table = table
        self._derivation = derivation
        self._clock = clock
        self._limits = limits

    def hashed(self, address: str) -> str:
        """Return what is stored of ``address``: 32 letters that only the derivation secret leads to."""
        return self._derivation.mac("address", counted_address(address)).hex()[:32]

    def count(self, address: str, group: str) -> Allowance:
        """Count one request of ``group`` from ``address`` and return what is left; one round trip.

        Raises
        ------
        LimitReached
            If it was one too many.
        StateUnavailable
            If the database or the derivation secret does not answer.
        """
        now = self._clock()
        limit = limit_of(group, self._limits)
        end = limit.window_end(now)
        key = {"pk": f"ADDRESS#{self.hashed(address)}", "sk": f"COUNT#{group}#{end}"}
        item = self._table.update(Update(key, assign={"expires_at": end + limit.seconds}, add={"count": 1}))
        return allowance_after(int(item["count"]), group, limit, now)
