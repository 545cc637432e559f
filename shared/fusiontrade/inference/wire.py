"""The binary body of ``POST /invocations``, `NPY`: a request as three ``.npy`` arrays, one after the other.

1. ``|u1``: the request as JSON in UTF-8, just as `ForecastRequest` reads it but for its columns of candles: each is
   replaced by its length. Spaces at the end fill it up.
2. ``<i8``: the columns of whole numbers (open times), item by item.
3. ``<f8``: the columns of prices and volumes, item by item, each item's in the order of `CandleColumns`.

Whoever has numpy writes it with three calls of ``np.save`` on one open file. Always true here: the formats follow the
contract's own fields, so a field that is added there needs nothing here; numbers arrive bit for bit; reading takes no
memory for what a body only claims to hold, copies no column that is aligned, and evaluates nothing; whatever is wrong
with a body is `pydantic.ValidationError` (the JSON) or `InvalidInput`, whose ``field`` points at it.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model

from fusiontrade.errors import InvalidInput
from fusiontrade.inference.contract import CandleColumns, ForecastItem, ForecastRequest
from fusiontrade.market.candles import CandleFrame

__all__ = ["NPY", "columns_of", "decode", "encode", "head_of"]

NPY = "application/x-npy"

_HEAD, _WHOLE, _REAL = "|u1", "<i8", "<f8"
_COLUMNS = {
    name: _WHOLE if field.annotation == list[int] else _REAL for name, field in CandleColumns.model_fields.items()
}
_ALIGNMENT = 64
_SAID = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{ ?'descr': ?'(?P<type>[^']{1,16})', ?'fortran_order': ?(?:False|True),"
    rb" ?'shape': ?\((?P<shape>[\d, ]{0,64})\),? ?\} *\n",
    re.DOTALL,
)
"""What ``np.save`` writes before the numbers, format 1.0; nothing of it is evaluated."""

Array = NDArray[Any]


def columns_of(frame: CandleFrame) -> CandleColumns:
    """Return the columns of ``frame`` for sending: its own arrays where `CandleColumns.of` makes lists of numbers."""
    return CandleColumns.model_construct(**{name: getattr(frame, name) for name in _COLUMNS})


def encode(request: ForecastRequest) -> bytes:
    """Return ``request`` as a binary body.

    Raises
    ------
    InvalidInput
        If an open time does not fit 64 bits.
    """
    head = request.model_dump(mode="json", exclude={"items": {"__all__": {"candles"}}})
    columns: dict[str, list[Array]] = {_WHOLE: [], _REAL: []}
    for number, (item, said) in enumerate(zip(request.items, head["items"], strict=True)):
        said["candles"] = lengths = dict[str, int | None]()
        for name, dtype in _COLUMNS.items():
            values = getattr(item.candles, name)
            lengths[name] = None if values is None else len(values)
            if values is not None:
                columns[dtype].append(_packed(values, dtype, f"/items/{number}/candles/{name}"))
    text = json.dumps(head, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    parts = [_announcement(_HEAD, len(text)), text]
    for dtype, found in columns.items():
        parts += [_announcement(dtype, sum(map(len, found))), *(column.tobytes() for column in found)]
    return b"".join(parts)


def head_of(body: bytes) -> bytes:
    """Return the JSON of a binary body, which is not looked at; raises `InvalidInput` where its place is wrong."""
    return _head(body)[0].tobytes()


def decode(body: bytes) -> ForecastRequest:
    """Return the request that ``body`` holds; its columns are read-only arrays over the body.

    Raises
    ------
    pydantic.ValidationError
        If its JSON breaks the contract.
    InvalidInput
        If anything else does; ``field`` is a JSON pointer into the request, or empty where it is the body as a whole.
    """
    head, end = _head(body)
    request = _head_model().model_validate_json(head.tobytes())
    whole, end = _array(body, end, _WHOLE, "the second array (open times)")
    real, end = _array(body, end, _REAL, "the third array (prices and volumes)")
    if end != len(body):
        raise InvalidInput("", f"{len(body) - end} bytes follow the third array: send nothing after it")
    _fill_in(request, {_WHOLE: whole, _REAL: real})
    if not np.isfinite(real).all():
        raise InvalidInput(_first_not_finite(request), "Input should be a finite number")
    return request


def _packed(values: Any, dtype: str, pointer: str) -> Array:
    try:
        return np.asarray(values, dtype)
    except OverflowError:
        raise InvalidInput(pointer, "an open time does not fit 64 bits: send ms since 1970-01-01 UTC") from None


def _announcement(dtype: str, count: int) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({count},), }}"
    return b"\x93NUMPY\x01\x00\x76\x00" + text.encode().ljust(2 * _ALIGNMENT - 11) + b"\n"


def _head(body: bytes) -> tuple[Array, int]:
    return _array(body, 0, _HEAD, "the first array (the request as JSON)")


def _array(body: bytes, start: int, dtype: str, what: str) -> tuple[Array, int]:
    """Return the array that begins at ``start``, (n,) of ``dtype``, and where it ends."""
    said = _SAID.match(body, start, start + 10 + 0xFFFF)
    if said is None or said.end() - start - 10 != int.from_bytes(said["length"], "little"):
        raise InvalidInput("", f"{what} is not a .npy array of format 1.0, as np.save writes it")
    given, shape = said["type"].decode("latin-1"), said["shape"].decode().strip(", ")
    if given != dtype or not shape.isdigit():
        raise InvalidInput("", f"{what} has to be {dtype} of shape (n,); it is {given[:16]!r} of shape ({shape[:32]})")
    size = int(shape) * int(dtype[-1])
    if size > len(body) - said.end():
        raise InvalidInput("", f"{what} is cut short: {size} bytes announced, {len(body) - said.end()} bytes follow")
    values = np.frombuffer(body, dtype, int(shape), said.end()) if size else np.empty(0, dtype)
    return values if values.flags.aligned else values.copy(), said.end() + size


def _fill_in(request: ForecastRequest, found: dict[str, Array]) -> None:
    """Put the columns in the place of their lengths, into the models that were made for it a moment ago."""
    ends = dict.fromkeys(found, 0)
    for item in request.items:
        columns = vars(item.candles)
        for name, dtype in _COLUMNS.items():
            length = columns[name]
            if length is not None:
                start = ends[dtype]
                ends[dtype] = end = start + length
                columns[name] = found[dtype][start:end]
    for dtype, wanted in ends.items():
        if wanted != len(found[dtype]):
            raise InvalidInput("", f"the {dtype} array has {len(found[dtype])} numbers, the JSON tells of {wanted}")


def _first_not_finite(request: ForecastRequest) -> str:
    """Return the pointer of the first number that is NaN or infinite."""
    for number, item in enumerate(request.items):
        for name, values in vars(item.candles).items():
            if values is not None and not (finite := np.isfinite(values)).all():
                return f"/items/{number}/candles/{name}/{finite.argmin()}"
    return ""


@lru_cache(maxsize=1)
def _head_model() -> type[ForecastRequest]:
    """Return the contract with each column of candles replaced by its length; everything else is checked as ever."""
    length = Annotated[int, Field(ge=0, le=2**31, strict=True)]
    columns: dict[str, Any] = {
        name: (length, ...) if field.is_required() else (length | None, None)
        for name, field in CandleColumns.model_fields.items()
    }
    lengths = create_model("CandleLengths", __base__=CandleColumns, **columns)
    item = create_model("ItemHead", __base__=ForecastItem, candles=(lengths, ...))
    several = Annotated[(list[item], *ForecastRequest.model_fields["items"].metadata)]
    return create_model("RequestHead", __base__=ForecastRequest, items=(several, ...))
