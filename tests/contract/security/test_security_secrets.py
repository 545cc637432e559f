"""Looking for secrets where they should not be: in answers, in the table, on the log."""

from __future__ import annotations

import logging

import pytest

from fusiontrade.cloud.encryption import Encryption
from fusiontrade.cloud.session import client
from fusiontrade.settings import Settings
from tests.contract.conftest import Function
from tests.contract.security.conftest import NEW, PASSWORD, Client, Inbox

HF_TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"


def a_life(ada: Client, inbox: Inbox) -> dict[str, str]:
    """Everything that an account can do; returns every secret that came up."""
    secrets = {"password": PASSWORD, "new password": NEW, "hf token": HF_TOKEN, "wrong": "a wrong password here"}
    secrets["first token"], secrets["first cookie"] = ada.token, ada.cookie.partition("=")[2]
    assert ada("PUT", "/me", {"hf_token": HF_TOKEN, "full_name": "Ada King", "segment": "quant"}).status == 200
    secrets["api key"] = ada("POST", "/api-keys", {"name": "bot", "scopes": ["predict", "read"]}).json()["key"]
    assert ada.refresh().status == 200
    secrets["second token"], secrets["second cookie"] = ada.token, ada.cookie.partition("=")[2]
    ada.login("ada@example.com", secrets["wrong"])
    ada("POST", "/forgot-password", {"email": "ada@example.com"})
    secrets["reset code"] = inbox.code("reset", "ada@example.com")
    secrets["verification code"] = inbox.code("verification", "ada@example.com")
    ada("POST", "/verify-email", {"code": secrets["verification code"]})
    body = {"code": secrets["reset code"], "new_password": NEW}
    assert ada("POST", "/reset-password", body, Idempotency_Key="a-key-of-mine").status == 200
    assert ada.login("ada@example.com", NEW).status == 200
    secrets["third token"], secrets["third cookie"] = ada.token, ada.cookie.partition("=")[2]
    ada("POST", "/api-keys", {"name": "bot", "scopes": ["nonsense"]})
    assert ada("POST", "/logout").status == 200
    return secrets


def test_reader_of_the_log_finds_no_secret(ada: Client, inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fusiontrade")
    secrets = a_life(ada, inbox)
    log = "\n".join(repr(vars(record)) for record in caplog.records)
    assert log.count("'path': '/api/v1/auth/") >= 10
    assert {name: secret for name, secret in secrets.items() if secret in log or secret[-24:] in log} == {}
    assert "ada@example.com" not in log


def test_reader_of_the_table_finds_no_secret(ada: Client, inbox: Inbox, auth_settings: Settings) -> None:
    secrets = a_life(ada, inbox)
    ada.login("ada@example.com", NEW)
    ada("POST", "/api-keys", {"name": "bot", "scopes": ["read"]}, Idempotency_Key="a-key-of-mine")
    stored = repr(client("dynamodb").scan(TableName=auth_settings.need("accounts_table"))["Items"])
    assert {name: secret for name, secret in secrets.items() if secret in stored or secret[-24:] in stored} == {}
    assert "a-key-of-mine" not in stored
    assert "192.0.2.1" not in stored  # addresses are kept as hashes


def test_hf_token_is_encrypted_for_its_user_and_never_given_back(
    ada: Client, eve: Client, auth_settings: Settings
) -> None:
    answer = ada("PUT", "/me", {"hf_token": HF_TOKEN})
    assert (answer.status, answer.json()["has_hf_token"]) == (200, True)
    me = ada("GET", "/me")
    assert HF_TOKEN not in answer.text + me.text
    assert me.json() == answer.json()
    items = client("dynamodb").scan(TableName=auth_settings.need("accounts_table"))["Items"]
    (sealed,) = [item["hf_token"]["S"] for item in items if "hf_token" in item]
    key = Encryption(auth_settings.need("accounts_key_arn"))
    assert key.decrypt(sealed, user_id=me.json()["id"], purpose="hf_token") == HF_TOKEN
    with pytest.raises(Exception, match="not encrypted for this user"):
        key.decrypt(sealed, user_id=eve("GET", "/me").json()["id"], purpose="hf_token")
    assert ada("PUT", "/me", {"segment": "investor"}).json()["has_hf_token"] is True
    assert ada("PUT", "/me", {"hf_token": None}).json()["has_hf_token"] is False


def test_api_key_is_shown_once(ada: Client) -> None:
    made = ada("POST", "/api-keys", {"name": "my bot", "scopes": ["read", "predict"]})
    assert made.status == 201
    shown = made.json()
    assert shown["key"].startswith("ft_")
    (listed,) = ada("GET", "/api-keys").json()["items"]
    assert listed == {name: value for name, value in shown.items() if name != "key"}
    assert (listed["name"], listed["scopes"], listed["last_used_at"]) == ("my bot", ["predict", "read"], None)
    assert ada("DELETE", f"/api-keys/{shown['id']}").status == 204
    assert ada("GET", "/api-keys").json()["items"] == []
    assert ada("DELETE", f"/api-keys/{shown['id']}").status == 404


def test_request_that_is_repeated_shows_the_same_key_and_makes_one(ada: Client) -> None:
    body = {"name": "bot", "scopes": ["read"]}
    first = ada("POST", "/api-keys", body, Idempotency_Key="7f0c2a5e-2c5b-4f0e")
    again = ada("POST", "/api-keys", body, Idempotency_Key="7f0c2a5e-2c5b-4f0e")
    assert (first.status, again.status, again.text) == (201, 201, first.text)
    other = ada("POST", "/api-keys", {**body, "name": "other"}, Idempotency_Key="7f0c2a5e-2c5b-4f0e")
    assert other.status == 422
    assert len(ada("GET", "/api-keys").json()["items"]) == 1


def test_registration_that_is_repeated_sends_one_mail(stranger: Client, inbox: Inbox) -> None:
    body = {"email": "new@example.com", "password": PASSWORD, "full_name": "New"}
    answers = [stranger("POST", "/register", body, Idempotency_Key="7f0c2a5e-2c5b-4f0e") for _ in range(3)]
    assert [(answer.status, answer.text) for answer in answers] == [(202, answers[0].text)] * 3
    assert [mail.kind for mail in inbox.all()] == ["verification"]


def test_no_error_tells_what_the_insides_are_called(auth: Function, ada: Client) -> None:
    bad = [
        auth("POST", "/api/v1/auth/register", json_body={"email": "x", "password": [], "full_name": None}),
        ada("DELETE", "/sessions/..%2f..%2fsecret"),
        ada("PUT", "/me", {"segment": "hacker", "hf_token": "short"}),
        auth("POST", "/api/v1/auth/login", body=b"{", headers={"Content-Type": "application/json"}),
    ]
    for answer in bad:
        assert 400 <= answer.status < 500
        for inside in ("Traceback", "dynamodb", "pydantic", "boto", "Accounts-", "arn:aws"):
            assert inside not in answer.text
