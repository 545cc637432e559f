"""The little of ONNX's protobuf that serving reads itself: which types of numbers a graph keeps its weights in.

ONNX Runtime does not tell, and the ``onnx`` package is not installed where bundles serve. Contents of weights are
stepped over, so this costs the same for any size of graph.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["weight_types"]

_GRAPH, _INITIALIZER, _DIMS, _DATA_TYPE = 7, 5, 1, 2  # fields of ModelProto, GraphProto and TensorProto
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_MATRIX = 2

Field = tuple[int, int | memoryview]


def weight_types(content: bytes) -> set[int]:
    """Return the ``TensorProto.DataType`` of every initializer with two axes or more.

    Raises
    ------
    ValueError
        If it is no protobuf message.
    """
    found = set()
    for number, graph in _fields(memoryview(content)):
        if number == _GRAPH and isinstance(graph, memoryview):
            tensors = (value for field, value in _fields(graph) if field == _INITIALIZER)
            found |= {kind for tensor in tensors if isinstance(tensor, memoryview) for kind in _matrix_type(tensor)}
    return found


def _matrix_type(tensor: memoryview) -> Iterator[int]:
    axes, kind = 0, 0
    for number, value in _fields(tensor):
        if number == _DIMS:
            axes += 1 if isinstance(value, int) else sum(byte < 0x80 for byte in value)  # one by one, or packed
        elif number == _DATA_TYPE and isinstance(value, int):
            kind = value
    if axes >= _MATRIX:
        yield kind


def _fields(message: memoryview) -> Iterator[Field]:
    """Yield number and value of each field: a whole number, or the bytes of what has a length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED_32, _FIXED_64):
            size = 4 if wire == _FIXED_32 else 8
        else:
            raise ValueError(f"no protobuf message: wire type {wire}")
        if at + size > len(message):
            raise ValueError("no protobuf message: it ends within a field")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("no protobuf message: a number does not end")
