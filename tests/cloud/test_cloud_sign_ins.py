"""Signing in on the emulated Accounts table: counted attempts, equal treatment, three round trips, told devices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fusiontrade.accounts.admission.sessions import Device
from fusiontrade.accounts.admission.sign_ins import SignedIn
from fusiontrade.accounts.credentials.attempts import FREE_ATTEMPTS, PER_ADDRESS
from fusiontrade.accounts.credentials.known_devices import LIFE_SECONDS
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.profiles import email_key
from fusiontrade.accounts.service import Accounts
from fusiontrade.cloud.tables import Table, Update
from fusiontrade.derivation import Derivation
from fusiontrade.errors import FusionTradeError, InvalidInput, TooManyRequests, Unauthenticated
from tests.support.account_parts import (
    LAPTOP,
    PASSWORD,
    PHONE,
    KeptMails,
    StandingClock,
    accounts_on,
    cheap_passwords,
    forgot,
    lives,
    reset,
    round_trips,
)

NEW = "another horse battery"


@pytest.fixture
def accounts(accounts: Accounts) -> Accounts:
    accounts.users.create("ada@example.com", PASSWORD, "Ada")
    return accounts


def sign_in(accounts: Accounts, email: str, password: str = PASSWORD, device: Device = LAPTOP) -> SignedIn:
    accounts.sign_ins.count_at(device, email)
    return accounts.sign_ins.sign_in(email, password, device)


def guess(
    accounts: Accounts, email: str, password: str = "a wrong password", device: Device = LAPTOP
) -> FusionTradeError | None:
    try:
        accounts.sign_ins.sign_in(email, password, device)
    except FusionTradeError as error:
        return error
    return None


def test_the_right_password_opens_a_session_under_any_spelling_of_the_address(accounts: Accounts) -> None:
    signed = sign_in(accounts, " ADA@example.com ")
    assert signed.profile == accounts.users.by_email("ada@example.com")
    (session,) = accounts.sessions.of_user(signed.profile.id)
    assert (session.id, session.user_agent) == (signed.opened.session_id, "Firefox/130")


def test_unknown_address_and_wrong_password_get_the_same_words(accounts: Accounts) -> None:
    known, unknown = guess(accounts, "ada@example.com"), guess(accounts, "nobody@example.com")
    assert isinstance(known, Unauthenticated)
    assert isinstance(unknown, Unauthenticated)
    assert str(known) == str(unknown)


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_after_five_wrong_passwords_every_address_has_to_wait_and_longer_each_time(
    accounts: Accounts, clock: StandingClock, email: str
) -> None:
    for _ in range(FREE_ATTEMPTS):
        assert isinstance(guess(accounts, email), Unauthenticated)
    waits = []
    for _ in range(8):
        refused = guess(accounts, email)
        assert isinstance(refused, TooManyRequests)
        waits.append(refused.retry_after)
        clock.wait(refused.retry_after)
        assert isinstance(guess(accounts, email), Unauthenticated)
    assert waits == [2, 5, 15, 30, 60, 120, 300, 300]


def test_the_right_password_works_after_the_wait_and_forgets_the_wrong_ones(
    accounts: Accounts, clock: StandingClock
) -> None:
    for _ in range(FREE_ATTEMPTS):
        guess(accounts, "ada@example.com")
    assert isinstance(guess(accounts, "ada@example.com", PASSWORD), TooManyRequests)
    clock.wait(2)
    assert guess(accounts, "ada@example.com", PASSWORD) is None
    for _ in range(FREE_ATTEMPTS):
        assert isinstance(guess(accounts, "ada@example.com"), Unauthenticated)


def known(accounts: Accounts, device: Device = LAPTOP) -> Device:
    """The device as it comes back after it signed in."""
    return replace(device, token=sign_in(accounts, "ada@example.com", device=device).device_token)


def test_a_known_device_waits_for_its_own_wrong_passwords_and_for_nobody_elses(accounts: Accounts) -> None:
    laptop = replace(known(accounts), address="moved since")
    for _ in range(FREE_ATTEMPTS):
        guess(accounts, "ada@example.com", device=PHONE)
    assert isinstance(guess(accounts, "ada@example.com", PASSWORD, PHONE), TooManyRequests)
    for _ in range(FREE_ATTEMPTS):
        assert isinstance(guess(accounts, "ada@example.com", device=laptop), Unauthenticated)
    waits = guess(accounts, "ada@example.com", PASSWORD, laptop)
    assert isinstance(waits, TooManyRequests)
    assert waits.retry_after == 2


def test_a_known_device_that_signs_in_gives_strangers_no_more_guesses(accounts: Accounts) -> None:
    laptop = known(accounts)
    for _ in range(FREE_ATTEMPTS):
        guess(accounts, "ada@example.com", device=PHONE)
    assert guess(accounts, "ada@example.com", PASSWORD, laptop) is None
    assert isinstance(guess(accounts, "ada@example.com", device=PHONE), TooManyRequests)


def test_a_known_device_is_counted_by_itself_and_not_with_its_network(accounts: Accounts) -> None:
    laptop = known(accounts)
    before = accounts.sign_ins.count_at(LAPTOP, "ada@example.com").remaining
    assert accounts.sign_ins.count_at(laptop, "ada@example.com").remaining == PER_ADDRESS.free - 1
    assert accounts.sign_ins.count_at(laptop, "eve@example.com").remaining == before - 1
    assert round_trips(lambda: sign_in(accounts, "ada@example.com", device=laptop)) == 3


def test_a_device_keeps_its_name_for_half_a_year_after_it_last_signed_in(
    accounts: Accounts, clock: StandingClock
) -> None:
    laptop = known(accounts)
    clock.wait(LIFE_SECONDS - 1)
    again = known(accounts, laptop)
    assert again.token != laptop.token
    assert again.token[:33] == laptop.token[:33]
    clock.wait(2)
    assert known(accounts, laptop).token[:33] != laptop.token[:33]
    assert known(accounts, again).token[:33] == laptop.token[:33]


def test_a_signed_in_user_confirms_the_password_however_often_strangers_guess(accounts: Accounts) -> None:
    signed = sign_in(accounts, "ada@example.com")
    profile = signed.profile
    user = Identity(profile.id, profile.email, profile.subscription_tier, signed.opened.session_id, True)
    for _ in range(FREE_ATTEMPTS):
        guess(accounts, "ada@example.com", device=PHONE)
    assert accounts.sign_ins.check_password(user, PASSWORD).startswith("$argon2id$")
    for _ in range(FREE_ATTEMPTS - 1):
        with pytest.raises(InvalidInput):
            accounts.sign_ins.check_password(user, "a wrong password")
    with pytest.raises(TooManyRequests):
        accounts.sign_ins.check_password(user, PASSWORD)


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_fifty_parallel_guesses_do_not_pass_the_limit(accounts: Accounts, email: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: guess(accounts, email), range(50)))
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == FREE_ATTEMPTS
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 50 - FREE_ATTEMPTS


def test_one_network_address_slows_down_over_all_accounts_and_no_other_does(
    accounts: Accounts, clock: StandingClock, accounts_table: Table
) -> None:
    for left in range(3):
        assert accounts.sign_ins.count_at(LAPTOP, "ada@example.com").remaining == PER_ADDRESS.free - 1 - left
    window = accounts.sign_ins.count_at(LAPTOP, "ada@example.com")
    end = clock.now // 1000 + window.reset_seconds
    key = {"pk": f"ADDRESS#{LAPTOP.address}", "sk": f"SIGN-IN#{end}"}
    accounts_table.update(Update(key, assign={"attempts": PER_ADDRESS.free}))
    waits = []
    for _ in range(3):
        with pytest.raises(TooManyRequests) as refused:
            accounts.sign_ins.count_at(LAPTOP, "ada@example.com")
        waits.append(refused.value.retry_after)
        clock.wait(refused.value.retry_after)
        assert accounts.sign_ins.count_at(LAPTOP, "ada@example.com").remaining == 0
    assert waits == [1, 2, 5]
    assert accounts.sign_ins.count_at(PHONE, "ada@example.com").remaining == PER_ADDRESS.free - 1
    clock.wait(900)
    assert accounts.sign_ins.count_at(LAPTOP, "ada@example.com").remaining == PER_ADDRESS.free - 1


def test_attempts_on_addresses_without_an_account_expire(
    accounts: Accounts, accounts_table: Table, clock: StandingClock
) -> None:
    guess(accounts, "nobody@example.com")
    kept = accounts_table.get({"pk": "ATTEMPTS#nobody@example.com", "sk": "ATTEMPTS"})
    assert kept is not None
    assert kept["expires_at"] == clock.now // 1000 + 30 * 24 * 3600
    guess(accounts, "ada@example.com")
    assert accounts_table.get({"pk": "ATTEMPTS#ada@example.com", "sk": "ATTEMPTS"}) is None


def test_attempts_of_the_days_before_do_not_tell_which_address_has_an_account(
    accounts: Accounts, accounts_table: Table, clock: StandingClock
) -> None:
    emails = ("ada@example.com", "nobody@example.com")
    for email in emails:
        for _ in range(FREE_ATTEMPTS):
            guess(accounts, email)
    clock.wait(7 * 24 * 3600)
    forget_expired(accounts_table, clock)
    known, unknown = ([type(guess(accounts, email)) for _ in range(3)] for email in emails)
    assert known == unknown


def forget_expired(table: Table, clock: StandingClock) -> None:
    """Do what the database does to items past their time."""
    for item in table.scan().items:
        if item.get("expires_at", clock.now) <= clock.now // 1000:
            table.delete({"pk": item["pk"], "sk": item["sk"]})


def test_a_sign_in_takes_three_round_trips_and_a_refusal_three_whoever_it_is(accounts: Accounts) -> None:
    assert round_trips(lambda: sign_in(accounts, "ada@example.com")) == 3
    for email in ("ada@example.com", "nobody@example.com"):
        wrong = [round_trips(lambda: refused(accounts, email)) for _ in range(FREE_ATTEMPTS + 1)]  # noqa: B023
        assert wrong == [3] * (FREE_ATTEMPTS + 1)


def refused(accounts: Accounts, email: str) -> None:
    with pytest.raises((Unauthenticated, TooManyRequests)):
        sign_in(accounts, email, "a wrong password")


def test_a_password_that_changes_while_it_is_checked_opens_no_session(
    accounts: Accounts, accounts_table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Passwords.verify

    def verify_and_change(self: Passwords, password: str, stored: str | None) -> bool:
        answer = real(self, password, stored)
        fresh = cheap_passwords().hash("set by a reset meanwhile")
        accounts_table.update(Update(email_key("ada@example.com"), assign={"password_hash": fresh}))
        return answer

    monkeypatch.setattr(Passwords, "verify", verify_and_change)
    with pytest.raises(Unauthenticated):
        sign_in(accounts, "ada@example.com")
    profile = accounts.users.by_email("ada@example.com")
    assert profile is not None
    assert accounts.sessions.of_user(profile.id) == []


def test_a_hash_of_weaker_parameters_is_made_anew_when_its_owner_signs_in(
    accounts: Accounts, accounts_table: Table, derivation: Derivation, mails: KeptMails, clock: StandingClock
) -> None:
    stronger = accounts_on(accounts_table, derivation, mails, clock, Passwords(memory_kib=16, iterations=2))
    for _ in range(2):
        sign_in(stronger, "ada@example.com")
        assert "m=16,t=2" in (stronger.users.entry("ada@example.com") or {})["password_hash"]


def test_a_sign_in_from_an_unknown_device_is_told_to_the_owner_and_the_first_one_is_not(
    accounts: Accounts, mails: KeptMails
) -> None:
    for device in (LAPTOP, LAPTOP, PHONE, LAPTOP, PHONE, replace(LAPTOP, address="elsewhere")):
        sign_in(accounts, "ada@example.com", device=device)
    assert [(mail.kind, mail.to, mail.device) for mail in mails.all] == [
        ("new_sign_in", "ada@example.com", "Safari/18"),
        ("new_sign_in", "ada@example.com", "Firefox/130"),
    ]


def test_a_dozen_parallel_sign_ins_of_one_user_all_open_sessions_that_live(
    accounts: Accounts, accounts_table: Table
) -> None:
    with ThreadPoolExecutor(4) as pool:
        signed = list(pool.map(lambda _: sign_in(accounts, "ada@example.com"), range(12)))
    user = signed[0].profile.id
    assert {one.opened.session_id for one in signed} == {session.id for session in accounts.sessions.of_user(user)}
    assert all(lives(accounts_table, user, one.opened.session_id) for one in signed)


def test_two_right_sign_ins_at_once_both_count_when_the_hash_is_renewed(
    accounts: Accounts, accounts_table: Table, derivation: Derivation, mails: KeptMails, clock: StandingClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stronger = accounts_on(accounts_table, derivation, mails, clock, Passwords(memory_kib=16, iterations=1))
    real = Passwords.verify

    def verify_while_another_signs_in(self: Passwords, password: str, stored: str | None) -> bool:
        monkeypatch.setattr(Passwords, "verify", real)
        sign_in(stronger, "ada@example.com", device=PHONE)
        return real(self, password, stored)

    monkeypatch.setattr(Passwords, "verify", verify_while_another_signs_in)
    signed = sign_in(stronger, "ada@example.com")
    assert len(stronger.sessions.of_user(signed.profile.id)) == 2


def test_a_reset_makes_strangers_of_the_devices_that_signed_in_before(
    accounts: Accounts, mails: KeptMails, clock: StandingClock
) -> None:
    thief, laptop = known(accounts, PHONE), known(accounts)
    forgot(accounts)
    reset(accounts, mails.code("reset"), NEW)
    owner = replace(LAPTOP, token=accounts.sign_ins.sign_in("ada@example.com", NEW, laptop).device_token)
    for _ in range(FREE_ATTEMPTS):
        assert isinstance(guess(accounts, "ada@example.com", device=thief), Unauthenticated)
    for device in (PHONE, thief):
        assert isinstance(guess(accounts, "ada@example.com", NEW, device), TooManyRequests)
    for _ in range(FREE_ATTEMPTS):
        assert isinstance(guess(accounts, "ada@example.com", device=owner), Unauthenticated)
    clock.wait(2)
    assert guess(accounts, "ada@example.com", NEW, owner) is None
