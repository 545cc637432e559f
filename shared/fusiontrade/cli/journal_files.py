"""The parts of an export made one file again: an answer holds so many entries, a journal any number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["joined_csv", "joined_json"]


def joined_csv(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Give the parts with the names of the columns in the first one only."""
    for index, part in enumerate(parts):
        yield part if index == 0 else part.partition(b"\n")[2]


def joined_json(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Give the elements of several arrays as one array."""
    before = b"["
    for part in parts:
        elements = part.strip()[1:-1].strip()
        if elements:
            yield before + elements
            before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"
