"""Cursors and tags: what a client is given and what is taken back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.responses import Response

from fusiontrade.derivation import Derivation
from fusiontrade.errors import InvalidInput
from fusiontrade.settings import Settings
from fusiontrade.web import create_app
from fusiontrade.web.answering.cursors import Cursors
from fusiontrade.web.answering.etags import answered, etag_of, matches
from fusiontrade.web.framework import APIRouter, Request
from tests.support.asgi_client import AsgiClient

CURSORS = Cursors(Derivation(lambda: "the secret of these tests, long enough"))
POSITION = {"owner": "u1", "id": "2025-07-31#ab", "n": 7}
SEALED = CURSORS.seal(POSITION, "journal:PENDING", "u1")


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(st.characters(codec="utf-8")), max_size=5))
def test_a_cursor_gives_its_position_back(position: dict[str, Any]) -> None:
    assert CURSORS.open(CURSORS.seal(position, "p", "u"), "p", "u") == position


def refusal(cursor: str, purpose: str = "journal:PENDING", user: str = "u1") -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        CURSORS.open(cursor, purpose, user)
    return refused.value


def test_a_cursor_of_another_user_list_or_secret_is_refused_in_the_same_words() -> None:
    others = Cursors(Derivation(lambda: "another secret of these tests, long enough"))
    refusals = [
        refusal(SEALED, user="u2"),
        refusal(SEALED, purpose="journal:WIN"),
        refusal(others.seal(POSITION, "journal:PENDING", "u1")),
        refusal(base64.urlsafe_b64encode(bytes(16) + json.dumps(POSITION).encode()).decode()),
        *[refusal(text) for text in ("", "=", "####", "é", "A", "AAAA", SEALED + "A", SEALED * 100)],
    ]
    assert {(refused.field, str(refused)) for refused in refusals} == {
        ("query/cursor", "this cursor is not one of this list; leave it out to start at the first page")
    }


@given(st.integers(0, len(SEALED) - 2), st.sampled_from("ABCxyz019-_"))
def test_a_cursor_changed_in_one_letter_is_refused(at: int, letter: str) -> None:
    if SEALED[at] != letter:
        refusal(SEALED[:at] + letter + SEALED[at + 1 :])


@given(st.text(max_size=60))
def test_no_text_opens_by_chance(text: str) -> None:
    refusal(text)


class Report(BaseModel):
    rows: list[int]


router = APIRouter()


@router.get("/report", operation_id="report", response_model=Report)
def report(request: Request, rows: int = 3) -> Response:
    return answered(request, Report(rows=list(range(rows))))


CLIENT = AsgiClient(create_app("t", [router], Settings.from_environment({"STAGE": "local"})))


def test_who_has_the_answer_already_gets_304_without_a_body() -> None:
    first = CLIENT.get("/report")
    assert (first.status_code, first.json()) == (200, {"rows": [0, 1, 2]})
    again = CLIENT.get("/report", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert again.headers["cache-control"] == first.headers["cache-control"] == "private, no-cache"
    changed = CLIENT.get("/report?rows=4", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    ("asked", "same"),
    [(None, False), ("", False), ("*", True), ('"a"', False), ("TAG", True), ("W/TAG", True), ('"a",TAG', True)],
)
def test_what_if_none_match_may_say(asked: str | None, same: bool) -> None:
    tag = etag_of(b"body")
    assert matches(asked and asked.replace("TAG", tag), tag) is same
