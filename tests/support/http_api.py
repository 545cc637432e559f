"""What API Gateway's HTTP API and Lambda hand to a function: payload 2.0 events and a context."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote


@dataclass
class Context:
    """As much of Lambda's context as a handler reads; ``milliseconds`` is what it says is left."""

    milliseconds: int = 29_000
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    function_name: str = "function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:function"

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@dataclass(frozen=True)
class Answer:
    """A function's answer as a client gets it."""

    status: int
    headers: dict[str, str]
    text: str
    cookies: tuple[str, ...] = ()
    """Values of ``Set-Cookie``."""

    def json(self) -> Any:
        return json.loads(self.text)


def event(
    method: str,
    target: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    address: str = "192.0.2.1",
) -> dict[str, Any]:
    """The event of one request; ``target`` is a path as it stands on the request line, with or without a query.

    The gateway takes cookies out of the headers, and the ``address`` of the caller from the connection.
    """
    path, _, query = target.partition("?")
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": unquote(path),
        "rawQueryString": query,
        "headers": {name.lower(): value for name, value in (headers or {}).items()} | {"host": "api.example.com"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "api",
            "domainName": "api.example.com",
            "http": {
                "method": method,
                "path": unquote(path),
                "protocol": "HTTP/1.1",
                "sourceIp": address,
                "userAgent": "tests",
            },
            "requestId": "gateway-request",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": 1_750_000_000_000,
        },
        "isBase64Encoded": False,
    }
    if cookies := made["headers"].pop("cookie", ""):
        made["cookies"] = cookies.split("; ")
    if body is not None:
        made["headers"].setdefault("content-length", str(len(body)))
        made["body"] = base64.b64encode(body).decode()
        made["isBase64Encoded"] = True
    return made


def call(handler: Any, method: str, target: str, *, json_body: Any = None, **more: Any) -> Answer:
    """Call a handler as the gateway would; a ``json_body`` is sent with its content type."""
    headers = dict(more.pop("headers", None) or {})
    body = more.pop("body", None)
    if json_body is not None:
        body = json.dumps(json_body).encode()
        headers.setdefault("Content-Type", "application/json")
    sent = event(method, target, headers=headers, body=body, address=more.pop("address", "192.0.2.1"))
    answer = handler(sent, more.pop("context", None) or Context())
    text = answer.get("body", "")
    if answer.get("isBase64Encoded"):
        text = base64.b64decode(text).decode()
    headers = {name.lower(): value for name, value in answer.get("headers", {}).items()}
    return Answer(answer["statusCode"], headers, text, tuple(answer.get("cookies", ())))
