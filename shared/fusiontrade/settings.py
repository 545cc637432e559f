"""The environment as one frozen, checked value, read once at the edge of a process.

Always true here: nothing else in the product reads ``os.environ``; a value that is present is valid; a value that a
function needs and does not find ends in one sentence that names the variable. ``STAGE`` has no default, so a
deployed function can never take itself for a laptop, and outside the stage ``local`` the market is a real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fusiontrade.clock import parse_iso

__all__ = ["MarketData", "Settings", "SettingsError", "Stage"]

Stage = Literal["local", "dev", "staging", "prod"]
MarketData = Literal["yahoo", "files", "simulated"]

_NOT_REAL: frozenset[str] = frozenset({"files", "simulated"})


class SettingsError(RuntimeError):
    """The environment is wrong; the message names the variable and what to do."""


class Settings(BaseModel):
    """Everything configurable, one field for each variable: ``accounts_table`` is ``ACCOUNTS_TABLE``.

    Sizes are bytes, durations seconds, ``market_data_as_of`` ms since 1970-01-01 UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    accounts_table: str | None = None
    journal_table: str | None = None
    models_table: str | None = None
    signals_table: str | None = None
    cache_table: str | None = None
    connections_table: str | None = None
    artifacts_bucket: str | None = None
    endpoint_name: str | None = None

    mail_queue_url: str | None = None
    forecast_queue_url: str | None = None
    jobs_queue_url: str | None = None
    training_queue_url: str | None = None

    training_image: str | None = None
    """What a training job runs; without one no training is taken."""
    training_role_arn: str | None = None
    training_instance_type: str = "ml.c7i.xlarge"
    training_most_seconds: Annotated[int, Field(ge=60, le=432_000)] = 6 * 3600
    training_poll_seconds: Annotated[int, Field(ge=1, le=900)] = 30

    signing_keys_secret_arn: str | None = None
    derivation_secret_arn: str | None = None
    accounts_key_arn: str | None = None
    token_issuer: str = "https://fusiontrade.ai"  # noqa: S105 - a name, not a secret
    token_audience: str = "fusiontrade-api"  # noqa: S105
    token_seconds: Annotated[int, Field(ge=60, le=3600)] = 1800
    password_memory_kib: Annotated[int, Field(ge=19 * 1024, le=1024 * 1024)] = 19 * 1024
    password_iterations: Annotated[int, Field(ge=2, le=16)] = 2
    password_parallelism: Annotated[int, Field(ge=1, le=8)] = 1

    site_origin: str = "http://localhost:5173"
    mail_from: str = "FusionTrade AI <no-reply@fusiontrade.ai>"
    mail_delivery: Literal["ses", "smtp", "outbox"] = "ses"
    mail_outbox: Path | None = None
    smtp_host: str | None = None
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 587
    smtp_secret_arn: str | None = None

    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: Annotated[int, Field(ge=1024, le=6 * 1024 * 1024)] = 1024 * 1024

    market_data: MarketData = "yahoo"
    market_data_dir: Path | None = None
    market_data_as_of: int | None = None
    request_budget_seconds: Annotated[float, Field(gt=0, le=28)] = 25.0

    intraday_symbols: tuple[str, ...] = ()
    """Symbols that are forecast every day; none: `fusiontrade.market.symbols.DEFAULT_SYMBOLS`."""

    @field_validator("allowed_origins", "intraday_symbols", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _explicit(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if "*" in origin or not origin.startswith(("http://", "https://")):
                raise ValueError(f"{origin!r} is not an origin: give e.g. https://app.example.com, no wildcard")
        return value

    @field_validator("market_data_as_of", mode="before")
    @classmethod
    def _instant(cls, value: object) -> object:
        return parse_iso(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _market_is_real(self) -> Self:
        if self.stage != "local" and self.market_data in _NOT_REAL:
            raise ValueError(f"MARKET_DATA={self.market_data} is for the stage local only; this is {self.stage}")
        if self.market_data == "files" and self.market_data_dir is None:
            raise ValueError("MARKET_DATA=files needs MARKET_DATA_DIR, the folder that holds instruments.toml")
        return self

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings that ``environ`` spells; empty variables count as absent, unknown ones are ignored.

        Raises
        ------
        SettingsError
            If a value is missing or wrong; each fault names its variable.
        """
        values = {name: environ[name.upper()] for name in cls.model_fields if environ.get(name.upper(), "").strip()}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None

    def need(self, name: str) -> str:
        """Return the text of a field that this process cannot do without.

        Raises
        ------
        SettingsError
            If the variable was not set.
        """
        value = getattr(self, name)
        if value is None:
            raise SettingsError(f"the environment variable {name.upper()} is not set, and this function needs it")
        return str(value)


def _sentence(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        variable = ".".join(str(part) for part in fault["loc"][:1]).upper()
        message = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        faults.append(f"{variable}: {message}" if variable else message)
    return "the environment cannot be used: " + "; ".join(faults)
