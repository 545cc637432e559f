"""The service of a process, wired from its settings."""

from __future__ import annotations

import pytest

from fusiontrade.fusion.factory import fusion_service
from fusiontrade.fusion.service import FusionService
from fusiontrade.settings import Settings, SettingsError

LOCAL = {"STAGE": "local", "MARKET_DATA": "simulated"}


def test_settings_with_an_endpoint_give_a_service() -> None:
    settings = Settings.from_environment(LOCAL | {"ENDPOINT_NAME": "models", "ARTIFACTS_BUCKET": "artifacts"})
    assert isinstance(fusion_service(settings), FusionService)


@pytest.mark.parametrize(("table", "calls"), [({"MODELS_TABLE": "models"}, [("models", 1.0, 1)]), ({}, [])])
def test_calibration_states_are_kept_in_the_table_of_models_by_short_calls(
    table: dict[str, str], calls: list[tuple[str, float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, float, int]] = []
    monkeypatch.setattr(
        "fusiontrade.cloud.tables.Table",
        lambda name, *, read_seconds, attempts: made.append((name, read_seconds, attempts)),
    )
    fusion_service(Settings.from_environment(LOCAL | {"ENDPOINT_NAME": "models"} | table))
    assert made == calls


def test_a_missing_endpoint_is_named() -> None:
    with pytest.raises(SettingsError, match="ENDPOINT_NAME"):
        fusion_service(Settings.from_environment(LOCAL))
