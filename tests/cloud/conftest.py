"""The emulated cloud, and accounts in it, for every test of this folder."""

from __future__ import annotations

import pytest

from fusiontrade.accounts.service import Accounts
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from tests.support.account_parts import KeptMails, StandingClock, accounts_on
from tests.support.aws_fixtures import *  # noqa: F403 - pytest finds fixtures by name in this module


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def mails() -> KeptMails:
    return KeptMails()


@pytest.fixture
def accounts(accounts_table: Table, derivation: Derivation, mails: KeptMails, clock: StandingClock) -> Accounts:
    return accounts_on(accounts_table, derivation, mails, clock)
