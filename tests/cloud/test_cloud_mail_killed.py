"""A mail worker that is killed in the middle of its batch: every mail goes out, each with the same words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import client
from fusiontrade.mails import Mail, Outbound
from tests.support.smtp_server import SmtpServer, make_certificate

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys
from functions.mail.app import handler
from fusiontrade.cloud.session import client
from tests.support.http_api import Context

url, sqs = sys.argv[1], client("sqs")
while True:
    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages", [])
    if not got:
        print("empty", flush=True)
        continue
    records = [{"messageId": m["MessageId"], "body": m["Body"], "attributes": m["Attributes"]} for m in got]
    failed = {f["itemIdentifier"] for f in handler({"Records": records}, Context())["batchItemFailures"]}
    for message in got:
        if message["MessageId"] not in failed:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
"""


def test_a_worker_that_is_killed_in_the_middle_loses_no_mail_and_changes_no_word(aws: None, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    url = client("sqs").create_queue(QueueName=f"mail-{uuid.uuid4().hex[:8]}", Attributes={"VisibilityTimeout": "2"})[
        "QueueUrl"
    ]
    for number in range(5):
        Outbound(Queue(url)).send(Mail("reset", f"user{number}@example.com", "", f"code-{number}", 1_750_000_000_000))
    with SmtpServer(certificate).running() as server:
        environment = {
            **os.environ, "STAGE": "local", "MAIL_DELIVERY": "smtp", "SMTP_HOST": server.host,
            "SMTP_PORT": str(server.port), "SSL_CERT_FILE": str(certificate.certificate), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        server.hangs_after = 3
        first = subprocess.Popen([sys.executable, "-c", WORKER, url], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        try:
            _wait(lambda: len(server.taken) == 3 and server.hanging)
        finally:
            first.send_signal(signal.SIGKILL)
            first.communicate()
        assert first.returncode == -signal.SIGKILL
        server.hangs_after = None
        second = subprocess.Popen(
            [sys.executable, "-c", WORKER, url], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            _wait(lambda: len({taken.recipients for taken in server.taken}) == 5)
        finally:
            second.kill()
            second.communicate()
    words: dict[tuple[str, ...], set[bytes]] = {}
    for taken in server.taken:
        words.setdefault(taken.recipients, set()).add(taken.content)
    assert sorted(words) == [(f"user{number}@example.com",) for number in range(5)]
    assert [len(contents) for contents in words.values()] == [1] * 5  # however often it went out
    assert all(f"code-{name[0][4]}".encode() in content for name, contents in words.items() for content in contents)


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline, "it did not come to that within a minute"
        time.sleep(0.02)
