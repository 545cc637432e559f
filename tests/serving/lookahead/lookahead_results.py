"""Reading what the checks say."""

from __future__ import annotations

from serving.lookahead.checks import Check, Outcome


def outcomes(checks: list[Check]) -> dict[str, Outcome]:
    """Return how each check ended, by what comes after the colon of its name."""
    return {check.name.partition(": ")[2]: check.outcome for check in checks}
