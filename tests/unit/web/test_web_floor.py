"""What every answer of every function has in common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from fusiontrade import errors
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of, problems, seconds_left
from fusiontrade.web.problems import TABLE
from infra.local.template import Template
from tests.support.asgi_client import AsgiClient
from tests.support.http_api import Context, call, event

SETTINGS = Settings.from_environment(
    {"STAGE": "local", "ALLOWED_ORIGINS": "https://app.example.com", "MAX_BODY_BYTES": "2048"}
)
RAISED: dict[str, Exception] = {
    "invalid": errors.InvalidInput("query/as_of", "as_of lies in the future"),
    "unauthenticated": errors.Unauthenticated("sign in"),
    "forbidden": errors.Forbidden("pro only"),
    "missing": errors.NotFound("no such entry"),
    "symbol": errors.UnknownSymbol("NOSUCH"),
    "conflict": errors.Conflict("already there"),
    "slow": errors.TooManyRequests("slow down", retry_after=17),
    "provider": errors.ProviderUnavailable("yahoo does not answer", retry_after=9),
    "inference": errors.InferenceUnavailable("the models do not answer"),
    "state": errors.StateUnavailable("table Accounts-123 did not answer"),
    "candles": errors.BadCandles(["bar 3: high below low"]),
    "bundle": errors.BundleRefused("checksum of /opt/model.onnx"),
    "crash": RuntimeError("password=hunter2 in /var/task/app.py"),
}


class Item(BaseModel):
    name: str
    size: int = 1


router = APIRouter(prefix="/api/v1/things", tags=["things"])


@router.get("/fail/{kind}", operation_id="fail", responses=problems(401, 503))
def fail(kind: str) -> Item:
    raise RAISED[kind]


@router.post("", operation_id="make", responses=problems(409))
def make(item: Item) -> Item:
    return item


@router.get("/left", operation_id="left")
def left(seconds: Annotated[float, Depends(seconds_left)]) -> dict[str, float]:
    return {"seconds": seconds}


@router.post("/both", operation_id="both")
def both(item: Item) -> Item:
    return item


@router.get("/{symbol}", operation_id="show")
def show(symbol: str, count: int = 1) -> dict[str, str | int]:
    return {"symbol": symbol, "count": count}


@pytest.fixture
def client() -> AsgiClient:
    return AsgiClient(create_app("things", [router], SETTINGS))


@pytest.mark.parametrize(
    ("kind", "status", "slug"),
    [
        ("invalid", 422, "invalid-input"),
        ("unauthenticated", 401, "unauthenticated"),
        ("forbidden", 403, "forbidden"),
        ("missing", 404, "not-found"),
        ("symbol", 404, "unknown-symbol"),
        ("conflict", 409, "conflict"),
        ("slow", 429, "too-many-requests"),
        ("provider", 503, "market-data-unavailable"),
        ("inference", 503, "inference-unavailable"),
        ("state", 503, "state-unavailable"),
        ("candles", 503, "bad-candles"),
        ("bundle", 503, "bundle-refused"),
        ("crash", 500, "unexpected"),
    ],
)
def test_each_error_is_its_problem(client: AsgiClient, kind: str, status: int, slug: str) -> None:
    answer = client.get(f"/api/v1/things/fail/{kind}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (document["type"], document["status"]) == (f"/problems/{slug}", status)
    assert document["instance"] == f"/api/v1/things/fail/{kind}"
    assert document["request_id"] == answer.headers["x-request-id"]


def test_every_error_class_of_the_product_is_in_the_table() -> None:
    def tree(kind: type) -> set[type]:
        return {kind}.union(*(tree(child) for child in kind.__subclasses__() if child.__module__ == errors.__name__))

    assert tree(errors.FusionTradeError) - {errors.FusionTradeError} <= set(TABLE)


def test_an_invalid_input_points_at_its_field(client: AsgiClient) -> None:
    answer = client.get("/api/v1/things/fail/invalid").json()
    assert answer["errors"] == [{"pointer": "/query/as_of", "message": "as_of lies in the future"}]


@pytest.mark.parametrize(("kind", "seconds"), [("slow", "17"), ("provider", "9"), ("inference", "30")])
def test_a_refusal_for_now_says_when_to_come_back(client: AsgiClient, kind: str, seconds: str) -> None:
    assert client.get(f"/api/v1/things/fail/{kind}").headers["retry-after"] == seconds


def test_a_401_names_the_scheme(client: AsgiClient) -> None:
    assert client.get("/api/v1/things/fail/unauthenticated").headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("kind", ["crash", "state", "bundle"])
def test_what_is_inside_stays_inside(client: AsgiClient, kind: str) -> None:
    text = client.get(f"/api/v1/things/fail/{kind}").text
    for secret in ("hunter2", "/var/task", "RuntimeError", "Traceback", "Accounts-123", "/opt"):
        assert secret not in text


def test_an_unexpected_error_is_logged_with_its_stack(client: AsgiClient, caplog: pytest.LogCaptureFixture) -> None:
    client.get("/api/v1/things/fail/crash")
    (record,) = [r for r in caplog.records if r.name == "fusiontrade.web.problems"]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[0] is RuntimeError


def test_a_wrong_body_names_each_field(client: AsgiClient) -> None:
    answer = client.post("/api/v1/things", json={"size": "big"})
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/body/name", "/body/size"]


def test_an_unknown_path_and_a_wrong_method_are_problems(client: AsgiClient) -> None:
    missing, wrong = client.get("/nowhere"), client.put("/api/v1/things")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    assert wrong.headers["allow"] == "POST"


def test_a_wrong_method_is_told_every_method_of_the_path(client: AsgiClient) -> None:
    assert client.put("/api/v1/things/both").headers["allow"] == "GET, POST"


@pytest.mark.parametrize("path", ["/api/v1/things/EURUSD%3DX", "/api/v1/things/EURUSD%3DX/", "/api/v1/things/EURUSD=X"])
def test_a_path_is_the_same_with_a_trailing_slash_and_percent_encoded(client: AsgiClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)
    assert (answer.status_code, answer.json()) == (200, {"symbol": "EURUSD=X", "count": 1})


def test_a_body_posted_to_a_path_with_a_trailing_slash_arrives(client: AsgiClient) -> None:
    answer = client.post("/api/v1/things/", json={"name": "a"}, follow_redirects=False)
    assert (answer.status_code, answer.json()) == (200, {"name": "a", "size": 1})


def test_a_valid_request_id_is_kept_and_any_other_is_replaced(client: AsgiClient) -> None:
    kept = client.get("/api/v1/things/x", headers={"X-Request-Id": "trace-0001.a_b"})
    assert kept.headers["x-request-id"] == "trace-0001.a_b"
    for bad in ("short", "has space in it", "x" * 129, "quote\"quote'", "new\tline-here"):
        made = client.get("/api/v1/things/x", headers={"X-Request-Id": bad}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_every_answer_has_the_security_headers(client: AsgiClient) -> None:
    for path in ("/api/v1/things/x", "/nowhere", "/api/v1/things/fail/crash"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["strict-transport-security"].startswith("max-age=63072000")


def test_a_body_over_the_limit_is_refused_whatever_its_length_says(client: AsgiClient) -> None:
    said = client.post("/api/v1/things", json={"name": "x" * 3000})
    dripped = client.post(
        "/api/v1/things", content=iter([b"x" * 1000] * 3), headers={"Content-Type": "application/json"}
    )
    for answer in (said, dripped):
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_a_body_of_another_type_is_refused(client: AsgiClient, media_type: str) -> None:
    answer = client.post("/api/v1/things", content=b'{"name": "a"}', headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


def test_json_with_a_charset_is_json(client: AsgiClient) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert client.post("/api/v1/things", content=b'{"name": "a"}', headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"null", 422),
        (b'{"name": "\xff"}', 400),
        (b'{"name": "\xed\xa0\x80"}', 400),
        ('{"name": "a"}'.encode("utf-16"), 400),
        (b'{"name": "\\ud800"}', 422),
        (b'{"\\udc00": 1, "name": "a"}', 422),
        (b'{"name": "\\ud800"', 422),
    ],
)
def test_a_broken_body_is_a_problem(client: AsgiClient, body: bytes, status: int) -> None:
    answer = client.post("/api/v1/things", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_nested_without_end_is_a_problem(client: AsgiClient) -> None:
    answer = client.post("/api/v1/things", content=b"[" * 2000, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)  # Python 3.13's parser goes deeper than 3.11's
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_whole_surrogate_pair_and_an_escaped_backslash_are_text(client: AsgiClient) -> None:
    for body, name in ((b'{"name": "\\ud83e\\udd89"}', "🦉"), (b'{"name": "\\\\ud800"}', "\\ud800")):
        answer = client.post("/api/v1/things", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["name"]) == (200, name)


def test_a_configured_origin_is_answered_and_no_other_is_echoed(client: AsgiClient) -> None:
    ours = client.get("/api/v1/things/x", headers={"Origin": "https://app.example.com"})
    assert ours.headers["access-control-allow-origin"] == "https://app.example.com"
    assert ours.headers["vary"] == "Origin"
    for origin in ("https://evil.example.com", "null", "https://app.example.com.evil.com", "http://app.example.com"):
        answer = client.get("/api/v1/things/x", headers={"Origin": origin})
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_is_answered_without_reaching_a_route(client: AsgiClient) -> None:
    headers = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    answer = client.options("/api/v1/things", headers=headers)
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    refused = client.options("/api/v1/things", headers={**headers, "Origin": "https://evil.example.com"})
    assert "access-control-allow-methods" not in refused.headers


def test_the_document_has_our_problems_and_not_the_frameworks(client: AsgiClient) -> None:
    document = create_app("things", [router], SETTINGS).openapi()
    assert "HTTPValidationError" not in json.dumps(document)
    make_answers = document["paths"]["/api/v1/things"]["post"]["responses"]
    assert list(make_answers) == ["200", "400", "409", "413", "415", "422", "500"]
    assert list(document["paths"]["/api/v1/things/left"]["get"]["responses"]) == ["200", "500"]
    for status in ("400", "409", "422"):
        content = make_answers[status]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


HANDLER = handler_of(create_app("things", [router], SETTINGS))


def test_the_handler_answers_an_http_api_event() -> None:
    answer = call(HANDLER, "GET", "/api/v1/things/EURUSD%3DX?count=3")
    assert (answer.status, answer.json()) == (200, {"symbol": "EURUSD=X", "count": 3})


def test_a_problem_leaves_the_handler_as_text() -> None:
    answer = HANDLER(event("GET", "/nowhere"), Context())
    assert answer["isBase64Encoded"] is False
    assert json.loads(answer["body"])["type"] == "/problems/not-found"


@pytest.mark.parametrize(("milliseconds", "seconds"), [(60_000, 25.0), (10_500, 10.0), (300, 0.0)])
def test_the_budget_is_what_is_configured_or_what_the_function_has_left(milliseconds: int, seconds: float) -> None:
    answer = call(HANDLER, "GET", "/api/v1/things/left", context=Context(milliseconds))
    assert answer.json() == {"seconds": seconds}


def test_the_handler_works_after_another_loop_was_used_and_closed() -> None:
    import asyncio

    async def nothing() -> None:
        return None

    asyncio.run(nothing())
    assert call(HANDLER, "GET", "/api/v1/things/x").status == 200


def test_log_lines_are_json_with_the_request_id_and_no_query_or_header(capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS.model_copy(update={"log_level": "INFO"})
    handler = handler_of(create_app("logged", [router], settings))
    headers = {"X-Request-Id": "trace-0002", "Authorization": "Bearer very-secret"}
    call(handler, "GET", "/api/v1/things/x?count=7", headers=headers)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["message"] == "request"]
    assert line["request_id"] == "trace-0002"
    assert line["function_request_id"] == Context().aws_request_id
    assert (line["service"], line["method"], line["path"], line["status"]) == ("logged", "GET", "/api/v1/things/x", 200)
    assert "very-secret" not in json.dumps(lines)
    assert "count" not in json.dumps(lines)


@pytest.mark.parametrize("host", ["[", "[::1", "evil.example.com/elsewhere?x#", "a:b:c", "a:port", "", "with space"])
def test_whatever_the_host_header_says_the_answer_is_the_same(host: str) -> None:
    asked = event("GET", "/nowhere")
    asked["headers"] |= {"host": host, "x-forwarded-port": "not-a-port"}
    answer = HANDLER(asked, Context())
    assert answer["statusCode"] == 404
    assert json.loads(answer["body"])["instance"] == "/nowhere"


def test_the_instance_of_a_problem_is_a_uri_whatever_the_path_holds(client: AsgiClient) -> None:
    for path in ("/no%20where", "/EURUSD=X%3Fa%23b", "/%C3%A9"):
        assert client.get(path).json()["instance"] == path


@pytest.mark.parametrize("length", ["9" * 5000, "\N{SUPERSCRIPT TWO}", "-1", "two"])
def test_a_content_length_that_is_no_length_breaks_nothing(length: str) -> None:
    asked = event("POST", "/api/v1/things", body=b'{"name": "a"}', headers={"Content-Type": "application/json"})
    asked["headers"]["content-length"] = length
    assert HANDLER(asked, Context())["statusCode"] in (200, 413)


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/vnd.things+json"])
def test_a_body_of_another_type_is_refused_even_where_no_header_announces_it(media_type: str | None) -> None:
    asked = event("POST", "/api/v1/things", body=b'{"name": "\\ud800"}')
    del asked["headers"]["content-length"]
    if media_type is not None:
        asked["headers"]["content-type"] = media_type
    assert HANDLER(asked, Context())["statusCode"] == 415


def test_pages_of_other_origins_may_send_and_read_the_same_headers_by_the_gateway_as_by_a_function(
    client: AsgiClient,
) -> None:
    """The gateway's own answer to browsers replaces a function's: what it leaves out no page can read."""
    gateway = Template(Path(__file__).resolve().parents[3] / "template.yaml").cors
    answer = client.get("/api/v1/things/fail/slow", headers={"Origin": "https://app.example.com"})
    for of_template, of_function in (
        ("ExposeHeaders", "access-control-expose-headers"),
        ("AllowHeaders", "access-control-allow-headers"),
        ("AllowMethods", "access-control-allow-methods"),
    ):
        assert {name.lower() for name in gateway[of_template]} == set(answer.headers[of_function].lower().split(", "))
    assert {"link", "content-disposition", "preference-applied"} <= set(gateway["ExposeHeaders"])
