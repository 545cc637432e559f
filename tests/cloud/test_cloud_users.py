"""Users on the emulated Accounts table: uniqueness, counted attempts, equal treatment of unknown addresses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusiontrade.accounts.passwords import Passwords
from fusiontrade.accounts.users import FREE_ATTEMPTS, Users, seed_user
from fusiontrade.cloud.session import client
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import Conflict, FusionTradeError, NotFound, TooManyRequests, Unauthenticated

PASSWORD = "correct horse battery"
START = 1_750_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(accounts_table: Table, clock: Clock) -> Users:
    return Users(accounts_table, Passwords(), clock)


def guess(users: Users, email: str, password: str = "a wrong password") -> FusionTradeError | None:
    try:
        users.sign_in(email, password)
    except FusionTradeError as error:
        return error
    return None


def test_a_made_user_signs_in_under_any_spelling_of_the_address(users: Users) -> None:
    made = users.create(" Ada@Example.COM ", PASSWORD, "Ada", tier="pro", verified=True)
    assert users.sign_in("ada@EXAMPLE.com  ", PASSWORD) == made
    assert (made.email, made.created_at, made.subscription_tier) == ("ada@example.com", START, "pro")
    assert users.profile(made.id) == made


def test_the_stored_items_hold_a_hash_and_no_password(users: Users, accounts_table_name: str) -> None:
    users.create("ada@example.com", PASSWORD, "Ada")
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


def test_unknown_address_and_wrong_password_get_the_same_words(users: Users) -> None:
    users.create("ada@example.com", PASSWORD, "Ada")
    known, unknown = guess(users, "ada@example.com"), guess(users, "nobody@example.com")
    assert isinstance(known, Unauthenticated)
    assert isinstance(unknown, Unauthenticated)
    assert str(known) == str(unknown)


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_after_five_wrong_passwords_every_address_has_to_wait_and_longer_each_time(
    users: Users, clock: Clock, email: str
) -> None:
    users.create("ada@example.com", PASSWORD, "Ada")
    for _ in range(FREE_ATTEMPTS):
        assert isinstance(guess(users, email), Unauthenticated)
    waits = []
    for _ in range(8):
        refused = guess(users, email)
        assert isinstance(refused, TooManyRequests)
        waits.append(refused.retry_after)
        clock.now += refused.retry_after * 1000
        assert isinstance(guess(users, email), Unauthenticated)
    assert waits == [2, 5, 15, 30, 60, 120, 300, 300]


def test_the_right_password_works_after_the_wait_and_forgets_the_wrong_ones(users: Users, clock: Clock) -> None:
    users.create("ada@example.com", PASSWORD, "Ada")
    for _ in range(FREE_ATTEMPTS):
        guess(users, "ada@example.com")
    assert isinstance(guess(users, "ada@example.com", PASSWORD), TooManyRequests)
    clock.now += 2000
    assert guess(users, "ada@example.com", PASSWORD) is None
    for _ in range(FREE_ATTEMPTS):
        assert isinstance(guess(users, "ada@example.com"), Unauthenticated)


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_fifty_parallel_guesses_do_not_pass_the_limit(users: Users, email: str) -> None:
    users.create("ada@example.com", PASSWORD, "Ada")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: guess(users, email), range(50)))
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == FREE_ATTEMPTS
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 50 - FREE_ATTEMPTS


def test_attempts_on_addresses_without_an_account_expire(users: Users, accounts_table: Table) -> None:
    guess(users, "nobody@example.com")
    kept = accounts_table.get({"pk": "ATTEMPTS#nobody@example.com", "sk": "ATTEMPTS"})
    assert kept is not None
    assert kept["expires_at"] == START // 1000 + 24 * 3600


def round_trips(action: Callable[[], object]) -> int:
    calls: list[str] = []
    dynamodb = client("dynamodb")

    def count(**event: object) -> None:
        calls.append(str(event["event_name"]))

    dynamodb.meta.events.register("before-send.dynamodb.*", count)
    try:
        action()
    finally:
        dynamodb.meta.events.unregister("before-send.dynamodb.*", count)
    return len(calls)


def test_sign_in_takes_three_round_trips_and_a_refusal_two_whoever_it_is(users: Users) -> None:
    users.create("ada@example.com", PASSWORD, "Ada")
    assert round_trips(lambda: users.sign_in("ada@example.com", PASSWORD)) == 3
    for email in ("ada@example.com", "nobody@example.com"):
        assert [round_trips(lambda: guess(users, email)) for _ in range(FREE_ATTEMPTS)] == [2] * 5  # noqa: B023
        assert round_trips(lambda: guess(users, email)) == 2  # noqa: B023


def test_seeding_twice_keeps_the_first_user(users: Users) -> None:
    def seed() -> object:
        return seed_user(users, email="devtest@fusiontrade.ai", password="DevTest123!", full_name="Demo", tier="pro")

    first = seed()
    assert seed() == first
    signed_in = users.sign_in("devtest@fusiontrade.ai", "DevTest123!")
    assert (signed_in.is_verified, signed_in.subscription_tier) == (True, "pro")


def test_the_profile_of_nobody_is_not_found(users: Users) -> None:
    with pytest.raises(NotFound):
        users.profile("0" * 32)
