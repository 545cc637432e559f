"""What a function may import before its first request, by name and by number: a start is paid for by every caller."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FUNCTIONS = sorted(
    path.parent.name
    for path in (ROOT / "functions").glob("*/app.py")
    if "create_app(" in path.read_text(encoding="utf-8")
)
"""Those that answer HTTP; the workers of queues and schedules have no application."""
PATHS = {
    "auth": "/api/v1/auth/me",
    "docs": "/api/health",
    "fusion": "/api/v1/fusion/EURUSD=X",
    "journal": "/api/v1/journal/stats",
    "ml": "/api/v1/ml/jobs/1",
}

PACKAGES = {
    "annotated_doc", "annotated_types", "anyio", "aws_lambda_powertools", "botocore", "fastapi", "functions",
    "fusiontrade", "jmespath", "mangum", "opentelemetry", "pydantic", "pydantic_core", "snapshot_restore_py",
    "starlette", "typing_extensions", "typing_inspection",
}  # fmt: skip
"""Everything outside the standard library that a handler may have loaded; botocore is its bare `__init__`, which
Powertools looks at for a version."""

MOST_MODULES = 520

TELL = dedent(
    """
    import json, sys
    from pathlib import Path

    before = len(sys.modules)
    import functions.{name}.app as app
    from tests.support.http_api import call

    loaded = set(sys.modules)
    status = call(app.handler, "GET", "{path}").status
    from fastapi.openapi.models import OpenAPI, PathItem
    told = {{
        "packages": sorted({{m.split(".")[0] for m in loaded if m[0] != "_"}} - set(sys.stdlib_module_names)),
        "count": len(loaded) - before,
        "botocore": sorted(m for m in loaded if m.startswith("botocore")),
        "status": status,
        "by_the_first_answer": sorted({{m.split(".")[0] for m in set(sys.modules) - loaded}}),
        "first_pydantic": sorted(m for m in sys.modules if m.startswith("pydantic.v1.")),
        "built": [model.__name__ for model in (OpenAPI, PathItem) if model.__pydantic_complete__],
    }}
    print(json.dumps(told))
    """
)


def told_by(code: str) -> Any:
    """What ``code`` prints last in a fresh interpreter, parsed."""
    environment = {
        "STAGE": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
    }
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return json.loads(told.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=FUNCTIONS)
def start(request: pytest.FixtureRequest) -> Any:
    return told_by(TELL.format(name=request.param, path=PATHS[request.param]))


def test_nothing_is_loaded_but_what_an_answer_needs(start: Any) -> None:
    support = {"tests"}
    assert set(start["packages"]) - support <= PACKAGES
    assert start["botocore"] == ["botocore"]
    assert start["count"] <= MOST_MODULES


def test_the_first_answer_without_credentials_loads_no_cryptography_and_no_client(start: Any) -> None:
    assert start["status"] in (200, 401)
    heavy = {"joserfc", "cryptography", "argon2", "boto3", "urllib3", "requests", "numpy", "pandas", "aws_xray_sdk"}
    assert not heavy & set(start["by_the_first_answer"])


def test_the_models_of_openapi_documents_are_not_built(start: Any) -> None:
    assert start["built"] == []


def test_pydantics_first_version_is_not_loaded(start: Any) -> None:
    assert start["first_pydantic"] == []


def test_one_client_brings_botocore_and_neither_boto3_nor_tracing() -> None:
    code = dedent(
        """
        import json, sys
        from fusiontrade.cloud.session import client

        client("dynamodb"), client("secretsmanager")
        wanted = {"boto3", "s3transfer", "aws_xray_sdk", "requests", "pydantic", "fastapi", "awscrt"}
        print(json.dumps(sorted(wanted & set(sys.modules))))
        """
    )
    assert told_by(code) == []


def test_models_defined_after_the_framework_are_built_at_once() -> None:
    code = dedent(
        """
        import json
        import fusiontrade.web.framework
        from pydantic import BaseModel

        class Own(BaseModel):
            number: int

        print(json.dumps([Own.__pydantic_complete__, "defer_build" in BaseModel.model_config]))
        """
    )
    assert told_by(code) == [True, False]


@pytest.mark.parametrize(
    "path",
    [p for part in ("shared/fusiontrade", "functions") for p in sorted((ROOT / part).rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_fastapi_is_imported_in_one_place(path: Path) -> None:
    found = [
        module
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if module.split(".")[0] == "fastapi"
    ]
    assert found == []  # `fusiontrade.web.framework` has its own inside a `with`
