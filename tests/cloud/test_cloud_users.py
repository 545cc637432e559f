"""Users on the emulated Accounts table: uniqueness, the copy of the profile, what the operator changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fusiontrade.accounts.admission.gate import Gate
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.profiles import profile_of_entry
from fusiontrade.accounts.users import Users, seed_user
from fusiontrade.cloud.session import client
from fusiontrade.cloud.tables import Table, Update
from fusiontrade.errors import Conflict, NotFound
from tests.support.account_parts import PASSWORD, START, StandingClock, cheap_passwords


@pytest.fixture
def users(accounts_table: Table) -> Users:
    return Users(accounts_table, cheap_passwords(), StandingClock())


def test_a_made_user_is_found_under_any_spelling_of_the_address(users: Users) -> None:
    made = users.create(" Ada@Example.COM ", PASSWORD, "Ada", tier="pro", verified=True)
    assert users.by_email("ada@EXAMPLE.com  ") == made
    assert (made.email, made.created_at, made.subscription_tier) == ("ada@example.com", START, "pro")
    assert users.profile(made.id) == made


def test_the_stored_items_hold_a_hash_and_no_password(users: Users, accounts_table_name: str) -> None:
    real = Users(users._table, Passwords(), StandingClock())
    real.create("ada@example.com", PASSWORD, "Ada")
    stored = client("dynamodb").scan(TableName=accounts_table_name)["Items"]
    assert {item["sk"]["S"] for item in stored} == {"PROFILE", "EMAIL"}
    assert PASSWORD not in repr(stored)
    (entry,) = [item for item in stored if item["sk"]["S"] == "EMAIL"]
    assert entry["password_hash"]["S"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_a_second_user_of_one_address_is_a_conflict_and_leaves_nothing(users: Users, accounts_table_name: str) -> None:
    users.create("ada@example.com", PASSWORD, "Ada")
    with pytest.raises(Conflict):
        users.create("ADA@example.com", "another password", "Eve")
    assert client("dynamodb").scan(TableName=accounts_table_name)["Count"] == 2


def test_of_twenty_parallel_registrations_of_one_address_one_wins(users: Users) -> None:
    def register(n: int) -> bool:
        try:
            users.create("ada@example.com", PASSWORD, f"Ada {n}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(register, range(20))) == 1


def test_seeding_twice_keeps_the_first_user(users: Users) -> None:
    def seed() -> object:
        return seed_user(users, email="devtest@fusiontrade.ai", password="DevTest123!", full_name="Demo", tier="pro")

    first = seed()
    assert seed() == first
    assert (first.is_verified, first.subscription_tier) == (True, "pro")
    assert users.by_email("devtest@fusiontrade.ai") == first


def test_seeding_brings_an_account_of_an_older_release_up_to_date(users: Users, accounts_table: Table) -> None:
    old = users.create("devtest@fusiontrade.ai", "DevTest123!", "Demo")
    accounts_table.update(
        Update({"pk": "EMAIL#devtest@fusiontrade.ai", "sk": "EMAIL"}, remove=["email", "full_name", "created_at"])
    )
    now = seed_user(users, email="devtest@fusiontrade.ai", password="DevTest123!", full_name="Demo", tier="pro")
    assert now == replace(old, is_verified=True, subscription_tier="pro")
    assert profile_of_entry(users.entry("devtest@fusiontrade.ai") or {}) == now


def test_the_copy_on_the_e_mail_item_says_what_the_profile_says_after_every_change(users: Users) -> None:
    made = users.create("ada@example.com", PASSWORD, "Ada")

    def copied() -> object:
        return profile_of_entry(users.entry("ada@example.com") or {})

    assert copied() == made
    changed = users.change(made.id, made.email, {"full_name": "Ada King", "segment": "quant"}, hf_token="sealed")
    assert (changed.full_name, changed.segment, changed.has_hf_token) == ("Ada King", "quant", True)
    assert copied() == replace(changed, has_hf_token=False)
    promoted = users.set_tier(" ADA@example.com", "admin")
    assert promoted == replace(changed, subscription_tier="admin") == users.profile(made.id)
    assert copied() == replace(promoted, has_hf_token=False)


def test_the_gate_knows_a_new_tier_from_the_next_request_on(users: Users, accounts_table: Table) -> None:
    made = users.create("ada@example.com", PASSWORD, "Ada", tier="pro")
    gate, session = Gate(accounts_table, StandingClock()), f"s{START - 1:012x}{'0' * 20}"
    assert gate.admit(made.id, "read", session_id=session).tier is None
    for tier in ("admin", "free"):
        users.set_tier(made.email, tier)
        assert gate.admit(made.id, "read", session_id=session).tier == tier


def test_a_token_stays_unless_it_is_removed(users: Users) -> None:
    made = users.create("ada@example.com", PASSWORD, "Ada")
    assert users.change(made.id, made.email, {}, hf_token="sealed").has_hf_token
    assert users.change(made.id, made.email, {"segment": None}).has_hf_token
    assert users.change(made.id, made.email, {}).has_hf_token
    assert not users.change(made.id, made.email, {}, hf_token=None).has_hf_token


def test_nobody_cannot_be_changed_or_promoted(users: Users, accounts_table_name: str) -> None:
    with pytest.raises(NotFound):
        users.change("0" * 32, "nobody@example.com", {"full_name": "Nobody"})
    with pytest.raises(NotFound):
        users.set_tier("nobody@example.com", "admin")
    assert client("dynamodb").scan(TableName=accounts_table_name)["Count"] == 0


def test_the_profile_of_nobody_is_not_found(users: Users) -> None:
    with pytest.raises(NotFound):
        users.profile("0" * 32)
