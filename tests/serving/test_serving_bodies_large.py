"""Large bodies: what would hold Python's lock for seconds is refused before it is parsed, the rest one at a time."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fusiontrade.inference.contract import CHANCES, ForecastRequest
from serving.bodies import JSON, NPY, Announced, Aside, is_parsed_soon, parsed, stocks_of, texts_of
from serving.refusals import Refusal

MANY = 300_000
FLOODS = {
    "members": b'{"items": [], ' + b",".join(MANY * [b'"":0']) + b"}",
    "members of a state": b'{"items": [{"state": {' + b",".join(MANY * [b'"":0']) + b"}}]}",
    "members behind spaces": b'{"items": [], ' + b",".join(MANY * [b'"" : 0']) + b"}",
    "empty items": b'{"items": [' + b",".join(MANY * [b"{}"]) + b"]}",
    "empty lists": b'{"items": [], "x": [' + b",".join(MANY * [b"[]"]) + b"]}",
    "numbers as strings": b'{"items": [{"candles": {"time": [' + b",".join(MANY * [b'"15"']) + b"]}}]}",
    "tiny numbers": b'{"items": [{"candles": {"time": [' + b",".join(MANY * [b"1"]) + b"]}}]}",
    "behind an escape": b'{"x": "\\\\", "y": "\\"", "items": [' + b",".join(MANY * [b"{}"]) + b"]}",
    "never ended": b'{"items": [' + MANY * b"{},",
}


def npy(head: bytes) -> bytes:
    """A binary body whose first array is ``head``, and the others empty."""
    parts = (np.frombuffer(head, "|u1"), np.empty(0, "<i8"), np.empty(0, "<f8"))
    announced = "{{'descr': '{}', 'fortran_order': False, 'shape': ({},), }}"
    body = b""
    for part, kind in zip(parts, ("|u1", "<i8", "<f8"), strict=True):
        text = announced.format(kind, len(part)).encode().ljust(117) + b"\n"
        body += b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + part.tobytes()
    return body


@pytest.mark.parametrize("what", FLOODS)
def test_json_that_no_request_is_like_is_refused_unparsed_whatever_it_is_sent_as(what: str) -> None:
    flood = FLOODS[what]
    assert not is_parsed_soon(flood)
    for parse in (
        lambda: parsed(flood, Announced(JSON, False, False)),
        lambda: parsed(npy(flood), Announced(NPY, False, False)),
        lambda: texts_of(flood),
        lambda: stocks_of(flood),
    ):
        with pytest.raises(Refusal, match="more members, lists or values than any request") as refused:
            parse()
        assert refused.value.status == 400


def fullest_item(symbol: str) -> dict[str, Any]:
    chances = [0.125] * CHANCES
    state = {"version": symbol, "lower": 0.0, "upper": 0.0, "offsets": chances, "slopes": chances}
    state |= {"bends": [0.0625] * CHANCES}
    return {
        "symbol": symbol,
        "timeframe": "1h",
        "candles": {
            "time": [1_704_067_200_000],
            **{name: [1.0] for name in ("open", "high", "low", "close")},
            "volume": [0.0],
        },
        "market": "equity",
        "state": state | {"revision": 0, "as_of": 0},
        "models": ["lstm", "patchtst", "gru", "cnn", "transformer", "lstm", "gru", "cnn"],
        "samples": 256,
    }


@pytest.mark.parametrize("symbol", [64 * "A", 64 * '"', 64 * "\\", 32 * '":', 32 * "{[", 64 * ",", 64 * "\u0001"])
def test_the_fullest_request_is_taken_whatever_its_names_are(symbol: str) -> None:
    body = json.dumps({"items": [fullest_item(symbol)] * 512}).encode()
    request: ForecastRequest = parsed(body, Announced(JSON, False, False))
    assert {item.symbol for item in request.items} == {symbol}
    head = json.loads(body)
    for item in head["items"]:
        item["candles"] = dict.fromkeys(item["candles"], 0)
    heads = parsed(npy(json.dumps(head).encode()), Announced(NPY, False, False))
    assert [item.symbol for item in heads.items] == 512 * [symbol]


def test_bars_of_the_fewest_digits_are_taken() -> None:
    bars = 30_000
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), [1] * bars)
    item = {"symbol": "A", "timeframe": "1h", "candles": {"time": [1_704_067_200_000] * bars, **columns}}
    body = json.dumps({"items": [item]}, separators=(",", ":")).encode()
    (read,) = parsed(body, Announced(JSON, False, False)).items
    assert read.candles.volume == [1.0] * bars
    del item["timeframe"]
    assert stocks_of(json.dumps({"items": [item]}, separators=(",", ":")).encode()).items[0].symbol == "A"


def test_texts_may_be_full_of_what_json_is_made_of() -> None:
    texts = [300 * '{"a": [1, "b\\", {}], ":": 0}, '] * 512
    assert texts_of(json.dumps({"texts": texts}).encode()) == texts
    assert texts_of(json.dumps({"texts": texts}, ensure_ascii=False).encode()) == texts


def test_large_bodies_are_parsed_one_at_a_time_and_the_loop_goes_round_between() -> None:
    """Whoever wants Python's lock in between is the loop: it must come to answer what has arrived meanwhile."""
    turns, seen = 0, list[tuple[str, int]]()
    at_work = threading.Semaphore(1)

    def parse(name: str, *, fails: bool) -> str:
        assert at_work.acquire(blocking=False), "two at a time"
        seen.append(("begun", turns))
        try:
            if fails:
                raise ValueError(name)
            return name
        finally:
            seen.append(("done", turns))
            at_work.release()

    async def scenario(pool: ThreadPoolExecutor) -> list[Any]:
        loop = asyncio.get_running_loop()

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        turn()
        aside = Aside(pool)
        calls = [aside(parse, name, fails=name == "b") for name in "abcd"]
        return await asyncio.gather(*calls, return_exceptions=True)

    with ThreadPoolExecutor(4) as pool:
        found = asyncio.run(scenario(pool))
    assert [found[0], str(found[1]), *found[2:]] == ["a", "b", "c", "d"]
    assert isinstance(found[1], ValueError)
    between = [begun - done for (_, done), (_, begun) in zip(seen[1::2], seen[2::2], strict=False)]
    assert len(between) == 3
    assert min(between) >= 6  # accepted, handed over, opened, read, begun, answered
