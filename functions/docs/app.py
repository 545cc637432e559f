"""The docs function: the API's document, two pages made from it, health, and the problem for every unknown path.

The document and the pages are files beside this one, written by ``python -m infra.openapi``; a page holds one inline
style and no script, and its policy allows exactly that.
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from fusiontrade import __version__
from fusiontrade.clock import iso, system_clock
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of
from fusiontrade.web.framework import APIRouter

HERE = Path(__file__).parent
CACHED = {"Cache-Control": "public, max-age=300"}

router = APIRouter(tags=["docs"])


class Health(BaseModel):
    """That the API is reached and answers."""

    status: Literal["healthy"] = "healthy"
    version: str
    service: Literal["FusionTrade AI"] = "FusionTrade AI"
    timestamp: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def health() -> Health:
    """Say that the API answers."""
    return Health(version=__version__, timestamp=iso(system_clock()))


for path, operation_id in {
    "/api/health": "getHealth",
    "/health": "getRootHealth",
    "/api/v1/health": "getVersionedHealth",
}.items():
    router.add_api_route(path, health, operation_id=operation_id, summary="Health")


@cache
def file_text(name: str) -> str:
    """Return the text of a file beside this one."""
    return (HERE / name).read_text(encoding="utf-8")


@router.get("/openapi.json", operation_id="getDocument")
def document() -> dict[str, Any]:
    """Return this API's OpenAPI 3.1 document."""
    return Response(file_text("openapi.json"), media_type="application/json", headers=CACHED)  # type: ignore[return-value]


@router.get("/docs", include_in_schema=False)
def docs() -> Response:
    """Show every operation with its parameters, answers and a curl call."""
    return page("docs.html")


@router.get("/redoc", include_in_schema=False)
def redoc() -> Response:
    """Show the API as a reference: operations by tag, then every schema."""
    return page("redoc.html")


def page(name: str) -> Response:
    """Return a page under a policy that allows its own style and nothing else."""
    html = file_text(name)
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"
    return Response(html, media_type="text/html", headers={**CACHED, "Content-Security-Policy": policy})


app = create_app("docs", [router], Settings.from_environment(os.environ))


def ahead() -> None:
    """Read before a snapshot what is served as it is."""
    for name in ("openapi.json", "docs.html", "redoc.html"):
        file_text(name)


handler = handler_of(app, ahead)
