"""FastAPI as everything here imports it: in the one way that makes a start cheap.

Always true here: the models that FastAPI itself defines, forty of OpenAPI documents, are built when they are first
used, which is never in a function; everybody else's are built as ever. pydantic's copy of its first version, which
FastAPI imports to ask of each model whether it is one of those, counts as absent: nobody here has such a model. A test
holds that nobody imports FastAPI past this module.
"""

from __future__ import annotations

import sys
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


sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]

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
