"""The refresh cookie, and the requests that may use it; and the cookie that a device is known by.

Always true here: scripts cannot read the cookie, it travels over TLS (or on the loopback) to the auth routes only and
with no request that another site began. A request that would use it comes from a configured origin or from no browser,
and says that it is JSON, which no form of a foreign page can. The cookie of the device opens nothing, and signing out
leaves it.
"""

from __future__ import annotations

from typing import Annotated

from starlette.exceptions import HTTPException
from starlette.responses import Response

from fusiontrade.errors import Forbidden
from fusiontrade.web.framework import Depends, Request

__all__ = ["DEVICE", "NAME", "RefreshCookie", "clear_refresh", "refresh_cookie", "set_device", "set_refresh"]

NAME = "__Secure-refresh"
DEVICE = "__Secure-device"
PATH = "/api/v1/auth"


def set_refresh(response: Response, token: str, seconds: int) -> None:
    """Let the client keep ``token`` for ``seconds``."""
    response.set_cookie(NAME, token, max_age=seconds, path=PATH, secure=True, httponly=True, samesite="strict")


def clear_refresh(response: Response) -> None:
    """Let the client forget the token."""
    response.delete_cookie(NAME, path=PATH, secure=True, httponly=True, samesite="strict")


def set_device(response: Response, token: str, seconds: int) -> None:
    """Let the client keep what it is known by for ``seconds``."""
    response.set_cookie(DEVICE, token, max_age=seconds, path=PATH, secure=True, httponly=True, samesite="strict")


def refresh_cookie(request: Request) -> str | None:
    """Return the refresh token that the request brings, None where it brings none: a FastAPI dependency.

    Raises
    ------
    Forbidden
        If the page that sent it is not one of ours.
    HTTPException
        415 if the request does not say that it is JSON.
    """
    settings = request.app.state.settings
    origin = request.headers.get("Origin")
    if origin is not None and origin not in {*settings.allowed_origins, settings.site_origin}:
        raise Forbidden("this page may not use the session; sign in at the product's own site")
    if origin is None and request.headers.get("Sec-Fetch-Site", "none") == "cross-site":
        raise Forbidden("another site may not use the session; sign in at the product's own site")
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send this with Content-Type: application/json")
    return request.cookies.get(NAME)


RefreshCookie = Annotated[str | None, Depends(refresh_cookie)]
"""Type of a route's parameter that is the refresh token of the cookie."""
