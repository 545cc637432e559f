"""Who may do what: tiers, verified addresses, and the order of refusals."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends

from fusiontrade.accounts.admission.tokens import Identity, Tier
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, problems
from fusiontrade.web.asking.authentication import current_user, require
from tests.support.asgi_client import AsgiClient

router = APIRouter(tags=["t"], responses=problems(401, 403))


@router.get("/any", operation_id="any")
def anybody(user: Annotated[Identity, Depends(require(verified=False))]) -> str:
    return user.user_id


@router.get("/verified", operation_id="verified")
def verified(user: Annotated[Identity, Depends(require())]) -> str:
    return user.user_id


@router.get("/pro", operation_id="pro")
def pro(user: Annotated[Identity, Depends(require(tier="pro"))]) -> str:
    return user.user_id


@router.get("/admin", operation_id="admin")
def admin(user: Annotated[Identity, Depends(require(tier="admin"))]) -> str:
    return user.user_id


PATHS = ("/any", "/verified", "/pro", "/admin")


def statuses(identity: Identity | None) -> list[int]:
    app = create_app("t", [router], Settings.from_environment({"STAGE": "local"}))
    if identity is not None:
        app.dependency_overrides[current_user] = lambda: identity
    client = AsgiClient(app)
    return [client.get(path).status_code for path in PATHS]


@pytest.mark.parametrize(
    ("tier", "is_verified", "expected"),
    [
        ("free", True, [200, 200, 403, 403]),
        ("pro", True, [200, 200, 200, 403]),
        ("admin", True, [200, 200, 200, 200]),
        ("admin", False, [200, 403, 403, 403]),
    ],
)
def test_a_tier_opens_what_it_should(tier: Tier, is_verified: bool, expected: list[int]) -> None:
    assert statuses(Identity("u", "e@x", tier, "s", is_verified)) == expected


def test_without_a_token_nothing_opens() -> None:
    assert statuses(None) == [401] * 4


def test_a_refusal_says_what_is_missing() -> None:
    app = create_app("t", [router], Settings.from_environment({"STAGE": "local"}))
    app.dependency_overrides[current_user] = lambda: Identity("u", "e@x", "free", "s", True)
    assert AsgiClient(app).get("/pro").json()["detail"] == "this needs the pro tier; yours is free"
