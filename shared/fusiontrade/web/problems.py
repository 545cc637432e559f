"""Every error an HTTP caller can see, as RFC 9457 ``application/problem+json``; the one table is `TABLE`.

Always true here: a problem says what happened and what to do, and nothing about our insides. What the table does not
know is a 500 whose cause goes to the log and not to the caller. A more special class stands in the table by itself
or is answered as its nearest ancestor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from fusiontrade import errors
from fusiontrade.web.framework import FastAPI, Request, RequestValidationError

__all__ = [
    "MEDIA_TYPE",
    "TABLE",
    "AlreadyAnswered",
    "FieldFault",
    "Kind",
    "Problem",
    "answer",
    "install",
    "kind_of",
    "problem",
    "problems",
]

MEDIA_TYPE = "application/problem+json"
_SECONDS_UNTIL_RETRY = 30
_PATH_SAFE = "/:@!$&'()*+,;=~"  # RFC 3986, path; not of request.url, which believes the Host header
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

logger = logging.getLogger(__name__)


class FieldFault(BaseModel):
    """One wrong value; ``pointer`` is where it came from: ``/body/email``, ``/query/as_of``, ``/path/symbol``."""

    model_config = ConfigDict(frozen=True)

    pointer: str
    message: str


class Problem(BaseModel):
    """What went wrong, in the form of RFC 9457."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/unknown-symbol",
                    "title": "Unknown symbol",
                    "status": 404,
                    "detail": "no market data source knows the symbol 'NOSUCH'; symbols are Yahoo's, e.g. EURUSD=X",
                    "instance": "/api/v1/fusion/NOSUCH",
                    "request_id": "3f0c1c9e7c0f4c66a1f2f2a4c1f7f0aa",
                }
            ]
        },
    )

    type: Annotated[str, Field(description="A stable slug under /problems/; what a program should look at.")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: str
    request_id: str
    errors: list[FieldFault] | None = None


@dataclass(frozen=True)
class Kind:
    """One row of the table: the slug, title and status of a kind of problem."""

    slug: str
    title: str
    status: int
    detail: str | None = None
    """Says this instead of the error's own words, where those are for the log only."""


TABLE: Mapping[type[Exception], Kind] = {
    errors.InvalidInput: Kind("invalid-input", "Invalid input", 422),
    errors.Unauthenticated: Kind("unauthenticated", "Not signed in", 401),
    errors.Forbidden: Kind("forbidden", "Not allowed", 403),
    errors.NotFound: Kind("not-found", "Not found", 404),
    errors.UnknownSymbol: Kind("unknown-symbol", "Unknown symbol", 404),
    errors.Conflict: Kind("conflict", "Conflict", 409),
    errors.TooManyRequests: Kind("too-many-requests", "Too many requests", 429),
    errors.Unavailable: Kind("unavailable", "Temporarily unavailable", 503),
    errors.ProviderUnavailable: Kind("market-data-unavailable", "Market data unavailable", 503),
    errors.InferenceUnavailable: Kind("inference-unavailable", "Forecasts unavailable", 503),
    errors.StateUnavailable: Kind(
        "state-unavailable", "Storage unavailable", 503, "the service's storage does not answer; try again shortly"
    ),
    errors.BadCandles: Kind("bad-candles", "Unusable market data", 503),
    errors.BundleRefused: Kind(
        "bundle-refused", "Model refused", 503, "the model for this request did not pass its checks"
    ),
}

_BY_STATUS: Mapping[int, Kind] = {
    400: Kind("bad-request", "Bad request", 400),
    404: Kind("not-found", "Not found", 404, "there is nothing at this path"),
    405: Kind("method-not-allowed", "Method not allowed", 405, "this path does not take that method; see Allow"),
    413: Kind("body-too-large", "Body too large", 413),
    415: Kind("unsupported-media-type", "Unsupported media type", 415),
    422: Kind("invalid-input", "Invalid input", 422),
}

_UNEXPECTED = Kind(
    "unexpected", "Unexpected error", 500, "something went wrong on our side; the request id finds it in our log"
)


class AlreadyAnswered(Exception):
    """The answer to this request is known already and stands here; raised where a route need not run again."""

    def __init__(self, response: Response) -> None:
        super().__init__("already answered")
        self.response = response


def kind_of(error: BaseException) -> Kind:
    """Return the table's row for ``error``: its own class or the nearest ancestor, else the 500."""
    return next((TABLE[ancestor] for ancestor in type(error).__mro__ if ancestor in TABLE), _UNEXPECTED)


def problem(kind: Kind, request: Request, detail: str, faults: Sequence[FieldFault] = ()) -> Problem:
    """Return the problem document of ``kind`` for ``request``."""
    return Problem(
        type=f"/problems/{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=kind.detail or detail or kind.title,
        instance=quote(request.scope["path"], safe=_PATH_SAFE),
        request_id=str(request.scope.get("fusiontrade.request_id", "")),
        errors=list(faults) or None,
    )


def answer(error: BaseException, request: Request) -> Response:
    """Return the HTTP answer to ``error``; one that the table does not know is logged with its stack."""
    if isinstance(error, RequestValidationError):
        return _of_validation(error, request)
    if isinstance(error, HTTPException):
        return _of_http(error, request)
    kind = kind_of(error)
    if kind is _UNEXPECTED:
        logger.error("unexpected %s", type(error).__name__, exc_info=error)
    elif kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("%s: %s", kind.slug, error)
    faults = []
    if isinstance(error, errors.InvalidInput):
        faults = [FieldFault(pointer="/" + error.field.lstrip("/"), message=str(error))]
    return _respond(problem(kind, request, str(error), faults), _headers_of(error, kind.status))


def _headers_of(error: BaseException, status: int) -> dict[str, str]:
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="fusiontrade"'}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return {"Retry-After": str(max(1, getattr(error, "retry_after", _SECONDS_UNTIL_RETRY)))}
    return {}


def _respond(document: Problem, headers: Mapping[str, str] | None = None) -> Response:
    # ASCII only: a caller's stray surrogate in a detail must not become an error of its own.
    body = json.dumps(document.model_dump(mode="json", exclude_none=True)).encode("ascii")
    return Response(body, status_code=document.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _of_http(error: HTTPException, request: Request) -> Response:
    status = error.status_code
    kind = _BY_STATUS.get(status) or Kind(f"http-{status}", HTTPStatus(status).phrase, status)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_at(request))
    return _respond(problem(kind, request, str(error.detail)), headers)


def _methods_at(request: Request) -> list[str]:
    """Return the methods of every route that fits the path; the framework names those of the first one only."""
    routes = request.app.router.routes
    asked = ({**request.scope, "method": method} for method in _METHODS)
    return [scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _of_validation(error: RequestValidationError, request: Request) -> Response:
    faults = [_fault(told) for told in error.errors()]
    where = ", ".join(fault.pointer for fault in faults)
    return _respond(problem(_BY_STATUS[422], request, f"the request cannot be used; see errors: {where}", faults))


def _fault(told: Mapping[str, Any]) -> FieldFault:
    """Return a fault in our words: where a body is no JSON, the framework names a character as if it were a field."""
    if told["type"] != "json_invalid":
        return FieldFault(pointer=_pointer(told["loc"]), message=str(told["msg"]))
    where, character = told["loc"][0], told["loc"][-1]
    return FieldFault(pointer=f"/{where}", message=f"this is no JSON: {told['ctx']['error']} at character {character}")


def _pointer(location: Iterable[object]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem; what is left over is caught by `fusiontrade.web.transport.floor.Floor`."""

    async def as_problem(request: Request, error: Exception) -> Response:
        return error.response if isinstance(error, AlreadyAnswered) else answer(error, request)

    for handled in (errors.FusionTradeError, HTTPException, RequestValidationError, AlreadyAnswered):
        app.add_exception_handler(handled, as_problem)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses=`` of a route that may answer these error statuses.

    The ones that any route may answer (413 and 415 with a body, 422 with parameters, 500) are added by
    `fusiontrade.web.documents` and need not be listed.
    """
    return {status: described(status) for status in sorted(set(statuses))}


def described(status: int, titles: Iterable[Kind] = ()) -> dict[str, Any]:
    """Return the OpenAPI response object of one error status."""
    kinds = dict.fromkeys(
        kind.title for kind in (*TABLE.values(), *_BY_STATUS.values(), _UNEXPECTED, *titles) if kind.status == status
    )
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": ", or ".join(kinds) or HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    return response
