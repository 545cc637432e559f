"""API keys on the emulated Accounts table: shown once, counted, found, noted, deleted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fusiontrade.accounts.credentials.api_keys import MOST_KEYS, ApiKeys
from fusiontrade.accounts.profiles import Profile
from fusiontrade.accounts.users import Users
from fusiontrade.cloud.session import client
from fusiontrade.cloud.tables import ConditionFailed, Table
from fusiontrade.derivation import Derivation
from fusiontrade.errors import Conflict, NotFound, Unauthenticated
from tests.support.account_parts import PASSWORD, StandingClock, cheap_passwords, round_trips


@pytest.fixture
def ada(accounts_table: Table, clock: StandingClock) -> Profile:
    users = Users(accounts_table, cheap_passwords(), clock)
    return users.create("ada@example.com", PASSWORD, "Ada", tier="pro", verified=True)


@pytest.fixture
def keys(accounts_table: Table, derivation: Derivation, clock: StandingClock) -> ApiKeys:
    return ApiKeys(accounts_table, derivation, clock)


def made(keys: ApiKeys, table: Table, user: Profile, name: str = "bot", nonce: str = "") -> tuple[str, str]:
    new, writes = keys.new(user.id, name, ["read", "predict", "read"], nonce or name)
    table.transact(*writes)
    return new.key.id, new.text


def test_a_key_speaks_for_its_user_with_its_scopes(keys: ApiKeys, accounts_table: Table, ada: Profile) -> None:
    _, text = made(keys, accounts_table, ada)
    who = keys.find(text)
    assert (who.user_id, who.email, who.tier, who.is_verified) == (ada.id, ada.email, "pro", True)
    assert (who.session_id, who.scopes) == ("", frozenset({"predict", "read"}))


def test_a_key_is_listed_without_its_text_and_with_its_last_use_to_the_minute(
    keys: ApiKeys, accounts_table: Table, ada: Profile, clock: StandingClock
) -> None:
    key_id, text = made(keys, accounts_table, ada)
    (listed,) = keys.of_user(ada.id)
    assert (listed.id, listed.name, listed.scopes) == (key_id, "bot", ("predict", "read"))
    assert (listed.created_at, listed.last_used_at) == (clock.now, None)
    first = clock.now
    assert round_trips(lambda: keys.find(text)) == 3
    clock.wait(59)
    assert round_trips(lambda: keys.find(text)) == 2
    assert keys.of_user(ada.id)[0].last_used_at == first
    clock.wait(1)
    keys.find(text)
    assert keys.of_user(ada.id)[0].last_used_at == clock.now


def test_the_text_of_a_key_never_stands_in_the_table(
    keys: ApiKeys, accounts_table: Table, ada: Profile, accounts_table_name: str
) -> None:
    _, text = made(keys, accounts_table, ada)
    stored = repr(client("dynamodb").scan(TableName=accounts_table_name)["Items"])
    assert text[-43:] not in stored  # the secret may hold underscores of its own


def test_a_deleted_key_is_refused_at_once_and_makes_room(keys: ApiKeys, accounts_table: Table, ada: Profile) -> None:
    texts = dict(made(keys, accounts_table, ada, f"bot {n}") for n in range(MOST_KEYS))
    with pytest.raises(Conflict, match="20 API keys"):
        made(keys, accounts_table, ada, "one more")
    gone = next(iter(texts))
    keys.delete(ada.id, gone)
    with pytest.raises(Unauthenticated):
        keys.find(texts[gone])
    with pytest.raises(NotFound):
        keys.delete(ada.id, gone)
    made(keys, accounts_table, ada, "one more")
    assert len(keys.of_user(ada.id)) == MOST_KEYS


def test_parallel_requests_do_not_pass_the_number_of_keys(keys: ApiKeys, accounts_table: Table, ada: Profile) -> None:
    for n in range(MOST_KEYS - 2):
        made(keys, accounts_table, ada, f"bot {n}")

    def make(n: int) -> bool:
        try:
            made(keys, accounts_table, ada, f"parallel {n}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(make, range(8))) == 2
    assert len(keys.of_user(ada.id)) == MOST_KEYS


def test_the_same_request_gives_the_same_key_and_makes_it_once(
    keys: ApiKeys, accounts_table: Table, ada: Profile
) -> None:
    first = made(keys, accounts_table, ada, nonce="request 1")
    with pytest.raises(ConditionFailed):
        made(keys, accounts_table, ada, nonce="request 1")
    again, _ = keys.new(ada.id, "bot", ["read"], "request 1")
    assert (again.key.id, again.text) == first
    assert len(keys.of_user(ada.id)) == 1


def test_no_other_text_is_a_key(keys: ApiKeys, accounts_table: Table, ada: Profile) -> None:
    key_id, text = made(keys, accounts_table, ada)
    secret = text.rpartition("_")[2]
    for forged in (
        "",
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text + "A",
        f"ft_{'0' * 32}_{key_id}_{secret}",
        f"ft_{ada.id}_{'0' * 16}_{secret}",
        f"ft_{ada.id}_{key_id}_{'A' * 43}",
        f"ft_{ada.id}_{key_id}_",
    ):
        with pytest.raises(Unauthenticated):
            keys.find(forged)


def test_nobody_elses_key_can_be_deleted_or_seen(
    keys: ApiKeys, accounts_table: Table, ada: Profile, clock: StandingClock
) -> None:
    eve = Users(accounts_table, cheap_passwords(), clock).create("eve@example.com", PASSWORD, "Eve")
    key_id, text = made(keys, accounts_table, ada)
    for wrong in (key_id, "x", "", "../" + key_id):
        with pytest.raises(NotFound):
            keys.delete(eve.id, wrong)
    assert keys.of_user(eve.id) == []
    assert keys.find(text).user_id == ada.id
    with pytest.raises(NotFound):
        keys.new("0" * 32, "bot", ["read"], "nonce")
