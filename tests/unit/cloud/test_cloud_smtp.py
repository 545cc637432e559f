"""Mail by SMTP against a server on loopback, well behaved and not."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from fusiontrade.cloud.mail import MailRefused
from fusiontrade.cloud.smtp import Login, SmtpDelivery
from fusiontrade.errors import StateUnavailable
from tests.support.emulator import free_port
from tests.support.smtp_server import Certificate, SmtpServer, make_certificate

PASSWORD = "the SMTP password"


def letter(to: Address | str = "ada@example.com") -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = "FusionTrade AI <no-reply@fusiontrade.ai>"
    message["To"] = to
    message["Subject"] = "Reset your password"
    message.set_content("the code\n.a line that begins with a dot\n")
    return message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


Serve = Callable[..., SmtpServer]


@pytest.fixture
def serve(certificate: Certificate) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(SmtpServer(how.pop("certificate", certificate), **how).running())


def delivery(server: SmtpServer, *, seconds: float = 5.0, login: Login | None = None) -> SmtpDelivery:
    return SmtpDelivery(
        server.host,
        server.port,
        context=server.certificate.trusting(),
        seconds=seconds,
        login=None if login is None else lambda: login,
    )


def test_a_message_is_taken_whole_over_an_encrypted_line_after_the_login(serve: Serve) -> None:
    server = serve(login=("mailer", PASSWORD))
    delivery(server, login=Login("mailer", PASSWORD)).send(letter())
    (taken,) = server.taken
    assert (taken.sender, taken.recipients, taken.encrypted) == ("no-reply@fusiontrade.ai", ("ada@example.com",), True)
    read = message_from_bytes(taken.content, policy=SMTP)
    assert read["Subject"] == "Reset your password"
    assert read.get_content() == "the code\r\n.a line that begins with a dot\r\n"


def test_a_server_without_starttls_is_told_nothing(serve: Serve) -> None:
    server = serve(starttls=False)
    with pytest.raises(StateUnavailable, match="SMTPNotSupportedError"):
        delivery(server, login=Login("mailer", PASSWORD)).send(letter())
    assert {line.split()[0] for line in server.seen} <= {"EHLO", "QUIT"}
    assert server.taken == []


def test_a_starttls_that_is_refused_ends_the_conversation(serve: Serve) -> None:
    server = serve(faults={"STARTTLS": "454 4.7.0 not now"})
    with pytest.raises(StateUnavailable, match="454"):
        delivery(server).send(letter())
    assert not any(line.startswith(("AUTH", "MAIL")) for line in server.seen)


def test_what_is_said_in_plain_text_behind_the_answer_to_starttls_is_not_believed(serve: Serve) -> None:
    injected = "250-loopback\r\n250-AUTH PLAIN\r\n250 SMTPUTF8"  # no such thing is offered on the encrypted line
    server = serve(injected=injected)
    with pytest.raises((StateUnavailable, MailRefused)):
        delivery(server).send(letter(Address("Ada", username="adä", domain="example.com")))
    assert server.taken == []


def test_a_certificate_that_nobody_signed_is_not_believed(serve: Serve) -> None:
    server = serve()
    stranger = SmtpDelivery(server.host, server.port, context=ssl.create_default_context(), seconds=5)
    with pytest.raises(StateUnavailable, match="SSLCertVerificationError"):
        stranger.send(letter())
    assert not any(line.startswith("MAIL") for line in server.seen)


def test_a_certificate_of_another_name_is_not_believed(serve: Serve, tmp_path: Path) -> None:
    server = serve(certificate=make_certificate(tmp_path, host="mail.example.com"))
    with pytest.raises(StateUnavailable, match="SSLCertVerificationError"):
        delivery(server).send(letter())


def test_a_wrong_password_is_ours_to_put_right_and_is_not_in_the_message(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(login=("mailer", "another"))
    with pytest.raises(StateUnavailable, match="SMTPAuthenticationError 535") as refused:
        delivery(server, login=Login("mailer", PASSWORD)).send(letter())
    assert PASSWORD not in str(refused.value) + caplog.text
    assert "ada@example.com" not in str(refused.value) + caplog.text


@pytest.mark.parametrize(
    ("moment", "reply"),
    [
        ("RCPT", "550 5.1.1 no such mailbox"),
        ("RCPT", "553 that is no mailbox"),
        ("content", "552 5.3.4 too big"),
        ("DATA", "554 5.6.0 no"),
    ],
)
def test_what_is_refused_for_good_is_refused(serve: Serve, moment: str, reply: str) -> None:
    server = serve(faults={moment: reply})
    with pytest.raises(MailRefused, match=reply[:3]):
        delivery(server).send(letter())
    assert server.taken == []


@pytest.mark.parametrize(
    ("moment", "reply"),
    [
        ("banner", "421 4.3.2 closing"),
        ("banner", "554 5.3.0 not here"),
        ("EHLO", "421 4.3.2 closing"),
        ("MAIL", "451 4.3.0 later"),
        ("MAIL", "550 5.1.8 your address is unknown"),
        ("RCPT", "450 4.2.1 greylisted"),
        ("RCPT", "452 4.2.2 full"),
        ("RCPT", "550 5.7.1 relaying denied"),
        ("RCPT", "530 log in first"),
        ("DATA", "451 4.3.0 later"),
        ("content", "451 4.3.0 later"),
        ("content", "554 5.7.1 your network is listed"),
        ("content", "drop"),
        ("banner", "drop"),
        ("RCPT", "drop"),
    ],
)
def test_what_may_be_taken_later_or_is_ours_to_put_right_is_unavailable(serve: Serve, moment: str, reply: str) -> None:
    server = serve(faults={moment: reply})
    with pytest.raises(StateUnavailable):
        delivery(server).send(letter())
    assert server.taken == []


def test_an_unknown_outcome_counts_as_not_taken(serve: Serve) -> None:
    server = serve(faults={"content": "drop after taking"})
    with pytest.raises(StateUnavailable):
        delivery(server).send(letter())
    assert len(server.taken) == 1
    server.faults.clear()
    delivery(server).send(letter())
    assert server.taken[0].content == server.taken[1].content


@pytest.mark.parametrize("moment", ["banner", "EHLO", "STARTTLS", "MAIL", "content"])
def test_a_server_that_hangs_is_given_up(serve: Serve, moment: str) -> None:
    server = serve(faults={moment: "hang"})
    with pytest.raises(StateUnavailable):
        delivery(server, seconds=0.5).send(letter())


def test_a_server_that_drips_is_cut_off_though_no_single_wait_is_long(serve: Serve) -> None:
    server = serve(faults={"banner": "drip"})
    with pytest.raises(StateUnavailable, match="SMTPServerDisconnected"):
        delivery(server, seconds=0.5).send(letter())


def test_a_server_that_is_not_there_is_unavailable(certificate: Certificate) -> None:
    with pytest.raises(StateUnavailable, match="ConnectionRefusedError"):
        SmtpDelivery("127.0.0.1", free_port(), context=certificate.trusting()).send(letter())


def test_an_address_outside_ascii_goes_to_servers_that_take_it_and_is_refused_by_others(serve: Serve) -> None:
    message = letter(Address("Ada", username="adä", domain="example.com"))
    able, unable = serve(smtputf8=True), serve()
    delivery(able).send(message)
    assert able.taken[0].recipients == ("adä@example.com",)
    assert "SMTPUTF8" in able.taken[0].options.upper()
    assert "adä@example.com".encode() in able.taken[0].content
    with pytest.raises(MailRefused, match="outside ASCII"):
        delivery(unable).send(message)


def test_a_message_to_two_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(MailRefused, match="one address in its To header, not 2"):
        SmtpDelivery("127.0.0.1", 1).send(letter("a@example.com, b@example.com"))


def test_a_secret_of_another_form_says_what_form_it_has_to_have() -> None:
    assert Login.from_secret('{"username": "u", "password": "p"}') == Login("u", "p")
    for text in ("{}", "[]", "user:secret-in-here"):
        with pytest.raises(StateUnavailable, match=r'is not \{"username"') as refused:
            Login.from_secret(text)
        assert "secret-in-here" not in str(refused.value)
