"""Signing in, over HTTP API events and the emulated cloud."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from fusiontrade.accounts.admission.limits import Limit
from fusiontrade.accounts.admission.tokens import Identity, SigningKeys, Tokens
from fusiontrade.accounts.credentials.attempts import FREE_ATTEMPTS
from fusiontrade.accounts.users import Users
from fusiontrade.clock import system_clock
from fusiontrade.settings import Settings
from tests.support.account_parts import round_trips
from tests.support.http_api import Answer

Call = Any
RIGHT = {"email": "devtest@fusiontrade.ai", "password": "DevTest123!"}


def login(auth: Call, **changed: str) -> Answer:
    return auth("POST", "/api/v1/auth/login", json_body={**RIGHT, **changed})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_demo_user_signs_in_and_sees_the_account(auth: Call) -> None:
    answer = login(auth)
    assert answer.status == 200
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "user"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", 1800)
    user = body["user"]
    assert set(user) == {"id", "email", "full_name", "is_verified", "subscription_tier", "segment", "created_at"}
    assert (user["email"], user["is_verified"], user["subscription_tier"]) == ("devtest@fusiontrade.ai", True, "pro")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", user["created_at"])
    me = auth("GET", "/api/v1/auth/me", headers=bearer(body["access_token"]))
    assert (me.status, me.json()) == (200, {**user, "has_hf_token": False})


def test_the_address_may_be_written_in_any_case_and_with_spaces(auth: Call) -> None:
    assert login(auth, email="  DevTest@FusionTrade.AI ").status == 200
    assert login(auth, email="devtest@fusiontrade\u3002ai.").status == 200


def test_both_paths_answer_with_a_trailing_slash(auth: Call) -> None:
    answer = auth("POST", "/api/v1/auth/login/", json_body=RIGHT)
    assert answer.status == 200
    assert auth("GET", "/api/v1/auth/me/", headers=bearer(answer.json()["access_token"])).status == 200


def test_unknown_address_and_wrong_password_get_the_same_answer(auth: Call) -> None:
    wrong, unknown = login(auth, password="not the password"), login(auth, email="nobody@fusiontrade.ai")
    assert wrong.status == unknown.status == 401
    assert {**wrong.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    varying = {"x-request-id", "ratelimit"}
    assert {k: v for k, v in wrong.headers.items() if k not in varying} == {
        k: v for k, v in unknown.headers.items() if k not in varying
    }
    assert wrong.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("email", ["devtest@fusiontrade.ai", "nobody@fusiontrade.ai"])
def test_repeated_failures_slow_an_address_down_whether_it_is_known_or_not(auth: Call, email: str) -> None:
    statuses = [login(auth, email=email, password="wrong password").status for _ in range(FREE_ATTEMPTS)]
    refused = login(auth, email=email, password="wrong password")
    assert statuses == [401] * FREE_ATTEMPTS
    assert refused.status == 429
    assert refused.json()["type"] == "/problems/too-many-requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"email": "devtest@fusiontrade.ai"}, "/body/password"),
        ({"password": "DevTest123!"}, "/body/email"),
        ({"email": "not an address", "password": "DevTest123!"}, "/body/email"),
        ({"email": "devtest@fusiontrade.ai", "password": ""}, "/body/password"),
        ({"email": "devtest@fusiontrade.ai", "password": "x" * 129}, "/body/password"),
        ({"email": "x" * 300 + "@fusiontrade.ai", "password": "DevTest123!"}, "/body/email"),
        ({"email": "\N{MUSICAL SYMBOL EIGHTH NOTE}" * 252 + "@x", "password": "DevTest123!"}, "/body/email"),
        ({"email": "devtest@☃.net", "password": "DevTest123!"}, "/body/email"),
        ({"email": ["devtest@fusiontrade.ai"], "password": "DevTest123!"}, "/body/email"),
    ],
)
def test_an_unusable_sign_in_names_the_field_and_never_quotes_it(
    auth: Call, body: dict[str, Any], pointer: str
) -> None:
    answer = auth("POST", "/api/v1/auth/login", json_body=body)
    assert answer.status == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert "DevTest123!" not in answer.text


def test_a_password_of_a_megabyte_is_refused_without_hashing(auth: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    import argon2

    monkeypatch.setattr(argon2.PasswordHasher, "verify", lambda *_: pytest.fail("it was hashed"))
    assert login(auth, password="x" * 1_000_000).status == 422
    assert login(auth, password="x" * 2_000_000).status == 413


def test_credentials_in_a_form_are_refused(auth: Call) -> None:
    answer = auth(
        "POST",
        "/api/v1/auth/login",
        body=b"email=devtest%40fusiontrade.ai&password=DevTest123!",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (answer.status, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Basic ZGV2OnRlc3Q="},
        {"Authorization": "token"},
    ],
    ids=["none", "empty", "nonsense", "basic", "no-scheme"],
)
def test_without_a_valid_bearer_token_there_is_no_account_to_see(auth: Call, headers: dict[str, str]) -> None:
    answer = auth("GET", "/api/v1/auth/me", headers=headers)
    assert (answer.status, answer.json()["type"]) == (401, "/problems/unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("change", [{"issuer": "https://evil"}, {"audience": "other"}, {"seconds": -1}])
def test_a_token_of_our_own_key_for_another_issuer_audience_or_time_is_refused(
    auth: Call, signing_keys: SigningKeys, auth_settings: Settings, change: dict[str, Any]
) -> None:
    options = {"issuer": auth_settings.token_issuer, "audience": auth_settings.token_audience, "seconds": 60, **change}
    token = Tokens(lambda: signing_keys, clock=system_clock, **options).issue(Identity("u", "e@x", "admin", "s", True))
    assert auth("GET", "/api/v1/auth/me", headers=bearer(token.text)).status == 401


def test_a_token_of_a_user_who_is_no_more_is_refused(
    auth: Call, signing_keys: SigningKeys, auth_settings: Settings
) -> None:
    tokens = Tokens(
        lambda: signing_keys,
        issuer=auth_settings.token_issuer,
        audience=auth_settings.token_audience,
        seconds=60,
        clock=system_clock,
    )
    token = tokens.issue(Identity("gone", "gone@example.com", "pro", "s", True))
    assert auth("GET", "/api/v1/auth/me", headers=bearer(token.text)).status == 401


def test_the_published_keys_verify_the_token_and_hold_nothing_private(auth: Call) -> None:
    answer = auth("GET", "/.well-known/jwks.json")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "public, max-age=300"
    published = answer.json()
    assert all("d" not in key for key in published["keys"])
    token = login(auth).json()["access_token"]
    claims = jwt.decode(token, KeySet.import_key_set(published), algorithms=["ES256"]).claims
    assert claims["exp"] - claims["iat"] == 1800
    assert {"iss", "aud", "sub", "jti", "tier"} <= set(claims)


def test_answers_with_a_token_are_stored_by_nobody(auth: Call) -> None:
    assert login(auth).headers["cache-control"] == "no-store"


def test_an_unverified_user_may_sign_in(auth: Call, users: Users) -> None:
    users.create("new@example.com", "a long password", "New")
    answer = login(auth, email="new@example.com", password="a long password")
    assert (answer.status, answer.json()["user"]["is_verified"]) == (200, False)


def test_a_database_that_does_not_answer_is_a_503_with_a_time_to_return(
    auth: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiontrade.cloud.session import forget_clients
    from tests.support.emulator import free_port

    token = login(auth).json()["access_token"]
    with monkeypatch.context() as broken:
        broken.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        forget_clients()
        answers = [login(auth), auth("GET", "/api/v1/auth/me", headers=bearer(token))]
    forget_clients()
    for answer in answers:
        assert (answer.status, answer.json()["type"]) == (503, "/problems/state-unavailable")
        assert answer.headers["retry-after"] == "5"
        assert "Accounts" not in answer.text
    assert login(auth).status == 200


@pytest.mark.parametrize(
    "secret", [{"SecretString": "not keys"}, {"SecretString": '{"current": "k", "keys": []}'}, {"SecretBinary": b"k"}]
)
def test_signing_keys_that_cannot_be_used_are_a_503_and_never_a_401(auth: Call, secret: dict[str, Any]) -> None:
    from fusiontrade.cloud.session import client
    from tests.contract.conftest import function

    token = login(auth).json()["access_token"]
    arn = client("secretsmanager").create_secret(Name=f"keys-{uuid4().hex}", **secret)["ARN"]
    broken = function("auth", auth.app.state.settings.model_copy(update={"signing_keys_secret_arn": arn}))
    answers = [
        login(broken),
        broken("GET", "/api/v1/auth/me", headers=bearer(token)),
        broken("GET", "/.well-known/jwks.json"),
    ]
    for answer in answers:
        assert (answer.status, answer.json()["type"]) == (503, "/problems/state-unavailable")
        assert "keys" not in answer.json()["detail"]


def test_a_function_without_its_table_says_nothing_of_it_to_the_caller(signing_keys_arn: str) -> None:
    from tests.contract.conftest import function

    bare = function("auth", Settings.from_environment({"STAGE": "local"}))
    answer = login(bare)
    assert (answer.status, answer.json()["type"]) == (500, "/problems/unexpected")
    assert "ACCOUNTS_TABLE" not in answer.text


def test_signing_in_takes_three_round_trips_of_the_database_and_an_answer_about_oneself_two(auth: Call) -> None:
    login(auth)  # secrets are cached from here on
    answers: list[Answer] = []
    assert round_trips(lambda: answers.append(login(auth))) == 3
    (signed,) = answers
    token = bearer(signed.json()["access_token"])
    assert round_trips(lambda: auth("GET", "/api/v1/auth/me", headers=token)) == 2
    cookie = signed.cookies[0].partition(";")[0]
    headers = {"Cookie": cookie, "Content-Type": "application/json"}
    assert round_trips(lambda: auth("POST", "/api/v1/auth/refresh", headers=headers)) == 3
    for email in ("devtest@fusiontrade.ai", "nobody@fusiontrade.ai"):
        assert round_trips(lambda: login(auth, email=email, password="wrong password")) == 3  # noqa: B023


def test_every_answer_of_an_account_says_how_many_requests_are_left(auth: Call) -> None:
    signed = login(auth)
    assert re.fullmatch(r'"sign_in";r=\d+;t=\d+', signed.headers["ratelimit"])
    assert signed.headers["ratelimit-policy"] == '"sign_in";q=100;w=900'
    me = auth("GET", "/api/v1/auth/me", headers=bearer(signed.json()["access_token"]))
    assert re.fullmatch(r'"auth";r=\d+;t=\d+', me.headers["ratelimit"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"full_name": ""}, "/body/full_name"),
        ({"full_name": "   "}, "/body/full_name"),
        ({"full_name": None}, "/body/full_name"),
        ({"full_name": "two\nlines"}, "/body/full_name"),
        ({"full_name": "x" * 101}, "/body/full_name"),
        ({"segment": "gambler"}, "/body/segment"),
        ({"hf_token": "has spaces in it"}, "/body/hf_token"),
        ({"hf_token": ""}, "/body/hf_token"),
    ],
)
def test_a_change_of_the_account_that_cannot_be_made_names_the_field(
    auth: Call, body: dict[str, Any], pointer: str
) -> None:
    token = bearer(login(auth).json()["access_token"])
    before = auth("GET", "/api/v1/auth/me", headers=token).json()
    answer = auth("PUT", "/api/v1/auth/me", json_body=body, headers=token)
    assert answer.status == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert auth("GET", "/api/v1/auth/me", headers=token).json() == before


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"email": ', ("/body", "this is no JSON: Expecting value at character 10")),
        (
            b"{'email': 1}",
            ("/body", "this is no JSON: Expecting property name enclosed in double quotes at character 1"),
        ),
        (
            b'{"email": "no-at", "password": "a long password", "full_name": "New"}',
            ("/body/email", "this is no e-mail address: write one like ada@example.com"),
        ),
        (
            b'{"email": "ada@x.example", "password": "a long password", "full_name": "two\\nlines"}',
            ("/body/full_name", "a name is one line: leave out line breaks and control characters"),
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_said_in_words_and_at_its_place(
    auth: Call, body: bytes, fault: tuple[str, str]
) -> None:
    answer = auth("POST", "/api/v1/auth/register", body=body, headers={"content-type": "application/json"})
    assert answer.status == 422
    assert [(each["pointer"], each["message"]) for each in answer.json()["errors"]] == [fault]


def test_a_change_of_the_account_keeps_what_it_does_not_name(auth: Call) -> None:
    token = bearer(login(auth).json()["access_token"])
    before = auth("GET", "/api/v1/auth/me", headers=token).json()
    named = auth("PUT", "/api/v1/auth/me", json_body={"full_name": "  Ada  King "}, headers=token)
    assert (named.status, named.json()) == (200, {**before, "full_name": "Ada  King"})
    placed = auth("PUT", "/api/v1/auth/me", json_body={"segment": "manager"}, headers=token)
    assert placed.json() == {**before, "full_name": "Ada  King", "segment": "manager"}
    assert login(auth).json()["user"]["segment"] == "manager"
    cleared = auth("PUT", "/api/v1/auth/me", json_body={"segment": None, "email": "new@example.com"}, headers=token)
    assert cleared.json() == {**before, "full_name": "Ada  King"}


@pytest.mark.parametrize(
    "email",
    [
        "no-at",
        "two@at@x.example",
        "new\nline@x.example",
        "a b@x.example",
        "<a@x.example>",
        "a@x.example, b@x.example",
        "@x",
        "a@",
    ],
)
def test_an_address_that_mail_cannot_be_sent_to_is_not_registered(auth: Call, email: str) -> None:
    body = {"email": email, "password": "a long password", "full_name": "New"}
    answer = auth("POST", "/api/v1/auth/register", json_body=body)
    assert (answer.status, answer.json()["errors"][0]["pointer"]) == (422, "/body/email")


def test_a_mail_queue_that_does_not_answer_is_a_503_whatever_the_address_and_nothing_is_registered(
    auth: Call, users: Users, auth_settings: Settings
) -> None:
    from tests.contract.conftest import function

    away = auth_settings.model_copy(update={"mail_queue_url": "http://127.0.0.1:9/000000000000/mail"})
    broken = function("auth", away)
    for email in ("devtest@fusiontrade.ai", "new@example.com"):
        body = {"email": email, "password": "a long password", "full_name": "New"}
        answers = [
            broken("POST", "/api/v1/auth/register", json_body=body),
            broken("POST", "/api/v1/auth/forgot-password", json_body={"email": email}),
            broken("POST", "/api/v1/auth/resend-verification", json_body={"email": email}),
        ]
        assert [answer.status for answer in answers] == [503] * 3
    assert users.by_email("new@example.com") is None
    assert auth("POST", "/api/v1/auth/register", json_body=body).status == 202


def test_refreshing_has_the_limits_of_the_application(auth: Call) -> None:
    auth.app.state.limits = {"refresh": Limit(1, 3600)}
    cookie = login(auth).cookies[0].partition(";")[0]
    for status in (200, 429):
        headers = {"Cookie": cookie, "Content-Type": "application/json"}
        answer = auth("POST", "/api/v1/auth/refresh", json_body={}, headers=headers)
        assert (answer.status, answer.headers["ratelimit-policy"]) == (status, '"refresh";q=1;w=3600')
