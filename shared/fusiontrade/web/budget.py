"""How long a request may still take: the configured budget, or less where the function itself ends sooner."""

from __future__ import annotations

from fusiontrade.web.framework import Request

__all__ = ["SECONDS_TO_ANSWER", "seconds_left"]

SECONDS_TO_ANSWER = 0.5
"""Kept back of the function's own time limit, so that an honest answer still leaves."""


def seconds_left(request: Request) -> float:
    """Return the seconds that the work of ``request`` may take, never negative: a FastAPI dependency."""
    budget = float(request.app.state.settings.request_budget_seconds)
    remaining = getattr(request.scope.get("aws.context"), "get_remaining_time_in_millis", None)
    if remaining is None:
        return budget
    return max(0.0, min(budget, float(remaining()) / 1000 - SECONDS_TO_ANSWER))
