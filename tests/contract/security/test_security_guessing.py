"""Guessing passwords and codes: how often, from where, and whether guessing locks the owner out."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from fusiontrade.accounts.by_mail.mailings import MOST_MAILS
from fusiontrade.accounts.credentials.attempts import FREE_ATTEMPTS
from fusiontrade.accounts.credentials.codes import MOST_TRIES
from fusiontrade.cloud.tables import Table, Update
from fusiontrade.settings import Settings
from tests.contract.conftest import Function
from tests.contract.security.conftest import NEW, PASSWORD, Client, Inbox


def at_once(app: Any, path: str, bodies: list[dict[str, str]]) -> list[int]:
    """Send all ``bodies`` in parallel; return the statuses."""

    async def send() -> list[int]:
        transport = httpx.ASGITransport(app, client=("192.0.2.77", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://api.example.com") as client:
            calls = (client.post(f"/api/v1/auth{path}", json=body) for body in bodies)
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    return asyncio.run(send())


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
@pytest.mark.usefixtures("ada")
def test_attacker_cannot_pass_the_limit_with_fifty_guesses_at_once(auth: Function, email: str) -> None:
    guesses = [{"email": email, "password": f"guess number {n}"} for n in range(50)]
    statuses = at_once(auth.app, "/login", guesses)
    assert (statuses.count(401), statuses.count(429)) == (FREE_ATTEMPTS, 50 - FREE_ATTEMPTS)


def test_attacker_who_guesses_keeps_no_device_out_that_signed_in_before(
    ada: Client, stranger: Client, inbox: Inbox
) -> None:
    statuses = [stranger.login("ada@example.com", "a wrong password").status for _ in range(FREE_ATTEMPTS + 2)]
    assert statuses == [401] * FREE_ATTEMPTS + [429] * 2
    ada.cookie = ""  # a device is known without a session, too
    assert ada.login().status == 200
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert ada("POST", "/change-password", body).status == 200
    assert stranger.login("ada@example.com", "a wrong password").status == 429
    for _ in range(MOST_MAILS + 1):
        stranger("POST", "/forgot-password", {"email": "ada@example.com"})
    inbox.all().clear()
    assert ada("POST", "/forgot-password", {"email": "ada@example.com"}).status == 202
    assert [mail.kind for mail in inbox.all()] == ["reset"]


def test_attacker_gains_no_more_guesses_by_forging_or_carrying_over_a_device(
    ada: Client, stranger: Client, eve: Client
) -> None:
    name, _, token = ada.device.partition("=")
    device, end, mac = token.split(".")
    forged = ["", "x", f"{'0' * 32}.{end}.{mac}", f"{device}.{int(end) + 1}.{mac}", eve.device.partition("=")[2]]
    statuses = []
    for n in range(FREE_ATTEMPTS + 3):
        stranger.device = f"{name}={forged[n % len(forged)]}"
        statuses.append(stranger.login("ada@example.com", "a wrong password").status)
    assert statuses == [401] * FREE_ATTEMPTS + [429] * 3


def test_thief_of_a_known_device_is_slowed_down_like_everybody(ada: Client) -> None:
    statuses = [ada.login("ada@example.com", "a wrong password").status for _ in range(FREE_ATTEMPTS + 2)]
    assert statuses == [401] * FREE_ATTEMPTS + [429] * 2


def test_attacker_cannot_lock_the_owner_out_for_good(ada: Client, stranger: Client, auth_settings: Settings) -> None:
    statuses = [stranger.login("ada@example.com", "a wrong password").status for _ in range(FREE_ATTEMPTS + 2)]
    assert statuses == [401] * FREE_ATTEMPTS + [429] * 2
    phone = Client(ada.auth, address="203.0.113.5", agent="Safari/18")  # which nobody knows yet
    refused = phone.login()
    assert refused.status == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 300
    assert ada("GET", "/me").status == 200  # who is signed in stays so
    accounts = Table(auth_settings.need("accounts_table"))
    entry = accounts.get({"pk": "EMAIL#ada@example.com", "sk": "EMAIL"}) or {}
    waited = {"attempted_at": int(entry["attempted_at"]) - 300_000}
    accounts.update(Update({"pk": "EMAIL#ada@example.com", "sk": "EMAIL"}, assign=waited))
    assert phone.login().status == 200
    assert stranger.login("ada@example.com", "a wrong password").status == 401  # counted from the beginning again


def test_attacker_who_spreads_guesses_over_accounts_is_slowed_by_the_address_they_come_from(
    stranger: Client, ada: Client
) -> None:
    statuses = [stranger.login(f"user{n}@example.com", "Summer2026!").status for n in range(105)]
    assert statuses[:100] == [401] * 100
    assert statuses.count(429) >= 3
    assert ada.login().status == 200


def test_attacker_cannot_spoof_the_address_that_is_counted(stranger: Client) -> None:
    answers = [
        stranger(
            "POST",
            "/login",
            {"email": f"user{n}@example.com", "password": "Summer2026!"},
            X_Forwarded_For=f"10.0.0.{n}",
            Forwarded=f"for=10.0.0.{n}",
            X_Real_IP=f"10.0.0.{n}",
        )
        for n in range(3)
    ]
    left = [int(answer.headers["ratelimit"].split("r=")[1].split(";")[0]) for answer in answers]
    assert left == [left[0], left[0] - 1, left[0] - 2]


def test_attacker_cannot_try_a_code_again_and_again(ada: Client, stranger: Client, inbox: Inbox) -> None:
    ada("POST", "/forgot-password", {"email": "ada@example.com"})
    code = inbox.code("reset", "ada@example.com")
    for n in range(MOST_TRIES):
        wrong = {"code": code[:32] + f"{n:032d}", "new_password": NEW}
        assert stranger("POST", "/reset-password", wrong).status == 422
    assert stranger("POST", "/reset-password", {"code": code, "new_password": NEW}).status == 422
    assert ada.login().status == 200


def test_attacker_cannot_redeem_a_code_twice_at_once(ada: Client, auth: Function, inbox: Inbox) -> None:
    ada("POST", "/forgot-password", {"email": "ada@example.com"})
    code = inbox.code("reset", "ada@example.com")
    bodies = [{"code": code, "new_password": f"{NEW} {n}"} for n in range(6)]
    statuses = at_once(auth.app, "/reset-password", bodies)
    assert (statuses.count(200), statuses.count(422)) == (1, 5)
    ada.register("new@example.com")
    verification = {"code": inbox.code("verification", "new@example.com")}
    assert sorted(at_once(auth.app, "/verify-email", [verification] * 6)) == [200] + [422] * 5


def test_attacker_cannot_flood_a_mailbox(stranger: Client, inbox: Inbox, ada: Client) -> None:
    inbox.all().clear()
    clients = [Client(stranger.auth, address=f"198.51.100.{n}") for n in range(MOST_MAILS + 3)]
    statuses = {client("POST", "/forgot-password", {"email": "ada@example.com"}).status for client in clients}
    assert statuses == {202}
    kinds = [mail.kind for mail in inbox.all()]
    assert (kinds.count("reset"), kinds.count("nobody")) == (MOST_MAILS, 3)
    last = {"code": inbox.code("reset", "ada@example.com"), "new_password": NEW}
    assert ada("POST", "/reset-password", last).status == 200


def test_attacker_cannot_register_accounts_without_end(stranger: Client) -> None:
    statuses = [stranger.register(f"user{n}@example.com").status for n in range(22)]
    assert statuses == [202] * 20 + [429] * 2


def test_five_equal_requests_at_once_make_one_account_and_one_code_works(
    auth: Function, stranger: Client, inbox: Inbox
) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD, "full_name": "Ada"}
    statuses = at_once(auth.app, "/register", [body] * 5)
    assert set(statuses) <= {202, 409}
    codes = {mail.code for mail in inbox.all() if mail.kind == "verification"}
    worked = [stranger("POST", "/verify-email", {"code": code}).status for code in codes]
    assert worked.count(200) == 1
    assert stranger.login().status == 200
