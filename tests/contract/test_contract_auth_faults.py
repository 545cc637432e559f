"""Accounts when things break: processes killed between mail and write, a queue that is gone, callers at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fusiontrade.accounts.by_mail.outbox import LEFT_SECONDS, Outbox
from fusiontrade.accounts.claims import CLAIM_SECONDS
from fusiontrade.accounts.users import Users
from fusiontrade.clock import system_clock
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.cloud.tables import Table
from fusiontrade.mails.outbound import Outbound
from fusiontrade.settings import Settings
from tests.contract.conftest import EMAIL, PASSWORD, Function, function
from tests.support.asgi_client import AsgiClient
from tests.support.http_api import Answer

KEY = "7f0c2a5e-2c5b-4f0e-9a41"
NEW = {"email": "new@example.com", "password": "a long password", "full_name": "New"}


def mails_on(url: str) -> list[dict[str, Any]]:
    """Every mail on the queue, taken off it."""
    sqs, found = client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(json.loads(message["Body"])["body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def post(auth: Function, path: str, body: Any, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return auth("POST", f"/api/v1/auth{path}", json_body=body, headers=sent)


def _serve_and_die(settings: Settings, path: str, body: Any, when: str) -> None:
    """Serve one request, and be killed at the transaction that has its effect."""
    from fusiontrade.cloud.tables import Table

    forget_clients()
    real = Table.transact

    def transact(self: Table, *writes: Any, **more: Any) -> None:
        if when == "after":
            real(self, *writes, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    Table.transact = transact  # type: ignore[method-assign]
    post(function("auth", settings), path, body, Idempotency_Key=KEY)


def killed(settings: Settings, path: str, body: Any, when: str) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_serve_and_die, args=(settings, path, body, when))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL


def later(seconds: float) -> Callable[[], int]:
    return lambda: system_clock() + round(seconds * 1000)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_registration_killed_between_mail_and_write_is_repeated_with_the_same_code(
    auth: Function, users: Users, auth_settings: Settings, mail_queue_url: str, when: str
) -> None:
    killed(auth_settings, "/register", NEW, when)
    (first,) = mails_on(mail_queue_url)
    assert (users.by_email(NEW["email"]) is None) is (when == "before")
    auth.app.state.clock = later(CLAIM_SECONDS + 1)
    assert post(auth, "/register", NEW, Idempotency_Key=KEY).status == 202
    again = mails_on(mail_queue_url)
    assert [mail["code"] for mail in again] == ([first["code"]] if when == "before" else [])
    assert post(auth, "/verify-email", {"code": first["code"]}).status == 200
    assert post(auth, "/login", {"email": NEW["email"], "password": NEW["password"]}).json()["user"]["is_verified"]


def test_a_request_for_a_reset_killed_before_its_write_is_repeated_with_the_same_code(
    auth: Function, auth_settings: Settings, mail_queue_url: str
) -> None:
    killed(auth_settings, "/forgot-password", {"email": EMAIL}, "before")
    auth.app.state.clock = later(CLAIM_SECONDS + 1)
    assert post(auth, "/forgot-password", {"email": EMAIL}, Idempotency_Key=KEY).status == 202
    first, second = mails_on(mail_queue_url)
    assert first["code"] == second["code"]
    body = {"code": second["code"], "new_password": "a new password of mine"}
    assert post(auth, "/reset-password", body).status == 200


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reset_that_is_killed_happened_wholly_or_not_at_all(
    auth: Function, auth_settings: Settings, mail_queue_url: str, when: str
) -> None:
    signed = post(auth, "/login", {"email": EMAIL, "password": PASSWORD}).json()
    post(auth, "/forgot-password", {"email": EMAIL})
    (mail,) = mails_on(mail_queue_url)
    body = {"code": mail["code"], "new_password": "a new password of mine"}
    killed(auth_settings, "/reset-password", body, when)
    happened = when == "after"
    assert (mails_on(mail_queue_url), relayed(auth_settings)) == ([], int(happened))
    assert [told["kind"] for told in mails_on(mail_queue_url)] == ["password_changed"] * happened
    bearer = {"Authorization": f"Bearer {signed['access_token']}"}
    assert auth("GET", "/api/v1/auth/me", headers=bearer).status == (401 if happened else 200)
    for password, works in ((PASSWORD, not happened), (body["new_password"], happened)):
        assert post(auth, "/login", {"email": EMAIL, "password": password}).status == (200 if works else 401)
    assert post(auth, "/reset-password", body).status == (422 if happened else 200)
    auth.app.state.clock = later(CLAIM_SECONDS + 1)
    again = post(auth, "/reset-password", body, Idempotency_Key=KEY)
    assert (again.status, again.headers.get("idempotent-replayed")) == ((200, "true") if happened else (422, None))


def relayed(settings: Settings) -> int:
    """Do what the schedule does a while later; return how many mails it sent."""
    outbound = Outbound(Queue(settings.need("mail_queue_url")))
    return Outbox(Table(settings.need("accounts_table")), outbound, later(LEFT_SECONDS + 1)).relay()


@pytest.mark.parametrize("path", ["/register", "/api-keys"])
def test_five_requests_with_one_key_at_once_have_one_effect(
    auth: Function, auth_settings: Settings, mail_queue_url: str, path: str
) -> None:
    token = post(auth, "/login", {"email": EMAIL, "password": PASSWORD}).json()["access_token"]
    headers = {"Idempotency-Key": KEY, "Authorization": f"Bearer {token}"}
    body = NEW if path == "/register" else {"name": "bot", "scopes": ["read"]}

    def send(_: int) -> Any:
        return AsgiClient(auth.app).post(f"/api/v1/auth{path}", json=body, headers=headers)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(send, range(5)))
    fine = [answer for answer in answers if answer.status_code in (201, 202)]
    assert {answer.status_code for answer in answers} <= {201, 202, 409}
    assert len({answer.text for answer in fine}) == 1
    again = AsgiClient(auth.app).post(f"/api/v1/auth{path}", json=body, headers=headers)
    assert again.text == fine[0].text
    if path == "/register":
        assert len(mails_on(mail_queue_url)) == 1
    else:
        listed = AsgiClient(auth.app).get("/api/v1/auth/api-keys", headers=headers).json()["items"]
        assert [key["id"] for key in listed] == [fine[0].json()["id"]]
    other = AsgiClient(auth.app).post(f"/api/v1/auth{path}", json={**body, "name": "x"}, headers=headers)
    assert other.status_code == 422


def test_a_change_of_password_that_is_repeated_gets_its_first_answer(auth: Function, mail_queue_url: str) -> None:
    signed = post(auth, "/login", {"email": EMAIL, "password": PASSWORD}).json()
    bearer = {"Authorization": f"Bearer {signed['access_token']}"}
    body = {"current_password": PASSWORD, "new_password": "a new password of mine"}
    first, again = (post(auth, "/change-password", body, Idempotency_Key=KEY, **bearer) for _ in range(2))
    assert (first.status, again.status, again.text) == (200, 200, first.text)
    assert [mail["kind"] for mail in mails_on(mail_queue_url)] == ["password_changed"]
    other = {**body, "new_password": "yet another password"}
    assert post(auth, "/change-password", other, Idempotency_Key=KEY, **bearer).status == 422


def test_without_the_mail_queue_users_sign_in_and_change_passwords_and_are_told_later(
    auth: Function, auth_settings: Settings, mail_queue_url: str
) -> None:
    login = {"email": EMAIL, "password": PASSWORD}
    assert post(auth, "/login", login).status == 200
    client("sqs").delete_queue(QueueUrl=mail_queue_url)
    answer = auth("POST", "/api/v1/auth/login", json_body=login, address="203.0.113.99")
    assert answer.status == 200
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    body = {"current_password": PASSWORD, "new_password": "a new password of mine"}
    assert auth("POST", "/api/v1/auth/change-password", json_body=body, headers=bearer).status == 200
    assert post(auth, "/forgot-password", {"email": EMAIL}).status == 503
    assert post(auth, "/login", {**login, "password": body["new_password"]}).status == 200
    name = mail_queue_url.rpartition("/")[2]
    back = auth_settings.model_copy(update={"mail_queue_url": client("sqs").create_queue(QueueName=name)["QueueUrl"]})
    assert relayed(back) == 2
    assert [mail["kind"] for mail in mails_on(back.need("mail_queue_url"))] == ["new_sign_in", "password_changed"]
