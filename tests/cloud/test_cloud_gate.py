"""The gate item and the address counters on the emulated table: counting, ending, and staying small."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fusiontrade.accounts.admission.addresses import Addresses
from fusiontrade.accounts.admission.gate import (
    MOST_KEPT,
    MOST_REVOKED,
    MOST_STALE,
    REVOKED_SECONDS,
    Gate,
    LimitReached,
    gate_key,
)
from fusiontrade.accounts.admission.limits import Limit
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from fusiontrade.errors import Unauthenticated
from tests.support.account_parts import START, StandingClock, lives
from tests.support.round_trips import round_trips

LIMITS = {"read": Limit(5, 60), "write": Limit(2, 10)}


def session(number: int, opened_at: int = START - 1000) -> str:
    return f"s{opened_at:012x}{number:020x}"


@pytest.fixture
def gate(accounts_table: Table, clock: StandingClock) -> Gate:
    return Gate(accounts_table, clock, LIMITS)


MINE = session(1)


def test_a_request_is_counted_and_checked_in_one_round_trip(gate: Gate) -> None:
    with round_trips() as sent:
        allowance = gate.admit("u1", "read", session_id=MINE).allowance
    assert sent == ["UpdateItem"]
    assert (allowance.remaining, allowance.limit) == (4, LIMITS["read"])
    assert allowance.reset_seconds == 60 - START // 1000 % 60


def test_what_is_over_the_limit_is_refused_until_the_window_ends(gate: Gate, clock: StandingClock) -> None:
    for left in (4, 3, 2, 1, 0):
        assert gate.admit("u1", "read", session_id=MINE).allowance.remaining == left
    with pytest.raises(LimitReached) as refused:
        gate.admit("u1", "read", session_id=MINE)
    assert refused.value.retry_after == refused.value.allowance.reset_seconds
    assert refused.value.allowance.remaining == 0
    clock.now += refused.value.retry_after * 1000
    assert gate.admit("u1", "read", session_id=MINE).allowance.remaining == 4


def test_groups_and_users_are_counted_apart(gate: Gate) -> None:
    for _ in range(2):
        gate.admit("u1", "write", session_id=MINE)
    with pytest.raises(LimitReached):
        gate.admit("u1", "write", session_id=MINE)
    assert gate.admit("u1", "read", session_id=MINE).allowance.remaining == 4
    assert gate.admit("u2", "write", session_id=session(2)).allowance.remaining == 1


def test_a_group_without_a_limit_of_its_own_has_the_common_one(gate: Gate) -> None:
    assert gate.admit("u1", "anything", session_id=None).allowance.limit == Limit(600, 60)


def test_of_fifty_parallel_requests_exactly_the_limit_passes(accounts_table: Table, clock: StandingClock) -> None:
    gate = Gate(accounts_table, clock, {"read": Limit(20, 60)})

    def passes(_: int) -> bool:
        try:
            gate.admit("u1", "read", session_id=MINE)
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(passes, range(50))) == 20


def test_an_ended_session_is_refused_at_once_and_not_counted(gate: Gate, accounts_table: Table) -> None:
    gate.admit("u1", "read", session_id=MINE)
    accounts_table.update(gate.revocation("u1", MINE))
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            gate.admit("u1", "read", session_id=MINE)
    assert gate.admit("u1", "read", session_id=session(2)).allowance.remaining == 3


def test_ending_all_ends_what_was_opened_up_to_then_and_nothing_later(
    gate: Gate, accounts_table: Table, clock: StandingClock
) -> None:
    kept = session(3)
    accounts_table.update(gate.revocation_of_all("u1", keep=kept))
    for dead in (MINE, session(4, START)):
        with pytest.raises(Unauthenticated):
            gate.admit("u1", "read", session_id=dead)
    for alive in (kept, session(5, START + 1)):
        gate.admit("u1", "read", session_id=alive)


def test_a_session_that_was_kept_once_is_ended_by_the_next_end_of_all(
    gate: Gate, accounts_table: Table, clock: StandingClock
) -> None:
    accounts_table.update(gate.revocation_of_all("u1", keep=MINE))
    gate.admit("u1", "read", session_id=MINE)
    clock.now += 1
    accounts_table.update(gate.revocation_of_all("u1"))
    with pytest.raises(Unauthenticated):
        gate.admit("u1", "read", session_id=MINE)


def test_a_session_whose_name_tells_no_time_is_judged_by_its_token(gate: Gate, accounts_table: Table) -> None:
    accounts_table.update(gate.revocation_of_all("u1"))
    with pytest.raises(Unauthenticated):
        gate.admit("u1", "read", session_id="old", issued_at=START // 1000)
    gate.admit("u1", "read", session_id="old", issued_at=START // 1000 + 1)


def test_a_key_has_no_session_and_outlives_them_all_unless_keys_are_ended_too(
    gate: Gate, accounts_table: Table
) -> None:
    accounts_table.update(gate.revocation_of_all("u1", keys=True))
    for made_at in (0, START):
        with pytest.raises(Unauthenticated):
            gate.admit("u1", "read", session_id=None, key_made_at=made_at)
    gate.admit("u1", "read", session_id=None, key_made_at=START + 1)
    accounts_table.delete(gate_key("u1"))
    accounts_table.update(gate.revocation_of_all("u1"))
    assert gate.admit("u1", "read", session_id=None).allowance.remaining == 4


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "#revoked", "é"])
def test_a_session_that_could_not_be_an_attribute_is_refused(gate: Gate, name: str) -> None:
    with pytest.raises(Unauthenticated):
        gate.admit("u1", "read", session_id=name)


def test_the_item_stays_small_over_a_year_of_visits(gate: Gate, accounts_table: Table, clock: StandingClock) -> None:
    largest = 0
    for visit in range(120):
        clock.now = START + visit * 3 * 86_400_000
        for group in ("read", "write"):
            gate.admit("u1", group, session_id=session(1, clock.now - 1))
        accounts_table.update(gate.revocation("u1", session(visit + 10)))
        largest = max(largest, len(accounts_table.get(gate_key("u1")) or {}))
    assert largest <= 2 + MOST_STALE + 4


def test_tidying_takes_what_is_past_and_leaves_what_counts(
    gate: Gate, accounts_table: Table, clock: StandingClock
) -> None:
    dead, ended = session(7), session(8)
    for number in range(MOST_STALE + 1):
        accounts_table.update(gate.revocation("u1", session(100 + number)))
    clock.now += (REVOKED_SECONDS + 1) * 1000
    accounts_table.update(gate.revocation_of_all("u1", keep=MINE))
    accounts_table.update(gate.revocation("u1", ended))
    gate.admit("u1", "read", session_id=MINE)
    item = accounts_table.get(gate_key("u1")) or {}
    assert [name for name in item if name.startswith("revoked_")] == [f"revoked_{ended}"]
    with pytest.raises(Unauthenticated):
        gate.admit("u1", "read", session_id=dead)
    assert gate.admit("u1", "read", session_id=MINE).allowance.remaining == 3


def opened(table: Table, *names: str, expires_at: int = START // 1000 + 3600) -> None:
    for name in names:
        table.put({"pk": "USER#u1", "sk": f"SESSION#{name}", "expires_at": expires_at})


def test_more_ended_sessions_than_the_item_holds_end_none_of_those_that_live(
    gate: Gate, accounts_table: Table, clock: StandingClock
) -> None:
    alive, old, over = [MINE, session(2), session(3)], session(4, START - 40_000_000), session(5)
    opened(accounts_table, *alive, old, session(100))
    opened(accounts_table, over, expires_at=START // 1000 - 1)
    for number in range(MOST_REVOKED + 1):
        accounts_table.update(gate.revocation("u1", session(100 + number)))
    clock.wait(1)
    gate.admit("u1", "read", session_id=MINE)
    item = accounts_table.get(gate_key("u1")) or {}
    assert len(item) <= 6
    assert item["kept"] == {*alive, old}
    for dead in (session(100), session(100 + MOST_REVOKED), session(9), over):
        with pytest.raises(Unauthenticated):
            gate.admit("u1", "read", session_id=dead)
    for one in (*alive, old):
        gate.admit("u1", "write" if one == old else "read", session_id=one)
    accounts_table.update(gate.revocation("u1", alive[1]))
    with pytest.raises(Unauthenticated):
        gate.admit("u1", "read", session_id=alive[1])


def test_of_more_living_sessions_than_the_item_holds_the_newest_stay(gate: Gate, accounts_table: Table) -> None:
    alive = [session(n, START - 5000 + n) for n in range(MOST_KEPT + 2)]
    opened(accounts_table, *alive)
    for number in range(MOST_REVOKED + 1):
        accounts_table.update(gate.revocation("u1", session(1000 + number)))
    gate.admit("u1", "read", session_id=alive[-1])
    assert (accounts_table.get(gate_key("u1")) or {})["kept"] == set(alive[2:])


def test_a_living_session_is_spared_however_many_ended_ones_are_newer(gate: Gate, accounts_table: Table) -> None:
    opened(accounts_table, MINE, *(session(n, START - 500) for n in range(2, MOST_KEPT + 3)))
    accounts_table.update(gate.revocation_of_all("u1", keep=MINE))
    for number in range(MOST_REVOKED + 1):
        accounts_table.update(gate.revocation("u1", session(1000 + number)))
    gate.admit("u1", "read", session_id=MINE)
    gate.admit("u1", "read", session_id=MINE)


def test_who_ends_all_sessions_meanwhile_is_not_overruled_by_what_keeps_the_item_small(
    gate: Gate, accounts_table: Table, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(accounts_table, MINE)
    for number in range(MOST_REVOKED + 1):
        accounts_table.update(gate.revocation("u1", session(100 + number)))
    real = Table.query

    def query(self: Table, *arguments: Any, **more: Any) -> Any:
        accounts_table.update(gate.revocation_of_all("u1"))
        return real(self, *arguments, **more)

    monkeypatch.setattr(Table, "query", query)
    gate.admit("u1", "read", session_id=MINE)
    assert not lives(accounts_table, "u1", MINE)


def test_an_address_is_counted_in_one_round_trip_and_kept_as_a_hash(
    accounts_table: Table, derivation: Derivation, clock: StandingClock
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
    accounts_table: Table, derivation: Derivation, clock: StandingClock
) -> None:
    addresses = Addresses(accounts_table, derivation, clock)
    first = addresses.hashed("2001:db8:1:2::1")
    assert addresses.hashed("2001:db8:1:2:ffff::9") == first
    assert addresses.hashed("2001:db8:1:3::1") != first
    assert addresses.hashed("::ffff:192.0.2.7") == addresses.hashed("192.0.2.7")
    assert addresses.hashed("not an address") != first
