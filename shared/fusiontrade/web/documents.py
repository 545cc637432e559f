"""The OpenAPI 3.1 document of one function, with the errors that the floor itself can answer.

Always true here: every operation lists the 500, the 422 where it takes anything, 400, 413 and 415 where it takes a
body, 401, 403, 429 and 503 where it wants to know the caller (403 is for unverified users, whom the auth function
takes), and 409 where it takes an idempotency key; each is a *Problem*. The framework's own validation schema never
appears.
"""

from __future__ import annotations

from typing import Any

from fusiontrade.web import problems
from fusiontrade.web.framework import FastAPI

__all__ = ["document_of"]

_REPLACED_SCHEMAS = ("HTTPValidationError", "ValidationError")


def document_of(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of ``app``, made anew."""
    from fastapi.openapi.utils import get_openapi

    document = get_openapi(title=app.title, version=app.version, routes=app.routes, tags=app.openapi_tags)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _REPLACED_SCHEMAS:
        schemas.pop(name, None)
    schemas |= _problem_schemas()
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation, of_accounts=app.state.service == "auth")
    return document


def _complete(operation: dict[str, Any], *, of_accounts: bool) -> None:
    statuses = {500}
    if operation.get("security"):
        statuses |= {401, 429, 503} if of_accounts else {401, 403, 429, 503}
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", [])):
        statuses |= {409, 503}
    if operation.get("parameters") or operation.get("requestBody"):
        statuses.add(422)
    if operation.get("requestBody"):
        statuses |= {400, 413, 415}
    answers = operation["responses"]
    answers |= {str(status): problems.described(status) for status in sorted(statuses)}
    operation["responses"] = dict(sorted(answers.items()))


def _problem_schemas() -> dict[str, Any]:
    schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = schema.pop("$defs", {})
    return {"Problem": schema, **nested}
