"""The gate item and the address counters on the emulated table: counting, ending, and staying small."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fusiontrade.accounts.addresses import Addresses
from fusiontrade.accounts.gate import MOST_REVOKED, MOST_STALE, REVOKED_SECONDS, Gate, LimitReached, gate_key
from fusiontrade.accounts.limits import Limit
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from fusiontrade.errors import Unauthenticated
from tests.support.round_trips import round_trips

START = 1_750_000_000_000
LIMITS = {"read": Limit(5, 60), "write": Limit(2, 10)}


def session(number: int, opened_at: int = START - 1000) -> str:
    return f"s{opened_at:012x}{number:020x}"


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(accounts_table: Table, clock: Clock) -> Gate:
    return Gate(accounts_table, clock, LIMITS)


MINE = session(1)


def test_a_request_is_counted_and_checked_in_one_round_trip(gate: Gate) -> None:
    with round_trips() as sent:
        allowance = gate.count("u1", "read", session_id=MINE)
    assert sent == ["UpdateItem"]
    assert (allowance.remaining, allowance.limit) == (4, LIMITS["read"])
    assert allowance.reset_seconds == 60 - START // 1000 % 60


def test_what_is_over_the_limit_is_refused_until_the_window_ends(gate: Gate, clock: Clock) -> None:
    for left in (4, 3, 2, 1, 0):
        assert gate.count("u1", "read", session_id=MINE).remaining == left
    with pytest.raises(LimitReached) as refused:
        gate.count("u1", "read", session_id=MINE)
    assert refused.value.retry_after == refused.value.allowance.reset_seconds
    assert refused.value.allowance.remaining == 0
    clock.now += refused.value.retry_after * 1000
    assert gate.count("u1", "read", session_id=MINE).remaining == 4


def test_groups_and_users_are_counted_apart(gate: Gate) -> None:
    for _ in range(2):
        gate.count("u1", "write", session_id=MINE)
    with pytest.raises(LimitReached):
        gate.count("u1", "write", session_id=MINE)
    assert gate.count("u1", "read", session_id=MINE).remaining == 4
    assert gate.count("u2", "write", session_id=session(2)).remaining == 1


def test_a_group_without_a_limit_of_its_own_has_the_common_one(gate: Gate) -> None:
    assert gate.count("u1", "anything", session_id=None).limit == Limit(600, 60)


def test_of_fifty_parallel_requests_exactly_the_limit_passes(accounts_table: Table, clock: Clock) -> None:
    gate = Gate(accounts_table, clock, {"read": Limit(20, 60)})

    def passes(_: int) -> bool:
        try:
            gate.count("u1", "read", session_id=MINE)
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(passes, range(50))) == 20


def test_an_ended_session_is_refused_at_once_and_not_counted(gate: Gate, accounts_table: Table) -> None:
    gate.count("u1", "read", session_id=MINE)
    accounts_table.update(gate.revocation("u1", MINE))
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            gate.count("u1", "read", session_id=MINE)
    assert gate.count("u1", "read", session_id=session(2)).remaining == 3


def test_ending_all_ends_what_was_opened_up_to_then_and_nothing_later(
    gate: Gate, accounts_table: Table, clock: Clock
) -> None:
    kept = session(3)
    accounts_table.update(gate.revocation_of_all("u1", keep=kept))
    for dead in (MINE, session(4, START)):
        with pytest.raises(Unauthenticated):
            gate.count("u1", "read", session_id=dead)
    for alive in (kept, session(5, START + 1)):
        gate.count("u1", "read", session_id=alive)


def test_a_session_that_was_kept_once_is_ended_by_the_next_end_of_all(
    gate: Gate, accounts_table: Table, clock: Clock
) -> None:
    accounts_table.update(gate.revocation_of_all("u1", keep=MINE))
    gate.count("u1", "read", session_id=MINE)
    clock.now += 1
    accounts_table.update(gate.revocation_of_all("u1"))
    with pytest.raises(Unauthenticated):
        gate.count("u1", "read", session_id=MINE)


def test_a_session_whose_name_tells_no_time_is_judged_by_its_token(gate: Gate, accounts_table: Table) -> None:
    accounts_table.update(gate.revocation_of_all("u1"))
    with pytest.raises(Unauthenticated):
        gate.count("u1", "read", session_id="old", issued_at=START // 1000)
    gate.count("u1", "read", session_id="old", issued_at=START // 1000 + 1)


def test_a_key_has_no_session_and_outlives_them_all(gate: Gate, accounts_table: Table) -> None:
    accounts_table.update(gate.revocation_of_all("u1"))
    assert gate.count("u1", "read", session_id=None).remaining == 4


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "#revoked", "é"])
def test_a_session_that_could_not_be_an_attribute_is_refused(gate: Gate, name: str) -> None:
    with pytest.raises(Unauthenticated):
        gate.count("u1", "read", session_id=name)


def test_the_item_stays_small_over_a_year_of_visits(gate: Gate, accounts_table: Table, clock: Clock) -> None:
    largest = 0
    for visit in range(120):
        clock.now = START + visit * 3 * 86_400_000
        for group in ("read", "write"):
            gate.count("u1", group, session_id=session(1, clock.now - 1))
        accounts_table.update(gate.revocation("u1", session(visit + 10)))
        largest = max(largest, len(accounts_table.get(gate_key("u1")) or {}))
    assert largest <= 2 + MOST_STALE + 4


def test_tidying_takes_what_is_past_and_leaves_what_counts(gate: Gate, accounts_table: Table, clock: Clock) -> None:
    dead, ended = session(7), session(8)
    for number in range(MOST_STALE + 1):
        accounts_table.update(gate.revocation("u1", session(100 + number)))
    clock.now += (REVOKED_SECONDS + 1) * 1000
    accounts_table.update(gate.revocation_of_all("u1", keep=MINE))
    accounts_table.update(gate.revocation("u1", ended))
    gate.count("u1", "read", session_id=MINE)
    item = accounts_table.get(gate_key("u1")) or {}
    assert [name for name in item if name.startswith("revoked_")] == [f"revoked_{ended}"]
    with pytest.raises(Unauthenticated):
        gate.count("u1", "read", session_id=dead)
    assert gate.count("u1", "read", session_id=MINE).remaining == 3


def test_more_ended_sessions_than_the_item_holds_end_all_but_the_one_that_asks(
    gate: Gate, accounts_table: Table
) -> None:
    for number in range(MOST_REVOKED + 1):
        accounts_table.update(gate.revocation("u1", session(100 + number)))
    gate.count("u1", "read", session_id=MINE)
    item = accounts_table.get(gate_key("u1")) or {}
    assert len(item) <= 6
    for dead in (session(100), session(100 + MOST_REVOKED), session(2)):
        with pytest.raises(Unauthenticated):
            gate.count("u1", "read", session_id=dead)
    gate.count("u1", "read", session_id=MINE)


def test_an_address_is_counted_in_one_round_trip_and_kept_as_a_hash(
    accounts_table: Table, derivation: Derivation, clock: Clock
) -> None:
    addresses = Addresses(accounts_table, derivation, clock, {"mail": Limit(2, 600)})
    with round_trips() as sent:
        assert addresses.count("192.0.2.7", "mail").remaining == 1
    assert sent == ["UpdateItem"]
    addresses.count("192.0.2.7", "mail")
    with pytest.raises(LimitReached):
        addresses.count("192.0.2.7", "mail")
    assert addresses.count("192.0.2.8", "mail").remaining == 1
    (item,) = [one for one in accounts_table.scan().items if one["count"] == 3]
    assert "192" not in item["pk"]
    assert item["expires_at"] > clock.now // 1000


def test_the_addresses_of_one_household_are_one_caller(
    accounts_table: Table, derivation: Derivation, clock: Clock
) -> None:
    addresses = Addresses(accounts_table, derivation, clock)
    first = addresses.hashed("2001:db8:1:2::1")
    assert addresses.hashed("2001:db8:1:2:ffff::9") == first
    assert addresses.hashed("2001:db8:1:3::1") != first
    assert addresses.hashed("::ffff:192.0.2.7") == addresses.hashed("192.0.2.7")
    assert addresses.hashed("not an address") != first
