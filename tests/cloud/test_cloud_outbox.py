"""Mails that are owed on the emulated Accounts table: exactly if the change happened, and at least once."""

from __future__ import annotations

import pytest

from fusiontrade.accounts.admission.sign_ins import SignedIn
from fusiontrade.accounts.by_mail import outbox
from fusiontrade.accounts.by_mail.outbox import LEFT_SECONDS
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.service import Accounts
from fusiontrade.cloud.tables import ConditionFailed, Table
from fusiontrade.errors import Conflict, InvalidInput, StateUnavailable, Unauthenticated
from fusiontrade.mails.outbound import Mail
from tests.support.account_parts import (
    LAPTOP,
    PASSWORD,
    PHONE,
    KeptMails,
    StandingClock,
    change,
    forgot,
    reset,
    round_trips,
)

ADA, NEW = "ada@example.com", "another horse battery"


@pytest.fixture
def accounts(accounts: Accounts) -> Accounts:
    accounts.users.create(ADA, PASSWORD, "Ada", verified=True)
    return accounts


def signed_in(accounts: Accounts) -> Identity:
    signed: SignedIn = accounts.sign_ins.sign_in(ADA, PASSWORD, LAPTOP)
    return Identity(signed.profile.id, ADA, "free", signed.opened.session_id, True)


def owed(table: Table) -> list[str]:
    return [item["mail"]["kind"] for item in table.scan().items if item["pk"] == "OUTBOX"]


def test_a_change_sends_its_mail_and_owes_none_afterwards(
    accounts: Accounts, accounts_table: Table, mails: KeptMails
) -> None:
    change(accounts, signed_in(accounts), PASSWORD, NEW)
    assert (mails.kinds, owed(accounts_table)) == (["password_changed"], [])


@pytest.mark.parametrize("how", ["reset", "change"])
def test_a_change_that_does_not_happen_is_told_to_nobody(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, how: str
) -> None:
    def lose(_: object) -> None:
        raise ConditionFailed(None)

    user = signed_in(accounts)
    forgot(accounts)
    attempts = {
        "reset": (InvalidInput, lambda: accounts.recovery.reset(mails.code("reset"), NEW, lose)),
        "change": (Conflict, lambda: accounts.recovery.change(user, PASSWORD, NEW, lose)),
    }
    error, attempt = attempts[how]
    with pytest.raises(error):
        attempt()
    assert (mails.kinds, owed(accounts_table)) == (["reset"], [])


@pytest.mark.parametrize("how", ["reset", "change"])
def test_a_change_without_the_mail_queue_is_told_once_the_queue_is_back(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, clock: StandingClock, how: str
) -> None:
    user = signed_in(accounts)
    forgot(accounts)
    mails.away = True
    if how == "reset":
        reset(accounts, mails.code("reset"), NEW)
    else:
        change(accounts, user, PASSWORD, NEW)
    happened = clock.now
    clock.wait(LEFT_SECONDS + 1)
    with pytest.raises(StateUnavailable):
        accounts.outbox.relay()
    assert owed(accounts_table) == ["password_changed"]
    mails.away = False
    assert accounts.outbox.relay() == 1
    assert accounts.outbox.relay() == 0
    told = mails.all[-1]
    assert (mails.kinds, told.to, told.name, told.at) == (["reset", "password_changed"], ADA, "Ada", happened)


def test_what_a_request_may_still_send_itself_is_left_to_it(
    accounts: Accounts, mails: KeptMails, clock: StandingClock
) -> None:
    user = signed_in(accounts)
    mails.away = True
    change(accounts, user, PASSWORD, NEW)
    mails.away = False
    clock.wait(LEFT_SECONDS - 1)
    assert (accounts.outbox.relay(), mails.all) == (0, [])


@pytest.mark.parametrize("parts", [{"kind": "a_later_releases"}, {"later": "part"}, {"at": "noon"}])
def test_an_owed_mail_that_cannot_be_read_keeps_no_later_one_from_going_out(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, clock: StandingClock, parts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(outbox, "AT_ONCE", 1)
    mail = Mail("password_changed", ADA, "Ada", None, clock.now)
    strange = accounts.outbox.owed(mail).item
    accounts_table.put({**strange, "mail": {**strange["mail"], **parts}})
    clock.wait(1)
    accounts_table.put(accounts.outbox.owed(mail).item)
    clock.wait(LEFT_SECONDS + 1)
    assert (accounts.outbox.relay(), mails.kinds) == (1, ["password_changed"])
    assert [item["sk"] for item in accounts_table.scan().items if item["pk"] == "OUTBOX"] == [strange["sk"]]


def test_a_sign_in_from_an_unknown_device_is_told_although_the_queue_was_away(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, clock: StandingClock
) -> None:
    signed_in(accounts)
    mails.away = True
    assert round_trips(lambda: accounts.sign_ins.sign_in(ADA, PASSWORD, PHONE)) == 2  # and one at the network address
    assert owed(accounts_table) == ["new_sign_in"]
    mails.away = False
    clock.wait(LEFT_SECONDS + 1)
    accounts.outbox.relay()
    assert [(mail.kind, mail.to, mail.device) for mail in mails.all] == [("new_sign_in", ADA, PHONE.user_agent)]
    assert owed(accounts_table) == []


def test_a_sign_in_that_loses_to_a_reset_owes_no_mail(
    accounts: Accounts, accounts_table: Table, mails: KeptMails, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in(accounts)
    mails.away = True

    def lose(*_: object, **__: object) -> None:
        raise ConditionFailed(None)

    with monkeypatch.context() as patched:
        patched.setattr(Table, "transact", lose)
        with pytest.raises(Unauthenticated):
            accounts.sign_ins.sign_in(ADA, PASSWORD, PHONE)
    assert owed(accounts_table) == []
