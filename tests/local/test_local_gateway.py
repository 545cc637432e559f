"""The gateway over a real function process: what it answers itself, and what it passes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from infra.local import gateway as gateway_module
from infra.local.functions import Pool, process_environment
from infra.local.gateway import Gateway
from infra.local.http_events import BODY_LIMIT
from infra.local.template import Template

TEMPLATE = """
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties: {CorsConfiguration: {AllowOrigins: [http://localhost:5173], AllowMethods: [GET]}}
  Work:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: work
      Handler: app.handler
      Timeout: 1
      Events:
        Item: {Type: HttpApi, Properties: {Path: "/work/{what}", Method: ANY}}
        Hurried: {Type: HttpApi, Properties: {Path: /hurried, Method: GET, TimeoutInMillis: 200}}
"""
HANDLER = """
import os, time

def handler(event, context):
    what = event.get("pathParameters", {}).get("what", "sleep")
    if what == "sleep":
        time.sleep(30)
    if what == "crash":
        os._exit(1)
    return {
        "statusCode": 201,
        "headers": {"x-body": event.get("body", "none"), "access-control-allow-origin": "*"},
        "cookies": ["a=1", "b=2"],
        "body": event["rawPath"],
    }
"""


@asynccontextmanager
async def client_of(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    (folder / "work").mkdir()
    (folder / "work" / "app.py").write_text(HANDLER)
    (folder / "template.yaml").write_text(TEMPLATE)
    template = Template(folder / "template.yaml")
    function = template.functions["Work"]
    environment = process_environment(function, folder, {}, {"PATH": os.environ["PATH"]})
    pool = Pool(function, environment, limit=2, log=lambda _: None, say=lambda *_: None)
    transport = httpx.ASGITransport(app=Gateway(template, {"Work": pool}, "127.0.0.1:2001"))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:2001") as client:
            yield client
    finally:
        await pool.close()


def against(folder: Path, test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with client_of(folder) as client:
            await test(client)

    asyncio.run(scenario())


def test_request_reaches_the_handler_and_its_response_the_client(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/work/EURUSD%3DX", content=b'{"a":1}', headers={"content-type": "application/json"})
        assert (answer.status_code, answer.text) == (201, "/work/EURUSD=X")
        assert answer.headers["x-body"] == '{"a":1}'
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]

    against(tmp_path, test)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/elsewhere", 404, "Not Found"),
        ("/work/crash", 500, "Internal Server Error"),
        ("/work/sleep", 500, "Internal Server Error"),
        ("/hurried", 503, "Service Unavailable"),
    ],
)
def test_gateway_answers_itself_where_the_function_does_not(
    tmp_path: Path, path: str, status: int, message: str
) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (status, {"message": message})

    against(tmp_path, test)


def test_body_above_the_limit_is_refused_before_the_function(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/work/x", content=b"x" * (BODY_LIMIT + 1))
        assert (answer.status_code, answer.json()) == (413, {"message": "Request Entity Too Large"})

    against(tmp_path, test)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    gateway = Gateway(Template(tmp_path / "template.yaml"), {}, "127.0.0.1:2001")
    scope = {"type": "http", "method": "POST", "path": "/work/any", "query_string": b"", "headers": []}
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return next(messages)

    async def send(message: object) -> None:
        sent.append(message)

    asyncio.run(gateway(scope, receive, send))  # type: ignore[arg-type]
    assert sent == []


def test_event_above_what_lambda_takes_is_refused_before_the_function(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        binary = {"content-type": "application/octet-stream"}
        answer = await client.post("/work/x", content=b"x" * 5_000_000, headers=binary)
        assert (answer.status_code, answer.json()) == (413, {"message": "Request Entity Too Large"})

    against(tmp_path, test)


def test_function_that_cannot_start_is_named_with_its_reason_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        (tmp_path / "work" / "app.py").write_text("import a_package_that_is_not_there\n")
        await gateway_module._warm(client._transport.app.pools)  # type: ignore[attr-defined]

    against(tmp_path, test)
    said, ready = capsys.readouterr().out.splitlines()
    assert said.startswith("\x1fnotice\x1fwork\x1fcannot start: Runtime.ImportModuleError: ")
    assert said.endswith("No module named 'a_package_that_is_not_there'")
    assert ready == "\x1fready\x1fgateway\x1fwork"


def test_cors_headers_are_the_gateways_not_the_functions(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        listed = await client.get("/work/x", headers={"origin": "http://localhost:5173"})
        foreign = await client.get("/work/x", headers={"origin": "http://evil.example"})
        assert listed.headers["access-control-allow-origin"] == "http://localhost:5173"
        assert "access-control-allow-origin" not in foreign.headers

    against(tmp_path, test)


def test_edit_of_the_code_is_noticed_and_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        pools = client._transport.app.pools  # type: ignore[attr-defined]
        stop = asyncio.Event()
        watching = asyncio.create_task(gateway_module._watch(pools, stop))
        assert (await client.get("/work/x")).text == "/work/x"
        code = tmp_path / "work" / "app.py"
        async with asyncio.timeout(20):
            while (await client.get("/work/x")).text != "edited":
                code.write_text(HANDLER.replace('event["rawPath"]', '"edited"'))
                await asyncio.sleep(0.1)
        stop.set()
        await watching
        assert "code changed (app.py): reloaded" in capsys.readouterr().out

    against(tmp_path, test)
