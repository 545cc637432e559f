"""A forecast says where a model it used has become worse; one of a past moment is the same whenever it is asked for."""

from __future__ import annotations

from collections.abc import Iterable

from fusiontrade.fusion.service import FusionService
from fusiontrade.inference.client import InferenceClient
from tests.support.fusion_fakes import NOON, FakeCandles, FakeEndpoint


class Marked:
    """Knows one model as degraded, and which it was asked about."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def notes(self, models: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        self.asked += models
        return ("lstm-1h is DEGRADED: its chances came true less well",)


def service(marked: Marked) -> FusionService:
    return FusionService(FakeCandles(), InferenceClient(FakeEndpoint()), degraded=marked, clock=lambda: NOON)


def test_models_that_were_used_are_looked_up_and_what_is_known_of_them_is_said() -> None:
    marked = Marked()
    found = service(marked).fused("EURUSD=X", include_sentiment=False)
    assert "lstm-1h is DEGRADED: its chances came true less well" in found.warnings
    assert marked.asked == [(model.id, model.version) for model in found.models]
    assert marked.asked


def test_a_past_moment_asks_nobody_about_today() -> None:
    marked = Marked()
    found = service(marked).fused("EURUSD=X", include_sentiment=False, as_of="2025-07-30T12:00:00Z")
    assert (marked.asked, [one for one in found.warnings if "DEGRADED" in one]) == ([], [])
