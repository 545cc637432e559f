"""Answers that a client may keep and ask about: ``ETag`` out, ``If-None-Match`` in, 304 where nothing has changed.

Always true here: the tag follows from the bytes alone, so every process gives the same one; what is a user's own says
``private`` and is asked about each time.
"""

from __future__ import annotations

import hashlib

from pydantic import BaseModel
from starlette.responses import Response

from fusiontrade.web.framework import Request

__all__ = ["answered", "etag_of", "matches"]

ASK_EACH_TIME = "private, no-cache"


def etag_of(body: bytes) -> str:
    """Return the strong tag of ``body``, in its quotes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Return whether a request's ``If-None-Match`` names ``etag`` (RFC 9110, 13.1.2: weakness does not matter)."""
    if if_none_match is None:
        return False
    named = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in named or named == ["*"]


def answered(
    request: Request,
    content: BaseModel | bytes,
    *,
    cache_control: str = ASK_EACH_TIME,
    media_type: str = "application/json",
) -> Response:
    """Return ``content`` with its tag, or a 304 where the client has it already."""
    body = content if isinstance(content, bytes) else content.model_dump_json().encode()
    etag = etag_of(body)
    headers = {"ETag": etag, "Cache-Control": cache_control}
    asked = ",".join(request.headers.getlist("If-None-Match")) or None
    if matches(asked, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
