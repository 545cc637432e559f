"""The gateway's pure half: routes, events and responses as API Gateway makes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from infra.local.http_events import (
    RESPONSE_LIMIT,
    HttpRequest,
    Match,
    cors_headers,
    event_of,
    match,
    preflight,
    response_of,
)
from infra.local.template import HttpRoute

ROUTES = [
    HttpRoute("ANY", "$default", "docs"),
    HttpRoute("ANY", "/fusion/{proxy+}", "greedy"),
    HttpRoute("GET", "/fusion/{symbol}", "symbol"),
    HttpRoute("POST", "/fusion/analyze", "analyze"),
    HttpRoute("ANY", "/fusion/{symbol}/sentiment", "any_sentiment"),
    HttpRoute("GET", "/fusion/{symbol}/sentiment", "get_sentiment"),
    HttpRoute("GET", "/fusion/GC%3DF", "never"),
]


@pytest.mark.parametrize(
    ("method", "path", "function", "parameters"),
    [
        ("POST", "/fusion/analyze", "analyze", {}),
        ("GET", "/fusion/analyze", "symbol", {"symbol": "analyze"}),
        ("GET", "/fusion/EURUSD=X", "symbol", {"symbol": "EURUSD=X"}),
        ("GET", "/fusion/EURUSD%3DX", "symbol", {"symbol": "EURUSD=X"}),
        ("GET", "/fusion/EURUSD=X/", "greedy", {"proxy": "EURUSD=X/"}),
        ("DELETE", "/fusion/EURUSD=X", "greedy", {"proxy": "EURUSD=X"}),
        ("GET", "/fusion/a/b/c", "greedy", {"proxy": "a/b/c"}),
        ("GET", "/fusion/a/sentiment", "get_sentiment", {"symbol": "a"}),
        ("PUT", "/fusion/a/sentiment", "any_sentiment", {"symbol": "a"}),
        ("GET", "/fusion/", "docs", {}),
        ("GET", "/fusion", "docs", {}),
        ("GET", "/", "docs", {}),
        ("GET", "/fusionx/a", "docs", {}),
    ],
)
def test_most_exact_route_wins(method: str, path: str, function: str, parameters: dict[str, str]) -> None:
    found = match(ROUTES, method, path)
    assert found is not None
    assert (found.route.function, dict(found.parameters)) == (function, parameters)


def test_no_route_fits_where_there_is_no_default() -> None:
    assert match(ROUTES[1:], "GET", "/elsewhere") is None


def made(request: HttpRequest, path: str = "/fusion/{symbol}", **parameters: str) -> dict[str, Any]:
    found = Match(HttpRoute("GET", path, "fusion"), parameters)
    return event_of(request, found, request_id="11111111-2222", now_ms=1_583_348_638_390, domain="127.0.0.1:2001")


def test_event_carries_the_request_as_payload_format_2() -> None:
    request = HttpRequest(
        "GET",
        "/fusion/EURUSD%3DX",
        "as_of=2025-07-31T12%3A00%3A00Z&tag=a&tag=b&empty=",
        [("Host", "127.0.0.1:2001"), ("X-One", "1"), ("x-one", "2"), ("Cookie", "a=1; b=2"), ("User-Agent", "curl")],
        source_ip="127.0.0.9",
    )
    event = made(request, symbol="EURUSD=X")
    assert event["version"] == "2.0"
    assert event["routeKey"] == event["requestContext"]["routeKey"] == "GET /fusion/{symbol}"
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/fusion/EURUSD=X"
    assert event["rawQueryString"] == "as_of=2025-07-31T12%3A00%3A00Z&tag=a&tag=b&empty="
    assert event["queryStringParameters"] == {"as_of": "2025-07-31T12:00:00Z", "tag": "a,b", "empty": ""}
    assert event["headers"]["x-one"] == "1,2"
    assert "cookie" not in event["headers"]
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["pathParameters"] == {"symbol": "EURUSD=X"}
    assert event["requestContext"]["http"]["sourceIp"] == event["headers"]["x-forwarded-for"] == "127.0.0.9"
    assert event["requestContext"]["http"]["userAgent"] == "curl"
    assert event["requestContext"]["requestId"] == "11111111-2222"
    assert event["requestContext"]["time"] == "04/Mar/2020:19:03:58 +0000"
    assert event["requestContext"]["timeEpoch"] == 1_583_348_638_390
    assert event["isBase64Encoded"] is False
    assert "body" not in event


def test_event_without_query_cookies_or_parameters_lacks_those_fields() -> None:
    event = made(HttpRequest("GET", "/x"))
    assert {"queryStringParameters", "cookies", "pathParameters", "body"}.isdisjoint(event)
    assert event["rawQueryString"] == ""


@pytest.mark.parametrize(
    ("content_type", "body", "expected", "encoded"),
    [
        ("application/json", b'{"a": "\xc3\xa9"}', '{"a": "é"}', False),
        ("application/problem+json; charset=utf-8", b"{}", "{}", False),
        ("text/csv", b"a,b", "a,b", False),
        ("application/octet-stream", b"\x00\x01", "AAE=", True),
        ("application/x-www-form-urlencoded", b"a=1", "YT0x", True),
        ("application/json", b"\xff\xfe", "//4=", True),
        ("", b"abc", "YWJj", True),
    ],
)
def test_body_that_is_not_text_arrives_in_base64(content_type: str, body: bytes, expected: str, encoded: bool) -> None:
    event = made(HttpRequest("POST", "/x", headers=[("content-type", content_type)], body=body))
    assert (event["body"], event["isBase64Encoded"]) == (expected, encoded)


def test_declared_response_keeps_status_headers_cookies_and_binary_body() -> None:
    payload = {
        "statusCode": 201,
        "headers": {"X-Count": 3, "Content-Type": "image/png", "Content-Length": "999"},
        "cookies": ["a=1; Path=/", "b=2"],
        "isBase64Encoded": True,
        "body": base64.b64encode(b"\x89PNG").decode(),
    }
    answer = response_of(json.dumps(payload).encode())
    assert answer.status == 201
    assert answer.headers == (
        ("x-count", "3"), ("content-type", "image/png"), ("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2"),
    )  # fmt: skip
    assert answer.body == b"\x89PNG"


def test_value_without_a_status_is_a_200_in_json() -> None:
    answer = response_of(b'{"message": "hello"}')
    assert (answer.status, answer.body) == (200, b'{"message": "hello"}')
    assert answer.headers == (("content-type", "application/json"),)


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b'{"statusCode": "many"}',
        b'{"statusCode": 199}',
        b'{"statusCode": 200, "headers": {"x-name": "\\u20ac"}}',
        b'{"statusCode": 200, "headers": {"x-name": "a\\r\\nset-cookie: b=1"}}',
        b'{"statusCode": 200, "cookies": ["a=\\u20ac"]}',
        b'{"statusCode": 200, "headers": []  , "cookies": 5}',
        b'{"statusCode": 200, "isBase64Encoded": true, "body": "?"}',
        b'{"statusCode": 200, "body": "' + b"x" * RESPONSE_LIMIT + b'"}',
    ],
)
def test_unusable_response_is_the_gateways_500(payload: bytes) -> None:
    answer = response_of(payload)
    assert (answer.status, json.loads(answer.body)) == (500, {"message": "Internal Server Error"})


CORS = {
    "AllowOrigins": ["http://localhost:5173"],
    "AllowMethods": ["GET", "POST"],
    "AllowHeaders": ["authorization"],
    "ExposeHeaders": ["etag"],
    "AllowCredentials": True,
    "MaxAge": 60,
}


def test_listed_origin_is_allowed_and_another_never_reflected() -> None:
    assert dict(cors_headers(CORS, "http://localhost:5173")) == {
        "access-control-allow-origin": "http://localhost:5173",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "etag",
        "vary": "origin",
    }
    assert cors_headers(CORS, "http://evil.example") == ()
    assert cors_headers(CORS, "") == ()


def test_preflight_is_answered_by_the_gateway_with_what_is_declared() -> None:
    asked = [("Origin", "http://localhost:5173"), ("Access-Control-Request-Method", "POST")]
    answer = preflight(CORS, HttpRequest("OPTIONS", "/x", headers=asked))
    assert answer is not None
    assert answer.status == 204
    headers = dict(answer.headers)
    assert headers["access-control-allow-methods"] == "GET,POST"
    assert headers["access-control-allow-headers"] == "authorization"
    assert headers["access-control-max-age"] == "60"


def test_preflight_of_a_foreign_origin_gets_no_permission() -> None:
    asked = [("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")]
    answer = preflight(CORS, HttpRequest("OPTIONS", "/x", headers=asked))
    assert answer is not None
    assert (answer.status, answer.headers) == (204, ())


def test_options_request_that_is_no_preflight_goes_to_its_route() -> None:
    assert preflight(CORS, HttpRequest("OPTIONS", "/x")) is None
