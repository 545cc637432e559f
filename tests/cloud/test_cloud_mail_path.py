"""Mail from the product through the queue and its worker to the outbox and to SES, against the emulated cloud."""

from __future__ import annotations

import importlib
import json
import re
import stat
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusiontrade.cloud.deliveries import delivery_of
from fusiontrade.cloud.mail import Delivery, MailRefused, Outbox, SesDelivery
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.errors import StateUnavailable
from fusiontrade.mails import Mail, Outbound
from fusiontrade.mails.rendering import Letterhead, render
from fusiontrade.settings import Settings, SettingsError
from tests.support.aws_server import AwsServer
from tests.support.http_api import Context

AT = 1_750_000_000_123
HEAD = Letterhead("https://app.example.com", "FusionTrade AI <no-reply@example.com>")
ATTEMPTS = 3


def mail(to: str = "ada@example.com", code: str = "c" * 64) -> Mail:
    return Mail("reset", to, "Ada", code, AT)


@pytest.fixture
def queues(aws: None) -> tuple[str, str]:
    """The mail queue, which gives up after three attempts, and its dead letters."""
    sqs = client("sqs")
    dead = sqs.create_queue(QueueName=f"dead-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": ATTEMPTS})
    live = sqs.create_queue(
        QueueName=f"mail-{uuid.uuid4().hex[:8]}", Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "0"}
    )["QueueUrl"]
    return live, dead


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The mail function with an outbox."""
    environment = {"STAGE": "local", "MAIL_DELIVERY": "outbox", "MAIL_OUTBOX": str(tmp_path / "outbox")}
    for name, value in (environment | {"SITE_ORIGIN": HEAD.site_origin, "MAIL_FROM": HEAD.sender}).items():
        monkeypatch.setenv(name, value)
    made = importlib.reload(importlib.import_module("functions.mail.app"))
    yield made
    made.delivery.cache_clear()


def delivered(url: str) -> list[dict[str, Any]]:
    """What an event source mapping would hand to the function: one batch."""
    got = client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"])
    return [
        {
            "messageId": each["MessageId"],
            "receiptHandle": each["ReceiptHandle"],
            "body": each["Body"],
            "attributes": each["Attributes"],
        }
        for each in got.get("Messages", [])
    ]


def pump(url: str, worker: ModuleType, turns: int = 1) -> list[int]:
    """Do ``turns`` times what the event source mapping does; returns how many failed in each batch."""
    told = []
    for _ in range(turns):
        records = delivered(url)
        failed = {it["itemIdentifier"] for it in worker.handler({"Records": records}, Context())["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                client("sqs").delete_message(QueueUrl=url, ReceiptHandle=record["receiptHandle"])
        told.append(len(failed))
    return told


def left_in(url: str) -> list[str]:
    return [json.loads(each["body"])["body"].get("to", "?") for each in delivered(url)]


def letters(folder: Path) -> list[EmailMessage]:
    return [message_from_bytes(file.read_bytes(), policy=SMTP) for file in sorted(folder.glob("*.eml"))]  # type: ignore[misc]


def test_a_mail_that_is_asked_for_lies_in_the_outbox(
    queues: tuple[str, str], worker: ModuleType, tmp_path: Path
) -> None:
    Outbound(Queue(queues[0])).send(mail(), request_id="the-request")
    assert pump(queues[0], worker, 2) == [0, 0]
    (letter,) = letters(tmp_path / "outbox")
    assert (letter["To"], letter["From"]) == ("Ada <ada@example.com>", HEAD.sender)
    body = letter.get_body(("plain",))
    assert body is not None
    assert f"https://app.example.com/reset-password?code={'c' * 64}" in body.get_content().splitlines()


def test_the_same_message_twice_is_the_same_words_and_code(
    queues: tuple[str, str], worker: ModuleType, tmp_path: Path
) -> None:
    Outbound(Queue(queues[0])).send(mail())
    event = {"Records": delivered(queues[0])}
    contents = []
    for _ in range(2):
        assert worker.handler(event, Context()) == {"batchItemFailures": []}
        (file,) = (tmp_path / "outbox").glob("*.eml")
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]


def test_nobodys_mail_is_taken_and_dropped(queues: tuple[str, str], worker: ModuleType, tmp_path: Path) -> None:
    Outbound(Queue(queues[0])).send(Mail("nobody", "who@example.com", "", "x" * 64, AT))
    assert pump(queues[0], worker, 2) == [0, 0]
    assert left_in(queues[0]) == []
    assert not (tmp_path / "outbox").exists()


def test_one_poisoned_message_is_retried_alone_and_ends_among_the_dead_letters(
    queues: tuple[str, str], worker: ModuleType, tmp_path: Path
) -> None:
    live, dead = queues
    for name in ("a", "b"):
        Outbound(Queue(live)).send(mail(f"{name}@example.com"))
    Queue(live).send({"kind": "spam", "to": "poison"})
    for name in ("c", "d"):
        Outbound(Queue(live)).send(mail(f"{name}@example.com"))
    assert pump(live, worker, ATTEMPTS + 1) == [1] * ATTEMPTS + [0]
    assert {letter["To"].addresses[0].username for letter in letters(tmp_path / "outbox")} == set("abcd")
    assert left_in(dead) == ["poison"]


def test_dead_letters_that_are_driven_back_are_sent(
    queues: tuple[str, str], worker: ModuleType, tmp_path: Path
) -> None:
    live, dead = queues
    (tmp_path / "outbox").write_text("a file where the folder should be")
    Outbound(Queue(live)).send(mail())
    assert pump(live, worker, ATTEMPTS + 1) == [1] * ATTEMPTS + [0]
    (tmp_path / "outbox").unlink()
    (record,) = delivered(dead)
    client("sqs").send_message(QueueUrl=live, MessageBody=record["body"])
    assert pump(live, worker) == [0]
    assert len(letters(tmp_path / "outbox")) == 1


@pytest.mark.parametrize("to", ["nobody", "a b@example.com", "ada@example.com\r\nBcc: x@example.com"])
def test_an_address_that_is_none_is_done_with_at_once(
    queues: tuple[str, str], worker: ModuleType, tmp_path: Path, to: str
) -> None:
    Outbound(Queue(queues[0])).send(mail(to))
    assert pump(queues[0], worker, 2) == [0, 0]
    assert (left_in(queues[0]), left_in(queues[1])) == ([], [])
    assert not (tmp_path / "outbox").exists()


def test_neither_code_nor_address_nor_name_is_logged(
    queues: tuple[str, str], worker: ModuleType, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "fusiontrade")
    Outbound(Queue(queues[0])).send(Mail("reset", "secret-address@example.com", "Secretname", "secretcode", AT))
    Outbound(Queue(queues[0])).send(Mail("reset", "secret-address", "Secretname", "secretcode", AT))
    Queue(queues[0]).send({"kind": "spam", "to": "secret-address", "code": "secretcode"})
    assert pump(queues[0], worker) == [1]
    assert "reset" in caplog.text
    assert "secret" not in (caplog.text + "".join(capsys.readouterr())).lower()


# --- the outbox -------------------------------------------------------------------------------------------------------


def test_an_outbox_is_its_owners_alone_and_holds_whole_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "box"
    Outbox(folder).send(render(mail(), HEAD))
    (file,) = folder.iterdir()
    assert file.name.startswith("20250615T150640.123Z.reset.")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_readers_of_an_outbox_never_see_half_a_message(tmp_path: Path) -> None:
    folder, done = tmp_path / "outbox", threading.Event()
    message = render(mail(code="c" * 2000), HEAD)
    whole = len(message.as_bytes(policy=SMTP))
    seen: set[int] = set()

    def look() -> None:
        while not done.is_set():
            seen.update(len(file.read_bytes()) for file in folder.glob("*.eml"))

    reader = threading.Thread(target=look)
    reader.start()
    with ThreadPoolExecutor(4) as pool:
        for sent in [pool.submit(Outbox(folder).send, message) for _ in range(100)]:
            sent.result()
    done.set()
    reader.join()
    assert seen <= {whole}
    assert [file.suffix for file in folder.iterdir()] == [".eml"]


@pytest.mark.parametrize("identity", ["<../../escape@x>", "</etc/passwd@x>", "<.hidden-name@x>", "<a@x>", None])
def test_a_message_id_cannot_choose_a_path(tmp_path: Path, identity: str | None) -> None:
    message = render(mail(), HEAD)
    del message["Message-ID"]
    if identity is not None:
        message["Message-ID"] = identity
    Outbox(tmp_path / "outbox").send(message)
    assert [path.name for path in tmp_path.iterdir()] == ["outbox"]
    (file,) = (tmp_path / "outbox").iterdir()
    assert re.fullmatch(r"[0-9a-f]{64}\.eml", file.name)


# --- SES --------------------------------------------------------------------------------------------------------------


def test_ses_takes_a_message_from_a_verified_sender(aws: None, emulator_port: int) -> None:
    client("sesv2").create_email_identity(EmailIdentity="example.com")
    to = f"{uuid.uuid4().hex[:8]}@example.net"
    SesDelivery().send(render(mail(to), HEAD))
    with urllib.request.urlopen(f"http://127.0.0.1:{emulator_port}/_ministack/ses/messages", timeout=10) as answer:
        sent = [each for box in json.load(answer)["messages"].values() for each in box]
    (message,) = [each for each in sent if each["To"] == [to]]
    assert message["Source"] == "no-reply@example.com"


def test_a_sender_that_is_not_verified_is_ours_to_put_right(aws: None) -> None:
    sender = Letterhead("https://app.example.com", "FusionTrade AI <no-reply@never-verified.example>")
    with pytest.raises(StateUnavailable, match="the mail service did not answer: MessageRejected"):
        SesDelivery().send(render(mail(), sender))


@contextmanager
def ses_that(monkeypatch: pytest.MonkeyPatch, play: Callable[[dict[str, Any]], tuple[int, Any]]) -> Iterator[AwsServer]:
    with AwsServer(play).running() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield server
    forget_clients()


def test_ses_gets_the_message_byte_for_byte_and_the_envelope_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    with ses_that(monkeypatch, lambda call: (200, {"MessageId": "m"})) as server:
        SesDelivery().send(render(mail(), HEAD))
    (call,) = server.calls
    assert base64.b64decode(call["Content"]["Raw"]["Data"]) == render(mail(), HEAD).as_bytes(policy=SMTP)
    assert call["Destination"] == {"ToAddresses": ["ada@example.com"]}
    assert call["FromEmailAddress"] == "no-reply@example.com"


@pytest.mark.parametrize("code", ["MessageRejected", "BadRequestException"])
def test_what_ses_refuses_for_good_is_refused_and_asked_once(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    refusal = (400, {"__type": code, "message": "Invalid recipient ada@example.com"})
    with ses_that(monkeypatch, lambda call: refusal) as server, pytest.raises(MailRefused, match=code) as refused:
        SesDelivery().send(render(mail(), HEAD))
    assert len(server.calls) == 1
    assert "ada" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        (429, {"__type": "TooManyRequestsException", "message": "slow down"}),
        (400, {"__type": "LimitExceededException", "message": "quota"}),
        (400, {"__type": "AccountSuspendedException", "message": "suspended"}),
        (400, {"__type": "SendingPausedException", "message": "paused"}),
        (400, {"__type": "MailFromDomainNotVerifiedException", "message": "no"}),
        (403, {"__type": "AccessDeniedException", "message": "no"}),
        (500, {"__type": "InternalServiceErrorException", "message": "no"}),
        (0, {}),
    ],
)
def test_what_ses_may_take_later_is_unavailable(monkeypatch: pytest.MonkeyPatch, answer: tuple[int, Any]) -> None:
    with ses_that(monkeypatch, lambda call: answer), pytest.raises(StateUnavailable, match="the mail service"):
        SesDelivery().send(render(mail(), HEAD))


def test_ses_is_not_asked_about_an_address_it_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = (200, {"MessageId": "m"})
    with ses_that(monkeypatch, lambda call: taken) as server, pytest.raises(MailRefused, match="outside ASCII"):
        SesDelivery().send(render(mail("adä@example.com"), HEAD))
    assert server.calls == []


# --- which way --------------------------------------------------------------------------------------------------------


def test_the_way_is_chosen_by_the_environment(aws: None, tmp_path: Path) -> None:
    from fusiontrade.cloud.smtp import SmtpDelivery

    made: list[Delivery] = [
        delivery_of(Settings(stage="prod")),
        delivery_of(Settings(stage="local", mail_delivery="outbox", mail_outbox=tmp_path)),
        delivery_of(Settings(stage="prod", mail_delivery="smtp", smtp_host="mail.example.com")),
    ]
    assert [type(each) for each in made] == [SesDelivery, Outbox, SmtpDelivery]
    for way, variable in (("outbox", "MAIL_OUTBOX"), ("smtp", "SMTP_HOST")):
        with pytest.raises(SettingsError, match=f"{variable} is not set"):
            delivery_of(Settings.model_validate({"stage": "prod", "mail_delivery": way}))


def test_the_smtp_login_is_read_from_its_secret_when_a_mail_is_sent(
    aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.smtp_server import SmtpServer, make_certificate

    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    text = json.dumps({"username": "mailer", "password": "from the secret"})
    arn = client("secretsmanager").create_secret(Name=f"smtp-{uuid.uuid4().hex[:8]}", SecretString=text)["ARN"]
    with SmtpServer(certificate, login=("mailer", "from the secret")).running() as server:
        settings = Settings(
            stage="local", mail_delivery="smtp", smtp_host=server.host, smtp_port=server.port, smtp_secret_arn=arn
        )
        delivery_of(settings).send(render(mail(), HEAD))
    assert [taken.recipients for taken in server.taken] == [("ada@example.com",)]
