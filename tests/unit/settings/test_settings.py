"""The environment as a type."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fusiontrade.settings import Settings, SettingsError


def test_a_local_environment_needs_only_its_stage() -> None:
    settings = Settings.from_environment({"STAGE": "local", "PATH": "/bin"})
    assert (settings.stage, settings.market_data, settings.request_budget_seconds) == ("local", "yahoo", 25.0)
    assert settings.allowed_origins == ()


def test_values_are_read_by_the_upper_case_of_their_names() -> None:
    settings = Settings.from_environment(
        {
            "STAGE": "local",
            "ACCOUNTS_TABLE": "Accounts",
            "ALLOWED_ORIGINS": "http://localhost:5173, https://app.example.com/",
            "MARKET_DATA": "files",
            "MARKET_DATA_DIR": "/bars",
            "MARKET_DATA_AS_OF": "2025-07-31T12:00:00Z",
            "REQUEST_BUDGET_SECONDS": "12.5",
            "LOG_LEVEL": "DEBUG",
        }
    )
    assert settings.accounts_table == "Accounts"
    assert settings.allowed_origins == ("http://localhost:5173", "https://app.example.com")
    assert settings.market_data_dir == Path("/bars")
    assert settings.market_data_as_of == 1_753_963_200_000
    assert settings.request_budget_seconds == 12.5


def test_an_empty_variable_counts_as_absent() -> None:
    assert Settings.from_environment({"STAGE": "local", "MARKET_DATA_AS_OF": " "}).market_data_as_of is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "STAGE: is not set"),
        ({"STAGE": "production"}, "STAGE: "),
        ({"STAGE": "local", "MARKET_DATA": "bloomberg"}, "MARKET_DATA: "),
        ({"STAGE": "local", "MARKET_DATA": "files"}, "MARKET_DATA=files needs MARKET_DATA_DIR"),
        ({"STAGE": "local", "MARKET_DATA_AS_OF": "2025-07-31T12:00:00"}, "MARKET_DATA_AS_OF: .* no time zone"),
        ({"STAGE": "local", "MARKET_DATA_AS_OF": "yesterday"}, "MARKET_DATA_AS_OF: "),
        ({"STAGE": "local", "ALLOWED_ORIGINS": "*"}, "ALLOWED_ORIGINS: .* no wildcard"),
        ({"STAGE": "local", "ALLOWED_ORIGINS": "app.example.com"}, "ALLOWED_ORIGINS: "),
        ({"STAGE": "local", "REQUEST_BUDGET_SECONDS": "29"}, "REQUEST_BUDGET_SECONDS: "),
        ({"STAGE": "local", "PASSWORD_MEMORY_KIB": "1024"}, "PASSWORD_MEMORY_KIB: "),
    ],
)
def test_a_wrong_environment_names_the_variable(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment(environ)


@pytest.mark.parametrize("stage", ["dev", "staging", "prod"])
@pytest.mark.parametrize("market_data", ["files", "simulated"])
def test_outside_the_laptop_invented_or_recorded_markets_are_refused(stage: str, market_data: str) -> None:
    environ = {"STAGE": stage, "MARKET_DATA": market_data, "MARKET_DATA_DIR": "/bars"}
    with pytest.raises(SettingsError, match=f"MARKET_DATA={market_data} is for the stage local only; this is {stage}"):
        Settings.from_environment(environ)


def test_a_variable_that_a_function_needs_and_lacks_is_named() -> None:
    with pytest.raises(SettingsError, match="ACCOUNTS_TABLE is not set"):
        Settings.from_environment({"STAGE": "local"}).need("accounts_table")


def test_settings_cannot_be_changed_and_can_be_a_cache_key() -> None:
    settings = Settings.from_environment({"STAGE": "local"})
    with pytest.raises(ValidationError):
        settings.stage = "prod"  # type: ignore[misc]
    assert hash(settings) == hash(Settings.from_environment({"STAGE": "local"}))
