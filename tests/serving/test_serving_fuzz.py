"""Whatever is sent to ``/invocations``: an answer or a problem, never a fault of the program's own.

``FUZZ_EXAMPLES=20000 pytest tests/serving/test_serving_fuzz.py`` looks longer.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import open_files, peak_memory
from tiny_bundles import Program, candles, item, serving

from fusiontrade.inference import wire
from fusiontrade.inference.contract import CHANCES, CandleColumns, ForecastItem, ForecastRequest, ForecastResponse
from serving.bodies import JSON, NPY

LOOK = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
REFUSED = {400, 406, 408, 413, 415, 431, 503}

STATE = {
    "version": "-",
    "lower": 0.1,
    "upper": 0.2,
    "offsets": [0.1] * CHANCES,
    "slopes": [-0.1] * CHANCES,
    "bends": [0.05] * CHANCES,
    "revision": 3,
    "as_of": 1_700_000_000_000,
}
GOOD = {
    "items": [
        item(candles(bars=720, volume=True)) | {"market": "fx", "state": STATE},
        item(candles("A", "15m", bars=3)),
    ]
}
ALL_GOOD = ForecastRequest.model_validate_json(json.dumps(GOOD))
SMALL = ForecastRequest(
    items=[
        ForecastItem(symbol="A", timeframe=frame.timeframe, candles=CandleColumns.of(frame))
        for frame in (candles(bars=5, volume=True), candles(timeframe="4h", bars=2))
    ]
)

odd_numbers = st.sampled_from(
    [0, -1, 1e308, -1e308, 5e-324, 2**63, -(2**63) - 1, 2**64, 10**400, 0.1, float("nan"), float("inf"), 4.1e12]
)
odd_words = st.sampled_from(
    ["", "1h", "NaN", "EURUSD=X", "\0", "\ud800", "💥" * 100, "x" * 65, "__proto__", "../../etc"]
)
odd = st.recursive(
    st.none() | st.booleans() | odd_numbers | odd_words | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_words | st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


class Target:
    """The program, a kept connection to it, and what was true of it at first."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.client = httpx.Client(base_url=program.url, timeout=30)
        self.memory, self.files = peak_memory(program.process.pid), open_files(program.process.pid)

    def post(self, content: bytes, **headers: str) -> int:
        """Return the status, once the answer has shown to be one or a problem."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.client.post("/invocations", content=content, headers=given)
        if response.status_code == 200:
            ForecastResponse.model_validate_json(response.content)
        else:
            assert response.status_code in REFUSED, response.text
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["status"] == response.status_code
            assert problem["detail"]
            assert len(response.content) < 20_000
        return response.status_code


@pytest.fixture(scope="module")
def target(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with serving(bundles, tmp_path_factory.mktemp("log") / "log") as running:
        target = Target(running)
        served = {one["id"]: one["version"] for one in target.client.get("/models").json()["models"]}
        STATE["version"] = served["lstm-1h"]
        target.post(json.dumps(GOOD).encode(), content_type=JSON)
        yield target
        assert target.post(json.dumps(GOOD).encode(), content_type=JSON) == 200
        target.client.close()
        told = [line for line in running.lines() if "exception" in line or line["level"] == "CRITICAL"]
        assert not told, told[0]
        assert peak_memory(running.process.pid) - target.memory < 128 * 2**20
        assert open_files(running.process.pid) <= target.files + 4
        assert running.end() == 0


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value, of a list its first two and its last."""
    keys: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = sorted({0, 1, len(value) - 1} & set(range(len(value))))
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


PLACES = places(GOOD)


def with_change(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A copy of ``value`` with one place changed; what does not exist any more stays as it is."""
    if not path:
        return change(value)
    key, rest = path[0], path[1:]
    if isinstance(value, dict) and key in value:
        return {**value, key: with_change(value[key], rest, change)}
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return [*value[:key], with_change(value[key], rest, change), *value[key + 1 :]]
    return value


def changes() -> st.SearchStrategy[Callable[[Any], Any]]:
    def repeated(times: int) -> Callable[[Any], Any]:
        return lambda value: value * times if isinstance(value, list | str) else value

    def extended(extra: dict[str, Any]) -> Callable[[Any], Any]:
        return lambda value: {**value, **extra} if isinstance(value, dict) else value

    return (
        odd.map(lambda other: lambda value: other)
        | st.integers(0, 3).map(repeated)
        | st.dictionaries(odd_words, odd, min_size=1, max_size=2).map(extended)
        | st.integers(0, 3).map(lambda end: lambda value: value[:end] if isinstance(value, list) else value)
    )


@LOOK
@given(st.lists(st.tuples(st.sampled_from(PLACES), changes()), min_size=1, max_size=3))
def test_json_changed_in_its_structure(target: Target, several: list[tuple[tuple[Any, ...], Any]]) -> None:
    value: Any = GOOD
    for path, change in several:
        value = with_change(value, path, change)
    target.post(json.dumps(value).encode("utf-8", "surrogatepass"), content_type=JSON)


@LOOK
@given(odd)
def test_json_of_any_shape(target: Target, value: Any) -> None:
    assert target.post(json.dumps(value).encode("utf-8", "surrogatepass"), content_type=JSON) == 400


@LOOK
@given(
    seed=st.integers(0, 2**32),
    exponents=st.tuples(st.integers(-320, 308), st.integers(-320, 308)),
    volume=st.sampled_from([0.0, 5e-324, 1.0, 1e300]),
    odds=st.lists(st.tuples(st.sampled_from(("open", "high", "low", "close", "volume")), odd_numbers), max_size=2),
    flat=st.booleans(),
)
def test_bars_of_extreme_numbers(
    target: Target,
    seed: int,
    exponents: tuple[int, int],
    volume: float,
    odds: list[tuple[str, Any]],
    flat: bool,
) -> None:
    random = np.random.default_rng(seed)
    sides = 10.0 ** random.uniform(min(exponents), max(exponents), (1 if flat else 720, 4)).repeat(
        720 if flat else 1, 0
    )
    low, middle, other, high = (column.tolist() for column in np.sort(sides, axis=1).T)
    columns = {"open": middle, "high": high, "low": low, "close": other, "volume": [volume] * 720}
    for name, value in odds:
        columns[name][int(random.integers(720))] = value
    one = GOOD["items"][0]
    value = {"items": [{**one, "candles": {"time": one["candles"]["time"], **columns}}]}
    target.post(json.dumps(value).encode(), content_type=JSON)


def mutated(data: st.DataObject, body: bytes, most: int) -> bytes:
    """``body`` with a few of its stretches replaced, doubled or cut out."""
    spoiled = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, min(len(spoiled), most)))
        end = min(len(spoiled), start + data.draw(st.integers(0, 16)))
        spoiled[start:end] = data.draw(st.binary(max_size=16) | st.just(bytes(spoiled[start:end]) * 2))
    return bytes(spoiled[: data.draw(st.sampled_from([None, None, None, len(spoiled) // 2]))])


@LOOK
@given(st.data())
def test_a_binary_body_with_changed_bytes(target: Target, data: st.DataObject) -> None:
    body = wire.encode(data.draw(st.sampled_from([SMALL, ALL_GOOD])))
    most = data.draw(st.sampled_from([200, 900, len(body)]))  # the heads of the arrays are few bytes among many
    target.post(mutated(data, body, most), content_type=NPY)


@LOOK
@given(st.data())
def test_the_json_of_a_binary_body_changed_in_its_structure(target: Target, data: st.DataObject) -> None:
    body = wire.encode(SMALL)
    said = json.loads(body[128 : body.index(b"\x93", 128)])
    value = with_change(said, data.draw(st.sampled_from(places(said))), data.draw(changes()))
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    head = b"\x93NUMPY\1\0\x76\0" + f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(text)},), }}".encode()
    target.post(head.ljust(127) + b"\n" + text + body[body.index(b"\x93", 128) :], content_type=NPY)


@LOOK
@given(st.data())
def test_a_gzip_body_with_changed_bytes(target: Target, data: st.DataObject) -> None:
    packed = gzip.compress(wire.encode(SMALL), mtime=0)
    target.post(mutated(data, packed, len(packed)), content_type=NPY, content_encoding="gzip")


header_values = st.sampled_from(
    ["", "*/*", JSON, NPY, "gzip", "identity", "gzip, gzip", "application/json;q=0", ";", ",", "q=", "a;q=é", "\t", "0"]
) | st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)


@LOOK
@given(
    headers=st.dictionaries(
        st.sampled_from(["content-type", "accept", "accept-encoding", "content-encoding", "x-request-id", "expect"]),
        header_values.map(lambda value: value.encode("latin-1").strip()),
    )
)
def test_headers_of_any_kind(target: Target, headers: dict[str, bytes]) -> None:
    response = target.client.post("/invocations", content=wire.encode(SMALL), headers=list(headers.items()))  # type: ignore[arg-type]
    assert response.status_code in {200, *REFUSED}


@LOOK
@given(st.data())
def test_requests_with_changed_bytes(target: Target, data: st.DataObject) -> None:
    body = json.dumps(GOOD["items"][1]).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    spoiled = mutated(data, head % len(body) + body, 120)
    with socket.create_connection(("127.0.0.1", target.program.port), timeout=10) as connection:
        connection.sendall(spoiled)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            answer = b""
    assert not answer or answer.split()[1] in {b"%d" % status for status in {200, 404, 405, 100, *REFUSED}}, answer
