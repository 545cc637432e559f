"""Which models' forecasts have become worse, for who forecasts: looked up once a minute, and never in the way.

Always true here: a table that does not answer costs no forecast; what was known last holds until it does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from fusiontrade.cloud.tables import Condition, Table
from fusiontrade.errors import FusionTradeError

__all__ = ["SECONDS", "Degraded"]

SECONDS = 60.0
_ASKED = Condition("#pk = :pk AND begins_with(#sk, :kind)", {"pk": "REGISTRY", "kind": "DEGRADED#"})

logger = logging.getLogger(__name__)


class Degraded:
    """What `fusiontrade.registry.versions.Registry.degrade` has marked, in the table of models."""

    def __init__(self, table: Table, *, now: Callable[[], float] = time.monotonic) -> None:
        self._table, self._now = table, now
        self._known: dict[tuple[str, str], str] = {}
        self._until = float("-inf")
        self._lock = threading.Lock()

    def notes(self, models: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Return a warning for each of ``models`` (id, version) that is marked."""
        known = self._current()
        return tuple(
            f"{name} (version {version}) is DEGRADED: {known[name, version]}"
            for name, version in dict.fromkeys(models)
            if (name, version) in known
        )

    def _current(self) -> dict[tuple[str, str], str]:
        with self._lock:
            if self._now() >= self._until:
                self._until = self._now() + SECONDS
                try:
                    found = self._table.query(_ASKED, limit=200).items
                except FusionTradeError as error:
                    logger.warning("degraded models are not known anew: %s", error)
                else:
                    self._known = {
                        (str(item["sk"]).partition("#")[2], str(item["version"])): str(item["reason"]) for item in found
                    }
            return self._known
