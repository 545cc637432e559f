"""Registering, verifying and recovering on the emulated Accounts table: what is mailed to whom, which code works."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fusiontrade.accounts.admission.sign_ins import SignedIn
from fusiontrade.accounts.by_mail.mailings import MOST_FROM_ONE, MOST_MAILS
from fusiontrade.accounts.credentials.codes import LENGTH, MOST_TRIES
from fusiontrade.accounts.service import Accounts
from fusiontrade.cloud.session import client
from fusiontrade.cloud.tables import ConditionFailed
from fusiontrade.errors import InvalidInput, Unauthenticated
from tests.support.account_parts import (
    LAPTOP,
    PASSWORD,
    PHONE,
    KeptMails,
    StandingClock,
    asked,
    forgot,
    lives,
    register,
    resend,
    reset,
    round_trips,
)

ADA = "ada@example.com"
NEW = "another horse battery"


def sign_in(accounts: Accounts, password: str = PASSWORD) -> SignedIn:
    return accounts.sign_ins.sign_in(ADA, password, LAPTOP)


def is_verified(accounts: Accounts) -> bool:
    profile = accounts.users.by_email(ADA)
    assert profile is not None
    assert sign_in(accounts).profile.is_verified is profile.is_verified
    return profile.is_verified


def refused(accounts: Accounts, code: str) -> str:
    with pytest.raises(InvalidInput) as error:
        accounts.registration.verify(code)
    return str(error.value)


def test_who_registers_gets_a_code_that_verifies_the_address_once(accounts: Accounts, mails: KeptMails) -> None:
    register(accounts)
    (mail,) = mails.all
    assert (mail.kind, mail.to, mail.name) == ("verification", ADA, "Ada")
    assert len(mail.code or "") == LENGTH
    assert not is_verified(accounts)
    accounts.registration.verify(mail.code or "")
    assert is_verified(accounts)
    refused(accounts, mail.code or "")


def test_a_known_address_keeps_its_password_and_its_owner_is_told(accounts: Accounts, mails: KeptMails) -> None:
    register(accounts)
    accounts.registration.verify(mails.code("verification"))
    register(accounts, " ADA@Example.com", NEW, "Eve")
    assert [(mail.kind, mail.to, mail.name) for mail in mails.all[1:]] == [("already_registered", ADA, "Ada")]
    assert sign_in(accounts).profile.full_name == "Ada"
    with pytest.raises(Unauthenticated):
        sign_in(accounts, NEW)


def test_an_unverified_account_gets_its_verification_again_and_the_older_code_is_worthless(
    accounts: Accounts, mails: KeptMails
) -> None:
    register(accounts)
    register(accounts, ADA, PASSWORD, "Eve")
    first, second = mails.all
    assert (second.kind, second.to, second.name) == ("verification", ADA, "Ada")
    refused(accounts, first.code or "")
    accounts.registration.verify(second.code or "")
    assert is_verified(accounts)


def test_a_password_that_somebody_else_chose_is_never_verified_by_the_owner_of_the_address(
    accounts: Accounts, mails: KeptMails
) -> None:
    register(accounts, ADA, "chosen by the attacker", "Eve")
    thief = sign_in(accounts, "chosen by the attacker")
    register(accounts)
    resend(accounts)
    assert mails.kinds == ["verification", "reset", "reset"]
    refused(accounts, mails.code("verification"))
    reset(accounts, mails.code("reset"), NEW)
    assert sign_in(accounts, NEW).profile.is_verified
    assert not lives(accounts.table, thief.profile.id, thief.opened.session_id)
    with pytest.raises(Unauthenticated):
        sign_in(accounts, "chosen by the attacker")


def test_an_attacker_who_registers_again_cannot_get_the_owners_code_to_verify_another_password(
    accounts: Accounts, mails: KeptMails
) -> None:
    register(accounts)
    register(accounts, ADA, "chosen by the attacker", "Eve")
    register(accounts, ADA, PASSWORD)
    assert mails.kinds == ["verification", "reset", "reset"]
    reset(accounts, mails.code("reset"), NEW)
    assert sign_in(accounts, NEW).profile.full_name == "Ada"


def test_mail_goes_to_the_address_as_its_owner_wrote_it_and_never_as_somebody_else_does(
    accounts: Accounts, mails: KeptMails
) -> None:
    register(accounts, " Strauß@Bücher.example ")
    register(accounts, "strauss@xn--bcher-kva.example.")
    forgot(accounts, "STRAUSS@BÜCHER.example")
    assert [mail.to for mail in mails.all] == ["Strauß@Bücher.example"] * 3


@pytest.mark.parametrize("state", ["unknown", "unverified", "disputed", "verified"])
def test_a_request_costs_the_same_calls_messages_and_items_for_every_address(
    accounts: Accounts, mails: KeptMails, state: str
) -> None:
    if state != "unknown":
        register(accounts)
    if state == "disputed":
        register(accounts, ADA, NEW)
    if state == "verified":
        accounts.registration.verify(mails.code("verification"))
    for ask, items in ((register, 3), (forgot, 1), (resend, 1)):
        sent = len(mails.all)
        assert round_trips(lambda: ask(accounts)) == 3  # noqa: B023
        assert len(mails.all) == sent + 1
        writes = {"register": lambda: accounts.registration.register(ADA, PASSWORD, "Ada", asked()),
                  "forgot": lambda: accounts.recovery.forgot(ADA, asked()),
                  "resend": lambda: accounts.registration.resend(ADA, asked())}[ask.__name__]()  # fmt: skip
        assert len(writes) == items
        if state == "unknown":
            return  # from here on the address is known


def test_a_code_of_a_registration_that_failed_is_no_code_of_another_address(
    accounts: Accounts, mails: KeptMails
) -> None:
    """A request that failed after its mail may be repeated under its Idempotency-Key with another body."""
    same_key = asked()
    accounts.registration.register("eve@example.com", PASSWORD, "Eve", same_key)
    accounts.table.transact(*accounts.registration.register(ADA, PASSWORD, "Ada", same_key))
    refused(accounts, mails.code("verification", "eve@example.com"))
    accounts.registration.verify(mails.code("verification"))


def written(table: str) -> set[str]:
    items = client("dynamodb").scan(TableName=table)["Items"]
    return {item["pk"]["S"] + item["sk"]["S"] for item in items}


def test_nobody_gets_a_mail_that_was_not_theirs_to_get(accounts: Accounts, mails: KeptMails) -> None:
    forgot(accounts, "nobody@example.com")
    resend(accounts, "nobody@example.com")
    register(accounts)
    accounts.registration.verify(mails.code("verification"))
    resend(accounts)
    assert mails.kinds == ["nobody", "nobody", "verification", "nobody"]
    assert {mail.to for mail in mails.all} == {"nobody@example.invalid", ADA}


def test_one_asker_gets_four_mails_an_hour_for_an_address_and_the_last_code_stays_good(
    accounts: Accounts, mails: KeptMails, clock: StandingClock
) -> None:
    register(accounts)
    for _ in range(MOST_FROM_ONE + 3):
        resend(accounts)
    assert mails.kinds == ["verification"] * (MOST_FROM_ONE + 1) + ["nobody"] * 3
    accounts.registration.verify(mails.code("verification"))
    for _ in range(MOST_FROM_ONE):
        forgot(accounts)
    clock.wait(3600)
    forgot(accounts)
    assert mails.kinds[-1] == "reset"


def test_strangers_use_up_neither_the_owners_share_of_mails_nor_more_than_theirs(
    accounts: Accounts, mails: KeptMails
) -> None:
    register(accounts)
    laptop = replace(LAPTOP, token=sign_in(accounts).device_token)
    for n in range(MOST_MAILS + 3):
        forgot(accounts, asker=replace(PHONE, address=f"of stranger {n // 2}"))
    assert mails.kinds[1:] == ["reset"] * MOST_MAILS + ["nobody"] * 3
    for _ in range(MOST_FROM_ONE + 1):
        forgot(accounts, asker=laptop)
    assert mails.kinds[-MOST_FROM_ONE - 1 :] == ["reset"] * MOST_FROM_ONE + ["nobody"]


def test_one_stranger_leaves_room_for_everybody_else(accounts: Accounts, mails: KeptMails) -> None:
    register(accounts)
    for _ in range(MOST_MAILS + 3):
        forgot(accounts, asker=PHONE)
    forgot(accounts)
    assert mails.kinds[1:].count("reset") == MOST_FROM_ONE + 1
    assert mails.kinds[-1] == "reset"


def test_of_parallel_registrations_of_one_address_one_makes_the_user_and_the_rest_may_ask_again(
    accounts: Accounts, accounts_table_name: str
) -> None:
    def ask(_: int) -> bool:
        try:
            register(accounts)
        except ConditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(ask, range(8)))
    profiles = [name for name in written(accounts_table_name) if name.endswith("PROFILE")]
    assert len(profiles) == 1


def test_a_request_that_is_repeated_after_a_crash_mails_the_same_code(accounts: Accounts, mails: KeptMails) -> None:
    request = asked()
    accounts.registration.register(ADA, PASSWORD, "Ada", request)  # killed before it wrote
    refused(accounts, mails.code("verification"))
    accounts.table.transact(*accounts.registration.register(ADA, PASSWORD, "Ada", request))
    first, second = (mail.code for mail in mails.all)
    assert first == second
    accounts.registration.verify(first or "")


@pytest.mark.parametrize("seconds", [24 * 3600 - 1, 24 * 3600])
def test_a_verification_code_lives_a_day(
    accounts: Accounts, mails: KeptMails, clock: StandingClock, seconds: int
) -> None:
    register(accounts)
    clock.wait(seconds)
    if seconds < 24 * 3600:
        accounts.registration.verify(mails.code("verification"))
    else:
        refused(accounts, mails.code("verification"))


@pytest.mark.parametrize("seconds", [15 * 60 - 1, 15 * 60])
def test_a_reset_code_lives_a_quarter_of_an_hour(
    accounts: Accounts, mails: KeptMails, clock: StandingClock, seconds: int
) -> None:
    register(accounts)
    forgot(accounts)
    clock.wait(seconds)
    if seconds < 15 * 60:
        reset(accounts, mails.code("reset"), NEW)
        sign_in(accounts, NEW)
    else:
        with pytest.raises(InvalidInput):
            reset(accounts, mails.code("reset"), NEW)


def test_every_code_that_does_not_work_gets_the_same_words(accounts: Accounts, mails: KeptMails) -> None:
    register(accounts)
    forgot(accounts)
    right = mails.code("verification")
    wrong = {
        refused(accounts, code)
        for code in ("", "x" * 64, "0" * 64, right[:-1] + ("A" if right[-1] != "A" else "B"), mails.code("reset"))
    }
    accounts.registration.verify(right)
    wrong.add(refused(accounts, right))
    assert len(wrong) == 1


def test_a_code_is_dead_after_too_many_tries(accounts: Accounts, mails: KeptMails) -> None:
    register(accounts)
    right = mails.code("verification")
    for _ in range(MOST_TRIES):
        refused(accounts, right[:32] + "w" * 32)
    refused(accounts, right)
    resend(accounts)
    accounts.registration.verify(mails.code("verification"))


def test_parallel_guesses_do_not_pass_the_number_of_tries(accounts: Accounts, mails: KeptMails) -> None:
    register(accounts)
    right = mails.code("verification")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: refused(accounts, right[:32] + "w" * 32), range(20)))
    item = accounts.table.get({"pk": f"USER#{right[:32]}", "sk": "CODE#verification"})
    assert (item or {})["tries"] == MOST_TRIES


@pytest.mark.parametrize("purpose", ["verification", "reset"])
def test_of_parallel_redemptions_of_a_code_one_happens(accounts: Accounts, mails: KeptMails, purpose: str) -> None:
    register(accounts)
    forgot(accounts)
    code = mails.code(purpose)

    def redeem(n: int) -> bool:
        try:
            if purpose == "reset":
                reset(accounts, code, f"{NEW} {n}")
            else:
                accounts.registration.verify(code)
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(redeem, range(6))) == 1


def test_a_code_never_stands_in_the_table(accounts: Accounts, mails: KeptMails, accounts_table_name: str) -> None:
    register(accounts)
    forgot(accounts)
    stored = repr(client("dynamodb").scan(TableName=accounts_table_name)["Items"])
    for mail in mails.all:
        assert (mail.code or "")[32:] not in stored
    assert PASSWORD not in stored
