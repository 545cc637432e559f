"""Requests that are answered with a problem: ``application/problem+json`` that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["CLIENT_GONE", "SHOWN", "Refusal", "malformed", "problem"]

_SHOWN_ERRORS = 10
_MOST_ERRORS = 5_000

SHOWN = 200
"""Characters of a path or a name that a log or an answer repeats: clients may send them as long as a body."""

CLIENT_GONE = 499
"""The status that is logged where nobody is left to read an answer, as nginx does."""


class Refusal(Exception):
    """A request that is answered with a problem instead of forecasts."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers


def malformed(error: ValidationError) -> Refusal:
    """Return the refusal of a body that breaks the contract, naming its first faults by JSON pointer."""
    if error.error_count() > _MOST_ERRORS:  # naming each would cost more than the whole answer
        return Refusal(HTTPStatus.BAD_REQUEST, f"the body breaks the contract in {error.error_count()} places")
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    told = [
        {"pointer": "".join(f"/{part}" for part in fault["loc"])[:SHOWN], "message": fault["msg"]}
        for fault in faults[:_SHOWN_ERRORS]
    ]
    first = told[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    detail = f"{first['pointer'] or 'the body'}: {first['message']}{more}"
    return Refusal(HTTPStatus.BAD_REQUEST, detail, errors=told)


def problem(request: Request, refusal: Refusal) -> Response:
    """Return ``refusal`` as the answer to ``request``."""
    content: dict[str, Any] = {
        "type": "/problems/" + refusal.status.phrase.lower().replace(" ", "-"),
        "title": refusal.status.phrase,
        "status": int(refusal.status),
        "detail": refusal.detail,
        "instance": request.scope["path"][:SHOWN],
        "request_id": request.scope.get("request_id"),
    }
    if refusal.errors:
        content["errors"] = refusal.errors
    headers = dict(refusal.headers or {})
    return JSONResponse(content, refusal.status, headers, media_type="application/problem+json")
