"""Refresh families on the emulated table: rotation, repetition, reuse, and what ends a session."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusiontrade.accounts.admission.gate import Gate, LimitReached
from fusiontrade.accounts.admission.limits import Limit
from fusiontrade.accounts.admission.sessions import (
    FAMILY_SECONDS,
    GRACE_SECONDS,
    REFRESH_SECONDS,
    Device,
    Opened,
    Rotated,
    Sessions,
)
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from fusiontrade.errors import NotFound, Unauthenticated
from tests.support.account_parts import TickingClock
from tests.support.round_trips import round_trips

DAY = 86_400_000
PHONE, LAPTOP = Device("phone", "a1"), Device("laptop", "b2")
UNLIMITED = {"refresh": Limit(10**6, 60)}


@pytest.fixture
def clock() -> TickingClock:
    return TickingClock()


@pytest.fixture
def gate(accounts_table: Table, clock: TickingClock) -> Gate:
    return Gate(accounts_table, clock, UNLIMITED)


@pytest.fixture
def sessions(accounts_table: Table, derivation: Derivation, clock: TickingClock, gate: Gate) -> Sessions:
    return Sessions(accounts_table, derivation, clock, gate)


def opened(sessions: Sessions, table: Table, user: str = "u1", device: Device = PHONE) -> Opened:
    new, writes = sessions.writes_to_open(user, device)
    table.transact(*writes)
    return new


def refused(sessions: Sessions, token: str, device: Device = PHONE) -> bool:
    try:
        sessions.rotate(token, device)
    except Unauthenticated:
        return True
    return False


def test_a_rotation_gives_the_next_token_of_the_same_session_in_two_round_trips(
    sessions: Sessions, accounts_table: Table
) -> None:
    first = opened(sessions, accounts_table)
    with round_trips() as sent:
        second = sessions.rotate(first.refresh_token, PHONE)
    assert sent == ["UpdateItem", "UpdateItem"]
    assert (second.user_id, second.session_id) == ("u1", first.session_id)
    assert second.refresh_token != first.refresh_token
    assert second.expires_in == REFRESH_SECONDS
    assert sessions.rotate(second.refresh_token, PHONE).refresh_token not in (first.refresh_token, second.refresh_token)


def test_nothing_that_is_stored_is_a_token(sessions: Sessions, accounts_table: Table) -> None:
    token = opened(sessions, accounts_table).refresh_token
    assert token.rpartition(".")[2] not in repr(accounts_table.scan().items)


def test_the_same_client_repeating_within_the_grace_gets_the_identical_successor(
    sessions: Sessions, accounts_table: Table, clock: TickingClock
) -> None:
    first = opened(sessions, accounts_table)
    second = sessions.rotate(first.refresh_token, PHONE)
    clock.now += GRACE_SECONDS * 1000 - 10
    assert sessions.rotate(first.refresh_token, PHONE).refresh_token == second.refresh_token
    sessions.rotate(second.refresh_token, PHONE)


@pytest.mark.parametrize("how", ["too late", "by another client", "from another address", "after the successor"])
def test_a_token_used_twice_ends_the_session_for_both_who_hold_it(
    sessions: Sessions, accounts_table: Table, gate: Gate, clock: TickingClock, how: str
) -> None:
    first = opened(sessions, accounts_table)
    held = sessions.rotate(first.refresh_token, PHONE).refresh_token
    thief = PHONE
    if how == "too late":
        clock.now += GRACE_SECONDS * 1000
    elif how == "by another client":
        thief = LAPTOP
    elif how == "from another address":
        thief = Device(PHONE.user_agent, LAPTOP.address)
    else:
        held = sessions.rotate(held, PHONE).refresh_token
    assert refused(sessions, first.refresh_token, thief)
    assert refused(sessions, held)
    with pytest.raises(Unauthenticated):
        gate.admit("u1", "read", session_id=first.session_id)
    assert sessions.of_user("u1") == []


def test_reuse_ends_one_session_and_no_other(sessions: Sessions, accounts_table: Table) -> None:
    first, other = opened(sessions, accounts_table), opened(sessions, accounts_table, device=LAPTOP)
    sessions.rotate(first.refresh_token, PHONE)
    assert refused(sessions, first.refresh_token, LAPTOP)
    sessions.rotate(other.refresh_token, LAPTOP)


def test_sixteen_parallel_rotations_of_one_client_all_get_the_same_successor(
    sessions: Sessions, accounts_table: Table
) -> None:
    first = opened(sessions, accounts_table)
    together = threading.Barrier(16)

    def rotate(_: int) -> Rotated:
        together.wait()
        return sessions.rotate(first.refresh_token, PHONE)

    with ThreadPoolExecutor(16) as pool:
        tokens = {rotated.refresh_token for rotated in pool.map(rotate, range(16))}
    assert len(tokens) == 1
    sessions.rotate(tokens.pop(), PHONE)


def test_two_clients_with_one_token_at_once_do_not_both_stay_signed_in(
    sessions: Sessions, accounts_table: Table
) -> None:
    for _ in range(5):
        first = opened(sessions, accounts_table)
        together = threading.Barrier(2)

        def rotate(device: Device, token: str = first.refresh_token, at: threading.Barrier = together) -> str | None:
            at.wait()
            try:
                return sessions.rotate(token, device).refresh_token
            except Unauthenticated:
                return None

        with ThreadPoolExecutor(2) as pool:
            held = list(pool.map(rotate, (PHONE, LAPTOP)))
        assert None in held
        for token, device in zip(held, (PHONE, LAPTOP), strict=True):
            assert token is None or refused(sessions, token, device)


def test_a_token_ends_after_seven_days_and_each_use_gives_seven_more(
    sessions: Sessions, accounts_table: Table, clock: TickingClock
) -> None:
    token = opened(sessions, accounts_table).refresh_token
    for _ in range(4):
        clock.now += 6 * DAY
        token = sessions.rotate(token, PHONE).refresh_token
    clock.now += 7 * DAY
    assert refused(sessions, token)


def test_a_session_ends_after_thirty_days_however_it_is_used(
    sessions: Sessions, accounts_table: Table, clock: TickingClock
) -> None:
    token = opened(sessions, accounts_table).refresh_token
    for _ in range(5):
        clock.now += 5 * DAY
        rotated = sessions.rotate(token, PHONE)
        token = rotated.refresh_token
    assert rotated.expires_in <= FAMILY_SECONDS - 25 * 24 * 3600
    clock.now += 5 * DAY
    assert refused(sessions, token)


def test_a_forged_token_is_refused_without_asking_the_database(
    sessions: Sessions, accounts_table: Table, derivation: Derivation, clock: TickingClock
) -> None:
    token = opened(sessions, accounts_table).refresh_token
    user, session, generation, mac = token.split(".")
    other = Sessions(accounts_table, Derivation(lambda: "another secret that is as long as it has to be"), clock, gate)
    forged = [
        f"u2.{session}.{generation}.{mac}",
        f"{user}.{session}.1.{mac}",
        f"{user}.s{'0' * 32}.{generation}.{mac}",
        f"{user}.{session}.00.{mac}",
        f"{user}.{session}.{generation}.{mac[:-1]}",
        f"{user}.{session}.{generation}.{'A' * 43}",
        other.writes_to_open("u1", PHONE)[0].refresh_token,
        "",
        "....",
        token + "\n",
        token * 100,
    ]
    shuffled = list(token)
    random.Random(1).shuffle(shuffled)
    forged.append("".join(shuffled))
    with round_trips() as sent:
        assert all(refused(sessions, one) for one in forged)
    assert sent == []


def test_the_sessions_of_a_user_are_listed_newest_first_with_their_devices(
    sessions: Sessions, accounts_table: Table, clock: TickingClock
) -> None:
    first = opened(sessions, accounts_table)
    second = opened(sessions, accounts_table, device=LAPTOP)
    opened(sessions, accounts_table, user="u2")
    sessions.rotate(first.refresh_token, PHONE)
    with round_trips() as sent:
        listed = sessions.of_user("u1")
    assert len(sent) == 2
    assert [(one.id, one.user_agent) for one in listed] == [
        (second.session_id, "laptop"),
        (first.session_id, "phone"),
    ]
    assert listed[1].opened_at < listed[0].opened_at < listed[1].used_at
    assert listed[0].expires_at == pytest.approx(listed[0].opened_at + REFRESH_SECONDS * 1000, abs=1000)
    clock.now += 7 * DAY
    assert sessions.of_user("u1") == []


def test_a_closed_session_neither_refreshes_nor_passes_the_gate(
    sessions: Sessions, accounts_table: Table, gate: Gate
) -> None:
    first, other = opened(sessions, accounts_table), opened(sessions, accounts_table)
    sessions.close("u1", first.session_id)
    assert refused(sessions, first.refresh_token)
    with pytest.raises(Unauthenticated):
        gate.admit("u1", "read", session_id=first.session_id)
    assert [one.id for one in sessions.of_user("u1")] == [other.session_id]
    with pytest.raises(NotFound):
        sessions.close("u1", first.session_id)
    accounts_table.transact(*sessions.writes_to_close("u1", first.session_id))


@pytest.mark.parametrize("name", ["", "nonsense", "s" + "0" * 32, "#x", "s" + "g" * 32])
def test_nobody_closes_what_is_not_there(sessions: Sessions, name: str) -> None:
    with pytest.raises(NotFound):
        sessions.close("u1", name)


def test_nobody_closes_the_session_of_somebody_else(sessions: Sessions, accounts_table: Table) -> None:
    theirs = opened(sessions, accounts_table, user="u2")
    with pytest.raises(NotFound):
        sessions.close("u1", theirs.session_id)
    sessions.rotate(theirs.refresh_token, PHONE)


def test_closing_all_takes_one_write_and_ends_every_session_but_the_kept(
    sessions: Sessions, accounts_table: Table
) -> None:
    first, kept, third = (opened(sessions, accounts_table) for _ in range(3))
    writes = sessions.writes_to_close_all("u1", keep=kept.session_id)
    assert len(writes) == 1
    accounts_table.transact(*writes)
    assert refused(sessions, first.refresh_token)
    assert refused(sessions, third.refresh_token)
    sessions.rotate(kept.refresh_token, PHONE)
    later = opened(sessions, accounts_table)
    sessions.rotate(later.refresh_token, PHONE)
    assert [one.id for one in sessions.of_user("u1")] == [later.session_id, kept.session_id]


def test_a_session_opened_beside_a_close_of_all_is_over_or_later(
    sessions: Sessions, accounts_table: Table, clock: TickingClock
) -> None:
    """A sign-in that began before the end of all sessions and was written after it."""
    new, writes = sessions.writes_to_open("u1", PHONE)
    accounts_table.transact(*sessions.writes_to_close_all("u1"))
    accounts_table.transact(*writes)
    assert refused(sessions, new.refresh_token)
    assert sessions.of_user("u1") == []


def test_a_rotation_beside_a_close_leaves_nothing_that_works(sessions: Sessions, accounts_table: Table) -> None:
    for _ in range(8):
        first = opened(sessions, accounts_table)
        together = threading.Barrier(2)

        def rotate(token: str = first.refresh_token, at: threading.Barrier = together) -> str | None:
            at.wait()
            try:
                return sessions.rotate(token, PHONE).refresh_token
            except Unauthenticated:
                return None

        def close(name: str = first.session_id, at: threading.Barrier = together) -> None:
            at.wait()
            sessions.close("u1", name)

        with ThreadPoolExecutor(2) as pool:
            token, _ = pool.submit(rotate), pool.submit(close)
        assert token.result() is None or refused(sessions, str(token.result()))


def test_refreshing_without_end_is_slowed_down(
    accounts_table: Table, derivation: Derivation, clock: TickingClock
) -> None:
    sessions = Sessions(accounts_table, derivation, clock, Gate(accounts_table, clock, {"refresh": Limit(3, 60)}))
    token = opened(sessions, accounts_table).refresh_token
    for left in (2, 1, 0):
        rotated = sessions.rotate(token, PHONE)
        assert rotated.allowance.remaining == left
        token = rotated.refresh_token
    with pytest.raises(LimitReached):
        sessions.rotate(token, PHONE)


def test_a_user_agent_of_any_length_is_kept_short(sessions: Sessions, accounts_table: Table) -> None:
    opened(sessions, accounts_table, device=Device("x" * 5000, "a"))
    assert len(sessions.of_user("u1")[0].user_agent) == 200
