"""A new password on the emulated Accounts table, by a mailed code or by the old one: what ends and what goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusiontrade.accounts.admission.sign_ins import SignedIn
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.service import Accounts
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import InvalidInput, Unauthenticated
from tests.support.account_parts import (
    LAPTOP,
    PASSWORD,
    PHONE,
    KeptMails,
    StandingClock,
    change,
    forgot,
    lives,
    register,
    reset,
)

ADA = "ada@example.com"
NEW = "another horse battery"


def sign_in(accounts: Accounts, password: str = PASSWORD) -> SignedIn:
    return accounts.sign_ins.sign_in(ADA, password, LAPTOP)


def test_a_reset_ends_every_session_and_makes_other_codes_worthless(
    accounts: Accounts, mails: KeptMails, accounts_table: Table, clock: StandingClock
) -> None:
    register(accounts)
    signed = sign_in(accounts)
    user = signed.profile.id
    forgot(accounts)
    verification = mails.code("verification")
    clock.wait(1)
    reset(accounts, mails.code("reset"), NEW)
    assert not lives(accounts_table, user, signed.opened.session_id)
    assert accounts.sessions.of_user(user) == []
    with pytest.raises(Unauthenticated):
        accounts.sessions.rotate(signed.opened.refresh_token, LAPTOP)
    with pytest.raises(InvalidInput):
        accounts.registration.verify(verification)
    with pytest.raises(Unauthenticated):
        sign_in(accounts)
    clock.wait(1)
    assert sign_in(accounts, NEW).profile.is_verified
    assert mails.kinds == ["verification", "reset", "password_changed"]


def test_a_reset_lets_its_user_in_at_once_however_often_others_guessed(
    accounts: Accounts, mails: KeptMails, clock: StandingClock
) -> None:
    register(accounts)
    laptop = replace(LAPTOP, token=sign_in(accounts).device_token)
    for device in (LAPTOP, laptop):
        for _ in range(5):
            with pytest.raises(Unauthenticated):
                accounts.sign_ins.sign_in(ADA, "a wrong password", device)
    forgot(accounts)
    reset(accounts, mails.code("reset"), NEW)
    clock.wait(1)
    for device in (LAPTOP, laptop):
        assert accounts.sign_ins.sign_in(ADA, NEW, device).profile.email == ADA


def identity(signed: SignedIn) -> Identity:
    profile = signed.profile
    return Identity(profile.id, profile.email, profile.subscription_tier, signed.opened.session_id, True)


def test_a_change_ends_every_other_session_and_kills_a_mailed_reset(
    accounts: Accounts, mails: KeptMails, accounts_table: Table, clock: StandingClock
) -> None:
    register(accounts)
    here = sign_in(accounts)
    there = accounts.sign_ins.sign_in(ADA, PASSWORD, PHONE)
    forgot(accounts)
    clock.wait(1)
    change(accounts, identity(here), PASSWORD, NEW)
    assert lives(accounts_table, here.profile.id, here.opened.session_id)
    assert not lives(accounts_table, here.profile.id, there.opened.session_id)
    with pytest.raises(InvalidInput):
        reset(accounts, mails.code("reset"), "a third horse battery")
    assert mails.kinds[-1] == "password_changed"
    assert sign_in(accounts, NEW).profile.id == here.profile.id


@pytest.mark.parametrize(
    ("current", "new", "field"),
    [
        ("a wrong password", NEW, "body/current_password"),
        (PASSWORD, PASSWORD, "body/new_password"),
        (PASSWORD, "1234567890", "body/new_password"),
        (PASSWORD, "short", "body/new_password"),
    ],
)
def test_a_change_that_is_refused_names_the_field_and_changes_nothing(
    accounts: Accounts, mails: KeptMails, current: str, new: str, field: str
) -> None:
    register(accounts)
    here = identity(sign_in(accounts))
    with pytest.raises(InvalidInput) as error:
        change(accounts, here, current, new)
    assert error.value.field == field
    assert sign_in(accounts).profile.id == here.user_id
    assert "password_changed" not in mails.kinds
