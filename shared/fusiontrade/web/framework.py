"""FastAPI as everything here imports it: in the one way that makes a start cheap.

Always true here: the models that FastAPI itself defines, forty of OpenAPI documents, are built when they are first
used, which is never in a function; everybody else's are built as ever. A test holds that nobody imports FastAPI past
this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel

from fusiontrade.startup import uncollected


@contextmanager
def _models_built_on_use() -> Iterator[None]:
    """Let models that are defined inside wait for their first use (pydantic's ``defer_build``)."""
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]


with uncollected(), _models_built_on_use():
    from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

__all__ = [
    "APIKeyHeader",
    "APIRouter",
    "Depends",
    "FastAPI",
    "HTTPAuthorizationCredentials",
    "HTTPBearer",
    "Header",
    "Path",
    "Query",
    "Request",
    "RequestValidationError",
    "Response",
]
