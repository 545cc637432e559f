"""Mail out of the house: one port, `Delivery`, and three ways: SES, SMTP with STARTTLS, a folder of files.

Always true here: when `Delivery.send` returns, the message was taken; `MailRefused` means that this message will never
be taken, whoever tries, `StateUnavailable` that it may be later, or that something of ours has to be put right first.
An outcome that is unknown (the line broke after the text was sent) counts as not taken: mails go out at least once.
Neither an address nor a text is logged.
"""

from __future__ import annotations

from email.message import EmailMessage
from typing import Protocol

from fusiontrade.errors import FusionTradeError

__all__ = ["Delivery", "MailRefused"]


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
