"""The job ``fusion``: the whole answer of ``GET /fusion/{symbol}``, made while nobody waits; journaled like that one.

Who asks for it says ``Prefer: respond-async`` (RFC 7240), with ``wait`` where an answer within so many seconds is
preferred to a job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fusiontrade.deadline import Deadline
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.fusion.response import FusionResponse

__all__ = ["APPLIED", "KIND", "Fusing", "Patience", "patience_of", "request_of"]

KIND = "fusion"
APPLIED = "respond-async"
"""What ``Preference-Applied`` says of an answer that is a job."""

_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,4})\"?")


@dataclass(frozen=True)
class Patience:
    """What a client prefers: whether a job may be the answer, and after how many seconds (0: at once)."""

    takes_a_job: bool = False
    seconds: float = 0.0


def patience_of(prefer: str | None) -> Patience:
    """Return what the header ``Prefer`` says; preferences that nobody knows, or that make no sense, are no faults."""
    wishes = [wish.partition(";")[0].strip().lower() for wish in (prefer or "").split(",")]
    if APPLIED not in wishes:
        return Patience()
    waits = [float(found[1]) for wish in wishes if (found := _WAIT.fullmatch(wish))]
    return Patience(True, waits[0] if waits else 0.0)


def request_of(
    symbol: str, *, include_sentiment: bool, include_llm: bool, as_of: str | None, journal: bool
) -> dict[str, Any]:
    """Return the request of a job of this kind; ``symbol`` is Yahoo's, ``as_of`` an ISO instant of the past."""
    return {
        "symbol": symbol,
        "include_sentiment": include_sentiment,
        "include_llm": include_llm,
        "as_of": as_of,
        "journal": journal,
    }


class Fuser(Protocol):
    """The part of `fusiontrade.fusion.service.FusionService` that is needed here."""

    def fused(
        self,
        symbol: str,
        *,
        include_sentiment: bool,
        include_llm: bool,
        as_of: str | None,
        journal_for: str | None,
        deadline: Deadline,
    ) -> FusionResponse:
        """Return the fused forecast of a symbol, journaled; raises `FusionTradeError`."""
        ...


class Fusing:
    """Does jobs of this kind.

    Parameters
    ----------
    service
        Who makes forecasts and writes them down.
    seconds
        The most that one may take.
    """

    def __init__(self, service: Fuser, *, seconds: float) -> None:
        self._service = service
        self._seconds = seconds

    def __call__(self, order: JobOrder) -> Mapping[str, Any]:
        """Return the job's result, a *FusionResponse*; raises `FusionTradeError` where there is none."""
        asked = order.request
        response = self._service.fused(
            str(asked["symbol"]),
            include_sentiment=bool(asked["include_sentiment"]),
            include_llm=bool(asked["include_llm"]),
            as_of=asked["as_of"],
            journal_for=order.owner if asked["journal"] else None,
            deadline=Deadline.after(self._seconds),
        )
        told: dict[str, Any] = response.model_dump(mode="json", by_alias=True)
        return told
