"""The API's document, its pages, health, and every unknown path."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fusiontrade import __version__
from fusiontrade.clock import parse_iso
from infra import openapi

Call = Any
FOLDER = Path(__file__).resolve().parents[2] / "functions" / "docs"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads((FOLDER / "openapi.json").read_text(encoding="utf-8"))


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_committed_document_and_pages_are_what_the_functions_say() -> None:
    for name, text in openapi.files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, f"{name} is not current: run make openapi"


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="only in the development environment")
    validator.validate(document)
    assert document["openapi"].startswith("3.1.")


def test_every_operation_has_an_id_of_its_own_a_tag_a_summary_and_its_errors(document: dict[str, Any]) -> None:
    every = operations(document)
    ids = [operation["operationId"] for _, operation in every]
    assert len(set(ids)) == len(ids) >= 8
    for name, operation in every:
        assert operation["tags"], name
        assert operation["summary"], name
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert "500" in errors, name
        for answer in errors.values():
            assert list(answer["content"]) == ["application/problem+json"], name
        if operation.get("security"):
            assert "401" in errors, name


def test_the_contract_paths_are_there(document: dict[str, Any]) -> None:
    assert {
        "POST /api/v1/auth/login",
        "GET /api/v1/auth/me",
        "GET /.well-known/jwks.json",
        "GET /openapi.json",
        "GET /api/health",
        "GET /health",
        "GET /api/v1/health",
        "GET /api/v1/fusion/{symbol}",
        "POST /api/v1/fusion/analyze",
    } <= {name for name, _ in operations(document)}


def test_the_document_is_served_as_it_is_committed(docs: Call, document: dict[str, Any]) -> None:
    answer = docs("GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == document


@pytest.mark.parametrize("path", ["/api/health", "/health", "/api/v1/health", "/health/"])
def test_health_says_what_runs(docs: Call, path: str) -> None:
    body = docs("GET", path).json()
    assert {**body, "timestamp": ""} == {
        "status": "healthy", "version": __version__, "service": "FusionTrade AI", "timestamp": "",
    }  # fmt: skip
    assert parse_iso(body["timestamp"]) > 1_700_000_000_000


class Page(HTMLParser):
    """Collects what a page would fetch or run, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.ids.add(value or "")
            assert not name.startswith("on")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_shows_every_operation_and_fetches_nothing(docs: Call, document: dict[str, Any], path: str) -> None:
    answer = docs("GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page(answer.text)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(link.startswith(("/", "#")) for link in page.links)
    for name, operation in operations(document):
        assert operation["operationId"] in page.ids, name
        assert name.partition(" ")[2] in page.text
    assert "curl -X POST 'http://localhost:2001/api/v1/auth/login'" in page.text


def test_every_schema_link_leads_somewhere(docs: Call) -> None:
    reference = Page(docs("GET", "/redoc").text)
    for path in ("/docs", "/redoc"):
        for link in Page(docs("GET", path).text).links:
            target = link.partition("#")[2]
            assert not target or target in reference.ids


def test_the_policy_of_a_page_allows_its_own_style_and_nothing_else(docs: Call) -> None:
    answer = docs("GET", "/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"
    )


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/"), ("GET", "/api/v1/nothing"), ("DELETE", "/a/b/c"), ("POST", "/x")]
)
def test_every_other_path_is_a_problem(docs: Call, method: str, target: str) -> None:
    answer = docs(method, target)
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["instance"] == target


def test_merging_refuses_what_two_functions_define_differently() -> None:
    def saying(path: str, operation_id: str, schema: str) -> dict[str, Any]:
        operation = {"operationId": operation_id, "tags": ["t"], "summary": "s"}
        return {
            "openapi": "3.1.0",
            "info": {"title": "t", "version": "1"},
            "paths": {path: {"get": operation}},
            "components": {"schemas": {"Item": {"type": schema}}},
        }

    first = saying("/a", "a", "string")
    assert list(openapi.merged({"one": first, "two": saying("/b", "b", "string")})["paths"]) == ["/a", "/b"]
    for other, message in (
        (saying("/a", "b", "string"), "GET /a of two is taken by one"),
        (saying("/b", "a", "string"), "a of two is taken by one"),
        (saying("/b", "b", "integer"), "components/schemas/Item differs"),
    ):
        with pytest.raises(openapi.MergeError, match=message):
            openapi.merged({"one": first, "two": other})
