"""Doing more than one may: without a verified address, with a key, with a token of another tier, with hostile names."""

from __future__ import annotations

import pytest

from fusiontrade.mails.rendering import Letterhead, render
from fusiontrade.settings import Settings
from tests.contract.conftest import SITE, function
from tests.contract.security.conftest import PASSWORD, Client, Inbox

FORECAST = "/api/v1/fusion/EURUSD=X"


def test_unverified_user_reaches_the_own_account_and_nothing_else(
    stranger: Client, inbox: Inbox, auth_settings: Settings
) -> None:
    stranger.register()
    assert stranger.login().status == 200
    own = ("/me", "/sessions", "/api-keys")
    assert [stranger("GET", path).status for path in own] == [200, 200, 200]
    fusion = function("fusion", auth_settings)
    refused = fusion("GET", FORECAST, headers={"Authorization": f"Bearer {stranger.token}"})
    assert (refused.status, refused.json()["type"]) == (403, "/problems/forbidden")
    assert "verify your e-mail address" in refused.json()["detail"]
    assert stranger("POST", "/verify-email", {"code": inbox.code("verification", "ada@example.com")}).status == 200
    assert stranger.refresh().json()["user"]["is_verified"] is True


def test_token_of_an_ended_session_is_refused_by_every_function(ada: Client, auth_settings: Settings) -> None:
    fusion = function("fusion", auth_settings)
    assert ada("POST", "/logout").status == 200
    assert fusion("GET", FORECAST, headers={"Authorization": f"Bearer {ada.token}"}).status == 401


def test_key_for_a_program_does_not_open_the_account_it_belongs_to(ada: Client) -> None:
    key = ada("POST", "/api-keys", {"name": "bot", "scopes": ["predict", "read"]}).json()["key"]
    program = Client(ada.auth)
    for headers in ({"X_API_Token": key}, {"Authorization": f"Bearer {key}"}):
        for method, path in (("GET", "/me"), ("GET", "/sessions"), ("GET", "/api-keys"), ("POST", "/logout")):
            assert program(method, path, {} if method == "POST" else None, **headers).status == 401
        body = {"current_password": PASSWORD, "new_password": "set by a stolen key"}
        assert program("POST", "/change-password", body, **headers).status == 401
    assert ada.login().status == 200


@pytest.mark.parametrize("scopes", [[], ["admin"], ["read", "write"], "read", ["read", "read", "read"]])
def test_nobody_gets_a_key_for_more_than_there_is(ada: Client, scopes: object) -> None:
    assert ada("POST", "/api-keys", {"name": "bot", "scopes": scopes}).status == 422
    assert ada("GET", "/api-keys").json()["items"] == []


def test_nobody_promotes_or_verifies_themselves_with_fields_that_are_not_theirs(stranger: Client) -> None:
    rights = {"subscription_tier": "admin", "is_verified": True, "tier": "admin", "id": "0" * 32, "email": "x@y.zz"}
    body = {**rights, "email": "ada@example.com", "password": PASSWORD, "full_name": "Ada"}
    assert stranger("POST", "/register", body).status == 202
    assert stranger.login().status == 200
    assert stranger("PUT", "/me", {"full_name": "Ada King", **rights}).status == 200
    me = stranger("GET", "/me").json()
    assert (me["full_name"], me["email"]) == ("Ada King", "ada@example.com")
    assert (me["subscription_tier"], me["is_verified"]) == ("free", False)
    assert me["id"] != "0" * 32


HOSTILE = ["<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", '"><script>alert(1)</script>', "Ada & Bob", "=cmd|'/c x'!A1"]


@pytest.mark.parametrize("name", HOSTILE)
def test_name_of_an_attacker_stays_text_in_mails(stranger: Client, inbox: Inbox, name: str) -> None:
    assert stranger.register("ada@example.com", PASSWORD, name).status == 202
    (mail,) = inbox.all()
    message = render(mail, Letterhead(SITE, "FusionTrade AI <no-reply@example.com>"))
    (html,) = [part.get_content() for part in message.walk() if part.get_content_type() == "text/html"]
    assert "<img src=x" not in html
    assert "<script>" not in html
    assert "49" not in message["Subject"] + message["To"]


@pytest.mark.parametrize("name", ["Ada\r\nBcc: everybody@example.com", "Ada\nX-Evil: 1", "Ada\x00", "Ada\u2028Bcc: x"])
def test_name_of_an_attacker_never_becomes_a_header(stranger: Client, inbox: Inbox, name: str) -> None:
    assert stranger.register("ada@example.com", PASSWORD, name).status == 422
    assert inbox.all() == []
