"""A door before the emulated AWS that writes down which function asked for what, in the words of IAM.

Each function's process gets this door as its endpoint and its own name as its access key, which the request's signature
names. The emulator does not know `dynamodb:LeadingKeys`; the keys of each call are written down here.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Call", "Door", "door_before"]

_HOP = {"connection", "expect", "transfer-encoding", "keep-alive", "content-length"}


@dataclass(frozen=True)
class Call:
    """One right that a function used: ``keys`` are the leading keys of items, ``context`` other condition keys."""

    caller: str
    action: str
    resource: str
    keys: frozenset[str] = frozenset()
    context: tuple[tuple[str, str], ...] = ()


@dataclass
class Door:
    """What was asked for; ``leading`` tells the partition key of a table or of ``table/index/name``."""

    leading: Mapping[str, str]
    calls: set[Call] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    url: str = ""

    def note(self, caller: str, method: str, path: str, target: str, body: bytes) -> None:
        """Write down what one request needs; what cannot be read is told apart."""
        try:
            for action, resource, keys, context in self._rights(method, path, target, body):
                self.calls.add(Call(caller, action, resource, frozenset(keys), tuple(sorted(context.items()))))
        except (KeyError, ValueError):
            self.unread.add(f"{caller}: {method} {path} {target}")

    def _rights(
        self, method: str, path: str, target: str, body: bytes
    ) -> Iterator[tuple[str, str, set[str], dict[str, str]]]:
        service, _, operation = target.rpartition(".")
        if not target:
            yield _of_s3(method, path)
            return
        asked = json.loads(body)
        if service.startswith("DynamoDB"):
            yield from self._of_dynamodb(operation, asked)
        elif service == "secretsmanager":
            yield f"secretsmanager:{operation}", asked["SecretId"], set(), {}
        elif service == "AmazonSQS":
            name = asked["QueueUrl"].rpartition("/")[2]
            yield f"sqs:{operation.removesuffix('Batch')}", f"arn:aws:sqs:us-east-1:000000000000:{name}", set(), {}
        elif service == "TrentService":
            context = {f"kms:EncryptionContext:{k}": v for k, v in asked.get("EncryptionContext", {}).items()}
            yield f"kms:{operation}", asked["KeyId"], set(), context
        else:
            raise ValueError(target)

    def _of_dynamodb(
        self, operation: str, asked: Mapping[str, Any]
    ) -> Iterator[tuple[str, str, set[str], dict[str, str]]]:
        if operation == "TransactWriteItems":
            for item in asked["TransactItems"]:
                for kind, part in item.items():
                    action = "ConditionCheckItem" if kind == "ConditionCheck" else f"{kind}Item"
                    yield from self._of_dynamodb(action, part)
            return
        if operation == "BatchGetItem":
            for table, part in asked["RequestItems"].items():
                keys = {key[self.leading[table]]["S"] for key in part["Keys"]}
                yield f"dynamodb:{operation}", f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}", keys, {}
            return
        place = asked["TableName"] + (f"/index/{asked['IndexName']}" if "IndexName" in asked else "")
        name = self.leading[place]
        item = asked.get("Key") or asked.get("Item")
        keys = set()
        if operation == "Query":
            names, values = asked.get("ExpressionAttributeNames", {}), asked["ExpressionAttributeValues"]
            equal = re.findall(r"(#?\w+) = (:\w+)", asked["KeyConditionExpression"])
            keys = {values[value]["S"] for attribute, value in equal if names.get(attribute, attribute) == name}
        elif item is not None:
            keys = {item[name]["S"]}
        elif operation != "Scan":
            raise ValueError(operation)
        yield f"dynamodb:{operation}", f"arn:aws:dynamodb:us-east-1:000000000000:table/{place}", keys, {}


def _of_s3(method: str, path: str) -> tuple[str, str, set[str], dict[str, str]]:
    bucket, _, key = path.partition("?")[0].lstrip("/").partition("/")
    if not key:
        return {"GET": "s3:ListBucket", "HEAD": "s3:ListBucket"}[method], f"arn:aws:s3:::{bucket}", set(), {}
    action = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}[method]
    return action, f"arn:aws:s3:::{bucket}/{key}", set(), {}


@contextmanager
def door_before(port: int, leading: Mapping[str, str]) -> Iterator[Door]:
    """The door to the emulator on ``port``."""
    door = Door(leading)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            caller = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
            door.note(caller[1] if caller else "", self.command, self.path, self.headers.get("X-Amz-Target", ""), body)
            emulator = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                emulator.request(self.command, self.path, body, kept)
                answer = emulator.getresponse()
                content = answer.read()
            finally:
                emulator.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _pass_on

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    door.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield door
    finally:
        server.shutdown()
        server.server_close()
