"""Mail out of the house: one port, `Delivery`, and three ways: SES, SMTP with STARTTLS, a folder of files.

Always true here: when `Delivery.send` returns, the message was taken; `MailRefused` means that this message will never
be taken, whoever tries, `StateUnavailable` that it may be later, or that something of ours has to be put right first.
An outcome that is unknown (the line broke after the text was sent) counts as not taken: mails go out at least once.
Neither an address nor a text is logged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client
from fusiontrade.errors import FusionTradeError

if TYPE_CHECKING:
    from mypy_boto3_sesv2 import SESV2Client

__all__ = ["Delivery", "MailRefused", "Outbox", "SesDelivery", "recipient_of", "sender_of", "wire_form"]

SES_SECONDS = 8.0
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,100}")
_REFUSED_BY_SES = frozenset({"MessageRejected", "BadRequestException"})


class MailRefused(FusionTradeError):
    """This message will never be taken: its recipient or its text is refused for good; says why."""


class Delivery(Protocol):
    """Takes messages to their one recipient, the ``To`` header."""

    def send(self, message: EmailMessage) -> None:
        """Hand one message over.

        Raises
        ------
        MailRefused
            If it will never be taken.
        StateUnavailable
            If it is not taken now, or it is not known whether it was.
        """


def recipient_of(message: EmailMessage) -> Address:
    """Return the one address a message goes to; raises `MailRefused` where there is not exactly one."""
    return _only_address(message, "To")


def sender_of(message: EmailMessage) -> Address:
    """Return the one address a message comes from; raises `MailRefused` where there is not exactly one."""
    return _only_address(message, "From")


def _only_address(message: EmailMessage, header: str) -> Address:
    value: Any = message[header]
    addresses: tuple[Address, ...] = () if value is None else value.addresses
    if len(addresses) != 1:
        raise MailRefused(f"a message has one address in its {header} header, not {len(addresses)}")
    return addresses[0]


def wire_form(message: EmailMessage) -> bytes:
    """Return the message as it is sent: lines end in CR LF; only an address that is not ASCII makes headers UTF-8."""
    utf8 = not (recipient_of(message).addr_spec.isascii() and sender_of(message).addr_spec.isascii())
    return message.as_bytes(policy=SMTP.clone(utf8=utf8))


class SesDelivery:
    """Amazon SES, version 2: raw messages from a verified identity."""

    def send(self, message: EmailMessage) -> None:
        """Hand one message over; see `Delivery.send`."""
        from botocore.exceptions import ClientError

        recipient = recipient_of(message)
        if not recipient.addr_spec.isascii():
            raise MailRefused("SES takes no address with letters outside ASCII before the @")
        ses: SESV2Client = client("sesv2", read_seconds=SES_SECONDS)
        with state_errors("the mail service"):
            try:
                ses.send_email(
                    FromEmailAddress=sender_of(message).addr_spec,
                    Destination={"ToAddresses": [recipient.addr_spec]},
                    Content={"Raw": {"Data": wire_form(message)}},
                )
            except ClientError as error:
                if _is_refusal(error):
                    raise MailRefused(f"SES refused the message: {code_of(error)}") from None
                raise


def _is_refusal(error: BaseException) -> bool:
    """Return whether SES refuses the message itself; an identity of ours that is not verified is ours to put right."""
    return code_of(error) in _REFUSED_BY_SES and "not verified" not in str(error)


class Outbox:
    """A folder of ``.eml`` files, for a laptop: readable by their owner only, since there are codes in them.

    Always true here: a file that has its final name is whole; the same message twice is one file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, message: EmailMessage) -> None:
        """Write one message; see `Delivery.send`."""
        from fusiontrade.errors import StateUnavailable

        content = wire_form(message)
        partial = self._folder / f".{uuid.uuid4().hex}.part"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._folder / f"{_file_name(message)}.eml")
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise StateUnavailable(f"the outbox cannot be written to: {type(error).__name__}") from error


def _file_name(message: EmailMessage) -> str:
    """Return the part of the Message-ID before its @, where a file may be called so, else a hash of all of it."""
    identity = str(message["Message-ID"] or "")
    name = identity.strip("<>").partition("@")[0]
    return name if _PLAIN_NAME.fullmatch(name) else hashlib.sha256(identity.encode()).hexdigest()
