"""An HTTP API of API Gateway as pure functions: which route, which event, which response.

What is rebuilt here was chosen on purpose, because handlers depend on it: payload format 2.0; ``rawPath`` arrives
percent-decoded while ``rawQueryString`` stays as the client wrote it; header names are lower-case and repeated
headers joined by commas; cookies stand apart; a body that is not text arrives in base64; a trailing slash is part of
the path and matches greedy routes only; what the gateway itself answers is ``{"message": ...}``, no problem document.

Sources: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html and
http-api-develop-routes.html, http-api-cors.html, http-api-quotas.html beside it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from infra.local.template import ACCOUNT, HttpRoute

__all__ = [
    "BODY_LIMIT",
    "EVENT_LIMIT",
    "RESPONSE_LIMIT",
    "HttpRequest",
    "HttpResponse",
    "Match",
    "cors_headers",
    "event_of",
    "gateway_answer",
    "match",
    "preflight",
    "response_of",
]

BODY_LIMIT = 10 * 1024 * 1024
EVENT_LIMIT = 6 * 1024 * 1024
RESPONSE_LIMIT = 6 * 1024 * 1024
_TEXT = ("text/", "application/json", "application/javascript", "application/xml", "application/graphql")
_FIT_FOR_A_HEADER = re.compile(r"[\t\x20-\x7e\x80-\xff]+")
_NOT_FORWARDED = {"cookie", "connection", "transfer-encoding", "keep-alive", "te", "upgrade"}


@dataclass(frozen=True)
class HttpRequest:
    """What arrived: ``path`` as the client wrote it (still percent-encoded), ``headers`` in the order of the wire."""

    method: str
    path: str
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    source_ip: str = "127.0.0.1"

    def header(self, name: str) -> str:
        """Return the first value of a header, empty where it is absent."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True)
class HttpResponse:
    """What goes back: repeated headers (cookies) are allowed."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True)
class Match:
    """A route that fits, and the decoded values of its parameters."""

    route: HttpRoute
    parameters: Mapping[str, str] = field(default_factory=dict)


# --- routes -----------------------------------------------------------------------------------------------------------


def match(routes: Iterable[HttpRoute], method: str, path: str) -> Match | None:
    """Return the route that API Gateway would choose, or None where not even ``$default`` exists.

    A full match comes before one with parameters, that before a greedy one, that before ``$default``; of two equally
    exact routes the one that names the method wins.
    """
    best: tuple[tuple[int, ...], Match] | None = None
    for route in routes:
        if route.method not in ("ANY", method):
            continue
        found = _fit(route, path)
        if found is None:
            continue
        exactness, parameters = found
        rank = (*exactness, 0 if route.method == method else 1)
        if best is None or rank < best[0]:
            best = rank, Match(route, parameters)
    return best[1] if best else None


def _fit(route: HttpRoute, path: str) -> tuple[tuple[int, ...], dict[str, str]] | None:
    """Return how exactly the path fits (smaller is better) and its parameters, or None."""
    if route.path == "$default":
        return (9,), {}
    wanted, given = route.path.split("/")[1:], path.split("/")[1:]
    parameters: dict[str, str] = {}
    exactness: tuple[int, ...] = ()
    if wanted[-1].endswith("+}"):
        rest = given[len(wanted) - 1 :]
        if not any(rest):
            return None
        parameters[wanted[-1][1:-2]] = unquote("/".join(rest))
        wanted, given, exactness = wanted[:-1], given[: len(wanted) - 1], (2,)
    if len(wanted) != len(given):
        return None
    for part, value in zip(wanted, map(unquote, given), strict=True):
        if part.startswith("{") and value:
            parameters[part[1:-1]] = value
        elif part != value:
            return None
    return tuple(int(part.startswith("{")) for part in wanted) + exactness, parameters


# --- request ----------------------------------------------------------------------------------------------------------


def event_of(request: HttpRequest, found: Match, *, request_id: str, now_ms: int, domain: str) -> dict[str, Any]:
    """Return the payload (format 2.0) that the function gets for this request.

    Parameters
    ----------
    request : HttpRequest
        What arrived.
    found : Match
        The chosen route.
    request_id : str
        The gateway's own id of this request.
    now_ms : int
        When it arrived, ms since 1970-01-01 UTC.
    domain : str
        Host and port of this gateway.
    """
    path = unquote(request.path) or "/"
    headers = _joined(request.headers)
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": found.route.key,
        "rawPath": path,
        "rawQueryString": request.query,
        "headers": {
            **headers,
            "x-amzn-trace-id": f"Root=1-{now_ms // 1000:08x}-{request_id.replace('-', '')[:24]}",
            "x-forwarded-for": ",".join(filter(None, [headers.get("x-forwarded-for"), request.source_ip])),
            "x-forwarded-port": domain.rpartition(":")[2],
            "x-forwarded-proto": "http",
        },
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": domain,
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": found.route.key,
            "stage": "$default",
            "time": moment.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": now_ms,
        },
        "isBase64Encoded": False,
    }
    if cookies := _cookies(request.headers):
        event["cookies"] = cookies
    if request.query:
        event["queryStringParameters"] = _query(request.query)
    if found.parameters:
        event["pathParameters"] = dict(found.parameters)
    if request.body:
        event["body"], event["isBase64Encoded"] = _body(request.body, headers.get("content-type", ""))
    return event


def _joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw, value in headers:
        name = raw.lower()
        if name not in _NOT_FORWARDED:
            joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _cookies(headers: Iterable[tuple[str, str]]) -> list[str]:
    lines = [value for name, value in headers if name.lower() == "cookie"]
    return [cookie.strip() for line in lines for cookie in line.split(";") if cookie.strip()]


def _query(query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def _body(body: bytes, content_type: str) -> tuple[str, bool]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(_TEXT) or kind.endswith(("+json", "+xml")):
        try:
            return body.decode("utf-8"), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode("ascii"), True


# --- response ---------------------------------------------------------------------------------------------------------


def gateway_answer(status: int, message: str) -> HttpResponse:
    """Return an answer that the gateway itself makes."""
    return HttpResponse(status, (("content-type", "application/json"),), json.dumps({"message": message}).encode())


def response_of(payload: bytes) -> HttpResponse:
    """Return the HTTP response for what a function returned.

    A value without ``statusCode`` is a 200 in JSON; one that cannot be a response, or exceeds 6 MB, is the gateway's
    500, as a failing function is.
    """
    failed = gateway_answer(500, "Internal Server Error")
    if len(payload) > RESPONSE_LIMIT:
        return failed
    try:
        value = json.loads(payload)
    except ValueError:
        return failed
    if not isinstance(value, dict) or "statusCode" not in value:
        text = value if isinstance(value, str) else json.dumps(value)
        return HttpResponse(200, (("content-type", "application/json"),), text.encode())
    try:
        return _declared(value)
    except (TypeError, ValueError, AttributeError, binascii.Error):
        return failed


def _declared(value: Mapping[str, Any]) -> HttpResponse:
    status = int(value["statusCode"])
    if not 200 <= status <= 599:
        raise ValueError(f"status {status}")
    headers = [(str(k).lower(), _text(v)) for k, v in (value.get("headers") or {}).items()]
    headers += [("set-cookie", str(cookie)) for cookie in value.get("cookies") or []]
    if unfit := [pair for pair in headers if not _FIT_FOR_A_HEADER.fullmatch("".join(pair))]:
        raise ValueError(f"headers {unfit}")
    raw = value.get("body") or ""
    body = base64.b64decode(raw, validate=True) if value.get("isBase64Encoded") else str(raw).encode()
    if body and not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain;charset=UTF-8"))
    return HttpResponse(status, tuple((k, v) for k, v in headers if k != "content-length"), body)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- CORS -------------------------------------------------------------------------------------------------------------


def cors_headers(configured: Mapping[str, Any], origin: str) -> tuple[tuple[str, str], ...]:
    """Return the headers an answer to ``origin`` carries: none where the origin is not listed, never a reflection."""
    allowed = configured.get("AllowOrigins", [])
    if not origin or (origin not in allowed and "*" not in allowed):
        return ()
    headers = [("access-control-allow-origin", origin if origin in allowed else "*"), ("vary", "origin")]
    if configured.get("AllowCredentials"):
        headers.append(("access-control-allow-credentials", "true"))
    if exposed := configured.get("ExposeHeaders"):
        headers.append(("access-control-expose-headers", ",".join(exposed)))
    return tuple(headers)


def preflight(configured: Mapping[str, Any], request: HttpRequest) -> HttpResponse | None:
    """Return the gateway's own answer to a CORS preflight, None where the request is none or CORS is not configured."""
    if not configured or request.method != "OPTIONS" or not request.header("access-control-request-method"):
        return None
    headers = [h for h in cors_headers(configured, request.header("origin")) if "expose" not in h[0]]
    if headers:
        headers.append(("access-control-allow-methods", ",".join(configured.get("AllowMethods", []))))
        headers.append(("access-control-allow-headers", ",".join(configured.get("AllowHeaders", []))))
        headers.append(("access-control-max-age", str(configured.get("MaxAge", 0))))
    return HttpResponse(204, tuple(headers))
