"""First answers of Lambda handlers: run in fresh interpreters by `infra.bench.starts`, which times them from outside.

Imports nothing but the standard library before it is told to, so that both sides begin with the same.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__all__ = ["first_answer", "plain_first_answer", "token_answer"]


def _event(path: str) -> dict[str, Any]:
    http = {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "bench"}
    context = {"http": http, "requestId": "bench", "stage": "$default", "timeEpoch": 0}
    base = {"version": "2.0", "routeKey": f"GET {path}", "rawPath": path, "rawQueryString": "", "headers": {}}
    return {**base, "requestContext": context, "isBase64Encoded": False}


class _Context:
    function_name, function_version, memory_limit_in_mb = "bench", "$LATEST", 512
    invoked_function_arn, aws_request_id = "arn:aws:lambda:us-east-1:000000000000:function:bench", "bench"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 10_000


def first_answer(module: str, path: str, status: int, *services: str) -> None:
    """Import a function, make the clients of ``services``, and let it answer one request."""
    handler = import_module(module).handler
    if services:
        from fusiontrade.cloud.session import client

        for service in services:
            client(service)
    if (answered := handler(_event(path), _Context())["statusCode"]) != status:
        sys.exit(f"{module} answered {answered}, not {status}")


def token_answer(module: str, path: str) -> None:
    """Import a function, make its two clients, sign and check a token, and let it answer one request."""
    handler = import_module(module).handler
    from fusiontrade.accounts.admission.tokens import SigningKeys, Tokens
    from fusiontrade.accounts.identity import Identity
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.session import client

    client("dynamodb"), client("secretsmanager")
    keys = SigningKeys.generate()
    tokens = Tokens(lambda: keys, issuer="bench", audience="bench", seconds=60, clock=system_clock)
    tokens.verify(tokens.issue(Identity("1", "a@example.com", "free", "1", True)).text)
    if (answered := handler(_event(path), _Context())["statusCode"]) != 401:
        sys.exit(f"{module} answered {answered}, not 401")


def plain_first_answer() -> None:
    """Import FastAPI and Mangum and answer one request, with nothing of ours."""
    from fastapi import FastAPI
    from mangum import Mangum

    app = FastAPI()

    @app.get("/api/v1/auth/me")
    def me() -> dict[str, str]:
        return {"id": "1"}

    if Mangum(app, lifespan="off")(_event("/api/v1/auth/me"), _Context())["statusCode"] != 200:
        sys.exit("the plain handler did not answer 200")
