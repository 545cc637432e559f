"""What the floor makes of the settings for a request: tables, counters, derivations; imported when first used.

Always true here: the limits and the clock are those of the application (``app.state.limits``, ``app.state.clock``), so
a test sets them where everybody reads them; a function whose environment lacks a table or secret that a route needs
answers an error and never goes on without.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fusiontrade.derivation import Derivation
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.web.framework import Request

if TYPE_CHECKING:
    from fusiontrade.accounts.admission.addresses import Addresses
    from fusiontrade.accounts.admission.gate import Gate
    from fusiontrade.cloud.tables import Table

__all__ = ["accounts_of", "addresses_of", "derivation_of", "gate_of"]


@cache
def derivation_of(settings: Settings) -> Derivation:
    """Return the derivations from the secret that ``settings`` name, read through a cache of minutes."""
    from fusiontrade.cloud.secrets import Secrets

    arn, secrets = settings.need("derivation_secret_arn"), Secrets()
    return Derivation(lambda: secrets.read(arn))


after_restore(derivation_of.cache_clear)


def accounts_of(settings: Settings) -> Table:
    """Return the Accounts table."""
    from fusiontrade.cloud.tables import Table

    return Table(settings.need("accounts_table"))


def gate_of(request: Request) -> Gate:
    """Return the gate items: a FastAPI dependency."""
    from fusiontrade.accounts.admission.gate import Gate

    state = request.app.state
    return Gate(accounts_of(state.settings), state.clock, state.limits)


def addresses_of(request: Request) -> Addresses:
    """Return the counters of callers without a token: a FastAPI dependency."""
    from fusiontrade.accounts.admission.addresses import Addresses

    state = request.app.state
    return Addresses(accounts_of(state.settings), derivation_of(state.settings), state.clock, state.limits)
