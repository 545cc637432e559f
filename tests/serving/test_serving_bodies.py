"""Bodies over HTTP: JSON and binary, plain and gzip, what is refused and in which words."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from processes import peak_memory
from starlette.datastructures import Headers
from tiny_bundles import TIMEFRAMES, Program, candles, item, wait_for

from fusiontrade.inference import wire
from fusiontrade.inference.contract import CandleColumns, ForecastItem, ForecastRequest
from fusiontrade.market.candles import CandleFrame
from serving.bodies import JSON, NPY, TEXTS, Memory, announced
from serving.refusals import Refusal

CAP = 6 * 1024 * 1024


def as_json(*frames: CandleFrame) -> bytes:
    return json.dumps({"items": [item(frame) for frame in frames]}).encode()


def as_npy(*frames: CandleFrame) -> bytes:
    return wire.encode(
        ForecastRequest(
            items=[
                ForecastItem(symbol=frame.symbol, timeframe=frame.timeframe, candles=CandleColumns.of(frame))
                for frame in frames
            ]
        )
    )


def post(program: Program, content: bytes, **headers: str) -> httpx.Response:
    given = {"content-type": JSON, "accept-encoding": "identity"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(program.url + "/invocations", content=content, headers=given, timeout=30)


@pytest.mark.parametrize("encoding", ["identity", "gzip", "x-gzip"])
@pytest.mark.parametrize("volume", [True, False])
def test_a_binary_body_plain_or_gzip_is_answered_as_its_json_is(program: Program, volume: bool, encoding: str) -> None:
    frames = [candles(timeframe=timeframe, seed=3, volume=volume) for timeframe in TIMEFRAMES]
    said = post(program, as_json(*frames)).json()
    for content, content_type in ((as_npy(*frames), NPY), (as_json(*frames), JSON)):
        packed = content if encoding == "identity" else gzip.compress(content)
        response = post(program, packed, content_type=content_type, content_encoding=encoding)
        assert response.status_code == 200
        assert response.headers["content-type"] == JSON
        assert response.json() == said


def test_a_bad_item_of_a_binary_body_is_its_own_error_as_in_json(program: Program) -> None:
    spoiled = candles()
    spoiled.low[5] = 99.0
    short = CandleColumns.of(candles()).model_copy(update={"close": [1.0]})
    request = ForecastRequest(
        items=[
            ForecastItem(symbol="A", timeframe=spoiled.timeframe, candles=columns)
            for columns in (CandleColumns.of(spoiled), short, CandleColumns.of(candles()))
        ]
    )
    told = post(program, wire.encode(request), content_type=NPY).json()["items"]
    assert [one["error"] and one["error"]["code"] for one in told] == ["bad_candles", "bad_candles", None]
    assert "high below low" in told[0]["error"]["detail"]
    assert "columns differ in length" in told[1]["error"]["detail"]
    assert told == post(program, request.model_dump_json().encode()).json()["items"]


@pytest.mark.parametrize("accept", ["gzip", "gzip, deflate, br", "br;q=1.0, gzip;q=0.5", "X-GZIP"])
def test_a_long_answer_is_gzip_where_that_is_accepted(program: Program, accept: str) -> None:
    frames = [candles(f"S{number}", timeframe) for number in range(6) for timeframe in TIMEFRAMES]
    plain = post(program, as_npy(*frames), content_type=NPY)
    packed = post(program, as_npy(*frames), content_type=NPY, accept_encoding=accept)
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 3


@pytest.mark.parametrize("accept", ["", "identity", "gzip;q=0", "br", "gzip;q=x", "*;q=0"])
def test_an_answer_is_plain_where_gzip_is_not_accepted(program: Program, accept: str) -> None:
    frames = [candles(f"S{number}", timeframe) for number in range(6) for timeframe in TIMEFRAMES]
    assert "content-encoding" not in post(program, as_json(*frames), accept_encoding=accept).headers


def test_a_short_answer_is_plain(program: Program) -> None:
    assert "content-encoding" not in post(program, as_json(candles()), accept_encoding="gzip").headers


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonp", "application/vnd.apache.arrow.stream", ""])
def test_another_content_type_is_415_and_told_what_is_taken(program: Program, content_type: str) -> None:
    response = post(program, b"{}", content_type=content_type)
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"
    taken = [
        "application/json",
        "application/x-npy",
        *(f"application/vnd.fusiontrade.{one}+json" for one in ("texts", "swing")),
    ]
    assert response.headers["accept-post"].split(", ") == taken
    problem = response.json()
    assert problem["title"] == "Unsupported Media Type"
    assert f"not {content_type or 'untyped'}: set Content-Type" in problem["detail"]


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip", "zstd"])
def test_another_encoding_is_415_and_told_what_is_taken(program: Program, encoding: str) -> None:
    response = post(program, as_json(candles()), content_encoding=encoding)
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "gzip"
    assert f"plain or gzip, not {encoding}" in response.json()["detail"]


@pytest.mark.parametrize("accept", ["text/html", "application/x-npy", "application/json;q=0", "image/*", "*/*;q=0"])
def test_a_client_that_takes_no_json_is_406(program: Program, accept: str) -> None:
    response = post(program, as_json(candles()), accept=accept)
    assert response.status_code == 406
    assert response.json()["detail"] == "answers are application/json: send an Accept header that takes it, or none"


@pytest.mark.parametrize(
    "accept",
    ["application/json", "*/*", "application/*", "text/html, application/json;q=0.1", "*/*;q=0, APPLICATION/JSON", ""],
)
def test_a_client_that_takes_json_gets_it(program: Program, accept: str) -> None:
    assert post(program, as_json(candles()), accept=accept).status_code == 200


def test_a_charset_beside_the_type_is_accepted(program: Program) -> None:
    assert post(program, as_json(candles()), content_type="Application/JSON; charset=utf-8").status_code == 200


def changed(body: bytes, **columns: Any) -> bytes:
    """The binary body with other values in the third array's first places."""
    place = body.rindex(b"\n", 0, body.rindex(b"<f8") + 200) + 1
    return body[:place] + np.asarray(columns["first"], "<f8").tobytes() + body[place + 8 * len(columns["first"]) :]


@pytest.mark.parametrize(
    ("spoil", "pointer", "told"),
    [
        (lambda body: b"", "", "is not a .npy array of format 1.0, as np.save writes it"),
        (lambda body: as_json(candles()), "", "is not a .npy array"),
        (lambda body: body[: len(body) // 2], "", "is cut short"),
        (lambda body: body[:-1], "", "is cut short"),
        (lambda body: body + b"\0" * 9, "", "9 bytes follow the third array"),
        (lambda body: body.replace(b'"open":720', b'"open":719'), "", "<f8 array has 2880 numbers, the JSON tells of"),
        (lambda body: body.replace(b'"open":720', b'"open":-72'), "/items/0/candles/open", "greater than or equal"),
        (lambda body: body.replace(b"(720,), }", b"(10**9,)}"), "", "second array (open times) is not a .npy array"),
        (lambda body: body.replace(b"(720,), }   ", b"(99999999,)}"), "", "cut short: 799999992 bytes announced"),
        (lambda body: body.replace(b"'<i8'", b"'<i4'"), "", "has to be <i8 of shape (n,); it is '<i4'"),
        (lambda body: body.replace(b'"timeframe":"1h"', b'"timeframe":"9h"'), "/items/0/timeframe", "Input should be"),
        (lambda body: changed(body, first=[1.0, np.nan]), "/items/0/candles/open/1", "a finite number"),
        (lambda body: changed(body, first=[np.inf]), "/items/0/candles/open/0", "a finite number"),
    ],
)
def test_a_hostile_binary_body_is_a_400_that_names_the_place(
    program: Program, spoil: Any, pointer: str, told: str
) -> None:
    before = peak_memory(program.process.pid)
    spoiled = spoil(as_npy(candles()))
    assert spoiled != as_npy(candles())
    response = post(program, spoiled, content_type=NPY)
    assert response.status_code == 400
    problem = response.json()
    assert problem["errors"][0]["pointer"] == pointer
    assert told in problem["errors"][0]["message"]
    assert (pointer or "the body") in problem["detail"]
    assert peak_memory(program.process.pid) - before < 8 * 2**20


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (as_json(candles()), "is not the gzip stream"),
        (zlib.compress(as_json(candles())), "is not the gzip stream"),
        (b"", "is cut short"),
        (gzip.compress(as_json(candles()))[:-9], "is cut short"),
        (gzip.compress(as_json(candles()))[:-8] + b"\0" * 8, "is not the gzip stream"),
        (gzip.compress(as_json(candles())) + b"more", "4 bytes follow the gzip stream"),
        (gzip.compress(as_json(candles())) * 2, "bytes follow the gzip stream of the body: send one stream"),
    ],
    ids=["plain", "zlib", "empty", "cut", "checksum", "trailing", "twice"],
)
def test_a_gzip_body_that_is_none_is_400(program: Program, content: bytes, told: str) -> None:
    response = post(program, content, content_encoding="gzip")
    assert response.status_code == 400
    assert told in response.json()["detail"]


def bomb(megabytes: int) -> bytes:
    """A gzip stream of that many megabytes of spaces, a kilobyte for each."""
    deflate = zlib.compressobj(9, wbits=-15)
    block = deflate.compress(b" " * 2**20) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * megabytes + b"\x03\0" + struct.pack("<II", 0, 0)


@pytest.mark.parametrize("content_type", [JSON, NPY])
@pytest.mark.parametrize("megabytes", [7, 5_000])
def test_a_gzip_bomb_is_413_and_never_inflated(program: Program, megabytes: int, content_type: str) -> None:
    before = peak_memory(program.process.pid)
    response = post(program, bomb(megabytes), content_encoding="gzip", content_type=content_type)
    assert response.status_code == 413
    assert f"{CAP} bytes after decompression" in response.json()["detail"]
    assert peak_memory(program.process.pid) - before < 48 * 2**20
    assert post(program, as_json(candles())).status_code == 200


def test_memory_for_bodies_is_given_back_and_one_body_too_many_is_503() -> None:
    memory = Memory(10)
    with memory.room() as first:
        first.take(6)
        with memory.room() as second:
            second.take(3)
            with pytest.raises(Refusal) as caught:
                second.take(2)
        assert caught.value.status == 503
        assert caught.value.headers == {"Retry-After": "1"}
        assert memory.held == 6
    assert memory.held == 0


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "²", "9" * 5000, "101"])
def test_a_length_that_is_no_number_or_too_large_is_413(length: str) -> None:
    with pytest.raises(Refusal) as caught:
        announced(Headers({"content-type": JSON, "content-length": length}), 100)
    assert caught.value.status == 413


def test_metrics_count_requests_and_bytes_by_route_status_and_format(program: Program) -> None:
    def counted() -> dict[str, float]:
        response = httpx.get(program.url + "/metrics")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain")
        lines = [line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    before = counted()
    content = as_npy(candles())
    post(program, content, content_type=NPY)
    post(program, b"{", content_type=JSON)
    post(program, b"", content_type="text/html")
    after = counted()
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    assert grown['serving_requests_total{route="/invocations",status="200"}'] == 1
    assert grown['serving_requests_total{route="/invocations",status="400"}'] == 1
    assert grown['serving_requests_total{route="/invocations",status="415"}'] == 1
    assert grown['serving_received_bytes_total{form="npy"}'] == len(content)
    assert grown['serving_received_bytes_total{form="json"}'] == 1
    assert grown['serving_items_total{outcome="answered"}'] == 1
    assert any(name.startswith("serving_bundle{") and value == 1 for name, value in after.items())
    assert after["process_resident_memory_bytes"] > 1e6


def test_the_outcomes_of_texts_are_counted_as_those_of_bars_are(program: Program) -> None:
    def empty() -> float:
        lines = httpx.get(program.url + "/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('serving_items_total{outcome="empty"'))

    before = empty()
    answer = post(program, json.dumps({"texts": ["", "Profits rise", " "]}).encode(), content_type=TEXTS)
    assert [one["error"] and one["error"]["code"] for one in answer.json()["items"]] == ["empty", None, "empty"]
    assert empty() == before + 2


def test_names_and_paths_without_end_are_repeated_in_part(program: Program) -> None:
    response = post(program, json.dumps({"items": [], "k" * 100_000: 1}).encode())
    assert response.status_code == 400
    assert len(response.content) < 1500
    lost = httpx.get(program.url + "/" + "a" * 60_000)
    assert lost.status_code == 404
    assert lost.json()["instance"] == "/" + "a" * 199
    assert len(lost.content) < 1500
    (line,) = wait_for(
        lambda: [line for line in program.lines() if line.get("request_id") == lost.headers["x-request-id"]]
    )
    assert line["path"] == "/" + "a" * 199
