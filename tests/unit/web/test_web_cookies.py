"""The refresh cookie: its attributes, and who may bring it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import Response

from fusiontrade.settings import Settings
from fusiontrade.web import create_app
from fusiontrade.web.asking.cookies import NAME, RefreshCookie, clear_refresh, set_refresh
from fusiontrade.web.framework import APIRouter
from tests.support.asgi_client import AsgiClient

router = APIRouter(prefix="/api/v1/auth")


@router.post("/refresh", operation_id="refresh")
def refresh(token: RefreshCookie, response: Response) -> str | None:
    set_refresh(response, "the next one", 604_800)
    return token


@router.post("/logout", operation_id="logout")
def logout(response: Response) -> None:
    clear_refresh(response)


SETTINGS = Settings.from_environment(
    {"STAGE": "local", "ALLOWED_ORIGINS": "https://app.example.com", "SITE_ORIGIN": "https://www.example.com"}
)
CLIENT = AsgiClient(create_app("auth", [router], SETTINGS))
JSON = {"Content-Type": "application/json", "Cookie": f"{NAME}=the token"}


def send(**headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.post("/api/v1/auth/refresh", headers={**JSON, **named})


def attributes(answer: Any) -> set[str]:
    (cookie,) = answer.headers.get_list("set-cookie")
    return set(cookie.split("; "))


def test_the_cookie_is_kept_from_scripts_other_sites_and_other_paths() -> None:
    answer = send()
    assert (answer.status_code, answer.json()) == (200, "the token")
    assert attributes(answer) == {
        f'{NAME}="the next one"', "HttpOnly", "Max-Age=604800", "Path=/api/v1/auth", "SameSite=strict", "Secure",
    }  # fmt: skip
    assert NAME.startswith("__Secure-")
    assert answer.headers["cache-control"] == "no-store"


def test_a_cleared_cookie_has_the_same_place_and_no_time() -> None:
    cleared = attributes(CLIENT.post("/api/v1/auth/logout", headers=JSON))
    assert {f'{NAME}=""', "Max-Age=0", "Path=/api/v1/auth", "HttpOnly", "SameSite=strict", "Secure"} <= cleared


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://www.example.com"])
def test_our_own_pages_may_refresh(origin: str) -> None:
    assert send(Origin=origin).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "null", "", "https://app.example.com.evil.com", "http://app.example.com",
     "https://app.example.com:8443", "http://api.example.com"],
)  # fmt: skip
def test_no_other_page_may_refresh(origin: str) -> None:
    answer = send(Origin=origin)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_a_browser_that_hides_the_origin_of_another_site_is_refused() -> None:
    assert send(Sec_Fetch_Site="cross-site").status_code == 403
    assert send(Sec_Fetch_Site="same-origin").status_code == 200


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonx"]
)
def test_what_a_form_can_send_is_refused(media_type: str) -> None:
    assert send(Content_Type=media_type).status_code == 415


def test_without_a_cookie_there_is_no_token() -> None:
    answer = CLIENT.post("/api/v1/auth/refresh", headers={"Content-Type": "application/json; charset=utf-8"})
    assert (answer.status_code, answer.json()) == (200, None)
