"""The binary body: what goes in comes out bit for bit, and a body that lies is refused without being believed."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fusiontrade.errors import InvalidInput
from fusiontrade.inference import wire
from fusiontrade.inference.contract import CHANCES, CalibrationState, CandleColumns, ForecastItem, ForecastRequest
from fusiontrade.market.timeframes import Timeframe
from tests.support.fusion_fakes import NOON, bars

OFFSETS = tuple((head - 8) / 7 for head in range(CHANCES))
SLOPES = tuple((8 - head) / 17 for head in range(CHANCES))
BENDS = tuple((head - 8) / 90 for head in range(CHANCES))
STATE = CalibrationState(
    version="v1", lower=-0.1, upper=1 / 3, offsets=OFFSETS, slopes=SLOPES, bends=BENDS, revision=4, as_of=NOON
)
NAMES = tuple(CandleColumns.model_fields)

reals = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5)
columns = st.builds(
    CandleColumns,
    time=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    open=reals,
    high=reals,
    low=reals,
    close=reals,
    volume=st.none() | reals,
)
items = st.builds(
    ForecastItem,
    symbol=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    timeframe=st.sampled_from(Timeframe),
    candles=columns,
    market=st.sampled_from((None, "fx", "crypto")),
    state=st.sampled_from((None, STATE)),
)


def request(*counts: int, volume: bool = True) -> ForecastRequest:
    frames = [bars(f"S{number}", Timeframe.H1, count=count) for number, count in enumerate(counts)]
    frames = frames if volume else [frame.without_volume() for frame in frames]
    return ForecastRequest(
        items=[
            ForecastItem(symbol=frame.symbol, timeframe=frame.timeframe, candles=CandleColumns.of(frame))
            for frame in frames
        ]
    )


def as_lists(request: ForecastRequest) -> dict[str, Any]:
    """The request as plain values, whether its columns are lists or arrays."""
    plain = request.model_dump(exclude={"items": {"__all__": {"candles"}}})
    for item, said in zip(request.items, plain["items"], strict=True):
        values = {name: getattr(item.candles, name) for name in NAMES}
        said["candles"] = {name: None if value is None else list(value) for name, value in values.items()}
    return plain


def saved(head: Any, whole: Any, real: Any) -> bytes:
    """The body as somebody with numpy alone writes it."""
    file = io.BytesIO()
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    for array in (np.frombuffer(text, np.uint8), whole, real):
        np.save(file, array)
    return file.getvalue()


def head(*lengths: int, **changes: Any) -> dict[str, Any]:
    candles = [dict.fromkeys(NAMES, length) | {"volume": None} | changes for length in lengths]
    return {"items": [{"symbol": "A", "timeframe": "1h", "candles": each} for each in candles]}


@given(st.lists(items, min_size=1, max_size=4))
def test_every_request_comes_back_bit_for_bit(several: list[ForecastItem]) -> None:
    request = ForecastRequest(items=several)
    decoded = wire.decode(wire.encode(request))
    assert as_lists(decoded) == as_lists(request)
    assert isinstance(decoded, ForecastRequest)
    for item in decoded.items:
        assert isinstance(item.timeframe, Timeframe)
        assert item.state is None or isinstance(item.state, CalibrationState)


def test_the_columns_are_aligned_arrays_over_the_body_that_nobody_can_write_to() -> None:
    decoded = wire.decode(wire.encode(request(720, 3)))
    for item in decoded.items:
        for name in NAMES:
            column = getattr(item.candles, name)
            assert column.dtype == (np.int64 if name == "time" else np.float64)
            assert column.flags.aligned
            assert not column.flags.writeable
    frame = decoded.items[0].frame()
    assert frame.close.tolist() == request(720).items[0].candles.close
    assert frame.close.base is not None


def test_a_frame_is_sent_from_its_own_arrays_and_makes_the_same_body() -> None:
    frame = bars("S0", Timeframe.H1, count=7)
    item = ForecastItem(symbol="S0", timeframe=frame.timeframe, candles=wire.columns_of(frame))
    assert item.candles.close is frame.close
    assert wire.encode(ForecastRequest(items=[item])) == wire.encode(request(7))


def test_numpy_reads_what_we_write() -> None:
    file = io.BytesIO(wire.encode(request(3, 2, volume=False)))
    said = json.loads(np.load(file).tobytes())
    assert said["items"][1]["candles"] == {"time": 2, "open": 2, "high": 2, "low": 2, "close": 2, "volume": None}
    wanted = request(3, 2).items
    assert np.load(file).tolist() == wanted[0].candles.time + wanted[1].candles.time
    assert np.load(file).tolist()[:6] == wanted[0].candles.open + wanted[0].candles.high
    assert file.read() == b""


@pytest.mark.parametrize("spaces", range(9))
def test_what_numpy_writes_is_read_whatever_the_length_of_its_json(spaces: int) -> None:
    text = json.dumps(head(1)).encode() + b" " * spaces
    (item,) = wire.decode(saved(text, np.array([7]), np.array([1.0, 3.0, 0.5, 2.0]))).items
    assert (list(item.candles.time), list(item.candles.close), item.candles.volume) == ([7], [2.0], None)
    assert item.candles.close.flags.aligned  # type: ignore[attr-defined]


def test_a_body_of_an_older_writer_whose_state_has_no_bends_is_read() -> None:
    said = head(1)
    said["items"][0]["state"] = STATE.model_dump(mode="json", exclude={"bends"})
    (item,) = wire.decode(saved(said, np.array([7]), np.ones(4))).items
    assert item.state == STATE.model_copy(update={"bends": (0.0,) * CHANCES})


def test_columns_of_different_length_arrive_as_they_are() -> None:
    decoded = wire.decode(saved(head(2, close=1), np.arange(2), np.arange(7.0)))
    assert [len(getattr(decoded.items[0].candles, name)) for name in NAMES[:5]] == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("count", [0, 513])
def test_the_contract_still_counts_the_items(count: int) -> None:
    with pytest.raises(ValidationError, match="items"):
        wire.decode(saved(head(*[0] * count), np.arange(0), np.arange(0.0)))


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b"", ()),
        (b"[]", ()),
        (b'{"items": [1]}', ("items", 0)),
        (json.dumps(head(1, surprise=1)).encode(), ("items", 0, "candles", "surprise")),
        (json.dumps(head(1, time=None)).encode(), ("items", 0, "candles", "time")),
        (json.dumps(head(1, open=-1)).encode(), ("items", 0, "candles", "open")),
        (json.dumps(head(1, open=1.5)).encode(), ("items", 0, "candles", "open")),
        (json.dumps(head(1, open=[1.0])).encode(), ("items", 0, "candles", "open")),
        (json.dumps(head(1, open=10**30)).encode(), ("items", 0, "candles", "open")),
        (b"[" * 100_000, ()),
    ],
)
def test_json_that_breaks_the_contract_names_the_field(text: bytes, pointer: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        wire.decode(saved(text, np.array([7]), np.ones(4)))
    assert caught.value.errors()[0]["loc"] == pointer


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the first array .* is not a .npy array of format 1.0"),
        (b'{"items": []}', "the first array .* is not a .npy array"),
        (saved(b"{}", np.arange(1), np.ones(4)).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x02"), "format 1.0"),
        (saved(head(1), np.arange(1), np.ones(4, np.float32)), r"third array .* has to be <f8 .* it is '<f4'"),
        (saved(head(1), np.arange(1).astype(">i8"), np.ones(4)), r"second array .* has to be <i8 .* it is '>i8'"),
        (saved(head(1), np.ones(1), np.ones(4)), r"second array .* it is '<f8'"),
        (saved(head(1), np.arange(1)[None], np.ones(4)), r"has to be <i8 of shape \(n,\); it is .* \(1, 1\)"),
        (saved(head(1), np.arange(2), np.ones(4)), "the <i8 array has 2 numbers, the JSON tells of 1"),
        (saved(head(1), np.arange(1), np.ones(5)), "the <f8 array has 5 numbers, the JSON tells of 4"),
        (saved(head(2**31), np.arange(1), np.ones(4)), "the JSON tells of 2147483648"),
        (saved(head(1), np.arange(1), np.ones(4)) + b"\0", "1 bytes follow the third array"),
        (saved(head(1), np.arange(1), np.ones(4))[:-1], "cut short: 32 bytes announced, 31 bytes follow"),
    ],
)
def test_a_body_that_is_not_three_arrays_says_what_is_wrong(body: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        wire.decode(body)
    assert caught.value.field == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("place", "pointer"),
    [(0, "/items/0/candles/open/0"), (3, "/items/0/candles/high/1"), (9, "/items/1/candles/high/0")],
)
def test_a_number_that_is_not_finite_is_named(value: float, place: int, pointer: str) -> None:
    real = np.ones(12)
    real[place] = value
    with pytest.raises(InvalidInput, match="finite number") as caught:
        wire.decode(saved(head(2, 1), np.arange(3), real))
    assert caught.value.field == pointer


@pytest.mark.parametrize("count", [10**9, 10**18, 10**40])
def test_a_size_that_is_only_claimed_takes_no_memory(count: int) -> None:
    body = saved(head(1), np.arange(1), np.ones(4))
    claimed = body.replace(b"(4,), }" + b" " * len(str(count)), b"(%d,), } " % count)
    assert len(claimed) == len(body)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="cut short"):
            wire.decode(claimed)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_every_way_to_cut_a_body_short_is_an_error() -> None:
    body = wire.encode(request(1))
    for end in range(len(body)):
        with pytest.raises((InvalidInput, ValidationError)):
            wire.decode(body[:end])


@given(st.data())
def test_no_change_of_its_bytes_is_anything_but_an_error_or_a_request(data: st.DataObject) -> None:
    body = bytearray(wire.encode(request(3, 1)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = min(len(body), start + data.draw(st.integers(0, 12)))
        body[start:end] = data.draw(st.binary(max_size=12))
    try:
        decoded = wire.decode(bytes(body))
    except (InvalidInput, ValidationError):
        return
    assert all(np.isfinite(item.candles.close).all() for item in decoded.items)


def test_an_open_time_beyond_64_bits_cannot_be_sent() -> None:
    late = (
        request(1)
        .items[0]
        .model_copy(update={"candles": CandleColumns(time=[2**63], open=[1], high=[1], low=[1], close=[1])})
    )
    with pytest.raises(InvalidInput, match="does not fit 64 bits") as caught:
        wire.encode(ForecastRequest(items=[late]))
    assert caught.value.field == "/items/0/candles/time"
