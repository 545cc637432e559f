"""What the mail worker brings with it, and who else brings a template engine: nobody."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, sys
import functions.mail.app
from tests.support.http_api import Context

heavy = {"fastapi", "starlette", "jinja2", "botocore.session", "smtplib", "numpy", "cryptography", "argon2"}
at_start = sorted(heavy & set(sys.modules))
functions.mail.app.handler(json.loads(sys.argv[1]), Context())
print(json.dumps([at_start, sorted(heavy & set(sys.modules))]))
"""


def test_the_worker_starts_light_and_loads_what_a_mail_needs_with_the_first_one(tmp_path: Path) -> None:
    body = {"kind": "reset", "to": "ada@example.com", "name": "", "code": "c", "at": 1, "device": None}
    record = {"messageId": "m", "body": json.dumps({"request_id": "r", "body": body}), "attributes": {}}
    environment = {
        "PATH": os.environ["PATH"], "STAGE": "local", "MAIL_DELIVERY": "outbox",
        "MAIL_OUTBOX": str(tmp_path / "outbox"), "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
    }  # fmt: skip
    words = [sys.executable, "-c", PROGRAM, json.dumps({"Records": [record]})]
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == [[], ["jinja2"]]
    assert len(list((tmp_path / "outbox").glob("*.eml"))) == 1


AHEAD = """
import sys
import functions.mail.app as app

app.ahead()
print(app.delivery.cache_info().currsize, "jinja2" in sys.modules, "botocore.session" in sys.modules)
"""


@pytest.mark.parametrize(("way", "told"), [("ses", "0 True True"), ("smtp", "0 True False")])
def test_before_a_snapshot_templates_are_compiled_and_no_way_out_is_opened(way: str, told: str) -> None:
    environment = {
        "PATH": os.environ["PATH"], "STAGE": "prod", "MAIL_DELIVERY": way, "SITE_ORIGIN": "https://app.example.com/",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", AHEAD], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split("\n")[-2] == told


def test_an_origin_that_is_none_stops_the_worker_at_its_start() -> None:
    environment = {"PATH": os.environ["PATH"], "STAGE": "prod", "SITE_ORIGIN": "app.example.com"}
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'shared'}"
    words = [sys.executable, "-c", "import functions.mail.app"]
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "SITE_ORIGIN is 'app.example.com': write scheme and host" in ran.stderr


@pytest.mark.parametrize("folder", ["shared/fusiontrade", "functions"])
def test_a_template_engine_is_imported_inside_functions_that_render_and_nowhere_else(folder: str) -> None:
    at_the_top = []
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            at_the_top += [f"{path}: {name}" for name in names if name.split(".")[0] in ("jinja2", "smtplib")]
    assert [each for each in at_the_top if not each.endswith("cloud/smtp.py: smtplib")] == []
