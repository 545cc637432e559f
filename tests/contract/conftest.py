"""The functions from outside, over the emulated cloud, with the demo user seeded."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI

from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.users import Users, seed_user
from fusiontrade.clock import system_clock
from fusiontrade.cloud.tables import Table
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of
from tests.support.aws_fixtures import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.http_api import Answer, call

os.environ.setdefault("STAGE", "local")  # functions read their settings when they are imported

SITE = "https://app.example.com"
EMAIL, PASSWORD = "devtest@fusiontrade.ai", "DevTest123!"


@dataclass(frozen=True)
class Function:
    """One function as a client sees it."""

    app: FastAPI
    handler: Callable[[dict[str, Any], Any], dict[str, Any]]

    def __call__(self, method: str, target: str, **more: Any) -> Answer:
        return call(self.handler, method, target, **more)


def function(name: str, settings: Settings) -> Function:
    module = importlib.import_module(f"functions.{name}.app")
    routers = [module.auth, module.keys] if name == "auth" else [module.router]
    app = create_app(name, routers, settings)
    return Function(app, handler_of(app))


@pytest.fixture
def auth_settings(
    accounts_table_name: str,
    signing_keys_arn: str,
    derivation_secret_arn: str,
    mail_queue_url: str,
    accounts_key_arn: str,
) -> Settings:
    """Settings of the auth function, with the least work that argon2id takes: no deployment may set so little."""
    made = Settings.from_environment(
        {
            "STAGE": "local",
            "ACCOUNTS_TABLE": accounts_table_name,
            "SIGNING_KEYS_SECRET_ARN": signing_keys_arn,
            "DERIVATION_SECRET_ARN": derivation_secret_arn,
            "MAIL_QUEUE_URL": mail_queue_url,
            "ACCOUNTS_KEY_ARN": accounts_key_arn,
            "SITE_ORIGIN": SITE,
        }
    )
    return made.model_copy(update={"password_memory_kib": 8, "password_iterations": 1})


@pytest.fixture
def users(auth_settings: Settings) -> Users:
    made = Users(Table(auth_settings.need("accounts_table")), Passwords.of(auth_settings), system_clock)
    seed_user(made, email=EMAIL, password=PASSWORD, full_name="Demo User", tier="pro")
    return made


@pytest.fixture
def auth(auth_settings: Settings, users: Users) -> Function:
    return function("auth", auth_settings)


@pytest.fixture
def docs() -> Function:
    return function("docs", Settings.from_environment({"STAGE": "local"}))
