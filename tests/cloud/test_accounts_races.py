"""What a thief does between the instant at which a new password ends everything and the write that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.service import Accounts
from fusiontrade.cloud.tables import Table, Write
from fusiontrade.errors import Conflict
from tests.support.account_parts import (
    LAPTOP,
    PASSWORD,
    PHONE,
    KeptMails,
    StandingClock,
    forgot,
    lives,
)

ADA, NEW = "ada@example.com", "another horse battery"
Meanwhile = Callable[[], object]


@pytest.fixture
def accounts(accounts: Accounts) -> Accounts:
    accounts.users.create(ADA, PASSWORD, "Ada", verified=True)
    return accounts


def owner(accounts: Accounts) -> Identity:
    signed = accounts.sign_ins.sign_in(ADA, PASSWORD, LAPTOP)
    return Identity(signed.profile.id, ADA, "free", signed.opened.session_id, True)


def set_new_password(accounts: Accounts, mails: KeptMails, user: Identity, how: str, meanwhile: Meanwhile) -> None:
    def commit(writes: Sequence[Write]) -> None:
        meanwhile()
        accounts.table.transact(*writes)

    if how == "reset":
        accounts.recovery.reset(mails.code("reset"), NEW, commit)
    else:
        accounts.recovery.change(user, PASSWORD, NEW, commit)


@pytest.mark.parametrize("how", ["reset", "change"])
def test_thief_who_signs_in_while_the_password_changes_is_out_afterwards(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, clock: StandingClock, how: str
) -> None:
    user = owner(accounts)
    forgot(accounts)
    stolen: list[str] = []

    def sign_in() -> None:
        if not stolen:
            clock.wait(0.001)
            stolen.append(accounts.sign_ins.sign_in(ADA, PASSWORD, PHONE).opened.session_id)
            clock.wait(0.001)

    set_new_password(accounts, mails, user, how, sign_in)
    assert not lives(accounts_table, user.user_id, stolen[0])
    assert lives(accounts_table, user.user_id, user.session_id) == (how == "change")
    assert mails.kinds.count("password_changed") == 1
    clock.wait(1)
    assert accounts.sign_ins.sign_in(ADA, NEW, LAPTOP)


def test_thief_whose_clock_is_ahead_is_out_too(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, clock: StandingClock
) -> None:
    user = owner(accounts)
    clock.wait(0.5)
    stolen = accounts.sign_ins.sign_in(ADA, PASSWORD, PHONE).opened.session_id
    clock.wait(-0.5)
    forgot(accounts)
    set_new_password(accounts, mails, user, "reset", lambda: None)
    assert not lives(accounts_table, user.user_id, stolen)


def test_who_signs_in_all_the_time_is_told_of_and_the_code_is_not_spent(
    accounts: Accounts, mails: KeptMails, clock: StandingClock
) -> None:
    user = owner(accounts)
    forgot(accounts)

    def sign_in() -> None:
        clock.wait(0.001)
        accounts.sign_ins.sign_in(ADA, PASSWORD, PHONE)

    with pytest.raises(Conflict, match="again"):
        set_new_password(accounts, mails, user, "reset", sign_in)
    set_new_password(accounts, mails, user, "reset", lambda: None)
    assert accounts.sign_ins.sign_in(ADA, NEW, LAPTOP)


def test_thief_who_makes_a_key_while_the_password_is_reset_has_a_worthless_one(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, clock: StandingClock
) -> None:
    user = owner(accounts)
    forgot(accounts)
    made: list[int] = []

    def make_key() -> None:
        if not made:
            clock.wait(0.001)
            key, writes = accounts.api_keys.new(user.user_id, "thief's", ["read"], "nonce")
            accounts_table.transact(*writes)
            made.append(key.key.created_at)
            clock.wait(0.001)

    set_new_password(accounts, mails, user, "reset", make_key)
    assert accounts.api_keys.of_user(user.user_id) == []
