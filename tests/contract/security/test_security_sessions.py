"""Stealing, forging and keeping sessions: cookies, refresh tokens, access tokens, other people's things."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.settings import Settings
from tests.contract.conftest import SITE, function
from tests.contract.security.conftest import PASSWORD, Client


def test_scripts_and_other_sites_cannot_get_at_the_refresh_cookie(ada: Client) -> None:
    cookie, device = ada.login().cookies
    for each, seconds in ((cookie, 604_800), (device, 180 * 24 * 3600)):
        attributes = {part.strip().lower() for part in each.split(";")[1:]}
        assert {"httponly", "secure", "samesite=strict", "path=/api/v1/auth", f"max-age={seconds}"} <= attributes
        assert not any(attribute.startswith("domain") for attribute in attributes)
    assert "refresh_token" not in ada.login().text
    assert cookie.partition(";")[0].partition("=")[2] not in ada.refresh().text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{SITE}.evil.example", "http://app.example.com"])
def test_foreign_site_cannot_refresh_with_a_visitors_cookie(ada: Client, origin: str) -> None:
    answer = ada.refresh(Origin=origin)
    assert (answer.status, answer.cookies) == (403, ())
    assert "access-control-allow-origin" not in answer.headers
    assert ada.refresh(Origin=SITE).status == 200


def test_foreign_site_cannot_refresh_with_a_form_or_a_plain_link(ada: Client) -> None:
    path = "/api/v1/auth/refresh"
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        for body in (b"{}", b""):
            headers = {"Content-Type": content_type, "Cookie": ada.cookie}
            assert ada.auth("POST", path, body=body, headers=headers).status == 415
    assert ada.auth("POST", path, headers={"Cookie": ada.cookie}).status == 415
    assert ada.auth("GET", path, headers={"Cookie": ada.cookie}).status == 405
    assert ada.refresh(Sec_Fetch_Site="cross-site").status == 403


def test_thief_of_a_refresh_token_ends_the_session_for_both(ada: Client) -> None:
    thief = Client(ada.auth, address="198.51.100.66", agent="Chrome/128", cookie=ada.cookie)
    assert ada.refresh().status == 200
    assert thief.refresh().status == 401
    assert ada.refresh().status == 401
    assert ada("GET", "/me").status == 401
    assert ada.login().status == 200


def test_client_that_lost_the_answer_gets_the_same_token_again(ada: Client) -> None:
    lost = Client(ada.auth, cookie=ada.cookie)
    assert ada.refresh().status == 200
    assert lost.refresh().status == 200
    assert lost.cookie == ada.cookie
    assert ada.refresh().status == 200


def test_signing_out_leaves_a_thief_nothing(ada: Client) -> None:
    thief = Client(ada.auth, address="198.51.100.66", token=ada.token, cookie=ada.cookie)
    answer = ada("POST", "/logout")
    assert answer.status == 200
    (cookie,) = answer.cookies
    assert "max-age=0" in cookie.lower()
    assert (thief("GET", "/me").status, thief.refresh().status) == (401, 401)


def test_refresh_token_is_no_access_token_and_no_other_way_round(ada: Client) -> None:
    refresh = ada.cookie.partition("=")[2]
    name = ada.cookie.partition("=")[0]
    assert Client(ada.auth, token=refresh)("GET", "/me").status == 401
    assert Client(ada.auth, cookie=f"{name}={ada.token}").refresh().status == 401


def test_attacker_cannot_change_a_part_of_a_refresh_token(ada: Client, eve: Client) -> None:
    name, _, token = ada.cookie.partition("=")
    user, session, generation, mac = token.split(".")
    eves = eve.cookie.partition("=")[2].split(".")
    for forged in (
        [eves[0], session, generation, mac],
        [user, eves[1], generation, mac],
        [user, session, str(int(generation) + 1), mac],
        [user, session, generation, eves[3]],
        [user, session, generation, mac[:-1]],
        [user, session, generation, ""],
    ):
        thief = Client(ada.auth, cookie=f"{name}={'.'.join(forged)}")
        assert thief.refresh().status == 401
    assert ada.refresh().status == 200  # nobody was signed out by forgeries


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, ""])


def test_forger_gets_nowhere_with_a_token_of_their_own(ada: Client, signing_keys: SigningKeys) -> None:
    claims, (ours,) = claims_of(ada.token), signing_keys.keys
    public = OctKey.import_key(json.dumps(ours.as_dict(private=False)))
    strange = ECKey.generate_key("P-256", {"kid": ours.kid})
    kid = {"kid": ours.kid}
    es, hs = {"alg": "ES256", **kid}, {"alg": "HS256", **kid}

    def changed(**changes: Any) -> dict[str, Any]:
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    forged = {
        "alg none": unsigned({"alg": "none", **kid}, claims),
        "alg None": unsigned({"alg": "None", **kid}, claims),
        "public key as secret": jwt.encode(hs, claims, public, algorithms=["HS256"]),
        "strange key, our kid": jwt.encode(es, claims, strange, algorithms=["ES256"]),
        "unknown kid": jwt.encode({"alg": "ES256", "kid": "other"}, claims, ours, algorithms=["ES256"]),
        "no kid": jwt.encode({"alg": "ES256"}, claims, ours, algorithms=["ES256"]),
        "other audience": jwt.encode(es, changed(aud="other"), ours, algorithms=["ES256"]),
        "other issuer": jwt.encode(es, changed(iss="https://evil.example"), ours, algorithms=["ES256"]),
        "no exp": jwt.encode(es, changed(exp=None), ours, algorithms=["ES256"]),
        "expired": jwt.encode(es, changed(exp=claims["iat"] - 1), ours, algorithms=["ES256"]),
        "refresh as access": jwt.encode(es, changed(use="refresh"), ours, algorithms=["ES256"]),
        "no session": jwt.encode(es, changed(sid=None), ours, algorithms=["ES256"]),
        "more rights, old signature": f"{unsigned(es, changed(tier='admin'))[:-1]}.{ada.token.rpartition('.')[2]}",
        "key in the header": jwt.encode(
            {**es, "jwk": strange.as_dict(private=False)}, claims, strange, algorithms=["ES256"]
        ),
    }
    statuses = {name: Client(ada.auth, token=token)("GET", "/me").status for name, token in forged.items()}
    assert statuses == dict.fromkeys(forged, 401)
    assert ada("GET", "/me").status == 200


def test_attacker_sees_and_touches_nothing_of_another_user(ada: Client, eve: Client) -> None:
    key = ada("POST", "/api-keys", {"name": "bot", "scopes": ["read"]}).json()
    (session,) = ada("GET", "/sessions").json()["items"]
    for path in (f"/api-keys/{key['id']}", f"/sessions/{session['id']}"):
        for method in ("DELETE", "GET", "PUT", "POST"):
            answer = eve(method, path, {} if method in ("PUT", "POST") else None)
            assert answer.status == (404 if method == "DELETE" else 405)
            assert "ada@" not in answer.text
            assert "Ada" not in answer.text
    listed = eve("GET", "/api-keys").text + eve("GET", "/sessions").text + eve("GET", "/me").text
    assert key["id"] not in listed
    assert session["id"] not in listed
    assert "ada@example.com" not in listed
    assert len(ada("GET", "/api-keys").json()["items"]) == 1
    assert ada.refresh().status == 200


def test_owner_signs_one_device_out_and_it_is_out_at_once(ada: Client) -> None:
    phone = Client(ada.auth, address="203.0.113.5", agent="Safari/18")
    phone.login()
    listed = ada("GET", "/sessions").json()["items"]
    assert [(one["user_agent"], one["is_current"]) for one in listed] == [("Safari/18", False), ("Firefox/130", True)]
    gone = ada("DELETE", f"/sessions/{listed[0]['id']}")
    assert (gone.status, gone.text) == (204, "")
    assert (phone("GET", "/me").status, phone.refresh().status) == (401, 401)
    assert ada("DELETE", f"/sessions/{listed[0]['id']}").status == 404
    assert [one["is_current"] for one in ada("GET", "/sessions").json()["items"]] == [True]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.com.evil.example"])
def test_cors_lets_no_foreign_page_read_an_answer(ada: Client, with_origins: Settings, origin: str) -> None:
    auth = function("auth", with_origins)
    for method, headers in (("GET", {}), ("OPTIONS", {"Access-Control-Request-Method": "GET"})):
        answer = Client(auth, token=ada.token)(method, "/me", None, Origin=origin, **headers)
        assert "access-control-allow-origin" not in answer.headers
        assert origin not in json.dumps(answer.headers)
    allowed = Client(auth, token=ada.token)("GET", "/me", None, Origin="https://app.example.com")
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert PASSWORD not in allowed.text
