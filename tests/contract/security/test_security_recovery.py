"""Taking an account over by way of its recovery: links, old codes, others' codes, sessions that stay."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fusiontrade.accounts.admission.gate import Gate
from fusiontrade.accounts.credentials.api_keys import ApiKeys
from fusiontrade.clock import system_clock
from fusiontrade.cloud.tables import Table
from fusiontrade.mails.outbound import Mail
from fusiontrade.mails.rendering import Letterhead, render
from fusiontrade.settings import Settings
from tests.contract.conftest import SITE, Function
from tests.contract.security.conftest import NEW, PASSWORD, Client, Inbox
from tests.support import things_app
from tests.support.asgi_client import AsgiClient
from tests.support.http_api import event

ADA = "ada@example.com"


def text_of(mail: Mail) -> str:
    message = render(mail, Letterhead(SITE, "FusionTrade AI <no-reply@example.com>"))
    return "".join(part.get_content() for part in message.walk() if part.get_content_maintype() == "text")


@pytest.mark.parametrize("path", ["/forgot-password", "/resend-verification"])
def test_attacker_cannot_bend_the_link_with_a_host_header(auth: Function, ada: Client, inbox: Inbox, path: str) -> None:
    ada.register("new@example.com")
    inbox.all().clear()
    headers = {
        "Content-Type": "application/json",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "Origin": "https://evil.example",
        "Referer": "https://evil.example/",
    }
    email = ADA if path == "/forgot-password" else "new@example.com"
    sent = event("POST", f"/api/v1/auth{path}", headers=headers, body=f'{{"email": "{email}"}}'.encode())
    sent["headers"]["host"] = sent["requestContext"]["domainName"] = "evil.example"
    from tests.support.http_api import Context

    assert auth.handler(sent, Context())["statusCode"] == 202
    (mail,) = inbox.all()
    text = text_of(mail)
    assert "evil.example" not in text
    assert f"{SITE}/{'reset-password' if path == '/forgot-password' else 'verify-email'}?code={mail.code}" in text


def test_attacker_cannot_use_an_older_reset_mail(ada: Client, stranger: Client, inbox: Inbox) -> None:
    codes = []
    for _ in range(2):
        ada("POST", "/forgot-password", {"email": ADA})
        codes.append(inbox.code("reset", ADA))
    assert stranger("POST", "/reset-password", {"code": codes[0], "new_password": NEW}).status == 422
    assert ada("POST", "/reset-password", {"code": codes[1], "new_password": NEW}).status == 200


def test_attacker_cannot_use_a_spent_code_or_one_for_another_purpose(
    ada: Client, stranger: Client, inbox: Inbox
) -> None:
    stranger.register("new@example.com")
    verification = inbox.code("verification", "new@example.com")
    stranger("POST", "/forgot-password", {"email": ADA})
    reset = inbox.code("reset", ADA)
    refused = [
        stranger("POST", "/reset-password", {"code": verification, "new_password": NEW}),
        stranger("POST", "/verify-email", {"code": reset}),
        stranger("POST", "/verify-email", {"code": inbox.code("verification", ADA)}),
    ]
    assert ada("POST", "/reset-password", {"code": reset, "new_password": NEW}).status == 200
    refused.append(stranger("POST", "/reset-password", {"code": reset, "new_password": PASSWORD}))
    assert [answer.status for answer in refused] == [422] * 4
    assert len({answer.json()["errors"][0]["message"] for answer in refused}) == 1


def test_attacker_cannot_put_the_secret_of_one_user_to_anothers_name(ada: Client, eve: Client, inbox: Inbox) -> None:
    for client, email in ((ada, ADA), (eve, "eve@example.com")):
        client("POST", "/forgot-password", {"email": email})
    hers, own = inbox.code("reset", ADA), inbox.code("reset", "eve@example.com")
    mixed = {"code": hers[:32] + own[32:], "new_password": "chosen by eve, not ada"}
    assert eve("POST", "/reset-password", mixed).status == 422
    assert ada.login().status == 200


def test_thief_with_a_stolen_session_is_out_after_a_reset(ada: Client, stranger: Client, inbox: Inbox) -> None:
    thief = Client(ada.auth, address="198.51.100.66", token=ada.token, cookie=ada.cookie)
    assert thief("GET", "/me").status == 200
    stranger("POST", "/forgot-password", {"email": ADA})
    body = {"code": inbox.code("reset", ADA), "new_password": NEW}
    assert stranger("POST", "/reset-password", body).status == 200
    assert thief("GET", "/me").status == 401
    assert thief.refresh().status == 401
    assert thief.login(ADA, PASSWORD).status == 401
    assert ada.login(ADA, NEW).status == 200
    assert inbox.all()[-1].kind == "new_sign_in" or "password_changed" in [mail.kind for mail in inbox.all()]


def test_thief_with_a_stolen_key_is_out_after_a_reset(
    ada: Client, stranger: Client, inbox: Inbox, auth_settings: Settings
) -> None:
    app = things_app.app_of(auth_settings)
    stolen = [ada("POST", "/api-keys", {"name": name, "scopes": ["predict"]}).json()["key"] for name in "ab"]

    def opens(key: str) -> int:
        return AsgiClient(app).get("/things/program", headers={"X-API-Token": key}).status_code

    body = {"current_password": PASSWORD, "new_password": "a third horse battery"}
    assert ada("POST", "/change-password", body).status == 200
    assert [opens(key) for key in stolen] == [200, 200]  # programs go on when a user changes the password
    stranger("POST", "/forgot-password", {"email": ADA})
    body = {"code": inbox.code("reset", ADA), "new_password": NEW}
    assert stranger("POST", "/reset-password", body).status == 200
    assert [opens(key) for key in stolen] == [401, 401]
    assert ada.login(ADA, NEW).status == 200
    assert ada("GET", "/api-keys").json()["items"] == []
    assert opens(ada("POST", "/api-keys", {"name": "c", "scopes": ["predict"]}).json()["key"]) == 200


def test_thief_whose_request_for_a_key_is_under_way_while_all_sessions_end_gets_none(
    ada: Client, auth_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Table(auth_settings.need("accounts_table"))
    real = ApiKeys.new

    def new(keys: ApiKeys, user_id: str, *more: Any) -> Any:
        accounts.update(Gate(accounts, system_clock).revocation_of_all(user_id, keys=True))  # as a reset does
        time.sleep(0.002)  # instants have a millisecond: the key is younger than the end of all
        return real(keys, user_id, *more)

    with monkeypatch.context() as patched:
        patched.setattr(ApiKeys, "new", new)
        assert ada("POST", "/api-keys", {"name": "thief's", "scopes": ["read"]}).status == 401
    assert ada.login().status == 200
    assert ada("GET", "/api-keys").json()["items"] == []


def test_thief_with_a_stolen_session_is_out_after_a_change_and_its_owner_is_not(ada: Client, inbox: Inbox) -> None:
    thief = Client(ada.auth, address="198.51.100.66", agent="Chrome/128")
    assert thief.login(ADA, PASSWORD).status == 200
    thief("POST", "/forgot-password", {"email": ADA})
    code = inbox.code("reset", ADA)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert ada("POST", "/change-password", body).status == 200
    assert (thief("GET", "/me").status, thief.refresh().status) == (401, 401)
    assert (ada("GET", "/me").status, ada.refresh().status) == (200, 200)
    assert thief("POST", "/reset-password", {"code": code, "new_password": PASSWORD}).status == 422
    assert inbox.all()[-1].kind == "password_changed"


def test_owner_hears_of_a_sign_in_from_a_device_that_was_never_seen(ada: Client, inbox: Inbox) -> None:
    assert ada.login().status == 200
    assert "new_sign_in" not in [mail.kind for mail in inbox.all()]
    assert Client(ada.auth, address="198.51.100.66", agent="Thief <b>1.0</b>").login().status == 200
    mail = inbox.all()[-1]
    assert (mail.kind, mail.to, mail.device) == ("new_sign_in", ADA, "Thief <b>1.0</b>")
    assert "<b>1.0</b>" not in text_of(mail).split("<html", 1)[-1].replace("&lt;b&gt;", "")


def test_attacker_who_registers_somebody_elses_address_gets_no_key_to_keep(stranger: Client, inbox: Inbox) -> None:
    """What was made before the address was proved must not outlive the owner's taking the account back."""
    stranger.register(ADA, "chosen by the attacker")
    assert stranger.login(ADA, "chosen by the attacker").status == 200
    assert stranger("POST", "/api-keys", {"name": "kept", "scopes": ["read"]}).status == 403
    owner = Client(stranger.auth)
    owner("POST", "/forgot-password", {"email": ADA})
    assert owner("POST", "/reset-password", {"code": inbox.code("reset", ADA), "new_password": NEW}).status == 200
    assert (stranger("GET", "/me").status, stranger.refresh().status) == (401, 401)
    assert stranger.login(ADA, "chosen by the attacker").status == 401
    assert owner.login(ADA, NEW).json()["user"]["is_verified"] is True


def test_attacker_who_registers_first_does_not_get_the_account_when_its_owner_registers_too(
    stranger: Client, inbox: Inbox
) -> None:
    """The owner clicks what comes; the attacker waits in a session for the address to be proved."""
    stranger.register(ADA, "chosen by the attacker")
    stranger.login(ADA, "chosen by the attacker")
    owner = Client(stranger.auth)
    owner.register(ADA, NEW)
    assert owner("POST", "/verify-email", {"code": inbox.code("verification", ADA)}).status == 422
    assert stranger.refresh().json()["user"]["is_verified"] is False
    assert stranger("POST", "/api-keys", {"name": "kept", "scopes": ["read"]}).status == 403
    assert owner("POST", "/reset-password", {"code": inbox.code("reset", ADA), "new_password": NEW}).status == 200
    assert owner.login(ADA, NEW).json()["user"]["is_verified"] is True
    assert stranger.refresh().status == 401
