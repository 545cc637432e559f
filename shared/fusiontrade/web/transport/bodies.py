"""Request bodies, read whole and checked before anything parses them.

Always true here: a body is never longer than the limit, whatever its Content-Length said; a JSON body is UTF-8 and
holds only text that can be written again. Python's parser lets lone surrogates through, and the first database, hash
or answer that meets one would fail.
"""

from __future__ import annotations

import json
import re

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from fusiontrade.errors import InvalidInput

__all__ = ["check_json", "read", "replay", "too_large"]

_MAYBE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def too_large(limit: int) -> HTTPException:
    """Return the 413 that names the limit in bytes."""
    return HTTPException(413, f"the body may be {limit} bytes at most")


async def read(receive: Receive, limit: int) -> bytes:
    """Return the whole body; raises `HTTPException` 413 as soon as it is longer than ``limit`` bytes."""
    chunks: list[bytes] = []
    received = 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise too_large(limit)
        chunks.append(chunk)
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a receiver that gives ``body`` once and then what ``receive`` gives."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def check_json(body: bytes) -> None:
    """Refuse a body that is not UTF-8 or whose texts hold half a surrogate pair; syntax is the parser's matter.

    Raises
    ------
    HTTPException
        400 where the bytes are not UTF-8.
    InvalidInput
        Where a text is not valid Unicode.
    """
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is not UTF-8") from None
    if b"\0" in body:
        raise HTTPException(400, "the body is not UTF-8 text")
    if _MAYBE_SURROGATE.search(body) is None:
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("body", "a text holds half a surrogate pair, which is not Unicode") from None
    except (ValueError, RecursionError):
        return
