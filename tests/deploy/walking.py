"""Every route, queue and schedule used once, by a user, an admin and the clock; functions run as on a laptop."""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from fusiontrade.accounts.by_mail.outbox import Outbox
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.users import Users, seed_user
from fusiontrade.clock import system_clock
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import client
from fusiontrade.cloud.storage import Storage
from fusiontrade.cloud.tables import Table
from fusiontrade.journal.store import Journal
from fusiontrade.mails.outbound import Mail, Outbound
from fusiontrade.settings import Settings
from infra.local.functions import Pool, process_environment
from infra.local.gateway import Gateway
from infra.local.queues import QueueWorker
from infra.local.sources import sources_of
from infra.local.template import Template
from infra.local.timers import TimerWorker
from serving.bundle import write_manifest
from serving.settings import STARTER_BUNDLES
from tests.deploy.conftest import ROOT
from tests.support.journal_entries import DAY, HOUR, buy
from tests.support.recorded_aws import Door

EMAIL, FIRST, SECOND, THIRD = "walk@example.com", "words that nobody guesses", "other words nobody has", "and the last"
ADMIN = "admin@example.com"


class Walk:
    """All functions behind the gateway, a user's browser before it, and what was asked for."""

    def __init__(self, template: Template, door: Door, folder: Path, program: str, sagemaker: str) -> None:
        self.template, self.door, self.folder = template, door, folder
        self.lines: list[str] = []
        self.called: set[tuple[str, str]] = set()
        self.token = ""
        self._common = {
            "STAGE": "local",
            "AWS_ENDPOINT_URL": door.url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": program,
            "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker,
            "TRAINING_IMAGE": "image",
            "TRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/training",
            "TRAINING_POLL_SECONDS": "1",
            "MAIL_DELIVERY": "outbox",
            "MAIL_OUTBOX": str(folder / "outbox"),
            "MARKET_DATA": "simulated",
        }

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Walk]:
        async with AsyncExitStack() as ending:
            self.pools = {name: self._pool(name) for name in self.template.functions}
            for pool in self.pools.values():
                ending.push_async_callback(pool.close)
            self.sources = sources_of(self.template, 2)
            sqs = client("sqs", read_seconds=20.0)
            for source in self.sources.queues:
                worker = QueueWorker(source, self.pools[source.function], sqs, self.lines.append, self._say)
                worker.start()
                ending.push_async_callback(worker.stop, 5)
            gateway = Gateway(self.template, self.pools, "127.0.0.1")
            transport = httpx.ASGITransport(gateway)  # type: ignore[arg-type]
            self.http = await ending.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="https://127.0.0.1", timeout=60)
            )
            yield self

    def _pool(self, name: str) -> Pool:
        function = self.template.functions[name]
        given = {**self._common, "AWS_ACCESS_KEY_ID": name}
        environment = process_environment(function, ROOT / "shared", given, os.environ)
        return Pool(function, environment, limit=1, log=self.lines.append, say=self._say)

    def _say(self, part: str, text: str) -> None:
        self.lines.append(f"{part}: {text}")

    async def ask(self, method: str, path: str, expected: int, **more: Any) -> Any:
        """Send a request, signed in where there is a token; return what the answer's body says."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= more.pop("headers", {})
        answer = await self.http.request(method, path, headers=headers, **more)
        assert answer.status_code == expected, (method, path, answer.text, self.lines[-15:])
        self.called.add((method, path.partition("?")[0]))
        is_json = answer.content and "json" in answer.headers.get("content-type", "")
        return answer.json() if is_json else answer.text

    async def auth(self, path: str, expected: int, **body: str) -> Any:
        return await self.ask("POST", f"/api/v1/auth/{path}", expected, json=body)

    async def code(self, kind: str) -> str:
        """Return the code of the newest mail of ``kind``, and take the mail away."""
        async with asyncio.timeout(30):
            while not (found := sorted((self.folder / "outbox").glob(f"*.{kind}.*"))):
                await asyncio.sleep(0.05)
        message = email.message_from_bytes(found[-1].read_bytes(), policy=email.policy.default)
        for path in found:
            path.unlink()
        text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
        return re.search(r"code=([\w-]+)", text)[1]  # type: ignore[index]

    async def sign_in(self, password: str) -> None:
        self.token = ""
        self.token = (await self.auth("login", 200, email=EMAIL, password=password))["access_token"]

    async def job(self, identity: str) -> None:
        async with asyncio.timeout(60):
            while (told := await self.ask("GET", f"/api/v1/ml/jobs/{identity}", 200))["status"] != "SUCCEEDED":
                assert told["status"] != "FAILED", told
                await asyncio.sleep(0.1)

    async def fire(self, name: str) -> None:
        (timer,) = [timer for timer in self.sources.timers if timer.name == name]
        worker = TimerWorker(timer, self.pools[timer.function], None, self.lines.append, self._say)
        outcome_lines = len(self.lines)
        await worker.fire(datetime.now(UTC).replace(second=0, microsecond=0))
        assert any("done" in line for line in self.lines[outcome_lines:]), self.lines[outcome_lines:]


async def everywhere(walk: Walk) -> None:
    """Use each route, queue and schedule once; what is asked for stands in the door's book."""
    async with walk.started():
        await _account(walk)
        await _journal(walk)
        await _registry(walk)
        await _by_itself(walk)


async def _account(walk: Walk) -> None:
    await walk.auth("register", 202, email=EMAIL, password=FIRST, full_name="Walk")
    await walk.code("verification")
    await walk.auth("resend-verification", 202, email=EMAIL)
    await walk.auth("verify-email", 200, code=await walk.code("verification"))
    await walk.auth("login", 401, email=EMAIL, password="not this one")
    await walk.auth("login", 401, email="nobody@example.com", password="not this one")
    await walk.auth("register", 202, email=EMAIL, password=FIRST, full_name="Walk")
    await walk.sign_in(FIRST)
    await walk.ask("GET", "/api/v1/auth/me", 200)
    await walk.ask("PUT", "/api/v1/auth/me", 200, json={"full_name": "Walker", "hf_token": "hf_abcdefghijklmnop"})
    key = {"name": "machine", "scopes": ["read"]}
    made = await walk.ask(
        "POST", "/api/v1/auth/api-keys", 201, json=key, headers={"idempotency-key": "the-first-machine"}
    )
    await walk.ask("GET", "/api/v1/auth/api-keys", 200)
    await walk.ask("DELETE", f"/api/v1/auth/api-keys/{made['id']}", 204)
    other = walk.token
    await walk.sign_in(FIRST)
    sessions = (await walk.ask("GET", "/api/v1/auth/sessions", 200))["items"]
    gone = next(each["id"] for each in sessions if not each["is_current"])
    await walk.ask("DELETE", f"/api/v1/auth/sessions/{gone}", 204)
    assert other != walk.token
    await walk.auth("change-password", 200, current_password=FIRST, new_password=SECOND)
    await walk.ask("POST", "/api/v1/auth/refresh", 200, json={}, headers={"authorization": ""})
    await walk.auth("logout", 200)
    walk.token = ""
    await walk.auth("forgot-password", 202, email=EMAIL)
    await walk.auth("reset-password", 200, code=await walk.code("reset"), new_password=THIRD)
    await walk.sign_in(THIRD)
    await walk.ask("GET", "/.well-known/jwks.json", 200)


async def _journal(walk: Walk) -> None:
    user = (await walk.ask("GET", "/api/v1/auth/me", 200))["id"]
    await walk.ask("GET", "/api/v1/fusion/EURUSD%3DX?journal=true", 200)
    await walk.ask("POST", "/api/v1/fusion/analyze", 200, json={"symbol": "BTC-USD"})
    later = await walk.ask("GET", "/api/v1/fusion/EURUSD%3DX", 202, headers={"prefer": "respond-async"})
    await walk.job(later["id"])
    page = await walk.ask("GET", "/api/v1/journal?limit=1", 200)
    await walk.ask("GET", f"/api/v1/journal/{page['items'][0]['id']}", 200)
    await walk.ask("GET", "/api/v1/journal?symbol=EURUSD%3DX", 200)
    await walk.ask("GET", "/api/v1/journal/stats", 200)
    await walk.ask("GET", "/api/v1/journal/stats?symbol=EURUSD%3DX", 200)
    csv = await walk.ask("GET", "/api/v1/journal/export?format=csv", 200)
    headers = {"content-type": "text/csv", "idempotency-key": "the-old-log"}
    await walk.ask("POST", "/api/v1/journal/import", 200, content=csv, headers=headers)
    headers["idempotency-key"] = "no-log-at-all"
    await walk.ask("POST", "/api/v1/journal/import", 422, content="", headers=headers)
    _add_what_is_due(walk.template, user)
    job = await walk.ask("POST", "/api/v1/journal/verify-now", 202, headers={"idempotency-key": "verify-these"})
    await walk.job(job["id"])
    asked = {"symbol": "EURUSD=X", "interval": "1h"}
    headers = {"idempotency-key": "forecast-this"}
    for _ in range(2):
        job = await walk.ask("POST", "/api/v1/ml/predict/trigger", 202, json=asked, headers=headers)
    await walk.job(job["id"])
    unknown = {"symbol": "XXXYYY=X", "interval": "1h"}
    headers = {"idempotency-key": "forecast-nothing"}
    await walk.ask("POST", "/api/v1/ml/predict/trigger", 404, json=unknown, headers=headers)


async def _registry(walk: Walk) -> None:
    """Train, fine-tune, promote and cancel as an admin; the trainings' program plays its part at once."""
    accounts = Table(walk.template.physical_name("AccountsTable"))
    users = Users(accounts, Passwords.of(Settings.from_environment({"STAGE": "local"})), system_clock)
    seed_user(users, email=ADMIN, password=THIRD, full_name="Admin", tier="admin")
    users_token, walk.token = walk.token, ""
    walk.token = (await walk.auth("login", 200, email=ADMIN, password=THIRD))["access_token"]
    await walk.ask("GET", "/api/v1/ml/registry", 200)
    for path in ("/api/v1/ml/model/info", "/api/v1/model/info", "/api/v1/ml/registry/lstm-1h/report"):
        await walk.ask("GET", path, 200)
    wanted = {"symbol": "EURUSD=X", "interval": "1h", "bars": 2000}
    for number, path in enumerate(("/api/v1/ml/train", "/api/v1/model/train")):
        job = await walk.ask("POST", path, 202, json=wanted, headers={"idempotency-key": f"train-{number}"})
        await walk.job(job["id"])
    tune = {"timeframe": "1h", "symbol": "EURUSD=X"}
    job = await walk.ask("POST", "/api/v1/fusion/finetune", 202, json=tune)
    await walk.job(job["id"])
    load = {"model_id": "lstm-1h", "version": _version(["EURUSD=X"]), "force": True}
    for path in ("/api/v1/ml/model/load", "/api/v1/model/load"):
        await walk.job((await walk.ask("POST", path, 202, json=load))["id"])
    job = await walk.ask("POST", "/api/v1/fusion/EURUSD%3DX/finetune", 202, json={"timeframe": "1h"})
    await walk.ask("DELETE", f"/api/v1/ml/jobs/{job['id']}", 202)
    span = {"symbol": "BTC-USD", "interval": "4h", "from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z"}
    await walk.job((await walk.ask("POST", "/api/v1/ml/backtest/trigger", 202, json=span))["id"])
    walk.token = users_token


def starter_with_weights(folder: Path) -> None:
    """Lay out the bundle that serves; what training needs of its weights is that they are there."""
    copied = shutil.copytree(STARTER_BUNDLES / "lstm-1h", folder / "lstm-1h")
    (copied / "weights.safetensors").write_bytes(b"weights")
    write_manifest(copied)


def trained(bucket: str, request: Any) -> None:
    """Leave what a training job leaves: a bundle and its outcome."""
    storage, name = Storage(bucket), request["TrainingJobName"]
    prefix = f"{request['OutputDataConfig']['S3OutputPath']}/{name}/output/model/".removeprefix(f"s3://{bucket}/")
    files = {each: (STARTER_BUNDLES / "lstm-1h" / each).read_bytes() for each in ("model.json", "report.json")}
    (candles,) = [one for one in request["InputDataConfig"] if one["ChannelName"] == "candles"]
    channel = candles["DataSource"]["S3DataSource"]["S3Uri"].removeprefix(f"s3://{bucket}/")
    universe = sorted(Path(key).stem for key in storage.keys(channel))
    changed = {"version": _version(universe), "universe": universe}
    files["model.json"] = json.dumps(json.loads(files["model.json"]) | changed).encode()
    named = {each: hashlib.sha256(content).hexdigest() for each, content in files.items()}
    files["manifest.json"] = json.dumps({"files": named}).encode()
    for each, content in files.items():
        storage.put(f"{prefix}lstm-1h/{each}", content)
    storage.put(f"{prefix}outcome.json", b'{"bundle": "lstm-1h", "comparison": null}')


def _version(universe: Sequence[str]) -> str:
    """Return the version of what was trained on a universe: other bundles have other versions, as real ones have."""
    return hashlib.sha256(" ".join(universe).encode()).hexdigest()[:12]


def _add_what_is_due(template: Template, owner: str) -> None:
    """Write pending entries of the last weekdays that the market has decided by now."""
    now = system_clock() // HOUR * HOUR
    entries = [
        buy(owner, symbol="BTC-USD", opened_at=now - days * DAY, expires_at=now - days * DAY + 4 * HOUR,
            due_at=now - days * DAY + HOUR)
        for days in (2, 3)
    ]  # fmt: skip
    Journal(Table(template.physical_name("JournalTable")), system_clock).add_many(entries)


def _leave_a_mail(template: Template) -> None:
    """Owe a mail as a process does that is killed before it sends."""
    accounts = Table(template.physical_name("AccountsTable"))
    outbox = Outbox(accounts, Outbound(Queue("nobody asks it")), lambda: system_clock() - HOUR)
    accounts.put(outbox.owed(Mail("password_changed", EMAIL, "Walk", None, 0)).item)


async def _by_itself(walk: Walk) -> None:
    _add_what_is_due(walk.template, "PLATFORM")
    _leave_a_mail(walk.template)
    for timer in walk.sources.timers:
        await walk.fire(timer.name)
    async with asyncio.timeout(90):
        while not any("ForecastQueue" in line for line in walk.lines[-20:]) or _waiting(walk.template):
            await asyncio.sleep(0.2)
        while _waiting(walk.template, "TrainingQueue"):
            await asyncio.sleep(0.2)
    for path in ("/openapi.json", "/health", "/api/health", "/api/v1/health"):
        await walk.ask("GET", path, 200)


def _waiting(template: Template, queue: str = "ForecastQueue") -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = template.resolve({"Ref": queue})
    told = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(map(int, told.values()))
